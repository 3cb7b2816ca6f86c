#!/usr/bin/env python3
"""Compares one optimisation step of `llama-svf train` with the same step in PyTorch, on the CPU.

    llama-svf decompose -m MODEL -o SIDECAR --tensors all --type f16      (any llama model)
    cargo build --release --example gradient_step
    scripts/compare_training.py MODEL SIDECAR

The same batch, the same factors, the same number of threads, in turn. PyTorch composes W' = U diag(sigma m) V^T of
every adapted weight as the released code of the paper does, runs the answers right-padded in one batch, computes logits
only where tokens were sampled, and differentiates with autograd. Both then clip and take a step of Adam. Memory is the
peak of the resident set less what the process held before its first step.

Needs Python 3.10 or later with torch, numpy and gguf.
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("sidecar", type=Path)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=48)
    parser.add_argument("--answer-tokens", type=int, nargs=2, default=(20, 60), metavar=("LEAST", "MOST"))
    parser.add_argument("--kl", type=float, default=0.0, help="weight of the KL penalty, both sides")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--micro-batch", type=int, default=0, help="sequences at a time in PyTorch (0: all)")
    parser.add_argument("--torch", metavar="BATCH", help=argparse.SUPPRESS)
    parser.add_argument("--gradient", help=argparse.SUPPRESS)
    return parser.parse_args()


def batch(args, n_vocab):
    draw = random.Random(1)
    tokens = lambda n: [draw.randrange(3, n_vocab) for _ in range(n)]
    groups = []
    for _ in range(args.prompts):
        lengths = [draw.randint(*args.answer_tokens) for _ in range(args.samples)]
        rollouts = [{"tokens": tokens(n), "advantage": draw.uniform(-1, 1)} for n in lengths]
        groups.append({"prompt": tokens(args.prompt_tokens), "rollouts": rollouts})
    return groups


# --- PyTorch -----------------------------------------------------------------------------------------------


def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def run_torch(args):
    import gguf
    import numpy as np
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(args.threads)

    def read(path):
        reader = gguf.GGUFReader(path)
        tensors = {}
        for t in reader.tensors:
            values = gguf.quants.dequantize(t.data, t.tensor_type).reshape(list(reversed([int(n) for n in t.shape])))
            tensors[t.name] = torch.from_numpy(np.array(values, dtype=np.float32))
        return reader, tensors

    reader, tensors = read(args.model)
    sidecar, factors = read(args.sidecar)
    field = lambda name: reader.fields[f"llama.{name}"].contents()
    layers, heads = field("block_count"), field("attention.head_count")
    kv_heads = field("attention.head_count_kv") if "llama.attention.head_count_kv" in reader.fields else heads
    eps, width = field("attention.layer_norm_rms_epsilon"), field("embedding_length")
    base = field("rope.freq_base") if "llama.rope.freq_base" in reader.fields else 10000.0
    size = width // heads
    names = [t.name.removesuffix(".svf_s") for t in sidecar.tensors if t.name.endswith(".svf_s")]
    parts = {n: [factors[f"{n}.svf_{part}"] for part in ("u", "s", "vt")] for n in names}
    m = [torch.ones(len(parts[n][1]), requires_grad=True) for n in names]
    output = tensors.get("output.weight", tensors["token_embd.weight"])

    groups = json.load(open(args.torch))
    rows = [(g["prompt"] + r["tokens"], len(g["prompt"]), r["advantage"]) for g in groups for r in g["rollouts"]]
    n_rows = len(rows)

    def rotate(x, cos, sin):
        even, odd = x[..., ::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)

    def hidden(w, tokens, cos, sin):
        x = F.embedding(tokens, tensors["token_embd.weight"])
        n, length, _ = x.shape
        for i in range(layers):
            get = lambda part: w.get(f"blk.{i}.{part}.weight", tensors[f"blk.{i}.{part}.weight"])
            y = F.rms_norm(x, (width,), get("attn_norm"), eps)
            q, k, v = (
                F.linear(y, get(part)).view(n, length, -1, size).transpose(1, 2) for part in ("attn_q", "attn_k", "attn_v")
            )
            q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=kv_heads != heads)
            x = x + F.linear(y.transpose(1, 2).reshape(n, length, -1), get("attn_output"))
            y = F.rms_norm(x, (width,), get("ffn_norm"), eps)
            x = x + F.linear(F.silu(F.linear(y, get("ffn_gate"))) * F.linear(y, get("ffn_up")), get("ffn_down"))
        return F.rms_norm(x, (width,), tensors["output_norm.weight"], eps)

    def objective(w, rows):
        length = max(len(tokens) for tokens, _, _ in rows)
        tokens = torch.zeros(len(rows), length, dtype=torch.long)
        for i, (ids, _, _) in enumerate(rows):
            tokens[i, : len(ids)] = torch.tensor(ids)
        at = [(i, t) for i, (ids, n, _) in enumerate(rows) for t in range(n - 1, len(ids) - 1)]
        i, t = (torch.tensor(index) for index in zip(*at))
        advantage = torch.tensor([rows[j][2] for j in i.tolist()])
        frequencies = base ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
        angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies)
        cos, sin = angles.cos().float(), angles.sin().float()
        log_pi = (hidden(w, tokens, cos, sin)[i, t] @ output.T).log_softmax(-1)
        total = (advantage * log_pi[torch.arange(len(i)), tokens[i, t + 1]]).sum()
        if args.kl:
            with torch.no_grad():
                ones = {n: (u * s) @ vt for n, (u, s, vt) in parts.items()}
                log_base = (hidden(ones, tokens, cos, sin)[i, t] @ output.T).log_softmax(-1)
            total = total - args.kl * (log_pi.exp() * (log_pi - log_base)).sum()
        return total / n_rows

    optimiser = torch.optim.Adam(m, lr=1e-3, maximize=True)
    before, seconds = peak(), []
    for step in range(args.steps):
        began = time.perf_counter()
        optimiser.zero_grad()
        size_of_part = args.micro_batch or n_rows
        for first in range(0, n_rows, size_of_part):
            w = {n: (parts[n][0] * (parts[n][1] * m_n)) @ parts[n][2] for n, m_n in zip(names, m)}
            objective(w, rows[first : first + size_of_part]).backward()
        if step == 0:
            np.concatenate([m_n.grad.numpy() for m_n in m]).astype("<f4").tofile(args.gradient)
        torch.nn.utils.clip_grad_norm_(m, 1.0)
        optimiser.step()
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": seconds, "before": before, "peak": peak()}))


# --- both in turn ------------------------------------------------------------------------------------------


def main():
    args = parse()
    if args.torch:
        return run_torch(args)
    import gguf
    import numpy as np

    n_vocab = next(int(t.shape[1]) for t in gguf.GGUFReader(args.model).tensors if t.name == "token_embd.weight")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "batch.json"
        path.write_text(json.dumps(batch(args, n_vocab)))
        shared = ["--steps", args.steps, "--threads", args.threads, "--kl", args.kl]
        ours = [ROOT / "target/release/examples/gradient_step", "--model", args.model, "--svf", args.sidecar]
        ours += ["--batch", path, "--gradient", Path(folder) / "ours", *shared]
        theirs = [sys.executable, __file__, args.model, args.sidecar, "--torch", path, *shared]
        theirs += ["--gradient", Path(folder) / "theirs", "--micro-batch", args.micro_batch]
        found = {"llama-svf": [], "PyTorch": []}
        for _ in range(args.rounds):
            for name, command in (("llama-svf", ours), ("PyTorch", theirs)):
                done = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True)
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
        a, b = (np.fromfile(Path(folder) / name, "<f4").astype(float) for name in ("ours", "theirs"))

    def time_of(name):
        # The first step of a process allocates and warms up.
        return statistics.median(s for run in found[name] for s in run["seconds"][1:])

    def memory_of(name):
        return max(run["peak"] - run["before"] for run in found[name]) / 2**20

    print(f"gradients: cosine {a @ b / np.linalg.norm(a) / np.linalg.norm(b):.8f}, ", end="")
    print(f"relative L2 {np.linalg.norm(a - b) / np.linalg.norm(b):.1e}")
    for name in found:
        print(f"{name:<10} {time_of(name):8.3f} s per step  {memory_of(name):8.0f} MiB at the peak")
    print(f"ratio      {time_of('PyTorch') / time_of('llama-svf'):8.2f} x           ", end="")
    print(f"{memory_of('PyTorch') / memory_of('llama-svf'):8.2f} x")


if __name__ == "__main__":
    main()
