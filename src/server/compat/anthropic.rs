//! Anthropic's messages.

use serde_json::{json, Map, Value};

use super::{call, image_part, objects, required, text_part, Chat};
use crate::server::error::{ApiError, ApiResult};
use crate::server::fields::Fields;

/// Members that chat completions lack or mean otherwise.
const OWN: [&str; 8] = [
    "messages",
    "system",
    "tools",
    "tool_choice",
    "stop_sequences",
    "thinking",
    "output_config",
    "output_format",
];

/// A body of `/v1/messages` as one of chat completions.
///
/// # Errors
/// It has no messages, a member is malformed, or a block of a message is of a type that cannot be read.
pub fn to_chat(body: Map<String, Value>) -> ApiResult<Map<String, Value>> {
    let fields = Fields(&body);
    let mut chat = Chat::default();
    chat.set("messages", messages(fields)?);
    if let Some(list) = fields.array("tools")? {
        chat.set("tools", tools(list)?);
    }
    if let Some(choice) = fields.object("tool_choice")? {
        choose_tool(choice, &mut chat)?;
    }
    if let Some(stop) = fields.texts("stop_sequences")? {
        chat.set("stop", stop);
    }
    if let Some(thinking) = fields.object("thinking")? {
        think(thinking, fields, &mut chat)?;
    }
    let format = match fields.object("output_config")? {
        Some(config) => config.object("format")?,
        None => fields.object("output_format")?,
    };
    if let Some(schema) = format.and_then(|format| format.value("schema")) {
        chat.set("response_format", json!({ "type": "json_schema", "json_schema": { "schema": schema } }));
    }
    Ok(chat.replace(body, &OWN))
}

fn messages(fields: Fields) -> ApiResult<Vec<Value>> {
    let mut messages = Vec::new();
    if let Some(system) = system(fields)? {
        messages.push(json!({ "role": "system", "content": system }));
    }
    let missing = || ApiError::invalid("'messages' is required");
    for message in objects("messages", fields.array("messages")?.ok_or_else(missing)?)? {
        read_message(message, &mut messages)?;
    }
    Ok(messages)
}

fn system(fields: Fields) -> ApiResult<Option<String>> {
    match fields.value("system") {
        Some(Value::Array(blocks)) => {
            let texts = objects("system", blocks)?.into_iter().map(|block| block.text("text"));
            let texts = texts.map(|text| Ok(without_stamp(text?.unwrap_or_default())));
            Ok(Some(texts.collect::<ApiResult<String>>()?))
        }
        _ => Ok(fields.text("system")?.map(|text| without_stamp(text).to_owned())),
    }
}

/// Claude Code puts a stamp before its system text that differs from request to request, and what was read before could
/// never be used again.
fn without_stamp(text: &str) -> &str {
    let stamp = text.strip_prefix("x-anthropic-billing-header:").and_then(|rest| rest.split_once("cch="));
    stamp.and_then(|(_, rest)| rest.split_once(';')).map_or(text, |(_, rest)| rest)
}

/// Appends what a message says; results of tools come first, since they answer the calls before it.
fn read_message(message: Fields, messages: &mut Vec<Value>) -> ApiResult<()> {
    let role = required(message, "role")?;
    let blocks = match message.value("content") {
        Some(Value::Array(blocks)) => objects("content", blocks)?,
        None if role == "assistant" => return Ok(()),
        _ => {
            messages.push(Value::Object(message.0.clone()));
            return Ok(());
        }
    };
    let mut parts = Vec::new();
    let mut calls = Vec::new();
    let mut thinking = String::new();
    for block in blocks {
        match required(block, "type")? {
            "thinking" => thinking += required(block, "thinking")?,
            // What it says only Anthropic knows.
            "redacted_thinking" => {}
            "tool_use" => {
                let input = block.value("input").map_or_else(|| "{}".into(), Value::to_string);
                calls.push(call(required(block, "id")?, required(block, "name")?, &input));
            }
            "tool_result" => messages.push(json!({
                "role": "tool",
                "tool_call_id": required(block, "tool_use_id")?,
                "content": result(block)?,
            })),
            kind => parts.push(part(kind, block)?),
        }
    }
    if parts.is_empty() && calls.is_empty() && thinking.is_empty() {
        return Ok(());
    }
    let mut said =
        json!({ "role": role, "content": if parts.is_empty() { json!("") } else { json!(parts) } });
    if !calls.is_empty() {
        said["tool_calls"] = json!(calls);
    }
    if !thinking.is_empty() {
        said["reasoning_content"] = json!(thinking);
    }
    messages.push(said);
    Ok(())
}

/// What a tool answered: a text, unless there is more than text.
fn result(block: Fields) -> ApiResult<Value> {
    let Some(Value::Array(blocks)) = block.value("content") else {
        return Ok(block.text("content")?.unwrap_or_default().into());
    };
    let blocks = objects("content", blocks)?;
    let parts = blocks.into_iter().map(|block| part(required(block, "type")?, block));
    let parts = parts.collect::<ApiResult<Vec<_>>>()?;
    let texts: Option<String> = parts.iter().map(|part| part.get("text")?.as_str()).collect();
    Ok(texts.map_or(json!(parts), Value::from))
}

