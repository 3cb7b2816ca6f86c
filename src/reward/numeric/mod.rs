//! Numeric answers: the final number of a completion, compared with a number.
//!
//! A completion states its answer behind `####` (GSM8K's own marker), in a `\boxed{…}`, or behind "the
//! answer is" and its like. The last statement counts, since models correct themselves, but none that comes
//! after a new question has begun: base models go on with the next one. Without a statement the last number
//! counts.
//!
//! - A statement holds one number. Thousands separators, currency, percent signs, units and an equation in
//!   parentheses do not matter; of an equation its result counts. An expression or a list is no number:
//!   `2\sqrt{3}`, `18x`, `9 * 2` and `3, 5` match nothing.
//! - A fraction counts where it is a value of its own (`3/4`), and not where it is a division that was left
//!   undone: whoever answers `3245/5` has repeated the question, not found 649.
//! - Numbers in words ("eighteen", "minus three") count where an answer is stated, or where they are all of
//!   the completion.
//! - A scale may be the unit that was asked for: `$1.5 million` is 1500000 and 1.5, `50%` is 50 and 1/2,
//!   `two dozen` is 24 and 2.
//! - A comma before three digits parts thousands, before others it is a point (`1,5`). `1.000` is 1, and
//!   `1.000.000` a million.

mod number;
mod stated;
mod words;
mod written;

use std::sync::LazyLock;

use regex::Regex;

pub use number::Number;
use stated::Stated;
use written::plain;

use super::{latex, run_on, statement, Score};
use crate::error::{Error, Result};

/// Compares final numbers.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Numeric {
    /// Largest difference that still counts as equal; 0 compares exactly.
    tolerance: f64,
}

impl Numeric {
    /// `tolerance` is absolute, finite and not negative.
    ///
    /// # Errors
    /// Another tolerance.
    pub fn new(tolerance: f64) -> Result<Self> {
        if !tolerance.is_finite() || tolerance < 0.0 {
            return Err(Error::expected("a finite number of at least 0", tolerance));
        }
        Ok(Self { tolerance })
    }

    /// The number of a gold answer, which may be a division.
    ///
    /// # Errors
    /// It holds none.
    pub fn gold(text: &str) -> Result<Number> {
        let text = plain(text);
        let number = match written::numbers(text.trim()).next() {
            Some(written) if written.start == 0 && written.end == text.trim().len() => Some(written.number),
            _ => final_number(&text),
        };
        number.ok_or_else(|| Error::expected("a number", format!("'{}'", super::one_line(&text))))
    }

    /// 1 if the final number of `completion` is `gold`.
    pub fn score(&self, gold: Number, completion: &str) -> Score {
        let (number, other) = match answer(completion) {
            Stated::Number { number, other, .. } => (number, other),
            Stated::Expression { text, .. } => {
                return Score::wrong(format!("found '{text}', which is no single number, expected {gold}"));
            }
            Stated::Nothing => return Score::wrong(format!("found no number, expected {gold}")),
        };
        let is_right = |number: Number| {
            let near = (number.to_f64() - gold.to_f64()).abs() <= self.tolerance;
            number == gold || self.tolerance > 0.0 && near
        };
        let right = is_right(number) || other.is_some_and(is_right);
        Score::compare(right, &number.to_string(), &gold.to_string())
    }
}

/// The final number of a text, by the rules at the top of this file.
pub fn final_number(text: &str) -> Option<Number> {
    match answer(text) {
        Stated::Number { number, .. } => Some(number),
        Stated::Expression { .. } | Stated::Nothing => None,
    }
}

/// What a text gives as its answer.
fn answer(text: &str) -> Stated {
    let text = plain(text);
    let parts = run_on::parts(&text);
    let stated = parts.iter().find_map(|part| statement(part));
    stated.unwrap_or_else(|| {
        parts
            .iter()
            .map(|part| last_number(part))
            .find(|last| *last != Stated::Nothing)
            .unwrap_or(Stated::Nothing)
    })
}

