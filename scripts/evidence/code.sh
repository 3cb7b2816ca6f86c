#!/usr/bin/env bash
# Trains Qwen2.5-Coder-0.5B-Instruct on MBPP: an expert and a LoRA, each from rewards (the tests pass) and from the written solutions, and an
# expert from a coin's rewards (the control). Measures all beside the base model on MBPP's 500 test problems, and on HumanEval's 164, which none
# was trained on. What the model writes is run. Run it again after an interruption: it goes on where it stopped.
#
#   scripts/evidence/code.sh FOLDER DATA [SEED]
#
# DATA holds mbpp/mbpp.jsonl.gz and humaneval/HumanEval.jsonl.gz, as published. Needs python3 with pip and the package gguf.
set -euo pipefail
usage='usage: scripts/evidence/code.sh FOLDER DATA [SEED]'
folder=${1:?$usage} data=${2:?$usage} seed=${3:-0}
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
bring qwen2.5-coder-0.5b
# Its problems 11 to 510 are for tests, 511 to 600 for validation, 601 to 974 for training, says its paper (Austin et al. 2021).
part() {
    gzip -dc "$data/mbpp/mbpp.jsonl.gz" | sed -n "$2p" >"$folder/mbpp.$1.jsonl"
}
part test 11,510
part validation 511,600
part train 601,974

# Half the layers and short answers, so that a step is short.
learn() {
    train "$1" --task mbpp --data "train=$folder/mbpp.train.jsonl" --data "validation=$folder/mbpp.validation.jsonl" --allow-exec \
        --max-tokens 256 --layers 12-23 --prompts 8 --steps 20 --warmup 3 --validate-every 10 --validation-items 60 "${@:2}"
}

mbpp=(--task mbpp --data "test=$folder/mbpp.test.jsonl" --allow-exec)
humaneval=(--task humaneval --data "test=$data/humaneval/HumanEval.jsonl.gz" --allow-exec)

ask() {
    measure "mbpp-$1" "${mbpp[@]}" --max-tokens 256 "${@:2}"
    measure "humaneval-$1" "${humaneval[@]}" --max-tokens 256 "${@:2}"
}

skill=code ranks=16 from_rewards=(--samples 8) rate=0.01
every_way
compare mbpp- "${mbpp[@]}"
compare humaneval- "${humaneval[@]}"
