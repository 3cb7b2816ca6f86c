"""Files that servers load: random experts for a sidecar, and the LoRA adapter that computes what an expert does."""

import os
from pathlib import Path

import blake3
import gguf
import numpy as np

# Standard deviation of m around 1; trained experts are of this order.
DEVIATION = 0.1
ZEROS = "0" * 64
SEAL = "svf.seal"


class Sidecar:
    """The factors of a model's weights, in MODEL.svf.gguf: W = U·diag(σ)·Vᵀ."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.path = Path(path)
        self.fingerprint = reader.fields["svf.base.fingerprint"].contents()
        self.architecture = reader.fields["general.architecture"].contents()
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.weights = [name.removesuffix(".svf_s") for name in self.tensors if name.endswith(".svf_s")]

    def factor(self, weight, suffix):
        """U `[n_out, r]`, σ `[r]` or Vᵀ `[r, n_in]` as f32."""
        tensor = self.tensors[weight + suffix]
        return gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)


def write_expert(path, sidecar, name, seed):
    """Writes an expert with m = 1 + 0.1·N(0, 1), equal for equal seeds, in the format of src/expert/mod.rs."""
    draw = np.random.default_rng(seed)
    multipliers = {
        weight: draw.normal(1, DEVIATION, len(sidecar.tensors[f"{weight}.svf_s"].data)).astype(np.float32)
        for weight in sidecar.weights
    }
    write(path, sidecar.architecture, multipliers, {
        "general.type": "adapter",
        "adapter.type": "svf-expert",
        "svf.version": np.uint32(1),
        "svf.base.fingerprint": sidecar.fingerprint,
        "general.name": name,
        "general.description": "random, to measure speed",
        "svf.checksums": [blake3.blake3(m.tobytes()).hexdigest() for m in multipliers.values()],
        SEAL: ZEROS,
    }, sealed=True)
    return path


def write_lora(path, sidecar, expert, kind):
    """Writes `expert` as LoRA: A = Vᵀ and B = U·diag(σ⊙(m−1)), all in type `kind`. Without alpha llama.cpp takes B·A as
    it is, whatever the rank."""
    tensors = {}
    for m in gguf.GGUFReader(expert).tensors:
        scale = sidecar.factor(m.name, ".svf_s") * (m.data - 1)
        tensors[f"{m.name}.lora_a"] = gguf.quants.quantize(sidecar.factor(m.name, ".svf_vt"), kind)
        tensors[f"{m.name}.lora_b"] = gguf.quants.quantize(sidecar.factor(m.name, ".svf_u") * scale, kind)
    write(path, sidecar.architecture, tensors, {"general.type": "adapter", "adapter.type": "lora"}, kind)
    return path


def write(path, architecture, tensors, metadata, kind=None, sealed=False):
    """Writes a GGUF file, which appears as a whole."""
    temporary = Path(f"{path}.part")
    writer = gguf.GGUFWriter(temporary, architecture)
    for key, value in metadata.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_uint32(key, int(value))
    for name, data in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if sealed:
        seal(temporary)
    os.replace(temporary, path)


def seal(path):
    """Puts the hash of the header, in which it stands as zeros, into it (src/sidecar/seal.rs)."""
    reader = gguf.GGUFReader(path)
    # The part of the field that holds its value.
    at = reader.fields[SEAL].offset + sum(part.nbytes for part in reader.fields[SEAL].parts[:-1])
    end = reader.data_offset
    del reader
    with open(path, "r+b") as file:
        digest = blake3.blake3(file.read(end)).hexdigest()
        file.seek(at)
        file.write(digest.encode())
