//! Where gradients come from.

use super::policy::Policy;
use crate::engine::Token;
use crate::error::Result;
use crate::expert::Multipliers;
use crate::gradient::{Budget, Group};
use crate::progress::Interrupt;

/// A gradient, and what was seen on the way.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// dJ/dm, or dJ/dA and dJ/dB.
    pub gradient: Multipliers,
    /// ln p, at temperature 1, of each token of the answers of [`Step::groups`], one after the other, where it is known.
    pub log_probs: Option<Vec<f64>>,
    /// Nats per token, mean, where it is known.
    pub entropy: Option<f64>,
    /// Nats per token, mean, of KL(π ‖ π_base), where it is known.
    pub kl: Option<f64>,
}

/// What a gradient is wanted of.
pub struct Step<'a> {
    /// Multipliers, or A and B.
    pub parameters: &'a Multipliers,
    /// What was written with them. Without a KL penalty, groups whose advantages are all 0 are left out.
    pub groups: &'a [Group],
    /// The train items of this step.
    pub items: &'a [usize],
    /// Temperature of sampling.
    pub temperature: f32,
    /// Coefficient λ of the KL penalty.
    pub kl: f32,
    /// Another one in every step.
    pub seed: u64,
    /// Raised by Ctrl-C.
    pub interrupt: &'a Interrupt,
}

/// Estimates gradients.
pub trait Estimator {
    /// The gradient at `step.parameters`. May ask `policy` for more answers.
    ///
    /// # Errors
    /// An interrupt, or a failure of the model or of scoring.
    fn estimate(&mut self, step: &Step, policy: &mut dyn Policy) -> Result<Estimate>;

    /// ln p, at temperature 1, of each token of `answers` to train items, one answer after the other. Who can compute it
    /// without what a quantized model rounds does; else `policy` reads them.
    ///
    /// # Errors
    /// An interrupt, or a failure of the model.
    fn log_probs(
        &mut self,
        parameters: &Multipliers,
        answers: &[(usize, &[Token])],
        policy: &mut dyn Policy,
        interrupt: &Interrupt,
    ) -> Result<Vec<f64>> {
        policy.log_probs(parameters, answers, interrupt)
    }

    /// Keeps to `budget` from now on, in steps with groups up to those of `largest`; a line that says what such a step
    /// takes, where that is known.
    ///
    /// # Errors
    /// It cannot.
    fn bound(&mut self, budget: Budget, largest: &[Group], kl: f32) -> Result<Option<String>> {
        let _ = (budget, largest, kl);
        Ok(None)
    }

    /// What to call it in logs and reports.
    fn name(&self) -> &'static str;

    /// Whether it works on [`Step::groups`], so that without a group there is nothing to do; then it can honour
    /// a KL penalty too. Otherwise it asks for answers of its own.
    fn uses_groups(&self) -> bool;
}
