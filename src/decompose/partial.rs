//! The output while it grows: `OUT.part` and, beside it, `OUT.part.journal`.
//!
//! The data file has its final size from the start, and each factor is written at its final offset, so the
//! order in which weights finish leaves no trace. The [`Journal`] has a line, [`Finished`], for each weight of
//! which the bytes are on the disk. What it names is therefore complete, and is checked by its hashes when a
//! conversion resumes. The header comes last; `OUT` itself appears by a rename, whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::Item;
use crate::atomic;
use crate::error::{Error, Result};
use crate::resume::{Journal, Work};

/// A weight whose factors are on the disk.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Finished {
    pub weight: String,
    /// blake3 of the bytes of U, σ and Vᵀ.
    pub hashes: [String; 3],
    pub relative_error: f64,
    pub energy_kept: f64,
}

/// The two files of an unfinished conversion.
pub(super) struct Partial {
    output: PathBuf,
    files: Mutex<Files>,
}

struct Files {
    data: File,
    journal: Journal,
}

impl Partial {
    /// Begins a conversion, replacing an unfinished one.
    pub fn create(output: &Path, settings: &Value, size: usize) -> Result<Self> {
        let (data_path, journal_path) = (data_path(output), journal_path(output));
        // In this order no moment pairs an old journal with new data.
        remove_if_there(&journal_path)?;
        remove_if_there(&data_path)?;
        let data = OpenOptions::new().read(true).write(true).create_new(true).open(&data_path);
        let data = data.map_err(|e| Error::io("cannot create", &data_path, e))?;
        let begun = data
            .set_len(size as u64)
            .and_then(|()| data.sync_all())
            .map_err(|e| Error::io("cannot write", &data_path, e))
            .and_then(|()| Journal::create(&journal_path, work(settings), &[] as &[Finished]))
            .map_err(|e| e.hint("make room, or choose another `output`"));
        if begun.is_err() {
            // Nothing was computed that would be worth keeping. The first failure is the one to tell.
            let _ = remove_if_there(&journal_path).and_then(|()| remove_if_there(&data_path));
        }
        Ok(Self { output: output.to_path_buf(), files: Mutex::new(Files { data, journal: begun? }) })
    }

    /// Continues a conversion, if `OUT.part` is there: also returns the weights that are finished. Those
    /// whose bytes are not what the journal says are computed again.
    pub fn resume(
        output: &Path,
        settings: &Value,
        items: &[Item],
        size: usize,
    ) -> Result<Option<(Self, Vec<Finished>)>> {
        let (data_path, journal_path) = (data_path(output), journal_path(output));
        if !data_path.exists() {
            return Ok(None);
        }
        let found = Journal::resume(&journal_path, work(settings)).map_err(|e| e.hint(START_OVER))?;
        let (journal, finished): (_, Vec<Finished>) = found.ok_or_else(|| {
            let error = Error::expected("the settings of the conversion", "nothing");
            error.field("line 1").file(&journal_path).hint(START_OVER)
        })?;
        let mut data = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&data_path)
            .map_err(|e| Error::io("cannot open", &data_path, e).hint(START_OVER))?;
        data.set_len(size as u64).map_err(|e| cannot_write(&data_path, e))?;

        let mut kept = Vec::new();
        for entry in finished {
            let Some(item) = items.iter().find(|item| item.weight.name == entry.weight) else {
                return Err(Error::invalid("the journal names a weight outside the selection")
                    .field(&entry.weight)
                    .file(&journal_path)
                    .hint(START_OVER));
            };
            if hash_factors(&mut data, item).is_ok_and(|hashes| hashes == entry.hashes) {
                kept.push(entry);
            }
        }
        let files = Mutex::new(Files { data, journal });
        Ok(Some((Self { output: output.to_path_buf(), files }, kept)))
    }

    /// Puts a finished weight on the disk and then into the journal.
    pub fn store(&self, item: &Item, factors: &[Vec<u8>; 3], finished: &Finished) -> Result<()> {
        // A thread that panicked while it held the lock left at worst bytes that no journal line vouches for.
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Files { data, journal } = &mut *files;
        let written = item.factors.iter().zip(factors).try_for_each(|(factor, bytes)| {
            data.seek(SeekFrom::Start(factor.place.start as u64))?;
            data.write_all(bytes)
        });
        written.and_then(|()| data.sync_data()).map_err(|e| cannot_write(&data_path(&self.output), e))?;
        journal.append(finished).and_then(|()| journal.sync()).map_err(|e| e.hint(KEPT))
    }

    /// Completes the file with its header and gives it its name.
    pub fn finish(self, header: &[u8]) -> Result<()> {
        let data_path = data_path(&self.output);
        let Files { mut data, .. } = self.files.into_inner().unwrap_or_else(PoisonError::into_inner);
        data.rewind().and_then(|()| data.write_all(header)).map_err(|e| cannot_write(&data_path, e))?;
        atomic::publish(&data, &data_path, &self.output)?;
        remove_if_there(&journal_path(&self.output))
    }
}

const KEPT: &str =
    "the output was not made; what is finished is kept: make room, then continue with `resume`";
const START_OVER: &str = "use the same model and options, or start over with `force`";

/// `OUT.part`.
pub(super) fn data_path(output: &Path) -> PathBuf {
    with_suffix(output, ".part")
}

fn journal_path(output: &Path) -> PathBuf {
    with_suffix(output, ".part.journal")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn hash_factors(data: &mut File, item: &Item) -> std::io::Result<[String; 3]> {
    let mut hashes: [String; 3] = Default::default();
    for (hash, factor) in hashes.iter_mut().zip(&item.factors) {
        data.seek(SeekFrom::Start(factor.place.start as u64))?;
        let mut bytes = vec![0; factor.place.len()];
        data.read_exact(&mut bytes)?;
        *hash = blake3::hash(&bytes).to_hex().to_string();
    }
    Ok(hashes)
}

fn work(settings: &Value) -> Work<'_> {
    Work { schema: "llama-svf/decompose-journal/2", name: "conversion", settings }
}

fn cannot_write(path: &Path, source: std::io::Error) -> Error {
    Error::io("cannot write", path, source).hint(KEPT)
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("cannot remove", path, e)),
        _ => Ok(()),
    }
}
