//! How answers are generated: what a task says, and what a user says over it.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How answers are generated.
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Generation {
    /// Most tokens of one answer.
    pub max_tokens: usize,
    /// An answer ends before any of these.
    pub stop: Vec<String>,
    /// Whether the model's chat template is applied around the prompt.
    pub chat: bool,
    /// What the chat's system message says; without it there is none beside the template's own.
    pub system: Option<String>,
}

impl Default for Generation {
    fn default() -> Self {
        Self { max_tokens: 256, stop: Vec::new(), chat: false, system: None }
    }
}

/// What stands over a task's own [`Generation`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Overrides {
    /// Most tokens of one answer.
    pub max_tokens: Option<usize>,
    /// The prompt goes to the model without a chat template.
    pub no_chat: bool,
    /// What the chat's system message says.
    pub system: Option<String>,
}

impl Generation {
    /// Checks what the task's file says; the error names the key below `generation`.
    pub(super) fn check(&self) -> std::result::Result<(), (&'static str, Error)> {
        if self.max_tokens == 0 {
            return Err(("max_tokens", Error::expected("at least 1", 0)));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(("stop", Error::invalid("a stop string is empty")));
        }
        if self.system.is_some() && !self.chat {
            let error = Error::invalid("without chat = true there is no system message");
            return Err(("system", error.hint("set chat = true, or begin the prompt with the text")));
        }
        Ok(())
    }

    /// With what a user says over it.
    pub(super) fn with(mut self, overrides: &Overrides) -> Result<Self> {
        let had_system = self.system.is_some();
        self.max_tokens = overrides.max_tokens.unwrap_or(self.max_tokens);
        self.chat &= !overrides.no_chat;
        self.system = overrides.system.clone().or(self.system);
        self.check().map_err(|(key, error)| match key {
            "system" if overrides.no_chat && had_system => {
                Error::invalid("the task has a system message, which needs the chat template").field(key)
            }
            "system" => {
                Error::invalid("the task's prompts go without a chat template, so there is no system message")
                    .field(key)
                    .hint("set chat = true in a task file with this one as its base")
            }
            _ => error.field(key),
        })?;
        Ok(self)
    }
}
