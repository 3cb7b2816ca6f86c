#!/usr/bin/env bash
# Lets real clients talk to llama-svf serve, with the embedded model: curl, the openai packages of PyPI and of npm, and the page
# in Chromium.
#
#   scripts/serve_clients.sh        after cargo build --release
#
# A client that is not there and cannot be had is skipped with a line. Everything is kept in target/tmp/clients.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$PWD/target/tmp/clients
key=a-key-for-tests
skip() { printf 'skipped: serve_clients: %s\n' "$*"; }

mkdir -p "$folder"
target/release/llama-svf serve --port 0 --api-key "$key" --adapt prompt --metrics -c 4096 \
    --chat-template-file tests/serve/tools.jinja 2>"$folder/log" &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
url=
for _ in $(seq 300); do
    url=$(sed -n 's/^listening at \(http[^,]*\),.*/\1/p' "$folder/log" | head -1)
    [ -n "$url" ] && break
    kill -0 "$server" 2>/dev/null || { cat "$folder/log" >&2; exit 1; }
    sleep 0.1
done
[ -n "$url" ] || { echo "serve_clients: the server does not listen" >&2; exit 1; }

if command -v curl >/dev/null; then
    question='{"messages": [{"role": "user", "content": "Leo has 5 boxes of 4 hats. Leo wins 7. How many hats does Leo have?"}], "model": "math", "temperature": 0'
    ask() { curl -sS --fail-with-body -H "Authorization: Bearer $key" "$url/v1/chat/completions" -d "$1"; }
    ask "$question}" | grep -q 'Answer: 27"'
    ask "$question, \"stream\": true}" | tail -n 2 | grep -q 'data: \[DONE\]'
    [ "$(curl -s -o /dev/null -w '%{http_code}' "$url/v1/chat/completions" -d "$question}")" = 401 ]
    echo "curl: answers, streams and is refused without a key"
else
    skip "no curl"
fi

python=$folder/venv/bin/python
if [ ! -x "$folder/ready" ]; then
    rm -rf "$folder/venv"
    if python3 -m venv "$folder/venv" 2>/dev/null &&
        "$folder/venv/bin/pip" install --quiet --disable-pip-version-check openai playwright; then
        printf '#!/bin/true\n' >"$folder/ready" && chmod +x "$folder/ready"
    fi
fi
if [ -x "$folder/ready" ]; then
    "$python" tests/serve/openai_package.py "$url" --key "$key"
    if [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null; then
        "$python" tests/serve/page.py "$url" --key "$key"
    else
        skip "no chromium: the page is not tried (Debian's package chromium, or CHROMIUM=PATH)"
    fi
else
    skip "the packages openai and playwright cannot be had from PyPI"
fi

if command -v npm >/dev/null; then
    if [ -d "$folder/npm/node_modules/openai" ] ||
        npm install --silent --no-audit --no-fund --prefix "$folder/npm" openai >/dev/null 2>&1; then
        OPENAI_PACKAGE=$folder/npm node tests/serve/openai_package.mjs "$url" "$key"
    else
        skip "the package openai cannot be had from npm"
    fi
else
    skip "no npm: its package openai is not tried"
fi

kill "$server"
wait "$server"
