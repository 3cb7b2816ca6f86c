//! Multiple choice: the one option that a completion settles on.
//!
//! A completion says which by a statement: in a `\boxed{…}`, behind "the answer is", "I choose", "it must
//! be" and their like, or by "B is correct". The last statement that names an option counts, but none that
//! comes after a new question has begun. Without a statement these count, in this order: a label that is all
//! of the last line; one that the completion begins with, such as `B`, `B.`, `(B)` or `B) text`; the only
//! label in parentheses; the only option whose text occurs. Lines that only say the options again are left
//! out before.
//!
//! - Small letters count where a label is expected and nothing else can be meant: `(b)`, `b.`, "the answer
//!   is d".
//! - Labels that the text speaks against do not count: "not A", "A and B are wrong", "rules out C".
//! - Wherever two options are named alike ("A or B"), or a label beyond the options, there is no answer.

mod mentions;
mod phrases;
mod statements;

use std::collections::BTreeSet;

use super::{characters, run_on, Score};
use crate::error::{Error, Result};
use mentions::{mentions, Mention};
use phrases::words;

/// How options are called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Labels {
    /// A, B, C, …
    #[default]
    Letters,
    /// 1, 2, 3, …
    Numbers,
}

impl Labels {
    /// The label of option `index`, counted from 0.
    pub fn label(self, index: usize) -> String {
        match self {
            Self::Letters => char::from(b'A' + u8::try_from(index % 26).unwrap_or(0)).to_string(),
            Self::Numbers => (index + 1).to_string(),
        }
    }
}

/// The options of a question, and which one is right.
#[derive(Clone, PartialEq, Debug)]
pub struct Choice {
    labels: Labels,
    options: Vec<String>,
    gold: usize,
}

impl Choice {
    /// # Errors
    /// Fewer than 2 or more than 26 options, an empty one, or a `gold` that is not among them.
    pub fn new(labels: Labels, options: Vec<String>, gold: usize) -> Result<Self> {
        if !(2..=26).contains(&options.len()) {
            return Err(Error::expected("2 to 26 options", options.len()).field("options"));
        }
        if let Some(at) = options.iter().position(|option| option.trim().is_empty()) {
            return Err(Error::invalid(format!("option {} is empty", labels.label(at))).field("options"));
        }
        if gold >= options.len() {
            let expected = format!("one of {} options", options.len());
            return Err(Error::expected(expected, format!("option {gold}, counted from 0")).field("gold"));
        }
        Ok(Self { labels, options, gold })
    }

    /// All options, in their order.
    pub fn options(&self) -> &[String] {
        &self.options
    }

    /// The label of the right option.
    pub fn gold(&self) -> String {
        self.labels.label(self.gold)
    }

    /// 1 if the completion settles on the right option, and on no other.
    pub fn score(&self, completion: &str) -> Score {
        match self.settled(completion) {
            Some(found) => Score::compare(found == self.gold, &self.labels.label(found), &self.gold()),
            None => Score::wrong(format!("found no single option, expected {}", self.gold())),
        }
    }

    fn settled(&self, completion: &str) -> Option<usize> {
        let text = characters::plain(completion);
        let mut named =
            run_on::parts(&text).into_iter().map(|part| self.stated(part).or_else(|| self.named(part)));
        match named.find(|named| *named != Named::Nothing) {
            Some(Named::One(index)) => Some(index),
            _ => None,
        }
    }

    /// The option that a text without a statement names.
    fn named(&self, text: &str) -> Named {
        let text = self.without_options(text);
        let text = text.trim();
        let last_line = text.rsplit('\n').next().unwrap_or("");
        self.whole(text)
            .or_else(|| self.label(last_line))
            .or_else(|| self.beginning(text, 2))
            .or_else(|| self.leading(text, true))
            .or_else(|| {
                let bracketed = |mention: &Mention| {
                    mention.is_marked
                        && text[..mention.end].ends_with(')')
                        && text[mention.start..].starts_with('(')
                };
                self.only(mentions(text, self.labels).into_iter().filter(bracketed))
            })
            .or_else(|| self.mentioned(text))
    }

    /// The text without its lines that only say the options again, if there are several.
    fn without_options(&self, text: &str) -> String {
        let restated = |line: &str| {
            let mention = mentions(line, self.labels).first().copied();
            let mention = mention
                .filter(|mention| line[..mention.start].trim_matches(['-', '*', ' ', '\t']).is_empty())?;
            let option = self.options.get(mention.index)?;
            (words(&line[mention.end..]) == words(option)).then_some(mention.index)
        };
        let lines: Vec<(&str, Option<usize>)> = text.lines().map(|line| (line, restated(line))).collect();
        let labels: BTreeSet<usize> = lines.iter().filter_map(|(_, restated)| *restated).collect();
        if labels.len() < 2 {
            return text.to_owned();
        }
        lines
            .iter()
            .filter(|(_, restated)| restated.is_none())
            .map(|(line, _)| *line)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// What a text says of the options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Named {
    One(usize),
    /// More than one, or one that does not exist: no answer, whatever else is said.
    Several,
    Nothing,
}

impl Named {
    fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        if self == Self::Nothing {
            other()
        } else {
            self
        }
    }
}
