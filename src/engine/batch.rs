//! Many completions at once: continuous batching over the sequences of one or more sessions.
//!
//! Each request brings its own slot, so one batch mixes the base model and any number of mixtures. Every
//! decode holds the next token of each running request and as much of new prompts as `n_batch` leaves room
//! for; a sequence whose request ends is cleared and takes the next request at once. A request starts only
//! when the KV cache has room for all that it may write, so that none fails half-way.
//!
//! A completion depends on its request alone, up to rounding: llama.cpp adds in another order in batches of
//! another shape, which can turn the choice between two tokens whose logits are equal but for that.

use std::sync::Mutex;

use crate::engine::{Input, Model, Sampler, SamplerOptions, Session, SessionOptions, Token};
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
        let n_ctx = session.n_ctx_seq() as usize;
        if self.n_cells() > n_ctx {
            let Self { prompt, max_tokens, .. } = self;
            let found = format!("{} of the prompt and {max_tokens} to write", prompt.len());
            return Err(Error::too_large(format!(
                "expected at most {n_ctx} tokens, the context of a sequence, found {found}"
            ))
            .hint("use a larger `n_ctx`, a shorter prompt or fewer tokens to write"));
        }
        Ok(())
    }
}

/// Completes all `requests`, beginning with the first, with the sequences of all `sessions`, which must be
/// alike: of one model, with the same mixtures in their slots. Each session works in a thread of its own, on
/// requests that depend on their number alone, so that equal calls have equal results.
/// `done` gets the number of each request and what it became as soon as it ends, in the order in which they
/// end. All sequences are empty afterwards, also after an error.
///
/// How many sessions are best depends on the model. Of a large one most time goes into reading weights, so
/// one session with all threads is best. In a small one threads wait for each other after each of a graph's
/// many short steps; a session of one thread on each core avoids that (see `benches/batch.rs`).
///
/// # Errors
/// A request that fails [`Request::check`] (then nothing runs), a NaN among the logits, an error of `done`,
/// or an interrupt.
pub fn complete(
    sessions: &mut [Session],
    requests: &[Request],
    interrupt: &Interrupt,
    done: impl FnMut(usize, Completion) -> Result<()> + Send,
) -> Result<()> {
    for session in &*sessions {
        for (i, request) in requests.iter().enumerate() {
            request.check(session).map_err(|error| error.field(format!("request {i}")))?;
        }
    }
    let work = Work {
        requests,
        n_sessions: sessions.len(),
        interrupt,
        has_failed: Interrupt::new(),
        done: Mutex::new(done),
    };
    let mut result = Ok(());
    std::thread::scope(|scope| {
        let work = &work;
        let run = |(number, session)| scope.spawn(move || work.run(session, number));
        let threads: Vec<_> =
            sessions.iter_mut().enumerate().map(|(number, session)| run((number, session))).collect();
        for thread in threads {
            let joined = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // The first error counts: the others stopped because of it.
            if result.is_ok() || result.as_ref().is_err_and(Error::is_interrupted) && joined.is_err() {
                result = joined;
            }
        }
    });
    result
}

/// Size of a model file up to which one session per thread is taken: such weights stay in the caches, so that
/// reading them once per session costs little. Measured at 3 MB only.
const SMALL_MODEL_BYTES: usize = 16 << 20;

/// How many sessions, and with which options each, serve [`complete`] best with `n_seq` sequences of
/// `n_ctx_seq` tokens and `n_threads` threads over all sessions.
pub fn sessions_for(model: &Model, n_seq: u32, n_ctx_seq: u32, n_threads: u32) -> (u32, SessionOptions) {
    let is_small = model.file().mmap().len() <= SMALL_MODEL_BYTES;
    let n_sessions = if is_small { n_threads.min(n_seq).max(1) } else { 1 };
    let n_seq = n_seq.div_ceil(n_sessions);
    let options = SessionOptions {
        n_ctx: n_seq.saturating_mul(n_ctx_seq),
        n_threads: n_threads / n_sessions,
        n_seq,
        kv_unified: false,
        ..SessionOptions::default()
    };
    (n_sessions, options)
}

/// What the sessions share.
struct Work<'a, F> {
    requests: &'a [Request],
    n_sessions: usize,
    interrupt: &'a Interrupt,
    /// Raised when a session fails, for the others.
    has_failed: Interrupt,
    done: Mutex<F>,
}

