//! OpenAI's responses.

use std::sync::Arc;

use serde_json::{json, Map, Value};

use super::blocks::{Block, Blocks, Phase, Step};
use super::{probs_json, progress_json, Answer, Format, Frame, Part};
use crate::engine::scheduler::Reading;
use crate::server::error::ApiError;
use crate::server::state::{now, State};
use crate::server::wishes::Wishes;

/// Writes answers so.
pub struct Responses {
    state: Arc<State>,
    wishes: Arc<Wishes>,
    id: String,
    created: u64,
    /// What the client called the model, where it is an expert's.
    model: String,
    /// Members of the request that stand in the answer too.
    echo: Map<String, Value>,
    items: Items,
    has_begun: bool,
}

impl Responses {
    /// Answers what is asked in `body`.
    pub fn new(state: Arc<State>, wishes: Arc<Wishes>, model: String, echo: Map<String, Value>) -> Self {
        let items = Items::new(Arc::clone(&state));
        Self { id: state.id("resp_"), created: now(), state, wishes, model, echo, items, has_begun: false }
    }

    /// The response as far as it is.
    fn response(&self, answer: &Answer, output: &[Value]) -> Value {
        let mut json = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status(answer),
            "error": null,
            "incomplete_details": null,
            "model": self.model,
            "output": output,
            "svf": answer.chosen.report(),
        });
        if answer.completion.is_some() {
            json["completed_at"] = json!(now());
            json["usage"] = self.usage(answer);
        }
        if status(answer) == "incomplete" {
            json["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        }
        for (name, value) in &self.echo {
            json[name] = value.clone();
        }
        json
    }

    fn usage(&self, answer: &Answer) -> Value {
        let thinking = self.state.model().tokenize(&answer.message.reasoning, false, false);
        let n_thought = thinking.map_or(0, |tokens| tokens.len()).min(answer.n_written);
        json!({
            "input_tokens": answer.prompt.len(),
            "input_tokens_details": { "cached_tokens": answer.timings.n_cached },
            "output_tokens": answer.n_written,
            "output_tokens_details": { "reasoning_tokens": n_thought },
            "total_tokens": answer.prompt.len() + answer.n_written,
        })
    }

    /// Says once that the response begins.
    fn opening(&mut self, answer: &Answer) -> Vec<Frame> {
        if self.has_begun {
            return Vec::new();
        }
        self.has_begun = true;
        let response = self.response(answer, &[]);
        let created = json!({ "response": response, "svf": answer.chosen.report() });
        let created = self.items.event("response.created", created);
        vec![created, self.items.event("response.in_progress", json!({ "response": response }))]
    }
}

/// Members of a body that stand in the answer too; OpenAI's defaults of those that it lacks.
pub fn echo(body: &Map<String, Value>) -> Map<String, Value> {
    let defaults = [
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", json!(true)),
        ("previous_response_id", Value::Null),
        ("reasoning", Value::Null),
        ("temperature", Value::Null),
        ("text", json!({ "format": { "type": "text" } })),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("top_p", Value::Null),
    ];
    let given = |name: &str| body.get(name).filter(|value| !value.is_null()).cloned();
    let member = |(name, default): (&str, Value)| (name.to_owned(), given(name).unwrap_or(default));
    defaults.into_iter().map(member).collect()
}

fn status(answer: &Answer) -> &'static str {
    match (answer.completion.is_some(), answer.is_complete()) {
        (false, _) => "in_progress",
        (true, true) => "completed",
        (true, false) => "incomplete",
    }
}

/// What is put out, one item for each block.
struct Items {
    state: Arc<State>,
    blocks: Blocks,
    /// Id of the one that is open.
    id: String,
    closed: Vec<Value>,
    n_events: u64,
}

impl Items {
    fn new(state: Arc<State>) -> Self {
        Self { state, blocks: Blocks::default(), id: String::new(), closed: Vec::new(), n_events: 0 }
    }

    /// An event, with its number.
    fn event(&mut self, name: &'static str, mut members: Value) -> Frame {
        members["sequence_number"] = json!(self.n_events);
        self.n_events += 1;
        Frame::typed(name, members)
    }

    /// A new id for what `block` is.
    fn new_id(&self, block: &Block) -> String {
        match block {
            Block::Thinking(_) => self.state.id("rs_"),
            Block::Text(_) => self.state.id("msg_"),
            Block::Call(_) => self.state.id("fc_"),
        }
    }

