//! The templates and expressions of a task, rendered for one row, with the field that is missing.

use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, ErrorKind, Value};

use super::jinja::{self, plainly};
use super::rows::Row;
use crate::error::{Error, Result};

/// Templates and expressions by the key they stand under in the task file.
pub struct Templates {
    environment: Environment<'static>,
}

impl Templates {
    pub fn new() -> Self {
        Self { environment: jinja::environment() }
    }

    /// Adds a template.
    pub fn add(&mut self, key: &str, text: &str) -> Result<()> {
        self.environment.add_template_owned(key.to_owned(), text.to_owned()).map_err(|error| {
            Error::invalid(format!(
                "in line {} of the template: {}",
                error.line().unwrap_or(1),
                plainly(&error)
            ))
        })
    }

    /// Checks an expression.
    pub fn check_expression(&self, text: &str) -> Result<()> {
        let compiled = self.environment.compile_expression(bare(text));
        compiled.map(drop).map_err(|error| Error::invalid(plainly(&error)))
    }

    /// Renders the template `key` for a row.
    pub fn render(&self, key: &str, row: &Row) -> Result<String> {
        let template = self.environment.get_template(key).map_err(|error| Error::invalid(plainly(&error)))?;
        template.render(Serde(&row.fields)).map_err(|error| {
            let missing = template.undeclared_variables(false);
            self.blame(key, error, row, missing.into_iter())
        })
    }

    /// The list of texts that an expression gives for a row. Numbers count as texts.
    pub fn texts(&self, key: &str, expression: &str, row: &Row) -> Result<Vec<String>> {
        let list = self.value(key, expression, row)?;
        let wrong = || {
            Error::expected("a list of texts", format!("'{list}'"))
                .field(expression.to_owned())
                .file(&row.place)
        };
        if !matches!(list.kind(), ValueKind::Seq | ValueKind::Iterable) {
            return Err(wrong());
        }
        let text = |item: Value| match item.kind() {
            ValueKind::String | ValueKind::Number => Some(item.to_string()),
            _ => None,
        };
        let texts = list.try_iter().map_err(|_| wrong())?;
        texts.map(|item| text(item).ok_or_else(wrong)).collect()
    }

    /// What an expression gives for a row.
    pub fn value(&self, key: &str, expression: &str, row: &Row) -> Result<Value> {
        let compiled = self
            .environment
            .compile_expression(bare(expression))
            .map_err(|error| Error::invalid(plainly(&error)))?;
        let missing = || compiled.undeclared_variables(false).into_iter();
        let value =
            compiled.eval(Serde(&row.fields)).map_err(|error| self.blame(key, error, row, missing()))?;
        if value.is_undefined() {
            return Err(self.blame(key, ErrorKind::UndefinedError.into(), row, missing()));
        }
        Ok(value)
    }

    /// Names the field that is missing, of those `used`.
    fn blame(
        &self,
        key: &str,
        error: minijinja::Error,
        row: &Row,
        used: impl Iterator<Item = String>,
    ) -> Error {
        let is_known = |name: &str| {
            row.fields.contains_key(name) || self.environment.globals().any(|(known, _)| known == name)
        };
        let missing = match undefined(&error) {
            // What is undefined within a field, or within what a template sets, is no field.
            Some(name) => Some(name.to_owned()).filter(|name| !name.contains(['.', '[']) && !is_known(name)),
            None if error.kind() == ErrorKind::UndefinedError => used.filter(|name| !is_known(name)).min(),
            None => None,
        };
        match missing {
            Some(field) => {
                Error::invalid(format!("no such field, but '{key}' uses it")).field(field).file(&row.place)
            }
            None => Error::invalid(format!("the template cannot be filled in: {}", plainly(&error)))
                .field(key)
                .file(&row.place),
        }
    }
}

/// What `error` calls undefined: a name, or a path such as `a.b`.
fn undefined(error: &minijinja::Error) -> Option<&str> {
    let (before, _) = error.detail()?.split_once("` is undefined")?;
    Some(before.rsplit_once('`')?.1)
}

/// An expression without the braces that a template would have around it.
fn bare(expression: &str) -> &str {
    let text = expression.trim();
    let inner = text.strip_prefix("{{").and_then(|text| text.strip_suffix("}}"));
    inner.filter(|inner| !inner.contains("}}")).unwrap_or(text)
}
