#!/usr/bin/env python3
"""Loads what `llama-svf export` writes into stock programs, and compares what they answer with `llama-svf run`.

    cargo build --release
    scripts/exchange.py                                          the embedded model and its experts math and code
    scripts/exchange.py --model M.gguf --svf M.svf.gguf          a model of your own, with random experts

Stock llama.cpp is the server in the package xllamacpp; packages come from PyPI into target/exchange-venv. For each of a LoRA in
F32, one in F16, and a merged model, at strengths 0, 0.5 and 1 and for a mixture of two, the 64 greedy tokens of stock llama.cpp
have to be those of `llama-svf`, but for ties: where the texts part, the two words must be as likely but for the drift, twice
the largest difference in ln p that the two programs show for equal words after equal words, with the base model, which both
compute from the same file.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

import serving

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / "target/exchange-venv"
STOCK = ["xllamacpp==2026.10.11549"]
PROMPTS = [
    "Mia has 12 pens. Mia finds 4. Mia sells 6. How many pens does Mia have?",
    "Once upon a time, there was a little",
    "a = 3\nb = a + 4\nprint(b)\nWhat does it print?",
]
N_TOKENS = 64
SERVER = """
import sys, time, xllamacpp
p = xllamacpp.CommonParams()
p.model.path = sys.argv[1]
p.port = 0
p.n_ctx = 1024
p.n_parallel = 1
p.verbosity = -1
if len(sys.argv) > 2:
    lora = xllamacpp.CommonAdapterLoraInfo()
    lora.path = sys.argv[2]
    lora.scale = float(sys.argv[3])
    p.lora_adapters = [lora]