    /// Events for a step; `probs` are those of tokens of a text.
    fn step(&mut self, Step { index, phase, block }: Step, probs: &Value) -> Vec<Frame> {
        if phase == Phase::Begin {
            self.id = self.new_id(&block);
        }
        let id = self.id.clone();
        let within = |mut data: Value| {
            data["item_id"] = json!(id);
            data["output_index"] = json!(index);
            if !matches!(block, Block::Call(_)) {
                data["content_index"] = json!(0);
            }
            data
        };
        let item = |status: &str, is_empty: bool| {
            let mut item = item_json(&id, &block, &json!([]), status);
            if is_empty && item.get("content").is_some() {
                item["content"] = json!([]);
            }
            json!({ "output_index": index, "item": item })
        };
        let mut events = Vec::new();
        match (phase, &block) {
            (Phase::Begin, _) => {
                events.push(("response.output_item.added", item("in_progress", true)));
                if matches!(block, Block::Text(_)) {
                    let part = json!({ "part": text_part("", &json!([])) });
                    events.push(("response.content_part.added", within(part)));
                }
            }
            (Phase::More, Block::Thinking(text)) => {
                events.push(("response.reasoning_text.delta", within(json!({ "delta": text }))));
            }
            (Phase::More, Block::Text(text)) => {
                let delta = json!({ "delta": text, "logprobs": probs });
                events.push(("response.output_text.delta", within(delta)));
            }
            (Phase::More, Block::Call(call)) => {
                let delta = json!({ "delta": call.arguments });
                events.push(("response.function_call_arguments.delta", within(delta)));
            }
            (Phase::End, _) => {
                match &block {
                    Block::Thinking(text) => {
                        events.push(("response.reasoning_text.done", within(json!({ "text": text }))));
                    }
                    Block::Text(text) => {
                        let done = json!({ "text": text, "logprobs": [] });
                        events.push(("response.output_text.done", within(done)));
                        let part = json!({ "part": text_part(text, &json!([])) });
                        events.push(("response.content_part.done", within(part)));
                    }
                    Block::Call(call) => {
                        let done = json!({ "name": call.name, "arguments": call.arguments });
                        events.push(("response.function_call_arguments.done", within(done)));
                    }
                }
                let done = item("completed", false);
                self.closed.push(done["item"].clone());
                events.push(("response.output_item.done", done));
            }
        }
        events.into_iter().map(|(name, data)| self.event(name, data)).collect()
    }
}

fn text_part(text: &str, probs: &Value) -> Value {
    json!({ "type": "output_text", "annotations": [], "logprobs": probs, "text": text })
}

/// A block as an item of the output.
fn item_json(id: &str, block: &Block, probs: &Value, status: &str) -> Value {
    match block {
        Block::Thinking(text) => json!({
            "id": id,
            "type": "reasoning",
            "status": status,
            "summary": [],
            "content": [{ "type": "reasoning_text", "text": text }],
            "encrypted_content": "",
        }),
        Block::Text(text) => json!({
            "id": id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [text_part(text, probs)],
        }),
        Block::Call(call) => json!({
            "id": id,
            "type": "function_call",
            "status": status,
            "arguments": call.arguments,
            // It comes back with the result; some templates only take ids as their models write them.
            "call_id": call.id,
            "name": call.name,
        }),
    }
}

impl Format for Responses {
    fn progress(&mut self, answer: &Answer, reading: &Reading) -> Vec<Frame> {
        let mut frames = self.opening(answer);
        if frames.is_empty() {
            let response = self.response(answer, &[]);
            frames.push(self.items.event("response.in_progress", json!({ "response": response })));
        }
        if let Some(Frame::Named(_, last)) = frames.last_mut() {
            last["prompt_progress"] = progress_json(reading);
            if self.wishes.timings_per_token {
                last["timings"] = answer.timings.json();
            }
        }
        frames
    }

    fn part(&mut self, answer: &Answer, part: Part) -> Vec<Frame> {
        let probs = probs_json(&part.probs, &self.wishes, self.state.model());
        let mut frames = self.opening(answer);
        for delta in &part.deltas {
            for step in self.items.blocks.push(delta) {
                frames.extend(self.items.step(step, &probs));
            }
        }
        if let Some(Frame::Named(_, last)) = frames.last_mut().filter(|_| self.wishes.timings_per_token) {
            last["timings"] = answer.timings.json();
        }
        frames
    }

    fn end(&mut self, answer: &Answer) -> Vec<Frame> {
        let mut frames = self.opening(answer);
        for step in self.items.blocks.end() {
            frames.extend(self.items.step(step, &json!([])));
        }
        let response = self.response(answer, &self.items.closed);
        // Clients of llama-server wait for this event also where the answer was cut off, which its status tells.
        let completed = json!({
            "response": response,
            "timings": answer.timings.json(),
            "svf": answer.chosen.report(),
        });
        frames.push(self.items.event("response.completed", completed));
        frames
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let Some(answer) = answers.first() else { return Value::Null };
        let probs = probs_json(&answer.probs, &self.wishes, self.state.model());
        let blocks = Block::all(&answer.message);
        let item = |block| item_json(&self.items.new_id(block), block, &probs, "completed");
        let output: Vec<_> = blocks.iter().map(item).collect();
        let mut json = self.response(answer, &output);
        json["timings"] = answer.timings.json();
        json
    }

    fn last(&self) -> Option<Frame> {
        None
    }

    fn error(&self, error: &ApiError) -> Frame {
        let error = error.body();
        let data = json!({
            "type": "error",
            "sequence_number": self.items.n_events,
            "code": error["type"],
            "message": error["message"],
            "param": null,
            "error": error,
        });
        Frame::Named("error", data)
    }
}
