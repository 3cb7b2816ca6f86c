//! Tasks: items to answer, how answers are generated, and how they are scored.
//!
//! [`Task::load`] takes the name of a built-in skill ([`SKILLS`]), the name of a preset ([`presets`]), or a task
//! file:
//!
//! ```toml
//! name = "capitals"                       # default: the file's name
//! description = "Capitals of countries"
//! prompt = "What is the capital of {{ country }}?"
//! question = "Capital of {{ country }}?"  # what a user would ask, for choosing experts; default: the prompt
//! completion = "It is {{ capital }}."     # what a perfect model would write; default: the gold answer
//! gold = "{{ capital }}"
//! keep_thinking = false                   # true: what a reasoning model thinks is a part of its answer
//!
//! [data]                                  # JSON Lines, plain or gzip; paths relative to this file
//! files = ["capitals.jsonl.gz"]           # to be split
//! # train, validation, test = […]         # and, or instead: files of their own
//!
//! [reward]
//! kind = "text"                           # see below
//! pattern = "It is ([^.]*)"
//!
//! [split]                                 # of `files`; below 1 a fraction, from 1 on a count
//! seed = 0
//! train = 0.8
//! validation = 0.1                        # without `test`, the rest tests
//!
//! [generation]
//! max_tokens = 256
//! stop = ["\n\n"]
//! chat = true                             # apply the model's chat template
//! system = "You are brief."               # the chat's system message
//! ```
//!
//! Prompts are Jinja templates over the fields of a row; a field that is missing is an error. They have the methods of
//! Python's texts, lists and dictionaries (`answer.split('####')[-1].strip()`, `choices.label.index(answerKey)`), and
//! beside Jinja's own filters `regex_replace(pattern, by)`, as Python's `re.sub`, `boxed`, what the last `\boxed{…}` of a
//! text holds, and `tojson`.
//!
//! `base = "gsm8k"`, or the name of another task file, takes from there what the file does not say, also single keys of
//! `[generation]`, `[split]` and `[reward]`; a `reward` of another `kind` begins anew, and with another `prompt` goes the
//! `question`. Where rows come in several forms,
//! each `[[rows]]` names `fields` that a row of its form has, and may `set` further ones by expressions:
//!
//! ```toml
//! [[rows]]
//! fields = ["question", "choices.text", "choices.label", "answerKey"]
//! set.options = "choices.text"
//! set.gold = "choices.label.index(answerKey)"
//! ```
//!
//! Rewards and their keys:
//!
//! | kind | keys |
//! |---|---|
//! | `numeric` | `tolerance = 0.0` |
//! | `latex` | |
//! | `choice` | `options`, an expression for a list of texts; `labels = "letters"` or `"numbers"`; `gold_is = "label"`, `"index"` (from 0) or `"text"` |
//! | `text` | `pattern`, a regex whose last match, or its first group, is the answer; `ignore_case = false` |
//! | `code` | `tests`, a template; `continues`, a template for what the completion goes on from; `seconds = 10`; `memory_mib = 512` |
//! | `json` | `schema`, a JSON Schema: a table, JSON text, or the path of a file; `partial = false`; `strict = false` |
//! | `command` | `program`, a list of words; `seconds = 10` |
//!
//! The gold answer of `json` is JSON text: `gold = "{{ person | tojson }}"` writes a field so. An answer that breaks the
//! schema scores 0. With `partial = true` the score is the share of right fields: of all values that hold no others, in
//! the gold answer or in the model's, those that stand in both at the same place, and are equal. With `strict = true`
//! the answer is JSON and nothing else. See [`crate::reward::json`].
//!
//! `command` starts `program`, with the folder of the task file as its working directory, and as what its first word is
//! relative to if that has a slash. For each answer the program reads one line
//! `{"prompt": …, "completion": …, "gold": …, "row": {…}}`, where `row` holds the fields of the item's row, and writes
//! one line: a number from 0 to 1, or `{"score": 0.5, "reason": "why"}`. It is one of your own programs, and no sandbox
//! holds it. One process scores all answers; if it ends, writes something else, or takes longer than `seconds` for an
//! answer, that is an error with the last lines of its stderr, and no score. See [`crate::reward::command`].
//!
//! Items with the same prompt are one item: later ones are dropped before anything is split, and where files of
//! parts overlap, test keeps it before validation, and validation before train.

