#!/usr/bin/env python3
"""Lets many clients of all manners use one server for minutes, and checks that nothing wears out.

    cargo build --release
    scripts/soak_server.py                                     the embedded model with its experts, 10 minutes
    scripts/soak_server.py --minutes 60 -- target/release/llama-svf serve -m M.gguf --svf S.gguf --experts-dir DIR
    scripts/soak_server.py -- PATH/llama-server -m M.gguf      what is llama-svf's own is left out

Clients chat, complete, stream or not, with the base, an expert, a mixture, an automatic choice or a scale by lora; they
cancel at any moment, read slowly, connect and say half of something, send wrong bodies, and load and unload experts.
Several times they all pause: the server must then be idle, a fixed greedy question must get the answer that it got at the
beginning, and memory, threads and open files are measured. It fails (exit code 1), with a line for each reason, if

    the server dies, does not answer, or answers a right request wrongly or any request with a 5xx (503 excepted)
    a wrong request is not refused, or a slot or queue is busy though nobody asks
    the answer to a fixed question changes
    files or threads are left, or memory grows after the first third by more than --may-grow

The seed is printed; requests follow from it, their moments do not. Needs a Linux /proc. The Python package that it needs
goes into a virtual environment in target/.
"""

import argparse
import asyncio
import json
import random
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import serving

serving.ensure_packages(["aiohttp"])

import aiohttp

# Seconds: how long an idle server may take to be idle, a request to be answered.
IDLE, ANSWERED = 30, 120
# How many problems of a kind are shown.
SHOWN = 3
# Files and threads that may come and go: pools grow to the number of clients.
MAY_LEAVE = 4
# glibc gives threads heaps of their own, and each keeps what its largest request needed: that is no leak, but looks like one.
ONE_HEAP = {"MALLOC_ARENA_MAX": "1"}
CHAT = "/v1/chat/completions"
PROBE = "Tell me about a river and a bridge."


class Failed(Exception):
    """What the server did wrong."""


