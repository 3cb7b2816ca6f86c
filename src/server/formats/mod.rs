//! Answers in the form of each API: what a client gets while they are written, and when they are done.

pub mod anthropic;
mod blocks;
pub mod chat;
pub mod completions;
pub mod native;
pub mod responses;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use super::choose::Chosen;
use super::error::{ApiError, ApiResult};
use super::state::State;
use super::wishes::Wishes;
use crate::engine::scheduler::{Completion, Ended, Piece, Reading};
use crate::engine::{AnswerMessage, ChatDelta, ChatParser, Model, Token};

/// A way to write answers.
pub trait Format: Send + 'static {
    /// Some of the prompt was read.
    fn progress(&mut self, answer: &Answer, reading: &Reading) -> Vec<Frame>;
    /// Some of the answer was written.
    fn part(&mut self, answer: &Answer, part: Part) -> Vec<Frame>;
    /// The answer is whole.
    fn end(&mut self, answer: &Answer) -> Vec<Frame>;
    /// All answers at once.
    fn whole(&mut self, answers: &[Answer]) -> Value;
    /// What says that a stream is over, if anything does.
    fn last(&self) -> Option<Frame> {
        Some(Frame::Done)
    }
    /// What says that it failed.
    fn error(&self, error: &ApiError) -> Frame {
        Frame::Data(json!({ "error": error.body() }))
    }
}

/// One server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// JSON.
    Data(Value),
    /// JSON, with the event's name before it.
    Named(&'static str, Value),
    /// OpenAI's last one.
    Done,
    /// A comment that says that we are alive.
    Ping,
}

impl Frame {
    /// An event whose name stands in its data too, before its `members`.
    fn typed(name: &'static str, members: Value) -> Self {
        let mut data = json!({ "type": name });
        if let (Value::Object(data), Value::Object(members)) = (&mut data, members) {
            data.extend(members);
        }
        Self::Named(name, data)
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(value) => write!(f, "data: {value}\n\n"),
            Self::Named(name, value) => write!(f, "event: {name}\ndata: {value}\n\n"),
            Self::Done => f.write_str("data: [DONE]\n\n"),
            Self::Ping => f.write_str(":\n\n"),
        }
    }
}

/// A token with its probability, and those of the likeliest ones.
#[derive(Clone, Debug)]
pub struct TokenProbs {
    token: Token,
    log_prob: f32,
    top: Vec<(Token, f32)>,
}

/// What was written since the last part.
#[derive(Debug, Default)]
pub struct Part {
    pub text: String,
    /// The same as a chat's message has it.
    pub deltas: Vec<ChatDelta>,
    pub tokens: Vec<Token>,
    pub probs: Vec<TokenProbs>,
}

/// One answer, as far as it is written.
pub struct Answer {
    pub index: usize,
    pub prompt: Vec<Token>,
    pub chosen: Arc<Chosen>,
    pub timings: Timings,
    pub content: String,
    pub n_written: usize,
    /// What a chat's message is.
    pub message: AnswerMessage,
    /// How it ended.
    pub completion: Option<Completion>,
    /// Whether it would have gone on, had the context been larger.
    pub is_truncated: bool,
    /// Probabilities of all tokens.
    pub probs: Vec<TokenProbs>,
    parser: Option<ChatParser>,
    /// What was not handed out yet.
    pending: Part,
    first: Option<Instant>,
}

impl Answer {
    pub fn new(index: usize, prompt: Vec<Token>, chosen: Arc<Chosen>, parser: Option<ChatParser>) -> Self {
        Self {
            index,
            prompt,
            chosen,
            timings: Timings::default(),
            content: String::new(),
            n_written: 0,
            message: AnswerMessage::default(),
            completion: None,
            is_truncated: false,
            probs: Vec::new(),
            parser,
            pending: Part::default(),
            first: None,
        }
    }

    /// Takes in how much of the prompt is read.
    pub fn read(&mut self, reading: &Reading) {
        self.timings.n_cached = reading.n_cached;
        self.timings.n_read = reading.n_read - reading.n_cached;
        self.timings.reading = if self.timings.n_read == 0 { Duration::ZERO } else { reading.time };
    }

    /// Takes in a token; what can be handed out now, if anything can.
    pub fn take(&mut self, piece: Piece, model: &Model) -> ApiResult<Option<Part>> {
        let Piece { token, log_prob, top, text } = piece;
        if let Some(token) = token {
            self.n_written += 1;
            self.pending.tokens.push(token);
            if let Some(log_prob) = log_prob.filter(|_| !model.is_end(token)) {
                self.pending.probs.push(TokenProbs { token, log_prob, top });
            }
        }
        let now = Instant::now();
        self.timings.n_written = self.n_written;
        self.timings.writing = now - *self.first.get_or_insert(now);
        if text.is_empty() {
            return Ok(None);
        }
        self.content += &text;
        if let Some(parser) = &mut self.parser {
            let deltas = parser.push(&self.content, true)?;
            self.pending.deltas.extend(deltas);
            if self.pending.deltas.is_empty() {
                return Ok(None);
            }
        }
        let deltas = std::mem::take(&mut self.pending.deltas);
        let mut part = Part { text, deltas, ..Part::default() };
        part.tokens = std::mem::take(&mut self.pending.tokens);
        part.probs = std::mem::take(&mut self.pending.probs);
        Ok(Some(part))
    }

