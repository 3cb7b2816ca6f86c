#!/usr/bin/env bash
# Trains SmolLM2-135M-Instruct to fill in a JSON form and write nothing else: an expert and a LoRA, each from rewards and from the
# gold answers, and an expert from a coin's rewards (the control). Measures all beside the base model on 300 test texts. Run it again
# after an interruption: it goes on where it stopped.
#
#   scripts/evidence_json.sh FOLDER
#
# Takes some two hours on two cores. Needs python3 with pip and the package gguf.
set -euo pipefail
folder=${1:?usage: scripts/evidence_json.sh FOLDER}
cd "$(dirname "$0")/.."
. scripts/build.sh
svf_build
mkdir -p "$folder"

model=$(python3 scripts/fetch_model.py smollm2-135m "$folder" --type q8_0)
sidecar=$folder/smollm2.svf.gguf
[ -e "$sidecar" ] || "$svf" decompose -m "$model" -o "$sidecar" --tensors ffn --rank 64
python3 scripts/json_task.py -o "$folder/people"

# Half the layers, so that a step is short.
train() {
    local output=$folder/$1
    shift
    [ -e "$output" ] || "$svf" train -m "$model" --svf "$sidecar" --task "$folder/people/train.toml" -o "$output" --resume \
        --layers 15-29 --prompts 8 --steps 30 --warmup 3 --validate-every 15 --validation-items 60 "$@"
}

# Answers that are wholly right; then the share of right fields in those that are JSON and nothing else.
measure() {
    local trace=$folder/$1.jsonl resume=()
    shift
    [ ! -e "$trace" ] || resume=(--resume)
    "$svf" eval -m "$model" "$@" --against base --task "$folder/people/people.toml" -n 300 --trace "$trace" \
        ${resume[@]+"${resume[@]}"}
    "$svf" score --task "$folder/people/train.toml" --answers "$trace"
}

for from in gold rewards coin; do
    case $from in
        gold) how=(--objective likelihood) ;;
        rewards) how=(--samples 8 --step-kl 0.003) ;;
        coin) how=(--samples 8 --step-kl 0.003 --reward random) ;;
    esac
    train "expert-$from.expert.gguf" --lr 0.03 --examples none "${how[@]}"
    measure "expert-$from" --svf "$sidecar" --expert "json=$folder/expert-$from.expert.gguf" --use json
    [ $from != coin ] || break
    train "lora-$from.lora.gguf" --adapter lora --rank 16 --lr 0.002 "${how[@]}"
    measure "lora-$from" --lora "$folder/lora-$from.lora.gguf"
done
