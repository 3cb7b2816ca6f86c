//! What is wanted: a text that goes on from a prompt, the probabilities of given tokens, or a mean of hidden states.

use std::ops::Range;
use std::time::Instant;

use crate::engine::sampler::Sampler;
use crate::engine::{Model, SamplerOptions, Session, Thinking, Token};
use crate::error::{Error, Result};
use crate::expert::Mixture;

/// A piece of work for the scheduler.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is read; at least one token.
    pub prompt: Vec<Token>,
    /// The experts that read and write it.
    pub mixture: Mixture,
    /// What is done with it.
    pub work: Work,
    /// When it fails if it has not ended by then; `None` for never.
    pub deadline: Option<Instant>,
    /// What was read for requests of another scope is not used again. Where a prompt is read in one go or after a
    /// beginning that was there already, results differ by rounding; who cannot have that takes a scope of their own.
    pub scope: u64,
    /// Whether what was read for it is to stay while other requests come and go; see [`super::Scheduler::keeping`].
    pub is_kept: bool,
}

/// What is done with a prompt.
#[derive(Clone, Debug)]
pub enum Work {
    /// It is continued.
    Generate(Box<Generate>),
    /// It is looked at. Probes come in the order of the places they are about.
    Score(Vec<Probe>),
    /// Hidden states of it are averaged.
    Pool(Pool),
}

/// Which hidden states of a prompt are averaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The block that leaves them, counted from 0; see [`Session::n_pooled_layers`].
    pub layer: u32,
    /// The tokens of the prompt whose states they are, 1 or more.
    pub tokens: Range<usize>,
}

/// How a prompt is continued.
#[derive(Clone, Debug, Default)]
pub struct Generate {
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// Most tokens to write, for which the context must have room; `None` for as many as it has room for.
    pub max_tokens: Option<usize>,
    /// Texts that end the completion where they first appear, across tokens too.
    pub stop: Vec<String>,
    /// Whether ln p of each token is wanted.
    pub log_probs: bool,
    /// Of how many of the most likely tokens, at each place, ln p is wanted.
    pub n_top: usize,
    /// Whether these are under the distribution from which the token was drawn, after temperature, cuts and penalties, in
    /// the place of the model's own.
    pub sampled_probs: bool,
    /// Whether it is wanted to hear how much of the prompt is read.
    pub progress: bool,
    /// Control tokens that the text spells; others say nothing.
    pub shown: Vec<Token>,
    /// How the prompt's template marks thinking, so that the text has the usual marks.
    pub thinking: Option<Thinking>,
}

/// A question about the next token at one place of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Tokens of the prompt before that place, 1 or more.
    pub after: usize,
    /// The tokens of which ln p is wanted.
    pub tokens: Vec<Token>,
}

impl Generate {
    /// At most `max_tokens`, always the most likely ones.
    pub fn greedy(max_tokens: usize) -> Self {
        Self { sampler: SamplerOptions::greedy(), max_tokens: Some(max_tokens), ..Self::default() }
    }
}

impl Request {
    /// The continuation of `prompt` with `mixture`.
    pub fn generate(prompt: Vec<Token>, mixture: Mixture, how: Generate) -> Self {
        Self {
            prompt,
            mixture,
            work: Work::Generate(Box::new(how)),
            deadline: None,
            scope: 0,
            is_kept: false,
        }
    }

    /// The answers to `probes` about `prompt` with `mixture`.
    pub fn score(prompt: Vec<Token>, mixture: Mixture, probes: Vec<Probe>) -> Self {
        Self { prompt, mixture, work: Work::Score(probes), deadline: None, scope: 0, is_kept: false }
    }

    /// The mean hidden state of some tokens of `prompt`, read with `mixture`.
    pub fn pool(prompt: Vec<Token>, mixture: Mixture, pool: Pool) -> Self {
        Self { prompt, mixture, work: Work::Pool(pool), deadline: None, scope: 0, is_kept: false }
    }

    /// ln p of each token of `continuation` after `prompt`, each a probe of its own.
    pub fn likelihood(prompt: &[Token], continuation: &[Token], mixture: Mixture) -> Self {
        let probe = |(i, &token): (usize, &Token)| Probe { after: prompt.len() + i, tokens: vec![token] };
        let probes = continuation.iter().enumerate().map(probe).collect();
        // What the last token leads to is not asked.
        let read = &continuation[..continuation.len().saturating_sub(1)];
        Self::score([prompt, read].concat(), mixture, probes)
    }

    /// Cells of KV cache that it may fill in a sequence with `n_ctx`.
    pub(super) fn n_cells(&self, n_ctx: usize) -> usize {
        match &self.work {
            // The last token is not decoded.
            Work::Generate(how) => {
                how.max_tokens.map_or(n_ctx, |n| self.prompt.len().saturating_add(n.saturating_sub(1)))
            }
            Work::Score(_) | Work::Pool(_) => self.prompt.len(),
        }
    }

