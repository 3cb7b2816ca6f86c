#!/usr/bin/env bash
# Converts a model, from nothing: installs and builds what is missing, checks the model, chooses settings that
# suit this machine, decomposes, verifies, and prints the command to run next. Can be interrupted and run again.
set -euo pipefail

usage() {
    cat <<'END'
Usage: scripts/convert.sh MODEL.gguf [options]

Makes the sidecar of a model (its decomposed weights), which experts work on.

  -o FILE            the sidecar to write [default: MODEL.svf.gguf beside the model]
  --tensors WHICH    ffn, attn, all, or a regular expression on tensor names [default: ffn]
  --rank N           singular values to keep, a number or full [default: what memory and disk allow]
  --type TYPE        f32, f16 or q8_0 [default: q8_0]
  -t N               matrices to work on at a time [default: what cores and memory allow]
  --force            replace an existing sidecar, or start over with an unfinished one
  --help             this text
END
}

say() { printf '%s\n' "convert: $*" >&2; }
die() {
    say "$*"
    exit 2
}
mebibytes() { printf '%d MiB' $((($1 + 1048575) / 1048576)); }

model='' output='' tensors='' rank='' type='' threads='' force=''
while [ $# -gt 0 ]; do
    case $1 in
    --help | -h)
        usage
        exit 0
        ;;
    --force) force=yes ;;
    -o | --tensors | --rank | --type | -t)
        [ $# -ge 2 ] || die "$1: expected a value (hint: --help)"
        case $1 in
        -o) output=$2 ;;
        --tensors) tensors=$2 ;;
        --rank) rank=$2 ;;
        --type) type=$2 ;;
        -t) threads=$2 ;;
        esac
        shift
        ;;
    -*) die "$1: no such option (hint: --help)" ;;
    *)
        [ -z "$model" ] || die "expected one model, found '$model' and '$1'"
        model=$1
        ;;
    esac
    shift
done
[ -n "$model" ] || {
    usage >&2
    exit 2
}
[ -f "$model" ] || die "$model: no such file"
output=${output:-${model%.gguf}.svf.gguf}
[ -d "$(dirname "$output")" ] || die "$output: its folder does not exist"

# 1. The program.
. "$(dirname "${BASH_SOURCE[0]}")/build.sh"

next_step() {
    say "done; the sidecar is $output. Try it (m = 1, so the text is the model's own):"
    printf '%q run -m %q --svf %q -p %q\n' "$svf" "$model" "$output" 'Once upon a time'
}

if [ -e "$output" ] && [ -z "$force" ]; then
    say "$output exists already (--force converts again); verifying it"
    "$svf" inspect --verify "$output" >/dev/null
    next_step
    exit 0
fi

# 2. The model: row length and number of rows of each matrix that is selected, from inspect's table.
say "checking $model"
table=$("$svf" inspect "$model")
case ${tensors:-ffn} in
ffn) pattern='^blk[.][0-9]+[.]ffn_(up|gate|down)[.]weight$' ;;
attn) pattern='^blk[.][0-9]+[.]attn_(q|k|v|qkv|output)[.]weight$' ;;
# An expression may select anything: all matrices of the blocks are the upper limit.
*) pattern='^blk[.][0-9]+[.].*[.]weight$' ;;
esac
shapes=$(printf '%s\n' "$table" | awk -v pattern="$pattern" '$1 ~ pattern && $3 == "x" { print $2, $4 }')

# 3. Settings. An unfinished conversion keeps the ones that it was begun with.
journal=$output.part.journal
options=(-m "$model" -o "$output")
if [ -n "$force" ]; then
    options+=(--force)
elif [ -e "$output.part" ]; then
    options+=(--resume)
    begun_with() { sed -n "1s/.*\"$1\":\"\([a-z0-9_]*\)\".*/\1/p" "$journal" 2>/dev/null || true; }
    tensors=${tensors:-$(begun_with tensors)}
    rank=${rank:-$(begun_with rank)}
    type=${type:-$(begun_with type)}
    say "continuing the unfinished conversion ${tensors:+of $tensors }at rank ${rank:-?}, type ${type:-?}"
fi
tensors=${tensors:-ffn}
type=${type:-q8_0}

if [ "$(uname)" = Darwin ]; then
    memory=$(sysctl -n hw.memsize)
    available=$((memory / 2))
    cores=$(sysctl -n hw.ncpu)
else
    memory=$(awk '$1 == "MemTotal:" { printf "%.0f", $2 * 1024 }' /proc/meminfo)
    available=$(awk '$1 == "MemAvailable:" { printf "%.0f", $2 * 1024 }' /proc/meminfo)
    cores=$(getconf _NPROCESSORS_ONLN)
fi
disk=$(($(df -Pk "$(dirname "$output")" | awk 'NR == 2 { print $4 }') * 1024))
model_bytes=$(($(wc -c <"$model")))

# Bytes of a sidecar of rank $1. An element takes 34/32 byte in q8_0.
sidecar_bytes() {
    printf '%s\n' "$shapes" | awk -v rank="$1" -v type="$type" '
        BEGIN { element = type == "f32" ? 4 : type == "f16" ? 2 : 34 / 32 }
        NF == 2 { r = $1 < $2 ? $1 : $2; if (rank != "full" && rank < r) r = rank; n += r * ($1 + $2) }
        END { printf "%.0f", n * element }'
}

if [ -z "$rank" ] && [ -n "$shapes" ]; then
    for candidate in 256 128 64 32 16; do
        bytes=$(sidecar_bytes "$candidate")
        # Generating a token reads model and sidecar once: a quarter more to read is about a quarter slower.
        if [ $((bytes * 4)) -le "$model_bytes" ] && [ $(((bytes + model_bytes) * 5)) -le $((memory * 4)) ] &&
            [ $((bytes * 10)) -le $((disk * 9)) ]; then
            rank=$candidate
            say "rank $rank: the largest with $(mebibytes "$bytes"), at most a quarter of the model ($(mebibytes "$model_bytes")), with room in memory ($(mebibytes "$memory")) and on disk ($(mebibytes "$disk") free)"
            break
        fi
    done
    if [ -z "$rank" ]; then
        rank=16
        say "rank $rank: the least that is useful; memory ($(mebibytes "$memory")) or disk ($(mebibytes "$disk") free) may not suffice for $(mebibytes "$bytes")"
    fi
    [ "$type" != q8_0 ] || say "type q8_0: half of the memory of f16, at about 1 % of rounding"
fi
# An unreadable selection is decompose's to explain.
rank=${rank:-64}

if [ -z "$threads" ]; then
    # Per matrix in work: W, its copy and vectors on the long side, and the square factor's decomposition. What finds
    # few values by iteration needs less, but may have to fall back on that.
    need=$(printf '%s\n' "$shapes" | awk '
        NF == 2 { n = $1 < $2 ? $1 : $2; bytes = 4 * (4 * $1 * $2 + 8 * n * n); if (bytes > most) most = bytes }
        END { printf "%.0f", most + 1 }')
    threads=$((available * 4 / 5 / need))
    [ "$threads" -le "$cores" ] || threads=$cores
    [ "$threads" -ge 1 ] || threads=1
    say "$threads matrices at a time: $cores cores, $(mebibytes "$need") of $(mebibytes "$available") available memory each"
fi

# 4. The work.
"$svf" decompose "${options[@]}" --tensors "$tensors" --rank "$rank" --type "$type" -t "$threads" >&2
say "verifying"
"$svf" inspect --verify "$output" >/dev/null
next_step
