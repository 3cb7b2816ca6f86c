//! Replies to prompts, one after the other, with a mixture that stays until it is changed.

use std::time::Duration;

use super::ctrl_c;
use crate::dispatch::{Adaptive, Cost, Decision, Question};
use crate::engine::scheduler::{Completion, Ended, Event, Generate, Outcome, Probe, Usage};
use crate::engine::{Request, SamplerOptions, Scheduler, Thinking, Ticket, Token};
use crate::error::{Error, Result};
use crate::expert::Mixture;

/// Who writes.
pub enum Engine {
    /// The mixture that was chosen by hand.
    Plain(Scheduler),
    /// The model chooses for each prompt, until a mixture is chosen by hand.
    Adaptive(Box<Adaptive>),
}

impl Engine {
    pub fn scheduler(&self) -> &Scheduler {
        match self {
            Self::Plain(scheduler) => scheduler,
            Self::Adaptive(adaptive) => adaptive.scheduler(),
        }
    }
}

/// What came of a prompt.
pub struct Reply {
    pub text: String,
    pub n_generated: usize,
    pub ended: Ended,
    pub usage: Usage,
    /// What the model chose, where it was to.
    pub pass1: Option<Pass1>,
}

/// Pass 1 of one reply.
pub struct Pass1 {
    pub strategy: &'static str,
    pub decision: Decision,
    pub cost: Cost,
}

impl Reply {
    pub fn prompt_ms(&self) -> f64 {
        1e3 * (self.usage.waiting + self.usage.reading).as_secs_f64()
    }

    pub fn generate_ms(&self) -> f64 {
        1e3 * self.usage.writing.as_secs_f64()
    }

    /// Milliseconds of reading and writing.
    pub fn ms(&self) -> f64 {
        self.prompt_ms() + self.generate_ms()
    }

    pub fn tokens_per_second(&self) -> Option<f64> {
        (self.usage.n_decoded > 0).then(|| 1e3 * self.usage.n_decoded as f64 / self.generate_ms())
    }
}

/// A prompt, as text and as the model reads it.
pub struct Prompt<'a> {
    /// What pass 1 looks at.
    pub question: &'a str,
    pub tokens: Vec<Token>,
    pub thinking: Option<Thinking>,
}

/// What writes replies.
pub struct Replies {
    engine: Engine,
    sampler: SamplerOptions,
    /// Most tokens of a reply; `None` for no limit.
    limit: Option<usize>,
    /// Most tokens of prompt and reply.
    n_ctx: usize,
    mixture: Mixture,
    is_adaptive: bool,
    /// Replies that were begun.
    n_begun: u32,
}

impl Replies {
    /// Replies of the base model, or of what the model chooses; `room` tokens of a sequence's context are for pass 1 only.
    pub fn new(engine: Engine, sampler: SamplerOptions, limit: Option<usize>, room: usize) -> Self {
        Self {
            n_ctx: engine.scheduler().n_ctx_seq().saturating_sub(room),
            is_adaptive: matches!(engine, Engine::Adaptive(_)),
            engine,
            sampler,
            limit,
            mixture: Mixture::base(),
            n_begun: 0,
        }
    }

    pub fn scheduler(&self) -> &Scheduler {
        self.engine.scheduler()
    }

    /// The mixture in use.
    pub fn mixture(&self) -> &Mixture {
        &self.mixture
    }

    /// Whether the model chooses its mixture.
    pub fn is_adaptive(&self) -> bool {
        self.is_adaptive
    }

    /// Changes the mixture, which stays from now on. What was read with another one is read again.
    pub fn use_mixture(&mut self, mixture: Mixture) -> Result<()> {
        if mixture.weights().next().is_some() {
            self.scheduler().experts()?.resolve(&mixture)?;
        }
        self.mixture = mixture;
        self.is_adaptive = false;
        Ok(())
    }

