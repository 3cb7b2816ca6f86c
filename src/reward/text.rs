//! Answers compared as text: the whole completion, or what a regex captures in it.

use regex::Regex;

use super::Score;
use crate::error::{Error, Result};

/// How a completion is compared with a gold answer. Surrounding white space never matters.
#[derive(Clone, Debug)]
pub struct Text {
    /// Where the answer stands; the whole completion if there is none.
    pattern: Option<Regex>,
    ignore_case: bool,
}

impl Text {
    /// With a `pattern`, its last match is the answer: the first group, or all of it if there is no group.
    ///
    /// # Errors
    /// The pattern is not a regex.
    pub fn new(pattern: Option<&str>, ignore_case: bool) -> Result<Self> {
        let wrong = |error: regex::Error| Error::expected("a regex", error.to_string().replace('\n', " "));
        let pattern = pattern.map(Regex::new).transpose().map_err(wrong)?;
        Ok(Self { pattern, ignore_case })
    }

    /// 1 if the completion's answer is `gold`.
    pub fn score(&self, gold: &str, completion: &str) -> Score {
        let found = match &self.pattern {
            None => Some(completion),
            Some(pattern) => pattern
                .captures_iter(completion)
                .last()
                .and_then(|found| found.get(1).or(found.get(0)))
                .map(|answer| answer.as_str()),
        };
        let gold = gold.trim();
        let Some(found) = found.map(str::trim).filter(|found| !found.is_empty()) else {
            return Score::wrong(format!("found no answer, expected '{gold}'"));
        };
        let equal =
            if self.ignore_case { found.to_lowercase() == gold.to_lowercase() } else { found == gold };
        Score::compare(equal, &format!("'{found}'"), &format!("'{gold}'"))
    }
}
