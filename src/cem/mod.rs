//! The cross-entropy method over mixture weights α, as Transformer² uses it for few-shot adaptation (arXiv
//! 2501.06252, section 3.2, strategy C; details follow the released code).
//!
//! [`Cem::ask`] gives a population, [`Cem::tell`] takes its scores, and the two take turns. A candidate holds K
//! weights for each of G groups of layers: every coordinate is drawn from N(mean, std) and clamped to
//! [0, 1]. The first candidate of a population is the *incumbent*, the best one so far; before anything was
//! scored it is the initial mean. The elites, which the next mean and std are of, are the best of the population
//! by score alone, and of equal scores those that come first. The incumbent is the candidate with the best score,
//! and of equal scores the one with the best tie-breaker; it is what is deployed, not the mean.
//!
//! So a search whose candidates all score alike, as they do where nobody answers anything yet, walks at random. With
//! [`Ties::Gold`], which is not the released code's, tie-breakers say something then, and elites go by them too.
//!
//! There is no floor under std: where all elites agree on a coordinate, it stays.

mod weights;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use weights::normalised;

/// What decides between equal scores; it is [`Score::tie`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ties {
    /// The released code's: how likely a candidate's own correct answers are to it, and for the incumbent only. A
    /// candidate without correct answers has nothing to say.
    Own,
    /// How likely the gold answers are, for the incumbent and for the elites.
    Gold,
}

/// How a search runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Candidates of a generation, the incumbent included.
    pub population: usize,
    /// Candidates that the next mean and std are of, 2 or more.
    pub elites: usize,
    /// Generations.
    pub generations: usize,
    /// Standard deviation of every coordinate in the first generation.
    pub std: f64,
    /// What decides between equal scores.
    pub ties: Ties,
    /// Seed of the samples.
    pub seed: u64,
}

impl Settings {
    /// The released code's settings: 32 candidates, 6 elites, std 0.5. The paper searches up to 100
    /// generations, the released script 50.
    pub fn reference() -> Self {
        Self { population: 32, elites: 6, generations: 50, std: 0.5, ties: Ties::Own, seed: 0 }
    }

    /// The paper's light variant: 10 generations (and 3 shots), 3 % of the evaluations. With so few shots most scores
    /// are equal, so ties are broken by the gold answers, which is our own.
    pub fn light() -> Self {
        Self { generations: 10, ties: Ties::Gold, ..Self::reference() }
    }

    fn check(&self) -> Result<()> {
        if self.elites < 2 {
            return Err(Error::expected("2 or more", self.elites)
                .setting("elites")
                .hint("a spread cannot be estimated from one"));
        }
        if self.population <= self.elites {
            return Err(Error::expected(format!("more than the {} elites", self.elites), self.population)
                .setting("population"));
        }
        if self.generations == 0 {
            return Err(Error::expected("1 or more", 0).setting("generations"));
        }
        if !(self.std > 0.0 && self.std.is_finite()) {
            return Err(Error::expected("a spread above 0", self.std).setting("std"));
        }
        Ok(())
    }
}

/// What a candidate is worth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The objective; larger is better.
    pub value: f64,
    /// Which of equal ones is better, larger again: the mean token log-likelihood of the answers that [`Ties`] names.
    /// `None` where there are none, which loses to any number.
    pub tie: Option<f64>,
}

impl Score {
    /// Whether it is better, by value and then by tie-breaker. An equal score is not.
    pub fn beats(&self, other: &Self) -> bool {
        let ties = (self.tie.unwrap_or(f64::NEG_INFINITY), other.tie.unwrap_or(f64::NEG_INFINITY));
        self.value > other.value || self.value == other.value && ties.0 > ties.1
    }
}

/// The best candidate so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incumbent {
    /// Its weights as sampled, K for each group in turn, before they are normalised.
    pub alphas: Vec<f64>,
    /// What it scored.
    pub score: Score,
    /// The generation that found it, from 0.
    pub generation: usize,
}

/// A search in progress. It can be stored between generations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cem {
    settings: Settings,
    /// K.
    n_experts: usize,
    mean: Vec<f64>,
    std: Vec<f64>,
    generation: usize,
    incumbent: Option<Incumbent>,
}

