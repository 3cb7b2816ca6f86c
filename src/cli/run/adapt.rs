//! `run --adapt`: pass 1 in a sequence of its own, so that a conversation is read again only when its mixture
//! changes.

use std::fmt::Write as _;

use super::generate::{Generator, BASE_SLOT, CLASSIFIER_SLOT};
use crate::dispatch::{Cost, Decision, Dispatcher, Strategy};
use crate::engine::{Reader, Token};
use crate::error::Result;

/// The sequence of pass 1.
const SEQUENCE: u32 = 1;

/// A dispatcher at work.
pub struct Adapter {
    dispatcher: Dispatcher,
    reader: Reader,
    slot: u32,
    strength: f32,
}

/// Pass 1 of one reply.
pub struct Pass1 {
    pub strategy: &'static str,
    pub decision: Decision,
    pub cost: Cost,
}

impl Adapter {
    /// Prepares pass 1; `strength` scales the mixture of pass 2.
    pub fn new(dispatcher: Dispatcher, generator: &mut Generator, strength: f32) -> Result<Self> {
        let slot = match dispatcher.options().strategy {
            Strategy::Prompt => BASE_SLOT,
            Strategy::Classifier => {
                generator.session.set_mixture(CLASSIFIER_SLOT, &dispatcher.mixture())?;
                CLASSIFIER_SLOT
            }
        };
        Ok(Self { dispatcher, reader: Reader::new(SEQUENCE), slot, strength })
    }

    /// Decides `question` and gives `generator` the mixture for it.
    pub fn adapt(&mut self, generator: &mut Generator, question: &str) -> Result<Pass1> {
        let session = &mut generator.session;
        let (decision, cost) = self.dispatcher.decide(session, &mut self.reader, self.slot, question)?;
        let mixture = decision.mixture().strength(self.strength)?;
        // What was read with the mixture in use stays.
        if mixture != *generator.mixture() {
            generator.use_mixture(mixture)?;
        }
        Ok(Pass1 { strategy: self.dispatcher.options().strategy.name(), decision, cost })
    }

    /// Lets pass 2 of `prompt` begin with what pass 1 has read, where the weights are the same.
    pub fn lend(&self, generator: &mut Generator, prompt: &[Token]) -> Result<()> {
        generator.borrow(&self.reader, prompt)
    }
}

impl Pass1 {
    /// Time of pass 1 as a share of both passes.
    pub fn share(&self, pass2_ms: f64) -> f64 {
        self.cost.ms / (self.cost.ms + pass2_ms)
    }

    /// One line about it.
    pub fn describe(&self, pass2_ms: f64) -> String {
        let Decision { label, confidence, probabilities, is_fallback, .. } = &self.decision;
        let mut line = format!("{}: {label}, {:.1} % sure", self.strategy, 100.0 * confidence);
        if *is_fallback {
            line += ", less than --threshold: the base model answers";
        }
        let mut others: Vec<_> = probabilities.iter().filter(|(other, _)| other != label).collect();
        others.sort_by(|a, b| b.1.total_cmp(&a.1));
        if !others.is_empty() {
            let others: Vec<_> =
                others.iter().map(|(name, p)| format!("{name} {:.1} %", 100.0 * p)).collect();
            // Writing to a string cannot fail.
            let _ = write!(line, " ({})", others.join(", "));
        }
        let Cost { n_tokens, ms } = self.cost;
        format!(
            "[{line}; pass 1: {n_tokens} tokens in {ms:.0} ms, {:.0} % of both]",
            100.0 * self.share(pass2_ms)
        )
    }
}
