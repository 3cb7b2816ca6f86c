//! Anthropic's messages.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use serde_json::{json, Value};

use super::blocks::{Block, Blocks, Phase, Step};
use super::{progress_json, Answer, Format, Frame, Part};
use crate::engine::scheduler::Reading;
use crate::server::error::ApiError;
use crate::server::state::State;
use crate::server::wishes::Wishes;

/// Writes answers so.
pub struct Messages {
    wishes: Arc<Wishes>,
    id: String,
    /// What the client called the model, where it is an expert's.
    model: String,
    blocks: Blocks,
    has_begun: bool,
}

impl Messages {
    pub fn new(state: &State, wishes: Arc<Wishes>, model: String) -> Self {
        Self { wishes, id: state.id("msg_"), model, blocks: Blocks::default(), has_begun: false }
    }

    fn message(&self, answer: &Answer, content: &[Value]) -> Value {
        let (reason, stop) = stop_reason(answer, &self.wishes).map_or((None, None), |(a, b)| (Some(a), b));
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "content": content,
            "model": self.model,
            "stop_reason": reason,
            "stop_sequence": stop,
            "usage": usage(answer),
            "svf": answer.chosen.report(),
        })
    }

    /// Says once that the message begins.
    fn opening(&mut self, answer: &Answer) -> Option<Frame> {
        if self.has_begun {
            return None;
        }
        self.has_begun = true;
        Some(Frame::typed("message_start", json!({ "message": self.message(answer, &[]) })))
    }
}

/// What ended an answer, and the client's word that did; `None` while it is written.
fn stop_reason<'a>(answer: &'a Answer, wishes: &Wishes) -> Option<(&'static str, Option<&'a str>)> {
    let completion = answer.completion.as_ref()?;
    let word = completion.stopped_by.as_deref().filter(|word| wishes.stop.iter().any(|stop| stop == word));
    let reason = match (answer.is_complete(), answer.message.tool_calls.is_empty(), word) {
        (false, ..) => "max_tokens",
        (true, false, _) => "tool_use",
        (true, true, Some(_)) => "stop_sequence",
        (true, true, None) => "end_turn",
    };
    Some((reason, word))
}

fn usage(answer: &Answer) -> Value {
    json!({
        "cache_read_input_tokens": answer.timings.n_cached,
        "input_tokens": answer.prompt.len() - answer.timings.n_cached,
        "output_tokens": answer.n_written,
    })
}

/// A block as it stands in a message.
fn block_json(block: &Block) -> Value {
    match block {
        // Only Anthropic signs what its models think.
        Block::Thinking(text) => json!({ "type": "thinking", "thinking": text, "signature": "" }),
        Block::Text(text) => json!({ "type": "text", "text": text }),
        Block::Call(call) => {
            // An answer that was cut off may end amid them.
            let input = serde_json::from_str::<Value>(&call.arguments).ok().filter(Value::is_object);
            json!({
                "type": "tool_use",
                "id": call.id,
                "name": call.name,
                "input": input.unwrap_or_else(|| json!({})),
            })
        }
    }
}

fn step_frames(Step { index, phase, block }: Step) -> Vec<Frame> {
    let delta = |delta: Value| Frame::typed("content_block_delta", json!({ "index": index, "delta": delta }));
    match (phase, &block) {
        (Phase::Begin, _) => {
            vec![Frame::typed(
                "content_block_start",
                json!({ "index": index, "content_block": block_json(&block) }),
            )]
        }
        (Phase::More, Block::Thinking(text)) => {
            vec![delta(json!({ "type": "thinking_delta", "thinking": text }))]
        }
        (Phase::More, Block::Text(text)) => vec![delta(json!({ "type": "text_delta", "text": text }))],
        (Phase::More, Block::Call(call)) => {
            vec![delta(json!({ "type": "input_json_delta", "partial_json": call.arguments }))]
        }
        (Phase::End, block) => {
            let signature = delta(json!({ "type": "signature_delta", "signature": "" }));
            let signature = matches!(block, Block::Thinking(_)).then_some(signature);
            let stop = Frame::typed("content_block_stop", json!({ "index": index }));
            signature.into_iter().chain([stop]).collect()
        }
    }
}

impl Format for Messages {
    fn progress(&mut self, answer: &Answer, reading: &Reading) -> Vec<Frame> {
        // What clients pass over.
        let ping = Frame::typed("ping", json!({ "prompt_progress": progress_json(reading) }));
        self.opening(answer).into_iter().chain([ping]).collect()
    }

