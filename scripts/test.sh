#!/usr/bin/env bash
# Runs all checks, after installing what building and the tests need. One cargo profile throughout, so that
# llama.cpp is built once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
svf_for_tests=1
. scripts/setup.sh

svf_cargo test --release
if cargo clippy --version >/dev/null 2>&1; then
    cargo clippy --release --all-targets -- -D warnings
fi
# The library alone, and its documentation, whose links must lead somewhere.
cargo check --release --lib --no-default-features --features openmp
RUSTDOCFLAGS="-D warnings" cargo doc --release --lib --no-deps
scripts/check_cuda.sh --if-present
# The server, as real clients and llama.cpp's own tests see it.
scripts/serve_clients.sh
scripts/llama_server_suite.sh
