//! What is asked in a chat: OpenAI's fields, as llama-server reads them.

use serde_json::{json, Map, Value};

use super::control::ControlTokens;
use crate::error::{Error, Result};

/// The fields of a request that say what the model reads, and how its answer is to be understood.
const FIELDS: [&str; 12] = [
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "json_schema",
    "grammar",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template_kwargs",
    "reasoning_effort",
    "reasoning_format",
];

/// Who may speak in a chat; templates know them.
const ROLES: [&str; 8] =
    ["system", "developer", "user", "assistant", "tool", "function", "ipython", "tool_response"];

/// llama.cpp follows nested JSON and nested groups by recursion.
const MAX_NESTING: usize = 100;

/// What is done with the thinking in an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReasoningFormat {
    /// It stays in the content.
    None,
    /// It is a field of its own.
    #[default]
    Deepseek,
    /// The same; in streams llama.cpp once left it in the content.
    DeepseekLegacy,
    /// What llama.cpp finds best for the template.
    Auto,
}

impl ReasoningFormat {
    /// As requests call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Deepseek => "deepseek",
            Self::DeepseekLegacy => "deepseek-legacy",
            Self::Auto => "auto",
        }
    }

    /// The one with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Deepseek, Self::DeepseekLegacy, Self::Auto]
            .into_iter()
            .find(|format| format.name() == name)
    }
}

/// What holds for requests that do not say otherwise.
#[derive(Clone, Debug)]
pub struct ChatSettings {
    /// What is done with the thinking in an answer.
    pub reasoning_format: ReasoningFormat,
    /// Whether the model thinks before it answers; `None` for what its template is made for.
    pub thinks: Option<bool>,
    /// Whether a last message of the assistant is continued, and not answered.
    pub prefills: bool,
    /// Whether a model without a chat template uses `chatml`, which else is an error.
    pub chatml: bool,
    /// Whether templates are read as Jinja. Otherwise only the few formats count that llama.cpp knew before it could.
    pub jinja: bool,
}

impl Default for ChatSettings {
    fn default() -> Self {
        Self {
            reasoning_format: ReasoningFormat::default(),
            thinks: None,
            prefills: true,
            chatml: true,
            jinja: true,
        }
    }
}

/// A conversation with all that a client may wish of the answer.
#[derive(Clone, Debug)]
pub struct ChatRequest {
    fields: Map<String, Value>,
    settings: ChatSettings,
}

impl ChatRequest {
    /// The chat in the body of a request; other fields are ignored.
    pub fn new(body: &Value, settings: ChatSettings) -> Self {
        let field = |&name: &&str| Some((name.to_owned(), body.get(name)?.clone()));
        Self { fields: FIELDS.iter().filter_map(field).collect(), settings }
    }

    /// What holds where the request does not say otherwise.
    pub(super) fn settings(&self) -> &ChatSettings {
        &self.settings
    }

    /// A field as it came; null if it did not.
    pub(super) fn field(&self, name: &str) -> &Value {
        self.fields.get(name).unwrap_or(&Value::Null)
    }

    /// For llama.cpp; `only_prompt` wants nothing else.
    pub(super) fn to_json(&self, only_prompt: bool) -> String {
        let ChatSettings { reasoning_format, thinks, prefills, jinja, .. } = self.settings;
        json!({
            "body": self.fields,
            "reasoning_format": reasoning_format.name(),
            "enable_thinking": thinks,
            "prefills": prefills,
            "jinja": jinja,
            "only_prompt": only_prompt,
        })
        .to_string()
    }

    /// Checks what would take llama.cpp more stack than there is.
    ///
    /// # Errors
    /// JSON in a text, a schema's `pattern` or the grammar is nested too deeply.
    pub(super) fn check(&self) -> Result<()> {
        let too_deep = |field: &str| {
            Err(Error::expected(format!("at most {MAX_NESTING} levels"), "more nested ones").field(field))
        };
        for message in elements(self.field("messages")) {
            for call in message.get("tool_calls").map(elements).unwrap_or_default() {
                let arguments = call.pointer("/function/arguments").and_then(Value::as_str);
                // Some code of llama.cpp's leaves out a quote that begins them.
                let is_too_deep = |text: &str| {
                    [text, text.trim_start_matches('"')].iter().any(|text| nesting(text, true) > MAX_NESTING)
                };
                if arguments.is_some_and(is_too_deep) {
                    return too_deep("arguments");
                }
            }
            let content = message.get("content").and_then(Value::as_str).unwrap_or_default();
            let is_json = content.trim_start_matches('\u{FEFF}').trim_start().starts_with(['{', '[']);
            if is_json && message.get("role").is_some_and(is_tool) && nesting(content, true) > MAX_NESTING {
                return too_deep("content");
            }
        }
        for name in ["tools", "response_format", "json_schema"] {
            check_patterns(self.field(name)).or_else(|()| too_deep("pattern"))?;
        }
        Ok(())
    }

