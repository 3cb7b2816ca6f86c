//! OpenAI's responses.

use serde_json::{json, Map, Value};

use super::{call, image_part, objects, required, text_part, Chat};
use crate::server::error::{ApiError, ApiResult};
use crate::server::fields::Fields;

/// Members that chat completions lack or mean otherwise.
const OWN: [&str; 9] = [
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "max_output_tokens",
    "text",
    "reasoning",
    "include",
    "top_logprobs",
];

/// Members that stand for what a server keeps, and this one does not.
const KEPT: [&str; 3] = ["previous_response_id", "conversation", "prompt"];

/// A body of `/v1/responses` as one of chat completions.
///
/// # Errors
/// It has no input, a member or an item of the input is malformed or of a type that cannot be read, or it refers to something
/// that it does not contain.
pub fn to_chat(body: Map<String, Value>) -> ApiResult<Map<String, Value>> {
    let fields = Fields(&body);
    for name in KEPT {
        if fields.value(name).is_some_and(|value| value != "") {
            return Err(ApiError::field(name, "not supported: this server keeps no responses"));
        }
    }
    if fields.bool("background")? == Some(true) {
        return Err(ApiError::field("background", "not supported: this server keeps no responses"));
    }
    let mut chat = Chat::default();
    chat.set("messages", messages(fields)?);
    if let Some(list) = fields.array("tools")? {
        chat.set("tools", tools(list)?);
    }
    choose_tool(fields, &mut chat)?;
    if let Some(n) = fields.value("max_output_tokens") {
        chat.set("max_tokens", n.clone());
    }
    if let Some(effort) = fields.object("reasoning")?.and_then(|reasoning| reasoning.value("effort")) {
        chat.set("reasoning_effort", effort.clone());
    }
    let format = fields.object("text")?.map(|text| text.object("format")).transpose()?.flatten();
    if let Some(format) = format {
        chat.set("response_format", response_format(format)?);
    }
    let wants_probs =
        |included: &[String]| included.iter().any(|name| name == "message.output_text.logprobs");
    if fields.texts("include")?.is_some_and(|included| wants_probs(&included)) {
        chat.set("logprobs", true);
        if let Some(n) = fields.value("top_logprobs") {
            chat.set("top_logprobs", n.clone());
        }
    }
    Ok(chat.replace(body, &OWN))
}

fn messages(fields: Fields) -> ApiResult<Vec<Value>> {
    let mut messages = Vec::new();
    if let Some(text) = fields.text("instructions")? {
        messages.push(json!({ "role": "system", "content": text }));
    }
    match fields.value("input") {
        None => return Err(ApiError::invalid("'input' is required")),
        Some(Value::String(text)) => messages.push(json!({ "role": "user", "content": text })),
        Some(Value::Array(items)) => {
            for item in objects("input", items)? {
                read_item(item, &mut messages)?;
            }
        }
        Some(_) => return Err(ApiError::invalid("'input' must be a string or array of objects")),
    }
    Ok(messages)
}

fn read_item(item: Fields, messages: &mut Vec<Value>) -> ApiResult<()> {
    match item.text("type")?.unwrap_or("message") {
        "message" => {
            let role = required(item, "role")?;
            let parts = parts(item, "content")?;
            if role == "assistant" {
                extend(assistant(messages), "content", parts);
            } else {
                messages.push(json!({ "role": role, "content": parts }));
            }
        }
        "function_call" => {
            let call =
                call(required(item, "call_id")?, required(item, "name")?, required(item, "arguments")?);
            extend(assistant(messages), "tool_calls", vec![call]);
        }
        "function_call_output" => {
            let content = match item.value("output") {
                Some(Value::String(text)) => json!(text),
                _ => json!(parts(item, "output")?),
            };
            messages.push(json!({
                "role": "tool",
                "tool_call_id": required(item, "call_id")?,
                "content": content,
            }));
        }
        "reasoning" => {
            let of = |name: &str| -> ApiResult<String> {
                let list = objects(name, item.array(name)?.unwrap_or_default())?;
                list.into_iter().map(|part| required(part, "text")).collect()
            };
            let thinking = Some(of("content")?).filter(|text| !text.is_empty());
            let thinking = thinking.map_or_else(|| of("summary"), Ok)?;
            // Some only have what OpenAI can read.
            if !thinking.is_empty() {
                let message = assistant(messages);
                let before = message["reasoning_content"].as_str().unwrap_or_default();
                message["reasoning_content"] = json!(format!("{before}{thinking}"));
            }
        }
        other => {
            return Err(ApiError::field("input", format!("items of type '{other}' are not supported")));
        }
    }
    Ok(())
}

