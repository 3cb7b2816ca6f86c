//! Exact numbers: fractions of 128-bit integers, so that 18, 18.00 and 36/2 are equal and nothing is rounded.

use std::fmt;

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

    /// self · 10^`exponent`; `None` beyond 128 bits.
    pub(super) fn times_ten_to(self, exponent: i32) -> Option<Self> {
        let power = 10i128.checked_pow(exponent.unsigned_abs())?;
        let (above, below) = if exponent < 0 { (1, power) } else { (power, 1) };
        self.times(Self::fraction(above, below)?)
    }

    pub(super) fn times(self, other: Self) -> Option<Self> {
        Self::fraction(
            self.numerator.checked_mul(other.numerator)?,
            self.denominator.checked_mul(other.denominator)?,
        )
    }

    /// self ÷ `other`; `None` for 0, or beyond 128 bits.
    pub(super) fn over(self, other: Self) -> Option<Self> {
        self.times(Self::fraction(other.denominator, other.numerator)?)
    }

    /// Whether nothing is left behind the point.
    pub fn is_whole(self) -> bool {
        self.denominator == 1
    }

    pub(super) fn plus(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::fraction(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    /// whole + numerator ÷ denominator.
    pub(in crate::reward) fn mixed(whole: &str, numerator: &str, denominator: &str) -> Option<Self> {
        Self::decimal(whole)?.plus(Self::fraction(numerator.parse().ok()?, denominator.parse().ok()?)?)
    }

    pub(in crate::reward) fn negated(self) -> Self {
        Self { numerator: -self.numerator, denominator: self.denominator }
    }

    pub(super) fn to_f64(self) -> f64 {
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
