#!/usr/bin/env python3
"""Compares a step of `llama-svf train` with the same step in PyTorch, and in TRL as people run it, on the CPU.

    scripts/fetch_model.py smollm2-135m models --type q8_0
    llama-svf decompose -m MODEL -o SIDECAR --tensors ffn --rank 64
    cargo build --release --example gradient_step --bin llama-svf
    scripts/compare_training.py MODEL SIDECAR --questions arc_easy.jsonl.gz

Multiple-choice questions in the model's chat template, several short answers to each. In turn, each with the same number of threads:

    llama-svf   `train`: writes the answers, scores them, steps
    PyTorch     transformers reads the same file, dequantized to F32, writes with `generate`, and steps by autograd through the factors,
                which are put beside each weight as a LoRA is, with logits only where answers are. It takes a part of the answers at a time
    TRL         GRPOTrainer with a LoRA of peft (rank 16, the same matrices), as its documentation has it; two steps in the first round only,
                because they take minutes (--no-trl leaves it out)

The gradient alone is compared on the answers that PyTorch wrote: the same tokens, the same advantages, and it has to be the same
gradient. Memory is the most that a process held, with the model, its libraries and all else. The packages come from PyPI into
target/training-venv (3 GB).
"""

import argparse
import gzip
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import exchange