    /// How many tokens of the prompt may be known already: what follows the others is asked.
    pub(super) fn n_reusable(&self) -> usize {
        match &self.work {
            Work::Generate(_) => self.prompt.len() - 1,
            Work::Score(probes) => probes.first().map_or(self.prompt.len(), |probe| probe.after) - 1,
            Work::Pool(pool) => pool.tokens.start.min(self.prompt.len() - 1),
        }
    }

    /// Checks the request for sessions like `session`, and builds its sampler, if it needs one.
    ///
    /// # Errors
    /// An empty prompt, a token that there is not, an empty stop string, probes out of order or place, a pool of no tokens
    /// or of a layer that is not read, sampler options out of range, or more tokens than the context of a sequence holds.
    pub(super) fn check(&self, session: &Limits) -> Result<Option<Sampler>> {
        let model = &session.model;
        if self.prompt.is_empty() {
            return Err(Error::invalid("it is empty")
                .field("prompt")
                .hint("give the model a word to begin with"));
        }
        check_tokens(&self.prompt, model).map_err(|error| error.field("prompt"))?;
        let sampler = match &self.work {
            Work::Generate(generate) => Some(generate.check(&self.prompt, model)?),
            Work::Score(probes) => {
                check_probes(probes, self.prompt.len(), model)?;
                None
            }
            Work::Pool(pool) => {
                pool.check(self.prompt.len(), session)?;
                None
            }
        };
        let n_ctx = session.n_ctx_seq;
        let n_prompt = self.prompt.len();
        let max_tokens = match &self.work {
            Work::Generate(how) => how.max_tokens,
            Work::Score(_) | Work::Pool(_) => None,
        };
        let found = match max_tokens {
            Some(n) if self.n_cells(n_ctx) > n_ctx => format!("{n_prompt} of the prompt and {n} to write"),
            _ if n_prompt > n_ctx => n_prompt.to_string(),
            _ => return Ok(sampler),
        };
        let expected = format!("at most {n_ctx} tokens, the context of a sequence");
        Err(Error::too_large(format!("expected {expected}, found {found}"))
            .hint("use a larger context, a shorter prompt or fewer tokens to write"))
    }
}

/// What bounds a request.
pub(super) struct Limits {
    pub model: std::sync::Arc<Model>,
    pub n_ctx_seq: usize,
    pub n_pooled_layers: u32,
}

impl Limits {
    pub fn new(session: &Session) -> Self {
        Self {
            model: session.model().clone(),
            n_ctx_seq: session.n_ctx_seq() as usize,
            n_pooled_layers: session.n_pooled_layers(),
        }
    }
}

impl Pool {
    fn check(&self, n: usize, session: &Limits) -> Result<()> {
        if self.tokens.is_empty() || self.tokens.end > n {
            let expected = format!("1 token or more of {n}");
            return Err(Error::expected(expected, format!("{:?}", self.tokens)).field("pool"));
        }
        if self.layer >= session.n_pooled_layers {
            let expected = format!("a block below {}", session.n_pooled_layers);
            return Err(Error::expected(expected, self.layer).field("pool"));
        }
        Ok(())
    }
}

impl Generate {
    fn check(&self, prompt: &[Token], model: &Model) -> Result<Sampler> {
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::expected("a text to stop at", "an empty one").field("stop"));
        }
        if self.max_tokens == Some(0) {
            return Err(Error::expected("1 or more", 0).setting("max_tokens"));
        }
        let sampler = Sampler::new(&self.sampler, model, prompt)?;
        Ok(if self.sampled_probs { sampler.remembering() } else { sampler })
    }
}

fn check_probes(probes: &[Probe], n: usize, model: &Model) -> Result<()> {
    let mut last = 0;
    for Probe { after, tokens } in probes {
        if *after <= last || *after > n {
            let expected = format!("a place after {} to {n} tokens", last + 1);
            return Err(Error::expected(expected, after).field("probe"));
        }
        last = *after;
        check_tokens(tokens, model).map_err(|error| error.field("probe"))?;
    }
    match probes.is_empty() {
        true => Err(Error::expected("1 probe or more", 0)),
        false => Ok(()),
    }
}

fn check_tokens(tokens: &[Token], model: &Model) -> Result<()> {
    let n_vocab = model.n_vocab();
    match tokens.iter().find(|&&token| !usize::try_from(token).is_ok_and(|token| token < n_vocab)) {
        Some(token) => Err(Error::expected(format!("a token below {n_vocab}"), token)),
        None => Ok(()),
    }
}