mod check;
mod file;
mod forms;
mod generation;
mod identity;
pub(crate) mod jinja;
mod load;
pub mod presets;
mod reward;
mod rows;
mod skill;
mod source;
mod split;
mod stream;
mod templates;

use std::path::PathBuf;

use reward::{Answer, Reward};
pub(crate) use rows::{read as read_rows, Row};

pub use check::{Check, Fault};
pub use generation::{Generation, Overrides};

/// Names of the built-in tasks, which need no data.
pub const SKILLS: [&str; 7] =
    ["math", "code", "reasoning", "math-unseen", "code-unseen", "reasoning-unseen", "skill-name"];

/// Part of a task's items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// To train on.
    Train,
    /// To choose by.
    Validation,
    /// To report on.
    Test,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// `train`, `validation` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// One question.
#[derive(Clone, Debug)]
pub struct Item {
    /// `FILE:LINE`, or `TASK:INDEX` of a built-in one.
    pub id: String,
    /// The prompt, before the chat template.
    pub prompt: String,
    /// The question as a user would ask it, without what the prompt adds to tell how to answer.
    pub question: String,
    /// The answer, for people.
    pub gold: String,
    /// The reference completion: what a perfect model would have written.
    pub completion: String,
    answer: Answer,
}

/// How a task is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Data files in place of the task's own. `train=FILE`, `validation=FILE` and `test=FILE` are a part's own.
    pub data: Vec<PathBuf>,
    /// Whether programs may be run, those that completions are and those that score; without it a task that needs to
    /// is refused.
    pub allow_exec: bool,
    /// The `llama-svf` program, which starts the sandbox; `None` is the running one, if it called
    /// [`sandbox::main`](crate::reward::code::sandbox::main) at its start.
    pub sandbox: Option<PathBuf>,
    /// What stands over the task's own way to generate answers.
    pub overrides: Overrides,
}

/// Where a task comes from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The task file, or "preset NAME", then what it is based on; none for a built-in task.
    pub files: Vec<String>,
    /// Its rows.
    pub data: Vec<DataFile>,
    /// The kind of its reward.
    pub reward: String,
}

/// A file of rows.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// The file.
    pub path: PathBuf,
    /// The part it is for; `None` where it is split.
    pub part: Option<Part>,
    /// Rows.
    pub n_rows: usize,
}

#[derive(Default)]
struct Parts {
    train: Vec<Item>,
    validation: Vec<Item>,
    test: Vec<Item>,
}

/// Items, checked and split, and their reward.
pub struct Task {
    name: String,
    description: String,
    generation: Generation,
    reward: Reward,
    /// Whether thinking is scored as a part of the answer.
    keep_thinking: bool,
    /// The reward as the task's file gives it.
    rule: String,
    origin: Origin,
    parts: Parts,
    /// Items with the prompt of one in a part.
    duplicates: Vec<Item>,
    notes: Vec<String>,
}

/// The note about items that were dropped, if there are any.
fn dropped(n: usize) -> Vec<String> {
    let note = || format!("{n} items had the prompt of another one and were dropped");
    (n > 0).then(note).into_iter().collect()
}

impl Task {
    /// The task's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One line: what it is about.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Where it comes from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// How answers are generated.
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// Changes with the task and with everything by which answers are made and scored, but for the items.
    pub fn rules(&self) -> String {
        let Generation { max_tokens, stop, chat, system } = &self.generation;
        // Written so that runs from before there were system messages go on.
        let system = system.as_ref().map_or_else(String::new, |system| format!(", system: {system:?}"));
        format!(
            "{} Generation {{ max_tokens: {max_tokens}, stop: {stop:?}, chat: {chat}{system} }} {}",
            self.name, self.rule
        )
    }

    /// The items of a part; parts are disjoint, and no prompt occurs twice.
    pub fn items(&self, part: Part) -> &[Item] {
        self.parts.of(part)
    }

    /// The items that were dropped because one in a part has their prompt.
    pub fn duplicates(&self) -> &[Item] {
        &self.duplicates
    }

    /// What a user should know, one line each: dropped items, a sandbox that could be tighter.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl Parts {
    fn of(&self, part: Part) -> &[Item] {
        match part {
            Part::Train => &self.train,
            Part::Validation => &self.validation,
            Part::Test => &self.test,
        }
    }

    fn of_mut(&mut self, part: Part) -> &mut Vec<Item> {
        match part {
            Part::Train => &mut self.train,
            Part::Validation => &mut self.validation,
            Part::Test => &mut self.test,
        }
    }
}
