//! `llama-svf inspect`: what a model, a sidecar, an expert or an adapter holds, to look at or as JSON.
//!
//! Each kind of file has a view, which is what `--json` prints and what the text is made from.

mod expert;
mod lora;
mod model;
mod sidecar;
pub mod spark;

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::printer;
use crate::error::{exit, Result};
use crate::ffi::gguf::GgufFile;

/// Show what a model, sidecar, expert or exported adapter holds
///
/// For a sidecar: ranks, spectra, and how much of each weight the first singular values carry. For an
/// expert: how far it moves the singular values. For a model: its matrices and its fingerprint.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    llama-svf inspect model.gguf\n  \
    llama-svf inspect model.svf.gguf --verify      read everything and compare with the checksums\n  \
    llama-svf inspect maths.expert.gguf --json\n\n\
    Exit code 1: --verify read the file and found something that is not in order.")]
pub struct Args {
    /// A model, sidecar, expert or LoRA adapter, or a folder of peft
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Read all data: compare with the checksums, and check that every number is finite
    #[arg(long)]
    verify: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args) -> Result<u8> {
    let (view, verdict) = match args.file.is_dir() {
        true => lora::view_folder(&args.file)?,
        false => view(&args.file, args.verify)?,
    };
    let verified = args.verify.then_some(verdict.is_ok());
    if args.json {
        let path = args.file.display().to_string();
        printer::print_json(&Json { schema: "llama-svf/inspect/1", path, verified, view: &view })?;
    } else {
        printer::print(&view.text(&args.file))?;
    }
    match verdict {
        Err(problem) => {
            printer::note(format_args!("not in order: {problem}"));
            Ok(exit::NO)
        }
        Ok(()) if args.verify => {
            printer::note("verified: everything was read and is in order");
            Ok(exit::DONE)
        }
        Ok(()) => Ok(exit::DONE),
    }
}

/// Describes the file at `path`; the second value says whether it is in order, as far as was looked.
fn view(path: &Path, verify: bool) -> Result<(View, Result<()>)> {
    let file = GgufFile::open(path)?;
    match (file.str("general.type")?, file.str("adapter.type")?) {
        (Some("adapter"), Some("svf")) => sidecar::view(path, verify),
        (Some("adapter"), Some("svf-expert")) => expert::view(path),
        (Some("adapter"), Some("lora")) => lora::view(&file, verify),
        _ => model::view(&file, verify),
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Json<'a> {
    schema: &'static str,
    path: String,
    /// With `--verify`: whether it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<bool>,
    #[serde(flatten)]
    view: &'a View,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum View {
    Model(model::ModelView),
    Sidecar(sidecar::SidecarView),
    Expert(expert::ExpertView),
    Lora(lora::LoraView),
}

impl View {
    fn text(&self, path: &Path) -> String {
        match self {
            Self::Model(view) => view.text(path),
            Self::Sidecar(view) => view.text(path),
            Self::Expert(view) => view.text(path),
            Self::Lora(view) => view.text(path),
        }
    }
}

/// Width of a column of names.
fn name_width<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(|name| name.chars().count()).chain(["weight".len()]).max().unwrap_or(0)
}

/// Text from a file, without the characters that could move the cursor or change colours.
fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}
