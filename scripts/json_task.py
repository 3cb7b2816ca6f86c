#!/usr/bin/env python3
"""Writes a task that teaches a model to answer with JSON and nothing else: people described in a sentence or two.

    scripts/json_task.py -o people

    llama-svf train -m M --svf S --task people/train.toml -o json.expert.gguf
    llama-svf eval  -m M --svf S --expert json.expert.gguf --use json --against base --task people/people.toml

Written are people.jsonl, made up from names, jobs and places; people.toml, where an answer counts if it is one JSON object with
the right four fields and nothing beside it; and train.toml, the same questions with a reward that sees parts, which small
models need that are never wholly right. Needs nothing but Python's standard library.
"""

import made_up_task

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
TASK = """description = "describes people as JSON"
prompt = '''
Read the text and fill in this form: {{"name": "...", "age": 0, "job": "...", "city": "..."}}
Reply with the filled-in JSON and nothing else.

Text: {{{{ text }}}}'''
gold = "{{{{ person | tojson }}}}"
# The fields in the order of the form.
completion = '''{{"name": {{{{ person.name | tojson }}}}, "age": {{{{ person.age }}}}, "job": {{{{ person.job | tojson }}}}, "city": {{{{ person.city | tojson }}}}}}'''

[data]
files = ["people.jsonl"]

[reward]
kind = "json"
strict = true
{more}
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


if __name__ == "__main__":
    tasks = {"people": TASK.replace("{more}", ""), "train": TASK.replace("{more}", "partial = true\n")}
    made_up_task.write(__doc__, "people", row, tasks)