/// The assistant's message to which items that follow each other belong.
fn assistant(messages: &mut Vec<Value>) -> &mut Value {
    if messages.last().is_none_or(|last| last["role"] != "assistant") {
        messages.push(json!({ "role": "assistant", "content": [] }));
    }
    let last = messages.len() - 1;
    &mut messages[last]
}

fn extend(message: &mut Value, name: &str, more: Vec<Value>) {
    match message[name].as_array_mut() {
        Some(list) => list.extend(more),
        None => message[name] = json!(more),
    }
}

/// A text, or a list of parts.
fn parts(item: Fields, name: &str) -> ApiResult<Vec<Value>> {
    let Some(Value::Array(list)) = item.value(name) else {
        return Ok(vec![text_part(required(item, name)?)]);
    };
    let part = |part: Fields| match required(part, "type")? {
        "input_text" | "output_text" | "text" => Ok(text_part(required(part, "text")?)),
        "refusal" => Ok(text_part(required(part, "refusal")?)),
        "input_image" => Ok(image_part(required(part, "image_url")?)),
        other => Err(ApiError::field(name, format!("parts of type '{other}' are not supported"))),
    };
    objects(name, list)?.into_iter().map(part).collect()
}

/// Functions alone: other tools run on OpenAI's servers, or are known to its models alone.
fn tools(list: &[Value]) -> ApiResult<Vec<Value>> {
    let mut tools = Vec::new();
    for tool in objects("tools", list)? {
        if tool.text("type")? == Some("function") {
            required(tool, "name")?;
            let mut function = tool.0.clone();
            function.remove("type");
            tools.push(json!({ "type": "function", "function": function }));
        }
    }
    Ok(tools)
}

fn choose_tool(fields: Fields, chat: &mut Chat) -> ApiResult<()> {
    let choice = match fields.value("tool_choice") {
        None => return Ok(()),
        Some(Value::String(word)) => {
            chat.set("tool_choice", word.as_str());
            return Ok(());
        }
        Some(_) => fields.object("tool_choice")?,
    };
    let Some(choice) = choice else { return Ok(()) };
    let (names, word) = match required(choice, "type")? {
        "function" => (vec![required(choice, "name")?], "required"),
        "allowed_tools" => {
            let allowed = objects("tools", choice.array("tools")?.unwrap_or_default())?;
            let names = allowed.into_iter().map(|tool| required(tool, "name")).collect::<ApiResult<_>>()?;
            (names, choice.text("mode")?.unwrap_or("auto"))
        }
        other => {
            return Err(ApiError::field("tool_choice", format!("the type '{other}' is not supported")));
        }
    };
    chat.keep_tools(&names)?;
    chat.set("tool_choice", word);
    Ok(())
}

