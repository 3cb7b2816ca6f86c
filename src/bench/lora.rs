//! A LoRA adapter that computes what an expert computes, in the file format that llama.cpp reads
//! (`llama-adapter.cpp` there).
//!
//! LoRA adds B·(A·x) to W·x. With A = Vᵀ and B = U·diag(σ⊙(m−1)) that is the residual form of the expert,
//! fixed in a file.

use std::io::{BufWriter, Write};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::expert::Expert;
use crate::ffi::gguf::{GgufFile, GgufHeader};
use crate::ffi::tensor_type::TensorType;
use crate::sidecar::{AdaptedWeight, Sidecar};

/// Whether some factor is not F16, so that an adapter of the same types differs from an F16 one.
pub(super) fn has_other_type(sidecar: &Sidecar) -> bool {
    sidecar.weights.iter().any(|weight| weight.u.ty != TensorType::F16 || weight.vt.ty != TensorType::F16)
}

/// Writes `expert` as a LoRA adapter for `model`: all F16, or in the types of the sidecar's factors. The file
/// goes away with the returned value.
pub(super) fn write(
    model: &GgufFile,
    sidecar: &Sidecar,
    expert: &Expert,
    f16: bool,
) -> Result<NamedTempFile> {
    let mut header = GgufHeader::new();
    header.set_str("general.type", "adapter")?;
    header.set_str("adapter.type", "lora")?;
    header.set_str("general.architecture", model.require_str("general.architecture")?)?;
    // No adapter.lora.alpha: llama.cpp then takes B·A as it is, whatever the rank of each weight.
    for weight in &sidecar.weights {
        let (a, b) = types(weight, f16);
        header.add_tensor(&name_a(weight), &[weight.n_in, weight.rank], a)?;
        header.add_tensor(&name_b(weight), &[weight.rank, weight.n_out], b)?;
    }

    let folder = std::env::temp_dir();
    let failed = |error| {
        Error::io("cannot write a temporary LoRA adapter in", &folder, error)
            .hint("set TMPDIR to a folder with more space")
    };
    let file = tempfile::Builder::new().suffix(".lora.gguf").tempfile().map_err(failed)?;
    let mut out = BufWriter::new(file.as_file());
    let header_bytes = header.encode();
    out.write_all(&header_bytes).map_err(failed)?;
    let mut written = header_bytes.len();
    let mut put = |name: &str, bytes: &[u8]| -> Result<()> {
        let offset =
            header.data_offset(name).ok_or_else(|| Error::invalid("not in the header").field(name))?;
        out.write_all(&vec![0; offset - written]).map_err(failed)?;
        out.write_all(bytes).map_err(failed)?;
        written = offset + bytes.len();
        Ok(())
    };
    for weight in &sidecar.weights {
        let (a, b) = types(weight, f16);
        put(&name_a(weight), &convert(sidecar, weight, a)?)?;
        put(&name_b(weight), &scaled_u(sidecar, weight, &expert.multipliers[&weight.name], b)?)?;
    }
    out.write_all(&vec![0; header.total_size() - written]).and_then(|()| out.flush()).map_err(failed)?;
    drop(out);
    Ok(file)
}

fn name_a(weight: &AdaptedWeight) -> String {
    format!("{}.lora_a", weight.name)
}

fn name_b(weight: &AdaptedWeight) -> String {
    format!("{}.lora_b", weight.name)
}

fn types(weight: &AdaptedWeight, f16: bool) -> (TensorType, TensorType) {
    match f16 {
        true => (TensorType::F16, TensorType::F16),
        false => (weight.vt.ty, weight.u.ty),
    }
}

/// Vᵀ in type `ty`.
fn convert(sidecar: &Sidecar, weight: &AdaptedWeight, ty: TensorType) -> Result<Vec<u8>> {
    if weight.vt.ty == ty {
        return Ok(sidecar.file().bytes(&weight.vt).to_vec());
    }
    let mut bytes = Vec::new();
    ty.quantize(&sidecar.file().to_f32(&weight.vt)?, weight.n_in, &mut bytes)?;
    Ok(bytes)
}

/// U·diag(σ⊙(m−1)) in type `ty`; U is `[n_out, r]`, row-major.
fn scaled_u(sidecar: &Sidecar, weight: &AdaptedWeight, m: &[f32], ty: TensorType) -> Result<Vec<u8>> {
    let mut u = sidecar.file().to_f32(&weight.u)?;
    for row in u.chunks_exact_mut(weight.rank) {
        for ((u, m), sigma) in row.iter_mut().zip(m).zip(&weight.sigma) {
            *u *= sigma * (m - 1.0);
        }
    }
    let mut bytes = Vec::new();
    ty.quantize(&u, weight.rank, &mut bytes).map_err(|error| error.field(name_b(weight)))?;
    Ok(bytes)
}