/// A block of type `kind` that is to be read.
fn part(kind: &str, block: Fields) -> ApiResult<Value> {
    if kind == "text" {
        return Ok(text_part(required(block, "text")?));
    }
    let source = block.object("source")?;
    let form = source.map(|source| source.text("type")).transpose()?.flatten();
    match (kind, source, form) {
        ("image", Some(source), Some("base64")) => {
            let media_type = source.text("media_type")?.unwrap_or("image/jpeg");
            Ok(image_part(&format!("data:{media_type};base64,{}", required(source, "data")?)))
        }
        ("image", Some(source), Some("url")) => Ok(image_part(required(source, "url")?)),
        ("document", Some(source), Some("text")) => Ok(text_part(required(source, "data")?)),
        ("document", _, form) => Err(ApiError::field(
            "source",
            format!("expected a document of type text, found {}", form.unwrap_or("none")),
        )),
        _ => Err(ApiError::field("content", format!("blocks of type '{kind}' are not supported"))),
    }
}

/// Those tools of which the client says what they take; others run on Anthropic's servers, or are known to its models alone.
fn tools(list: &[Value]) -> ApiResult<Vec<Value>> {
    let mut tools = Vec::new();
    for tool in objects("tools", list)? {
        if tool.text("type")?.is_none_or(|kind| kind == "custom") {
            let parameters = tool.object("input_schema")?.map_or_else(Map::new, |schema| schema.0.clone());
            tools.push(json!({
                "type": "function",
                "function": {
                    "name": required(tool, "name")?,
                    "description": tool.text("description")?.unwrap_or_default(),
                    "parameters": parameters,
                },
            }));
        }
    }
    Ok(tools)
}

fn choose_tool(choice: Fields, chat: &mut Chat) -> ApiResult<()> {
    let word = match required(choice, "type")? {
        "auto" => "auto",
        "none" => "none",
        "any" => "required",
        "tool" => {
            chat.keep_tools(&[required(choice, "name")?])?;
            "required"
        }
        other => {
            let expected = format!("expected auto, any, tool or none as type, found '{other}'");
            return Err(ApiError::field("tool_choice", expected));
        }
    };
    chat.set("tool_choice", word);
    if choice.bool("disable_parallel_tool_use")? == Some(true) {
        chat.set("parallel_tool_calls", false);
    }
    Ok(())
}

