//! The flags that apply a LoRA adapter, shared by the commands that run models with one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::{Lora, Model};
use crate::error::{Error, Result};
use crate::export::lora;

/// Which adapter.
#[derive(clap::Args)]
#[command(next_help_heading = "LoRA")]
pub struct LoraArgs {
    /// Apply a LoRA adapter through llama.cpp's own code: one of `train --adapter lora` or `export lora`, or anybody's
    #[arg(long, value_name = "FILE")]
    lora: Option<PathBuf>,
    /// Multiply what the adapter adds: 0 is the base model [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true, requires = "lora")]
    lora_scale: Option<f32>,
}

impl LoraArgs {
    /// The adapter's file.
    pub fn path(&self) -> Option<&Path> {
        self.lora.as_deref()
    }

    /// What the adapter is called in tables.
    pub fn name(&self) -> Option<String> {
        let file = self.lora.as_ref()?.file_name()?.to_string_lossy();
        let stem = file.strip_suffix(".gguf").unwrap_or(&file);
        let stem = stem.strip_suffix(".lora").unwrap_or(stem);
        Some(match self.lora_scale {
            None => format!("lora {stem}"),
            Some(scale) => format!("lora {stem}={scale}"),
        })
    }

    /// Finds what is wrong with the flags and the file before a model is loaded.
    pub fn check(&self) -> Result<()> {
        self.scale()?;
        self.lora.as_ref().map_or(Ok(()), |path| lora::open(path).map(drop))
    }

    /// How many times what the adapter adds counts.
    pub fn scale(&self) -> Result<f32> {
        match self.lora_scale.unwrap_or(1.0) {
            scale if scale.is_finite() => Ok(scale),
            scale => Err(Error::expected("a number", scale).field("--lora-scale")),
        }
    }

    /// The adapter for `model`, and its scale.
    pub fn load(&self, model: &Model) -> Result<Option<(Arc<Lora>, f32)>> {
        let load = |path: &PathBuf| Ok((model.load_lora(path)?, self.scale()?));
        self.lora.as_ref().map(load).transpose()
    }
}
