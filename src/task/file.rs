//! What a task file may hold: its keys, their types, and what they are without being given.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::Generation;

/// What a task file holds, as it is written. Every key is optional here, because a file with `base` takes
/// from there what it does not say itself.
#[derive(Clone, Deserialize, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct TaskFile {
    /// Followed by the source already; here for its type.
    #[expect(dead_code)]
    base: Option<String>,
    pub name: Option<String>,
    pub description: Option<String>,
    pub prompt: Option<String>,
    pub question: Option<String>,
    pub completion: Option<String>,
    pub gold: Option<String>,
    #[serde(default)]
    pub rows: Vec<Form>,
    #[serde(default)]
    pub data: Data,
    pub reward: Option<Reward>,
    #[serde(default)]
    pub keep_thinking: bool,
    #[serde(default)]
    pub split: Split,
    #[serde(default)]
    pub generation: Generation,
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

/// Rows of one kind: known by their fields, and what templates need beside these.
#[derive(Clone, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// Names, with a dot for a field of a field. A row of this form has all of them.
    pub fields: Vec<String>,
    /// Further fields, by expressions over those of the row.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
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

impl Reward {
    /// Its name in a task file.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Numeric { .. } => "numeric",
            Self::Latex {} => "latex",
            Self::Choice { .. } => "choice",
            Self::Text { .. } => "text",
            Self::Code { .. } => "code",
            Self::Json { .. } => "json",
            Self::Command { .. } => "command",
        }
    }
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
