//! A policy small enough to know its gradient: it answers an item x with 1 or 0, and
//! ln P(1)/P(0) = SLOPE·Σ xᵢ·(mᵢ − 1).

use std::path::Path;

use llama_svf::error::Result;
use llama_svf::expert::Multipliers;
use llama_svf::progress::{Interrupt, Silent};
use llama_svf::resume::Earlier;
use llama_svf::task::Part;
use llama_svf::train::{
    Answer, Answers, Ended, Estimate, Estimator, Folder, Options, Policy, Run, State, Step, Wanted, Weight,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{json, Value};

pub const SLOPE: f64 = 3.0;

/// Reward of an answer to an item, with a number from 0 to 1 that is fixed by the seed of the answer.
pub type Reward = fn(&[f32], i32, f64) -> f64;

#[derive(Clone)]
pub struct Toy {
    pub items: Vec<Vec<f32>>,
    pub prompts: Vec<Vec<i32>>,
    pub reward: Reward,
    /// Calls of `answer` after which it behaves like a user who presses Ctrl-C.
    pub patience: usize,
    /// To be killed in.
    pub delay: std::time::Duration,
}

impl Toy {
    pub fn new(items: Vec<Vec<f32>>, reward: Reward) -> Self {
        let prompts = (0..items.len() as i32).map(|item| vec![item]).collect();
        Self { items, prompts, reward, patience: usize::MAX, delay: std::time::Duration::ZERO }
    }

    /// Two arms: the second one wins 4 times out of 5, the first one once.
    pub fn bandit() -> Self {
        Self::new(vec![vec![-1.0, 1.0]; 8], |_, arm, chance| {
            f64::from(u8::from(chance < if arm == 1 { 0.8 } else { 0.2 }))
        })
    }

    /// Items of `n` random signs; right is the sign of component [`PLANTED`].
    pub fn planted(n: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut sign = || if rng.random::<bool>() { 1.0 } else { -1.0 };
        let items = (0..64).map(|_| (0..n).map(|_| sign()).collect()).collect();
        Self::new(items, |x, token, _| f64::from(u8::from((token == 1) == (x[PLANTED] > 0.0))))
    }

    /// How likely the answer 1 is.
    pub fn p(&self, m: &Multipliers, item: usize) -> f64 {
        probability(&self.items[item], m)
    }

    /// Mean probability of the right answer.
    pub fn success(&self, m: &Multipliers) -> f64 {
        let of = |item: usize| {
            let (p, x) = (self.p(m, item), &self.items[item]);
            // The reward of either answer, at a middling chance.
            p * (self.reward)(x, 1, 0.5) + (1.0 - p) * (self.reward)(x, 0, 0.5)
        };
        (0..self.items.len()).map(of).sum::<f64>() / self.items.len() as f64
    }
}

pub const PLANTED: usize = 3;

fn probability(x: &[f32], m: &Multipliers) -> f64 {
    let sum: f64 = x.iter().zip(m.flat()).map(|(&x, &m)| f64::from(x) * f64::from(m - 1.0)).sum();
    1.0 / (1.0 + (-SLOPE * sum).exp())
}

impl Policy for Toy {
    fn n_items(&self, part: Part) -> usize {
        if part == Part::Test {
            0
        } else {
            self.items.len()
        }
    }

    fn prompt(&self, item: usize) -> &[i32] {
        &self.prompts[item]
    }

    fn max_candidates(&self) -> usize {
        6
    }

    fn answer(
        &mut self,
        candidates: &[&Multipliers],
        wanted: &[Wanted],
        interrupt: &Interrupt,
    ) -> Result<Answers> {
        assert!(candidates.len() <= self.max_candidates());
        std::thread::sleep(self.delay);
        if self.patience == 0 {
            interrupt.raise();
        }
        self.patience = self.patience.saturating_sub(1);
        interrupt.check()?;
        let answer = |wanted: &Wanted| {
            let p = self.p(candidates[wanted.candidate], wanted.item);
            let mut rng = ChaCha8Rng::seed_from_u64(u64::from(wanted.seed));
            let token = match wanted.temperature {
                0.0 => i32::from(p > 0.5),
                _ => i32::from(rng.random::<f64>() < p),
            };
            // Greedy answers are scored on what may be expected of them.
            let chance = if wanted.temperature == 0.0 { 0.5 } else { rng.random() };
            let reward = (self.reward)(&self.items[wanted.item], token, chance);
            Answer { tokens: vec![token], reward, is_cut: false }
        };
        Ok(Answers { answers: wanted.iter().map(answer).collect(), writing: 0.0, scoring: 0.0 })
    }

    fn log_probs(
        &mut self,
        parameters: &Multipliers,
        answers: &[(usize, &[i32])],
        interrupt: &Interrupt,
    ) -> Result<Vec<f64>> {
        interrupt.check()?;
        let of_answer = |&(item, tokens): &(usize, &[i32])| {
            let p = self.p(parameters, item);
            if tokens[0] == 1 {
                p.ln()
            } else {
                (1.0 - p).ln()
            }
        };
        Ok(answers.iter().map(of_answer).collect())
    }
}

/// The gradient of J = mean of A·ln π(y) − λ·KL(π_m ‖ π₁), by hand.
pub struct Exact {
    pub items: Vec<Vec<f32>>,
    /// Calls until it says NaN.
    pub sane: usize,
}

impl Exact {
    pub fn of(toy: &Toy) -> Self {
        Self { items: toy.items.clone(), sane: usize::MAX }
    }
}

impl Estimator for Exact {
    fn estimate(&mut self, step: &Step, _: &mut dyn Policy) -> Result<Estimate> {
        let mut gradient = vec![0.0f64; step.parameters.flat().len()];
        let (mut entropy, mut kl) = (0.0, 0.0);
        let n: usize = step.groups.iter().map(|group| group.rollouts.len()).sum();
        for group in step.groups {
            let x = &self.items[group.prompt[0] as usize];
            let p = probability(x, step.parameters);
            let logit = (p / (1.0 - p)).ln();
            for rollout in &group.rollouts {
                entropy -= (p * p.ln() + (1.0 - p) * (1.0 - p).ln()) / n as f64;
                // π₁ is 1/2 for either answer.
                kl += (p * (2.0 * p).ln() + (1.0 - p) * (2.0 - 2.0 * p).ln()) / n as f64;
                let of_logit = f64::from(rollout.advantage) * (f64::from(rollout.tokens[0]) - p)
                    - f64::from(step.kl) * p * (1.0 - p) * logit;
                for (gradient, &x) in gradient.iter_mut().zip(x) {
                    *gradient += of_logit * SLOPE * f64::from(x) / n as f64;
                }
            }
        }
        if self.sane == 0 {
            gradient[0] = f64::NAN;
        }
        self.sane = self.sane.saturating_sub(1);
        let mut of_m = step.parameters.zeros_like();
        of_m.flat_mut().iter_mut().zip(gradient).for_each(|(to, g)| *to = g as f32);
        Ok(Estimate { gradient: of_m, log_probs: None, entropy: Some(entropy), kl: Some(kl) })
    }

    fn name(&self) -> &'static str {
        "toy"
    }

    fn uses_groups(&self) -> bool {
        true
    }
}

