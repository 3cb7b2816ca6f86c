# Installs what is missing and builds llama-svf; to be sourced. Leaves the program's path in $svf.

svf_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$svf_root/scripts/setup.sh"

svf_build() {
    # Cargo lets users move the target folder.
    svf=$(cd "$svf_root" && cargo metadata --format-version 1 --no-deps |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release/llama-svf
    [ -x "$svf" ] || printf '%s\n' "building (ten minutes the first time, most of them for llama.cpp)" >&2
    # On a terminal cargo draws its bar. Elsewhere it names each crate once, and is silent for minutes at llama.cpp.
    local ticker='' code=0
    if [ ! -t 2 ]; then
        # A sleep that outlives the script must not hold its output open.
        (while sleep 20 >/dev/null 2>&1; do printf '%s\n' "still building, after $SECONDS s" >&3; done) \
            </dev/null 3>&2 >/dev/null 2>&1 &
        ticker=$!
        trap "kill $ticker 2>/dev/null || true" EXIT
    fi
    # From inside the repository, whose .cargo/config.toml the build needs.
    (cd "$svf_root" && svf_cargo build --release --bin llama-svf) || code=$?
    if [ -n "$ticker" ]; then
        kill "$ticker" 2>/dev/null || true
        trap - EXIT
    fi
    return "$code"
}

svf_build
