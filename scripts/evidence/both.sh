#!/usr/bin/env bash
# Two experts of Qwen2.5-Coder-0.5B-Instruct, one that fills in JSON forms (from gold answers) and one that writes dates (from rewards), on both
# tasks: each by itself, half of each, and chosen for each question by the model. Run it again after an interruption: it goes on where it stopped.
#
#   scripts/evidence/both.sh FOLDER [SEED]
#
# Needs python3 with pip and the package gguf.
set -euo pipefail
folder=${1:?usage: scripts/evidence/both.sh FOLDER [SEED]} seed=${2:-0}
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
bring qwen2.5-coder-0.5b
[ -e "$folder/people" ] || python3 "$here/../json_task.py" -o "$folder/people"
[ -e "$folder/dates" ] || python3 "$here/../dates_task.py" -o "$folder/dates"
people=$folder/people/people.toml dates=$folder/dates/dates.toml

learn() {
    train "$1" --layers 12-23 --prompts 8 --steps 20 --warmup 3 --validate-every 10 --validation-items 60 "${@:2}"
}

learn json.expert.gguf --task "$folder/people/train.toml" --lr 0.03 --objective likelihood
learn dates.expert.gguf --task "$dates" --samples 8

experts=(--svf "$sidecar" --expert "json=$folder/json.expert.gguf" --expert "dates=$folder/dates.expert.gguf")
for task in people dates; do
    ask() {
        measure "$task-$1" --task "${!task}" -n 100 "${@:2}"
    }
    ask base
    for expert in json dates; do
        ask "$expert" "${experts[@]}" --use "$expert"
    done
    ask half "${experts[@]}" --mix json=0.5,dates=0.5
    for strategy in nearest prompt; do
        ask "$strategy" "${experts[@]}" --adapt "$strategy"
    done
    compare "$task-" --task "${!task}"
done
