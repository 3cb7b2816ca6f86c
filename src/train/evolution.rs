//! The estimator that needs rewards only.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::Serialize;

use super::draws;
use super::estimator::{Estimate, Estimator, Step};
use super::policy::{Policy, Wanted};
use crate::error::Result;
use crate::expert::Multipliers;
use crate::task::Part;

/// Antithetic evolution strategies in parameter space (Salimans et al. 2017): pairs m ± width·ε, all in one
/// batch with a slot each; the gradient is the mean of ε·(reward⁺ − reward⁻)/(2·width).
///
/// The fallback for architectures without an exact gradient: with N pairs in d dimensions its cosine with the
/// exact one is about √(N/(N+d)), so d has to be small.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evolution {
    /// Pairs per step.
    pub pairs: usize,
    /// Standard deviation of the perturbation of each multiplier.
    pub width: f32,
    /// What moves together.
    pub grouping: Grouping,
}

/// Which multipliers of a weight move together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    /// None: each has its own ε.
    Single,
    /// Bands of 1, 2, 4, 8, … components: the largest singular values matter most, and d becomes about log₂ r.
    Bands,
}

impl Default for Evolution {
    fn default() -> Self {
        Self { pairs: 16, width: 0.1, grouping: Grouping::Bands }
    }
}

impl Grouping {
    /// Lengths of the groups of a weight with `n` components, in order.
    fn lengths(self, n: usize) -> Vec<usize> {
        let mut lengths = Vec::new();
        let (mut left, mut next) = (n, 1);
        while left > 0 {
            // What is left joins the last group, if it would make less than a whole one.
            let length = if left < 2 * next { left } else { next };
            lengths.push(length);
            left -= length;
            next = match self {
                Self::Single => 1,
                Self::Bands => 2 * next,
            };
        }
        lengths
    }

    /// What moves together, of every weight in turn.
    fn groups(self, m: &mut Multipliers) -> impl Iterator<Item = &mut [f32]> {
        m.iter_mut().flat_map(move |mut rest| {
            self.lengths(rest.len()).into_iter().map(move |length| {
                let (group, after) = std::mem::take(&mut rest).split_at_mut(length);
                rest = after;
                group
            })
        })
    }

    /// ε for every component, equal within a group.
    fn draw(self, m: &Multipliers, rng: &mut ChaCha8Rng) -> Multipliers {
        let mut noise = m.zeros_like();
        for group in self.groups(&mut noise) {
            group.fill(StandardNormal.sample(rng));
        }
        noise
    }
}

impl Estimator for Evolution {
    fn estimate(&mut self, step: &Step, policy: &mut dyn Policy) -> Result<Estimate> {
        let mut rng = ChaCha8Rng::seed_from_u64(draws::seed(step.seed, "noise", &[]));
        let mut gradient = step.parameters.zeros_like();
        // Two candidates per pair, as many pairs at once as there are slots.
        let per_batch = (policy.max_candidates() / 2).max(1);
        let mut left = self.pairs;
        while left > 0 {
            let n = left.min(per_batch);
            left -= n;
            let noises: Vec<_> = (0..n).map(|_| self.grouping.draw(step.parameters, &mut rng)).collect();
            let rewards = self.rewards(step, &noises, policy)?;
            for (noise, pair) in noises.iter().zip(rewards.chunks(2)) {
                let scale = (pair[0] - pair[1]) / (2.0 * f64::from(self.width) * self.pairs as f64);
                for (gradient, noise) in gradient.flat_mut().iter_mut().zip(noise.flat()) {
                    *gradient += (scale * f64::from(*noise)) as f32;
                }
            }
        }
        // What was measured is the slope of a whole group; each of its components has an equal share.
        for group in self.grouping.groups(&mut gradient) {
            let length = group.len() as f32;
            group.iter_mut().for_each(|g| *g /= length);
        }
        Ok(Estimate { gradient, log_probs: None, entropy: None, kl: None })
    }

    fn name(&self) -> &'static str {
        "evolution"
    }

    fn uses_groups(&self) -> bool {
        false
    }
}

impl Evolution {
    /// Mean rewards of m + width·ε and m − width·ε, for each of `noises` in turn.
    fn rewards(&self, step: &Step, noises: &[Multipliers], policy: &mut dyn Policy) -> Result<Vec<f64>> {
        let moved = |noise: &Multipliers, width: f32| {
            let mut m = step.parameters.clone();
            m.flat_mut().iter_mut().zip(noise.flat()).for_each(|(m, epsilon)| *m += width * epsilon);
            m
        };
        let candidates: Vec<_> =
            noises.iter().flat_map(|noise| [moved(noise, self.width), moved(noise, -self.width)]).collect();
        let views: Vec<_> = candidates.iter().collect();
        // All sample with the same seeds, so that they differ in m alone.
        let wanted: Vec<_> = (0..candidates.len())
            .flat_map(|candidate| step.items.iter().map(move |&item| (candidate, item)))
            .map(|(candidate, item)| Wanted {
                candidate,
                part: Part::Train,
                item,
                seed: draws::seed(step.seed, "evolution", &[item as u64]) as u32,
                temperature: step.temperature,
            })
            .collect();
        let mut rewards = vec![0.0; candidates.len()];
        let answers = policy.answer(&views, &wanted, step.interrupt)?.answers;
        for (wanted, answer) in wanted.iter().zip(answers) {
            rewards[wanted.candidate] += answer.reward / step.items.len() as f64;
        }
        Ok(rewards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_double() {
        assert_eq!(Grouping::Bands.lengths(12), [1, 2, 4, 5]);
        assert_eq!(Grouping::Bands.lengths(16), [1, 2, 4, 9]);
        assert_eq!(Grouping::Single.lengths(3), [1, 1, 1]);
        assert!(Grouping::Bands.lengths(0).is_empty());
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let noise = Grouping::Bands.draw(&Multipliers::filled([3, 1], 1.0), &mut rng);
        let noise = noise.flat();
        assert!(noise[1] == noise[2] && noise[0] != noise[1] && noise[3] != noise[0]);
    }
}
