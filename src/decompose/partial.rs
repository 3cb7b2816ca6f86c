//! The output while it grows: `OUT.part` and, beside it, `OUT.part.journal`.
//!
//! The data file has its final size from the start, and each factor is written at its final offset, so the
//! order in which weights finish leaves no trace. The journal has one JSON object per line: first the
//! [`Identity`] of the conversion, then one [`Finished`] per weight, appended only when that weight's bytes
//! are on the disk. What the journal names is therefore complete, and is checked by its hashes when a
//! conversion resumes. The header comes last; `OUT` itself appears by a rename, whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::plan::Item;
use crate::atomic;
use crate::error::{Error, Result};

/// What must be equal for a conversion to be continued.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    pub model: String,
    pub tensors: String,
    pub rank: String,
    #[serde(rename = "type")]
    pub ty: String,
    /// blake3 of all names, shapes, types and offsets.
    pub layout: String,
}

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
    journal: File,
}

impl Partial {
    /// Begins a conversion, replacing an unfinished one.
    pub fn create(output: &Path, identity: &Identity, size: usize) -> Result<Self> {
        let (data_path, journal_path) = (data_path(output), journal_path(output));
        // In this order no moment pairs an old journal with new data.
        remove_if_there(&journal_path)?;
        remove_if_there(&data_path)?;
        let create = |path: &Path| {
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
            file.map_err(|e| Error::io("cannot create", path, e))
        };
        let data = create(&data_path)?;
        let begun = data
            .set_len(size as u64)
            .and_then(|()| data.sync_all())
            .map_err(|e| no_room(&data_path, e))
            .and_then(|()| {
                let mut journal = create(&journal_path)?;
                append(&mut journal, identity).map_err(|e| no_room(&journal_path, e))?;
                Ok(journal)
            });
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
        identity: &Identity,
        items: &[Item],
        size: usize,
    ) -> Result<Option<(Self, Vec<Finished>)>> {
        let (data_path, journal_path) = (data_path(output), journal_path(output));
        if !data_path.exists() {
            return Ok(None);
        }
        let open = |path: &Path| {
            let file = OpenOptions::new().read(true).write(true).open(path);
            file.map_err(|e| Error::io("cannot open", path, e).hint(START_OVER))
        };
        let (mut data, mut journal) = (open(&data_path)?, open(&journal_path)?);
        let mut text = Vec::new();
        journal.read_to_end(&mut text).map_err(|e| Error::io("cannot read", &journal_path, e))?;
        let (found, finished, intact) = parse_journal(&text).map_err(|e| e.file(&journal_path))?;
        compare(identity, &found).map_err(|e| e.file(&data_path).hint(START_OVER))?;
        // A crash can leave half a line behind, to which nothing may be appended.
        journal.set_len(intact as u64).map_err(|e| cannot_write(&journal_path, e))?;
        journal.seek(SeekFrom::End(0)).map_err(|e| cannot_write(&journal_path, e))?;
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
        append(journal, finished).map_err(|e| cannot_write(&journal_path(&self.output), e))
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

/// Appends one line in one write and waits until it is on the disk.
fn append(journal: &mut File, entry: &impl Serialize) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    journal.write_all(&line)?;
    journal.sync_data()
}

/// The identity, the finished weights, and how many bytes of whole lines there are.
fn parse_journal(text: &[u8]) -> Result<(Identity, Vec<Finished>, usize)> {
    let damaged = |line: usize| {
        move |e: serde_json::Error| Error::invalid(format!("line {line} is damaged: {e}")).hint(START_OVER)
    };
    let intact = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let mut lines = text[..intact].split_inclusive(|&byte| byte == b'\n');
    let identity = serde_json::from_slice(lines.next().unwrap_or_default()).map_err(damaged(1))?;
    let finished = lines
        .enumerate()
        .map(|(at, line)| serde_json::from_slice(line).map_err(damaged(at + 2)))
        .collect::<Result<_>>()?;
    Ok((identity, finished, intact))
}

/// Names the first difference between the conversion that was asked for and the unfinished one.
fn compare(asked: &Identity, found: &Identity) -> Result<()> {
    let fields = [
        ("model", &asked.model, &found.model),
        ("tensors", &asked.tensors, &found.tensors),
        ("rank", &asked.rank, &found.rank),
        ("type", &asked.ty, &found.ty),
        ("layout", &asked.layout, &found.layout),
    ];
    match fields.into_iter().find(|(_, asked, found)| asked != found) {
        None => Ok(()),
        Some((field, asked, found)) => {
            Err(Error::invalid(format!("the unfinished conversion has {found}, asked for is {asked}"))
                .field(field))
        }
    }
}

fn no_room(path: &Path, source: std::io::Error) -> Error {
    Error::io("cannot write", path, source).hint("make room, or choose another `output`")
}

fn cannot_write(path: &Path, source: std::io::Error) -> Error {
    Error::io("cannot write", path, source)
        .hint("the output was not made; what is finished is kept: make room, then continue with `resume`")
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("cannot remove", path, e)),
        _ => Ok(()),
    }
}
