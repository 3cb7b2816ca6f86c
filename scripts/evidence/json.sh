#!/usr/bin/env bash
# Trains SmolLM2-135M-Instruct to fill in a JSON form and write nothing else: an expert and a LoRA, each from rewards and from the
# gold answers, and an expert from a coin's rewards (the control). Measures all beside the base model on 300 test texts. Run it again
# after an interruption: it goes on where it stopped.
#
#   scripts/evidence/json.sh FOLDER [SEED]
#
# Takes some two hours on two cores. Needs python3 with pip and the package gguf.
set -euo pipefail
folder=${1:?usage: scripts/evidence/json.sh FOLDER [SEED]} seed=${2:-0}
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
bring smollm2-135m --type q8_0
[ -e "$folder/people" ] || python3 "$here/../json_task.py" -o "$folder/people"

# Half the layers, so that a step is short.
learn() {
    train "$1" --task "$folder/people/train.toml" --layers 15-29 --prompts 8 --steps 30 --warmup 3 --validate-every 15 \
        --validation-items 60 "${@:2}"
}

ask() {
    measure "$1" --task "$folder/people/people.toml" -n 300 "${@:2}"
}

skill=json ranks=16 from_rewards=(--samples 8 --step-kl 0.003) rate=0.03
every_way
# Answers that are wholly right; then the share of right fields in those that are JSON and nothing else.
compare "" --task "$folder/people/people.toml"
compare "" --task "$folder/people/train.toml"
