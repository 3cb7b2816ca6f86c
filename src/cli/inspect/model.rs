//! A model: its tensors, its fingerprint, and whether its numbers are finite.

use std::fmt::Write as _;
use std::path::Path;

use indicatif::HumanBytes;
use rayon::prelude::*;
use serde::Serialize;

use super::{name_width, plain, printer, View};
use crate::error::{Error, Result};
use crate::ffi::gguf::{GgufFile, TensorInfo};
use crate::progress::Progress;
use crate::sidecar::Fingerprint;

#[derive(Serialize)]
pub struct ModelView {
    name: Option<String>,
    architecture: Option<String>,
    /// Absent for what is no complete model, such as a LoRA adapter.
    fingerprint: Option<String>,
    bytes: usize,
    n_parameters: usize,
    tensors: Vec<TensorView>,
}

#[derive(Serialize)]
struct TensorView {
    name: String,
    /// ggml's order: the first dimension is the row length.
    ne: Vec<usize>,
    #[serde(rename = "type")]
    ty: &'static str,
    bytes: usize,
}

/// Describes `file`; with `verify`, the second value says whether every number is finite.
pub fn view(file: &GgufFile, verify: bool) -> Result<(View, Result<()>)> {
    file.check_is_whole()?;
    let verdict = if verify { verify_tensors(file) } else { Ok(()) };
    let tensors = file.tensors().iter().map(|tensor| TensorView {
        name: tensor.name.clone(),
        ne: tensor.ne[..tensor.n_dims].to_vec(),
        ty: tensor.ty.name(),
        bytes: tensor.n_bytes,
    });
    let view = ModelView {
        name: file.str("general.name")?.map(Into::into),
        architecture: file.str("general.architecture")?.map(Into::into),
        fingerprint: Fingerprint::of_model(file).ok().map(|fingerprint| fingerprint.to_string()),
        bytes: file.mmap().len(),
        n_parameters: file.tensors().iter().map(TensorInfo::n_elements).sum(),
        tensors: tensors.collect(),
    };
    Ok((View::Model(view), verdict))
}

/// Whether every number of `file` is finite.
pub fn verify_tensors(file: &GgufFile) -> Result<()> {
    let progress = printer::Bar::new("verifying");
    progress.start(file.tensors().iter().map(|tensor| tensor.n_bytes as u64).sum(), 0);
    let verdict = file.tensors().par_iter().map(|tensor| {
        let verdict = verify_tensor(file, tensor);
        progress.advance(tensor.n_bytes as u64);
        verdict.map_err(|error| error.file(file.path()).field(format!("tensor {}", tensor.name)))
    });
    let verdict = verdict.find_first(Result::is_err).unwrap_or(Ok(()));
    progress.finish();
    verdict
}

fn verify_tensor(file: &GgufFile, tensor: &TensorInfo) -> Result<()> {
    // Row by row: a tensor as f32 can be larger than the memory.
    let row_len = tensor.ne[0];
    let row_bytes = tensor.n_bytes / (tensor.n_elements() / row_len);
    let mut row = vec![0.0; row_len];
    for (i, bytes) in file.bytes(tensor).chunks(row_bytes).enumerate() {
        tensor.ty.dequantize(bytes, &mut row)?;
        if let Some(at) = row.iter().position(|x| !x.is_finite()) {
            return Err(Error::expected("finite numbers", format!("{} at element {at} of row {i}", row[at])));
        }
    }
    Ok(())
}

impl ModelView {
    pub fn text(&self, path: &Path) -> String {
        let unknown = "unknown".to_owned();
        let mut text = format!(
            "model {} ({}), {}, {:.1} million parameters\n",
            plain(self.name.as_ref().unwrap_or(&unknown)),
            plain(self.architecture.as_ref().unwrap_or(&unknown)),
            HumanBytes(self.bytes as u64),
            self.n_parameters as f64 / 1e6
        );
        // Writing to a string cannot fail.
        let _ = match &self.fingerprint {
            Some(fingerprint) => writeln!(text, "fingerprint {fingerprint}\n"),
            None => writeln!(text, "no fingerprint: not a complete model\n"),
        };
        let width = name_width(self.tensors.iter().map(|tensor| tensor.name.as_str()));
        let _ =
            writeln!(text, "{:<width$}  {:>18}  {:<6}  {:>10}", "tensor", "row length, rows", "type", "size");
        for tensor in &self.tensors {
            let shape = tensor.ne.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
            let size = HumanBytes(tensor.bytes as u64).to_string();
            let _ =
                writeln!(text, "{:<width$}  {shape:>18}  {:<6}  {size:>10}", plain(&tensor.name), tensor.ty);
        }
        if self.fingerprint.is_some() {
            let _ = writeln!(text, "\nmake a sidecar: llama-svf decompose -m {} --rank 64", path.display());
        }
        text
    }
}
