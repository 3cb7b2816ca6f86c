//! A state as a file: a line of JSON with the settings of the run and all that is counted, then all vectors as
//! little-endian f32, then the blake3 hash of everything before it.
//!
//! It is written beside itself and renamed, so that a kill at any moment leaves the one before.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::options::Options;
use super::state::{Best, State};
use crate::error::{Error, Result};
use crate::optimiser::AdamW;
use crate::{atomic, resume};

const SCHEMA: &str = "llama-svf/checkpoint/2";
const HASH_BYTES: usize = 32;

/// The first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    schema: String,
    settings: Value,
    step: u64,
    updates: u64,
    n_flat: u64,
    flat_reward: f64,
    has_learned: bool,
    validated: Option<u64>,
    n_worse: u64,
    /// Step of the best, if there is one.
    best: Option<u64>,
    /// Scores in `before` and in the best.
    n_before: usize,
    n_best: usize,
    tokens: u64,
    seconds: f64,
}

/// Writes `state` to `path`.
///
/// # Errors
/// It cannot be written; then what was there is still there.
pub fn save(path: &Path, state: &State, settings: &Value) -> Result<()> {
    let best = state.best.as_ref();
    let head = Head {
        schema: SCHEMA.to_owned(),
        settings: settings.clone(),
        step: state.step,
        updates: state.adam.t,
        n_flat: state.n_flat,
        flat_reward: state.flat_reward,
        has_learned: state.has_learned,
        validated: state.validated,
        n_worse: state.n_worse,
        best: best.map(|best| best.step),
        n_before: state.before.len(),
        n_best: best.map_or(0, |best| best.scores.len()),
        tokens: state.tokens,
        seconds: state.seconds,
    };
    let mut bytes =
        serde_json::to_vec(&head).map_err(|error| Error::engine(format!("cannot write JSON: {error}")))?;
    bytes.push(b'\n');
    let vectors = [state.raw.flat(), &state.adam.first, &state.adam.second, &state.before];
    let of_best = best.into_iter().flat_map(|best| [best.parameters.flat(), &best.scores]);
    for vector in vectors.into_iter().chain(of_best) {
        bytes.extend(vector.iter().flat_map(|x| x.to_le_bytes()));
    }
    let hash = blake3::hash(&bytes);
    bytes.extend(hash.as_bytes());
    atomic::write(path, |out| out.write_all(&bytes))
}

/// Reads the state that `path` has for a run with `options` and `settings`, of weights with so many parameters (`lengths`).
///
/// # Errors
/// A file that is damaged or no checkpoint, or one of a run with other settings.
pub fn load(path: &Path, options: &Options, settings: &Value, lengths: &[usize]) -> Result<State> {
    let bytes = std::fs::read(path).map_err(|source| Error::io("cannot read", path, source))?;
    read(&bytes, options, settings, lengths).map_err(|error| error.file(path))
}

/// The settings of the run whose state `path` has.
///
/// # Errors
/// A file that is damaged or no checkpoint.
pub fn settings(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).map_err(|source| Error::io("cannot read", path, source))?;
    head(&bytes).map(|(head, _)| head.settings).map_err(|error| error.file(path))
}

fn damaged(problem: &str) -> Error {
    Error::invalid(problem.to_owned()).hint("it is no checkpoint, or damaged; `Earlier::Replace` starts over")
}

/// The first line, and what follows it.
fn head(bytes: &[u8]) -> Result<(Head, &[u8])> {
    let end = bytes.len().checked_sub(HASH_BYTES).ok_or_else(|| damaged("it is too short"))?;
    let (content, hash) = bytes.split_at(end);
    if blake3::hash(content).as_bytes() != hash {
        return Err(damaged("its checksum is wrong"));
    }
    let line =
        content.iter().position(|&byte| byte == b'\n').ok_or_else(|| damaged("it has no first line"))?;
    let head: Head = serde_json::from_slice(&content[..line]).map_err(|error| damaged(&error.to_string()))?;
    if head.schema != SCHEMA {
        return Err(Error::expected(SCHEMA, head.schema)
            .field("schema")
            .hint("`Earlier::Replace` starts over"));
    }
    Ok((head, &content[line + 1..]))
}

fn read(bytes: &[u8], options: &Options, settings: &Value, lengths: &[usize]) -> Result<State> {
    let (head, content) = head(bytes)?;
    resume::check("run", &head.settings, settings).map_err(|error| {
        error.hint("`Earlier::Resume` needs the settings of the run; `Earlier::Replace` starts over")
    })?;

    let n: usize = lengths.iter().sum();
    let n_best = if head.best.is_some() { n } else { 0 };
    let (values, rest) = content.as_chunks::<4>();
    // Checked one by one: the counts come from the file.
    let expected =
        [n, n, n, head.n_before, n_best, head.n_best].iter().try_fold(0usize, |sum, n| sum.checked_add(*n));
    if expected != Some(values.len()) || !rest.is_empty() {
        return Err(damaged("its length is wrong"));
    }
    let mut values = values.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let mut take = |n: usize| values.by_ref().take(n).collect::<Vec<f32>>();
    let raw = lengths.iter().map(|&n| take(n)).collect();
    let (first, second, before) = (take(n), take(n), take(head.n_before));
    let best = head.best.map(|step| Best {
        step,
        parameters: lengths.iter().map(|&n| take(n)).collect(),
        scores: take(head.n_best),
    });
    Ok(State {
        step: head.step,
        raw,
        adam: AdamW { options: options.adam, t: head.updates, first, second },
        n_flat: head.n_flat,
        flat_reward: head.flat_reward,
        has_learned: head.has_learned,
        validated: head.validated,
        n_worse: head.n_worse,
        before,
        best,
        tokens: head.tokens,
        seconds: head.seconds,
    })
}