class Soak:
    def __init__(self, args, server):
        self.args, self.server = args, server
        self.counts, self.problems = Counter(), Counter()
        self.samples = []
        self.experts = self.own_experts()
        self.context = self.server.get("/props")["default_generation_settings"]["n_ctx"]
        # Half of a slot's context: an answer needs room, too.
        self.words = 50 * self.context // self.tokens_of_words()
        self.probes = {}
        self.stopping = asyncio.Event()

    def own_experts(self):
        """Names, paths and strategies of llama-svf; none of another server."""
        try:
            found = self.server.get("/v1/experts")
        except (OSError, ValueError):
            return {"data": [], "strategies": []}
        found["strategies"] = [strategy for strategy in found["strategies"] if self.can_choose(strategy)]
        return found

    def can_choose(self, strategy):
        """Whether the context has room for the prompt of a strategy."""
        body = {"messages": [{"role": "user", "content": PROBE}], "max_tokens": 1, "svf": {"adapt": strategy}}
        try:
            return self.server.post(CHAT, body) is not None
        except OSError as error:
            print(f"soak_server: strategy {strategy} is left out: {error}", file=sys.stderr)
            return False

    @property
    def names(self):
        return [expert["name"] for expert in self.experts["data"]]

    def tokens_of_words(self):
        """Tokens that a hundred words are."""
        return len(self.server.post("/tokenize", {"content": serving.prompt(0, 100)})["tokens"])

    def problem(self, kind, what=""):
        """Counts a problem, and shows the first ones of its kind."""
        self.problems[kind] += 1
        if self.problems[kind] <= SHOWN:
            print(f"soak_server: {kind}{what and f': {what}'}", file=sys.stderr, flush=True)

    # --- what is asked ---

    def adapter(self, draw):
        """Fields that choose who answers."""
        ways = [{}]
        if names := self.names:
            first, second = draw.choice(names), draw.choice(names)
            ids = [expert["id"] for expert in self.experts["data"]]
            ways += [
                {"svf": {"mix": {}}},
                {"svf": {"mix": {first: 1.0}}},
                {"svf": {"mix": {first: 0.5, second: 0.3}, "strength": 0.8}},
                {"model": first},
                {"lora": []},
                {"lora": [{"id": draw.choice(ids), "scale": round(draw.random(), 2)}]},
            ]
        for strategy in self.experts["strategies"]:
            ways += [{"model": "auto"}, {"svf": {"adapt": strategy, "threshold": round(draw.random(), 2)}}]
        return draw.choice(ways)

    def request(self, draw):
        """A path and a right body."""
        adapter = self.adapter(draw)
        # Choosing reads a prompt of its own besides.
        is_chosen = adapter.get("model") == "auto" or "adapt" in adapter.get("svf", ())
        words = serving.prompt(draw.random(), 1 + self.words // draw.choice([8, 16] if is_chosen else [1, 2, 4, 16]))
        n = draw.choice([1, 8, 24])
        path, body = draw.choice([
            (CHAT, {"messages": [{"role": "user", "content": words}], "max_tokens": n}),
            (CHAT, {"messages": [{"role": "user", "content": words}], "max_tokens": n, "logprobs": True}),
            ("/v1/completions", {"prompt": words, "max_tokens": n}),
            ("/completion", {"prompt": words, "n_predict": n}),
            ("/completion", {"prompt": words, "n_predict": n, "n_probs": 3, "ignore_eos": True}),
            ("/completion", {"prompt": words, "n_predict": n, "json_schema": {"type": "integer"}}),
            ("/v1/messages", {"messages": [{"role": "user", "content": words}], "max_tokens": n}),
            ("/v1/responses", {"input": words, "max_output_tokens": n}),
        ])
        sampling = draw.choice([{"temperature": 0}, {"temperature": 0.8, "seed": 1}, {"temperature": 1, "top_k": 5}])
        return path, body | sampling | adapter | {"stream": draw.random() < 0.6}

    def wrong(self, draw):
        """A path and bytes that must be refused."""
        chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
        bodies = [
            (CHAT, {"max_tokens": 4}),
            (CHAT, chat | {"messages": 7}),
            (CHAT, chat | {"response_format": {"type": "nothing"}}),
            (CHAT, chat | {"messages": [{"role": "user", "content": "word " * (2 * self.context)}]}),
            ("/completion", {"n_predict": 4}),
            ("/completion", {"prompt": "Hi", "n_predict": 4, "grammar": "root ::= ("}),
            ("/completion", {"prompt": [10**9], "n_predict": 4}),
            ("/nowhere", {}),
        ]
        if self.names:
            bodies += [
                (CHAT, chat | {"svf": {"mix": {"no-such-expert": 1}}}),
                (CHAT, chat | {"svf": {"mix": {self.names[0]: 1e300}}}),
                (CHAT, chat | {"svf": {"adapt": "by magic"}}),
                (CHAT, chat | {"svf": self.names}),
                ("/v1/load_lora_adapter", {"lora_name": "x", "lora_path": "../../etc/passwd"}),
                ("/v1/unload_lora_adapter", {"lora_name": "no-such-expert"}),
            ]
        texts = [b"", b"{", b"{]", b"[1, 2]", b'"\xff\xfe"', b"[" * 100_000]
        return draw.choice([(path, json.dumps(body).encode()) for path, body in bodies] + [(CHAT, t) for t in texts])

    # --- manners of clients ---

    async def whole(self, http, draw):
        """Asks and reads all of the answer."""
        path, body = self.request(draw)
        async with http.post(path, json=body) as response:
            text = await response.text()
            self.expect(response.status == 200, f"{path} {response.status}", f"{text[:200]} to {json.dumps(body)[:300]}")
            if body["stream"]:
                failed = [line for line in text.splitlines() if line.startswith('data: {"error"')]
                self.expect(not failed, f"{path} breaks off", f"{failed[:1]}")
            else:
                json.loads(text)

    async def cancelled(self, http, draw):
        """Goes away at any moment."""
        path, body = self.request(draw)
        with_tokens = body | {"max_tokens": 256, "n_predict": 256, "ignore_eos": True}
        try:
            async with asyncio.timeout(draw.expovariate(4)):
                async with http.post(path, json=with_tokens) as response:
                    await response.read()
        except TimeoutError:
            pass

    async def slow(self, http, draw):
        """Reads a long answer in small pieces, with pauses."""
        path, body = self.request(draw)
        async with http.post(path, json=body | {"stream": True, "max_tokens": 128, "n_predict": 128}) as response:
            for _ in range(20):
                if not await response.content.read(64):
                    return
                await asyncio.sleep(draw.random() / 4)

    async def half(self, http, draw):
        """Sends a part of a request, waits, and resets the connection or leaves it to the server."""
        path, body = self.request(draw)
        text = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        whole = head.encode() + text
        _, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        writer.write(whole[: draw.randrange(len(whole) + 1)])
        await asyncio.sleep(draw.random() * 2)
        if draw.random() < 0.5:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    async def refused(self, http, draw):
        """Sends what is wrong."""
        path, data = self.wrong(draw)
        async with http.post(path, data=data, headers={"Content-Type": "application/json"}) as response:
            text = await response.text()
            # 501 where the server was started without what is asked for.
            is_refused = 400 <= response.status < 500 or response.status == 501
            self.expect(is_refused, f"{path} {response.status} to a wrong body", f"{data[:200]}: {text[:200]}")
            self.expect("error" in json.loads(text), f"{path} refuses without an error", text[:200])

    async def looks(self, http, draw):
        """Reads what anybody may know."""
        path = draw.choice(["/health", "/v1/models", "/props", "/slots", "/metrics", "/lora-adapters", "/"])
        async with http.get(path) as response:
            await response.read()
            self.expect(response.status in (200, 404, 501), f"{path} {response.status}")

    async def reloads(self, http, draw):
        """Loads an expert under another name, asks it, and unloads it."""
        paths = [str(Path(expert["path"]).resolve()) for expert in self.experts["data"] if expert.get("path")]
        if not paths:
            return await self.looks(http, draw)
        name = f"soak-{draw.randrange(10**9)}"
        async with http.post("/v1/load_lora_adapter", json={"lora_name": name, "lora_path": draw.choice(paths)}) as response:
            self.expect(response.status == 200, f"load_lora_adapter {response.status}", await response.text())
        asked = {"prompt": "Once", "n_predict": 32, "svf": {"mix": {name: 1.0}}}
        answer = asyncio.create_task(self.status_of(http, "/completion", asked))
        # Half of the time it is unloaded while it is asked: a request at work keeps it, a later one is refused.
        if is_first := draw.random() < 0.5:
            await answer
        async with http.post("/v1/unload_lora_adapter", json={"lora_name": name}) as response:
            self.expect(response.status == 200, f"unload_lora_adapter {response.status}", await response.text())
        status = await answer
        self.expect(status == 200 or not is_first and 400 <= status < 500, f"a loaded expert answers {status}")

    async def status_of(self, http, path, body):
        async with http.post(path, json=body) as response:
            await response.read()
            return response.status

    def expect(self, holds, kind, what=""):
        if not holds:
            raise Failed(kind, what)

    # --- the whole ---

    async def client(self, http, draw):
        manners = [self.whole] * 8 + [self.cancelled] * 4 + [self.slow, self.half, self.half, self.looks]
        manners += [self.refused] * 2 + [self.reloads]
        while not self.stopping.is_set():
            manner = draw.choice(manners)
            self.counts[manner.__name__] += 1
            try:
                async with asyncio.timeout(ANSWERED):
                    await manner(http, draw)
            except Failed as problem:
                # A full queue and a shutdown are no faults.
                if problem.args[0].endswith((" 429", " 503")):
                    self.counts["turned away"] += 1
                else:
                    self.problem(*problem.args)
            except TimeoutError:
                self.problem(f"{manner.__name__}: no answer in {ANSWERED} s")
            except (OSError, aiohttp.ClientError, ValueError) as error:
                self.problem(f"{manner.__name__}: {type(error).__name__}", error)
            if self.server.process.poll() is not None:
                self.stopping.set()

    def session(self):
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        return aiohttp.ClientSession(self.server.url, connector=connector, read_bufsize=1024)

    async def work(self, seconds, phase):
        """All clients for some seconds."""
        self.stopping.clear()
        async with self.session() as http:
            draws = [random.Random(repr((self.args.seed, phase, index))) for index in range(self.args.clients)]
            clients = [asyncio.create_task(self.client(http, draw)) for draw in draws]
            await asyncio.wait(clients, timeout=seconds)
            self.stopping.set()
            await asyncio.gather(*clients)

    async def pause(self):
        """What holds when nobody asks."""
        began = time.perf_counter()
        while busy := await asyncio.to_thread(self.busy):
            if time.perf_counter() - began > IDLE:
                return self.problem(f"busy though nobody asks, after {IDLE} s", busy)
            await asyncio.sleep(0.2)
        await self.probe()
        sample = {
            "memory": self.server.memory("VmRSS"),
            "files": self.server.count("fd"),
            "threads": self.server.count("task"),
        }
        self.samples.append(sample)
        print(
            f"{len(self.samples):3}  {sum(self.counts.values()):6} requests, {self.problems.total()} problems, "
            f"{sample['memory']:.1f} MB, {sample['files']} files, {sample['threads']} threads",
            file=sys.stderr, flush=True,
        )

    def busy(self):
        """What /slots and /metrics say is at work."""
        found = []
        for path, read in (("/slots", self.busy_slots), ("/metrics", self.busy_metrics)):
            try:
                found += read()
            except (OSError, ValueError) as error:
                # llama-server has either only where a flag asks for it.
                if getattr(error, "code", None) not in (404, 501):
                    found.append(f"{path}: {error}")
        return found

    def busy_slots(self):
        return [f"slot {slot['id']}" for slot in self.server.get("/slots") if slot["is_processing"]]

    def busy_metrics(self):
        lines = self.server.text("/metrics").splitlines()
        kinds = ("llamacpp:requests_processing ", "llamacpp:requests_deferred ")
        return [line for line in lines if line.startswith(kinds) and float(line.split()[1]) != 0]

    async def probe(self):
        """A fixed question, alone: each way of asking gets the answer that it got first."""
        ways = {"base": {}}
        if self.names:
            ways |= {f"expert {name}": {"svf": {"mix": {name: 1.0}}} for name in self.names[:3]}
            ways["mixture"] = {"svf": {"mix": {name: 0.4 for name in self.names[:3]}}}
        for strategy in self.experts["strategies"]:
            ways[strategy] = {"svf": {"adapt": strategy}}
        body = {"messages": [{"role": "user", "content": PROBE}], "max_tokens": 32, "temperature": 0}
        # What was read before, in other batches, may round otherwise.
        body |= {"cache_prompt": False, "ignore_eos": True}
        for name, adapter in ways.items():
            try:
                answer = await asyncio.to_thread(self.server.post, CHAT, body | adapter)
                text = answer["choices"][0]["message"]["content"]
            except (OSError, ValueError, KeyError) as error:
                self.problem(f"the fixed question to {name} fails", error)
                continue
            if text != self.probes.setdefault(name, text):
                self.problem(f"another answer to {name}", f"{text!r}, where it was {self.probes[name]!r}")

    async def run(self):
        await self.pause()
        each = 60 * self.args.minutes / self.args.pauses
        for phase in range(self.args.pauses):
            await self.work(each, phase)
            if self.server.process.poll() is not None:
                code = self.server.process.returncode
                return self.problem(f"the server is gone, with {code}", self.server.last_words())
            await self.pause()
        self.check_growth()

    def check_growth(self):
        # Caches and pools fill in the first third.
        settled = self.samples[1 + len(self.samples) // 3 :]
        if len(settled) < 2 or any(value is None for sample in settled for value in sample.values()):
            return self.problem("too few measurements of memory to compare")
        # Of several the least: what garbage happens to lie around is no growth.
        half = len(settled) // 2
        for key, may_grow in (("memory", self.args.may_grow), ("files", MAY_LEAVE), ("threads", MAY_LEAVE)):
            before, after = (min(sample[key] for sample in part) for part in (settled[:half], settled[half:]))
            if after > before + may_grow:
                self.problem(f"{key} grew", f"from {before:.1f} to {after:.1f}")
        first, last = self.samples[0]["files"], self.samples[-1]["files"]
        if last > first + MAY_LEAVE:
            self.problem("files are left open", f"{first} at the beginning, {last} at the end")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", nargs="*", metavar="COMMAND", help="the server, after --, without host and port")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--pauses", type=int, default=12, help="how often everything is checked on the idle server")
    parser.add_argument("--may-grow", type=float, default=8, metavar="MB", help="memory after the first third")
    parser.add_argument("--seed", type=int, help="of the requests (default: another each time)")
    parser.add_argument("--json", action="store_true", help="print the result for programs")
    args = parser.parse_args()
    if not Path("/proc/self/status").exists():
        sys.exit("soak_server: needs a Linux /proc")
    args.seed = random.randrange(10**9) if args.seed is None else args.seed
    command = args.server or [serving.ROOT / "target/release/llama-svf", "serve", "-np", "4", "-c", "4096", "--metrics"]
    print(f"soak_server: seed {args.seed}, {args.minutes:g} minutes: {' '.join(map(str, command))}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        try:
            with serving.Server(command, Path(folder) / "log", ONE_HEAP) as server:
                soak = Soak(args, server)
                asyncio.run(soak.run())
                code = server.stop()
                if not soak.problems and code != 0:
                    soak.problem(f"asked to end, the server ended with {code}", server.last_words())
        except serving.Died as error:
            sys.exit(f"soak_server: {error}")
        except KeyboardInterrupt:
            sys.exit(130)
    result = {"seed": args.seed, "requests": soak.counts, "samples": soak.samples, "problems": soak.problems}
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        asked = ", ".join(f"{n} {manner}" for manner, n in soak.counts.most_common())
        print(asked)
        for kind, n in soak.problems.most_common():
            print(f"failed {n} times: {kind}")
        print("not in order" if soak.problems else "all in order")
    sys.exit(1 if soak.problems else 0)


if __name__ == "__main__":
    main()
