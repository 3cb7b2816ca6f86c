//! One sequence that grows: prompts in, replies out, reading again only what changed.

use std::time::Instant;

use super::utf8::Utf8Stream;
use super::{ctrl_c, milliseconds};
use crate::engine::{Input, Reader, Sampler, Session, Token};
use crate::error::{Error, Result};
use crate::expert::Mixture;

/// The sequence of replies.
const SEQUENCE: u32 = 0;
/// Sequences that a session needs, one for pass 1 included.
pub const N_SEQUENCES: u32 = 2;
pub const BASE_SLOT: u32 = 0;
const MIXTURE_SLOT: u32 = 1;
pub const CLASSIFIER_SLOT: u32 = 2;
/// Slots that a session needs for a [`Generator`].
pub const N_SLOTS: u32 = 3;

/// Why a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The model ended it.
    End,
    /// As many tokens as asked for.
    Length,
    /// No room in the context.
    Context,
    /// Ctrl-C.
    Interrupted,
}

/// What came of a prompt.
pub struct Reply {
    pub text: String,
    pub n_prompt: usize,
    pub n_generated: usize,
    /// Decodes after the prompt: the last token generated is not decoded.
    n_decoded: usize,
    pub prompt_ms: f64,
    pub generate_ms: f64,
    pub stop: Stop,
}

impl Reply {
    /// Milliseconds of reading and writing.
    pub fn ms(&self) -> f64 {
        self.prompt_ms + self.generate_ms
    }

    pub fn tokens_per_second(&self) -> Option<f64> {
        (self.n_decoded > 0).then(|| 1e3 * self.n_decoded as f64 / self.generate_ms)
    }
}

/// A session with one sequence, and what its KV cache holds.
pub struct Generator {
    pub session: Session,
    sampler: Sampler,
    /// Most tokens of a reply; `None` for no limit.
    limit: Option<usize>,
    /// Most tokens of prompt and reply.
    n_ctx: usize,
    mixture: Mixture,
    reader: Reader,
}

impl Generator {
    /// A generator that runs the base model; `room` tokens of each sequence's context are for pass 1 only.
    pub fn new(session: Session, sampler: Sampler, limit: Option<usize>, room: u32) -> Self {
        let n_ctx = session.n_ctx_seq().saturating_sub(room) as usize;
        Self { session, sampler, limit, n_ctx, mixture: Mixture::base(), reader: Reader::new(SEQUENCE) }
    }

    /// The mixture in use.
    pub fn mixture(&self) -> &Mixture {
        &self.mixture
    }

    /// Changes the mixture, if it is another one. What was read with the old one is forgotten and read again with the
    /// next prompt.
    pub fn use_mixture(&mut self, mixture: Mixture) -> Result<()> {
        // Also where a weight is 0 and the expert would not be looked at.
        for (name, _) in mixture.weights() {
            self.session.experts()?.get(name)?;
        }
        if mixture.is_base() && self.mixture.is_base() {
            self.mixture = mixture;
            return Ok(());
        }
        // An expert may have been loaded anew under its name.
        self.reader.clear(&mut self.session)?;
        if mixture.is_base() {
            self.session.assign(SEQUENCE, BASE_SLOT)?;
        } else {
            self.session.set_mixture(MIXTURE_SLOT, &mixture)?;
            self.session.assign(SEQUENCE, MIXTURE_SLOT)?;
        }
        self.mixture = mixture;
        Ok(())
    }

    /// Continues `prompt`, handing out text as it comes.
    pub fn reply(&mut self, prompt: &[Token], mut sink: impl FnMut(&str) -> Result<()>) -> Result<Reply> {
        let n_ctx = self.n_ctx;
        if prompt.is_empty() {
            return Err(Error::invalid("the prompt is empty")
                .field("-p")
                .hint("give the model a word to begin with"));
        }
        if prompt.len() >= n_ctx {
            return Err(Error::too_large(format!(
                "the prompt has {} tokens, the context {n_ctx}",
                prompt.len()
            ))
            .field("--ctx-size")
            .hint("use a larger -c or a shorter prompt"));
        }
        let mut reply = Reply {
            text: String::new(),
            n_prompt: prompt.len(),
            n_generated: 0,
            n_decoded: 0,
            prompt_ms: 0.0,
            generate_ms: 0.0,
            stop: Stop::Interrupted,
        };
        let began = Instant::now();
        let is_read = self.read(prompt)?;
        reply.prompt_ms = milliseconds(began);
        if !is_read {
            return Ok(reply);
        }
        let began = Instant::now();
        let mut characters = Utf8Stream::default();
        reply.stop = loop {
            if self.limit.is_some_and(|limit| reply.n_generated >= limit) {
                break Stop::Length;
            }
            if ctrl_c::was_pressed() {
                break Stop::Interrupted;
            }
            let model = self.session.model();
            let token = self
                .sampler
                .sample(self.session.logits(0))
                .map_err(|error| error.file(model.file().path()))?;
            if model.is_end(token) {
                break Stop::End;
            }
            reply.n_generated += 1;
            let text = characters.push(&self.session.model().piece(token));
            sink(&text)?;
            reply.text += &text;
            if self.reader.tokens().len() >= n_ctx {
                break Stop::Context;
            }
            if self.limit.is_none_or(|limit| reply.n_generated < limit) {
                self.session.decode(&[Input { seq: SEQUENCE, token, output: true }])?;
                self.reader.push(token);
                reply.n_decoded += 1;
            }
        };
        reply.generate_ms = milliseconds(began);
        let text = characters.finish();
        sink(&text)?;
        reply.text += &text;
        Ok(reply)
    }

    /// Brings the sequence to `prompt`; `false` if Ctrl-C stopped it.
    fn read(&mut self, prompt: &[Token]) -> Result<bool> {
        let slot = if self.mixture.is_base() { BASE_SLOT } else { MIXTURE_SLOT };
        // Chunk by chunk, so that Ctrl-C need not wait for the end of a long one.
        let chunk = self.session.n_batch() as usize;
        let mut end = self.reader.count_known(prompt);
        loop {
            if ctrl_c::was_pressed() {
                return Ok(false);
            }
            end = (end + chunk).min(prompt.len());
            self.reader.read(&mut self.session, slot, &prompt[..end])?;
            if end == prompt.len() {
                return Ok(true);
            }
        }
    }
}
