//! A LoRA adapter that computes what an expert computes, in a file that goes away.

use tempfile::TempPath;

use crate::error::{Error, Result};
use crate::expert::{Expert, ExpertSet, Mixture};
use crate::export::lora::{self, About, Storage};
use crate::export::{Change, Cut};
use crate::ffi::tensor_type::TensorType;
use crate::sidecar::Sidecar;

/// Whether some factor is not F16, so that an adapter of the same types differs from an F16 one.
pub(super) fn has_other_type(sidecar: &Sidecar) -> bool {
    sidecar.weights.iter().any(|weight| weight.u.ty != TensorType::F16 || weight.vt.ty != TensorType::F16)
}

/// Writes `expert` as a LoRA adapter: all F16, or in the types of the sidecar's factors. The file goes away with the
/// returned value.
pub(super) fn write(sidecar: &Sidecar, expert: &Expert, f16: bool) -> Result<TempPath> {
    let mut experts = ExpertSet::new(sidecar);
    experts.insert(expert.clone())?;
    let mixture = experts.resolve(&Mixture::single(expert.name.as_str()))?;
    let change = Change::new(sidecar, &mixture, Cut::Nothing)?;
    let storage = if f16 { Storage::As(TensorType::F16) } else { Storage::Kept };
    let failed = |error: std::io::Error| {
        Error::io("cannot write a temporary LoRA adapter in", std::env::temp_dir(), error)
            .hint("set TMPDIR to a folder with more space")
    };
    let path = tempfile::Builder::new().suffix(".lora.gguf").tempfile().map_err(failed)?.into_temp_path();
    lora::write(&path, sidecar, &change, storage, &About::default())
        .map_err(|error| error.hint("set TMPDIR to a folder with more space"))?;
    Ok(path)
}
