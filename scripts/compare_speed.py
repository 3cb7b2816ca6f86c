#!/usr/bin/env python3
"""Compares the speed of two builds of llama-svf: the same whole commands, in turn.

    scripts/fetch_model.py smollm2-135m FOLDER
    cargo build --release --bins --examples
    scripts/compare_speed.py OLD/llama-svf target/release/llama-svf --model FOLDER/SmolLM2-135M-Instruct.Q4_1.gguf

Each round runs both, the first one by turns; a run that takes less than 20 s has a round to warm up before. The table
has medians, in the programs' own figures and as the time of the whole command, and how many times as fast the second
build is: by these medians, and by the best rounds, which other work on the machine disturbs least. The spread is what
lies between the best and the worst round, of the median: the larger of the two builds'. A difference below it says
little. On a busy machine threads wait for each other; what moves least there is the processor's time with --threads 1.
A build that cannot run a command has no figures there, and a line says why.

The questions are multiple choice: those of --questions, or made up. Sidecars, experts and tasks are kept in --folder.
Needs nothing but Python's standard library; experts come from target/release/examples/scale_expert.
"""

import argparse
import functools
import gzip
import json
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Seconds from which a run counts without one to warm up.
LONG = 20.0
# Names and how many of the largest singular values each scales.
EXPERTS = {"plants": 2, "machines": 4, "weather": 8}
LETTERS = "ABCDEFGH"
# The embedded model's skills, as one stream.
STREAM = "math,code,reasoning"

# --- what is asked -----------------------------------------------------------------------------------------

CHOICE = """{{ question }}

{% for choice in choices %}{{ 'ABCDEFGH'[loop.index0] }}. {{ choice }}
{% endfor %}
Answer with the letter of the right choice, and nothing else."""
OPEN = """{{ question }}

Explain it to a child, in many words and with several examples."""
RULES = """You are a patient teacher of science. You answer questions of an examination. Each question has several
choices, one of which is right. Read all the choices before you decide. You name the right choice by its letter, in the
form of the examples, without any explanation."""


def made_up():
    """Questions as long as those of ARC-Easy, from a fixed seed."""
    draw = random.Random(0)
    things = "a river,a mountain,an old oak,a glass of water,a magnet,a copper wire,a young plant,the moon".split(",")
    happens = "is heated slowly,is kept in the dark,is moved to a colder place,is covered with sand,loses half its mass"
    results = "It gets warmer,It grows faster,It changes its colour,It becomes smaller,Nothing happens to it,It melts"
    reasons = "because of the air,because of the light,because energy is lost,since it takes in water,for a short time"
    while True:
        options = draw.sample([f"{a} {b}" for a in results.split(",") for b in reasons.split(",")], 4)
        thing, other = draw.sample(things, 2)
        what, when = draw.choice(happens.split(",")), draw.choice(happens.split(","))
        question = f"What can be seen in experiment {draw.randrange(1000)} when {thing} {what} while {other} {when}?"
        yield {"question": question, "choices": options, "gold": draw.randrange(4)}


def questions(path, n):
    """`n` questions: of the file, where there is one, in the form in which ARC is republished."""
    if path is None:
        source = made_up()
        return [next(source) for _ in range(n)]
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as lines:
            rows = [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        sys.exit(f"compare_speed: cannot read {path}: {error}")
    if any(not {"query", "choices", "gold"} <= row.keys() for row in rows):
        sys.exit(f"compare_speed: rows of {path} need the fields query, choices and gold")
    rows = [row for row in rows if len(row["choices"]) <= len(LETTERS)]
    found = [row | {"question": row["query"].removeprefix("Question:").strip()} for row in rows]
    if len(found) < n:
        sys.exit(f"compare_speed: {path} has {len(found)} questions where {n} are needed")
    return found[:n]


def example(row):
    choices = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, row["choices"]))
    return f"{row['question']}\n\n{choices}\n\nThe right choice is {LETTERS[row['gold']]}.\n\n"


