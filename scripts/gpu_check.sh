#!/usr/bin/env bash
# Checks and measures llama-svf on this machine's NVIDIA GPU. Please report what it prints.
#
#   scripts/gpu_check.sh                     all of the following in turn
#   scripts/gpu_check.sh build               the tests and programs that the others run, into target/gpu-check (takes long)
#   scripts/gpu_check.sh test                the op against float64; whole models against the CPU, eight experts in one batch
#   scripts/gpu_check.sh sanitize            the same under compute-sanitizer: memcheck, then racecheck
#   scripts/gpu_check.sh bench [op|0.5b|8b]  the op alone; base model, experts and LoRA on random models of these shapes
#
# Only `build` needs NVIDIA's CUDA toolkit. It needs no GPU where CMAKE_CUDA_ARCHITECTURES names one (90-real: H100), so
# that the folder can be built on one machine and used on another; RUSTFLAGS="" makes it independent of the CPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$PWD/target/gpu-check
step() { printf '\n== %s\n' "$*"; }
fail() { printf '%s\n' "gpu_check: $*" >&2; exit 2; }

build() {
    . scripts/setup.sh
    local log=$folder/build.log target program
    rm -rf "$folder"
    mkdir -p "$folder"
    target=${CARGO_TARGET_DIR:-target}/release
    # Links that an earlier build of shared libraries left, over which llama-cpp-sys-2 stumbles.
    [ ! -d "$target" ] || find "$target" -maxdepth 2 -name 'lib*.so' -type l -delete
    svf_cargo build --release --features cuda --bins --examples
    cargo test --release --features cuda --no-run --test op --test adapted 2>&1 | tee "$log"
    cargo bench --features cuda --no-run --bench op 2>&1 | tee -a "$log"
    cp "$target/llama-svf" "$target"/examples/random_{model,sidecar} "$folder"
    for source in tests/op tests/adapted/main benches/op; do
        program=$(sed -n "s|.*Executable $source\.rs (\(.*\))\$|\1|p" "$log" | tail -n 1)
        cp "$program" "$folder/${source//\//-}"
    done
    # Where llama.cpp was built as shared libraries (LLAMA_BUILD_SHARED_LIBS=1).
    find "$target"/build/llama-cpp-sys-2-*/out/lib* -name '*.so*' -exec cp -P {} "$folder" \;
    find "$folder" -type f ! -name '*.log' -exec strip {} +
    du -sh "$folder"
}

# What follows runs from the folder alone.
ready() {
    [ -x "$folder/llama-svf" ] || fail "first: scripts/gpu_check.sh build"
    command -v nvidia-smi >/dev/null || fail "no NVIDIA GPU (nvidia-smi is missing)"
    export PATH=$folder:$PATH LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.memory --format=csv
}

# Runs a program that has to name the GPU it uses.
on_gpu() {
    "$@" 2>&1 | tee "$folder/last.log"
    grep -q CUDA0 "$folder/last.log" || fail "that ran without a GPU"
}

check() {
    ready
    step "the op against float64, on every device"
    on_gpu tests-op every_device --nocapture
    step "whole models on the GPU and on the CPU, eight experts in one batch"
    on_gpu tests-adapted-main gpu:: --nocapture
}

sanitize() {
    ready
    command -v compute-sanitizer >/dev/null || fail "compute-sanitizer is not installed (it comes with the CUDA toolkit)"
    local tool
    for tool in memcheck racecheck; do
        step "compute-sanitizer $tool: the op"
        on_gpu compute-sanitizer --tool "$tool" --error-exitcode 1 "$folder/tests-op" every_device --nocapture
        step "compute-sanitizer $tool: whole models"
        on_gpu compute-sanitizer --tool "$tool" --error-exitcode 1 "$folder/tests-adapted-main" gpu:: --nocapture
    done
}

# Base model, experts and LoRA on random models of a shape, at rank 64 and at full rank.
bench_models() { # preset layers
    models=$(mktemp -d)
    trap 'rm -rf "$models"' EXIT
    random_model --preset "$1" --layers "$2" --type q8_0 -o "$models/m.gguf"
    local rank form
    for rank in 64 full; do
        random_sidecar -m "$models/m.gguf" --rank "$rank" -o "$models/m.svf.gguf"
        for form in residual factored; do
            [ "$rank $form" != "64 factored" ] || continue
            step "speed: $1, $2 layers, rank $rank, $form"
            TMPDIR=$models on_gpu llama-svf bench -m "$models/m.gguf" --svf "$models/m.svf.gguf" --form "$form"
        done
    done
    rm -rf "$models"
}

bench() {
    ready
    local what=${1:-all}
    case $what in all | op | 0.5b | 8b) ;; *) fail "bench takes op, 0.5b or 8b, not $what" ;; esac
    if [ "$what" = all ] || [ "$what" = op ]; then
        step "speed of the op, and bytes of factors per second"
        on_gpu benches-op gpu
    fi
    if [ "$what" = all ] || [ "$what" = 0.5b ]; then
        bench_models 0.5b 24
    fi
    if [ "$what" = all ] || [ "$what" = 8b ]; then
        # A layer takes 232 MB, its factors at full rank 241 MB, those of LoRA in two types, twice, 1390 MB.
        local mib layers
        mib=$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits | head -n 1)
        layers=$((mib / 2400))
        bench_models 8b $((layers < 1 ? 1 : layers > 32 ? 32 : layers))
    fi
}

case ${1:-all} in
    all)
        build
        check
        sanitize
        bench
        ;;
    build) build ;;
    test) check ;;
    sanitize) sanitize ;;
    bench) bench "${2:-}" ;;
    -h | --help) sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p;}' scripts/gpu_check.sh ;;
    *) fail "unknown: $1 (build, test, sanitize or bench)" ;;
esac
