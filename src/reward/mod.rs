//! Rewards: the score of one completion against one gold answer, and why. Knows nothing of tasks.
//!
//! | reward | compares |
//! |---|---|
//! | [`numeric`] | the completion's final number with a number |
//! | [`latex`] | the completion's answer with a mathematical expression |
//! | [`choice`] | the option that the completion settles on with the right one |
//! | [`text`] | the completion, or what a regex captures in it, with a text |
//! | [`json`] | the first JSON value in the completion with a value |
//! | [`code`] | nothing: it runs the completion as a program, and its tests |
//! | [`command`] | nothing: a program of the user's scores |
//!
//! Beside them, `run_on` ends an answer where the next question begins, `statement` finds where it is announced, and
//! `characters` makes look-alikes one.
//!
//! A completion that is empty, or that cannot be read as an answer, scores 0; it is never an error. What a reasoning
//! model thinks before it answers is no part of the answer ([`thinking`]).

mod characters;
pub mod choice;
pub mod code;
pub mod command;
pub mod json;
pub mod latex;
pub mod numeric;
mod run_on;
mod statement;
pub mod text;
pub mod thinking;

/// What one completion is worth.
#[derive(Clone, PartialEq, Debug)]
pub struct Score {
    /// From 0 (wrong) to 1 (right).
    pub value: f64,
    /// One line: what was found, and what was expected.
    pub reason: String,
}

impl Score {
    /// 1 for a right answer, 0 for a wrong one.
    fn judge(right: bool, reason: impl Into<String>) -> Self {
        Self { value: if right { 1.0 } else { 0.0 }, reason: one_line(&reason.into()) }
    }

    fn wrong(reason: impl Into<String>) -> Self {
        Self::judge(false, reason)
    }

    /// The usual reason of a comparison.
    fn compare(right: bool, found: &str, gold: &str) -> Self {
        let reason = if right { format!("found {found}") } else { format!("found {found}, expected {gold}") };
        Self::judge(right, reason)
    }
}

/// Completions are untrusted and may be long: no new line, no control character, at most 200 characters.
fn one_line(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    let mut line: String =
        text.chars().take(MAX_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        line.push('…');
    }
    line
}