class Workplace:
    """The files that the workloads read, each made when it is first asked for."""

    def __init__(self, args):
        self.program, self.folder = args.before, args.folder
        rows = questions(args.questions, 405)
        self.examples, self.rows = rows[:5], rows[5:]
        write(self.folder / "questions.jsonl", self.rows)

    def task(self, name, prompt, max_tokens, chat=True, reward="", rows="questions.jsonl", train=192):
        """A task file; `reward` is more of its reward than comparing texts, `train` how many of its items train."""
        path = self.folder / f"{name}.toml"
        path.write_text(
            f"prompt = {json.dumps(prompt)}\ngold = \"-\"\n[data]\nfiles = [\"{rows}\"]\n"
            f"[reward]\nkind = \"text\"\n{reward}[split]\ntrain = {train}\nvalidation = 1\n"
            f"[generation]\nmax_tokens = {max_tokens}\nchat = {json.dumps(chat)}\n"
        )
        return path

    def of_embedded(self):
        """A task of 300 questions of the embedded model, of which one token is answered."""
        rows, trace = "embedded.jsonl", self.folder / "embedded.trace"
        if not (self.folder / rows).exists():
            prepare(self.program, "eval", "--task", STREAM, "-n", 302, "--trace", trace)
            lines = map(json.loads, trace.read_text().splitlines()[1:])
            write(self.folder / rows, [{"question": line["prompt"]} for line in lines])
            trace.unlink()
        return self.task("embedded-bare", "{{ question }}", 1, rows=rows, train=1)

    def sidecar(self, model):
        path = self.folder / f"{model.stem}.rank-64.svf.gguf"
        if not path.exists():
            prepare(self.program, "decompose", "-m", model, "-o", path, "--rank", 64)
        return path

    def experts(self, model):
        """Arguments that load the sidecar and experts of `model`."""
        arguments = ["--svf", self.sidecar(model)]
        scale = ROOT / "target/release/examples/scale_expert"
        for name, first in EXPERTS.items():
            path = self.folder / f"{model.stem}.{name}.expert.gguf"
            if not path.exists():
                if not scale.exists():
                    sys.exit("compare_speed: first: cargo build --release --example scale_expert")
                prepare(scale, self.sidecar(model), "--first", first, "--by", 0.95, "--name", name, "-o", path)
            arguments += ["--expert", path]
        return arguments

    def text(self, n_words):
        """Plain text of some length."""
        words = " ".join(row["question"] for row in self.rows).split()
        return " ".join(words[:n_words])


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def prepare(*command):
    print(f"preparing: {' '.join(str(part) for part in command)}", file=sys.stderr)
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


# --- what is run -------------------------------------------------------------------------------------------


def processor():
    """Seconds of all cores that the commands run so far have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Failed(Exception):
    """A build cannot run a command; why."""


class Build:
    """One of the two programs."""

    def __init__(self, program, threads):
        self.program, self.threads = program, ["-t", threads] if threads else []

    @functools.cache
    def knows(self, command, option):
        done = subprocess.run([self.program, command, "--help"], capture_output=True, text=True)
        return re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", done.stdout) is not None

    def run(self, command, *arguments, optional=()):
        """The JSON that a command prints, and the time that it takes. `optional` are lists of arguments, each left out
        where this build does not know its first one."""
        for option in optional:
            if self.knows(command, option[0]):
                arguments += tuple(option)
        line = [str(part) for part in (self.program, command, *arguments, *self.threads, "--json")]
        began, used = time.perf_counter(), processor()
        done = subprocess.run(line, capture_output=True, text=True)
        whole = {"whole command, s": time.perf_counter() - began, "processor, s": processor() - used}
        if done.returncode != 0:
            raise Failed(f"{' '.join(line)}: {(done.stderr.strip().splitlines() or ['it says nothing'])[-1]}")
        return json.loads(done.stdout), whole

    def eval(self, *arguments, **options):
        found, whole = self.run("eval", *arguments, **options)
        return found, found["seconds"] - found["scoring_seconds"], whole


# Workload: a function of a build that gives its figures, by name; units are part of the name.


def rollouts(build, place, model, task, steps):
    """Two steps of training in which no answer is rewarded, so that no gradient is computed and both builds write with
    the same multipliers. Those of `reference` differ from 1 at the beginning already."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "x.expert.gguf"
        _, whole = build.run(
            *("train", "-m", model, "--svf", place.sidecar(model), "--task", task, "-o", output, "--steps", steps),
            *("--prompts", 16, "--samples", 8, "--temp", 1, "--parametrisation", "reference", "--validation-items", 1),
        )
        log = Path(folder) / "x.train/log.jsonl"
        lines = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [line for line in lines if line.get("event") == "step"]
    writing, tokens = sum(line["writing"] for line in steps), sum(line["tokens"] for line in steps)
    return {"writing, s": writing, "tokens written": tokens, "tokens/s": tokens / writing} | whole


