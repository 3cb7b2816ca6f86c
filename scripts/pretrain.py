#!/usr/bin/env python3
"""Pretrains the embedded model, src/embedded/model.gguf, from a fixed seed.

The corpus comes from the project's own generator (`examples/skill_corpus.rs`). The model is a small llama as
llama.cpp computes it: RMSNorm, RoPE on neighbouring pairs, SwiGLU, tied embeddings. Its tokenizer is a
byte-level BPE with qwen2's way of splitting text, in which every digit is a token of its own.

    cargo run --release --example skill_corpus -- -o target/pretrain
    scripts/pretrain.py target/pretrain -o src/embedded/model.gguf

It saves its state into the corpus folder as it goes, and goes on from there when it is started again. Needs
Python 3.10 or later with torch, tokenizers and gguf (a virtual environment outside the repository will do:
`python3 -m venv VENV && VENV/bin/pip install torch tokenizers gguf`). The CPU is enough. Another run on the
same machine and versions is meant to give the same model; other machines round differently.
"""

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path

import gguf
import numpy as np
import tokenizers
import torch
import torch.nn.functional as F
from tokenizers import decoders, models, pre_tokenizers, trainers
from torch import nn

# The pattern llama.cpp uses for tokenizer.ggml.pre = "qwen2".
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' "
    "+ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTEXT = 256
EPS = 1e-5
ROPE_BASE = 10000.0
# How much a prompt's tokens count in the loss, beside an answer's: enough to learn what words go together.
PROMPT_WEIGHT = 0.05
# Texts are padded to a multiple of this, in batches of similar length.
LENGTH_STEP = 16


# --- tokenizer ---------------------------------------------------------------------------------------------


def train_tokenizer(texts, size):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(QWEN2), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - 3,
        min_frequency=50,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([START, END, PAD])
    return tokenizer


def render(prompt):
    """The chat template, applied to one message of the user."""
    return f"{START}user\n{prompt}{END}\n{START}assistant\n"


# --- model -------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """One transformer block on x [batch, time, width]; weights are [out, in], as in llama.cpp."""

    def __init__(self, width, heads, ffn):
        super().__init__()
        self.heads = heads
        self.attn_norm = nn.RMSNorm(width, EPS)
        self.attn_q, self.attn_k, self.attn_v, self.attn_output = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.ffn_norm = nn.RMSNorm(width, EPS)
        self.ffn_gate, self.ffn_up = (nn.Linear(width, ffn, bias=False) for _ in range(2))
        self.ffn_down = nn.Linear(ffn, width, bias=False)

    def forward(self, x, rope, mask=None, cache=None):
        batch, length, width = x.shape
        y = self.attn_norm(x)
        q, k, v = (
            linear(y).view(batch, length, self.heads, -1).transpose(1, 2)
            for linear in (self.attn_q, self.attn_k, self.attn_v)
        )
        q, k = rotate(q, rope), rotate(k, rope)
        if cache is not None:
            k, v = cache.extend(self, k, v)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        x = x + self.attn_output(y.transpose(1, 2).reshape(batch, length, width))
        y = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(y)) * self.ffn_up(y))


def rotate(x, rope):
    """RoPE on pairs of neighbouring components (llama.cpp's "norm" layout)."""
    cos, sin = rope
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Llama(nn.Module):
    def __init__(self, vocabulary, width, layers, heads, ffn):
        super().__init__()
        self.config = dict(vocabulary=vocabulary, width=width, layers=layers, heads=heads, ffn=ffn)
        self.token_embd = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width, heads, ffn) for _ in range(layers))
        self.output_norm = nn.RMSNorm(width, EPS)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
                if name.endswith(("attn_output.weight", "ffn_down.weight")):
                    parameter.data /= (2 * layers) ** 0.5
        size = width // heads
        frequencies = ROPE_BASE ** (-torch.arange(0, size, 2).float() / size)
        angles = torch.outer(torch.arange(CONTEXT).float(), frequencies)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def hidden(self, tokens, positions=None, mask=None, cache=None):
        if positions is None:
            rope = (self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]])
        else:
            rope = (self.cos[positions][:, None], self.sin[positions][:, None])
        x = self.token_embd(tokens)
        for block in self.blocks:
            x = block(x, rope, mask, cache)
        return self.output_norm(x)

    def forward(self, tokens, targets, weights):
        """Mean weighted cross-entropy."""
        logits = self.hidden(tokens) @ self.token_embd.weight.T
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return (losses * weights.flatten()).sum() / weights.sum()


