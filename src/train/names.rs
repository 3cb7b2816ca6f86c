//! What can be chosen by name: the estimator, and what rewards answers.

use std::sync::Arc;

use serde::Serialize;

use super::estimator::Estimator;
use super::evolution::Evolution;
use super::exact::Exact;
use super::layers::Layers;
use crate::engine::{AdaptedModel, Form, LoraModel};
use crate::error::{Error, Result};

/// Where gradients come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EstimatorName {
    /// [`Exact`], or [`Evolution`] for a model that it is not described for.
    #[default]
    Auto,
    /// [`Exact`], or an error.
    Exact,
    /// [`Evolution`], for every architecture.
    Evolution,
}

/// What rewards train answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardName {
    /// The task.
    #[default]
    Task,
    /// A coin; see [`super::RandomReward`].
    Random,
}

impl EstimatorName {
    /// The estimator for `adapted`, and why it is the fallback, if it is.
    ///
    /// # Errors
    /// [`Self::Exact`], and the model is not described; see [`Exact::new`].
    pub fn open(
        self,
        adapted: &Arc<AdaptedModel>,
        form: Form,
        n_threads: u32,
        layers: Option<Layers>,
    ) -> Result<(Box<dyn Estimator>, Option<Error>)> {
        let evolution = || Box::new(Evolution::default());
        if self == Self::Evolution {
            return Ok((evolution(), None));
        }
        match Exact::new(adapted, form, n_threads as usize, layers) {
            Ok(exact) => Ok((Box::new(exact), None)),
            Err(error) if self == Self::Auto => Ok((evolution(), Some(error))),
            Err(error) => Err(error),
        }
    }

    /// The estimator for the A and B of `lora`: the exact gradient, or an error.
    ///
    /// # Errors
    /// [`Self::Evolution`], or the model is not described; see [`Exact::of_lora`].
    pub fn open_for_lora(self, lora: &LoraModel, n_threads: u32) -> Result<Box<dyn Estimator>> {
        if self == Self::Evolution {
            let problem = "a LoRA has too many parameters to estimate their gradient from rewards alone";
            return Err(Error::invalid(problem)
                .setting("estimator")
                .hint("train the multipliers of an expert, which are few enough"));
        }
        match Exact::of_lora(lora, n_threads as usize) {
            Ok(exact) => Ok(Box::new(exact)),
            Err(reason) => Err(Error::invalid("a LoRA needs an exact gradient, and this model has none")
                .hint(format!("there is no exact gradient: {reason}"))),
        }
    }
}
