//! The trace of an evaluation: a [`Journal`] with a line for each answer, written as it comes. An interrupted run keeps
//! what it did, and can be continued.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Answer;
use crate::error::{Error, Result};
use crate::resume::{Journal, Work};
use crate::task::Item;

/// An open trace.
pub struct Trace {
    journal: Journal,
    known: HashMap<Key, Known>,
}

/// Item, configuration, sample.
type Key = (String, String, usize);

struct Known {
    /// Line of the file, from 1.
    line: usize,
    /// [`Item::digest`].
    item: String,
    answer: Answer,
}

/// One answer.
#[derive(Serialize, Deserialize)]
struct Line {
    id: String,
    /// [`Item::digest`].
    item: String,
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

const SCHEMA: &str = "llama-svf/trace/2";

impl Trace {
    /// Begins a trace at `path` with a line of `settings`.
    ///
    /// # Errors
    /// There is a file already, or it cannot be written.
    pub fn create(path: &Path, settings: &Value) -> Result<Self> {
        if path.exists() {
            return Err(Error::invalid("exists already")
                .file(path)
                .setting("trace")
                .hint("`resume` continues it; or choose another name"));
        }
        let journal = Journal::create(path, work(settings), &[] as &[Line]);
        Ok(Self { journal: journal.map_err(|error| error.setting("trace"))?, known: HashMap::new() })
    }

    /// Continues the trace at `path`, or begins it if there is none. A last line that is not complete, because
    /// the process was killed, is dropped.
    ///
    /// # Errors
    /// A file that is no trace, or one with other settings.
    pub fn resume(path: &Path, settings: &Value) -> Result<Self> {
        let found = Journal::resume(path, work(settings)).map_err(|error| {
            error.hint("`resume` needs a trace that was begun with these settings; or choose another file")
        })?;
        let (journal, lines) = match found {
            Some(found) => found,
            None => (Journal::create(path, work(settings), &[] as &[Line])?, Vec::new()),
        };
        let known = |(i, line): (usize, Line)| {
            let answer = Answer {
                completion: line.completion,
                score: line.score,
                reason: line.reason,
                n_tokens: line.tokens,
                is_cut: line.cut,
            };
            let key = (line.id, line.configuration, line.sample);
            (key, Known { line: i + 2, item: line.item, answer })
        };
        Ok(Self { journal, known: lines.into_iter().enumerate().map(known).collect() })
    }

    /// The answer that the trace has, if it has one.
    ///
    /// # Errors
    /// The trace has one to another question of the same id.
    pub fn known(&self, item: &Item, configuration: &str, sample: usize) -> Result<Option<&Answer>> {
        let Some(known) = self.known.get(&(item.id.clone(), configuration.to_owned(), sample)) else {
            return Ok(None);
        };
        if known.item != item.digest() {
            return Err(Error::invalid("the trace was made from other data")
                .file(self.journal.path())
                .field(format!("line {}, item {}", known.line, item.id))
                .hint("leave out `resume` and begin a new trace"));
        }
        Ok(Some(&known.answer))
    }

    /// Writes one answer, at once.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, item: &Item, configuration: &str, sample: usize, answer: &Answer) -> Result<()> {
        self.journal.append(&Line {
            id: item.id.clone(),
            item: item.digest(),
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
}

fn work(settings: &Value) -> Work<'_> {
    Work { schema: SCHEMA, name: "trace", settings }
}
