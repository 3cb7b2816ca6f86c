//! A file of JSON lines that only grows: the first says what the work was begun with, each other one is something done.
//!
//! A process that is killed while it writes leaves a last line that is not complete; that line does not count.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::first_difference;
use crate::atomic;
use crate::error::{Error, Result};

/// What a journal is kept of.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// Name and version of the lines' format.
    pub schema: &'a str,
    /// What messages call it, such as `run`.
    pub name: &'a str,
    /// All that changes the result, by name.
    pub settings: &'a Value,
}

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    schema: String,
    settings: Value,
    /// blake3 of the settings as JSON.
    hash: String,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Begins a journal at `path`, in the place of what is there, with `entries` that are done already.
    ///
    /// # Errors
    /// It cannot be written; then what was there is still there.
    pub fn create(path: &Path, work: Work, entries: &[impl Serialize]) -> Result<Self> {
        let Work { schema, settings, .. } = work;
        let header = Header { schema: schema.to_owned(), settings: settings.clone(), hash: hash(settings) };
        let mut text = to_line(&header)?;
        for entry in entries {
            text.extend(to_line(entry)?);
        }
        atomic::write(path, |out| out.write_all(&text))?;
        Self::open(path)
    }

    /// Opens the journal at `path` to go on, with its entries; `None` where not even a first line is complete.
    ///
    /// # Errors
    /// It cannot be read or written, is no journal of this schema, is damaged, or is of work with other settings, of which
    /// the first is named. Then it stays as it was.
    pub fn resume<T: DeserializeOwned>(path: &Path, work: Work) -> Result<Option<(Self, Vec<T>)>> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|source| Error::io("cannot read", path, source))?,
        };
        let n_complete = complete(&bytes).len();
        if n_complete == 0 {
            return Ok(None);
        }
        let (settings, entries) = parse(&bytes, work.schema).map_err(|error| error.file(path))?;
        if let Some(difference) = first_difference(&settings, work.settings) {
            return Err(difference.error(work.name, "line 1, ").file(path));
        }
        let journal = Self::open(path)?;
        let cut = journal.file.set_len(n_complete as u64);
        cut.map_err(|source| Error::io("cannot write", path, source))?;
        Ok(Some((journal, entries)))
    }

    /// The entries of the journal at `path`, whatever its settings are.
    ///
    /// # Errors
    /// It cannot be read, is no journal of this schema, or is damaged.
    pub fn read<T: DeserializeOwned>(path: &Path, schema: &str) -> Result<Vec<T>> {
        let bytes = fs::read(path).map_err(|source| Error::io("cannot read", path, source))?;
        let (_, entries) = parse(&bytes, schema).map_err(|error| error.file(path))?;
        Ok(entries)
    }

    fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().append(true).open(path);
        let file = file.map_err(|source| Error::io("cannot write", path, source))?;
        Ok(Self { path: path.into(), file })
    }

    /// Adds an entry, in one write; it outlives this process, but not a power failure.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn append(&mut self, entry: &impl Serialize) -> Result<()> {
        let line = to_line(entry)?;
        self.file.write_all(&line).map_err(|source| Error::io("cannot write", &self.path, source))
    }

    /// Waits until all entries are on the disk.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|source| Error::io("cannot write", &self.path, source))
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn hash(settings: &Value) -> String {
    blake3::hash(settings.to_string().as_bytes()).to_string()
}

fn to_line(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut line =
        serde_json::to_vec(value).map_err(|error| Error::engine(format!("cannot write JSON: {error}")))?;
    line.push(b'\n');
    Ok(line)
}

/// All lines that end.
fn complete(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)]
}

/// The settings and the entries.
fn parse<T: DeserializeOwned>(bytes: &[u8], schema: &str) -> Result<(Value, Vec<T>)> {
    let wrong = |number: usize, problem: String| Error::invalid(problem).field(format!("line {number}"));
    let mut lines = complete(bytes).split_inclusive(|&byte| byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let first: Value = serde_json::from_slice(first).map_err(|error| wrong(1, error.to_string()))?;
    // An older schema has other fields: it is named before they are looked at.
    let found = first.get("schema").and_then(Value::as_str).unwrap_or("nothing");
    if found != schema {
        return Err(Error::expected(schema, found).field("line 1, schema"));
    }
    let header: Header = serde_json::from_value(first).map_err(|error| wrong(1, error.to_string()))?;
    if hash(&header.settings) != header.hash {
        return Err(wrong(1, "the settings are not those that were written".into()));
    }
    let entry = |(i, line): (usize, &[u8])| {
        serde_json::from_slice(line).map_err(|error| wrong(i + 2, error.to_string()))
    };
    let entries = lines.enumerate().map(entry).collect::<Result<_>>()?;
    Ok((header.settings, entries))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SCHEMA: &str = "llama-svf/test/2";

    fn work(settings: &Value) -> Work<'_> {
        Work { schema: SCHEMA, name: "test", settings }
    }

    #[test]
    fn what_a_kill_leaves_is_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let settings = json!({ "seed": 3, "share": 0.1 });
        assert!(Journal::resume::<String>(&path, work(&settings)).unwrap().is_none());
        let mut journal = Journal::create(&path, work(&settings), &["begun"]).unwrap();
        journal.append(&"größer").unwrap();
        drop(journal);
        let whole = fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let found = Journal::resume::<String>(&path, work(&settings)).unwrap();
            let n_lines = whole[..length].iter().filter(|&&byte| byte == b'\n').count();
            let Some((mut journal, entries)) = found else {
                assert_eq!(n_lines, 0);
                continue;
            };
            assert_eq!(entries, ["begun", "größer"][..n_lines - 1]);
            journal.append(&"more").unwrap();
            assert_eq!(Journal::read::<String>(&path, SCHEMA).unwrap().len(), n_lines);
        }
    }

    #[test]
    fn what_does_not_fit_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        let settings = json!({ "seed": 3 });
        Journal::create(&path, work(&settings), &[1, 2]).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        for (text, asked, message) in [
            (good.clone(), json!({ "seed": 4 }), "line 1, seed: the test was begun with 3, and this is 4"),
            (
                good.replacen('3', "4", 1),
                settings.clone(),
                "line 1: the settings are not those that were written",
            ),
            (
                good.replace("test/2", "test/1"),
                settings.clone(),
                "line 1, schema: expected llama-svf/test/2, found",
            ),
            ("{}\n".into(), settings.clone(), "line 1, schema: expected llama-svf/test/2, found nothing"),
            (
                "{\"schema\": \"llama-svf/test/2\"}\n".into(),
                settings.clone(),
                "line 1: missing field `settings`",
            ),
            ("[\n".into(), settings.clone(), "line 1: "),
            (good.clone() + "x\n3", settings.clone(), "line 4: "),
        ] {
            fs::write(&path, &text).unwrap();
            let error = Journal::resume::<i32>(&path, work(&asked)).unwrap_err().to_string();
            assert!(error.contains(&format!("journal.jsonl: {message}")), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
