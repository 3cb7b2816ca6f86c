//! JSON: the first value in the answer, compared with the gold one by value.
//!
//! Numbers are equal by value (`1`, `1.0` and `1e0`), texts character by character once escapes are resolved, arrays in
//! order, objects without order. Nothing is repaired: single quotes, trailing commas, comments and `NaN` are no JSON,
//! and an object with two values for one key says nothing clear. `find` tells which value of an answer counts.

mod find;
mod schema;
mod value;

use serde_json::Value;

use super::Score;
use crate::error::{Error, Result};
use schema::Schema;
pub use value::Json;

/// How a completion's JSON is compared with a gold one.
#[derive(Default)]
pub struct JsonReward {
    schema: Option<Schema>,
    /// What `schema` was made from.
    given: Option<Value>,
    is_partial: bool,
    is_strict: bool,
}

impl JsonReward {
    /// An answer that breaks `schema` scores 0. A `partial` score is the share of fields that are right: of the values
    /// that hold no others, wherever they stand in the gold value or in the answer, those that are equal in both. So
    /// fields that are missing, wrong or too many all lower it, and it is 1 only for an equal value. `strict` answers
    /// are JSON and nothing else, not even a fence.
    ///
    /// # Errors
    /// `schema` is no JSON Schema, or refers to another one.
    pub fn new(schema: Option<&Value>, partial: bool, strict: bool) -> Result<Self> {
        let given = schema.cloned();
        let schema = schema.map(Schema::new).transpose()?;
        Ok(Self { schema, given, is_partial: partial, is_strict: strict })
    }

    /// The schema.
    pub fn schema(&self) -> Option<&Value> {
        self.given.as_ref()
    }

    /// Reads a gold answer.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn gold(text: &str) -> Result<Json> {
        Json::read(text.trim()).map_err(|problem| {
            Error::expected("JSON", format!("'{text}' ({problem})"))
                .hint("a field that holds a value, not its text, is written {{ field | tojson }}")
        })
    }

    /// Checks a value against the schema, if there is one.
    ///
    /// # Errors
    /// It breaks the schema.
    pub fn check(&self, value: &Json) -> Result<()> {
        match self.schema.as_ref().and_then(|schema| schema.fault(value)) {
            Some(fault) => Err(Error::invalid(format!("breaks the schema: {fault}"))),
            None => Ok(()),
        }
    }

    /// 1 if the completion's value is `gold`, and less if it is not.
    pub fn score(&self, gold: &Json, completion: &str) -> Score {
        let found = match if self.is_strict { find::whole(completion) } else { find::first(completion) } {
            Ok(found) => found,
            Err(problem) => return Score::wrong(problem),
        };
        if let Err(fault) = self.check(&found) {
            return Score::wrong(fault.to_string());
        }
        if found == *gold {
            return Score::judge(true, format!("found {found}"));
        }
        let (theirs, ours) = (found.leaves(), gold.leaves());
        let faults = ours.iter().filter(|(path, gold)| theirs.get(*path) != Some(gold));
        let extra = theirs.keys().filter(|path| !ours.contains_key(*path));
        let n_right = ours.len() - faults.clone().count();
        let n_fields = ours.len() + extra.clone().count();
        let of = |path: &str| if path.is_empty() { String::new() } else { format!("{path}: ") };
        let fault = match (faults.clone().next(), extra.clone().next()) {
            (Some((path, gold)), _) => match theirs.get(path) {
                Some(found) => format!("{}found {found}, expected {gold}", of(path)),
                None if path.is_empty() => format!("found {found}, expected {gold}"),
                None => format!("{path}: not there, expected {gold}"),
            },
            (None, Some(path)) => format!("{}found {}, expected nothing", of(path), theirs[path]),
            (None, None) => format!("found {found}, expected {gold}"),
        };
        if !self.is_partial {
            return Score::wrong(fault);
        }
        let value = n_right as f64 / n_fields as f64;
        Score { value, ..Score::wrong(format!("{n_right} of {n_fields} fields are right; {fault}")) }
    }
}
