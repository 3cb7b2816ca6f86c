#!/usr/bin/env python3
"""Trains the experts of the embedded model, src/embedded/experts, from fixed seeds, and measures them.

    cargo build --release
    scripts/train_experts.py                  the four experts, and what each does to each task
    scripts/train_experts.py --check          two more seeds, and a control whose rewards are tosses of a coin

What is learnt depends on rewards alone. Results are Markdown tables, from `llama-svf eval` on test questions that no
training has seen. What was trained already is not trained again. Needs nothing but Python's standard library.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target/release/llama-svf"
EXPERTS = ROOT / "src/embedded/experts"
# Name, task, steps, what dispatch reads.
SKILLS = [
    ("math", "math", 40, "word problems: how many things somebody has in the end"),
    ("code", "code", 40, "small programs: what they print"),
    ("reasoning", "reasoning", 40, "order puzzles: who is first or last"),
    ("cls", "skill-name", 20, "names the skill of a question"),
]
TASKS = ["math", "code", "reasoning", "skill-name", "math-unseen", "code-unseen", "reasoning-unseen"]


def run(*arguments, **options):
    return subprocess.run([str(a) for a in (PROGRAM, *arguments)], check=True, **options)


def train(folder, name, task, steps, description, seed, reward):
    expert = folder / f"{name}-{reward}-{seed}.expert.gguf"
    if not expert.exists():
        run(
            *("train", "--task", task, "-o", expert, "--name", name, "--description", description),
            *("--steps", steps, "--lr", 0.015, "--seed", seed, "--reward", reward, "--resume"),
            # The embedded model was taught one wording, which shows no examples.
            *("--examples", "none"),
            stdout=subprocess.DEVNULL,
        )
    return expert


def compare(folder, expert, name, task):
    sidecar = folder / "embedded.svf.gguf"
    model = folder / "embedded.gguf"
    if not sidecar.exists():
        shutil.copy(ROOT / "src/embedded/model.gguf", model)
        run("decompose", "-m", model, "-o", sidecar, "--tensors", "all", "--type", "f16", stdout=subprocess.DEVNULL)
    done = run(
        *("eval", "-m", model, "--svf", sidecar, "--expert", expert, "--use", name, "--against", "base"),
        # The base names skills greedily without a mistake: only samples can get better.
        *("--task", task, "--samples", 8 if task == "skill-name" else 1, "--json"),
        stdout=subprocess.PIPE, text=True,
    )
    return json.loads(done.stdout)


def cell(found):
    return f"{100 * found['baseline_accuracy']:.1f} → {100 * found['accuracy']:.1f} % (p = {found['p_value']:.0e})"


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="more seeds, and random rewards")
    parser.add_argument("--folder", type=Path, default=ROOT / "target/experts", help="where runs are kept")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    EXPERTS.mkdir(exist_ok=True)

    if args.check:
        rows = []
        for name, task, steps, description in SKILLS[:3]:
            for reward in ("task", "random"):
                for seed in (0, 1, 2):
                    expert = train(args.folder, name, task, steps, description, seed, reward)
                    rows.append([task, reward, str(seed), cell(compare(args.folder, expert, name, task))])
                    print(*rows[-1], file=sys.stderr)
        table(["task", "rewards", "seed", "test, greedy"], rows)
        return
    rows = []
    for name, task, steps, description in SKILLS:
        expert = train(args.folder, name, task, steps, description, 0, "task")
        shutil.copy(expert, EXPERTS / f"{name}.expert.gguf")
        rows.append([name] + [cell(compare(args.folder, expert, name, other)) for other in TASKS])
    table(["expert", *TASKS], rows)


if __name__ == "__main__":
    main()
