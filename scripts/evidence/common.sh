# What the scripts of this folder share: to be sourced, with $folder and $seed set. Builds llama-svf and brings the model to $model, its sidecar
# (ffn, rank 64) to $sidecar. Each run goes on where it stopped, and what is there already is not made again.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../build.sh"
mkdir -p "$folder"

# NAME of fetch_model.py, and its further options
bring() {
    model=$(python3 "$here/../fetch_model.py" "$1" "$folder" "${@:2}")
    sidecar=$folder/$1.svf.gguf
    [ -e "$sidecar" ] || "$svf" decompose -m "$model" -o "$sidecar" --tensors ffn --rank 64
}

# OUTPUT, and options of train
train() {
    local output=$folder/$1
    [ -e "$output" ] || "$svf" train -m "$model" --svf "$sidecar" -o "$output" --seed "$seed" --resume "${@:2}"
}

# TRACE, and options of eval
measure() {
    local trace=$folder/$1.jsonl resume=()
    [ ! -e "$trace" ] || resume=(--resume)
    "$svf" eval -m "$model" --trace "$trace" ${resume[@]+"${resume[@]}"} "${@:2}"
}

# The script says how an answer is learnt and asked for: `learn OUTPUT OPTIONS…` and `ask NAME OPTIONS…`, and what an expert is called, $skill.

# NAME, and options of train: trains an expert, and asks it.
expert() {
    learn "$1.expert.gguf" --examples none "${@:2}"
    ask "$1" --svf "$sidecar" --expert "$skill=$folder/$1.expert.gguf" --use "$skill"
}

# The same with a LoRA.
lora() {
    learn "$1.lora.gguf" --adapter lora --lr 0.002 "${@:2}"
    ask "$1" --lora "$folder/$1.lora.gguf"
}

# Asks the base model; then trains an expert and LoRAs of $ranks, each from gold answers and from rewards, and an expert from a coin's rewards
# (the control), and asks each of them. $from_rewards are options, $rate the highest rate for experts that learn from rewards.
every_way() {
    local rank
    ask base
    expert "expert-gold-$seed" --lr 0.03 --objective likelihood
    for rank in $ranks; do
        lora "lora$rank-gold-$seed" --rank "$rank" --objective likelihood
    done
    expert "expert-rewards-$seed" --lr "$rate" "${from_rewards[@]}"
    for rank in $ranks; do
        lora "lora$rank-rewards-$seed" --rank "$rank" "${from_rewards[@]}"
    done
    expert "expert-coin-$seed" --lr "$rate" "${from_rewards[@]}" --reward random
}

# What the names of traces begin with, and options of score: the base model's answers beside all others.
compare() {
    local base=$folder/$1base.jsonl trace
    local answers=(--answers "$base")
    for trace in "$folder/$1"*.jsonl; do
        [ "$trace" = "$base" ] || answers+=(--answers "$trace")
    done
    "$svf" score "${answers[@]}" --against "$1base" "${@:2}"
}
