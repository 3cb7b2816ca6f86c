//! Many completions at once: continuous batching over a session's sequences.
//!
//! Each request brings its own slot, so one batch mixes the base model and any number of mixtures. Every
//! decode holds the next token of each running request and as much of new prompts as `n_batch` leaves room
//! for; a sequence whose request ends is cleared and takes the next request at once. A request starts only
//! when the KV cache has room for all that it may write, so that none fails half-way.
//!
//! A completion depends on its request alone, up to rounding: llama.cpp adds in another order in batches of
//! another shape, which can turn the choice between two tokens whose logits are equal but for that.

use crate::engine::{Input, Sampler, SamplerOptions, Session, Token};
use crate::error::{Error, Result};
use crate::progress::Interrupt;

/// A completion that is wanted.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is to be completed; at least one token.
    pub prompt: Vec<Token>,
    /// The slot whose mixture writes it; 0 is the base model.
    pub slot: u32,
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// Most tokens to write, 1 or more.
    pub max_tokens: usize,
    /// Texts that end the completion where they first appear, across tokens too.
    pub stop: Vec<String>,
    /// Whether [`Completion::log_probs`] is wanted.
    pub log_probs: bool,
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
}

/// What a request became.
#[derive(Clone, Debug)]
pub struct Completion {
    /// Every token that was chosen, with the one that ended the completion, if one did.
    pub tokens: Vec<Token>,
    /// ln p of each of `tokens` under the model's own distribution, that is at temperature 1 and before
    /// anything was left out; empty unless asked for.
    pub log_probs: Vec<f32>,
    /// What the tokens say, up to the stop string; U+FFFD stands for what is not UTF-8.
    pub text: String,
    /// Why it ended.
    pub ended: Ended,
}

impl Request {
    /// Cells of KV cache it may fill: the last token is not decoded.
    fn n_cells(&self) -> usize {
        (self.prompt.len() + self.max_tokens).saturating_sub(1)
    }

    /// Whether `session` can serve it.
    ///
    /// # Errors
    /// An empty prompt, no tokens to write, an empty stop string, sampler options or a slot out of range, or
    /// more tokens than the context holds.
    pub fn check(&self, session: &Session) -> Result<()> {
        session.check_slot(self.slot)?;
        Sampler::new(&self.sampler)?;
        if self.prompt.is_empty() {
            return Err(Error::invalid("it is empty")
                .field("prompt")
                .hint("give the model a word to begin with"));
        }
        if self.max_tokens == 0 {
            return Err(Error::expected("1 or more", 0).field("max_tokens"));
        }
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::expected("a text to stop at", "an empty one").field("stop"));
        }
        let n_ctx = session.n_ctx() as usize;
        if self.n_cells() > n_ctx {
            let Self { prompt, max_tokens, .. } = self;
            let found = format!("{} of the prompt and {max_tokens} to write", prompt.len());
            return Err(Error::expected(format!("at most {n_ctx} tokens, the size of the context"), found)
                .hint("use a larger context, a shorter prompt or fewer tokens to write"));
        }
        Ok(())
    }
}

/// Completes all `requests` with as many sequences as `session` has, beginning with the first. `done` gets
/// the number of each request and what it became as soon as it ends, in the order in which they end. All
/// sequences are empty afterwards, also after an error.
///
/// # Errors
/// A request that fails [`Request::check`] (then nothing runs), a NaN among the logits, an error of `done`,
/// or an interrupt.
pub fn complete(
    session: &mut Session,
    requests: &[Request],
    interrupt: &Interrupt,
    mut done: impl FnMut(usize, Completion) -> Result<()>,
) -> Result<()> {
    for (i, request) in requests.iter().enumerate() {
        request.check(session).map_err(|error| error.field(format!("request {i}")))?;
    }
    let result = Batch::new(session).and_then(|mut batch| batch.run(requests, interrupt, &mut done));
    for seq in 0..session.n_seq() {
        session.clear(seq)?;
    }
    result
}

/// The requests that run now.
struct Batch<'a> {
    session: &'a mut Session,
    /// By sequence.
    running: Vec<Option<Running<'a>>>,
    /// Cells of KV cache that the running requests may fill.
    n_reserved: usize,
}

struct Running<'a> {
    index: usize,
    request: &'a Request,
    sampler: Sampler,
    /// Tokens of the prompt, then of the completion, that were decoded.
    n_read: usize,
    tokens: Vec<Token>,
    log_probs: Vec<f32>,
    text: Vec<u8>,
}

impl<'a> Batch<'a> {
    fn new(session: &'a mut Session) -> Result<Self> {
        // Every running sequence needs room for a token in each decode.
        let n_seq = session.n_seq().min(session.n_batch());
        for seq in 0..n_seq {
            session.clear(seq)?;
        }
        let running = (0..n_seq).map(|_| None).collect();
        Ok(Self { session, running, n_reserved: 0 })
    }

    fn run(
        &mut self,
        requests: &'a [Request],
        interrupt: &Interrupt,
        done: &mut impl FnMut(usize, Completion) -> Result<()>,
    ) -> Result<()> {
        let mut waiting = 0;
        loop {
            interrupt.check()?;
            self.admit(requests, &mut waiting)?;
            let (inputs, outputs) = self.next_decode();
            if inputs.is_empty() {
                return Ok(());
            }
            self.session.decode(&inputs)?;
            for (i, &seq) in outputs.iter().enumerate() {
                let Some(running) = &mut self.running[seq] else { continue };
                if let Some(ended) = running.take(self.session, i)? {
                    self.finish(seq, ended, done)?;
                }
            }
        }
    }

