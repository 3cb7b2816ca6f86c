//! The report of a run: one HTML file with its pictures inside, for people. It needs nothing from elsewhere.

mod page;

use std::path::Path;

use serde_json::Value;

use super::log::Line;
use super::run::Ended;
use super::state::State;
use crate::atomic;
use crate::error::Result;
use crate::expert::Multipliers;

/// What a report tells.
pub struct Report<'a> {
    /// Name of the expert or LoRA.
    pub name: &'a str,
    /// Name of the task.
    pub task: &'a str,
    /// Why the run ended.
    pub ended: &'a Ended,
    /// The run.
    pub state: &'a State,
    /// Its log.
    pub history: &'a [Line],
    /// Its settings.
    pub settings: &'a Value,
    /// Weight names.
    pub weights: &'a [String],
    /// What was learnt.
    pub change: Shown<'a>,
}

/// What is shown of what was learnt.
pub enum Shown<'a> {
    /// An expert's multipliers.
    Multipliers(&'a Multipliers),
    /// The lengths of the components of a LoRA, by weight.
    Components(Multipliers),
}

impl Report<'_> {
    /// Writes the report to `path`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let html = page::html(self);
        atomic::write(path, |out| out.write_all(html.as_bytes()))
    }
}