impl Cem {
    /// A search for `n_experts` weights in each of `n_groups` groups of layers, from the mean 1/K.
    ///
    /// # Errors
    /// Settings out of range, no experts or no groups.
    pub fn new(n_experts: usize, n_groups: usize, settings: Settings) -> Result<Self> {
        settings.check()?;
        if n_experts == 0 {
            return Err(Error::expected("1 expert or more", 0));
        }
        if n_groups == 0 {
            return Err(Error::expected("1 or more", 0).field("groups"));
        }
        let n = n_experts * n_groups;
        let std = vec![settings.std; n];
        Ok(Self {
            settings,
            n_experts,
            mean: vec![1.0 / n_experts as f64; n],
            std,
            generation: 0,
            incumbent: None,
        })
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Weights per group.
    pub fn n_experts(&self) -> usize {
        self.n_experts
    }

    /// Generations that were told.
    pub fn generation(&self) -> usize {
        self.generation
    }

    /// Whether all generations were told.
    pub fn is_done(&self) -> bool {
        self.generation >= self.settings.generations
    }

    /// Mean of the distribution that samples come from.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Its standard deviation.
    pub fn std(&self) -> &[f64] {
        &self.std
    }

    /// The best candidate so far; `None` before the first generation was told.
    pub fn incumbent(&self) -> Option<&Incumbent> {
        self.incumbent.as_ref()
    }

    /// The population to score next, `[population][K·G]`; equal however often it is asked for. No candidate has
    /// a group whose weights are all 0: such a sample is drawn again.
    pub fn ask(&self) -> Vec<Vec<f64>> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.settings.seed);
        // Each generation has random numbers of its own, so that a stored search goes on as it would have.
        rng.set_stream(self.generation as u64);
        let first = self.incumbent.as_ref().map_or(&self.mean, |incumbent| &incumbent.alphas);
        let samples = (1..self.settings.population).map(|_| self.sample(&mut rng));
        std::iter::once(first.clone()).chain(samples).collect()
    }

    fn sample(&self, rng: &mut ChaCha8Rng) -> Vec<f64> {
        let mut alphas = Vec::with_capacity(self.mean.len());
        for (mean, std) in self.mean.chunks(self.n_experts).zip(self.std.chunks(self.n_experts)) {
            alphas.extend(weights::sample(mean, std, rng, |rng| StandardNormal.sample(rng)));
        }
        alphas
    }

    /// Takes the scores of the population that [`Self::ask`] gave, and goes on to the next generation.
    ///
    /// # Errors
    /// Not one score for each candidate, or NaN.
    pub fn tell(&mut self, scores: &[Score]) -> Result<()> {
        let population = self.ask();
        if scores.len() != population.len() {
            return Err(Error::expected(format!("{} scores", population.len()), scores.len()));
        }
        let is_nan = |score: &Score| score.value.is_nan() || score.tie.is_some_and(f64::is_nan);
        if let Some(at) = scores.iter().position(is_nan) {
            return Err(Error::engine("its score is NaN").field(format!("candidate {at}")));
        }
        for (alphas, &score) in population.iter().zip(scores) {
            if self.incumbent.as_ref().is_none_or(|incumbent| score.beats(&incumbent.score)) {
                let generation = self.generation;
                self.incumbent = Some(Incumbent { alphas: alphas.clone(), score, generation });
            }
        }
        let elites: Vec<_> = elites(scores, self.settings.elites, self.settings.ties)
            .into_iter()
            .map(|i| &population[i])
            .collect();
        for (i, (mean, std)) in self.mean.iter_mut().zip(&mut self.std).enumerate() {
            (*mean, *std) = mean_and_std(elites.iter().map(|alphas| alphas[i]));
        }
        self.generation += 1;
        Ok(())
    }
}

/// Indices of the `n` best scores by value, best first; of equal values the first ones with [`Ties::Own`], and those
/// with the best tie-breakers with [`Ties::Gold`].
pub fn elites(scores: &[Score], n: usize, ties: Ties) -> Vec<usize> {
    let tie = |i: usize| match ties {
        Ties::Own => 0.0,
        Ties::Gold => scores[i].tie.unwrap_or(f64::NEG_INFINITY),
    };
    let mut order: Vec<_> = (0..scores.len()).collect();
    // The sort is stable.
    order.sort_by(|&a, &b| {
        scores[b].value.total_cmp(&scores[a].value).then_with(|| tie(b).total_cmp(&tie(a)))
    });
    order.truncate(n);
    order
}

/// Mean and unbiased standard deviation of two values or more.
fn mean_and_std(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    (mean, variance.sqrt())
}
