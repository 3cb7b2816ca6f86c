#!/usr/bin/env python3
"""Runs a model over several machines, and measures what goes over the wire between them.

    cargo build --release
    sudo scripts/several_machines.py -m MODEL.gguf --svf MODEL.svf.gguf --expert E.expert.gguf --servers 2

The machines are network namespaces of this one (`ip netns`, which needs root and Linux), each with `llama-svf rpc-server` and a wire
of its own. The same greedy answers are written here and there, by the base model and by experts, whose adapted layers run fused and
composed; that they are equal is checked. Bytes are those that the wires' interfaces count, headers of TCP included. With
--delay and --rate (`tc netem`) wires are slow. Needs nothing but Python's standard library.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROMPT = "Write a short story about a lighthouse keeper who finds a message in a bottle, and tell what it says."
PORT = 50052


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Machine:
    """One at the other end of a wire."""

    def __init__(self, number, args):
        self.name, self.here, self.address = f"svf{number}", f"svfh{number}", f"10.203.{number}.2"
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)
        ip("netns", "add", self.name)
        ip("link", "add", self.here, "type", "veth", "peer", "name", "wire", "netns", self.name)
        ip("addr", "add", f"10.203.{number}.1/24", "dev", self.here)
        ip("link", "set", self.here, "up")
        for words in [["addr", "add", f"{self.address}/24", "dev", "wire"], ["link", "set", "wire", "up"], ["link", "set", "lo", "up"]]:
            ip("-n", self.name, *words)
        command = ["ip", "netns", "exec", self.name, args.program, "rpc-server", "--host", self.address, "-t", str(args.threads)]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.endpoint = f"{self.address}:{PORT}"

    def slow(self, delay, rate):
        """Both ways, as half of the delay each."""
        words = ["netem"] + (["delay", f"{delay / 2}ms"] if delay else []) + (["rate", rate] if rate else [])
        for prefix, device in [(["tc"], self.here), (["tc", "-n", self.name], "wire")]:
            subprocess.run([*prefix, "qdisc", "del", "dev", device, "root"], capture_output=True)
            if len(words) > 1:
                done = subprocess.run([*prefix, "qdisc", "add", "dev", device, "root", *words], capture_output=True, text=True)
                if done.returncode:
                    sys.exit(f"several_machines: no slow wires, as tc says: {done.stderr.strip()} (does this kernel have netem?)")

    def bytes(self):
        folder = Path(f"/sys/class/net/{self.here}/statistics")
        return sum(int((folder / name).read_text()) for name in ["rx_bytes", "tx_bytes"])

    def end(self):
        self.server.terminate()
        self.server.wait()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)


def answer(args, machines, op, experts, n):
    """What was written, in how many tokens, and bytes and seconds that it took from the start of the process."""
    command = [args.program, "run", "-m", args.model, "--chat", "--temp", "0", "-n", str(n), "-t", str(args.threads), "-p", PROMPT]
    if experts:
        command += ["--svf", args.svf, "--op", op, *(word for expert in experts for word in ["--expert", expert])]
        command += ["--mix", ",".join(f"{Path(expert).name.split('.')[0]}=1" for expert in experts)]
    if machines:
        command += ["--rpc", ",".join(machine.endpoint for machine in machines)]
    before, began = sum(machine.bytes() for machine in machines), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"several_machines: {' '.join(map(str, command))}: {done.stderr}")
    n_generated = int(re.search(r"(\d+) generated", done.stderr)[1])
    return done.stdout, n_generated, sum(machine.bytes() for machine in machines) - before, time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", "-m", required=True)
    parser.add_argument("--svf", required=True, help="its sidecar")
    parser.add_argument("--expert", action="append", required=True, help="an expert, which answers")
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--delay", type=float, default=0, help="milliseconds to the other machine and back")
    parser.add_argument("--rate", help="of the wires, such as 100mbit")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1, help="of each machine")
    parser.add_argument("--program", default=str(ROOT / "target/release/llama-svf"))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("network namespaces need root")

    machines, rows = [], []
    try:
        machines = [Machine(number + 1, args) for number in range(args.servers)]
        time.sleep(2)
        for machine in machines:
            machine.slow(args.delay, args.rate)
        for name, op, experts in [("base model", "auto", []), ("expert, fused", "fused", args.expert), ("expert, composed", "composed", args.expert)]:
            here = answer(args, [], op, experts, args.tokens)
            short = answer(args, machines, op, experts, 1)
            long = answer(args, machines, op, experts, args.tokens)
            n = long[1] - short[1]
            rows.append({
                "what": name, "equal": here[0] == long[0], "loading_bytes": short[2], "bytes_per_token": (long[2] - short[2]) / n,
                "seconds_per_token": (long[3] - short[3]) / n, "start_seconds": short[3],
            })
    finally:
        for machine in machines:
            machine.end()
    if args.json:
        print(json.dumps(rows))
        return
    print("| | answers equal | MiB to load the model and read the prompt | seconds for it | KiB per token written | ms per token |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        print(f"| {row['what']} | {'yes' if row['equal'] else 'NO'} | {row['loading_bytes'] / 2**20:.1f} | {row['start_seconds']:.1f} |"
              f" {row['bytes_per_token'] / 1024:.1f} | {1000 * row['seconds_per_token']:.1f} |")


if __name__ == "__main__":
    main()