impl<F: FnMut(usize, Completion) -> Result<()>> Work<'_, F> {
    /// Completes the requests of session `number`: every n-th, so that which ones share a batch does not
    /// depend on the speed of threads.
    fn run(&self, session: &mut Session, number: usize) -> Result<()> {
        let result = Batch::new(session, number).and_then(|mut batch| batch.run(self));
        if result.is_err() {
            self.has_failed.raise();
        }
        (0..session.n_seq()).try_for_each(|seq| session.clear(seq))?;
        result
    }

    fn finish(&self, index: usize, completion: Completion) -> Result<()> {
        let mut done = self.done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        done(index, completion)
    }
}

/// The requests that one session works on now.
struct Batch<'a, 'r> {
    session: &'a mut Session,
    /// By sequence.
    running: Vec<Option<Running<'r>>>,
    /// Cells of KV cache that the running requests may fill.
    n_reserved: usize,
    /// The next request of this session.
    next: usize,
}

struct Running<'r> {
    index: usize,
    request: &'r Request,
    sampler: Sampler,
    /// Tokens of the prompt, then of the completion, that were decoded.
    n_read: usize,
    tokens: Vec<Token>,
    log_probs: Vec<f32>,
    text: Vec<u8>,
}

impl<'a, 'r> Batch<'a, 'r> {
    fn new(session: &'a mut Session, next: usize) -> Result<Self> {
        // Every running sequence needs room for a token in each decode.
        let n_seq = session.n_seq().min(session.n_batch());
        for seq in 0..n_seq {
            session.clear(seq)?;
        }
        let running = (0..n_seq).map(|_| None).collect();
        Ok(Self { session, running, n_reserved: 0, next })
    }

    fn run<F: FnMut(usize, Completion) -> Result<()>>(&mut self, work: &'r Work<'_, F>) -> Result<()> {
        loop {
            work.interrupt.check()?;
            work.has_failed.check()?;
            self.admit(work)?;
            let (inputs, outputs) = self.next_decode();
            if inputs.is_empty() {
                return Ok(());
            }
            self.session.decode(&inputs)?;
            for (i, &seq) in outputs.iter().enumerate() {
                let Some(running) = &mut self.running[seq] else { continue };
                if let Some(ended) = running.take(self.session, i)? {
                    self.finish(seq, ended, work)?;
                }
            }
        }
    }

    /// Gives requests to free sequences, as far as the KV cache has room.
    fn admit<F: FnMut(usize, Completion) -> Result<()>>(&mut self, work: &'r Work<'_, F>) -> Result<()> {
        let n_ctx = self.session.n_ctx() as usize;
        for (seq, place) in self.running.iter_mut().enumerate().filter(|(_, place)| place.is_none()) {
            let index = self.next;
            let Some(request) = work.requests.get(index) else { return Ok(()) };
            if self.n_reserved + request.n_cells() > n_ctx {
                return Ok(());
            }
            self.next += work.n_sessions;
            self.session.assign(seq as u32, request.slot)?;
            self.n_reserved += request.n_cells();
            *place = Some(Running::new(index, request)?);
        }
        Ok(())
    }

    /// The tokens to decode next, and the sequences whose next token they tell, in the order of the logits.
    fn next_decode(&mut self) -> (Vec<Input>, Vec<usize>) {
        let mut running: Vec<_> = self
            .running
            .iter_mut()
            .enumerate()
            .filter_map(|(seq, place)| Some((seq, place.as_mut()?)))
            .collect();
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

    fn finish<F: FnMut(usize, Completion) -> Result<()>>(
        &mut self,
        seq: usize,
        ended: Ended,
        work: &Work<'_, F>,
    ) -> Result<()> {
        let Some(running) = self.running[seq].take() else { return Ok(()) };
        self.session.clear(seq as u32)?;
        self.n_reserved -= running.request.n_cells();
        let text = String::from_utf8_lossy(&running.text).into_owned();
        let Running { index, tokens, log_probs, .. } = running;
        work.finish(index, Completion { tokens, log_probs, text, ended })
    }
}

impl<'r> Running<'r> {
    fn new(index: usize, request: &'r Request) -> Result<Self> {
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
        let token = self.sampler.sample(logits).map_err(|error| error.file(session.model().file().path()))?;
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
pub fn log_prob(logits: &[f32], token: Token) -> f32 {
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
