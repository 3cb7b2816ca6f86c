//! What is trained, and how what the model computes with follows from it: the multipliers m, or the A and B of a LoRA.
//! Everything is by weight, in the sidecar's order.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};
use serde::Serialize;

use super::draws;
use crate::expert::Multipliers;
use crate::sidecar::AdaptedWeight;

/// A frozen weight, as far as what is trained beside it depends on it.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Length of x.
    pub n_in: usize,
    /// Length of y.
    pub n_out: usize,
    /// Singular values.
    pub sigma: Vec<f32>,
}

impl From<&AdaptedWeight> for Weight {
    fn from(weight: &AdaptedWeight) -> Self {
        Self { n_in: weight.n_in, n_out: weight.n_out, sigma: weight.sigma.clone() }
    }
}

/// How m follows from the raw parameters, or that these are a LoRA's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Parametrisation {
    /// m itself, from 1.
    Multiplier,
    /// That of the released code: z ~ 0.1 + 0.01·N(0,1), s = sigmoid(z), mᵢ = sᵢ·Σσ/Σ(σ⊙s), so that the sum of
    /// the singular values stays. z is f32 here; the released code rounds it to bf16.
    Reference,
    /// A `[rank, n_in]` and B `[n_out, rank]` of y = W·x + B·A·x themselves, row by row, one after the other: A from the
    /// uniform distribution up to ±1/√n_in, as peft begins (Kaiming's with a = √5), and B from 0.
    Lora {
        /// Rows of A.
        rank: usize,
    },
}

impl Parametrisation {
    /// How many parameters each of `weights` has.
    pub fn lengths(self, weights: &[Weight]) -> Vec<usize> {
        let of = |weight: &Weight| match self {
            Self::Multiplier | Self::Reference => weight.sigma.len(),
            Self::Lora { rank } => rank * (weight.n_in + weight.n_out),
        };
        weights.iter().map(of).collect()
    }

    /// Raw parameters before the first step.
    pub fn initial(self, weights: &[Weight], seed: u64) -> Multipliers {
        match self {
            Self::Multiplier => Multipliers::filled(self.lengths(weights), 1.0),
            Self::Lora { rank } => {
                let mut rng = ChaCha8Rng::seed_from_u64(draws::seed(seed, "lora", &[]));
                let mut raw = Multipliers::filled(self.lengths(weights), 0.0);
                for (parameters, Weight { n_in, .. }) in raw.iter_mut().zip(weights) {
                    let bound = 1.0 / (*n_in as f32).sqrt();
                    let uniform = Uniform::new_inclusive(-bound, bound)
                        .unwrap_or_else(|_| unreachable!("the bound is a positive number"));
                    parameters[..rank * n_in].iter_mut().for_each(|a| *a = uniform.sample(&mut rng));
                }
                raw
            }
            Self::Reference => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let normal = Normal::new(0.1f32, 0.01).unwrap_or_else(|_| unreachable!("0.01 is positive"));
                let mut z = Multipliers::filled(self.lengths(weights), 0.0);
                z.flat_mut().iter_mut().for_each(|z| *z = normal.sample(&mut rng));
                z
            }
        }
    }

    /// What the model computes with for `raw`: m, or A and B.
    pub fn parameters(self, raw: &Multipliers, weights: &[Weight]) -> Multipliers {
        match self {
            Self::Multiplier | Self::Lora { .. } => raw.clone(),
            Self::Reference => {
                raw.iter().zip(weights).map(|(z, weight)| rescaled(z, &weight.sigma)).collect()
            }
        }
    }

    /// dJ/draw from dJ/dm, or from dJ/dA and dJ/dB, at `raw`.
    pub fn chain(self, raw: &Multipliers, weights: &[Weight], gradient: &Multipliers) -> Multipliers {
        match self {
            Self::Multiplier | Self::Lora { .. } => gradient.clone(),
            Self::Reference => raw
                .iter()
                .zip(weights)
                .zip(gradient.iter())
                .map(|((z, weight), gradient)| chain_rescaled(z, &weight.sigma, gradient))
                .collect(),
        }
    }

    /// How far `parameters` are from where the model is the base model: the mean of |m − 1|, or of what A and B have
    /// moved from `initial`.
    pub fn moved(self, parameters: &Multipliers, initial: &Multipliers) -> f64 {
        let n = parameters.flat().len().max(1) as f64;
        match self {
            Self::Multiplier | Self::Reference => {
                parameters.flat().iter().map(|m| f64::from((m - 1.0).abs())).sum::<f64>() / n
            }
            Self::Lora { .. } => {
                let moved = |(now, before): (&f32, &f32)| f64::from((now - before).abs());
                parameters.flat().iter().zip(initial.flat()).map(moved).sum::<f64>() / n
            }
        }
    }

    /// Whether a LoRA is trained.
    pub fn is_lora(self) -> bool {
        matches!(self, Self::Lora { .. })
    }
}

fn sigmoid(z: f32) -> f64 {
    1.0 / (1.0 + (-f64::from(z)).exp())
}

/// Σσ and Σσ⊙s. A weight of zeros stays one whatever m is; 1 and 1 keep it free of NaN.
fn sums(s: &[f64], sigma: &[f32]) -> (f64, f64) {
    let total: f64 = sigma.iter().map(|&x| f64::from(x)).sum();
    let scaled: f64 = sigma.iter().zip(s).map(|(&x, s)| f64::from(x) * s).sum();
    if total > 0.0 {
        (total, scaled)
    } else {
        (1.0, 1.0)
    }
}

fn rescaled(z: &[f32], sigma: &[f32]) -> Vec<f32> {
    let s: Vec<_> = z.iter().map(|&z| sigmoid(z)).collect();
    let (total, scaled) = sums(&s, sigma);
    s.iter().map(|s| (s * total / scaled) as f32).collect()
}

/// With c = Σσ/Σσs: ∂mⱼ/∂sᵢ = c·δᵢⱼ − sⱼ·c·σᵢ/Σσs, so dJ/dsᵢ = c·(gᵢ − σᵢ·⟨g,s⟩/Σσs), and ds/dz = s·(1−s).
fn chain_rescaled(z: &[f32], sigma: &[f32], gradient: &[f32]) -> Vec<f32> {
    let s: Vec<_> = z.iter().map(|&z| sigmoid(z)).collect();
    let (total, scaled) = sums(&s, sigma);
    let shared: f64 = gradient.iter().zip(&s).map(|(&g, s)| f64::from(g) * s).sum::<f64>() / scaled;
    let of = |((s, &sigma), &g): ((&f64, &f32), &f32)| {
        (total / scaled * (f64::from(g) - f64::from(sigma) * shared) * s * (1.0 - s)) as f32
    };
    s.iter().zip(sigma).zip(gradient).map(of).collect()
}
