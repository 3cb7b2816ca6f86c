//! What is trained, and how the multipliers m follow from it. σ is by weight, in the sidecar's order.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use serde::Serialize;

use crate::expert::Multipliers;

/// How m follows from the raw parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Parametrisation {
    /// m itself, from 1.
    Multiplier,
    /// That of the released code: z ~ 0.1 + 0.01·N(0,1), s = sigmoid(z), mᵢ = sᵢ·Σσ/Σ(σ⊙s), so that the sum of
    /// the singular values stays. z is f32 here; the released code rounds it to bf16.
    Reference,
}

impl Parametrisation {
    /// Raw parameters before the first step, for weights with these `sigma`.
    pub fn initial(self, sigma: &[Vec<f32>], seed: u64) -> Multipliers {
        match self {
            Self::Multiplier => Multipliers::filled(sigma.iter().map(Vec::len), 1.0),
            Self::Reference => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let normal = Normal::new(0.1f32, 0.01).unwrap_or_else(|_| unreachable!("0.01 is positive"));
                let mut z = Multipliers::filled(sigma.iter().map(Vec::len), 0.0);
                z.flat_mut().iter_mut().for_each(|z| *z = normal.sample(&mut rng));
                z
            }
        }
    }

    /// m for `raw`.
    pub fn multipliers(self, raw: &Multipliers, sigma: &[Vec<f32>]) -> Multipliers {
        match self {
            Self::Multiplier => raw.clone(),
            Self::Reference => raw.iter().zip(sigma).map(|(z, sigma)| rescaled(z, sigma)).collect(),
        }
    }

    /// dJ/draw from dJ/dm at `raw`.
    pub fn chain(self, raw: &Multipliers, sigma: &[Vec<f32>], gradient: &Multipliers) -> Multipliers {
        match self {
            Self::Multiplier => gradient.clone(),
            Self::Reference => raw
                .iter()
                .zip(sigma)
                .zip(gradient.iter())
                .map(|((z, sigma), gradient)| chain_rescaled(z, sigma, gradient))
                .collect(),
        }
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
