//! The first setting that is not what the work was begun with.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A setting that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Its path, such as `options.kl`.
    pub name: String,
    /// What the work was begun with; null where it did not have that setting.
    pub found: Value,
    /// What is asked for now.
    pub asked: Value,
}

impl Difference {
    /// The error that names it; `work` is what was begun, such as `run`. Its field is [`Self::name`] after `place`.
    pub fn error(&self, work: &str, place: &str) -> Error {
        let Self { name, found, asked } = self;
        let shown = |value: &Value| if value.is_null() { "nothing".to_owned() } else { value.to_string() };
        Error::invalid(format!("the {work} was begun with {}, and this is {}", shown(found), shown(asked)))
            .field(format!("{place}{name}"))
    }
}

/// The first difference between settings, in alphabetical order of their names. A setting that is missing is like one
/// that is null.
pub fn first_difference(found: &Value, asked: &Value) -> Option<Difference> {
    fn visit(name: String, found: &Value, asked: &Value) -> Option<Difference> {
        let (Some(of_found), Some(of_asked)) = (found.as_object(), asked.as_object()) else {
            let difference = || Difference { name, found: found.clone(), asked: asked.clone() };
            return (found != asked).then(difference);
        };
        let of = |object: &Map<String, Value>, key: &str| object.get(key).cloned().unwrap_or_default();
        let mut keys: Vec<_> = of_asked.keys().chain(of_found.keys()).collect();
        keys.sort();
        keys.dedup();
        keys.into_iter().find_map(|key| {
            let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
            visit(name, &of(of_found, key), &of(of_asked, key))
        })
    }
    visit(String::new(), found, asked)
}

/// Checks that `work` was begun with the settings it is to go on with.
///
/// # Errors
/// It was not; the error names the first difference.
pub fn check(work: &str, found: &Value, asked: &Value) -> Result<()> {
    match first_difference(found, asked) {
        Some(difference) => Err(difference.error(work, "")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_innermost_setting_is_named() {
        let begun = json!({ "a": 1, "options": { "kl": 0.5, "seed": 3 }, "list": [1, 2] });
        assert_eq!(first_difference(&begun, &begun), None);
        for (asked, message) in [
            (
                json!({ "a": 1, "options": { "kl": 0.25, "seed": 4 }, "list": [1, 2] }),
                "options.kl: the run was begun with 0.5, and this is 0.25",
            ),
            (
                json!({ "a": 1, "list": [1, 3], "options": { "kl": 0.5, "seed": 3 } }),
                "list: the run was begun with [1,2], and this is [1,3]",
            ),
            (
                json!({ "a": 1, "options": { "kl": 0.5 }, "list": [1, 2] }),
                "options.seed: the run was begun with 3, and this is nothing",
            ),
            (
                json!({ "a": 1, "more": "b", "options": { "kl": 0.5, "seed": 3 }, "list": [1, 2] }),
                "more: the run was begun with nothing, and this is \"b\"",
            ),
        ] {
            assert_eq!(check("run", &begun, &asked).unwrap_err().to_string(), message);
        }
    }
}
