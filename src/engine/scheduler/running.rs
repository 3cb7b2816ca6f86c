//! A request at work in a sequence.

use std::time::Instant;

use super::cache::Key;
use super::inbox::Progress;
use super::inbox::{Job, Over};
use super::request::{Generate, Pool, Work};
use super::stream::Stream;
use super::ticket::{Completion, Ended, Event, Outcome, Piece, Pooled, Reading, Scores, Usage};
use crate::engine::sampler::{log_probs, top};
use crate::engine::{Model, Thinking, Token};
use crate::error::{Error, Result};

/// A request that has a sequence.
pub(super) struct Running {
    pub job: Job,
    /// Its number among the admitted.
    pub order: u64,
    /// Whether it is not clear yet what it reads itself: it waits for another to read the same.
    pub is_new: bool,
    /// Whether a decode failed, perhaps because of it.
    pub is_suspect: bool,
    /// Tokens of prompt and completion that its sequence holds.
    pub n_past: usize,
    /// Tokens of the prompt that it did not read itself.
    pub n_cached: usize,
    /// What was written.
    tokens: Vec<Token>,
    log_probs: Vec<f32>,
    top: Vec<Vec<(Token, f32)>>,
    stream: Stream,
    /// Answers to the probes, as far as they are known.
    scores: Vec<Vec<f32>>,
    /// The mean hidden state, once it is known.
    mean: Vec<f32>,
    /// Tokens of the prompt of which the caller knows that they are known; `None` if that is not asked.
    n_told: Option<usize>,
    admitted: Instant,
    /// When the prompt was read.
    read: Option<Instant>,
}

impl Running {
    /// Begins `job`, the `order`-th.
    pub fn new(job: Job, order: u64) -> Self {
        let stop = match &job.request.work {
            Work::Generate(generate) => generate.stop.clone(),
            Work::Score(_) | Work::Pool(_) => Vec::new(),
        };
        Self {
            job,
            order,
            is_new: true,
            is_suspect: false,
            n_past: 0,
            n_cached: 0,
            tokens: Vec::new(),
            log_probs: Vec::new(),
            top: Vec::new(),
            stream: Stream::new(stop),
            scores: Vec::new(),
            mean: Vec::new(),
            n_told: None,
            admitted: Instant::now(),
            read: None,
        }
    }

    /// What its reading may be shared with.
    pub fn key(&self) -> Key {
        Key { contents: self.job.mixture.contents(), scope: self.job.request.scope }
    }

    /// The prompt.
    pub fn prompt(&self) -> &[Token] {
        &self.job.request.prompt
    }

    /// Whether it goes on writing: its prompt is read, and the token chosen last is not decoded yet.
    pub fn writes(&self) -> bool {
        !self.tokens.is_empty() && self.n_unread() == 1
    }

    /// Whether nothing was written yet.
    pub fn is_at_prompt(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Tokens that the sequence does not hold yet.
    pub fn n_unread(&self) -> usize {
        self.prompt().len() + self.tokens.len() - self.n_past
    }

    /// Token `i` of prompt and completion.
    fn token(&self, i: usize) -> Token {
        match i.checked_sub(self.prompt().len()) {
            Some(i) => self.tokens[i],
            None => self.prompt()[i],
        }
    }

    /// The next `n` tokens to decode after `n_skipped`, each with whether what follows it is asked.
    pub fn next(&self, n_skipped: usize, n: usize) -> impl Iterator<Item = (Token, bool)> + '_ {
        let end = self.prompt().len() + self.tokens.len();
        let n_known = self.scores.len();
        let is_asked = move |after: usize| match &self.job.request.work {
            Work::Generate(_) | Work::Pool(_) => after == end,
            Work::Score(probes) => {
                probes[n_known..].binary_search_by_key(&after, |probe| probe.after).is_ok()
            }
        };
        let first = self.n_past + n_skipped;
        (first..first + n).map(move |i| (self.token(i), is_asked(i + 1)))
    }

