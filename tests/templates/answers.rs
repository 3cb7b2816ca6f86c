//! What may be answered, and how it is read, side by side with stock llama-server.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use llama_svf::engine::{ChatRequest, ChatSettings, Model, Offload, Token};
use serde_json::{json, Value};

use crate::gguf_edit::{self, Gguf, I32};
use crate::server::{ask, python, templates, tools};
use crate::shared;

/// Control tokens that the small model does not have, in the place of its last words.
pub const MARKS: [&str; 6] =
    ["<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<think>", "</think>"];

/// stories260K with a longer context, and with [`MARKS`].
pub fn model_with_marks(folder: &Path) -> Option<PathBuf> {
    let file = Gguf::parse(&fs::read(shared("stories260K-f32.gguf")?).unwrap());
    let mut tokens = file.get("tokenizer.ggml.tokens").unwrap().texts();
    let types = file.get("tokenizer.ggml.token_type").unwrap().bytes[12..].to_vec();
    let mut types: Vec<i32> =
        types.chunks(4).map(|bytes| i32::from_le_bytes(bytes.try_into().unwrap())).collect();
    let first = tokens.len() - MARKS.len();
    for (i, mark) in MARKS.iter().enumerate() {
        tokens[first + i] = mark.as_bytes().to_vec();
        types[first + i] = 3;
    }
    let types = types.into_iter().map(i32::to_le_bytes).collect::<Vec<_>>();
    let file = file
        .with("llama.context_length", gguf_edit::Value::u32(16384))
        .with("tokenizer.ggml.tokens", gguf_edit::Value::strs(&tokens))
        .with("tokenizer.ggml.token_type", gguf_edit::Value::array(I32, types));
    let path = folder.join("marks.gguf");
    fs::write(&path, file.encode()).unwrap();
    Some(path)
}

fn bodies() -> Vec<Value> {
    let question = json!({ "role": "user", "content": "How is the weather in Brno?" });
    let schema = json!({ "type": "object", "required": ["answer"], "additionalProperties": false,
        "properties": { "answer": { "enum": ["yes", "no"] } } });
    let bodies = [
        json!({ "messages": [question], "tools": tools(), "tool_choice": "required", "n_predict": 24 }),
        json!({ "messages": [question], "tools": tools(), "n_predict": 6 }),
        json!({ "messages": [question], "json_schema": schema, "n_predict": 16 }),
        json!({ "messages": [question], "grammar": "root ::= \"Yes\" | \"No\"", "n_predict": 6 }),
        json!({ "messages": [question], "n_predict": 6 }),
        json!({ "messages": [question, { "role": "assistant", "content": "It is" }], "n_predict": 6 }),
        json!({ "messages": [question, { "role": "assistant", "content": "It is" }], "n_predict": 6,
            "add_generation_prompt": false, "continue_final_message": true }),
        json!({ "messages": [question], "reasoning_format": "none", "n_predict": 6 }),
    ];
    let greedy = |mut body: Value| {
        body["temperature"] = json!(0);
        // The model is too small to know when to end, and where no more space is needed.
        body["logit_bias"] = json!([["</s>", false], ["\n", false], ["\t", false]]);
        body
    };
    bodies.into_iter().map(greedy).collect()
}

/// A grammar without regard to the names of rules, which newer versions give to tools by their number.
fn rules(grammar: &str) -> BTreeSet<String> {
    let grammar = grammar.replace("tool-get-weather", "tool-0").replace("tool-add", "tool-1");
    grammar.lines().map(String::from).collect()
}

/// A grammar's triggers: the tokens, and how many patterns there are.
fn triggers(settings: &Value) -> (BTreeSet<Token>, usize) {
    let all = settings["grammar_triggers"].as_array().unwrap();
    let token = |trigger: &Value| trigger["token"].as_i64().map(|token| token as Token);
    let tokens: BTreeSet<_> = all.iter().filter_map(token).collect();
    let n_patterns = all.iter().filter(|trigger| token(trigger).is_none()).count();
    (tokens, n_patterns)
}

