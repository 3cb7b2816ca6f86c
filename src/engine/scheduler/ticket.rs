//! What the caller of a request holds: what it becomes, as it happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::Arc;
use std::time::Duration;

use super::inbox::Inbox;
use crate::engine::Token;
use crate::error::{Error, Result};

/// A request at work whose events come to it. Dropping it cancels the request.
pub struct Ticket {
    pub(super) events: Receiver<Result<Event>>,
    pub(super) handle: Handle,
    pub(super) is_over: bool,
}

/// A request at work whose events go elsewhere. Dropping it cancels the request.
pub struct Handle {
    pub(super) id: u64,
    pub(super) is_cancelled: Arc<AtomicBool>,
    pub(super) inbox: Arc<Inbox>,
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Event {
    /// Some of the prompt was read, if that was asked.
    Reading(Reading),
    /// A token was written.
    Piece(Piece),
    /// It ended: the last event.
    Done(Outcome),
}

/// How much of a prompt is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Of these, tokens that were known at the beginning.
    pub n_cached: usize,
    /// Tokens that are known now.
    pub n_read: usize,
    /// Since there was room for the request.
    pub time: Duration,
}

/// One token of a completion.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The token; `None` for text that was held back until the end.
    pub token: Option<Token>,
    /// Its ln p, if asked for; see [`Completion::log_probs`].
    pub log_prob: Option<f32>,
    /// As many of the most likely tokens as asked for, each with ln p, the likeliest first.
    pub top: Vec<(Token, f32)>,
    /// What can be shown now: whole characters, and nothing that may be the beginning of a stop string.
    pub text: String,
}

/// What a request became.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A text.
    Completion(Completion),
    /// The answer to each probe: ln p of each of its tokens.
    Scores(Scores),
    /// A mean of hidden states.
    Pooled(Pooled),
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The model ended it.
    End,
    /// A stop string appeared.
    Stop,
    /// As many tokens as asked for.
    Length,
    /// The context is full.
    Context,
    /// [`Ticket::cancel`] ended it.
    Cancelled,
}

/// The text of a request.
#[derive(Clone, Debug)]
pub struct Completion {
    /// Every token that was chosen, with the one that ended the completion, if one did.
    pub tokens: Vec<Token>,
    /// ln p of each of `tokens` under the model's own distribution, that is at temperature 1 and before
    /// anything was left out; empty unless asked for.
    pub log_probs: Vec<f32>,
    /// As many of the most likely tokens at the place of each of `tokens` as asked for, each with ln p.
    pub top: Vec<Vec<(Token, f32)>>,
    /// What the tokens say, up to the stop string; U+FFFD stands for what is not UTF-8.
    pub text: String,
    /// Why it ended.
    pub ended: Ended,
    /// The stop string that ended it, if one did.
    pub stopped_by: Option<String>,
    /// What it took.
    pub usage: Usage,
}

/// The probabilities of a request.
#[derive(Clone, Debug)]
pub struct Scores {
    /// By probe and token: ln p under the model's own distribution.
    pub log_probs: Vec<Vec<f32>>,
    /// What it took.
    pub usage: Usage,
}

/// The mean hidden state of a request.
#[derive(Clone, Debug)]
pub struct Pooled {
    /// `[n_embd]`, finite.
    pub mean: Vec<f32>,
    /// What it took.
    pub usage: Usage,
}

/// What a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Of these, tokens that were known already.
    pub n_cached: usize,
    /// Tokens that were decoded after the prompt: the last that is written is not.
    pub n_decoded: usize,
    /// From the arrival until there was room.
    pub waiting: Duration,
    /// From then until the prompt was read.
    pub reading: Duration,
    /// From then until the end.
    pub writing: Duration,
}

