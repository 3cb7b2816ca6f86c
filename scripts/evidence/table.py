#!/usr/bin/env python3
"""Compares traces of `llama-svf eval` over the same items: the first one with each other one, as a table in Markdown.

    scripts/evidence/table.py base.jsonl expert.jsonl lora.jsonl

The share of right answers with Wilson's 95 % interval, how many items only one of both has right, and McNemar's exact p. Needs nothing
but Python's standard library.
"""

import json
import math
import sys
from pathlib import Path

Z = 1.959964
# An answer that scores so much is right.
RIGHT = 1 - 1e-9


def read(path):
    """Whether each item is answered rightly."""
    with open(path) as file:
        records = [json.loads(line) for line in file]
    found = {record["item"]: record["score"] >= RIGHT for record in records if "score" in record}
    if len({record["configuration"] for record in records if "score" in record}) != 1:
        sys.exit(f"table: {path} holds other than one configuration")
    return found


def interval(right, n):
    share, z2 = right / n, Z * Z
    middle, half = share + z2 / (2 * n), Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return (middle - half) / (1 + z2 / n), (middle + half) / (1 + z2 / n)


def p_value(better, worse):
    n, few = better + worse, min(better, worse)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(few + 1)) / 2**n)


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    traces = {Path(path).stem: read(path) for path in sys.argv[1:]}
    base = next(iter(traces.values()))
    print("| | right | better, worse | p |\n|---|---|---|---|")
    for name, found in traces.items():
        if found.keys() != base.keys():
            sys.exit(f"table: {name} answers other items than {next(iter(traces))}")
        right, n = sum(found.values()), len(found)
        least, most = interval(right, n)
        better, worse = (sum(found[item] == sign and base[item] != sign for item in found) for sign in (True, False))
        against = "| | |" if found is base else f"| {better}, {worse} | {p_value(better, worse):.1e} |"
        print(f"| {name} | {100 * right / n:.1f} % ({100 * least:.1f} … {100 * most:.1f}) of {n} {against}")


if __name__ == "__main__":
    main()