/// What the answer's text must be; its schema stands one level deeper in chat completions.
fn response_format(format: Fields) -> ApiResult<Value> {
    match required(format, "type")? {
        "json_schema" => {
            let mut schema = format.0.clone();
            schema.remove("type");
            Ok(json!({ "type": "json_schema", "json_schema": schema }))
        }
        _ => Ok(Value::Object(format.0.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(body: Value) -> ApiResult<Value> {
        let Value::Object(body) = body else { panic!("{body}") };
        to_chat(body).map(Value::Object)
    }

    #[test]
    fn items_become_messages() {
        let text = |text: &str| json!({ "type": "text", "text": text });
        let function = |id: &str| json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": "{}" } });
        for (input, expected) in [
            (json!("Hi"), json!([{ "role": "user", "content": "Hi" }])),
            (
                json!([
                    { "role": "developer", "content": "Be kind." },
                    { "type": "message", "role": "user", "status": "completed", "content": [
                        { "type": "input_text", "text": "a" },
                        { "type": "input_image", "image_url": "http://b" },
                    ] },
                ]),
                json!([
                    { "role": "developer", "content": [text("Be kind.")] },
                    { "role": "user", "content": [
                        text("a"), { "type": "image_url", "image_url": { "url": "http://b" } },
                    ] },
                ]),
            ),
            (
                json!([
                    { "type": "reasoning", "id": "rs_1", "summary": [], "content": [
                        { "type": "reasoning_text", "text": "Hm" },
                    ] },
                    { "type": "message", "role": "assistant", "id": "msg_1", "content": [
                        { "type": "output_text", "text": "I look.", "annotations": [] },
                        { "type": "refusal", "refusal": "No." },
                    ] },
                    { "type": "function_call", "call_id": "1", "name": "f", "arguments": "{}" },
                    { "type": "function_call", "call_id": "2", "name": "f", "arguments": "{}" },
                    { "type": "function_call_output", "call_id": "1", "output": "ok" },
                    { "type": "function_call_output", "call_id": "2", "output": [
                        { "type": "input_text", "text": "ok" },
                    ] },
                    { "role": "assistant", "content": "Done." },
                ]),
                json!([
                    {
                        "role": "assistant",
                        "content": [text("I look."), text("No.")],
                        "reasoning_content": "Hm",
                        "tool_calls": [function("1"), function("2")],
                    },
                    { "role": "tool", "tool_call_id": "1", "content": "ok" },
                    { "role": "tool", "tool_call_id": "2", "content": [text("ok")] },
                    { "role": "assistant", "content": [text("Done.")] },
                ]),
            ),
            (
                json!([{ "type": "reasoning", "summary": [{ "type": "summary_text", "text": "Hm" }] }]),
                json!([{ "role": "assistant", "content": [], "reasoning_content": "Hm" }]),
            ),
            (json!([{ "type": "reasoning", "summary": [], "encrypted_content": "x" }]), json!([])),
        ] {
            let chat = converted(json!({ "input": input })).unwrap();
            assert_eq!(chat, json!({ "messages": expected }), "{input}");
        }
    }

    #[test]
    fn other_members_are_translated_or_stay() {
        let tool =
            |name: &str| json!({ "type": "function", "name": name, "parameters": {}, "strict": false });
        let chat_tool = |name: &str| json!({ "type": "function", "function": { "name": name, "parameters": {}, "strict": false } });
        let tools = json!([tool("f"), tool("g"), { "type": "web_search" }]);
        let ours =
            json!({ "svf": { "mix": {} }, "model": "auto", "timings_per_token": true, "stream": true });
        for (members, expected) in [
            (ours.clone(), ours),
            (
                json!({ "n": 2, "previous_response_id": null, "top_logprobs": 5 }),
                json!({ "previous_response_id": null }),
            ),
            (json!({ "max_output_tokens": 9 }), json!({ "max_tokens": 9 })),
            (
                json!({ "reasoning": { "effort": "low", "summary": "auto" } }),
                json!({ "reasoning_effort": "low" }),
            ),
            (
                json!({ "include": ["message.output_text.logprobs"], "top_logprobs": 5 }),
                json!({ "logprobs": true, "top_logprobs": 5 }),
            ),
            (json!({ "tools": tools }), json!({ "tools": [chat_tool("f"), chat_tool("g")] })),
            (json!({ "tool_choice": "none" }), json!({ "tool_choice": "none" })),
            (
                json!({ "tools": tools, "tool_choice": { "type": "function", "name": "g" } }),
                json!({ "tools": [chat_tool("g")], "tool_choice": "required" }),
            ),
            (
                json!({ "tools": tools, "tool_choice": {
                    "type": "allowed_tools", "mode": "auto", "tools": [{ "type": "function", "name": "f" }],
                } }),
                json!({ "tools": [chat_tool("f")], "tool_choice": "auto" }),
            ),
            (
                json!({ "text": { "format": { "type": "json_schema", "name": "s", "schema": { "type": "string" } } } }),
                json!({ "response_format": {
                    "type": "json_schema", "json_schema": { "name": "s", "schema": { "type": "string" } },
                } }),
            ),
            (json!({ "text": { "verbosity": "low" } }), json!({})),
        ] {
            let mut body = members.clone();
            body["input"] = json!([]);
            let mut expected = expected;
            expected["messages"] = json!([]);
            assert_eq!(converted(body).unwrap(), expected, "{members}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let item = |item: Value| json!({ "input": [item] });
        for (body, expected) in [
            (json!({}), "'input' is required"),
            (json!({ "input": 1 }), "'input' must be a string or array of objects"),
            (json!({ "input": ["Hi"] }), "Field 'input'"),
            (json!({ "input": "Hi", "previous_response_id": "resp_1" }), "Field 'previous_response_id'"),
            (json!({ "input": "Hi", "background": true }), "Field 'background'"),
            (
                json!({ "input": "Hi", "tool_choice": { "type": "function", "name": "f" } }),
                "there is no tool 'f'",
            ),
            (json!({ "input": "Hi", "tool_choice": { "type": "mcp" } }), "'mcp'"),
            (json!({ "input": "Hi", "tools": [{ "type": "function" }] }), "Field 'name'"),
            (item(json!({ "content": "Hi" })), "Field 'role'"),
            (item(json!({ "role": "user" })), "Field 'content'"),
            (item(json!({ "role": "user", "content": [{ "type": "input_file" }] })), "'input_file'"),
            (item(json!({ "role": "user", "content": [{ "type": "input_text" }] })), "Field 'text'"),
            (item(json!({ "type": "function_call", "call_id": "1", "name": "f" })), "Field 'arguments'"),
            (item(json!({ "type": "item_reference", "id": "1" })), "'item_reference'"),
        ] {
            let error = converted(body.clone()).unwrap_err().body();
            assert!(error["message"].as_str().unwrap().contains(expected), "{body}: {error}");
            assert_eq!(error["code"], 400);
        }
    }
}
