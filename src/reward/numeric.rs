//! Numeric answers: the final number of a completion, compared with a number.
//!
//! The final number stands, in this order of preference, after the last `####` (GSM8K's own marker), in the
//! last `\boxed{…}`, after the last "answer is" or "answer:", or it is the last number of all. Thousands
//! separators, currency signs, percent signs and units do not matter. Numbers are exact fractions, so that
//! 18, 18.00 and 36/2 are equal and no rounding is involved.

use std::fmt;
use std::sync::LazyLock;

use regex::Regex;

use super::{latex, Score};
use crate::error::{Error, Result};

/// An exact number: a fraction in lowest terms, with a positive denominator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Number {
    numerator: i128,
    denominator: i128,
}

impl Number {
    /// numerator ÷ denominator; `None` for a denominator of 0 or beyond 128 bits.
    pub fn fraction(numerator: i128, denominator: i128) -> Option<Self> {
        let divisor = i128::try_from(gcd(numerator.unsigned_abs(), denominator.unsigned_abs())).ok()?;
        let sign = if denominator < 0 { -1 } else { 1 };
        let numerator = numerator.checked_div(divisor)?.checked_mul(sign)?;
        let denominator = denominator.checked_div(divisor)?.checked_mul(sign)?;
        (denominator != 0).then_some(Self { numerator, denominator })
    }

    /// Digits with at most one point; `None` for anything else, or beyond 128 bits.
    pub fn decimal(text: &str) -> Option<Self> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = format!("{whole}{}", part.trim_end_matches('0'));
        if digits.is_empty() && part.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
            return None;
        }
        let scale = 10i128.checked_pow(u32::try_from(digits.len() - whole.len()).ok()?)?;
        Self::fraction(if digits.is_empty() { 0 } else { digits.parse().ok()? }, scale)
    }

    fn plus(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::fraction(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    /// whole + numerator ÷ denominator.
    pub(super) fn mixed(whole: &str, numerator: &str, denominator: &str) -> Option<Self> {
        Self::decimal(whole)?.plus(Self::fraction(numerator.parse().ok()?, denominator.parse().ok()?)?)
    }

    pub(super) fn negated(self) -> Self {
        Self { numerator: -self.numerator, denominator: self.denominator }
    }

    fn to_f64(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }
}

/// `18`, or `1/3`.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.denominator {
            1 => write!(f, "{}", self.numerator),
            denominator => write!(f, "{}/{denominator}", self.numerator),
        }
    }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

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

    /// The number of a gold answer.
    ///
    /// # Errors
    /// It holds none.
    pub fn gold(text: &str) -> Result<Number> {
        final_number(text).ok_or_else(|| Error::expected("a number", format!("'{}'", super::one_line(text))))
    }

    /// 1 if the final number of `completion` is `gold`.
    pub fn score(&self, gold: Number, completion: &str) -> Score {
        let Some(found) = final_number(completion) else {
            return Score::wrong(format!("found no number, expected {gold}"));
        };
        let near = (found.to_f64() - gold.to_f64()).abs() <= self.tolerance;
        Score::compare(found == gold || self.tolerance > 0.0 && near, &found.to_string(), &gold.to_string())
    }
}

/// The final number of a text, by the order of preference at the top of this file.
pub fn final_number(text: &str) -> Option<Number> {
    static ANSWER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?i)answers?\W{0,4}(?:\s(?:is|was|are)\b|:|=)").unwrap());
    let text = plain(text);
    if let Some((_, after)) = text.rsplit_once("####") {
        // A heading of Markdown looks the same, but does not start with a number.
        let line = after.lines().next().unwrap_or("").trim_start_matches([' ', '*', '=', '\\', '(']);
        if let Some((0, number)) = numbers(line).next() {
            return Some(number);
        }
    }
    if let Some(boxed) = latex::last_boxed(&text) {
        return stated(boxed);
    }
    if let Some(marker) = ANSWER.find_iter(&text).last() {
        let after = text[marker.end()..].trim_start();
        if let Some(number) = after.lines().next().and_then(stated) {
            return Some(number);
        }
    }
    numbers(&text).last().map(|(_, number)| number)
}

/// The number that a phrase states: the first one, or the result where the phrase is an equation.
fn stated(phrase: &str) -> Option<Number> {
    let result = phrase.rsplit_once('=').and_then(|(_, result)| numbers(result).next());
    result.or_else(|| numbers(phrase).next()).map(|(_, number)| number)
}

/// The text with one way to write signs and thousands.
fn plain(text: &str) -> String {
    static SPACED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(\d)(?:\\[!,]|\{,\}|[\u{a0}\u{2009}\u{202f}])(\d{3})\b").unwrap());
    let text = text.replace('\u{2212}', "-").replace("\\$", "$").replace(",\\!", ",");
    // Twice, because matches share digits.
    let once = SPACED.replace_all(&text, "${1}${2}");
    SPACED.replace_all(&once, "${1}${2}").into_owned()
}

/// All numbers of a text, with their offsets.
fn numbers(text: &str) -> impl Iterator<Item = (usize, Number)> + '_ {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?x)
            (?P<minus>-)? [$€£¥]? (?P<inner>-)?
            (?: (?P<mixed>\d+) (?: \ (?P<a>\d+)/(?P<b>\d+) | \ ?\\[dt]?frac\{(?P<c>\d+)\}\{(?P<d>\d+)\} )
              | \\[dt]?frac\{(?P<e>\d+)\}\{(?P<f>\d+)\}
              | (?P<g>\d+)/(?P<h>\d+)
              | (?P<plain>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.\d+|\d+) )",
        )
        .unwrap()
    });
    NUMBER.captures_iter(text).filter_map(move |found| {
        let start = found.get(0)?.start();
        let part = |name: &str| found.name(name).map(|part| part.as_str());
        let ratio = |above: &str, below: &str| Number::fraction(above.parse().ok()?, below.parse().ok()?);
        let number = if let Some(plain) = part("plain") {
            Number::decimal(&plain.replace(',', ""))
        } else if let Some(whole) = part("mixed") {
            let (above, below) = part("a").zip(part("b")).or(part("c").zip(part("d")))?;
            Number::mixed(whole, above, below)
        } else {
            let (above, below) = part("e").zip(part("f")).or(part("g").zip(part("h")))?;
            ratio(above, below)
        }?;
        // After an operand a minus subtracts, and after a letter it joins.
        let operand =
            text[..start].chars().next_back().is_some_and(|c| c.is_alphanumeric() || ")]}%".contains(c));
        let negative = part("minus").is_some() && !operand || part("inner").is_some();
        Some((start, if negative { number.negated() } else { number }))
    })
}
