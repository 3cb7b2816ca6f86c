//! The exact gradient, for the architectures that it is described for.

use std::sync::Arc;

use super::estimator::{Estimate, Estimator, Step};
use super::layers::Layers;
use super::policy::Policy;
use crate::engine::{AdaptedModel, Form, LoraModel, Token};
use crate::error::Result;
use crate::expert::Multipliers;
use crate::gradient::{Budget, Group, PolicyGradient, Rollout};
use crate::progress::Interrupt;

/// Differentiates the answers that were given; see [`crate::gradient`].
pub struct Exact {
    gradient: PolicyGradient,
    budget: Budget,
}

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
        let gradient = match layers {
            Some(layers) => gradient.with_layers(layers.range())?,
            None => gradient,
        };
        Ok(Self { gradient, budget: Budget::default() })
    }

    /// The gradient by the A and B of `lora`.
    ///
    /// # Errors
    /// The model is not described; see [`PolicyGradient::new`].
    pub fn of_lora(lora: &LoraModel, n_threads: usize) -> Result<Self> {
        Ok(Self { gradient: PolicyGradient::of_lora(lora, n_threads)?, budget: Budget::default() })
    }
}

impl Estimator for Exact {
    fn estimate(&mut self, step: &Step, _: &mut dyn Policy) -> Result<Estimate> {
        let plan = self.gradient.plan(step.groups, step.kl, self.budget)?;
        let found =
            self.gradient.estimate_by(&plan, step.parameters, step.groups, step.kl, step.interrupt)?;
        Ok(Estimate {
            gradient: found.of_parameters,
            log_probs: Some(found.log_probs),
            entropy: Some(found.entropy),
            kl: Some(found.kl),
        })
    }

    fn log_probs(
        &mut self,
        parameters: &Multipliers,
        answers: &[(usize, &[Token])],
        policy: &mut dyn Policy,
        interrupt: &Interrupt,
    ) -> Result<Vec<f64>> {
        let rollout = |&(_, tokens): &(usize, &[Token])| Rollout { tokens: tokens.to_vec(), advantage: 0.0 };
        let of_item = |answers: &[(usize, &[Token])]| Group {
            prompt: policy.prompt(answers[0].0).to_vec(),
            rollouts: answers.iter().map(rollout).collect(),
        };
        let groups: Vec<_> = answers.chunk_by(|a, b| a.0 == b.0).map(of_item).collect();
        let plan = self.gradient.plan(&groups, 0.0, self.budget)?;
        self.gradient.log_probs(&plan, parameters, &groups, interrupt)
    }

    fn bound(&mut self, budget: Budget, largest: &[Group], kl: f32) -> Result<Option<String>> {
        let plan = self.gradient.plan(largest, kl, budget)?;
        self.budget = budget;
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        let seconds = plan.operations / self.gradient.operations_per_second();
        let again = match self.gradient.computed_again(&plan) {
            0 => String::new(),
            n => format!("; {n} layers are computed twice, which more memory would spare"),
        };
        Ok(Some(format!(
            "the gradient of a step takes up to {} MiB beside {} MiB for all else, and at least {seconds:.1} s where \
             answers are as long as they may be{again}",
            mib(plan.bytes),
            mib(budget.taken)
        )))
    }

    fn name(&self) -> &'static str {
        "exact"
    }

    fn uses_groups(&self) -> bool {
        true
    }
}