fn think(thinking: Fields, fields: Fields, chat: &mut Chat) -> ApiResult<()> {
    if let Some(budget) = thinking.count("budget_tokens")? {
        chat.set("thinking_budget_tokens", budget);
    }
    if thinking.text("type")? == Some("disabled") {
        let mut variables = Map::from_iter([("enable_thinking".to_owned(), json!(false))]);
        variables.extend(fields.object("chat_template_kwargs")?.map_or_else(Map::new, |it| it.0.clone()));
        chat.set("chat_template_kwargs", variables);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(body: Value) -> ApiResult<Value> {
        let Value::Object(body) = body else { panic!("{body}") };
        to_chat(body).map(Value::Object)
    }

    #[test]
    fn messages_become_those_of_chat_completions() {
        let said = |messages: Value| json!({ "messages": messages });
        let user = json!({ "role": "user", "content": "Hi" });
        let image = json!({ "type": "base64", "media_type": "image/png", "data": "AA==" });
        for (body, expected) in [
            (json!([user]), json!([user])),
            (json!([user, { "role": "assistant" }]), json!([user])),
            (
                json!([{ "role": "user", "content": [
                    { "type": "text", "text": "a", "cache_control": { "type": "ephemeral" } },
                    { "type": "document", "source": { "type": "text", "media_type": "text/plain", "data": "b" } },
                    { "type": "image", "source": image },
                    { "type": "image", "source": { "type": "url", "url": "http://c" } },
                ] }]),
                json!([{ "role": "user", "content": [
                    { "type": "text", "text": "a" },
                    { "type": "text", "text": "b" },
                    { "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==" } },
                    { "type": "image_url", "image_url": { "url": "http://c" } },
                ] }]),
            ),
            (
                json!([{ "role": "assistant", "content": [
                    { "type": "thinking", "thinking": "Hm", "signature": "s" },
                    { "type": "redacted_thinking", "data": "x" },
                    { "type": "tool_use", "id": "1", "name": "f", "input": { "a": 1 } },
                ] }]),
                json!([{
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [
                        { "id": "1", "type": "function", "function": { "name": "f", "arguments": "{\"a\":1}" } },
                    ],
                    "reasoning_content": "Hm",
                }]),
            ),
            (
                json!([{ "role": "user", "content": [
                    { "type": "text", "text": "Look:" },
                    { "type": "tool_result", "tool_use_id": "1", "content": "ok" },
                    { "type": "tool_result", "tool_use_id": "2", "is_error": true, "content": [
                        { "type": "text", "text": "n" }, { "type": "text", "text": "o" },
                    ] },
                    { "type": "tool_result", "tool_use_id": "3" },
                ] }]),
                json!([
                    { "role": "tool", "tool_call_id": "1", "content": "ok" },
                    { "role": "tool", "tool_call_id": "2", "content": "no" },
                    { "role": "tool", "tool_call_id": "3", "content": "" },
                    { "role": "user", "content": [{ "type": "text", "text": "Look:" }] },
                ]),
            ),
        ] {
            assert_eq!(converted(said(body.clone())).unwrap(), said(expected), "{body}");
        }
    }

    #[test]
    fn the_stamp_of_a_client_is_left_out() {
        let stamped = "x-anthropic-billing-header: cc_version=2.1; cch=a5145;You are";
        for (system, expected) in [
            (json!(stamped), "You are"),
            (
                json!([{ "type": "text", "text": stamped }, { "type": "text", "text": " kind." }]),
                "You are kind.",
            ),
            (json!("x-anthropic-billing-header: none"), "x-anthropic-billing-header: none"),
            (json!("cch=1;"), "cch=1;"),
        ] {
            let chat = converted(json!({ "system": system, "messages": [] })).unwrap();
            assert_eq!(chat["messages"], json!([{ "role": "system", "content": expected }]), "{system}");
        }
    }

    #[test]
    fn other_members_are_translated_or_stay() {
        let f = json!({ "name": "f", "input_schema": { "type": "object" } });
        let g = json!({ "type": "custom", "name": "g", "description": "G" });
        let tool = |name: &str, description: &str, parameters: Value| json!({ "type": "function", "function": { "name": name, "description": description, "parameters": parameters } });
        let (chat_f, chat_g) = (tool("f", "", json!({ "type": "object" })), tool("g", "G", json!({})));
        let tools = json!([f, g, { "type": "web_search_20250305", "name": "web_search" }]);
        let ours =
            json!({ "svf": { "adapt": "off" }, "lora": [], "model": "auto", "top_k": 3, "max_tokens": 9 });
        for (members, expected) in [
            (ours.clone(), ours),
            (json!({ "n": 2, "n_cmpl": 3 }), json!({})),
            (json!({ "stop_sequences": ["a"] }), json!({ "stop": ["a"] })),
            (json!({ "tools": tools }), json!({ "tools": [chat_f, chat_g] })),
            (json!({ "tool_choice": { "type": "any" } }), json!({ "tool_choice": "required" })),
            (
                json!({ "tools": tools, "tool_choice": { "type": "tool", "name": "g" } }),
                json!({ "tools": [chat_g], "tool_choice": "required" }),
            ),
            (
                json!({ "tool_choice": { "type": "auto", "disable_parallel_tool_use": true } }),
                json!({ "tool_choice": "auto", "parallel_tool_calls": false }),
            ),
            (
                json!({ "thinking": { "type": "enabled", "budget_tokens": 50 } }),
                json!({ "thinking_budget_tokens": 50 }),
            ),
            (
                json!({ "thinking": { "type": "disabled" }, "chat_template_kwargs": { "a": 1 } }),
                json!({ "chat_template_kwargs": { "enable_thinking": false, "a": 1 } }),
            ),
            (
                json!({ "output_config": { "format": { "type": "json_schema", "schema": { "type": "string" } } } }),
                json!({ "response_format": {
                    "type": "json_schema", "json_schema": { "schema": { "type": "string" } },
                } }),
            ),
        ] {
            let with_messages = |mut value: Value| {
                value["messages"] = json!([]);
                value
            };
            assert_eq!(
                converted(with_messages(members.clone())).unwrap(),
                with_messages(expected),
                "{members}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let block = |block: Value| json!({ "messages": [{ "role": "user", "content": [block] }] });
        for (body, expected) in [
            (json!({}), "'messages' is required"),
            (json!({ "messages": "Hi" }), "Field 'messages'"),
            (json!({ "messages": ["Hi"] }), "Field 'messages'"),
            (json!({ "messages": [{ "content": "Hi" }] }), "Field 'role'"),
            (json!({ "messages": [], "system": 1 }), "Field 'system'"),
            (json!({ "messages": [], "tools": [{}] }), "Field 'name'"),
            (
                json!({ "messages": [], "tool_choice": { "type": "tool", "name": "f" } }),
                "there is no tool 'f'",
            ),
            (json!({ "messages": [], "tool_choice": { "type": "all" } }), "found 'all'"),
            (block(json!("Hi")), "Field 'content'"),
            (block(json!({ "type": "text" })), "Field 'text'"),
            (block(json!({ "type": "tool_use", "name": "f" })), "Field 'id'"),
            (block(json!({ "type": "audio" })), "'audio'"),
            (block(json!({ "type": "document", "source": { "type": "base64" } })), "found base64"),
        ] {
            let error = converted(body.clone()).unwrap_err().body();
            assert!(error["message"].as_str().unwrap().contains(expected), "{body}: {error}");
            assert_eq!(error["code"], 400);
        }
    }
}