/// What the last statement of a text says; `None` where it makes none.
fn statement(text: &str) -> Option<Stated> {
    static HASHES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\#{4}\s*").unwrap());
    static ANNOUNCED: LazyLock<Regex> = LazyLock::new(|| Regex::new(statement::ANNOUNCED).unwrap());
    // "Wait, I made a mistake: it's 18." An earlier statement makes it one.
    static CORRECTED: LazyLock<Regex> = LazyLock::new(|| {
        let error = r"\b(?:wait|mistake|sorry|correction|oops|scratch that)\b";
        let verb = r"\b(?:it['’]s|it is|it must be|(?:it )?should (?:have been|be)|that['’]s)";
        Regex::new(&format!(r"(?i){error}[^\n]{{0,60}}?{verb}\s+(?:actually\s+)?")).unwrap()
    });
    let hashes =
        statement::behind(text, &HASHES).into_iter().find_map(|(at, line)| Some((at, marked(line)?)));
    let boxed = latex::last_boxed(text).map(|boxed| {
        let at = text.rfind("\\boxed").max(text.rfind("\\fbox")).unwrap_or(0);
        let stated = stated::in_box(boxed);
        let without = || Stated::Expression { text: boxed.to_owned(), leads: true };
        (at, if stated == Stated::Nothing { without() } else { stated })
    });
    let announced: Vec<_> = statement::behind(text, &ANNOUNCED)
        .into_iter()
        .map(|(at, phrase)| (at, stated::in_prose(phrase)))
        .filter(|(_, stated)| *stated != Stated::Nothing)
        .collect();
    let corrected = statement::behind(text, &CORRECTED)
        .into_iter()
        .map(|(at, phrase)| (at, stated::in_prose(phrase)))
        .find(|(_, stated)| stated.leads());
    let leading = announced.iter().find(|(_, stated)| stated.leads()).cloned();
    let is_stated = hashes.is_some() || boxed.is_some() || !announced.is_empty();
    let corrected = corrected.filter(|_| is_stated);
    let last = [hashes, boxed, leading, corrected].into_iter().flatten().max_by_key(|(at, _)| *at);
    let stated = last.or_else(|| announced.first().cloned()).map(|(_, stated)| stated);
    stated.or_else(|| alone(text))
}

/// The number behind `####`. A heading of Markdown looks the same, but begins with a word, or with the number
/// of a step ("1. Add").
fn marked(line: &str) -> Option<Stated> {
    static STEP: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\W*\d+[.)]\s+\pL").unwrap());
    if STEP.is_match(line) {
        return None;
    }
    Some(stated::in_prose(line)).filter(Stated::leads)
}

/// The number of a text that says nothing else.
fn alone(text: &str) -> Option<Stated> {
    const MAX_BYTES: usize = 60;
    let text = text.trim();
    let begins = text.split(|c: char| c.is_alphanumeric()).next().map_or("", |ahead| &text[ahead.len()..]);
    let begins_with_number =
        begins.starts_with(|c: char| c.is_ascii_digit()) || words::leading(text).is_some();
    if text.len() > MAX_BYTES || text.contains('\n') || !begins_with_number {
        return None;
    }
    match (stated::in_prose(text), last_number(text)) {
        (Stated::Number { leads: true, .. }, number @ Stated::Number { .. }) => Some(number),
        (number @ Stated::Number { leads: true, .. }, Stated::Nothing) => Some(number),
        _ => None,
    }
}

/// The last number of a text that states none.
fn last_number(text: &str) -> Stated {
    let last = |text: &str| {
        let written = written::numbers(text).filter(|written| !written.is_ordinal).last()?;
        let before = &text[..written.start];
        let is_rooted = before.ends_with('√') || before.ends_with("\\sqrt{");
        Some(if written.is_division || is_rooted {
            Stated::Expression { text: text[written.start..written.end].to_owned(), leads: false }
        } else {
            Stated::Number { number: written.number, other: written.other, leads: false }
        })
    };
    last(&stated::without_asides(text)).or_else(|| last(text)).unwrap_or(Stated::Nothing)
}