    /// Takes in how it ended; `room` tokens were the most that it could have.
    pub fn finish(
        &mut self,
        completion: Completion,
        room: usize,
        wishes: &Wishes,
        model: &Model,
    ) -> ApiResult<()> {
        let usage = completion.usage;
        self.n_written = completion.tokens.len();
        let is_full = completion.ended == Ended::Length && self.n_written == room;
        self.is_truncated = is_full && wishes.n_predict.is_none_or(|n| n > room);
        self.timings = Timings {
            n_cached: usage.n_cached,
            n_read: usage.n_prompt - usage.n_cached,
            reading: usage.reading,
            n_written: self.n_written,
            writing: usage.writing,
        };
        let probs = completion.tokens.iter().zip(&completion.log_probs).zip(&completion.top);
        self.probs = probs
            .filter(|((token, _), _)| !model.is_end(**token))
            .map(|((&token, &log_prob), top)| TokenProbs { token, log_prob, top: top.clone() })
            .collect();
        self.content.clone_from(&completion.text);
        if let Some(parser) = &mut self.parser {
            self.pending.deltas.extend(parser.push(&completion.text, false)?);
            self.message = parser.message().clone();
        }
        self.completion = Some(completion);
        Ok(())
    }

    /// What is left to hand out at the end.
    pub fn rest(&mut self) -> Option<Part> {
        let part = std::mem::take(&mut self.pending);
        (!part.deltas.is_empty()).then_some(part)
    }

    /// Whether it ended of itself, and not because it was long enough.
    pub fn is_complete(&self) -> bool {
        self.completion.as_ref().is_some_and(|it| matches!(it.ended, Ended::End | Ended::Stop))
    }

    /// OpenAI's count of tokens.
    pub fn usage(&self) -> Value {
        json!({
            "completion_tokens": self.n_written,
            "prompt_tokens": self.prompt.len(),
            "total_tokens": self.prompt.len() + self.n_written,
            "prompt_tokens_details": { "cached_tokens": self.timings.n_cached },
        })
    }
}

/// Times of an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    pub n_cached: usize,
    pub n_read: usize,
    pub reading: Duration,
    pub n_written: usize,
    pub writing: Duration,
}

impl Timings {
    pub fn json(&self) -> Value {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        let (prompt_ms, predicted_ms) = (ms(self.reading), ms(self.writing));
        // The first token comes with the prompt.
        let steps = self.n_written.saturating_sub(1) as f64;
        json!({
            "cache_n": self.n_cached,
            "prompt_n": self.n_read,
            "prompt_ms": prompt_ms,
            "prompt_per_token_ms": ratio(prompt_ms, self.n_read as f64),
            "prompt_per_second": ratio(1e3 * self.n_read as f64, prompt_ms),
            "predicted_n": self.n_written,
            "predicted_ms": predicted_ms,
            "predicted_per_token_ms": ratio(predicted_ms, steps),
            "predicted_per_second": ratio(1e3 * steps, predicted_ms),
        })
    }
}

/// The tokens of all answers, `n` of which each prompt has; those of a prompt count once.
fn total_usage(answers: &[Answer], n: usize) -> Value {
    let firsts = || answers.iter().step_by(n.max(1));
    let n_prompt: usize = firsts().map(|answer| answer.prompt.len()).sum();
    let n_cached: usize = firsts().map(|answer| answer.timings.n_cached).sum();
    let n_written: usize = answers.iter().map(|answer| answer.n_written).sum();
    json!({
        "completion_tokens": n_written,
        "prompt_tokens": n_prompt,
        "total_tokens": n_prompt + n_written,
        "prompt_tokens_details": { "cached_tokens": n_cached },
    })
}

/// `json`, all answers in one of OpenAI's forms, with what they took and who gave them.
fn accounted(mut json: Value, answers: &[Answer], state: &State, wishes: &Wishes) -> Value {
    json["usage"] = total_usage(answers, wishes.n);
    if let Some(first) = answers.first() {
        json["timings"] = first.timings.json();
        json["svf"] = first.chosen.report();
        if wishes.is_verbose {
            json["__verbose"] = native::final_json(state, wishes, first, false);
        }
    }
    json
}

/// How much of a prompt is read, as llama-server tells it.
fn progress_json(reading: &Reading) -> Value {
    json!({
        "total": reading.n_prompt,
        "cache": reading.n_cached,
        "processed": reading.n_read,
        "time_ms": reading.time.as_millis() as u64,
    })
}

/// Probabilities as llama-server writes them.
fn probs_json(probs: &[TokenProbs], wishes: &Wishes, model: &Model) -> Value {
    let (one, many) = match wishes.post_sampling_probs {
        true => ("prob", "top_probs"),
        false => ("logprob", "top_logprobs"),
    };
    let value = |log_prob: f32| match wishes.post_sampling_probs {
        true => json!(log_prob.exp()),
        // JSON has no infinity.
        false => json!(log_prob.max(f32::MIN)),
    };
    let entry = |token: Token, log_prob: f32| {
        let bytes = model.piece(token);
        json!({
            "id": token,
            "token": String::from_utf8_lossy(&bytes),
            "bytes": bytes,
            one: value(log_prob),
        })
    };
    let all = probs.iter().map(|it| {
        let mut of_token = entry(it.token, it.log_prob);
        of_token[many] = it.top.iter().map(|&(token, log_prob)| entry(token, log_prob)).collect();
        of_token
    });
    all.collect()
}

/// The version that answers name, in the form of llama.cpp's.
pub fn fingerprint() -> &'static str {
    concat!("b", env!("CARGO_PKG_VERSION"), "-llama-svf")
}
