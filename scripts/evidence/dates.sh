#!/usr/bin/env bash
# Trains Qwen2.5-Coder-0.5B-Instruct to write the date of a text as YYYY-MM-DD and nothing else: an expert and a LoRA, each from rewards and from
# the gold answers, and an expert from a coin's rewards (the control). Measures all beside the base model on 300 test texts. Run it again
# after an interruption: it goes on where it stopped.
#
#   scripts/evidence/dates.sh FOLDER [SEED]
#
# Needs python3 with pip and the package gguf.
set -euo pipefail
folder=${1:?usage: scripts/evidence/dates.sh FOLDER [SEED]} seed=${2:-0}
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
bring qwen2.5-coder-0.5b
[ -e "$folder/dates" ] || python3 "$here/../dates_task.py" -o "$folder/dates"

# Half the layers, so that a step is short.
learn() {
    train "$1" --task "$folder/dates/dates.toml" --layers 12-23 --prompts 8 --steps 20 --warmup 3 --validate-every 10 \
        --validation-items 60 "${@:2}"
}

ask() {
    measure "$1" --task "$folder/dates/dates.toml" -n 300 "${@:2}"
}

skill=dates ranks=16 from_rewards=(--samples 8) rate=0.01
every_way
compare "" --task "$folder/dates/dates.toml"