    /// Gives free sequences to the requests from number `waiting` on, as far as the KV cache has room.
    fn admit(&mut self, requests: &'a [Request], waiting: &mut usize) -> Result<()> {
        let n_ctx = self.session.n_ctx() as usize;
        for (seq, place) in self.running.iter_mut().enumerate().filter(|(_, place)| place.is_none()) {
            let Some(request) = requests.get(*waiting) else { return Ok(()) };
            if self.n_reserved + request.n_cells() > n_ctx {
                return Ok(());
            }
            self.session.assign(seq as u32, request.slot)?;
            self.n_reserved += request.n_cells();
            *place = Some(Running::new(*waiting, request)?);
            *waiting += 1;
        }
        Ok(())
    }

    /// The tokens to decode next, and the sequences whose next token they tell, in the order of the logits.
    fn next_decode(&mut self) -> (Vec<Input>, Vec<usize>) {
        let mut running: Vec<_> =
            self.running.iter_mut().enumerate().filter_map(|(seq, place)| Some((seq, place.as_mut()?))).collect();
        // Running completions have one unread token and come first: they free their sequences soonest.
        running.sort_by_key(|(_, running)| running.unread().len());
        let mut inputs = Vec::new();
        let mut outputs = Vec::new();
        for (seq, running) in running {
            let unread = running.unread();
            let n = unread.len().min(self.session.n_batch() as usize - inputs.len());
            let is_last = |i| i + 1 == unread.len();
            let read = unread[..n].iter().enumerate();
            inputs.extend(read.map(|(i, &token)| Input { seq: seq as u32, token, output: is_last(i) }));
            if n == unread.len() {
                outputs.push(seq);
            }
            running.n_read += n;
        }
        (inputs, outputs)
    }

    fn finish(
        &mut self,
        seq: usize,
        ended: Ended,
        done: &mut impl FnMut(usize, Completion) -> Result<()>,
    ) -> Result<()> {
        let Some(running) = self.running[seq].take() else { return Ok(()) };
        self.session.clear(seq as u32)?;
        self.n_reserved -= running.request.n_cells();
        let text = String::from_utf8_lossy(&running.text).into_owned();
        let Running { index, tokens, log_probs, .. } = running;
        done(index, Completion { tokens, log_probs, text, ended })
    }
}

impl<'a> Running<'a> {
    fn new(index: usize, request: &'a Request) -> Result<Self> {
        Ok(Self {
            index,
            request,
            sampler: Sampler::new(&request.sampler)?,
            n_read: 0,
            tokens: Vec::new(),
            log_probs: Vec::new(),
            text: Vec::new(),
        })
    }

    /// What the model has not seen yet: the rest of the prompt, or the token chosen last.
    fn unread(&self) -> &[Token] {
        let prompt = &self.request.prompt;
        match self.n_read.checked_sub(prompt.len()) {
            Some(n_read) => &self.tokens[n_read..],
            None => &prompt[self.n_read..],
        }
    }

    /// Chooses the next token from output `i` of the last decode; says if that ends the completion.
    fn take(&mut self, session: &Session, i: usize) -> Result<Option<Ended>> {
        let logits = session.logits(i);
        let token = self.sampler.sample(logits)?;
        self.tokens.push(token);
        if self.request.log_probs {
            self.log_probs.push(log_prob(logits, token));
        }
        let model = session.model();
        if model.is_end(token) {
            return Ok(Some(Ended::End));
        }
        let old = self.text.len();
        self.text.extend(model.piece(token));
        if let Some(at) = find_stop(&self.text, old, &self.request.stop) {
            self.text.truncate(at);
            return Ok(Some(Ended::Stop));
        }
        Ok((self.tokens.len() == self.request.max_tokens).then_some(Ended::Length))
    }
}

/// Where in `text` the first of the stop strings begins that ends beyond `old`, the length of what was
/// searched before.
fn find_stop(text: &[u8], old: usize, stop: &[String]) -> Option<usize> {
    let find = |stop: &String| {
        let start = (old + 1).saturating_sub(stop.len());
        let at = text[start..].windows(stop.len()).position(|window| window == stop.as_bytes())?;
        Some(start + at)
    };
    stop.iter().filter_map(find).min()
}

/// ln softmax(logits) of `token`.
fn log_prob(logits: &[f32], token: Token) -> f32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    (f64::from(logits[token as usize] - max) - sum.ln()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_string_is_found_over_the_border_of_pieces_and_the_earliest_counts() {
        let stop = ["\n\n".to_owned(), "END".to_owned()];
        for (old, new, found) in [
            ("a\n", "\nb", Some(1)),
            ("a\n", "b\n", None),
            ("aEN", "D\n\n", Some(1)),
            ("", "\n\nEND", Some(0)),
            ("E", "ND", Some(0)),
            ("", "", None),
            ("aEN", "", None),
        ] {
            let text = format!("{old}{new}");
            assert_eq!(find_stop(text.as_bytes(), old.len(), &stop), found, "{old:?} + {new:?}");
        }
    }

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        // e^0 + e^ln 3 = 4.
        let logits = [0.0, 3f32.ln()];
        for (token, p) in [(0, 0.25f32), (1, 0.75)] {
            assert!((log_prob(&logits, token) - p.ln()).abs() < 1e-6);
        }
        // Neither overflow nor underflow.
        assert_eq!(log_prob(&[1000.0, -1000.0], 0), 0.0);
        assert_eq!(log_prob(&[1000.0, -1000.0], 1), -2000.0);
    }
}