    /// Continues `prompt`, handing out text as it comes. Ctrl-C ends the reply.
    pub fn reply(&mut self, prompt: Prompt, sink: impl FnMut(&str) -> Result<()>) -> Result<Reply> {
        let room = self.room(&prompt)?;
        let (pass1, outcome) = self.outcome(prompt, 0, sink)?;
        Ok(match outcome {
            Outcome::Scores(_) | Outcome::Pooled(_) => Reply {
                text: String::new(),
                n_generated: 0,
                ended: Ended::Length,
                usage: outcome.usage(),
                pass1,
            },
            Outcome::Completion(Completion { text, tokens, ended, usage, .. }) => Reply {
                text,
                // The token that ends a reply says nothing.
                n_generated: tokens.len() - usize::from(ended == Ended::End),
                ended: match ended {
                    Ended::Length if self.limit.is_none_or(|limit| limit > room) => Ended::Context,
                    ended => ended,
                },
                usage,
                pass1,
            },
        })
    }

    /// How many tokens can be written after `prompt`: the last one is not decoded, and so needs no place.
    fn room(&self, prompt: &Prompt) -> Result<usize> {
        let (n, n_ctx) = (prompt.tokens.len(), self.n_ctx);
        if n == 0 {
            return Err(Error::invalid("the prompt is empty")
                .setting("prompt")
                .hint("give the model a word to begin with"));
        }
        if n >= n_ctx {
            let problem = format!("the prompt has {n} tokens, the context {n_ctx}");
            return Err(Error::too_large(problem)
                .field("--ctx-size")
                .hint("use a larger -c or a shorter prompt"));
        }
        Ok(n_ctx - n + 1)
    }

    /// Both passes, or the one; with ln p of the `n_top` most likely tokens at each place.
    pub(super) fn outcome(
        &mut self,
        prompt: Prompt,
        n_top: usize,
        mut sink: impl FnMut(&str) -> Result<()>,
    ) -> Result<(Option<Pass1>, Outcome)> {
        let room = self.room(&prompt)?;
        let Prompt { question, tokens, thinking } = prompt;
        let mut pass1 = None;
        if let (Engine::Adaptive(adaptive), true) = (&self.engine, self.is_adaptive) {
            let asked = Question { text: question, prompt: Some(&tokens) };
            let (mixture, decision, cost) = adaptive.choose(asked)?;
            let strategy = adaptive.dispatcher().options().strategy.name();
            pass1 = Some(Pass1 { strategy, decision, cost });
            self.mixture = mixture;
        }
        let max_tokens = self.limit.map_or(room, |limit| limit.min(room));
        // Replies to one prompt differ within a chat, and are the same in the next.
        let seed = self.sampler.seed.wrapping_add(self.n_begun);
        self.n_begun += 1;
        let request = match max_tokens {
            // Nothing is to be written: the prompt is read.
            0 => {
                let probe = Probe { after: tokens.len(), tokens: Vec::new() };
                Request::score(tokens, self.mixture.clone(), vec![probe])
            }
            _ => {
                let how = Generate {
                    sampler: SamplerOptions { seed, ..self.sampler.clone() },
                    max_tokens: Some(max_tokens),
                    n_top,
                    thinking,
                    ..Generate::default()
                };
                Request::generate(tokens, self.mixture.clone(), how)
            }
        };
        let outcome = follow(self.scheduler().submit(request)?, &mut sink)?;
        Ok((pass1, outcome))
    }
}

/// How long text may wait to be shown. Who waits for each token has to be woken for it, and that takes a core from those who
/// write; of a small model, as long as the token itself.
const PAUSE: Duration = Duration::from_millis(1);

/// Hands out the text of a request until it ends.
fn follow(mut ticket: Ticket, sink: &mut impl FnMut(&str) -> Result<()>) -> Result<Outcome> {
    let mut is_cancelled = false;
    loop {
        if ctrl_c::was_pressed() && !is_cancelled {
            is_cancelled = true;
            ticket.cancel();
        }
        match ticket.poll(Duration::ZERO)? {
            None => std::thread::sleep(PAUSE),
            Some(Event::Piece(piece)) => sink(&piece.text)?,
            Some(Event::Reading(_)) => {}
            Some(Event::Done(outcome)) => return Ok(outcome),
        }
    }
}
