//! The exact gradient, for the architectures that it is described for.

use std::sync::Arc;

use super::estimator::{Estimate, Estimator, Step};
use super::layers::Layers;
use super::policy::Policy;
use crate::engine::{AdaptedModel, Form};
use crate::error::Result;
use crate::gradient::PolicyGradient;

/// Differentiates the answers that were given; see [`crate::gradient`].
pub struct Exact(PolicyGradient);

impl Exact {
    /// # Errors
    /// The model is not described (see [`PolicyGradient::new`]), or none of `layers` is adapted.
    pub fn new(
        adapted: &Arc<AdaptedModel>,
        form: Form,
        n_threads: usize,
        layers: Option<Layers>,
    ) -> Result<Self> {
        let gradient = PolicyGradient::new(adapted, form, n_threads)?;
        match layers {
            Some(layers) => gradient.with_layers(layers.range()).map(Self),
            None => Ok(Self(gradient)),
        }
    }
}

impl Estimator for Exact {
    fn estimate(&mut self, step: &Step, _: &mut dyn Policy) -> Result<Estimate> {
        let found = self.0.estimate(step.m, step.groups, step.kl, step.interrupt)?;
        Ok(Estimate { gradient: found.of_m, entropy: Some(found.entropy), kl: Some(found.kl) })
    }

    fn name(&self) -> &'static str {
        "exact"
    }

    fn uses_groups(&self) -> bool {
        true
    }
}