    fn part(&mut self, answer: &Answer, part: Part) -> Vec<Frame> {
        let steps = part.deltas.iter().flat_map(|delta| self.blocks.push(delta)).collect::<Vec<_>>();
        let mut frames: Vec<_> = self.opening(answer).into_iter().collect();
        frames.extend(steps.into_iter().flat_map(step_frames));
        if let Some(Frame::Named(_, last)) = frames.last_mut().filter(|_| self.wishes.timings_per_token) {
            last["timings"] = answer.timings.json();
        }
        frames
    }

    fn end(&mut self, answer: &Answer) -> Vec<Frame> {
        let mut frames: Vec<_> = self.opening(answer).into_iter().collect();
        frames.extend(self.blocks.end().into_iter().flat_map(step_frames));
        let (reason, stop) = stop_reason(answer, &self.wishes).unwrap_or(("end_turn", None));
        frames.push(Frame::typed(
            "message_delta",
            json!({
                "delta": { "stop_reason": reason, "stop_sequence": stop },
                "usage": usage(answer),
                "svf": answer.chosen.report(),
            }),
        ));
        frames.push(Frame::typed("message_stop", json!({})));
        frames
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let Some(answer) = answers.first() else { return Value::Null };
        let content: Vec<_> = Block::all(&answer.message).iter().map(block_json).collect();
        self.message(answer, &content)
    }

    fn last(&self) -> Option<Frame> {
        None
    }

    fn error(&self, error: &ApiError) -> Frame {
        Frame::Named("error", error_json(error))
    }
}

/// A failure as Anthropic's clients see it.
pub struct AnthropicError(ApiError);

impl From<ApiError> for AnthropicError {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for AnthropicError {
    fn into_response(self) -> Response {
        self.0.respond(error_json(&self.0))
    }
}

fn error_json(error: &ApiError) -> Value {
    let mut json = error.body();
    let kind = match json["type"].as_str().unwrap_or_default() {
        "exceed_context_size_error" | "not_supported_error" => "invalid_request_error",
        "server_error" => "api_error",
        "unavailable_error" => "overloaded_error",
        other => other,
    };
    json["type"] = json!(kind);
    json!({ "type": "error", "error": json })
}

#[cfg(test)]
mod tests {
    use super::super::blocks::tests::{called, said};
    use super::*;

    #[test]
    fn deltas_become_events() {
        let mut blocks = Blocks::default();
        let mut steps = Vec::new();
        for delta in [said("a", ""), said("", "b"), called(0, "x", "f", "{\"c\""), called(0, "", "", ":1}")] {
            steps.extend(blocks.push(&delta));
        }
        steps.extend(blocks.end());
        let frames: String = steps.into_iter().flat_map(step_frames).map(|frame| frame.to_string()).collect();
        let data = |line: &str| Some(serde_json::from_str::<Value>(line.strip_prefix("data: ")?).unwrap());
        let found: Vec<_> = frames.lines().filter_map(data).collect();
        let start = |index: usize, block: Value| json!({ "type": "content_block_start", "index": index, "content_block": block });
        let delta = |index: usize, delta: Value| json!({ "type": "content_block_delta", "index": index, "delta": delta });
        let stop = |index: usize| json!({ "type": "content_block_stop", "index": index });
        assert_eq!(
            found,
            [
                start(0, json!({ "type": "thinking", "thinking": "", "signature": "" })),
                delta(0, json!({ "type": "thinking_delta", "thinking": "a" })),
                delta(0, json!({ "type": "signature_delta", "signature": "" })),
                stop(0),
                start(1, json!({ "type": "text", "text": "" })),
                delta(1, json!({ "type": "text_delta", "text": "b" })),
                stop(1),
                start(2, json!({ "type": "tool_use", "id": "x", "name": "f", "input": {} })),
                delta(2, json!({ "type": "input_json_delta", "partial_json": "{\"c\"" })),
                delta(2, json!({ "type": "input_json_delta", "partial_json": ":1}" })),
                stop(2),
            ]
        );
    }

    #[test]
    fn errors_have_the_types_that_clients_know() {
        for (error, kind) in [
            (ApiError::too_long(9, 8), "invalid_request_error"),
            (ApiError::internal("no"), "api_error"),
            (ApiError::unavailable("no"), "overloaded_error"),
            (ApiError::not_found("no"), "not_found_error"),
        ] {
            let json = error_json(&error);
            assert_eq!((&json["type"], &json["error"]["type"]), (&json!("error"), &json!(kind)));
            assert_eq!(json["error"]["message"], error.body()["message"]);
        }
    }
}