PACKAGES = ["torch", "transformers", "trl", "peft", "datasets", "gguf", "numpy"]
LORA_RANK = 16
# Sidecar's names of matrices and transformers' (llama, qwen2, qwen3, …).
MODULES = {
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("sidecar", type=Path)
    parser.add_argument("--questions", type=Path, required=True, help="JSON Lines of query, choices and gold, such as ARC's")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--answer-tokens", type=int, default=12, help="most tokens of an answer")
    parser.add_argument("--steps", type=int, default=3, help="of each process; the first one warms up")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--micro-batch", type=int, default=32, help="answers at a time in PyTorch and TRL")
    parser.add_argument("--no-trl", action="store_true")
    parser.add_argument("--part", choices=["torch", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def items(args):
    with gzip.open(args.questions, "rt") if args.questions.suffix == ".gz" else open(args.questions) as file:
        rows = [json.loads(line) for line in file]
    for row in rows:
        options = "\n".join(f"{chr(65 + i)}. {choice}" for i, choice in enumerate(row["choices"]))
        question = row["query"].removeprefix("Question: ")
        yield {"question": f"{question}\n\n{options}\n\nAnswer with one letter.", "answer": chr(65 + row["gold"])}


# --- PyTorch and TRL ---------------------------------------------------------------------------------------


def load(args):
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    place = {"gguf_file": args.model.name}
    read = transformers.AutoModelForCausalLM.from_pretrained(args.model.parent, dtype=torch.float32, **place)
    # A model of its own, because one from a GGUF file is marked as quantized, and is refused by trainers.
    del read.config.quantization_config
    model = transformers.AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model.parent, padding_side="left", **place)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return model, tokenizer


def run_torch(args):
    import gguf
    import numpy as np
    import torch

    model, tokenizer = load(args)
    model.requires_grad_(False)
    draw = random.Random(1)
    tensors = {}
    for t in gguf.GGUFReader(args.sidecar).tensors:
        values = gguf.quants.dequantize(t.data, t.tensor_type).reshape([int(n) for n in reversed(t.shape)])
        tensors[t.name] = torch.from_numpy(np.array(values, dtype=np.float32))
    changes = []

    def beside(linear, u, s, vt):
        # y = W x + U ((s (m - 1)) * (Vt x))
        m = torch.ones(len(s), requires_grad=True)
        changes.append(m)
        linear.register_forward_hook(lambda _, x, y: y + torch.nn.functional.linear(torch.nn.functional.linear(x[0], vt) * (s * (m - 1)), u))

    for name in (name.removesuffix(".svf_s") for name in tensors if name.endswith(".svf_s")):
        layer, matrix = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name).groups()
        if matrix not in MODULES:
            sys.exit(f"compare_training: {name} is turned in GGUF files; adapt some of {', '.join(MODULES)}")
        linear = model.get_submodule(f"model.layers.{layer}.{MODULES[matrix]}")
        beside(linear, *(tensors[f"{name}.svf_{part}"] for part in ("u", "s", "vt")))
    optimiser = torch.optim.Adam(changes, lr=1e-3, maximize=True)

    def write(questions):
        texts = [tokenizer.apply_chat_template([{"role": "user", "content": q["question"]}], tokenize=False,
                                               add_generation_prompt=True) for q in questions]
        asked = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.no_grad():
            answers = model.generate(**asked, max_new_tokens=args.answer_tokens, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                                     num_return_sequences=args.samples, pad_token_id=tokenizer.pad_token_id)
        groups, width = [], asked.input_ids.shape[1]
        ends = tokenizer.eos_token_id
        for i, mask in enumerate(asked.attention_mask):
            prompt, rollouts = asked.input_ids[i][mask.bool()].tolist(), []
            for row in answers[i * args.samples : (i + 1) * args.samples, width:].tolist():
                length = row.index(ends) + 1 if ends in row else len(row)
                rollouts.append({"tokens": row[:length], "advantage": draw.uniform(-1, 1)})
            groups.append({"prompt": prompt, "rollouts": rollouts})
        return groups

    def objective(rows, n_all):
        tokens = torch.zeros(len(rows), max(len(ids) for ids, _, _ in rows), dtype=torch.long)
        for i, (ids, _, _) in enumerate(rows):
            tokens[i, : len(ids)] = torch.tensor(ids)
        # Padded on the right, where causal attention does not look from an answer.
        at = [(i, t) for i, (ids, n, _) in enumerate(rows) for t in range(n - 1, len(ids) - 1)]
        i, t = (torch.tensor(index) for index in zip(*at))
        advantage = torch.tensor([rows[j][2] for j in i.tolist()])
        log_pi = model.lm_head(model.model(input_ids=tokens, use_cache=False).last_hidden_state[i, t]).log_softmax(-1)
        return (advantage * log_pi[torch.arange(len(i)), tokens[i, t + 1]]).sum() / n_all

    def step(groups):
        rows = [(g["prompt"] + r["tokens"], len(g["prompt"]), r["advantage"]) for g in groups for r in g["rollouts"]]
        optimiser.zero_grad()
        for first in range(0, len(rows), args.micro_batch):
            objective(rows[first : first + args.micro_batch], len(rows)).backward()
        gradient = np.concatenate([m.grad.numpy() for m in changes]).astype("<f4")
        torch.nn.utils.clip_grad_norm_(changes, 1.0)
        optimiser.step()
        return gradient

    questions, found = list(items(args)), {"writing": [], "gradient": [], "step": [], "tokens": []}
    for i in range(args.steps):
        began = time.perf_counter()
        groups = write(questions[i * args.prompts : (i + 1) * args.prompts])
        written = time.perf_counter()
        gradient = step(groups)
        ended = time.perf_counter()
        if i == 0:
            (args.folder / "batch.json").write_text(json.dumps(groups))
            gradient.tofile(args.folder / "theirs")
        found["writing"].append(written - began)
        found["gradient"].append(ended - written)
        found["step"].append(ended - began)
        found["tokens"].append(sum(len(r["tokens"]) for g in groups for r in g["rollouts"]))
    print(json.dumps({**found, "peak": peak()}))


def run_trl(args):
    import datasets
    import peft
    import transformers
    import trl

    model, tokenizer = load(args)
    rows = [{"prompt": [{"role": "user", "content": item["question"]}], "answer": item["answer"]} for item in items(args)]
    times = []

    class Watch(transformers.TrainerCallback):
        def on_step_end(self, *_, **__):
            times.append(time.perf_counter())

    def right(completions, answer, **_):
        return [float(text[0]["content"].strip().startswith(letter)) for text, letter in zip(completions, answer)]

    config = trl.GRPOConfig(
        output_dir=str(args.folder / "trl"), use_cpu=True, bf16=False, fp16=False, report_to=[], save_strategy="no", logging_strategy="no",
        per_device_train_batch_size=args.micro_batch, gradient_accumulation_steps=args.prompts * args.samples // args.micro_batch,
        num_generations=args.samples, max_completion_length=args.answer_tokens, max_steps=2, disable_tqdm=True,
    )
    matrices = sorted(name.split(".")[-1] for key, name in MODULES.items() if key.startswith("ffn"))
    trainer = trl.GRPOTrainer(
        model=model, reward_funcs=right, args=config, train_dataset=datasets.Dataset.from_list(rows), processing_class=tokenizer,
        peft_config=peft.LoraConfig(r=LORA_RANK, target_modules=matrices, task_type="CAUSAL_LM"), callbacks=[Watch()],
    )
    times.append(time.perf_counter())
    trainer.train()
    print(json.dumps({"step": [b - a for a, b in zip(times, times[1:])], "peak": peak()}))


# --- in turn -----------------------------------------------------------------------------------------------


def ours(args, kind):
    """Steps of `train`, or gradients of the answers that PyTorch wrote."""
    folder, threads = args.folder, ["--threads", str(args.threads)]
    if kind == "gradient":
        command = [exchange.ROOT / "target/release/examples/gradient_step", "--model", args.model, "--svf", args.sidecar, "--residual"]
        command += ["--batch", folder / "batch.json", "--gradient", folder / "ours", "--steps", str(args.steps), *threads]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(done.stdout.splitlines()[-1])
    output = folder / "ours.expert.gguf"
    command = [exchange.ROOT / "target/release/llama-svf", "train", "-m", args.model, "--svf", args.sidecar, "--task", folder / "task.toml"]
    command += ["-o", output, "--force", "--examples", "none", "--prompts", str(args.prompts), "--samples", str(args.samples)]
    command += ["--batch", str(args.prompts * args.samples), "--steps", str(args.steps), "--validation-items", "1"]
    with subprocess.Popen([*command, *threads], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"compare_training: train ended with {process.returncode}")
    events = map(json.loads, (folder / "ours.train/log.jsonl").read_text().splitlines())
    steps = [event for event in events if event.get("event") == "step"]
    found = {part: [step[name] for step in steps] for part, name in [
        ("writing", "writing"), ("gradient", "gradient"), ("step", "seconds"), ("tokens", "tokens"),
    ]}
    return {**found, "peak": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)}


