//! The settings of a run as a table.

use std::fmt::Write as _;

use serde_json::Value;

use super::escape;

/// A table of all `settings`, nested ones with their path.
pub fn settings(settings: &Value) -> String {
    let mut table = String::new();
    for (name, text) in rows(settings) {
        // Writing to a string cannot fail.
        let _ = writeln!(table, "<tr><td>{}</td><td><code>{}</code></td></tr>", escape(&name), escape(&text));
    }
    format!("<table>\n{table}</table>")
}

/// The path and the value of every setting.
pub fn rows(settings: &Value) -> Vec<(String, String)> {
    let Value::Object(object) = settings else {
        let text = match settings {
            Value::String(text) => text.clone(),
            Value::Null => "none".to_owned(),
            other => other.to_string(),
        };
        return vec![(String::new(), text)];
    };
    let below = |(key, value): (&String, &Value)| {
        let named = |(name, text): (String, String)| match name.is_empty() {
            true => (key.clone(), text),
            false => (format!("{key}.{name}"), text),
        };
        rows(value).into_iter().map(named).collect::<Vec<_>>()
    };
    object.iter().flat_map(below).collect()
}
