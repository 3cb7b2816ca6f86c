//! The expert whose questions are nearest to a new one, by what the base model is about to answer.

use super::discriminant::{Discriminant, Samples};
use super::{stance, OTHER};
use crate::engine::{Model, Request, Token};
use crate::error::{Error, Result};
use crate::expert::profile::States;
use crate::expert::Expert;
use crate::resume::Digest;

/// Compares hidden states.
pub(super) struct Nearest {
    layer: u32,
    /// Numbers of a state.
    width: usize,
    discriminant: Discriminant,
    digest: String,
}

/// What is compared of an expert, if its file has it.
pub(super) fn states(expert: &Expert) -> Option<&States> {
    expert.profile.states.as_ref()
}

impl Nearest {
    /// Learns `experts`, the candidates in their order, all with hidden states.
    ///
    /// # Errors
    /// Hidden states of different blocks or lengths.
    pub fn new(experts: &[&Expert]) -> Result<Self> {
        let all: Vec<_> = experts.iter().filter_map(|expert| states(expert)).collect();
        if all.len() < experts.len() {
            return Err(Error::expected("hidden states of each expert", format!("those of {}", all.len())));
        }
        let first = *all.first().ok_or_else(|| Error::expected("1 expert or more", 0))?;
        let (layer, width) = (first.layer, first.own.width());
        let is_like = |states: &States| (states.layer, states.own.width()) == (layer, width);
        if let Some(at) = all.iter().position(|states| !is_like(states)) {
            let expected = format!("hidden states of block {layer}, as those of {}", experts[0].name);
            return Err(Error::expected(expected, format!("block {}", all[at].layer))
                .field(format!("expert {}", experts[at].name))
                .hint("describe it again: `describe`"));
        }
        let mut classes: Vec<Samples> = all.iter().map(|states| states.own.iter().collect()).collect();
        // Every file has states of nobody's questions. Those of one are enough: with more of them than of others' own, what
        // orders around a question do is taken for a sign of nobody's.
        classes.push(first.other.iter().collect());
        let mut digest = Digest::new();
        digest.text("layer", &layer.to_string());
        classes.iter().flatten().for_each(|row| _ = digest.floats("state", row));
        Ok(Self { layer, width, discriminant: Discriminant::new(&classes)?, digest: digest.finish() })
    }

    /// Changes with all that decides.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What is to be found out about the prompt that ends with `n_ending` tokens of the template.
    ///
    /// # Errors
    /// A model with other hidden states.
    pub fn request(&self, model: &Model, prompt: Vec<Token>, n_ending: usize) -> Result<Request> {
        // The last block computes what outputs need, and no more.
        if self.layer + 1 >= model.n_layer() {
            let expected = format!("hidden states of a block before the last of {}", model.n_layer());
            return Err(Error::expected(expected, format!("block {}", self.layer)));
        }
        Ok(stance::request(prompt, self.layer, n_ending))
    }

    /// The probability of each candidate, and of [`OTHER`] as the last, after a question that left the hidden state
    /// `state`.
    ///
    /// # Errors
    /// A state of another length.
    pub fn probabilities(&self, state: &[f32]) -> Result<Vec<f64>> {
        let state = stance::compared(state);
        match state.len() == self.width {
            true => Ok(self.discriminant.probabilities(&state)),
            false => Err(Error::expected(format!("a hidden state of {}", self.width), state.len())
                .field(OTHER)
                .hint("these experts were described for another model")),
        }
    }
}
