#!/usr/bin/env python3
"""How fast `llama-svf decompose` is beside numpy and scipy, on the same matrices, files included.

Every contender reads the same matrices from the same GGUF file, dequantizes them, decomposes them in f32,
keeps the same number of singular values, and writes U, s and Vt in f16, with the same number of threads.
The Python ones get their best: LAPACK's divide and conquer (gesdd) on the long orientation, once with the
threads inside BLAS and once with one matrix per core; and ARPACK (svds), which finds the wanted terms alone, to
the residual that `llama-svf` allows. `llama-svf` also checks its result against every weight, which the others do not.

    scripts/compare_svd.py MODEL.gguf [--limit 8] [--rounds 3]

Needs `cargo build --release` first. numpy, scipy and gguf are installed into target/compare-svd-venv where
they are missing.
"""

import argparse
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["numpy", "scipy", "gguf"]
SELECTED = re.compile(r"^blk\.\d+\.ffn_(up|gate|down)\.weight$")
BASELINES = {
    ("scipy", "pool"): "one matrix per core",
    ("scipy", "blas"): "threads inside BLAS",
    ("numpy", "pool"): "one matrix per core",
    ("numpy", "blas"): "threads inside BLAS",
    ("scipy svds", "pool"): "one matrix per core",
}
# ‖Wᵀ·u − σ·v‖ / σ, llama_svf::svd::TOLERANCE.
RESIDUAL = 1 / 2048


def ensure_packages():
    """Restarts this script in a virtual environment of its own if a package is missing."""
    try:
        for package in PACKAGES:
            __import__(package)
        return
    except ImportError as missing:
        if os.environ.get("COMPARE_SVD_VENV"):
            raise SystemExit(f"compare_svd: {missing} (hint: remove target/compare-svd-venv and try again)")
    venv = ROOT / "target" / "compare-svd-venv"
    python = venv / "bin" / "python"
    if not python.exists():
        print(f"installing {', '.join(PACKAGES)} into {venv}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    os.execve(python, [str(python), *sys.argv], {**os.environ, "COMPARE_SVD_VENV": "1"})


def tensors_of(model, limit):
    """The feed-forward matrices of a model, at most `limit` of them."""
    import gguf

    found = [t for t in gguf.GGUFReader(model).tensors if SELECTED.match(t.name) and len(t.shape) == 2]
    return found[:limit]


class Worker:
    """Decomposes matrices by number. Lives in a process whose BLAS threads were set at its start."""

    def __init__(self, library, model, limit, rank, folder):
        self.library, self.rank, self.folder = library, rank, Path(folder)
        self.tensors = tensors_of(model, limit)

    def __call__(self, index):
        import gguf
        import numpy
        import scipy.linalg
        import scipy.sparse.linalg

        tensor = self.tensors[index]
        w = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32, copy=False)
        wide = w.shape[0] < w.shape[1]
        long = w.T if wide else w
        if self.library == "scipy svds":
            u, s, vt = scipy.sparse.linalg.svds(long, k=self.rank, tol=RESIDUAL, rng=0)
            u, s, vt = u[:, ::-1], s[::-1], vt[::-1]
        elif self.library == "scipy":
            u, s, vt = scipy.linalg.svd(long, full_matrices=False, check_finite=False)
        else:
            u, s, vt = numpy.linalg.svd(long, full_matrices=False)
        u, s, vt = u[:, : self.rank], s[: self.rank], vt[: self.rank]
        if wide:
            u, vt = vt.T, u.T
        for name, factor in (("u", u), ("vt", vt)):
            stored = numpy.ascontiguousarray(factor, numpy.float16)
            numpy.save(self.folder / f"{tensor.name}.{name}.npy", stored)
        numpy.save(self.folder / f"{tensor.name}.s.npy", s)


def pool_begin(barrier, arguments):
    global pool_worker
    pool_worker = Worker(*arguments)
    barrier.wait()


def pool_work(index):
    pool_worker(index)


