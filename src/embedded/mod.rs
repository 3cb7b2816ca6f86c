//! The embedded model: a small llama of the project's own, so that everything can be tried without
//! downloading anything. `README.md` beside this file says how it was made, and what it can and cannot do.
//!
//! llama.cpp reads models from files, so it is written to one on demand.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::atomic;
use crate::error::{Error, Result};
use crate::expert::Expert;
use crate::temporary::Listed;

/// Name of the file the model is written to.
pub const FILE_NAME: &str = "llama-svf-embedded.gguf";

/// File names and contents of its experts.
const EXPERTS: [(&str, &[u8]); 4] = [
    ("math.expert.gguf", include_bytes!("experts/math.expert.gguf")),
    ("code.expert.gguf", include_bytes!("experts/code.expert.gguf")),
    ("reasoning.expert.gguf", include_bytes!("experts/reasoning.expert.gguf")),
    ("cls.expert.gguf", include_bytes!("experts/cls.expert.gguf")),
];

/// The model's GGUF file.
pub fn bytes() -> &'static [u8] {
    include_bytes!("model.gguf")
}

/// Writes the model into `folder`, as [`FILE_NAME`], and returns its path. A file that already holds it is
/// left alone, so that processes which share a folder do not disturb each other.
///
/// # Errors
/// The folder cannot be written to, or has a directory or device of that name.
pub fn write_to(folder: impl AsRef<Path>) -> Result<PathBuf> {
    let path = folder.as_ref().join(FILE_NAME);
    if !fs::read(&path).is_ok_and(|found| found == bytes()) {
        atomic::write(&path, |out| out.write_all(bytes()))?;
    }
    Ok(path)
}

/// The model in a folder of its own, which goes away with this value.
pub struct Temporary {
    folder: TempDir,
    path: PathBuf,
    _listed: Listed,
}

impl Temporary {
    /// Writes the model into a new folder where the system keeps temporary files.
    ///
    /// # Errors
    /// There is no room, or no folder for temporary files.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("llama-svf-")
            .tempdir()
            .map_err(|source| Error::io("cannot make a folder", std::env::temp_dir(), source))?;
        let listed = Listed::new(folder.path());
        let path = write_to(folder.path())?;
        Ok(Self { folder, path, _listed: listed })
    }

    /// The folder; what else is put into it goes away too.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The experts that come with the model: one for each skill, and `cls`, which names the skill of a question.
    ///
    /// # Errors
    /// There is no room for their files.
    pub fn experts(&self) -> Result<Vec<Expert>> {
        let expert = |(name, bytes): (&str, &[u8])| {
            let path = self.folder().join(name);
            atomic::write(&path, |out| out.write_all(bytes))?;
            Expert::open(&path)
        };
        EXPERTS.into_iter().map(expert).collect()
    }

    /// The model's file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