    /// The same request, in which [`ControlTokens`] are marked that texts from outside spell; `None` if none does.
    ///
    /// # Errors
    /// A role that a template could make a control token of.
    pub(super) fn shielded(&self, control: &ControlTokens) -> Result<Option<Self>> {
        let mut shielded = self.clone();
        if let Some(Value::Array(messages)) = shielded.fields.get_mut("messages") {
            for message in messages {
                shield_message(message, control)?;
            }
        }
        for tool in shielded.fields.get_mut("tools").and_then(Value::as_array_mut).into_iter().flatten() {
            for name in ["name", "description", "parameters"] {
                at(tool, &["function", name], |value| shield_all(value, control));
            }
        }
        for name in ["chat_template_kwargs", "reasoning_effort"] {
            match shielded.fields.get_mut(name) {
                // Its names are the template's variables.
                Some(Value::Object(variables)) => {
                    variables.iter_mut().for_each(|(_, value)| shield_all(value, control));
                }
                Some(value) => shield_all(value, control),
                None => {}
            }
        }
        Ok((shielded.fields != self.fields).then_some(shielded))
    }
}

fn elements(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Lets `change` work on what stands at `path`, if anything does.
fn at(value: &mut Value, path: &[&str], change: impl FnOnce(&mut Value)) {
    let place = path.iter().try_fold(value, |value, name| value.get_mut(name));
    if let Some(place) = place {
        change(place);
    }
}

fn is_tool(role: &Value) -> bool {
    matches!(role.as_str(), Some("tool" | "function" | "ipython" | "tool_response"))
}

fn shield_message(message: &mut Value, control: &ControlTokens) -> Result<()> {
    let is_tool = message.get("role").is_some_and(is_tool);
    if let Some(role) = message.get("role").and_then(Value::as_str).filter(|role| !ROLES.contains(role)) {
        if control.shield(role) != role || control.is_within_one(role) {
            return Err(
                Error::expected(format!("one of {}", ROLES.join(", ")), format!("{role:?}")).field("role")
            );
        }
    }
    at(message, &["content"], |content| match content {
        Value::String(text) if is_tool => *text = shield_json(text, control),
        Value::String(text) => *text = control.shield(text),
        Value::Array(parts) => {
            for part in parts {
                at(part, &["text"], |text| shield_text(text, control));
            }
        }
        _ => {}
    });
    at(message, &["reasoning_content"], |text| shield_text(text, control));
    for name in ["name", "tool_call_id"] {
        at(message, &[name], |value| shield_all(value, control));
    }
    for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        at(call, &["id"], |value| shield_all(value, control));
        at(call, &["function", "name"], |value| shield_all(value, control));
        at(call, &["function", "arguments"], |arguments| match arguments {
            Value::String(text) => *text = shield_json(text, control),
            other => shield_all(other, control),
        });
    }
    Ok(())
}

fn shield_text(value: &mut Value, control: &ControlTokens) {
    if let Value::String(text) = value {
        *text = control.shield(text);
    }
}

/// All texts and names in `value`.
fn shield_all(value: &mut Value, control: &ControlTokens) {
    match value {
        Value::String(text) => *text = control.shield_name(text),
        Value::Array(values) => values.iter_mut().for_each(|value| shield_all(value, control)),
        Value::Object(fields) => {
            let shielded = std::mem::take(fields).into_iter().map(|(name, mut value)| {
                shield_all(&mut value, control);
                (control.shield_name(&name), value)
            });
            *fields = shielded.collect();
        }
        _ => {}
    }
}

/// Text that may be JSON, which llama.cpp then reads: escapes in it could spell a control token, too.
fn shield_json(text: &str, control: &ControlTokens) -> String {
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        let mut shielded = value.clone();
        shield_all(&mut shielded, control);
        if shielded != value {
            return shielded.to_string();
        }
    }
    control.shield(text)
}

/// How deeply brackets are nested in a text; outside of quotes, if it `quotes`.
fn nesting(text: &str, quotes: bool) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut is_quoted = false;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'"' if quotes => is_quoted = !is_quoted,
            b'[' | b'{' | b'(' if !is_quoted => depth += 1,
            b']' | b'}' | b')' if !is_quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn check_patterns(schema: &Value) -> std::result::Result<(), ()> {
    match schema {
        Value::Array(values) => values.iter().try_for_each(check_patterns),
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| match value {
            Value::String(pattern) if name == "pattern" && nesting(pattern, false) > MAX_NESTING => Err(()),
            value => check_patterns(value),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::nesting;

    #[test]
    fn brackets_count_outside_of_quotes() {
        for (text, depth) in [("", 0), ("[[]]{}", 2), ("\"[[[\"", 0), ("{\"a\\\"[[\": [1]}", 2), ("]][", 1)] {
            assert_eq!(nesting(text, true), depth, "{text}");
        }
        assert_eq!(nesting("\"((", false), 2);
    }
}