def run_baseline(args):
    """The inside of one baseline: prints the seconds it took, without the start of Python."""
    import scipy.linalg  # noqa: F401  imported before the clock starts
    import scipy.sparse.linalg  # noqa: F401

    library, layout = args.baseline.split(":")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        arguments = (library, args.model, args.limit, args.rank, folder)
        if layout == "blas":
            worker = Worker(*arguments)
            began = time.perf_counter()
            for index in range(len(worker.tensors)):
                worker(index)
        else:
            context = multiprocessing.get_context("spawn")
            barrier = context.Barrier(args.threads + 1)
            with context.Pool(args.threads, pool_begin, (barrier, arguments)) as pool:
                barrier.wait()
                began = time.perf_counter()
                pool.map(pool_work, range(len(tensors_of(args.model, args.limit))), chunksize=1)
        print(time.perf_counter() - began)


def time_baseline(args, library, layout, folder):
    threads = str(args.threads if layout == "blas" else 1)
    variables = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    command = [sys.executable, __file__, args.model, "--baseline", f"{library}:{layout}", "--folder", folder]
    for name in ("limit", "rank", "threads"):
        command += [f"--{name}", str(getattr(args, name))]
    environment = {**os.environ, **dict.fromkeys(variables, threads)}
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def time_decompose(args, names, folder):
    output = Path(folder) / "out.svf.gguf"
    selection = "^(" + "|".join(re.escape(name) for name in names) + ")$"
    command = [args.binary, "decompose", "-m", args.model, "-o", str(output), "--tensors", selection]
    command += ["--rank", str(args.rank), "--type", "f16", "-t", str(args.threads)]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    seconds = time.perf_counter() - began
    output.unlink()
    return seconds


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--limit", type=int, default=sys.maxsize, help="matrices to decompose (default: all)")
    parser.add_argument("--rank", type=int, default=64, help="singular values to keep (default: 64)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="cores for each contender")
    parser.add_argument("--rounds", type=int, default=1, help="interleaved rounds; medians are compared")
    parser.add_argument("--binary", default=str(ROOT / "target/release/llama-svf"), help="llama-svf to time")
    parser.add_argument("--baseline", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    args = parse_arguments()
    ensure_packages()
    if args.baseline:
        return run_baseline(args)
    tensors = tensors_of(args.model, args.limit)
    names = [t.name for t in tensors]
    if not names:
        raise SystemExit(f"compare_svd: {args.model} has no feed-forward matrices")
    if not Path(args.binary).exists():
        raise SystemExit(f"compare_svd: {args.binary} is missing (hint: cargo build --release)")
    print(f"{len(names)} matrices, rank {args.rank}, {args.threads} threads, {args.rounds} round(s)")
    contenders = {"llama-svf decompose": lambda folder: time_decompose(args, names, folder)}
    short_side = min(min(t.shape) for t in tensors)
    for (library, layout), label in BASELINES.items():
        if library == "scipy svds" and args.rank >= short_side:
            continue  # it finds a part only
        contenders[f"{library}, {label}"] = lambda f, b=(library, layout): time_baseline(args, *b, f)
    times = {name: [] for name in contenders}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for name, contender in contenders.items():
                times[name].append(contender(folder))
                print(f"  {name}: {times[name][-1]:.2f} s", file=sys.stderr)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ours = medians.pop("llama-svf decompose")
    print(f"{'llama-svf decompose':<32}{ours:8.2f} s{ours / len(names) * 1e3:8.0f} ms/matrix")
    for name, seconds in sorted(medians.items(), key=lambda item: item[1]):
        per_matrix = seconds / len(names) * 1e3
        print(f"{name:<32}{seconds:8.2f} s{per_matrix:8.0f} ms/matrix{seconds / ours:7.2f} x")
    print(f"llama-svf is {min(medians.values()) / ours:.2f} times as fast as the fastest of the others")


if __name__ == "__main__":
    main()
