#!/usr/bin/env python3
"""Writes a task that teaches a model a format for answers: the date in a sentence, as 2024-05-31 and nothing else.

    scripts/dates_task.py -o dates

    llama-svf train -m M --svf S --task dates/dates.toml -o dates.expert.gguf
    llama-svf eval  -m M --svf S --expert dates.expert.gguf --use dates --against base --task dates/dates.toml

Written are dates.jsonl, made up from events, names and ways to write a date, and dates.toml. Needs nothing but Python's standard
library.
"""

import datetime

import made_up_task

EVENTS = (
    "The library,The new bridge,The museum,The bakery on the corner,The swimming pool,The school,The tram line,The hospital,The harbour,"
    "The concert hall,The observatory,The post office,The market hall,The zoo,The cinema"
).split(",")
NAMES = "Ada Anton Bela Carla Dario Elena Farid Greta Hana Ivan Julia Kofi Lara Milan Nora Omar Paula Rosa Sven Tamar Uma Yusuf".split()
SENTENCES = [
    "{event} was opened on {date}.",
    "{event} has been closed since {date} for repairs.",
    "On {date} {name} moved into the flat above ours.",
    "{name} was born on {date}.",
    "{name} signed the contract on {date} and paid the {number} euros a week later.",
    "The invoice of {date} is for {number} chairs.",
    "The letter from {name}, dated {date}, arrived {number} days late.",
    "We met {name} on {date}, in front of house number {number}.",
    "The parcel left on {date} and weighs {number} kilograms.",
    "{event} expects its visitor number {number}000 on {date}.",
]
DATES = [
    lambda day: f"{day:%B} {day.day}, {day.year}",
    lambda day: f"{day:%b} {day.day}, {day.year}",
    lambda day: f"{day.day} {day:%B} {day.year}",
    lambda day: f"{day.day} {day:%b} {day.year}",
    lambda day: f"the {ordinal(day.day)} of {day:%B} {day.year}",
    lambda day: f"{day:%B} the {ordinal(day.day)}, {day.year}",
    lambda day: f"{day:%A}, {day.day} {day:%B} {day.year}",
]
TASK = """description = "writes the date in a text as year, month and day"
prompt = '''
Write the date in this text as YYYY-MM-DD. Reply with the date and nothing else.

Text: {{{{ text }}}}'''
gold = "{{{{ date }}}}"
completion = "{{{{ date }}}}"

[data]
files = ["dates.jsonl"]

[reward]
kind = "text"

[split]
train = {train}
validation = {validation}

[generation]
max_tokens = 16
chat = true
"""


def ordinal(n):
    return f"{n}{'th' if n in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


def row(chance):
    day = datetime.date(1950, 1, 1) + datetime.timedelta(days=chance.randrange(365 * 80))
    date = chance.choice(DATES)(day)
    others = {"event": chance.choice(EVENTS), "name": chance.choice(NAMES), "number": chance.randint(2, 40)}
    return {"text": chance.choice(SENTENCES).format(date=date, **others), "date": day.isoformat()}


if __name__ == "__main__":
    made_up_task.write(__doc__, "dates", row, {"dates": TASK})