server = xllamacpp.Server(p)
print(server.listening_address, flush=True)
time.sleep(100000)
"""


def ensure(packages, program=__file__):
    """Starts `program` again within the virtual environment, with `packages` in it."""
    python = VENV / "bin/python"
    if Path(sys.prefix) != VENV:
        if not python.exists():
            venv.create(VENV, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        os.execv(python, [str(python), program, *sys.argv[1:]])


class Stock:
    """Stock llama.cpp's server with a model, and a LoRA if one is given."""

    def __init__(self, model, lora=None, scale=1.0):
        arguments = [str(model)] + ([str(lora), str(scale)] if lora else [])
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __enter__(self):
        self.address = self.process.stdout.readline().strip()
        if not self.address:
            sys.exit("exchange: the stock server ended")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def complete(self, prompt):
        """Greedy tokens, and for each its most likely rivals as (token, ln p)."""
        body = {"prompt": prompt, "n_predict": N_TOKENS, "temperature": 0, "n_probs": 4, "cache_prompt": False, "ignore_eos": True,
                "repeat_penalty": 1.0}
        request = urllib.request.Request(
            self.address + "/completion", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            found = json.load(answer)
        return [(it["id"], {top["id"]: top["logprob"] for top in it["top_logprobs"]}) for it in
                found.get("completion_probabilities", [])]


class Ours:
    """`llama-svf serve` with a mixture: the same words as `run`, with their tokens."""

    def __init__(self, args, mixture):
        program = [args.program, "serve", *args.files, "--mix", mixture, "-np", "1", "-c", "1024"]
        self.server = serving.Server(program, args.folder / "server.log")

    def __enter__(self):
        self.address = self.server.__enter__().url
        return self

    def __exit__(self, *error):
        self.server.__exit__(*error)

    complete = Stock.complete


def drift(ours, stock):
    """The largest difference in ln p of equal words after equal words."""
    most = 0.0
    for (a, of_a), (b, of_b) in zip(ours, stock):
        most = max([most] + [abs(of_a[word] - of_b[word]) for word in of_a.keys() & of_b.keys()])
        if a != b:
            break
    return most


def parting(ours, stock):
    """Where two answers part, and by how much one word is likelier than the other there, in nats; None for equal ones."""
    for place, ((a, of_a), (b, of_b)) in enumerate(zip(ours, stock)):
        if a != b:
            gaps = [abs(tops[a] - tops[b]) if a in tops and b in tops else math.inf for tops in (of_a, of_b)]
            return place, min(gaps)
    return None if len(ours) == len(stock) == N_TOKENS else (min(len(ours), len(stock)), math.inf)


def svf(args, *words):
    subprocess.run([args.program, *map(str, words)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def compare(args):
    mixtures = [("a", 0.0), ("a", 0.5), ("a", 1.0), ("mix", 1.0)]
    names = {"a": f"{args.names[0]}=1", "mix": f"{args.names[0]}=0.6,{args.names[1]}=0.5"}
    with Ours(args, f"{args.names[0]}=0") as server:
        ours = [server.complete(prompt) for prompt in PROMPTS]
    with Stock(args.model) as server:
        tie = 2 * max(drift(a, server.complete(prompt)) for a, prompt in zip(ours, PROMPTS))
    print(f"a tie is a difference of at most {tie:.3f} nats")
    failed = 0
    for mixture, strength in mixtures:
        scaled = ",".join(f"{name}={float(alpha) * strength}" for name, alpha in
                          (part.split("=") for part in names[mixture].split(",")))
        with Ours(args, scaled) as server:
            ours = [server.complete(prompt) for prompt in PROMPTS]
        for form in ("lora f32", "lora f16", f"merged {args.merged}"):
            kind, ty = form.split()
            out = args.folder / f"{mixture}.{kind}.{ty}.gguf"
            if kind == "lora":
                # The strength is the scale that the stock program is given.
                svf(args, "export", "lora", *args.files, "--mix", names[mixture], "--type", ty, "-o", out, "--force")
                stock = Stock(args.model, out, strength)
            else:
                svf(args, "export", "merged", *args.files, "--mix", scaled, "--type", ty, "-o", out, "--force")
                stock = Stock(out)
            with stock as server:
                found = [parting(a, server.complete(prompt)) for a, prompt in zip(ours, PROMPTS)]
            ties = [it for it in found if it and it[1] <= tie]
            wrong = [it for it in found if it and it[1] > tie]
            failed += len(wrong)
            words = f"{len(found) - len(ties) - len(wrong)} of {len(found)} answers equal"
            words += "".join(f", a tie at token {place} ({gap:.3f} nats)" for place, gap in ties)
            words += "".join(f", ANOTHER at token {place} ({gap:.3f} nats)" for place, gap in wrong)
            print(f"{scaled:<28} {form:<11} {words}", flush=True)
    return failed


def is_float(model):
    import gguf

    types = {tensor.tensor_type.name for tensor in gguf.GGUFReader(model).tensors}
    return types <= {"F32", "F16", "BF16"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", "-m", type=Path, help="a model [default: the embedded one]")
    parser.add_argument("--svf", type=Path, help="its sidecar")
    parser.add_argument("--program", default=str(ROOT / "target/release/llama-svf"), help="our program")
    parser.add_argument("--folder", type=Path, default=ROOT / "target/exchange", help="what is made")
    args = parser.parse_args()
    ensure(STOCK + (["blake3", "numpy", "gguf"] if args.model else []))
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.model:
        import adapter_files

        sidecar, args.names, args.files = adapter_files.Sidecar(args.svf), ["a", "b"], ["-m", args.model, "--svf", args.svf]
        for seed, name in enumerate(args.names):
            path = adapter_files.write_expert(args.folder / f"{name}.expert.gguf", sidecar, name, seed)
            args.files += ["--expert", path]
    else:
        args.model, args.names, args.files = ROOT / "src/embedded/model.gguf", ["math", "code"], []
    # In a type that is not rounded much, and with which llama.cpp rounds x as with the model's own.
    args.merged = "keep" if not args.svf or is_float(args.model) else "f32"
    args.files = [str(word) for word in args.files]
    failed = compare(args)
    sys.exit(f"exchange: {failed} comparisons failed" if failed else 0)


if __name__ == "__main__":
    main()
