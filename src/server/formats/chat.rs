//! OpenAI's chat completions.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{json, Map, Value};

use super::native::final_json;
use super::{accounted, fingerprint, probs_json, progress_json, Answer, Format, Frame, Part};
use crate::engine::scheduler::Reading;
use crate::engine::{AnswerMessage, ChatDelta};
use crate::server::state::{now, State};
use crate::server::wishes::Wishes;

/// Writes answers so.
pub struct Chat {
    pub state: Arc<State>,
    pub wishes: Arc<Wishes>,
    pub id: String,
    /// What the client called the model, where it is an expert's.
    pub model: String,
    /// Answers of which something was said.
    begun: BTreeSet<usize>,
}

impl Chat {
    pub fn new(state: Arc<State>, wishes: Arc<Wishes>, model: String) -> Self {
        Self { id: state.id("chatcmpl-"), state, wishes, model, begun: BTreeSet::new() }
    }

    fn object(&self, kind: &str, choices: Value) -> Value {
        json!({
            "choices": choices,
            "created": now(),
            "id": self.id,
            "model": self.model,
            "system_fingerprint": fingerprint(),
            "object": kind,
        })
    }

    fn chunk(&self, index: usize, delta: Value, finish: Option<&str>) -> Value {
        let choice = json!({ "finish_reason": finish, "index": index, "delta": delta });
        self.object("chat.completion.chunk", json!([choice]))
    }

    /// The chunk that says who speaks, once, and who answers.
    fn opening(&mut self, answer: &Answer) -> Option<Value> {
        let mut chunk = self.chunk(answer.index, json!({ "role": "assistant", "content": null }), None);
        chunk["svf"] = answer.chosen.report();
        self.begun.insert(answer.index).then_some(chunk)
    }
}

/// Why an answer ended.
pub fn finish_reason(answer: &Answer) -> &'static str {
    match (answer.is_complete(), answer.message.tool_calls.is_empty()) {
        (true, true) => "stop",
        (true, false) => "tool_calls",
        (false, _) => "length",
    }
}

/// What is new of a message.
fn delta_json(delta: &ChatDelta) -> Value {
    let mut json = Map::new();
    if !delta.reasoning.is_empty() {
        json.insert("reasoning_content".into(), json!(delta.reasoning));
    }
    if !delta.content.is_empty() {
        json.insert("content".into(), json!(delta.content));
    }
    if let Some(call) = &delta.tool_call {
        let mut function = Map::new();
        let mut json_call = Map::from_iter([("index".to_owned(), json!(call.index))]);
        if !call.id.is_empty() {
            json_call.insert("id".into(), json!(call.id));
            json_call.insert("type".into(), json!("function"));
        }
        if !call.name.is_empty() {
            function.insert("name".into(), json!(call.name));
        }
        if !call.arguments.is_empty() || !call.name.is_empty() {
            function.insert("arguments".into(), json!(call.arguments));
        }
        json_call.insert("function".into(), Value::Object(function));
        json.insert("tool_calls".into(), json!([json_call]));
    }
    Value::Object(json)
}

/// A whole message.
pub fn message_json(message: &AnswerMessage) -> Value {
    let calls = message.tool_calls.iter().map(|call| {
        json!({
            "type": "function",
            "id": call.id,
            "function": { "name": call.name, "arguments": call.arguments },
        })
    });
    let calls: Vec<_> = calls.collect();
    let content = (!message.content.is_empty() || calls.is_empty()).then_some(&message.content);
    let mut json = json!({ "role": "assistant", "content": content });
    if !message.reasoning.is_empty() {
        json["reasoning_content"] = json!(message.reasoning);
    }
    if !calls.is_empty() {
        json["tool_calls"] = json!(calls);
    }
    json
}

impl Format for Chat {
    fn progress(&mut self, answer: &Answer, reading: &Reading) -> Vec<Frame> {
        let opening = self.opening(answer);
        let mut chunk = opening.unwrap_or_else(|| self.chunk(answer.index, json!({}), None));
        chunk["prompt_progress"] = progress_json(reading);
        if self.wishes.timings_per_token {
            chunk["timings"] = answer.timings.json();
        }
        vec![Frame::Data(chunk)]
    }

    fn part(&mut self, answer: &Answer, part: Part) -> Vec<Frame> {
        let opening = self.opening(answer);
        let mut chunks: Vec<_> =
            part.deltas.iter().map(|delta| self.chunk(answer.index, delta_json(delta), None)).collect();
        if let Some(last) = chunks.last_mut() {
            if !part.probs.is_empty() {
                let probs = probs_json(&part.probs, &self.wishes, self.state.model());
                last["choices"][0]["logprobs"] = json!({ "content": probs });
            }
            if self.wishes.timings_per_token {
                last["timings"] = answer.timings.json();
            }
        }
        opening.into_iter().chain(chunks).map(Frame::Data).collect()
    }

    fn end(&mut self, answer: &Answer) -> Vec<Frame> {
        let mut chunks: Vec<_> = self.opening(answer).into_iter().collect();
        let mut last = self.chunk(answer.index, json!({}), Some(finish_reason(answer)));
        last["svf"] = answer.chosen.report();
        if self.wishes.is_verbose {
            last["__verbose"] = final_json(&self.state, &self.wishes, answer, true);
        }
        chunks.push(last);
        if self.wishes.include_usage {
            let mut usage = self.object("chat.completion.chunk", json!([]));
            usage["usage"] = answer.usage();
            usage["svf"] = answer.chosen.report();
            chunks.push(usage);
        }
        if let Some(last) = chunks.last_mut() {
            last["timings"] = answer.timings.json();
        }
        chunks.into_iter().map(Frame::Data).collect()
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let choice = |answer: &Answer| {
            let mut choice = json!({
                "finish_reason": finish_reason(answer),
                "index": answer.index,
                "message": message_json(&answer.message),
            });
            if !answer.probs.is_empty() {
                let probs = probs_json(&answer.probs, &self.wishes, self.state.model());
                choice["logprobs"] = json!({ "content": probs });
            }
            choice
        };
        let json = self.object("chat.completion", answers.iter().map(choice).collect());
        accounted(json, answers, &self.state, &self.wishes)
    }
}
