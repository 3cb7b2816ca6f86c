#!/usr/bin/env bash
# Runs llama-svf, from nothing: installs and builds what is missing, and passes on what follows.
#
#   scripts/svf.sh                       the demo, which needs no model
#   scripts/svf.sh run -m model.gguf     any command; `scripts/svf.sh --help` lists them
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/build.sh"
[ $# -gt 0 ] || set -- demo
exec "$svf" "$@"