    /// Tells how much of the prompt is known, if that is asked and has changed.
    pub fn tell(&mut self) {
        let Work::Generate(generate) = &self.job.request.work else { return };
        let n_read = self.n_past.min(self.prompt().len());
        if !generate.progress || self.n_told.is_some_and(|told| told >= n_read) || !self.is_at_prompt() {
            return;
        }
        self.n_told = Some(n_read);
        let (n_prompt, n_cached, time) = (self.prompt().len(), self.n_cached, self.admitted.elapsed());
        self.job.sink.event(|| Event::Reading(Reading { n_prompt, n_cached, n_read, time }));
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let n_prompt = self.prompt().len();
        Progress {
            id: self.job.id,
            n_prompt,
            n_cached: self.n_cached,
            n_read: self.n_past.min(n_prompt),
            n_written: self.tokens.len(),
        }
    }

    /// What the sequence holds.
    pub fn held(&self) -> Vec<Token> {
        (0..self.n_past).map(|i| self.token(i)).collect()
    }

    /// Whether `other` has a prompt whose logits serve this one too.
    pub fn is_like(&self, other: &Self) -> bool {
        let generates = |running: &Self| matches!(running.job.request.work, Work::Generate(_));
        generates(self) && generates(other) && self.key() == other.key() && self.prompt() == other.prompt()
    }

    /// Which hidden states it wants, if it wants any.
    pub fn pool(&self) -> Option<&Pool> {
        match &self.job.request.work {
            Work::Pool(pool) => Some(pool),
            _ => None,
        }
    }

    /// Uses `mean`, of the hidden states of `n` tokens, and ends.
    pub fn take_mean(&mut self, mean: Vec<f32>, n: usize) -> Result<Option<Ended>> {
        self.read.get_or_insert_with(Instant::now);
        let n_wanted = self.pool().map_or(0, |pool| pool.tokens.len());
        if n != n_wanted || mean.iter().any(|x| !x.is_finite()) {
            return Err(Error::engine("llama.cpp shows no hidden states of this kind of model"));
        }
        self.mean = mean;
        Ok(Some(Ended::Length))
    }

    /// Uses the `logits` after the last token that was asked about; why it ends, if it does. `n_ctx` tokens fit into a
    /// sequence.
    pub fn take(&mut self, logits: &[f32], model: &Model, n_ctx: usize) -> Result<Option<Ended>> {
        self.tell();
        self.read.get_or_insert_with(Instant::now);
        match &self.job.request.work {
            Work::Score(probes) => {
                self.scores.push(log_probs(logits, &probes[self.scores.len()].tokens));
                Ok((self.scores.len() == probes.len()).then_some(Ended::Length))
            }
            Work::Generate(generate) => {
                let Generate { max_tokens, log_probs, n_top, sampled_probs, .. } = **generate;
                self.write(logits, model, max_tokens, Wanted { log_probs, n_top, sampled_probs }, n_ctx)
            }
            Work::Pool(_) => Err(Error::engine("a mean of hidden states comes of no logits")),
        }
    }