def answers(build, *arguments):
    _, seconds, whole = build.eval(*arguments)
    return {"generating, s": seconds} | whole


def many_answers(build, task):
    found, _, whole = build.eval("--task", task, "--part", "train", "-n", 800)
    return {"answers/s": found["answers_per_second"]} | whole


def two_passes(build, asked, bare):
    """`bare` asks the same questions and lets one token be written: the time of reading them, in the same batches."""
    found, _, whole = build.eval("--adapt", "prompt", *asked())
    pass1, pass2 = found["dispatch"]["pass1_ms"], found["dispatch"]["pass2_ms"]
    read = 1e3 * build.eval(*bare())[1]
    figures = {"pass 1, ms": pass1, "pass 2, ms": pass2, "pass 1 of pass 2": pass1 / pass2}
    return figures | {"questions read alone, ms": read, "pass 1 of that": pass1 / read} | whole


def one_user(build, *arguments):
    found, whole = build.run("run", *arguments, "--temp", 0, "-n", 64)
    figures = {"reading, ms": found["prompt_ms"], "tokens read": found["n_prompt"]}
    if found["n_generated"] != 64:
        raise Failed(f"the model wrote {found['n_generated']} tokens of 64: too few to measure")
    return figures | {"writing, tokens/s": found["tokens_per_second"]} | whole


def demo(build):
    return build.run("demo")[1]


def workloads(place, models):
    """Pairs of a name and what to run."""
    never = 'pattern = "no answer is like this: (.*)"\n'
    choice = place.task("choice", CHOICE, 12, chat=False)
    beginning = f"{RULES}\n\n{''.join(example(row) for row in place.examples)}"
    shared = place.task("shared", f"{{% raw %}}{beginning}{{% endraw %}}{CHOICE}", 12)
    short = place.task("rollouts-short", CHOICE, 12, reward=never)
    long = place.task("rollouts-long", OPEN, 128, reward=never)
    essay, bare = place.task("essay", OPEN, 100), place.task("essay-bare", OPEN, 1)

    def named(name, function, *arguments):
        return name, lambda build: function(build, *arguments)

    for task in STREAM.split(","):
        yield named(f"embedded: eval {task}", many_answers, task)
    stream = lambda: ("--task", STREAM, "-n", 300)
    yield named("embedded: pass 1", two_passes, stream, lambda: ("--task", place.of_embedded(), "-n", 300))
    yield named("embedded: one user", one_user, "-p", "Hello there")
    for model in models:
        of, load = model.stem, ("-m", model)
        yield named(f"{of}: one user, short prompt", one_user, *load, "-p", place.text(12))
        yield named(f"{of}: one user, long prompt", one_user, *load, "-p", place.text(500))
        yield named(f"{of}: rollouts, short answers", rollouts, place, model, short, 2)
        yield named(f"{of}: rollouts, long answers", rollouts, place, model, long, 1)
        yield named(f"{of}: eval, shared beginning", answers, *load, "--task", shared, "-n", 100)
        yield named(f"{of}: eval, nothing shared", answers, *load, "--task", choice, "-n", 100)
        asked = lambda load=load: (*load, *place.experts(load[1]), "--task", essay, "-n", 32)
        yield named(f"{of}: pass 1", two_passes, asked, lambda load=load: (*load, "--task", bare, "-n", 32))
    yield named("demo", demo)


