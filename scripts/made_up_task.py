"""What scripts that write a task of made-up texts share: their flags, and the folder that they write."""

import argparse
import json
import random
from pathlib import Path


def write(description, name, row, tasks):
    """Reads the flags of a script that `description` describes, and writes `name`.jsonl, of what `row(chance)` makes up, each text once, and
    the task files `tasks`: names, and templates with the places {train} and {validation}."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", "-o", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--train", type=int, default=400, help="texts to learn from (default: 400)")
    parser.add_argument("--validation", type=int, default=100, help="texts to choose by (default: 100)")
    parser.add_argument("--test", type=int, default=500, help="texts to measure with (default: 500)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    chance, found = random.Random(args.seed), {}
    n = args.train + args.validation + args.test
    while len(found) < n:
        made = row(chance)
        found[made["text"]] = made
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found.values()), encoding="utf-8")
    for task, text in tasks.items():
        (args.output / f"{task}.toml").write_text(text.format(train=args.train, validation=args.validation), encoding="utf-8")
    print(f"wrote {', '.join(str(args.output / f'{task}.toml') for task in tasks)} and {name}.jsonl: {n} texts")
