#!/usr/bin/env bash
# Checks and measures llama-svf on this machine's NVIDIA GPU. Needs NVIDIA's CUDA toolkit; takes a long build.
# Please report what it prints.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v nvidia-smi >/dev/null || {
    echo "gpu_check: no NVIDIA GPU (nvidia-smi is missing)" >&2
    exit 2
}
. scripts/setup.sh
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
step() { printf '\n== %s\n' "$*"; }
run() { cargo test --release --features cuda "$@"; }

step "the op against float64, on every device"
run --test op every_device -- --nocapture
step "whole models on the GPU and on the CPU, eight experts in one batch"
run --test adapted gpu:: -- --nocapture

if command -v compute-sanitizer >/dev/null; then
    test=$(run --test op --no-run 2>&1 | sed -n 's/.*(\(.*\))$/\1/p' | tail -n 1)
    for tool in memcheck racecheck; do
        step "compute-sanitizer $tool"
        compute-sanitizer --tool "$tool" --error-exitcode 1 "$test" every_device
    done
else
    step "compute-sanitizer is not installed: its checks are left out"
fi

step "bytes per second of the op"
cargo bench --features cuda --bench op -- gpu