# --- both in turn ------------------------------------------------------------------------------------------


def measure(builds, workload, rounds):
    """The figures of each build by round, or none of a build that cannot run this."""
    found, able = [[] for _ in builds], list(range(len(builds)))

    def turn(index, keep):
        began = time.perf_counter()
        try:
            figures = workload(builds[index])
        except Failed as error:
            print(f"  {builds[index].program} cannot: {error}", file=sys.stderr)
            able.remove(index)
            return
        if keep or time.perf_counter() - began >= LONG:
            found[index].append(figures)

    for index in list(able):
        turn(index, False)
    while any(len(found[index]) < rounds for index in able):
        n_done = max(len(found[index]) for index in able)
        for index in able[:: -1 if n_done % 2 else 1]:
            if len(found[index]) < rounds:
                turn(index, True)
    return found


def number(value):
    return "–" if value is None else f"{value:.0f}" if value >= 1000 else f"{value:#.3g}".rstrip(".")


def rows_of(name, found):
    """The table's rows of a workload."""
    figures = next((rounds[0] for rounds in found if rounds), {})
    for figure in figures:
        values = [[one[figure] for one in rounds] for rounds in found]
        medians = [statistics.median(of) if of else None for of in values]
        # How many times as fast: only what has a unit of time or speed is fast or slow.
        is_speed, is_time = figure.endswith("/s"), figure.endswith(("ms", ", s"))
        ratio, best = "", ""
        if (is_speed or is_time) and all(values):
            ends = [max(of) if is_speed else min(of) for of in values]
            ratios = [b / a if is_speed else a / b for a, b in (medians, ends)]
            ratio, best = (f"{x:.2f}" for x in ratios)
        spread = max((100 * (max(of) - min(of)) / statistics.median(of) for of in values if of), default=0)
        yield [name, figure, *map(number, medians), ratio, best, f"{spread:.0f} %"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="a llama-svf program")
    parser.add_argument("after", type=Path, help="another one, or the same, to see the noise")
    parser.add_argument("--model", type=Path, action="append", default=[], help="an instruct model; may be repeated")
    parser.add_argument("--questions", type=Path, help="JSON lines of query, choices, gold (an index), as ARC-Easy's")
    parser.add_argument("--only", metavar="TEXT", action="append", help="workloads whose name holds this; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, help="threads of each command (default: all)")
    parser.add_argument("--folder", type=Path, help="where what is prepared is kept (default: nowhere)")
    parser.add_argument("--list", action="store_true", help="print the names of the workloads, and run nothing")
    args = parser.parse_args()
    for program in (args.before, args.after, *args.model):
        if not program.is_file():
            parser.error(f"{program} is not a file")
    args.before, args.after = args.before.resolve(), args.after.resolve()
    args.model = [model.resolve() for model in args.model]
    with tempfile.TemporaryDirectory() as temporary:
        args.folder = (args.folder or Path(temporary)).resolve()
        args.folder.mkdir(parents=True, exist_ok=True)
        chosen = [
            (name, workload)
            for name, workload in workloads(Workplace(args), args.model)
            if not args.only or any(text in name for text in args.only)
        ]
        if args.list or not chosen:
            print("\n".join(name for name, _ in chosen) or "no workload has such a name")
            return
        builds = [Build(program, args.threads) for program in (args.before, args.after)]
        print("| workload | figure | before | after | times as fast | by the best | spread |")
        print("|---|---|---|---|---|---|---|")
        for name, workload in chosen:
            print(f"{name} …", file=sys.stderr)
            for row in rows_of(name, measure(builds, workload, args.rounds)):
                print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
