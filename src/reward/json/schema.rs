//! A JSON Schema that answers must keep to.
//!
//! It has to hold all that it refers to: nothing is fetched, from the network or from files.

use jsonschema::Validator;
use serde_json::Value;

use super::value::Json;
use crate::error::{Error, Result};

/// A schema, checked and compiled.
pub struct Schema(Validator);

impl Schema {
    /// Compiles `schema`.
    ///
    /// # Errors
    /// It is no schema, or refers to another one.
    pub fn new(schema: &Value) -> Result<Self> {
        jsonschema::options().offline().build(schema).map(Self).map_err(|error| {
            let place = error.instance_path().to_string();
            let at = if place.is_empty() { String::new() } else { format!("at {place}: ") };
            let refused = Error::invalid(format!("not a JSON Schema that can be used: {at}{error}"));
            match error.kind() {
                jsonschema::error::ValidationErrorKind::Referencing(_) => refused.hint(
                    "a schema has to hold what it refers to: put it under $defs and write #/$defs/NAME",
                ),
                _ => refused,
            }
        })
    }

    /// What about `value` breaks the schema.
    pub fn fault(&self, value: &Json) -> Option<String> {
        let value: Value = match serde_json::from_str(&value.to_string()) {
            Ok(value) => value,
            Err(error) => return Some(format!("a number that no schema can judge ({error})")),
        };
        let error = self.0.validate(&value).err()?;
        let place = error.instance_path().to_string();
        let at = if place.is_empty() { String::new() } else { format!(" at {place}") };
        Some(format!("{error}{at}"))
    }
}
