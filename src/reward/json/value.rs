//! JSON values that are equal where JSON says so: numbers by their exact value, objects without order of keys.
//!
//! Numbers are kept as decimals, because the neighbours 123456789012345678901 and …902 are one `f64`, and 1e400 is
//! none. An object that names a key twice is refused: which of the two values it has depends on who reads it.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// As deep as serde_json reads, so that no text can exhaust the stack.
const MAX_DEPTH: usize = 127;

/// A value.
#[derive(Clone, PartialEq, Debug)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Decimal),
    /// A string.
    Text(String),
    /// Values in order.
    Array(Vec<Json>),
    /// Values by their keys.
    Object(BTreeMap<String, Json>),
}

/// ±0.d₁d₂…dₙ · 10^exponent, with d₁ and dₙ not 0. Zero has no digits.
#[derive(Clone, PartialEq, Debug)]
pub struct Decimal {
    is_negative: bool,
    digits: String,
    exponent: i64,
}

impl Json {
    /// Reads `text`, which holds one value and nothing else.
    ///
    /// # Errors
    /// Says why it is none.
    pub fn read(text: &str) -> Result<Self, String> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| why_none(text, &error))?;
        Self::of(raw, 0)
    }

    fn of(raw: &RawValue, depth: usize) -> Result<Self, String> {
        if depth > MAX_DEPTH {
            return Err(format!("the JSON is nested more than {MAX_DEPTH} deep"));
        }
        let text = raw.get();
        let wrong = |error| why_none(text, &error);
        Ok(match text.as_bytes().first() {
            Some(b'{') => {
                let pairs: Pairs = serde_json::from_str(text).map_err(wrong)?;
                let mut object = BTreeMap::new();
                for (key, value) in pairs.0 {
                    let value = Self::of(value, depth + 1)?;
                    if let Some(_first) = object.insert(key.clone(), value) {
                        return Err(format!("an object of the JSON has two values for the key '{key}'"));
                    }
                }
                Self::Object(object)
            }
            Some(b'[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(wrong)?;
                Self::Array(
                    elements.into_iter().map(|raw| Self::of(raw, depth + 1)).collect::<Result<_, _>>()?,
                )
            }
            Some(b'"') => Self::Text(serde_json::from_str(text).map_err(wrong)?),
            Some(b't' | b'f') => Self::Bool(serde_json::from_str(text).map_err(wrong)?),
            Some(b'n') => Self::Null,
            _ => Self::Number(Decimal::read(text)?),
        })
    }

    /// The values that hold no others, each with its path from the root, such as `address.street` or `items[2]`. No
    /// other value has the same ones.
    pub fn leaves(&self) -> BTreeMap<String, &Self> {
        let mut leaves = BTreeMap::new();
        self.add_leaves(String::new(), &mut leaves);
        leaves
    }

    fn add_leaves<'a>(&'a self, path: String, leaves: &mut BTreeMap<String, &'a Self>) {
        match self {
            Self::Array(elements) if !elements.is_empty() => {
                for (i, element) in elements.iter().enumerate() {
                    element.add_leaves(format!("{path}[{i}]"), leaves);
                }
            }
            Self::Object(object) if !object.is_empty() => {
                for (key, value) in object {
                    let is_plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_');
                    let dot = if path.is_empty() { "" } else { "." };
                    let step = if is_plain { format!("{dot}{key}") } else { format!("[{}]", quoted(key)) };
                    value.add_leaves(format!("{path}{step}"), leaves);
                }
            }
            leaf => {
                leaves.insert(path, leaf);
            }
        }
    }
}

/// The pairs of an object in their order, equal keys too.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Why `text` does not begin with a value, with the place where it goes wrong.
pub fn why_none(text: &str, error: &serde_json::Error) -> String {
    let problem = error.to_string();
    let problem = problem.split(" at line").next().unwrap_or(&problem);
    if error.is_eof() {
        return format!("the JSON breaks off: {problem}");
    }
    let line = text.split('\n').nth(error.line().saturating_sub(1)).unwrap_or("");
    let at = (0..error.column()).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0);
    let (before, after) = line.split_at(at);
    let before: String = before.chars().rev().take(12).collect();
    let near: String = before.chars().rev().chain(after.chars().take(12)).collect();
    format!("not JSON: {problem} near `{near}`")
}

impl Decimal {
    /// Reads a number that JSON's grammar allows.
    fn read(text: &str) -> Result<Self, String> {
        let unsigned = text.trim_start_matches('-');
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_start_matches('0');
        let n_leading = all.len() - digits.len();
        let digits = digits.trim_end_matches('0');
        if digits.is_empty() {
            return Ok(Self { is_negative: false, digits: String::new(), exponent: 0 });
        }
        let exponent = exponent.parse::<i64>().ok().and_then(|exponent| {
            exponent
                .checked_add(i64::try_from(whole.len()).ok()?)?
                .checked_sub(i64::try_from(n_leading).ok()?)
        });
        let exponent = exponent.ok_or("a number of the JSON has an exponent beyond all measure")?;
        Ok(Self { is_negative: text.starts_with('-'), digits: digits.to_owned(), exponent })
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Longer numbers are written with an exponent.
        const MAX_ZEROS: i64 = 20;
        let Self { is_negative, digits, exponent } = self;
        let sign = if *is_negative { "-" } else { "" };
        let n_digits = i64::try_from(digits.len()).unwrap_or(i64::MAX);
        if digits.is_empty() {
            write!(f, "0")
        } else if (n_digits..=n_digits.saturating_add(MAX_ZEROS)).contains(exponent) {
            write!(f, "{sign}{digits}{}", "0".repeat((exponent - n_digits) as usize))
        } else if (1..n_digits).contains(exponent) {
            let (whole, fraction) = digits.split_at(*exponent as usize);
            write!(f, "{sign}{whole}.{fraction}")
        } else if (-MAX_ZEROS..=0).contains(exponent) {
            write!(f, "{sign}0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize))
        } else {
            let (whole, fraction) = digits.split_at(1);
            let point = if fraction.is_empty() { "" } else { "." };
            write!(f, "{sign}{whole}{point}{fraction}e{}", i128::from(*exponent) - 1)
        }
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => write!(f, "null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "{}", quoted(text)),
            Self::Array(elements) => {
                write!(f, "[")?;
                for (i, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", if i > 0 { ", " } else { "" })?;
                }
                write!(f, "]")
            }
            Self::Object(object) => {
                write!(f, "{{")?;
                for (i, (key, value)) in object.iter().enumerate() {
                    write!(f, "{}{}: {value}", if i > 0 { ", " } else { "" }, quoted(key))?;
                }
                write!(f, "}}")
            }
        }
    }
}
