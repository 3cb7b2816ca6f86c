//! What pass 1 decided, and what it took.

use super::OTHER;
use crate::expert::Mixture;

/// What is less likely has no part in a blend.
const MIN_BLENDED: f64 = 0.01;

/// What pass 1 decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The expert that answers; `None` for the base model.
    pub expert: Option<String>,
    /// The label that was chosen: the name of an expert, or [`OTHER`].
    pub label: String,
    /// Its probability among the labels; of what was written, where an answer in words was read.
    pub confidence: f64,
    /// Label and probability of all labels; empty where an answer in words was read.
    pub probabilities: Vec<(String, f64)>,
    /// Whether the threshold overruled the label.
    pub is_fallback: bool,
}

impl Decision {
    /// The mixture for pass 2 that has the likeliest expert alone.
    pub fn mixture(&self) -> Mixture {
        self.expert.as_ref().map_or_else(Mixture::base, Mixture::single)
    }

    /// The mixture for pass 2 that has all experts, each with its probability as weight α, so that `other` is the base
    /// model's share. The same as [`Self::mixture`] where the threshold overruled the label, or there are no probabilities.
    pub fn blend(&self) -> Mixture {
        if self.is_fallback || self.probabilities.is_empty() {
            return self.mixture();
        }
        let is_heard = |(name, p): &&(String, f64)| name != OTHER && *p >= MIN_BLENDED;
        let heard: Vec<_> = self.probabilities.iter().filter(is_heard).collect();
        let (names, alphas): (Vec<_>, Vec<_>) =
            heard.into_iter().map(|(name, p)| (name.as_str(), *p)).unzip();
        // None is likely, or a name that no mixture can have, which no expert has.
        Mixture::grouped(&names, &alphas).unwrap_or_else(|_| Mixture::base())
    }
}

/// What pass 1 took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Tokens that were computed, read or written.
    pub n_tokens: usize,
    /// Time, in milliseconds.
    pub ms: f64,
}
