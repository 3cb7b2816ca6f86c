#!/usr/bin/env bash
# Trains Qwen2.5-Coder-0.5B-Instruct on GSM8K: an expert and a LoRA, each from rewards and from the written solutions, and an expert from a
# coin's rewards (the control). Measures all beside the base model on 500 test questions, and on 500 of MATH, which none was trained on. Run it
# again after an interruption: it goes on where it stopped.
#
#   scripts/evidence/maths.sh FOLDER DATA [SEED]
#
# DATA holds gsm8k/{train,test}.jsonl.gz and math/math.jsonl.gz, as published. Needs python3 with pip and the package gguf.
set -euo pipefail
usage='usage: scripts/evidence/maths.sh FOLDER DATA [SEED]'
folder=${1:?$usage} data=${2:?$usage} seed=${3:-0}
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
bring qwen2.5-coder-0.5b

# Half the layers and short answers, so that a step is short.
learn() {
    train "$1" --task gsm8k --data "train=$data/gsm8k/train.jsonl.gz" --max-tokens 256 --layers 12-23 --prompts 6 --steps 10 \
        --warmup 2 --validate-every 5 --validation-items 60 "${@:2}"
}

gsm8k=(--task gsm8k --data "test=$data/gsm8k/test.jsonl.gz")
math=(--task hendrycks-math --data "test=$data/math/math.jsonl.gz")

ask() {
    measure "gsm8k-$1" "${gsm8k[@]}" --max-tokens 256 -n 500 "${@:2}"
    measure "math-$1" "${math[@]}" --max-tokens 256 -n 500 "${@:2}"
}

skill=maths ranks=16 from_rewards=(--samples 8 --step-kl 0.003) rate=0.03
every_way
compare gsm8k- "${gsm8k[@]}"
compare math- "${math[@]}"
