//! Stand-in for tasks: the built-in skills only.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::reward::Score;
use crate::skills::{self, Skill};

/// Part of a task's items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// To train on.
    Train,
    /// To choose by.
    Validation,
    /// To report on.
    Test,
}

/// How answers are generated.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Most tokens.
    pub max_tokens: usize,
    /// Stop strings.
    pub stop: Vec<String>,
    /// Whether the chat template is applied.
    pub chat: bool,
}

/// One question.
#[derive(Clone, Debug)]
pub struct Item {
    /// Unique.
    pub id: String,
    /// Before the chat template.
    pub prompt: String,
    /// The answer.
    pub gold: String,
    /// What a perfect model would write.
    pub completion: String,
}

/// How a task is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Data files in place of the task's own.
    pub data: Vec<PathBuf>,
    /// Whether code may be run.
    pub allow_exec: bool,
}

/// A task.
pub struct Task {
    name: String,
    generation: Generation,
    items: Vec<Item>,
}

impl Task {
    /// Loads a built-in task.
    pub fn load(name: &str, _options: &LoadOptions) -> Result<Self> {
        let question: Box<dyn Fn(u64) -> skills::Question> = match name {
            "skill-name" => Box::new(|i| skills::naming(false, 7, i)),
            _ => {
                let base = name.strip_suffix("-unseen").unwrap_or(name);
                let skill = Skill::ALL.into_iter().find(|skill| skill.name() == base);
                let skill = skill.ok_or_else(|| Error::invalid(format!("unknown task '{name}'")))?;
                let unseen = base != name;
                Box::new(move |i| skills::question(skill, unseen, 7, i))
            }
        };
        let item = |i| {
            let q = question(i);
            Item { id: format!("{name}:{i}"), prompt: q.prompt, gold: q.answer, completion: q.completion }
        };
        Ok(Self {
            name: name.into(),
            generation: Generation { max_tokens: 96, stop: vec![], chat: true },
            items: (0..500).map(item).collect(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How answers are generated.
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// Items of `part`.
    pub fn items(&self, _part: Part) -> &[Item] {
        &self.items
    }

    /// Scores a completion.
    pub fn score(&self, item: &Item, completion: &str) -> Result<Score> {
        let found = skills::short_answer(completion);
        let value = f64::from(u8::from(found == Some(&item.gold)));
        Ok(Score { value, reason: format!("found {found:?}, expected {}", item.gold) })
    }
}
