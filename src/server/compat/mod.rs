//! Bodies of other APIs as bodies of chat completions. Members that an API does not know stay as they are: samplers, and what
//! is ours.

pub mod anthropic;
pub mod responses;

use serde_json::{json, Map, Value};

use super::error::{ApiError, ApiResult};
use super::fields::{shortened, Fields};

/// What a list holds, each of them an object.
fn objects<'a>(name: &str, list: &'a [Value]) -> ApiResult<Vec<Fields<'a>>> {
    let wrong = |value| ApiError::field(name, format!("expected objects, found {}", shortened(value)));
    list.iter().map(|value| value.as_object().map(Fields).ok_or_else(|| wrong(value))).collect()
}

/// The text `name`, which must be there.
fn required<'a>(fields: Fields<'a>, name: &str) -> ApiResult<&'a str> {
    fields.text(name)?.ok_or_else(|| ApiError::field(name, "expected a text, found nothing"))
}

fn text_part(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

fn image_part(url: &str) -> Value {
    json!({ "type": "image_url", "image_url": { "url": url } })
}

fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
}

/// Members of a body of chat completions.
#[derive(Default)]
struct Chat(Map<String, Value>);

impl Chat {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.into(), value.into());
    }

    /// Leaves only tools that have one of these `names`.
    fn keep_tools(&mut self, names: &[&str]) -> ApiResult<()> {
        let name_of =
            |tool: &Value| tool.pointer("/function/name").and_then(Value::as_str).map(str::to_owned);
        let tools = self.0.get_mut("tools").and_then(Value::as_array_mut);
        let mut none = Vec::new();
        let tools = tools.unwrap_or(&mut none);
        for name in names {
            if !tools.iter().any(|tool| name_of(tool).as_deref() == Some(name)) {
                return Err(ApiError::field("tool_choice", format!("there is no tool '{name}'")));
            }
        }
        tools.retain(|tool| name_of(tool).is_some_and(|name| names.contains(&name.as_str())));
        Ok(())
    }

    /// Puts these members into `body`, in place of those called `own`.
    fn replace(self, mut body: Map<String, Value>, own: &[&str]) -> Map<String, Value> {
        // Both APIs have one answer to one question.
        body.retain(|name, _| !own.contains(&name.as_str()) && !["n", "n_cmpl"].contains(&name.as_str()));
        body.extend(self.0);
        body
    }
}