def theirs(args, part):
    done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--part", part, "--folder", args.folder], check=True,
                          stdout=subprocess.PIPE, text=True, env={**os.environ, "TQDM_DISABLE": "1"})
    return json.loads(done.stdout.splitlines()[-1])


def compare(args):
    import numpy as np

    rows = list(items(args))
    (args.folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (args.folder / "task.toml").write_text(
        'description = "multiple choice"\nprompt = "{{ question }}"\ngold = "{{ answer }}"\n\n[data]\nfiles = ["items.jsonl"]\n\n'
        "[reward]\nkind = \"text\"\npattern = '^\\s*([A-Z])'\n\n"
        f"[generation]\nmax_tokens = {args.answer_tokens}\nchat = true\n")
    runs = {"llama-svf": [], "PyTorch": [], "TRL": []}
    same = []
    for i in range(args.rounds):
        runs["PyTorch"].append(theirs(args, "torch"))
        same.append(ours(args, "gradient"))
        runs["llama-svf"].append(ours(args, "step"))
        if i == 0 and not args.no_trl:
            runs["TRL"].append(theirs(args, "trl"))

    # The first step of a process allocates and warms up.
    median = lambda found, part: statistics.median(s for run in found for s in run[part][1:])
    a, b = (np.fromfile(args.folder / name, "<f4").astype(float) for name in ("ours", "theirs"))
    print(f"the same answers: gradients' cosine {a @ b / np.linalg.norm(a) / np.linalg.norm(b):.8f}, relative L2 "
          f"{np.linalg.norm(a - b) / np.linalg.norm(b):.1e}")
    for of, again in (("first", 0), ("second and later", 1)):
        pick = (lambda run, part: run[part][:1]) if again == 0 else (lambda run, part: run[part][1:])
        mine = statistics.median(s for run in same for s in pick(run, "seconds"))
        their = statistics.median(s for run in runs["PyTorch"] for s in pick(run, "gradient"))
        print(f"gradient, {of} in a process: llama-svf {mine:.2f} s, PyTorch {their:.2f} s: {their / mine:.2f} x")
    base = runs["llama-svf"]
    for name, found in runs.items():
        if not found:
            continue
        text = f"{name:<10} whole step {median(found, 'step'):7.2f} s ({median(found, 'step') / median(base, 'step'):.2f} x)"
        text += f", {max(run['peak'] for run in found) / 2**20:6.0f} MiB at the peak"
        if "writing" in found[0]:
            text += f"; writing {median(found, 'writing'):.2f} s ({median(found, 'tokens'):.0f} tokens), gradient {median(found, 'gradient'):.2f} s"
        print(text)


def main():
    args = parse()
    exchange.VENV = exchange.ROOT / "target/training-venv"
    exchange.ensure(PACKAGES, __file__)
    if args.part:
        return {"torch": run_torch, "trl": run_trl}[args.part](args)
    with tempfile.TemporaryDirectory() as folder:
        args.folder = Path(folder)
        compare(args)


if __name__ == "__main__":
    main()