    fn write(
        &mut self,
        logits: &[f32],
        model: &Model,
        max_tokens: Option<usize>,
        wanted: Wanted,
        n_ctx: usize,
    ) -> Result<Option<Ended>> {
        let sampler =
            self.job.sampler.as_mut().ok_or_else(|| Error::engine("a request without a sampler"))?;
        let token = sampler.sample(logits)?;
        self.tokens.push(token);
        let (log_prob, likeliest) = if wanted.sampled_probs {
            let (p, likeliest) = sampler.sampled(token, wanted.n_top);
            (wanted.log_probs.then_some(p), likeliest)
        } else {
            (wanted.log_probs.then(|| log_probs(logits, &[token])[0]), top(logits, wanted.n_top))
        };
        self.log_probs.extend(log_prob);
        if wanted.n_top > 0 {
            self.top.push(likeliest.clone());
        }
        let is_shown = self.shows(token);
        let piece = if is_shown { model.spelling(token) } else { model.piece(token) };
        let ended = if model.is_end(token) {
            if is_shown {
                self.stream.push(&piece);
            }
            Some(Ended::End)
        } else if self.stream.push(&piece) {
            Some(Ended::Stop)
        } else if Some(self.tokens.len()) == max_tokens {
            Some(Ended::Length)
        } else {
            (self.prompt().len() + self.tokens.len() > n_ctx).then_some(Ended::Context)
        };
        let stream = &mut self.stream;
        self.job.sink.event(|| {
            let text = if ended.is_some() { stream.rest() } else { stream.next() };
            Event::Piece(Piece { token: Some(token), log_prob, top: likeliest, text })
        });
        Ok(ended)
    }

    /// Whether `token` is spelled in the text, although it may be a control token.
    fn shows(&self, token: Token) -> bool {
        match &self.job.request.work {
            Work::Generate(generate) => generate.shown.contains(&token),
            Work::Score(_) | Work::Pool(_) => false,
        }
    }

    /// Ends it, because of `ended`.
    pub fn finish(mut self, ended: Ended) {
        let outcome = match self.job.request.work {
            Work::Score(_) | Work::Pool(_) if ended == Ended::Cancelled => Err(cancelled()),
            Work::Score(_) => Ok(Outcome::Scores(Scores {
                log_probs: std::mem::take(&mut self.scores),
                usage: self.usage(),
            })),
            Work::Pool(_) => {
                Ok(Outcome::Pooled(Pooled { mean: std::mem::take(&mut self.mean), usage: self.usage() }))
            }
            Work::Generate(_) => Ok(Outcome::Completion(self.completion(ended))),
        };
        self.job.sink.end(outcome);
    }

    /// Ends it before its time.
    pub fn stop(mut self, over: Over) {
        if over == Over::Cancelled {
            // What was held back is no stop string now.
            let rest = self.stream.rest();
            if !rest.is_empty() {
                let piece = Piece { token: None, log_prob: None, top: Vec::new(), text: rest };
                self.job.sink.event(|| Event::Piece(piece));
            }
        }
        match over {
            Over::Cancelled => self.finish(Ended::Cancelled),
            Over::Late => self.job.sink.end(Err(late())),
        }
    }

    fn usage(&self) -> Usage {
        let now = Instant::now();
        let read = self.read.unwrap_or(now);
        Usage {
            n_prompt: self.prompt().len(),
            n_cached: self.n_cached,
            n_decoded: self.n_past.saturating_sub(self.prompt().len()),
            waiting: self.admitted - self.job.arrived,
            reading: read - self.admitted,
            writing: now - read,
        }
    }

    fn completion(&mut self, ended: Ended) -> Completion {
        let thinking = match &self.job.request.work {
            Work::Generate(generate) => generate.thinking.as_ref(),
            Work::Score(_) | Work::Pool(_) => None,
        };
        Completion {
            text: Thinking::whole(thinking, self.stream.text()),
            ended,
            stopped_by: self.stream.stopped_by().map(str::to_owned),
            usage: self.usage(),
            tokens: std::mem::take(&mut self.tokens),
            log_probs: std::mem::take(&mut self.log_probs),
            top: std::mem::take(&mut self.top),
        }
    }
}

/// Which probabilities are wanted of each token.
struct Wanted {
    log_probs: bool,
    n_top: usize,
    sampled_probs: bool,
}

/// Ends a request that has not begun.
pub(super) fn stop_waiting(job: Job, over: Over) {
    Running::new(job, 0).stop(over);
}

fn late() -> Error {
    Error::unavailable("it did not end by its deadline").hint("allow more time, or ask for less")
}

fn cancelled() -> Error {
    Error::interrupted("cancelled")
}
