//! Numeric answers: the final number of a completion, compared with a number.
//!
//! A completion states its answer behind `####` (GSM8K's own marker), in a `\boxed{…}`, or behind "the answer is"
//! and its like. The last statement counts, since models correct themselves, but none that comes
//! after a new question has begun: base models go on with the next one. Without a statement the last number counts.
//!
//! - A statement holds one number. Thousands separators, currency, percent signs, units and an equation in
//!   parentheses do not matter; of an equation its result counts. An expression or a list is no number:
//!   `2\sqrt{3}`, `18x`, `9 * 2` and `3, 5` match nothing.
//! - A fraction counts where it is a value of its own (`3/4`), and not where it is a division that was left
//!   undone: whoever answers `3245/5` has repeated the question, not found 649.
//! - Numbers in words ("eighteen", "minus three") count where an answer is stated, or where they are all of it.
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

use super::{characters, latex, run_on, statement, Score};
use crate::error::{Error, Result};

/// Compares final numbers.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Numeric {
    /// Largest difference that still counts as equal; 0 compares exactly.
    tolerance: f64,
}

impl Numeric {
    /// `tolerance` is absolute, finite and not negative.
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
            Stated::Expression(text) => {
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
        Stated::Expression(_) | Stated::Nothing => None,
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
        (
            at,
            match stated::in_box(boxed) {
                Stated::Nothing => Stated::Expression(boxed.to_owned()),
                stated => stated,
            },
        )
    });
    let announced: Vec<_> = statement::behind(text, &ANNOUNCED)
        .into_iter()
        .map(|(at, phrase)| (at, stated::in_prose(phrase)))
        .filter(|(_, stated)| *stated != Stated::Nothing)
        .collect();
    let corrected = statement::behind(text, &CORRECTED)
        .into_iter()
        .map(|(at, phrase)| (at, stated::in_prose(phrase)))
        .find(|(_, stated)| matches!(stated, Stated::Number { leads: true, .. }));
    // "The answer is rounded to 2 digits" states nothing where something else does.
    let leads = |stated: &Stated| !matches!(stated, Stated::Number { leads: false, .. });
    let leading = announced.iter().find(|(_, stated)| leads(stated)).cloned();
    let is_stated = hashes.is_some() || boxed.is_some() || !announced.is_empty();
    let corrected = corrected.filter(|_| is_stated);
    let last = [hashes, boxed, leading, corrected].into_iter().flatten().max_by_key(|(at, _)| *at);
    let stated = last.or_else(|| announced.first().cloned()).map(|(_, stated)| stated);
    stated.or_else(|| alone(text))
}

/// The number behind `####`. A heading of Markdown looks the same, but begins with a word or counts steps ("1. Add").
fn marked(line: &str) -> Option<Stated> {
    static STEP: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\W*\d+[.)]\s+\pL").unwrap());
    if STEP.is_match(line) {
        return None;
    }
    match stated::in_prose(line) {
        Stated::Number { leads: false, .. } | Stated::Nothing => None,
        stated => Some(stated),
    }
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
        let is_rooted = text[..written.start].ends_with(['√']) || text[..written.start].ends_with("\\sqrt{");
        Some(if written.is_division || is_rooted {
            Stated::Expression(text[written.start..written.end].to_owned())
        } else {
            Stated::Number { number: written.number, other: written.other, leads: false }
        })
    };
    last(&stated::without_asides(text)).or_else(|| last(text)).unwrap_or(Stated::Nothing)
}

/// The text with one way to write signs, thousands, fractions and powers.
fn plain(text: &str) -> String {
    static SPACED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(\d)(?:\\[!,]|\{,\}|,\\!|[\u{a0}\u{2009}\u{202f}])(\d{3})\b").unwrap());
    static RAISED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\d[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+").unwrap());
    static VULGAR: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]").unwrap());
    const RAISED_DIGITS: &str = "⁰¹²³⁴⁵⁶⁷⁸⁹";
    const FRACTIONS: [(&str, &str); 15] = [
        ("½", "1/2"),
        ("⅓", "1/3"),
        ("⅔", "2/3"),
        ("¼", "1/4"),
        ("¾", "3/4"),
        ("⅕", "1/5"),
        ("⅖", "2/5"),
        ("⅗", "3/5"),
        ("⅘", "4/5"),
        ("⅙", "1/6"),
        ("⅚", "5/6"),
        ("⅛", "1/8"),
        ("⅜", "3/8"),
        ("⅝", "5/8"),
        ("⅞", "7/8"),
    ];
    let text = characters::plain(text).replace("\\$", "$");
    // Twice, because matches share digits.
    let once = SPACED.replace_all(&text, "${1}${2}");
    let text = SPACED.replace_all(&once, "${1}${2}");
    let text = RAISED.replace_all(&text, |found: &regex::Captures| {
        let raised =
            found[0].chars().skip(1).map(|c| match RAISED_DIGITS.chars().position(|digit| digit == c) {
                Some(digit) => digit.to_string(),
                None => String::from(if c == '⁻' { "-" } else { "" }),
            });
        format!("{}^{{{}}}", &found[0][..1], raised.collect::<String>())
    });
    let text = VULGAR.replace_all(&text, |found: &regex::Captures| {
        let fraction =
            FRACTIONS.iter().find(|(vulgar, _)| *vulgar == &found[0]).map_or("", |(_, plain)| plain);
        format!(" {fraction}")
    });
    text.into_owned()
}