/// Square weights with these ranks, whose σ fall from 4.
pub fn weights(ranks: &[usize]) -> Vec<Weight> {
    let sigma = |rank: usize| (0..rank).map(|i| 4.0 / (i + 1) as f32).collect();
    ranks.iter().map(|&rank| Weight { n_in: rank, n_out: rank, sigma: sigma(rank) }).collect()
}

/// What belongs to a run in the tests.
pub fn settings(options: &Options) -> Value {
    json!({ "task": "toy", "options": options })
}

/// One run of the real loop, in `folder`.
pub fn train(
    folder: &Path,
    earlier: Earlier,
    options: &Options,
    weights: &[Weight],
    policy: &mut dyn Policy,
    estimator: &mut dyn Estimator,
) -> Result<(Ended, State)> {
    let mut folder = Folder::of(&folder.join("toy.expert.gguf"));
    folder.check(earlier)?;
    let settings = settings(options);
    let (log, state) = folder.open(earlier, options, &settings, weights)?;
    let interrupt = Interrupt::new();
    let run = Run {
        options,
        settings: &settings,
        weights,
        initial: &options.parametrisation.initial(weights, options.seed),
        policy,
        estimator,
        folder: &folder,
        log,
        progress: &Silent,
        interrupt: &interrupt,
    };
    run.go(state)
}
