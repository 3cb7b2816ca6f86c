//! What a run is made with, and the sets of defaults.

use serde::Serialize;

use super::groups::Baseline;
use super::layers::Layers;
use super::objective::Objective;
use super::parametrisation::Parametrisation;
use crate::error::{Error, Result};
use crate::optimiser::{AdamWOptions, Schedule, Shape};

/// All that changes what a run learns, but for the policy and the estimator.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Options {
    /// What is learnt from.
    #[serde(skip_serializing_if = "Objective::is_reward")]
    pub objective: Objective,
    /// Prompts per step.
    pub prompts: usize,
    /// Answers to each, where these are rewarded.
    pub samples: usize,
    /// Temperature of sampling. The gradient is that of temperature 1: at another one, answers come from a
    /// distribution that is not quite the one that learns.
    pub temperature: f32,
    /// What rewards are compared with.
    pub baseline: Baseline,
    /// What is trained.
    pub parametrisation: Parametrisation,
    /// The layers that are trained; `None` for all that are adapted.
    pub layers: Option<Layers>,
    /// Rate by step, and how many steps there are.
    pub schedule: Schedule,
    /// Most that a step may change the answers, KL(π_before ‖ π_after) in nats per token, where the rate is at its peak;
    /// with lower rates less, as the square; for gold answers, the mean of ½·(ln r)² over their tokens, with r = π_after/π_before.
    /// Longer steps are shortened. `None` leaves them as the rate has them.
    pub step_kl: Option<f64>,
    /// Longest gradient, of all parameters together.
    pub clip: f64,
    /// The optimiser.
    pub adam: AdamWOptions,
    /// Coefficient λ of −λ·KL(π_m ‖ π_base) per token.
    pub kl: f32,
    /// Seed of everything random.
    pub seed: u64,
    /// Steps between two validations.
    pub validate_every: u64,
    /// Most validation items; the first ones of the part.
    pub validation_items: usize,
    /// Validations without a new best after which the run ends; `None` never ends it.
    pub patience: Option<u64>,
    /// Steps in a row whose rewards have nothing to teach after which the run ends.
    pub flat_steps: u64,
}

impl Default for Options {
    /// Several samples with a leave-one-out baseline.
    fn default() -> Self {
        Self {
            objective: Objective::default(),
            prompts: 32,
            samples: 8,
            temperature: 1.0,
            baseline: Baseline::LeaveOneOut,
            parametrisation: Parametrisation::Multiplier,
            layers: None,
            schedule: Schedule { peak: 1e-2, warmup: 5, steps: 150, shape: Shape::Cosine },
            step_kl: Some(1e-3),
            clip: 1.0,
            adam: AdamWOptions::default(),
            kl: 0.0,
            seed: 0,
            validate_every: 10,
            validation_items: 200,
            patience: None,
            flat_steps: 10,
        }
    }
}

impl Options {
    /// Those of the released code (SakanaAI/self-adaptive-llms, `cfgs/`): one greedy answer to each of 256
    /// prompts, rewards ±1 without a baseline, Adam with a constant 2e-3, and so short a gradient that clipping
    /// normalises it.
    pub fn reference() -> Self {
        let schedule = Schedule { peak: 2e-3, warmup: 0, steps: 200, shape: Shape::Constant };
        Self {
            prompts: 256,
            samples: 1,
            temperature: 0.0,
            baseline: Baseline::Signed,
            parametrisation: Parametrisation::Reference,
            schedule,
            step_kl: None,
            clip: 1e-3,
            seed: 42,
            ..Self::default()
        }
    }

    /// Those for gold answers. Their gradient is less noise than that of rewards, so that a step may change more.
    pub fn likelihood() -> Self {
        Self { objective: Objective::Likelihood, step_kl: Some(2e-2), ..Self::default() }
    }

    /// Answers to each prompt that a step learns from.
    pub fn answers(&self) -> usize {
        match self.objective {
            Objective::Reward => self.samples,
            Objective::Likelihood => 1,
        }
    }

    /// Refuses what cannot be trained with.
    ///
    /// # Errors
    /// The first setting out of range.
    pub fn check(&self) -> Result<()> {
        let counts = [
            ("schedule.steps", self.schedule.steps),
            ("prompts", self.prompts as u64),
            ("samples", self.samples as u64),
            ("validate_every", self.validate_every),
            ("validation_items", self.validation_items as u64),
            ("patience", self.patience.unwrap_or(1)),
        ];
        for (name, value) in counts {
            if value == 0 {
                return Err(Error::expected("1 or more", 0).setting(name));
            }
        }
        let numbers = [
            ("schedule.peak", self.schedule.peak, false),
            ("step_kl", self.step_kl.unwrap_or(1.0), false),
            ("clip", self.clip, false),
            ("adam.decay", self.adam.decay, true),
            ("kl", f64::from(self.kl), true),
            ("temperature", f64::from(self.temperature), true),
        ];
        for (name, value, may_be_0) in numbers {
            if !(value.is_finite() && (value > 0.0 || may_be_0 && value == 0.0)) {
                let expected = if may_be_0 { "a number of 0 or more" } else { "a number above 0" };
                return Err(Error::expected(expected, value).setting(name));
            }
        }
        if self.parametrisation == (Parametrisation::Lora { rank: 0 }) {
            return Err(Error::expected("1 or more", 0).setting("rank"));
        }
        if self.layers.is_some() && self.parametrisation == Parametrisation::Reference {
            return Err(Error::invalid("the parametrisation moves m of every layer from the beginning")
                .setting("layers")
                .hint("train the multipliers themselves, or all layers"));
        }
        if self.objective == Objective::Reward && self.baseline == Baseline::LeaveOneOut {
            if self.samples < 2 {
                return Err(Error::expected("2 or more, which are each other's baseline", self.samples)
                    .setting("samples")
                    .hint("`Options::reference` learns from one answer"));
            }
            if self.temperature == 0.0 {
                return Err(Error::invalid("at temperature 0 all answers to a prompt are equal")
                    .setting("temperature")
                    .hint("use a `temperature` of 1"));
            }
        }
        Ok(())
    }
}
