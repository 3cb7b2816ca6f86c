#!/usr/bin/env python3
"""Writes a task that teaches a model to answer with JSON and nothing else: people described in a sentence or two.

    scripts/json_task.py -o people

    llama-svf train -m M --svf S --task people/train.toml -o json.expert.gguf
    llama-svf eval  -m M --svf S --expert json.expert.gguf --use json --against base --task people/people.toml

Written are people.jsonl, made up from names, jobs and places; people.toml, where an answer counts if it is one JSON object with
the right four fields and nothing beside it; and train.toml, the same questions with a reward that sees parts, which small
models need that are never wholly right. Needs nothing but Python's standard library.
"""

import argparse
import json
import random
from pathlib import Path

NAMES = (
    "Ada Ahmed Alina Amara Anton Ayumi Bela Bruno Carla Chidi Clara Dario Dmitri Elena Emil Esra Farid Fatima Finn Greta Hana Hugo "
    "Ida Ines Ivan Jonas Julia Kofi Lara Leon Lin Luca Malik Marta Mei Milan Mira Nadia Nico Nora Olga Omar Oskar Paula Pavel Petra "
    "Rafael Rania Rosa Samir Sofia Sven Tamar Theo Tomas Uma Vera Viktor Yara Yusuf Zoe"
).split()
JOBS = (
    "baker,nurse,carpenter,teacher,pilot,gardener,lawyer,plumber,dentist,farmer,librarian,translator,electrician,chef,architect,"
    "mechanic,pharmacist,tailor,geologist,accountant,painter,bus driver,vet,journalist,surveyor"
).split(",")
CITIES = (
    "Lisbon,Oslo,Krakow,Lima,Nairobi,Osaka,Porto,Ghent,Zagreb,Quito,Accra,Hanoi,Bergen,Seville,Tbilisi,Cork,Leipzig,Turin,Utrecht,"
    "Riga,Split,Malmo,Bristol,Toronto,Perth"
).split(",")
# Some say more than is asked for.
SENTENCES = [
    "{name} is {age} years old, lives in {city} and works as a {job}.",
    "At {age}, {name} is a {job} in {city}.",
    "Meet {name}, a {job} from {city} who turned {age} last week.",
    "{name} works in {city} as a {job}. {name} is {age}.",
    "The {job} {name} ({age}) lives in {city}.",
    "In {city} there is a {job} called {name}, aged {age}.",
    "{name} moved from {elsewhere} to {city} {years} years ago, is {age} now and earns a living as a {job}.",
    "Since leaving {elsewhere}, {name} has lived in {city}; a {job} by trade, {age} years of age.",
    "My neighbour {name} is a {job}. We both live in {city}, and {name} has just had a birthday, the {age}th.",
    "{friend} has a friend in {city}: {name}, {age}, who is a {job}.",
]
PROMPT = """Read the text and fill in this form: {"name": "...", "age": 0, "job": "...", "city": "..."}
Reply with the filled-in JSON and nothing else.

Text: {{ text }}"""
TASK = """description = "describes people as JSON"
prompt = '''
{prompt}'''
gold = "{{{{ person | tojson }}}}"
# The fields in the order of the form.
completion = '''{{"name": {{{{ person.name | tojson }}}}, "age": {{{{ person.age }}}}, "job": {{{{ person.job | tojson }}}}, "city": {{{{ person.city | tojson }}}}}}'''

[data]
files = ["people.jsonl"]

[reward]
kind = "json"
{strict}

[split]
train = {train}
validation = {validation}

[generation]
max_tokens = 48
chat = true
"""


def row(chance):
    person = {"name": chance.choice(NAMES), "age": chance.randint(19, 79), "job": chance.choice(JOBS), "city": chance.choice(CITIES)}
    others = {"elsewhere": chance.choice(CITIES), "years": chance.randint(2, 9), "friend": chance.choice(NAMES)}
    return {"text": chance.choice(SENTENCES).format(**person, **others), "person": person}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    (args.output / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found.values()), encoding="utf-8")
    for name, strict in [("people", "strict = true"), ("train", "strict = true\npartial = true")]:
        text = TASK.format(prompt=PROMPT, strict=strict, train=args.train, validation=args.validation)
        (args.output / f"{name}.toml").write_text(text, encoding="utf-8")
    print(f"wrote {args.output / 'people.toml'}, train.toml and people.jsonl: {n} texts")


if __name__ == "__main__":
    main()
