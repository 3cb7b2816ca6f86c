//! The members of a request's body, each read as what it must be. A `null` is as good as none.

use serde_json::{Map, Value};

use super::error::{ApiError, ApiResult};

/// A JSON object that a client sent.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// The member `name`.
    pub fn value(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn read<T>(self, name: &str, kind: &str, read: impl Fn(&'a Value) -> Option<T>) -> ApiResult<Option<T>> {
        let wrong = |value| ApiError::field(name, format!("expected {kind}, found {}", shortened(value)));
        self.value(name).map(|value| read(value).ok_or_else(|| wrong(value))).transpose()
    }

    pub fn bool(self, name: &str) -> ApiResult<Option<bool>> {
        self.read(name, "true or false", Value::as_bool)
    }

    pub fn text(self, name: &str) -> ApiResult<Option<&'a str>> {
        self.read(name, "a text", Value::as_str)
    }

    pub fn object(self, name: &str) -> ApiResult<Option<Fields<'a>>> {
        self.read(name, "an object", |value| value.as_object().map(Fields))
    }

    pub fn array(self, name: &str) -> ApiResult<Option<&'a [Value]>> {
        self.read(name, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    pub fn texts(self, name: &str) -> ApiResult<Option<Vec<String>>> {
        self.read(name, "a list of texts", |value| {
            value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
        })
    }

    /// A finite number.
    pub fn number(self, name: &str) -> ApiResult<Option<f32>> {
        let number = self.read(name, "a number", |value| value.as_f64().map(|number| number as f32))?;
        match number {
            Some(number) if !number.is_finite() => Err(ApiError::field(name, "expected a smaller number")),
            number => Ok(number),
        }
    }

    /// A whole number; 3.0 is one.
    pub fn integer(self, name: &str) -> ApiResult<Option<i64>> {
        self.read(name, "a whole number", |value| {
            let whole = |number: &f64| number.fract() == 0.0 && number.abs() < 9e15;
            value.as_i64().or_else(|| value.as_f64().filter(whole).map(|number| number as i64))
        })
    }

    /// A whole number from `least` to the largest of 32 bits.
    pub fn at_least(self, name: &str, least: i64) -> ApiResult<Option<i64>> {
        match self.integer(name)? {
            Some(n) if n < least || n > i64::from(i32::MAX) => Err(ApiError::field(
                name,
                format!("expected a number from {least} to {}, found {n}", i32::MAX),
            )),
            n => Ok(n),
        }
    }

    /// A size or count.
    pub fn count(self, name: &str) -> ApiResult<Option<u32>> {
        Ok(self.at_least(name, 0)?.and_then(|n| u32::try_from(n).ok()))
    }
}

/// A value as it stands in a message.
pub fn shortened(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
