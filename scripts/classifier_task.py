#!/usr/bin/env python3
"""Writes a task that teaches an expert to name which expert a question is for: a classifier for `--adapt classifier`.

    scripts/classifier_task.py -o cls math=gsm8k.jsonl:question code=mbpp.jsonl:text science=arc.jsonl:query \\
        --about 'math=word problems and sums' --about 'code=programs to write' --about 'science=natural science at school'

Each argument is the name of an expert, a JSON Lines file (also .gz) of questions that it is for, and the field that holds them;
several arguments may be for one expert, such as questions as users ask them and as a task's prompt puts them. Questions that belong to none, labelled `other`, come from this project. Some have an order around them to be answered by somebody else (--orders SHARE), which the classifier so
learns not to heed. Written are

    cls/cls.toml     the task: which label is right
    cls/cls.jsonl    its questions
    cls/cls.jinja    the same words as an adaptation prompt

and then

    llama-svf train -m M --svf S --task cls/cls.toml -o cls.expert.gguf --examples none
    llama-svf run   -m M --svf S --expert math.expert.gguf --expert code.expert.gguf --expert science.expert.gguf \\
        --expert cls.expert.gguf --adapt classifier --adapt-prompt cls/cls.jinja --chat -p '…'

Needs nothing but Python's standard library.
"""

import argparse
import gzip
import json
import random
import re
import sys
from pathlib import Path

WORDS = Path(__file__).resolve().parent.parent / "src/dispatch/words"
OTHER = "other"
MAX_CHARS = 700
PROMPT = """Which of these is the question about: LABELS? Reply with the one word.

Question: {{ question }}"""
ABOUT_OTHER = "anything else"
# So that what is around a question says nothing about it, and questions of nobody's, of which there are few, come often enough.
AROUND = ["{question}", "Please help me: {question}", "{question} Thank you!", "Hello! {question}", "I have a question. {question}"]


def words(name, parted="\n"):
    return (WORDS / name).read_text(encoding="utf-8").rstrip("\n").split(parted)


def questions(path, field):
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    missing = next((number for number, row in enumerate(rows, 1) if not isinstance(row.get(field), str)), None)
    if missing:
        sys.exit(f"classifier_task: line {missing} of {path} has no text {field}; it has {', '.join(rows[missing - 1])}")
    return sorted({row[field].strip() for row in rows if 0 < len(row[field].strip()) <= MAX_CHARS})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experts", nargs="+", metavar="NAME=FILE:FIELD")
    parser.add_argument("--output", "-o", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--about", action="append", default=[], metavar="NAME=TEXT", help="what an expert is for, in a few words")
    parser.add_argument("--orders", type=float, default=0.0, metavar="SHARE", help="of the questions, from 0 to 1")
    parser.add_argument("--items", type=int, default=150, help="questions of each file, at most")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    chance, found = random.Random(args.seed), {}
    for text in args.experts:
        parts = re.fullmatch(r"([^=]+)=(.+):([^:]+)", text)
        if not parts:
            parser.error(f"expected NAME=FILE:FIELD, found {text!r}")
        name, file, field = parts.groups()
        if name == OTHER:
            parser.error(f"{name!r} cannot name an expert: it stands for the base model")
        of_expert = questions(Path(file), field)
        found.setdefault(name, []).extend(chance.sample(of_expert, min(args.items, len(of_expert))))
    found[OTHER] = words("other.txt")

    orders, topics = words("orders.txt", "\n%\n"), words("topics.txt") + list(found)
    rows = []
    for label, texts in found.items():
        # As many of each label, whatever there is of questions.
        for number in range(max(map(len, found.values()))):
            question = AROUND[number // len(texts) % len(AROUND)].replace("{question}", texts[number % len(texts)])
            if chance.random() < args.orders:
                order = chance.choice(orders)
                question = order.replace("{topic}", chance.choice(topics)).replace("{question}", question)
            rows.append({"question": question, "label": label})

    args.output.mkdir(parents=True, exist_ok=True)
    labels = sorted(set(found) - {OTHER}) + [OTHER]
    about = {OTHER: ABOUT_OTHER} | dict(text.split("=", 1) for text in args.about if "=" in text)
    described = [f"{label} ({about[label]})" if label in about else label for label in labels]
    asked = PROMPT.replace("LABELS", ", ".join(described))
    (args.output / "cls.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (args.output / "cls.jinja").write_text(asked + "{{ answer }}\n", encoding="utf-8")
    (args.output / "cls.toml").write_text(f'''description = "names the expert that a question is for"
prompt = """
{asked}"""
gold = "{{{{ label }}}}"

[data]
files = ["cls.jsonl"]

[reward]
kind = "text"
pattern = '^\\s*(\\w[\\w.-]*)'

[generation]
max_tokens = 6
chat = true
''', encoding="utf-8")
    print(f"wrote {args.output / 'cls.toml'}, cls.jsonl and cls.jinja: {len(rows)} questions of {', '.join(labels)}")


if __name__ == "__main__":
    main()
