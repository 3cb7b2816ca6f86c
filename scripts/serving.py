"""What compare_server.py and soak_server.py share: Python packages, servers at work, prompts, and answers that stream."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / "target" / "serving-venv"
# Seconds within which a server must answer after its start, and be gone after SIGTERM.
START, STOP = 120, 15


def ensure_packages(packages):
    """Restarts the script in a virtual environment of its own if a package is missing."""
    try:
        for package in packages:
            __import__(package)
        return
    except ImportError as missing:
        if os.environ.get("SVF_SERVING_VENV"):
            sys.exit(f"{missing} (hint: remove {VENV} and try again)")
    python = VENV / "bin" / "python"
    has = [python, "-c", "\n".join(f"import {package}" for package in packages)]
    if not python.exists() or subprocess.run(has, capture_output=True).returncode != 0:
        print(f"installing {', '.join(packages)} into {VENV}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages], check=True)
    os.execve(python, [str(python), *sys.argv], {**os.environ, "SVF_SERVING_VENV": "1"})


class Died(Exception):
    """A server does not start, or is gone."""


class Server:
    """A server process; stopped when the `with` block ends, or the script is asked to."""

    def __init__(self, command, log, environment=()):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        self.environment = {**os.environ, **dict(environment)}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [str(part) for part in (*command, "--host", "127.0.0.1", "--port", self.port)]
        self.log = Path(log)

    def __enter__(self):
        began = time.perf_counter()
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment
            )
        while not self.is_healthy():
            if self.process.poll() is not None or time.perf_counter() - began > START:
                self.stop()
                raise Died(f"{' '.join(self.command)} does not start:\n{self.last_words()}")
            time.sleep(0.02)
        self.start_seconds = time.perf_counter() - began
        return self

    def __exit__(self, *_):
        self.stop()

    def is_healthy(self):
        try:
            return self.get("/health") is not None
        except (OSError, ValueError):
            return False

    def text(self, path, timeout=5.0):
        """What is to be read at `path`."""
        with urllib.request.urlopen(self.url + path, timeout=timeout) as response:
            return response.read().decode()

    def get(self, path):
        """The JSON at `path`."""
        return json.loads(self.text(path))

    def post(self, path, body, timeout=60.0):
        """The JSON that `path` answers `body` with."""
        head = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), head)
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return json.load(response)

    def memory(self, name):
        """MB of the process: VmRSS (now) or VmHWM (the most so far); `None` where there is no /proc."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{name}:")), None)

    def count(self, folder):
        """How many open files ("fd") or threads ("task") the process has; `None` where there is no /proc."""
        try:
            return len(os.listdir(f"/proc/{self.process.pid}/{folder}"))
        except OSError:
            return None

    def last_words(self, n_lines=15):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-n_lines:])

    def stop(self):
        """Asks the process to end, then makes it; gives the exit code, `None` if it had to be killed."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                return self.process.wait(STOP)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                return None
        return self.process.returncode


# --- prompts -----------------------------------------------------------------------------------------------

WORDS = """river mountain glass magnet copper wire plant moon winter garden teacher engine bridge letter market window
story music stone bread paper silver forest island doctor pocket summer village candle mirror basket ladder harbour
carpet needle orange planet ribbon saddle timber tunnel valley walnut yellow quiet heavy narrow bright ancient hollow
gentle bitter sudden common distant clever patient careful broken carries follows opens breaks turns watches answers
brings counts draws finds grows holds keeps learns moves paints reads sends tells under behind beyond between without
against during because although while before after""".split()


def prompt(seed, n_words):
    """Words as a user might ask about, equal for equal seeds. `seed` is anything that has a `repr`."""
    draw = random.Random(repr(seed))
    return f"Write a story about this: {' '.join(draw.choice(WORDS) for _ in range(n_words))}."


# --- answers -----------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """What came of a request."""

    status: int = 0
    # Seconds from the request to the first piece of text, and to the end.
    first: float | None = None
    seconds: float = 0.0
    text: str = ""
    n_prompt: int = 0
    n_tokens: int = 0
    error: str | None = None


def piece_of(chunk):
    """The piece of text that a chunk of a chat or completion carries."""
    if "content" in chunk:
        return chunk["content"] or ""
    choice = next(iter(chunk.get("choices") or ()), {})
    return choice.get("text") or choice.get("delta", {}).get("content") or ""


async def events(response):
    """The objects of a stream of server-sent events; comments and [DONE] left out."""
    async for line in response.content:
        if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
            yield json.loads(line[len(b"data: ") :])


async def ask(session, url, body):
    """The answer to a request that streams. An error is part of it."""
    import aiohttp

    answer, began = Answer(), time.perf_counter()
    try:
        async with session.post(url, json=body) as response:
            answer.status = response.status
            if response.status != 200:
                answer.error = (await response.text())[:300]
                return answer
            async for chunk in events(response):
                if "error" in chunk:
                    answer.error = json.dumps(chunk["error"])
                piece = piece_of(chunk)
                if piece and answer.first is None:
                    answer.first = time.perf_counter() - began
                answer.text += piece
                if usage := chunk.get("usage"):
                    answer.n_prompt, answer.n_tokens = usage["prompt_tokens"], usage["completion_tokens"]
    except (OSError, ValueError, KeyError, aiohttp.ClientError) as error:
        answer.error = f"{type(error).__name__}: {error}"
    answer.seconds = time.perf_counter() - began
    return answer
