#!/usr/bin/env bash
# Trains SmolLM2-135M-Instruct to answer with JSON and nothing else, once by its rewards and once by a coin's (the control),
# and measures both beside the base model on 300 test texts. Run it again after an interruption: it goes on where it stopped.
#
#   scripts/evidence_json.sh FOLDER
#
# Takes about an hour on two cores. Needs python3 with pip and the package gguf.
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
for reward in task random; do
    expert=$folder/json-$reward.expert.gguf
    [ -e "$expert" ] || "$svf" train -m "$model" --svf "$sidecar" --task "$folder/people/train.toml" -o "$expert" \
        --reward "$reward" --resume --layers 15-29 --prompts 8 --samples 8 --steps 30 --warmup 3 \
        --lr 0.03 --step-kl 0.003 --validate-every 10 --validation-items 60 --examples none
    # The share of right fields in answers that are JSON and nothing else; then those that are wholly right.
    trace=$folder/json-$reward.jsonl
    resume=()
    [ ! -e "$trace" ] || resume=(--resume)
    "$svf" eval -m "$model" --svf "$sidecar" --expert "json-$reward=$expert" --use "json-$reward" --against base \
        --task "$folder/people/train.toml" -n 300 --trace "$trace" ${resume[@]+"${resume[@]}"}
    "$svf" score --task "$folder/people/people.toml" --answers "$trace"
done
