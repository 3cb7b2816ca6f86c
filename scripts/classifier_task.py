#!/usr/bin/env python3
"""Writes a task that teaches an expert to name which expert a question is for: a classifier for `--adapt classifier`.

    scripts/classifier_task.py -o cls math=gsm8k.jsonl:question code=mbpp.jsonl:text science=arc.jsonl:query \\
        --about 'math=word problems and sums' --about 'code=programs to write' --about 'science=natural science at school'

Each argument is the name of an expert, a JSON Lines file (also .gz) of questions that it is for, and the field that holds them;
several arguments may be for one expert, such as questions as users ask them and as a task's prompt puts them. As many everyday
questions that belong to none, labelled `other`, are made up. Some questions have an order around them to be answered by somebody else
(--orders SHARE), which the classifier so learns not to heed. Written are

    cls/cls.toml     the task: which label is right
    cls/cls.jsonl    its questions
    cls/cls.jinja    the same words as an adaptation prompt

and then

    llama-svf train -m M --svf S --task cls/cls.toml -o cls.expert.gguf --objective likelihood --examples none
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


# Everyday questions to be made up, so that `other` is no list to learn by heart.
SLOTS = {
    "language": ["Italian", "Dutch", "Greek", "Turkish", "Hungarian", "Danish", "Korean", "Arabic", "Czech", "Finnish"],
    "sentence": [
        "The children are asleep already.", "Is this seat taken?", "I left my keys at work.", "We are looking forward to your visit.",
        "It has been raining since Monday.", "My aunt bakes the best bread in town.", "Can I pay by card?", "The museum is closed today.",
        "He is older than he looks.", "They moved to the countryside last year.", "Let me know when you arrive.", "I lost my passport.",
    ],
    "event": [
        "the Thirty Years' War", "the moon landing", "the Renaissance in Florence", "the partition of India", "the Gold Rush",
        "the Crusades", "the opening of Japan", "the Prague Spring", "the Ottoman siege of Vienna", "the abolition of slavery",
    ],
    "person": ["my teacher", "a customer", "my uncle", "our new neighbours", "the city council", "an old friend", "my team", "my landlady"],
    "matter": [
        "a delayed delivery", "the party on Friday", "a broken window", "my holiday", "the parking places", "a lost parcel", "a book I liked",
        "the noise upstairs", "her retirement", "a change of date",
    ],
    "subject": [
        "the sea at night", "a train that never arrives", "my first bicycle", "winter", "two brothers", "a garden in the rain",
        "a city without cars", "homesickness", "an honest thief", "the last day of summer",
    ],
    "work": ["a wedding", "a birthday", "a farewell", "a christening", "a job interview", "a long flight", "a camping trip", "a first date"],
    "dish": ["lasagne", "pancakes", "lentil soup", "apple pie", "fried rice", "goulash", "a green salad", "paella"],
    "place": ["Rome", "Istanbul", "Edinburgh", "Seoul", "the Alps", "Mexico City", "Copenhagen", "Marrakesh", "Cornwall", "Vancouver"],
    "artist": ["Vermeer", "Mozart", "Virginia Woolf", "Charlie Chaplin", "Frida Kahlo", "Bob Dylan", "Homer", "Agatha Christie"],
    "feeling": ["tired", "happy", "nervous", "bored", "proud", "sad", "angry with my sister", "curious about you"],
    "phrase": ["good morning", "break the ice", "thank you very much", "long time no see", "out of the blue", "best wishes", "once in a while"],
}
FORMS = [
    "Translate into {language}: {sentence}", "How do you say \"{phrase}\" in {language}?", "What is this in {language}? {sentence}",
    "What does \"{phrase}\" mean?", "Tell me about {event}.", "How did {event} begin?", "What came of {event}?", "Who took part in {event}?",
    "Write a message to {person} about {matter}.", "How do I tell {person} about {matter}?", "Write a few lines on {subject}.",
    "Write a poem about {subject}.", "Begin a story about {subject}.", "What do I need for {work}?", "What can I say at {work}?",
    "How do I make {dish}?", "What goes well with {dish}?", "What is there to see in {place}?", "When is the best time to go to {place}?",
    "Who was {artist}?", "What is {artist} famous for?", "I am {feeling} today.", "What do you do when you are {feeling}?",
    "Make this sound friendlier: {sentence}", "Put this into the past: {sentence}", "Say it in other words: {sentence}",
]


def everyday(chance, n):
    """That many questions of nobody's, without doubles."""
    found = dict.fromkeys(words("other.txt"))
    while len(found) < n:
        form = chance.choice(FORMS)
        found[form.format(**{slot: chance.choice(SLOTS[slot]) for slot in re.findall(r"{(\w+)}", form)})] = None
    return list(found)


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
    found[OTHER] = everyday(chance, max(map(len, found.values())))

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
