//! Forms of rows: data sets name their fields in their own ways, and a form says how the fields that a task's templates
//! use come from those of a row. A row that fits no form is taken as it is.

use serde_json::Value;

use super::file::Form;
use super::rows::Row;
use super::templates::Templates;
use super::{presets, source};
use crate::error::{Error, Result};

/// Checks the expressions of `forms`.
pub fn check(forms: &[Form], templates: &Templates) -> Result<()> {
    for form in forms {
        if form.fields.is_empty() {
            return Err(Error::invalid("a form needs the names of its fields").field("fields"));
        }
        for (name, expression) in &form.set {
            let checked = templates.check_expression(expression);
            checked.map_err(|error| error.field(format!("set.{name}")))?;
        }
    }
    Ok(())
}

/// The first of `forms` that `row` fits.
pub fn find<'a>(forms: &'a [Form], row: &Row) -> Option<&'a Form> {
    forms.iter().find(|form| form.fields.iter().all(|name| has(row, name)))
}

/// `row` with the fields that its form sets.
pub fn complete(form: &Form, row: &Row, templates: &Templates) -> Result<Row> {
    let mut fields = row.fields.clone();
    for (name, expression) in &form.set {
        let value = templates.value(&format!("rows.set.{name}"), expression, row)?;
        let value = serde_json::to_value(&value)
            .map_err(|error| Error::invalid(error.to_string()).field(name.clone()).file(&row.place))?;
        fields.insert(name.clone(), value);
    }
    Ok(Row { place: row.place.clone(), number: row.number, fields })
}

/// What is there, what the forms want, and which presets read such a row.
pub fn misfit(forms: &[Form], row: &Row) -> String {
    let wanted: Vec<_> = forms.iter().map(|form| form.fields.join(", ")).collect();
    let reads = |name: &&str| {
        let (file, _) = source::preset(name).unwrap_or_else(|error| unreachable!("a preset: {error}"));
        find(&file.rows, row).is_some()
    };
    let presets: Vec<_> = presets::names().into_iter().filter(reads).collect();
    let hint = match presets.is_empty() {
        true => String::from("name its fields in a task file of your own"),
        false => format!("a row like this is read by the preset {}", presets.join(" or ")),
    };
    format!("the row has {}; this task reads rows with {}; {hint}", names(row), wanted.join(", or with "))
}

/// Whether `row` has the field with this dotted name, and a value in it.
fn has(row: &Row, name: &str) -> bool {
    let mut parts = name.split('.');
    let first = parts.next().and_then(|name| row.fields.get(name));
    parts
        .try_fold(first, |value, name| Some(value?.get(name)))
        .flatten()
        .is_some_and(|value| !value.is_null())
}

/// The fields of `row`, with those of its objects.
fn names(row: &Row) -> String {
    /// More do not help.
    const MAX_NAMES: usize = 24;
    let mut names = Vec::new();
    for (name, value) in &row.fields {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                names.extend(inner.keys().map(|inner| format!("{name}.{inner}")));
            }
            Value::Null => names.push(format!("{name} (null)")),
            _ => names.push(name.clone()),
        }
    }
    names.sort();
    let more = names.len().saturating_sub(MAX_NAMES);
    names.truncate(MAX_NAMES);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    if names.is_empty() {
        names.push(String::from("no fields"));
    }
    names.join(", ")
}
