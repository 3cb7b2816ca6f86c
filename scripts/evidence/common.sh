# What the scripts of this folder share: to be sourced, with $folder set. Builds llama-svf and brings the model to $model, its sidecar
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
    [ -e "$output" ] || "$svf" train -m "$model" --svf "$sidecar" -o "$output" --resume "${@:2}"
}

# TRACE, and options of eval
measure() {
    local trace=$folder/$1.jsonl resume=()
    [ ! -e "$trace" ] || resume=(--resume)
    "$svf" eval -m "$model" --trace "$trace" ${resume[@]+"${resume[@]}"} "${@:2}"
}
