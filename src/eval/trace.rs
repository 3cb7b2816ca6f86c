//! The trace of an evaluation: JSON lines, the first with the settings, then one for each answer as it comes.
//! An interrupted run keeps what it did, and can be continued.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Answer;
use crate::error::{Error, Result};
use crate::task::Item;

/// An open trace.
pub struct Trace {
    path: PathBuf,
    file: BufWriter<File>,
    known: HashMap<Key, Known>,
}

/// Item, configuration, sample.
type Key = (String, String, usize);

struct Known {
    /// Line of the file, from 1.
    line: usize,
    prompt: String,
    gold: String,
    answer: Answer,
}

/// One answer.
#[derive(Serialize, Deserialize)]
struct Line {
    id: String,
    configuration: String,
    sample: usize,
    prompt: String,
    gold: String,
    completion: String,
    score: f64,
    reason: String,
    tokens: usize,
    cut: bool,
}

impl Trace {
    /// Begins a trace at `path` with a line of `settings`.
    ///
    /// # Errors
    /// There is a file already, or it cannot be written.
    pub fn create(path: &Path, settings: &Value) -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|source| {
            let exists = source.kind() == std::io::ErrorKind::AlreadyExists;
            let error = Error::io("cannot create", path, source).setting("trace");
            if exists {
                error.hint("`resume` continues it; or choose another name")
            } else {
                error
            }
        })?;
        let mut trace = Self { path: path.into(), file: BufWriter::new(file), known: HashMap::new() };
        trace.write_line(settings)?;
        Ok(trace)
    }

    /// Continues the trace at `path`, or begins it if there is none. A last line that is not complete, because
    /// the process was killed, is dropped.
    ///
    /// # Errors
    /// A file that is no trace, or one with other settings.
    pub fn resume(path: &Path, settings: &Value) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Self::create(path, settings)
            }
            other => other.map_err(|source| Error::io("cannot read", path, source).setting("trace"))?,
        };
        let complete = text.rfind('\n').map_or("", |end| &text[..=end]);
        let known = read(complete, settings).map_err(|error| error.file(path))?;
        let cannot_write = |source| Error::io("cannot write", path, source);
        let file = OpenOptions::new().append(true).open(path).map_err(cannot_write)?;
        file.set_len(complete.len() as u64).map_err(cannot_write)?;
        let mut trace = Self { path: path.into(), file: BufWriter::new(file), known };
        if complete.is_empty() {
            trace.write_line(settings)?;
        }
        Ok(trace)
    }

    /// The answer that the trace has, if it has one.
    ///
    /// # Errors
    /// The trace has one to another question of the same id.
    pub fn known(&self, item: &Item, configuration: &str, sample: usize) -> Result<Option<&Answer>> {
        let Some(known) = self.known.get(&(item.id.clone(), configuration.to_owned(), sample)) else {
            return Ok(None);
        };
        if known.prompt != item.prompt || known.gold != item.gold {
            return Err(Error::invalid("the trace was made from other data")
                .file(&self.path)
                .field(format!("line {}", known.line))
                .hint("leave out `resume` and begin a new trace"));
        }
        Ok(Some(&known.answer))
    }

    /// Writes one answer, at once.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, item: &Item, configuration: &str, sample: usize, answer: &Answer) -> Result<()> {
        self.write_line(&Line {
            id: item.id.clone(),
            configuration: configuration.to_owned(),
            sample,
            prompt: item.prompt.clone(),
            gold: item.gold.clone(),
            completion: answer.completion.clone(),
            score: answer.score,
            reason: answer.reason.clone(),
            tokens: answer.n_tokens,
            cut: answer.is_cut,
        })
    }

    fn write_line(&mut self, value: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(value)
            .map_err(|error| Error::engine(format!("cannot write JSON: {error}")))?;
        line.push(b'\n');
        let written = self.file.write_all(&line).and_then(|()| self.file.flush());
        written.map_err(|source| Error::io("cannot write", &self.path, source))
    }
}

/// The answers of complete lines.
fn read(text: &str, settings: &Value) -> Result<HashMap<Key, Known>> {
    let mut known = HashMap::new();
    for (i, text) in text.lines().enumerate() {
        let number = i + 1;
        let wrong = |error: serde_json::Error| {
            Error::invalid(error.to_string())
                .field(format!("line {number}"))
                .hint("this is no trace of an evaluation; choose another file")
        };
        if i == 0 {
            let found: Value = serde_json::from_str(text).map_err(wrong)?;
            check_settings(&found, settings)?;
            continue;
        }
        let line: Line = serde_json::from_str(text).map_err(wrong)?;
        let answer = Answer {
            completion: line.completion,
            score: line.score,
            reason: line.reason,
            n_tokens: line.tokens,
            is_cut: line.cut,
        };
        let key = (line.id, line.configuration, line.sample);
        known.insert(key, Known { line: number, prompt: line.prompt, gold: line.gold, answer });
    }
    Ok(known)
}

fn check_settings(found: &Value, settings: &Value) -> Result<()> {
    let names = settings.as_object().into_iter().flat_map(|settings| settings.keys());
    for name in names {
        if found.get(name) != settings.get(name) {
            let show = |value: Option<&Value>| value.map_or("nothing".into(), Value::to_string);
            return Err(Error::expected(show(settings.get(name)), show(found.get(name)))
                .field(format!("line 1, {name}"))
                .hint("a trace can only be continued with the settings it was begun with"));
        }
    }
    Ok(())
}