# --- optimiser ---------------------------------------------------------------------------------------------


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by Newton-Schulz steps (Keller Jordan, 2024). Matrices of one
    shape go together."""

    def __init__(self, parameters, lr, momentum=0.95):
        super().__init__(list(parameters), dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for p in group["params"]:
                state = self.state[p]
                buffer = state.setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(buffer, group["momentum"])
                shapes.setdefault(p.shape, []).append((p, update))
            for (rows, columns), members in shapes.items():
                updates = orthogonal(torch.stack([update for _, update in members]))
                scale = max(1, rows / columns) ** 0.5
                for (p, _), update in zip(members, updates):
                    p.add_(update, alpha=-group["lr"] * scale)


def orthogonal(g, steps=5):
    a, b, c = 3.4445, -4.7750, 2.0315
    transposed = g.shape[1] > g.shape[2]
    x = g.mT if not transposed else g
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(steps):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    return (x if transposed else x.mT).float()


# --- generation, to see what it has learnt --------------------------------------------------------------------


class Cache:
    def __init__(self):
        self.blocks = {}

    def extend(self, block, k, v):
        if block in self.blocks:
            old_k, old_v = self.blocks[block]
            k, v = torch.cat((old_k, k), 2), torch.cat((old_v, v), 2)
        self.blocks[block] = (k, v)
        return k, v


@torch.no_grad()
def generate(model, tokenizer, prompts, temperature=0.0, n_tokens=100, seed=0):
    """Completions of all prompts together, padded on the left."""
    end, pad = tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)
    rows = [tokenizer.encode(render(prompt)).ids for prompt in prompts]
    length = max(map(len, rows))
    tokens = torch.tensor([[pad] * (length - len(row)) + row for row in rows])
    padding = torch.tensor([length - len(row) for row in rows])
    positions = (torch.arange(length)[None] - padding[:, None]).clamp(min=0)
    seen = torch.arange(length)[None] >= padding[:, None]
    # Padding may look at itself, so that no row of the softmax is empty.
    mask = (torch.tril(torch.ones(length, length, dtype=torch.bool)) & seen[:, None]) | torch.eye(length, dtype=torch.bool)
    random_state = torch.Generator().manual_seed(seed)
    cache, written = Cache(), []
    done = torch.zeros(len(rows), dtype=torch.bool)
    hidden = model.hidden(tokens, positions, mask[:, None], cache)
    for _ in range(n_tokens):
        logits = hidden[:, -1] @ model.token_embd.weight.T
        if temperature == 0:
            token = logits.argmax(-1)
        else:
            token = torch.multinomial((logits / temperature).softmax(-1), 1, generator=random_state)[:, 0]
        written.append(torch.where(done, end, token))
        done |= token == end
        if done.all():
            break
        seen = torch.cat((seen, torch.ones(len(rows), 1, dtype=torch.bool)), 1)
        position = (seen.sum(1, keepdim=True) - 1).clamp(max=CONTEXT - 1)
        hidden = model.hidden(token[:, None], position, seen[:, None, None], cache)
    rows = torch.stack(written, 1).tolist()
    return [tokenizer.decode(row[: row.index(end)] if end in row else row).rstrip() for row in rows]


def short_answer(completion):
    return completion.rpartition("Answer: ")[2].split("\n")[0].strip() if "Answer: " in completion else None


def accuracies(model, tokenizer, items, n_items, samples=0):
    """Per task: greedy accuracy, and how many items any of `samples` samples at temperature 1 solves."""
    model.eval()
    result = {}
    for task in dict.fromkeys(item["task"] for item in items):
        chosen = [item for item in items if item["task"] == task][:n_items]
        solved, any_solved = 0, 0
        for i in range(0, len(chosen), 250):
            part = chosen[i : i + 250]
            prompts, answers = [item["prompt"] for item in part], [item["answer"] for item in part]

            def right(temperature, seed):
                texts = generate(model, tokenizer, prompts, temperature, seed=seed)
                return np.array([short_answer(text) == answer for text, answer in zip(texts, answers)])

            solved += right(0.0, 0).sum()
            if samples:
                any_solved += np.any([right(1.0, seed) for seed in range(samples)], 0).sum()
        result[task] = (solved / len(chosen), any_solved / len(chosen)) if samples else solved / len(chosen)
    model.train()
    return result


# --- data ------------------------------------------------------------------------------------------------------


def encode(tokenizer, lines):
    """Token ids of every text and where its answer begins."""
    texts = []
    for i in range(0, len(lines), 10_000):
        part = lines[i : i + 10_000]
        prompts = tokenizer.encode_batch([render(line["prompt"]) for line in part])
        answers = tokenizer.encode_batch([f"{line['completion']}{END}" for line in part])
        texts += [(np.array(p.ids + a.ids, dtype=np.int16), len(p.ids)) for p, a in zip(prompts, answers)]
    return texts


def batches(texts, tokens_per_batch, seed):
    """An endless, seeded sequence of lists of indices, each of texts of similar length."""
    epoch = 0
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(len(texts))
        buckets, full = {}, []
        for i in order:
            length = -(-len(texts[i][0]) // LENGTH_STEP) * LENGTH_STEP
            bucket = buckets.setdefault(length, [])
            bucket.append(i)
            if len(bucket) * length >= tokens_per_batch:
                full.append(bucket)
                buckets[length] = []
        # Short texts fill a batch later than long ones: mix them.
        random.Random(f"{seed} {epoch}").shuffle(full)
        yield from full
        epoch += 1


def assemble(texts, indices, pad):
    length = max(len(texts[i][0]) for i in indices)
    length = -(-length // LENGTH_STEP) * LENGTH_STEP
    tokens = np.full((len(indices), length + 1), pad, dtype=np.int64)
    weights = np.zeros((len(indices), length), dtype=np.float32)
    for row, i in enumerate(indices):
        ids, answer = texts[i]
        tokens[row, : len(ids)] = ids
        weights[row, : answer - 1] = PROMPT_WEIGHT
        weights[row, answer - 1 : len(ids) - 1] = 1
    tokens = torch.from_numpy(tokens)
    return tokens[:, :-1], tokens[:, 1:], torch.from_numpy(weights)


# --- files -----------------------------------------------------------------------------------------------------


def write_gguf(path, model, tokenizer, seed, steps):
    config, temporary = model.config, f"{path}.tmp"
    writer = gguf.GGUFWriter(temporary, "llama")
    writer.add_name("llama-svf embedded")
    writer.add_description(f"synthetic math, code and reasoning; seed {seed}, {steps} steps")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config["width"])
    writer.add_block_count(config["layers"])
    writer.add_feed_forward_length(config["ffn"])
    writer.add_head_count(config["heads"])
    writer.add_head_count_kv(config["heads"])
    writer.add_layer_norm_rms_eps(EPS)
    writer.add_rope_dimension_count(config["width"] // config["heads"])
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_vocab_size(config["vocabulary"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    inner = json.loads(tokenizer.to_str())["model"]
    special = [START, END, PAD]
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    writer.add_token_list(tokens)
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_token_types([control if token in special else normal for token in tokens])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in inner["merges"]])
    writer.add_bos_token_id(tokenizer.token_to_id(PAD))
    writer.add_eos_token_id(tokenizer.token_to_id(END))
    writer.add_pad_token_id(tokenizer.token_to_id(PAD))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, value in model.state_dict().items():
        name = name.replace("blocks.", "blk.")
        ty = np.float16 if value.dim() == 2 else np.float32
        writer.add_tensor(name, value.numpy().astype(ty))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(temporary, path)


def save(path, state):
    torch.save(state, f"{path}.tmp")
    os.replace(f"{path}.tmp", path)


# --- main ------------------------------------------------------------------------------------------------------


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="folder with pretrain.jsonl and items.jsonl")
    parser.add_argument("-o", "--output", type=Path, required=True, help="GGUF file to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=4096, help="tokens per step")
    parser.add_argument("--vocabulary", type=int, default=768)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--ffn", type=int, default=384)
    parser.add_argument("--lr", type=float, default=0.02, help="of Muon; AdamW's is an eighth")
    parser.add_argument("--decay", type=float, default=0.4, help="part of the steps over which the rate falls to 0")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--look", type=int, default=250, help="steps between looks at the accuracy")
    return parser.parse_args()


def main():
    args = parse()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)

    def log(text):
        print(text, file=sys.stderr, flush=True)

    lines = [json.loads(line) for line in open(args.corpus / "pretrain.jsonl")]
    items = [json.loads(line) for line in open(args.corpus / "items.jsonl")]
    tokenizer_file = args.corpus / "tokenizer.json"
    if tokenizer_file.exists():
        tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_file))
    else:
        sample = lines[:50_000]
        texts = [f"user\n{line['prompt']}\nassistant\n{line['completion']}" for line in sample]
        tokenizer = train_tokenizer(texts, args.vocabulary)
        tokenizer.save(str(tokenizer_file))
    texts = encode(tokenizer, lines)
    n_tokens = sum(len(ids) for ids, _ in texts)
    longest = max(len(ids) for ids, _ in texts)
    log(f"{len(texts)} texts, {n_tokens / len(texts):.1f} tokens each, at most {longest}")

    model = Llama(tokenizer.get_vocab_size(), args.width, args.layers, args.heads, args.ffn)
    matrices = [p for name, p in model.named_parameters() if p.dim() == 2 and name != "token_embd.weight"]
    others = [p for name, p in model.named_parameters() if p.dim() != 2 or name == "token_embd.weight"]
    optimisers = [
        Muon(matrices, args.lr),
        torch.optim.AdamW(others, args.lr / 8, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    rates = [group["lr"] for optimiser in optimisers for group in optimiser.param_groups]
    log(f"vocabulary {tokenizer.get_vocab_size()}, {sum(p.numel() for p in model.parameters())} parameters")

    checkpoint, first, seen, seconds = args.corpus / "checkpoint.pt", 0, 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        if state["arguments"] != recipe(args):
            raise SystemExit(f"pretrain: {checkpoint} belongs to other arguments (hint: remove it)")
        model.load_state_dict(state["model"])
        for optimiser, saved in zip(optimisers, state["optimisers"]):
            optimiser.load_state_dict(saved)
        first, seen, seconds = state["step"], state["tokens"], state["seconds"]
        log(f"going on after step {first}")

    order = batches(texts, args.batch, args.seed)
    for _ in range(first):
        next(order)
    pad, started, average = tokenizer.token_to_id(PAD), time.monotonic(), None
    for step in range(first, args.steps):
        factor = min(1.0, (step + 1) / 50, (args.steps - step) / (args.decay * args.steps))
        for optimiser, rate in zip(optimisers, rates):
            optimiser.param_groups[0]["lr"] = rate * factor
        indices = next(order)
        loss = model(*assemble(texts, indices, pad))
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        seen += sum(len(texts[i][0]) for i in indices)
        average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
        done = step + 1
        if done % 50 == 0 or done == args.steps:
            elapsed = seconds + time.monotonic() - started
            eta = elapsed / done * (args.steps - done)
            log(f"step {done}/{args.steps} loss {average:.4f} {seen / elapsed:.0f} tokens/s, {eta / 60:.1f} min left")
        if done % args.look == 0:
            found = accuracies(model, tokenizer, items, 60)
            log("  greedy " + ", ".join(f"{task} {value:.2f}" for task, value in found.items()))
        if done % 100 == 0 or done == args.steps:
            saved = [optimiser.state_dict() for optimiser in optimisers]
            save(
                checkpoint,
                dict(
                    arguments=recipe(args),
                    model=model.state_dict(),
                    optimisers=saved,
                    step=done,
                    tokens=seen,
                    seconds=seconds + time.monotonic() - started,
                ),
            )
    # What is measured is what is written.
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data = parameter.data.half().float()
    write_gguf(args.output, model, tokenizer, args.seed, args.steps)
    log(f"{seen} tokens; wrote {args.output}, {args.output.stat().st_size / 1e6:.2f} MB")
    for task, (greedy, samples) in accuracies(model, tokenizer, items, 500, 8).items():
        print(f"{task}: greedy {greedy:.3f}, any of 8 samples {samples:.3f}")


def recipe(args):
    """The arguments that make a model what it is."""
    return {name: value for name, value in vars(args).items() if name not in ("corpus", "output", "threads", "look")}


if __name__ == "__main__":
    main()
