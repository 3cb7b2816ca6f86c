//! A LoRA adapter: llama.cpp's file, or peft's folder.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::model::verify_tensors;
use super::{name_width, plain, View};
use crate::error::Result;
use crate::export::{lora, peft};
use crate::ffi::gguf::GgufFile;

#[derive(Serialize)]
pub struct LoraView {
    name: String,
    description: String,
    /// What the model is called, or its architecture.
    base: String,
    /// Fingerprint of the model, where the file names it.
    fingerprint: Option<String>,
    alpha: Option<f32>,
    n_parameters: usize,
    weights: Vec<WeightView>,
}

#[derive(Serialize)]
struct WeightView {
    name: String,
    n_out: usize,
    n_in: usize,
    rank: usize,
    #[serde(rename = "type")]
    ty: String,
}

/// Describes llama.cpp's `file`; with `verify`, the second value says whether every number is finite.
pub fn view(file: &GgufFile, verify: bool) -> Result<(View, Result<()>)> {
    let verdict = if verify { verify_tensors(file) } else { Ok(()) };
    Ok((View::Lora(shown(lora::read(file)?)), verdict))
}

/// Describes peft's `folder`.
pub fn view_folder(folder: &Path) -> Result<(View, Result<()>)> {
    Ok((View::Lora(shown(peft::read(folder)?)), Ok(())))
}

fn shown(adapter: lora::Adapter) -> LoraView {
    let of_weight = |weight: lora::AdapterWeight| WeightView {
        name: weight.name,
        n_out: weight.n_out,
        n_in: weight.n_in,
        rank: weight.rank,
        ty: weight.ty,
    };
    LoraView {
        n_parameters: adapter.weights.iter().map(|it| it.rank * (it.n_in + it.n_out)).sum(),
        name: adapter.name,
        description: adapter.description,
        base: adapter.base,
        fingerprint: adapter.fingerprint,
        alpha: adapter.alpha,
        weights: adapter.weights.into_iter().map(of_weight).collect(),
    }
}

impl LoraView {
    pub fn text(&self, path: &Path) -> String {
        let width = name_width(self.weights.iter().map(|weight| weight.name.as_str()));
        let mut text = format!("LoRA adapter {} for {}", plain(&self.name), plain(&self.base));
        // Writing to a string cannot fail.
        let _ = writeln!(text, ", {} parameters", self.n_parameters);
        if !self.description.is_empty() {
            let _ = writeln!(text, "{}", plain(&self.description));
        }
        if let Some(fingerprint) = &self.fingerprint {
            let _ = writeln!(text, "base model {}", plain(fingerprint));
        }
        if let Some(alpha) = self.alpha {
            let _ = writeln!(text, "alpha {alpha}: the product counts alpha / rank times");
        }
        let _ = writeln!(text, "\n{:<width$}  {:>13}  {:>5}  type", "weight", "shape", "rank");
        for weight in &self.weights {
            let shape = format!("{} x {}", weight.n_out, weight.n_in);
            let name = plain(&weight.name);
            let _ = writeln!(text, "{name:<width$}  {shape:>13}  {:>5}  {}", weight.rank, plain(&weight.ty));
        }
        let what = if path.is_dir() {
            "PeftModel.from_pretrained(model, FOLDER)"
        } else {
            "llama-server -m MODEL.gguf --lora FILE"
        };
        let what = what
            .replace("FILE", &path.display().to_string())
            .replace("FOLDER", &format!("'{}'", path.display()));
        let _ = writeln!(text, "\ntry it: {what}");
        text
    }
}
