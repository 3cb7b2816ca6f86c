//! Task files, read and checked: TOML in, settings out, with the line of whatever is wrong.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue};

use super::presets;
use crate::error::{Error, Result};

/// A task file is a page of text; more is a mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What a task file holds, as it is written. Every key is optional here, because a file with `base` takes
/// from the preset what it does not say itself.
#[derive(Clone, Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct TaskFile {
    pub base: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub prompt: Option<String>,
    pub completion: Option<String>,
    pub gold: Option<String>,
    #[serde(default)]
    pub data: Data,
    pub reward: Option<Reward>,
    pub split: Option<Split>,
    pub generation: Option<Generation>,
}

/// Where the rows are. Relative paths are relative to the task file.
#[derive(Clone, Deserialize, Debug, Default, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// To be split.
    pub files: Vec<PathBuf>,
    pub train: Vec<PathBuf>,
    pub validation: Vec<PathBuf>,
    pub test: Vec<PathBuf>,
}

#[derive(Clone, Deserialize, Debug)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Reward {
    Numeric {
        #[serde(default)]
        tolerance: f64,
    },
    Latex {},
    Choice {
        /// An expression that gives a list of texts.
        options: String,
        #[serde(default)]
        labels: Labels,
        #[serde(default)]
        gold_is: GoldIs,
    },
    Text {
        pattern: Option<String>,
        #[serde(default)]
        ignore_case: bool,
    },
    Code {
        /// A template: what the completion goes on from.
        continues: Option<String>,
        /// A template: what runs after it.
        tests: String,
        #[serde(default = "default_seconds")]
        seconds: u64,
        #[serde(default = "default_memory")]
        memory_mib: u64,
    },
    Json {
        /// A JSON Schema: a path, JSON text, or a table.
        schema: Option<toml::Value>,
        #[serde(default)]
        partial: bool,
        #[serde(default)]
        strict: bool,
    },
    Command {
        program: Vec<String>,
        #[serde(default = "default_seconds")]
        seconds: u64,
    },
}

fn default_seconds() -> u64 {
    10
}

fn default_memory() -> u64 {
    512
}

#[derive(Clone, Copy, Deserialize, Debug, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Labels {
    #[default]
    Letters,
    Numbers,
}

/// How the gold answer of a choice names an option.
#[derive(Clone, Copy, Deserialize, Debug, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum GoldIs {
    #[default]
    Label,
    /// Counted from 0.
    Index,
    Text,
}

/// Shares of the items: below 1 a fraction, from 1 on a count. Test gets what is left if it is not given.
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields, default)]
pub struct Split {
    pub seed: u64,
    pub train: f64,
    pub validation: f64,
    pub test: Option<f64>,
}

impl Default for Split {
    fn default() -> Self {
        Self { seed: 0, train: 0.8, validation: 0.1, test: None }
    }
}

#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields, default)]
pub struct Generation {
    pub max_tokens: usize,
    pub stop: Vec<String>,
    pub chat: bool,
}

impl Default for Generation {
    fn default() -> Self {
        Self { max_tokens: 256, stop: Vec::new(), chat: false }
    }
}

/// The text of a task file, which knows on which line a key stands.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file, or "preset NAME".
    pub path: PathBuf,
    text: String,
    /// The preset that the file is based on.
    base: Option<Box<Source>>,
}

impl Source {
    /// Names file, line and key in `error`; `key` is dotted, such as `split.train`.
    pub fn blame(&self, key: &str, error: Error) -> Error {
        let own = DeTable::parse(&self.text).ok().and_then(|table| {
            let mut parts = key.split('.');
            let (name, mut value) = table.get_ref().get_key_value(parts.next()?)?;
            let mut span = name.span();
            for part in parts {
                let DeValue::Table(inner) = value.get_ref() else { break };
                let Some((name, next)) = inner.get_key_value(part) else { break };
                (span, value) = (name.span(), next);
            }
            Some(span)
        });
        match (own, &self.base) {
            (None, Some(base)) => base.blame(key, error),
            (span, _) => error.field(key).file(self.at(span)),
        }
    }

    /// `FILE:LINE`.
    fn at(&self, span: Option<Range<usize>>) -> PathBuf {
        let start = span.map_or(0, |span| span.start.min(self.text.len()));
        let line = 1 + self.text.as_bytes()[..start].iter().filter(|&&c| c == b'\n').count();
        PathBuf::from(format!("{}:{line}", self.path.display()))
    }

    /// The folder that paths are relative to.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    fn parse(&self) -> Result<TaskFile> {
        toml::from_str(&self.text).map_err(|error| {
            let span = error.span().filter(|span| !span.is_empty());
            let message = error.message().lines().collect::<Vec<_>>().join(" ");
            let found = span.clone().and_then(|span| self.text.get(span)).unwrap_or("");
            // An unknown key is named by its own text, a wrong value by the key in front of it.
            let start = span.as_ref().map_or(0, |span| span.start);
            let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
            let key = self.text[line_start..].split(['=', '\n']).next().unwrap_or("").trim();
            let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
            let hint =
                unknown.and_then(|(unknown, rest)| did_you_mean(unknown, rest.split('`').skip(1).step_by(2)));
            let field =
                unknown.map_or(if found.is_empty() { "" } else { key }, |(unknown, _)| unknown).to_owned();
            let error = Error::invalid(message).file(self.at(span));
            let error = if field.is_empty() { error } else { error.field(field) };
            match hint {
                Some(hint) => error.hint(hint),
                None => error,
            }
        })
    }
}

/// A hint at the known name that `found` is a misspelling of, if there is one.
pub fn did_you_mean<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let near = known.map(|name| (strsim::damerau_levenshtein(found, name), name)).min();
    near.filter(|(distance, _)| *distance <= 2).map(|(_, name)| format!("did you mean {name}?"))
}

/// Reads the task file at `path`.
pub fn read(path: &Path) -> Result<(TaskFile, Source)> {
    let cannot_read = |source| Error::io("cannot read", path, source);
    let found = std::fs::metadata(path).map_err(cannot_read)?;
    if !found.is_file() || found.len() > MAX_FILE_BYTES {
        return Err(
            Error::invalid(format!("expected a task file of at most {MAX_FILE_BYTES} bytes")).file(path)
        );
    }
    let text = std::fs::read_to_string(path).map_err(cannot_read)?;
    let mut source = Source { path: path.to_owned(), text, base: None };
    let mut file = source.parse()?;
    if file.name.is_none() {
        file.name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    }
    if let Some(base) = file.base.clone() {
        let (preset, below) = preset(&base).map_err(|error| source.blame("base", error))?;
        source.base = Some(Box::new(below));
        file = TaskFile {
            base: None,
            name: file.name,
            description: file.description.or(preset.description),
            prompt: file.prompt.or(preset.prompt),
            completion: file.completion.or(preset.completion),
            gold: file.gold.or(preset.gold),
            data: file.data,
            reward: file.reward.or(preset.reward),
            split: file.split.or(preset.split),
            generation: file.generation.or(preset.generation),
        };
    }
    Ok((file, source))
}

/// The preset `name`.
pub fn preset(name: &str) -> Result<(TaskFile, Source)> {
    let text = presets::text(name).ok_or_else(|| {
        Error::expected(format!("a preset ({})", presets::names().join(", ")), format!("'{name}'"))
    })?;
    let source = Source { path: PathBuf::from(format!("preset {name}")), text: text.to_owned(), base: None };
    let mut file = source.parse()?;
    file.name = Some(name.to_owned());
    Ok((file, source))
}
