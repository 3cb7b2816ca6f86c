#!/usr/bin/env bash
# Compiles the CUDA kernels and the patched dispatcher of ggml-cuda for sm_80 and sm_90, without a GPU, and prints
# the registers of every kernel. A kernel that spills registers is an error.
#
#   scripts/check_cuda.sh                with the CUDA toolkit found, else with one from PyPI (864 MB on disk)
#   scripts/check_cuda.sh --if-present   does nothing where no toolkit is there yet
#
# A toolkit is looked for in CUDA_HOME, on the PATH and in the cache folder, where the one from PyPI is kept:
# ${XDG_CACHE_HOME:-~/.cache}/llama-svf/cuda-13.0. The result is kept until anything that it depends on changes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "check_cuda: $*" >&2; }

cache=${XDG_CACHE_HOME:-$HOME/.cache}/llama-svf/cuda-13.0
work=target/cuda-check

find_nvcc() {
    local candidate
    for candidate in "${CUDA_HOME:+$CUDA_HOME/bin/nvcc}" "$(command -v nvcc || true)" "$cache"/lib/python3*/site-packages/nvidia/cu13/bin/nvcc; do
        if [ -x "$candidate" ]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

# The compiler and headers from PyPI, laid out as a CUDA toolkit is.
install_toolkit() {
    say "no nvcc found: fetching one from PyPI into $cache"
    rm -rf "$cache.new"
    mkdir -p "$(dirname "$cache")"
    python3 -m venv "$cache.new"
    "$cache.new/bin/pip" install --quiet --disable-pip-version-check \
        nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
        nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-cublas==13.0.2.14
    local home name
    home=$(echo "$cache.new"/lib/python3*/site-packages/nvidia/cu13)
    ln -s lib "$home/lib64"
    for name in cudart cublas cublasLt; do
        ln -sf "lib$name.so.13" "$home/lib/lib$name.so"
    done
    rm -rf "$cache"
    mv "$cache.new" "$cache"
}

if ! nvcc=$(find_nvcc); then
    if [ "${1:-}" = --if-present ]; then
        say "skipped: no CUDA toolkit (scripts/check_cuda.sh fetches one)"
        exit 0
    fi
    install_toolkit
    nvcc=$(find_nvcc)
fi

# The sources of llama.cpp, as cargo has them.
host=$(rustc -vV | sed -n 's/^host: //p')
manifest=$(cargo metadata --format-version 1 --filter-platform "$host" | grep -o '"manifest_path":"[^"]*llama-cpp-sys-2-[^"]*/Cargo.toml"' | cut -d'"' -f4)
pristine=${manifest%/Cargo.toml}/llama.cpp

key=$({ "$nvcc" --version; echo "$pristine"; cat scripts/check_cuda.sh ggml-patches/*.patch kernels/*.h kernels/cuda/*; } | cksum | tr ' ' -)
report=$work/report-$key
if [ -f "$report" ]; then
    cat "$report"
    exit 0
fi

say "compiling with $nvcc (about a minute)"
rm -rf "$work"
mkdir -p "$work/ggml/src"
cp -R "$pristine/ggml/include" "$work/ggml/"
cp -R "$pristine"/ggml/src/*.h "$pristine/ggml/src/ggml-cuda" "$work/ggml/src/"
for patch in ggml-patches/*.patch; do
    # Below our own repository git would skip the files silently.
    (cd "$work" && GIT_CEILING_DIRECTORIES=$(dirname "$PWD") git apply -p1 --include='ggml/include/*' \
        --include='ggml/src/ggml-cuda/*' "../../$patch")
done

compile() { # source object
    "$nvcc" -std=c++17 -O3 -use_fast_math -extended-lambda -DGGML_CUDA_USE_GRAPHS -DGGML_CUDA_PEER_MAX_BATCH_SIZE=128 \
        -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 -Xptxas -v \
        -I "$work/ggml/include" -I "$work/ggml/src" -I "$work/ggml/src/ggml-cuda" -I kernels -c "$1" -o "$work/$2"
}

if ! compile kernels/cuda/svf_mul_mat_cuda.cu svf.o >"$work/svf.log" 2>&1 ||
    ! compile "$work/ggml/src/ggml-cuda/ggml-cuda.cu" ggml-cuda.o >"$work/ggml-cuda.log" 2>&1; then
    grep -hv '^ptxas info\|bytes stack frame' "$work"/*.log >&2
    say "it does not compile"
    exit 1
fi
if grep -A 20 'kernels/cuda.*warning' "$work/svf.log" >&2; then
    say "warnings in our kernels"
    exit 1
fi

# One line per kernel: its name, the registers for each architecture, what it spills.
grep -E 'Compiling entry|bytes spill|Used [0-9]+ registers' "$work/svf.log" | awk '
    /Compiling entry/ { split($0, quoted, "\047"); name = quoted[2]; arch = quoted[4]; names[name] = 1 }
    /bytes spill/     { spilled[name] += $(NF - 7) + $(NF - 3) }
    /registers/       { match($0, /Used [0-9]+/); used[name, arch] = substr($0, RSTART + 5, RLENGTH - 5) }
    END { for (name in names) print name, used[name, "sm_80"], used[name, "sm_90"], spilled[name] + 0 }' |
    c++filt -p | sed 's/^void //' | sort >"$work/kernels"
[ -s "$work/kernels" ]
{
    printf '%-46s %5s %5s %s\n' 'registers of' sm_80 sm_90 'bytes spilled'
    awk '{ spill = $NF; b = $(NF - 1); a = $(NF - 2); NF -= 3; printf "%-46s %5s %5s %s\n", $0, a, b, spill }' "$work/kernels"
    echo "ggml-cuda's dispatcher compiles with the patch"
} >"$work/report"
cat "$work/report"
if awk '$NF != 0 { found = 1 } END { exit !found }' "$work/kernels"; then
    say "kernels spill registers"
    exit 1
fi
mv "$work/report" "$report"
