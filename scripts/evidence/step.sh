#!/usr/bin/env bash
# How long a step may be: trains Qwen2.5-Coder-0.5B-Instruct to fill in a JSON form, from rewards, with the default limit on what a step changes
# (--step-kl) and at fixed rates. Measures all beside the base model on 300 test texts. Run it again after an interruption: it goes on where
# it stopped.
#
#   scripts/evidence/step.sh FOLDER [SEED]
#
# Needs python3 with pip and the package gguf.
set -euo pipefail
folder=${1:?usage: scripts/evidence/step.sh FOLDER [SEED]} seed=${2:-0}
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
bring qwen2.5-coder-0.5b
[ -e "$folder/people" ] || python3 "$here/../json_task.py" -o "$folder/people"

ask() {
    measure "$1" --task "$folder/people/people.toml" -n 300 "${@:2}"
}

# Half the layers, so that a step is short.
learn() {
    train "$1" --task "$folder/people/train.toml" --layers 12-23 --prompts 8 --samples 8 --steps 12 --warmup 3 --validate-every 6 \
        --validation-items 60 "${@:2}"
}

skill=json
ask base
expert "expert-limited-$seed"
expert "expert-fixed-0.01-$seed" --step-kl 0
expert "expert-fixed-0.003-$seed" --step-kl 0 --lr 0.003
compare "" --task "$folder/people/people.toml"
