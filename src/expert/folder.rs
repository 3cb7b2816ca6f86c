//! A folder of experts.

use std::path::{Path, PathBuf};

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::Expert;
use crate::error::{Error, Result};
use crate::sidecar::Sidecar;

/// Opens all files of `folder` that end in `.gguf`, in the order of their names; those that are no experts for `sidecar`
/// say why not. Links and folders are left out.
///
/// # Errors
/// The folder cannot be read.
pub fn open_folder(folder: &Path, sidecar: &Sidecar) -> Result<Vec<(PathBuf, Result<Expert>)>> {
    let cannot_read = |error| Error::io("cannot read", folder, error);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot_read)? {
        let entry = entry.map_err(cannot_read)?;
        let is_gguf = entry.path().extension().is_some_and(|it| it == "gguf");
        if is_gguf && entry.file_type().map_err(cannot_read)?.is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let open = |path: PathBuf| {
        let expert = Expert::open(&path).and_then(|expert| expert.check(sidecar).map(|()| expert));
        (path, expert)
    };
    Ok(paths.into_par_iter().map(open).collect())
}
