//! Temporary files and folders that go away however the process ends: they are listed while they exist, so that what
//! ends the process without unwinding can remove them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

static LISTED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The entry of a file or folder, which lasts as long as this value. Who made the file removes it, or gives it its
/// final name, before.
#[must_use]
#[derive(Debug)]
pub struct Listed(PathBuf);

impl Listed {
    /// Lists `path`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_path_buf();
        LISTED.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
        Self(path)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut listed = LISTED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = listed.iter().position(|path| *path == self.0) {
            listed.swap_remove(at);
        }
    }
}

/// Removes all that is listed: the last thing before the process ends.
pub fn remove_all() {
    for path in LISTED.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        // What cannot be removed has nobody left to hear of it.
        let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
    }
}