impl Ticket {
    /// The next event, when it comes; `None` after the last.
    pub fn next_event(&mut self) -> Option<Result<Event>> {
        if self.is_over {
            return None;
        }
        let event = self.events.recv().unwrap_or_else(|_| Err(shut_down()));
        self.is_over = matches!(event, Ok(Event::Done(_)) | Err(_));
        Some(event)
    }

    /// The same, but for at most `timeout`: `Ok(None)` if nothing came by then.
    ///
    /// # Errors
    /// Those of the request.
    pub fn poll(&mut self, timeout: Duration) -> Result<Option<Event>> {
        if self.is_over {
            return Ok(None);
        }
        let event = match self.events.recv_timeout(timeout) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(shut_down()),
        };
        self.is_over = matches!(event, Ok(Event::Done(_)) | Err(_));
        event.map(Some)
    }

    /// Asks for the end of the request: [`Ended::Cancelled`] comes, with what was written until then, unless it ended
    /// before.
    pub fn cancel(&self) {
        self.handle.cancel();
    }

    /// The number of the request among all of its scheduler.
    pub fn id(&self) -> u64 {
        self.handle.id
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// Those of the request.
    pub fn outcome(mut self) -> Result<Outcome> {
        loop {
            match self.next_event() {
                Some(Ok(Event::Done(outcome))) => return Ok(outcome),
                Some(Ok(Event::Reading(_) | Event::Piece(_))) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(Error::engine("the request has ended already")),
            }
        }
    }

    /// Waits for the end of a request to generate.
    ///
    /// # Errors
    /// Those of the request, or it was one to score.
    pub fn completion(self) -> Result<Completion> {
        self.outcome()?.completion()
    }

    /// Waits for the end of a request to score.
    ///
    /// # Errors
    /// Those of the request, or it was one to generate.
    pub fn scores(self) -> Result<Scores> {
        self.outcome()?.scores()
    }
}

impl Handle {
    /// Asks for the end of the request, as [`Ticket::cancel`] does.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
        self.inbox.wake();
    }

    /// The number of the request among all of its scheduler.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Completion {
    /// Nothing was written.
    pub fn empty(usage: Usage) -> Self {
        Self {
            tokens: Vec::new(),
            log_probs: Vec::new(),
            top: Vec::new(),
            text: String::new(),
            ended: Ended::Length,
            stopped_by: None,
            usage,
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl Outcome {
    /// The text.
    ///
    /// # Errors
    /// There is none: the request was one to score.
    pub fn completion(self) -> Result<Completion> {
        match self {
            Self::Completion(completion) => Ok(completion),
            other => Err(Error::expected("a completion", other.name())),
        }
    }

    /// The probabilities.
    ///
    /// # Errors
    /// There are none: the request was one to generate.
    pub fn scores(self) -> Result<Scores> {
        match self {
            Self::Scores(scores) => Ok(scores),
            other => Err(Error::expected("scores", other.name())),
        }
    }

    /// The mean hidden state.
    ///
    /// # Errors
    /// It is none.
    pub fn pooled(self) -> Result<Pooled> {
        match self {
            Self::Pooled(pooled) => Ok(pooled),
            other => Err(Error::expected("a mean of hidden states", other.name())),
        }
    }

    /// What it took, whatever it is.
    pub fn usage(&self) -> Usage {
        match self {
            Self::Completion(Completion { usage, .. })
            | Self::Scores(Scores { usage, .. })
            | Self::Pooled(Pooled { usage, .. }) => *usage,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Completion(_) => "a completion",
            Self::Scores(_) => "scores",
            Self::Pooled(_) => "a mean of hidden states",
        }
    }
}

impl Usage {
    /// From the arrival to the end.
    pub fn total(&self) -> Duration {
        self.waiting + self.reading + self.writing
    }

    /// Tokens that were computed.
    pub fn n_computed(&self) -> usize {
        self.n_prompt - self.n_cached + self.n_decoded
    }
}

fn shut_down() -> Error {
    Error::engine("the scheduler was shut down")
}
