//! All that a run is at the end of a step. What is random follows from the seed and the step, and so is not here.

use super::options::Options;
use super::parametrisation::Weight;
use crate::expert::Multipliers;
use crate::optimiser::AdamW;

/// A run between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Raw parameters, from which follows what the model computes with.
    pub raw: Multipliers,
    /// The optimiser, over all of `raw` in turn.
    pub adam: AdamW,
    /// Steps in a row until now whose rewards had nothing to teach.
    pub n_flat: u64,
    /// Mean reward of the last step.
    pub flat_reward: f64,
    /// Whether any step had something to teach.
    pub has_learned: bool,
    /// The step before which the last validation was.
    pub validated: Option<u64>,
    /// Validations since the best one.
    pub n_worse: u64,
    /// Validation scores, by item, before the first step.
    pub before: Vec<f32>,
    /// The best on validation.
    pub best: Option<Best>,
    /// Tokens written for training.
    pub tokens: u64,
    /// Seconds of work.
    pub seconds: f64,
}

/// The parameters that did best on validation; of equals, the earliest that were trained at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    /// Steps done then.
    pub step: u64,
    /// Multipliers, or A and B.
    pub parameters: Multipliers,
    /// Validation scores, by item.
    pub scores: Vec<f32>,
}

impl State {
    /// Before the first step, beside `weights`.
    pub fn new(options: &Options, weights: &[Weight]) -> Self {
        let raw = options.parametrisation.initial(weights, options.seed);
        let n = raw.flat().len();
        Self {
            step: 0,
            raw,
            adam: AdamW::new(n, options.adam),
            n_flat: 0,
            flat_reward: 0.0,
            has_learned: false,
            validated: None,
            n_worse: 0,
            before: Vec::new(),
            best: None,
            tokens: 0,
            seconds: 0.0,
        }
    }
}

impl Best {
    /// Mean of the scores.
    pub fn accuracy(&self) -> f64 {
        mean(&self.scores)
    }
}

/// Mean of scores; 0 of none.
pub fn mean(scores: &[f32]) -> f64 {
    scores.iter().map(|&score| f64::from(score)).sum::<f64>() / scores.len().max(1) as f64
}
