//! Where gradients come from: one interface, and the estimator that needs rewards only.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::policy::{Policy, Wanted};
use crate::engine::Token;
use crate::error::Result;
use crate::progress::Interrupt;
use crate::task::Part;

/// One prompt and what was written after it.
#[derive(Clone, Debug)]
pub struct Group {
    /// The prompt.
    pub prompt: Vec<Token>,
    /// Its answers.
    pub rollouts: Vec<Rollout>,
}

/// One answer, and how much better than expected it was.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// With the end token.
    pub tokens: Vec<Token>,
    /// Reward above the baseline.
    pub advantage: f32,
}

/// A gradient, and what was seen on the way.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// dJ/dm by weight.
    pub gradient: Vec<Vec<f32>>,
    /// Nats per token, mean, where it is known.
    pub entropy: Option<f64>,
    /// Nats per token, mean, of KL(π_m ‖ π_base), where it is known.
    pub kl: Option<f64>,
}

/// What a gradient is wanted of.
pub struct Step<'a> {
    /// The multipliers, by weight.
    pub m: &'a [Vec<f32>],
    /// What they wrote; groups in which all rewards are equal are left out where there is no KL penalty.
    pub groups: &'a [Group],
    /// The train items of this step.
    pub items: &'a [usize],
    /// Coefficient λ of the KL penalty.
    pub kl: f32,
    /// Another one in every step.
    pub seed: u64,
    /// Raised by Ctrl-C.
    pub interrupt: &'a Interrupt,
}

/// Estimates dJ/dm.
pub trait Estimator {
    /// The gradient at `step.m`. May ask `policy` for more answers.
    ///
    /// # Errors
    /// An interrupt, or a failure of the model or of scoring.
    fn estimate(&mut self, step: &Step, policy: &mut dyn Policy) -> Result<Estimate>;

    /// What to call it in logs and reports.
    fn name(&self) -> &'static str;

    /// Whether it can honour a KL penalty.
    fn has_kl(&self) -> bool;
}

/// Antithetic evolution strategies in parameter space (Salimans et al. 2017): pairs m ± width·ε, all in one
/// batch with a slot each; the gradient is the mean of ε·(reward⁺ − reward⁻)/(2·width).
///
/// The fallback for architectures without an exact gradient: with N pairs in d dimensions its cosine with the
/// exact one is about √(N/(N+d)).
pub struct Evolution {
    /// Pairs per step.
    pub pairs: usize,
    /// Standard deviation of the perturbation of each multiplier.
    pub width: f32,
}

impl Estimator for Evolution {
    fn estimate(&mut self, step: &Step, policy: &mut dyn Policy) -> Result<Estimate> {
        let mut rng = ChaCha8Rng::seed_from_u64(step.seed);
        let mut gradient: Vec<Vec<f32>> = step.m.iter().map(|m| vec![0.0; m.len()]).collect();
        // Two candidates per pair, as many pairs at once as there are slots.
        let per_batch = (policy.max_candidates() / 2).max(1);
        let mut left = self.pairs;
        while left > 0 {
            let n = left.min(per_batch);
            left -= n;
            let mut draw = || -> Vec<Vec<f32>> {
                let mut of = |m: &Vec<f32>| m.iter().map(|_| StandardNormal.sample(&mut rng)).collect();
                step.m.iter().map(&mut of).collect()
            };
            let noises: Vec<_> = (0..n).map(|_| draw()).collect();
            let moved = |noise: &Vec<Vec<f32>>, width: f32| -> Vec<Vec<f32>> {
                let of = |(m, e): (&Vec<f32>, &Vec<f32>)| m.iter().zip(e).map(|(m, e)| m + width * e).collect();
                step.m.iter().zip(noise).map(of).collect()
            };
            let candidates: Vec<_> =
                noises.iter().flat_map(|e| [moved(e, self.width), moved(e, -self.width)]).collect();
            let views: Vec<&[Vec<f32>]> = candidates.iter().map(Vec::as_slice).collect();
            // Both of a pair sample with the same seeds, so that they differ in m alone.
            let wanted: Vec<_> = (0..2 * n)
                .flat_map(|candidate| step.items.iter().map(move |&item| (candidate, item)))
                .map(|(candidate, item)| Wanted {
                    candidate,
                    part: Part::Train,
                    item,
                    seed: (step.seed as u32) ^ (item as u32).wrapping_mul(0x9e37_79b9),
                    temperature: 1.0,
                })
                .collect();
            let mut rewards = vec![0.0; 2 * n];
            for (wanted, answer) in wanted.iter().zip(policy.answer(&views, &wanted, step.interrupt)?) {
                rewards[wanted.candidate] += answer.reward / step.items.len() as f64;
            }
            for (noise, pair) in noises.iter().zip(rewards.chunks(2)) {
                let scale = (pair[0] - pair[1]) / (2.0 * f64::from(self.width) * self.pairs as f64);
                for (gradient, noise) in gradient.iter_mut().flatten().zip(noise.iter().flatten()) {
                    *gradient += (scale * f64::from(*noise)) as f32;
                }
            }
        }
        Ok(Estimate { gradient, entropy: None, kl: None })
    }

    fn name(&self) -> &'static str {
        "evolution"
    }

    fn has_kl(&self) -> bool {
        false
    }
}
