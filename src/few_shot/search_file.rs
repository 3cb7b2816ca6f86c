//! `NAME.search` beside a mixture to be: a search as far as it has come, until the mixture is written. A line of JSON,
//! and its blake3 hash in the next.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::State;
use crate::atomic;
use crate::error::{Error, Result};
use crate::resume::{self, Earlier};

const SCHEMA: &str = "llama-svf/search/2";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    schema: String,
    /// All that changes the result, by name.
    settings: Value,
    /// The searches begun, in their order.
    states: Vec<State>,
}

/// The file of one command; none where no mixture is written.
pub struct SearchFile {
    path: Option<PathBuf>,
    is_resumed: bool,
}

impl SearchFile {
    /// The file beside `output`; nothing is written yet.
    ///
    /// # Errors
    /// `output` or an earlier search is there, and `earlier` does not allow that.
    pub fn new(output: Option<&Path>, earlier: Earlier) -> Result<Self> {
        let Some(output) = output else { return Ok(Self { path: None, is_resumed: false }) };
        let mut name = output.file_name().unwrap_or_default().to_owned();
        name.push(".search");
        let path = output.with_file_name(name);
        let is_resumed = earlier == Earlier::Resume && path.exists();
        if path.exists() && earlier == Earlier::Refuse {
            return Err(Error::invalid("an earlier search is there")
                .file(path)
                .hint("`Earlier::Resume` goes on with it, `Earlier::Replace` starts over"));
        }
        if output.exists() && earlier != Earlier::Replace && !is_resumed {
            return Err(Error::invalid("exists already").file(output).hint("`Earlier::Replace` replaces it"));
        }
        Ok(Self { path: Some(path), is_resumed })
    }

    /// The searches to go on with; none where there is nothing to resume.
    ///
    /// # Errors
    /// A damaged file, or one of other settings, of which the first is named.
    pub fn load(&self, settings: &Value) -> Result<Vec<State>> {
        let Some(path) = self.path.as_deref().filter(|_| self.is_resumed) else { return Ok(Vec::new()) };
        let text = std::fs::read_to_string(path).map_err(|source| Error::io("cannot read", path, source))?;
        let damaged = || {
            Error::invalid("it is damaged, or no search").file(path).hint("`Earlier::Replace` starts over")
        };
        let (line, hash) = text.trim_end().split_once('\n').ok_or_else(damaged)?;
        if blake3::hash(line.as_bytes()).to_string() != hash {
            return Err(damaged());
        }
        let stored: Stored = serde_json::from_str(line).map_err(|_| damaged())?;
        if stored.schema != SCHEMA {
            return Err(Error::expected(SCHEMA, stored.schema)
                .file(path)
                .field("schema")
                .hint("`Earlier::Replace` starts over"));
        }
        resume::check("search", &stored.settings, settings).map_err(|error| {
            error
                .file(path)
                .hint("`Earlier::Resume` needs the settings of the search; `Earlier::Replace` starts over")
        })?;
        Ok(stored.states)
    }

    /// Keeps the searches that are done and the one at work.
    ///
    /// # Errors
    /// It cannot be written; then what was there is still there.
    pub fn save(&self, settings: &Value, done: &[State], at_work: &State) -> Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let states = done.iter().chain([at_work]).cloned().collect();
        let stored = Stored { schema: SCHEMA.into(), settings: settings.clone(), states };
        let line = serde_json::to_string(&stored)
            .map_err(|error| Error::engine(format!("cannot write JSON: {error}")))?;
        let hash = blake3::hash(line.as_bytes());
        atomic::write(path, |out| writeln!(out, "{line}\n{hash}"))
    }

    /// What to tell the user about an interrupt.
    pub fn hint(&self, error: Error) -> Error {
        match &self.path {
            Some(path) if error.is_interrupted() && path.exists() => {
                error.hint("`Earlier::Resume` goes on from the last generation")
            }
            _ => error,
        }
    }

    /// The mixture is written, so that nothing is left to go on with.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove(&self) -> Result<()> {
        match self.path.as_deref().filter(|path| path.exists()) {
            Some(path) => {
                std::fs::remove_file(path).map_err(|source| Error::io("cannot remove", path, source))
            }
            None => Ok(()),
        }
    }
}
