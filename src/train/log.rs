//! The log of a run: a [`Journal`] with a line for each step and each validation.
//!
//! A line is written before the checkpoint that counts its step, so that a killed run leaves lines too many,
//! never too few; a resumed run drops those.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::state::State;
use crate::error::Result;
use crate::resume::{Journal, Work};

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line {
    /// One step.
    Step(StepLine),
    /// One validation.
    Validation(ValidationLine),
}

/// What a step saw and did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLine {
    /// Counted from 1.
    pub step: u64,
    /// Mean reward of the answers, from 0 to 1, where rewards are learnt from.
    pub reward: Option<f64>,
    /// −ln p of the gold answers before the step, mean nats per token, where these are learnt from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Share of prompts whose answers had different rewards.
    pub informative: Option<f64>,
    /// Rate of learning, after what [`Self::step_kl`] took of it.
    pub rate: f64,
    /// KL(π_before ‖ π_after) of this step, nats per token, where it is limited; of gold answers the mean of ½·(ln r)².
    pub step_kl: Option<f64>,
    /// Euclidean norm of the gradient before clipping.
    pub norm: f64,
    /// Nats per token, where known.
    pub entropy: Option<f64>,
    /// KL(π_m ‖ π_base), nats per token, where known.
    pub kl: Option<f64>,
    /// Mean of |m − 1|, or of what a LoRA has moved, after the step.
    pub moved: f64,
    /// Tokens written, or those of the gold answers.
    pub tokens: u64,
    /// Share of the answers that the limit of tokens cut off; logs of old runs do not know it.
    pub cut: Option<f64>,
    /// Seconds of the whole step.
    pub seconds: f64,
    /// Of these, seconds of writing answers.
    pub writing: f64,
    /// Of scoring them.
    pub scoring: f64,
    /// Of the gradient.
    pub gradient: f64,
}

impl StepLine {
    /// What a person wants to see while it goes on.
    pub fn summary(&self) -> String {
        let shown = [
            ("reward", self.reward),
            ("nats/token", self.loss),
            ("KL", self.kl),
            ("entropy", self.entropy),
            ("moved", Some(self.moved)),
        ];
        let words = shown.into_iter().filter_map(|(name, value)| Some(format!("{name} {:.3}", value?)));
        let mut text = words.collect::<Vec<_>>().join("  ");
        if let Some(cut) = self.cut.filter(|&cut| cut > 0.0) {
            text += &format!("  cut off {:.0} %", 100.0 * cut);
        }
        let parts = [("writing", self.writing), ("scoring", self.scoring), ("gradient", self.gradient)];
        let parts = parts.iter().filter(|(_, seconds)| *seconds >= 0.05 * self.seconds);
        let parts: Vec<_> = parts.map(|(name, seconds)| format!("{name} {seconds:.1}")).collect();
        text + &format!("  {:.1} s a step ({})", self.seconds, parts.join(", "))
    }
}

/// Share of all the answers of `steps` that were cut off, as far as it is known.
pub fn share_cut<'a>(steps: impl Iterator<Item = &'a StepLine>) -> Option<f64> {
    let known: Vec<_> = steps.filter_map(|step| step.cut).collect();
    // Every step has as many answers as any other.
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// What a validation found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationLine {
    /// Steps done before it.
    pub step: u64,
    /// Mean score.
    pub accuracy: f64,
    /// 95 % interval.
    pub ci95: (f64, f64),
    /// Items.
    pub n: usize,
    /// Seconds.
    pub seconds: f64,
}

impl ValidationLine {
    /// What a person wants to know of it while the run goes on.
    pub fn summary(&self) -> String {
        let Self { step, accuracy, ci95: (low, high), n, seconds } = self;
        let [accuracy, low, high] = [accuracy, low, high].map(|share| 100.0 * share);
        let when = match step {
            0 => String::from("before the first step"),
            step => format!("after step {step}"),
        };
        format!("{accuracy:.1} % of {n} validation items {when} ({low:.1} … {high:.1} %, {seconds:.0} s)")
    }
}

/// An open log.
pub struct Log(Journal);

const SCHEMA: &str = "llama-svf/train-log/2";

impl Log {
    /// Begins a log at `path`, in the place of what is there.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(path: &Path, settings: &Value) -> Result<Self> {
        Journal::create(path, work(settings), &[] as &[Line]).map(Self)
    }

    /// Continues the log at `path` after `state`, without lines of what came later and was lost.
    ///
    /// # Errors
    /// It cannot be read or written, a line before the last one is damaged, or it is of another run.
    pub fn resume(path: &Path, settings: &Value, state: &State) -> Result<Self> {
        let Some((_, mut lines)) = Journal::resume(path, work(settings))? else {
            return Self::create(path, settings);
        };
        lines.retain(|line| match line {
            Line::Step(line) => line.step <= state.step,
            Line::Validation(line) => state.validated.is_some_and(|step| line.step <= step),
        });
        Journal::create(path, work(settings), &lines).map(Self)
    }

    /// Adds a line, at once.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        self.0.append(line)
    }
}

/// All whole lines of the log at `path`.
///
/// # Errors
/// It cannot be read, or a line is damaged.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    Journal::read(path, SCHEMA)
}

fn work(settings: &Value) -> Work<'_> {
    Work { schema: SCHEMA, name: "run", settings }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_a_person_wants_to_know() {
        let line = ValidationLine { step: 0, accuracy: 0.1833, ci95: (0.1, 0.2833), n: 60, seconds: 200.74 };
        let expected = "18.3 % of 60 validation items before the first step (10.0 … 28.3 %, 201 s)";
        assert_eq!(line.summary(), expected);
        assert!(ValidationLine { step: 5, ..line }.summary().contains("after step 5"));
    }
}
