#!/usr/bin/env python3
"""Loads what `llama-svf export peft` writes into transformers and peft, and compares it with what `export merged` writes.

    cargo build --release
    scripts/exchange_peft.py --model M.gguf --svf M.svf.gguf

transformers reads the model from its GGUF file, dequantized, and peft puts the exported folder on it. The same model with the
change merged into it in F32 is read, too. Logits of both after the same words have to agree within what F32 explains, a small
part of what the change does to them, and so have the 64 greedy tokens that follow. Experts are random; the packages
come from PyPI into target/peft-venv (3 GB).
"""

import argparse
import os
import sys
from pathlib import Path

import exchange

PACKAGES = ["torch", "transformers", "peft", "gguf", "numpy", "blake3"]
# Of the change of the logits.
TOLERANCE = 1e-3


def compare(args):
    os.environ["TQDM_DISABLE"] = "1"
    import torch
    import transformers
    from peft import PeftModel

    import adapter_files

    transformers.logging.set_verbosity_error()
    sidecar = adapter_files.Sidecar(args.svf)
    expert = adapter_files.write_expert(args.folder / "a.expert.gguf", sidecar, "a", 0)
    files = ["-m", args.model, "--svf", args.svf, "--expert", expert, "--mix", "a=1"]
    exchange.svf(args, "export", "peft", *files, "--type", "f32", "-o", args.folder / "peft", "--force")
    exchange.svf(args, "export", "merged", *files, "--type", "f32", "-o", args.folder / "merged.gguf", "--force")

    def read(path):
        model = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        return model.eval()

    def answers(model):
        with torch.no_grad():
            logits = [model(words).logits[0] for words in prompts]
            texts = [model.generate(words, attention_mask=torch.ones_like(words), max_new_tokens=exchange.N_TOKENS,
                                    do_sample=False, pad_token_id=0, eos_token_id=-1)[0].tolist() for words in prompts]
        return logits, texts

    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model.parent, gguf_file=args.model.name)
    prompts = [tokenizer(prompt, return_tensors="pt").input_ids for prompt in exchange.PROMPTS]
    model = read(args.model)
    base, _ = answers(model)
    with_peft, words = answers(PeftModel.from_pretrained(model, args.folder / "peft"))
    merged, expected = answers(read(args.folder / "merged.gguf"))
    failed = 0
    for i, (before, ours, other) in enumerate(zip(base, with_peft, merged)):
        change, difference = (other - before).abs().max().item(), (ours - other).abs().max().item()
        equal = words[i] == expected[i]
        failed += not (difference <= TOLERANCE * change and equal)
        print(f"prompt {i}: the change moves logits by up to {change:.3f}; peft and merged differ by up to {difference:.2e}; "
              f"{'the same' if equal else 'OTHER'} {exchange.N_TOKENS} greedy tokens", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", "-m", type=Path, required=True, help="a model of llama, qwen2, qwen3 or gemma3")
    parser.add_argument("--svf", type=Path, required=True, help="its sidecar")
    parser.add_argument("--program", default=str(exchange.ROOT / "target/release/llama-svf"), help="our program")
    parser.add_argument("--folder", type=Path, default=exchange.ROOT / "target/exchange-peft", help="what is made")
    args = parser.parse_args()
    exchange.VENV = exchange.ROOT / "target/peft-venv"
    exchange.ensure(PACKAGES, __file__)
    args.folder.mkdir(parents=True, exist_ok=True)
    failed = compare(args)
    sys.exit(f"exchange_peft: {failed} comparisons failed" if failed else 0)


if __name__ == "__main__":
    main()