/// What differs from the server's `answer` to `body`.
fn differences(model: &Model, body: &Value, answer: &Value) -> Vec<String> {
    let mut turn = match model.chat(&ChatRequest::new(body, ChatSettings::default())) {
        Ok(turn) => turn,
        Err(error) => return vec![error.to_string()],
    };
    let seen = &answer["__verbose"];
    let settings = &seen["generation_settings"];
    let mut found = Vec::new();
    let mut equal = |name: &str, ours: Value, theirs: Value| {
        if ours != theirs {
            found.push(format!("{name}:\n    {ours}\n    {theirs}"));
        }
    };
    let grammar = turn.grammar.clone().unwrap_or_default();
    equal("grammar", json!(rules(&grammar.text)), json!(rules(settings["grammar"].as_str().unwrap())));
    equal("lazy", grammar.lazy.is_some().into(), settings["grammar_lazy"].clone());
    if let Some(lazy) = &grammar.lazy {
        let (tokens, n_patterns) = triggers(settings);
        equal("trigger tokens", json!(lazy.tokens.iter().collect::<BTreeSet<_>>()), json!(tokens));
        equal("trigger patterns", lazy.patterns.len().into(), n_patterns.into());
    }
    equal("generation prompt", turn.generation_prompt.into(), settings["generation_prompt"].clone());
    equal(
        "shown",
        json!(turn.shown.iter().collect::<BTreeSet<_>>()),
        json!(settings["preserved_tokens"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_i64)
            .collect::<BTreeSet<_>>()),
    );
    let text = seen["content"].as_str().unwrap();
    let theirs = &answer["choices"][0]["message"];
    // In pieces, and then the whole.
    let mut pieces = String::new();
    for (at, _) in text.char_indices() {
        for delta in turn.parser.push(&text[..at], true).unwrap() {
            pieces += &delta.content;
        }
    }
    match turn.parser.push(text, false) {
        Err(error) => equal("parser", error.to_string().into(), theirs.clone()),
        Ok(rest) => {
            rest.iter().for_each(|delta| pieces += &delta.content);
            let message = turn.parser.message();
            equal(
                "content",
                message.content.clone().into(),
                theirs["content"].as_str().unwrap_or_default().into(),
            );
            if body["continue_final_message"].is_null() {
                equal("deltas", pieces.into(), message.content.clone().into());
            }
            let reasoning = theirs["reasoning_content"].as_str().unwrap_or_default();
            equal("reasoning", message.reasoning.clone().into(), reasoning.into());
            let calls = message
                .tool_calls
                .iter()
                .map(|call| json!({ "name": call.name, "arguments": call.arguments }));
            let theirs = theirs["tool_calls"].as_array().cloned().unwrap_or_default();
            equal(
                "tool calls",
                calls.collect(),
                theirs.into_iter().map(|call| call["function"].clone()).collect(),
            );
        }
    }
    found
}

#[test]
fn answers_are_bound_and_read_as_in_llama_server() {
    let folder = tempfile::tempdir().unwrap();
    let Some(path) = model_with_marks(folder.path()) else { return };
    let Some(python) = python() else { return };
    let Some(mut templates) = templates(python) else { return };
    // `LLAMA_SVF_ALL_TEMPLATES` is for changes of llama.cpp.
    if std::env::var_os("LLAMA_SVF_ALL_TEMPLATES").is_none() {
        let wanted =
            ["Qwen3-0.6B", "Hermes-3", "Llama-3.1-8B-I", "Mistral-Nemo", "R1-Distill-Qwen", "gemma-2"];
        templates.retain(|path| wanted.iter().any(|name| path.to_str().unwrap().contains(name)));
    }
    let bodies = bodies();
    let (mut n_equal, mut n_refused, mut wrong) = (0, 0, Vec::new());
    for line in ask(python, &path, &templates, &bodies) {
        let template = line["template"].as_str().unwrap();
        let Some(number) = line["conversation"].as_u64() else { continue };
        if line["answer"].is_null() {
            n_refused += 1;
            println!("{template}, {number}: {}", line["error"]);
            continue;
        }
        let source = fs::read_to_string(template).unwrap();
        let model = Model::load_with(&path, &Offload::default(), Some(source)).unwrap();
        match &differences(&model, &bodies[number as usize], &line["answer"])[..] {
            [] => n_equal += 1,
            found => wrong.push(format!("{template}, {number}:\n  {}", found.join("\n  "))),
        }
    }
    println!("{n_equal} answers of {} templates are equal, {n_refused} were refused", templates.len());
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(n_equal >= 40, "{n_equal}");
}
