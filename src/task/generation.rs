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
    /// Checks what the task's file says. `blame` names the place of a key below `generation`.
    pub(super) fn check(&self, blame: &dyn Fn(&str, Error) -> Error) -> Result<()> {
        if self.max_tokens == 0 {
            return Err(blame("max_tokens", Error::expected("at least 1", 0)));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(blame("stop", Error::invalid("a stop string is empty")));
        }
        if self.system.is_some() && !self.chat {
            let error = Error::invalid("without the chat template there is no system message");
            return Err(blame("system", error.hint("chat = true in a task file turns the template on")));
        }
        Ok(())
    }

    /// With what a user says over it.
    pub(super) fn with(mut self, overrides: &Overrides) -> Result<Self> {
        if overrides.no_chat && self.system.is_some() {
            return Err(Error::invalid("the task has a system message, which needs the chat template")
                .field("system")
                .hint("leave it out in the task file, or keep the template"));
        }
        self.max_tokens = overrides.max_tokens.unwrap_or(self.max_tokens);
        self.chat &= !overrides.no_chat;
        self.system = overrides.system.clone().or(self.system);
        self.check(&|key, error| error.field(key))?;
        Ok(self)
    }
}
