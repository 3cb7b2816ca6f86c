//! The templates of a task, in the language of Jinja: rendered for one row, with the field that is missing.

use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use regex::Regex;

use super::rows::Row;
use crate::error::{Error, Result};

/// Templates and expressions by the key they stand under in the task file.
pub struct Templates {
    environment: Environment<'static>,
}

impl Templates {
    pub fn new() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.add_filter("regex_replace", regex_replace);
        environment.add_filter("tojson", to_json);
        Self { environment }
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
        self.environment.compile_expression(text).map(drop).map_err(|error| Error::invalid(plainly(&error)))
    }

    /// Renders the template `key` for a row.
    pub fn render(&self, key: &str, row: &Row) -> Result<String> {
        let template = self.environment.get_template(key).map_err(|error| Error::invalid(plainly(&error)))?;
        template.render(Serde(&row.fields)).map_err(|error| {
            let missing = template.undeclared_variables(false);
            self.blame(key, error, row, missing.into_iter())
        })
    }

    /// The list of texts that an expression gives for a row.
    pub fn texts(&self, key: &str, expression: &str, row: &Row) -> Result<Vec<String>> {
        let compiled = self
            .environment
            .compile_expression(expression)
            .map_err(|error| Error::invalid(plainly(&error)))?;
        let missing = compiled.undeclared_variables(false);
        let list = compiled
            .eval(Serde(&row.fields))
            .map_err(|error| self.blame(key, error, row, missing.clone().into_iter()))?;
        if list.is_undefined() {
            return Err(self.blame(key, ErrorKind::UndefinedError.into(), row, missing.into_iter()));
        }
        let wrong = || {
            Error::expected("a list of texts", format!("'{list}'"))
                .field(expression.to_owned())
                .file(&row.place)
        };
        if list.kind() != minijinja::value::ValueKind::Seq {
            return Err(wrong());
        }
        let texts = list.try_iter().map_err(|_| wrong())?;
        texts.map(|text| text.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
    }

    fn blame(
        &self,
        key: &str,
        error: minijinja::Error,
        row: &Row,
        mut used: impl Iterator<Item = String>,
    ) -> Error {
        let missing = used.find(|name| !row.fields.contains_key(name));
        match missing.filter(|_| error.kind() == ErrorKind::UndefinedError) {
            Some(field) => {
                Error::invalid(format!("no such field, but '{key}' uses it")).field(field).file(&row.place)
            }
            None => Error::invalid(format!("the template cannot be filled in: {}", plainly(&error)))
                .field(key)
                .file(&row.place),
        }
    }
}

fn plainly(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    }
}

/// `{{ text | regex_replace('a+', 'b') }}`.
fn regex_replace(text: &str, pattern: &str, by: &str) -> std::result::Result<Value, minijinja::Error> {
    let pattern = Regex::new(pattern)
        .map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, error.to_string()))?;
    Ok(pattern.replace_all(text, by).into_owned().into())
}

/// `{{ value | tojson }}`, or `tojson(indent=2)`. Jinja's own writes `<`, `>`, `&` and `'` as escapes, for web pages; models
/// are to see them as they are.
fn to_json(value: &Value, options: Kwargs) -> std::result::Result<String, minijinja::Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let mut json = Vec::new();
    let written = match indent {
        None => serde_json::to_writer(&mut json, value),
        Some(n) => {
            let spaces = b" ".repeat(n);
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&spaces);
            serde::Serialize::serialize(
                value,
                &mut serde_json::Serializer::with_formatter(&mut json, formatter),
            )
        }
    };
    let wrong = |problem: String| minijinja::Error::new(ErrorKind::InvalidOperation, problem);
    written.map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(json).map_err(|error| wrong(error.to_string()))
}
