#!/usr/bin/env bash
# Trains Qwen2.5-Coder-0.5B-Instruct to answer ARC-Easy by letter: an expert and LoRAs, each from rewards and from the gold letters, and an
# expert from a coin's rewards (the control). Measures all beside the base model on 500 test questions, and on ARC-Challenge, which none
# was trained on. Run it again after an interruption: it goes on where it stopped.
#
#   scripts/evidence/arc.sh FOLDER DATA [SEED]
#
# DATA holds arc_easy.jsonl.gz and arc_challenge.jsonl.gz, as published. Needs python3 with pip and the package gguf.
set -euo pipefail
usage='usage: scripts/evidence/arc.sh FOLDER DATA [SEED]'
folder=${1:?$usage} data=${2:?$usage} seed=${3:-0}
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
bring qwen2.5-coder-0.5b
cat >"$folder/easy.toml" <<'TASK'
base = "arc-easy"
prompt = """
{{ question | trim }}

{% for choice in choices %}{{ 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[loop.index0] }}. {{ choice | trim }}
{% endfor %}
Answer with the letter only."""
completion = "{{ 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[gold] }}"

[split]
train = 0.7
validation = 0.08

[generation]
max_tokens = 4
TASK
sed 's/arc-easy/arc-challenge/' "$folder/easy.toml" >"$folder/challenge.toml"

easy=(--task "$folder/easy.toml" --data "$data/arc_easy.jsonl.gz")
challenge=(--task "$folder/challenge.toml" --data "test=$data/arc_challenge.jsonl.gz")

# Half the layers, so that a step is short.
learn() {
    train "$1" "${easy[@]}" --layers 12-23 --prompts 16 --steps 30 --warmup 3 \
        --validate-every 15 --validation-items 60 "${@:2}"
}

ask() {
    measure "easy-$1" "${easy[@]}" -n 500 "${@:2}"
    measure "challenge-$1" "${challenge[@]}" -n 500 "${@:2}"
}

# Of rank 16 as people take it, and of rank 1, the smallest there is, which still has 90 times an expert's numbers.
skill=arc ranks="16 1" from_rewards=(--samples 8) rate=0.01
every_way
compare easy- "${easy[@]}"
compare challenge- "${challenge[@]}"
