//! One process at a time in a folder.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{Error, Result};

/// Keeps a folder to this process for as long as it lives; the system takes it back from whoever dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Name of the file that is locked; it stays when the lock is gone.
    pub const FILE: &str = "lock";

    /// Locks `folder`, which exists.
    ///
    /// # Errors
    /// Another process has it, which `problem` says, or the file cannot be made.
    pub fn take(folder: &Path, problem: &str) -> Result<Self> {
        let path = folder.join(Self::FILE);
        let file = File::create(&path).map_err(|source| Error::io("cannot write", &path, source))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                Err(Error::invalid(problem).file(folder).hint("wait for it, or choose another `output`"))
            }
            // Some file systems have no locks; work without one is better than none.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Self { _file: file }),
        }
    }
}
