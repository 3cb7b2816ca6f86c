//! How long a step may be: so long that it changes the model's answers by no more than a given divergence.
//!
//! Adam moves every parameter by about the rate, whether its gradient is signal or noise. What a rate does to a model
//! depends on the model: how many parameters it has, and how much each of them says. So the step that the optimiser
//! proposes is shortened until KL(π_before ‖ π_after), in nats per token, measured on answers of this very step, is within
//! the limit (Schulman et al. 2015, TRPO, with the optimiser's direction in place of the natural gradient). Where gold answers
//! are learnt from, what their tokens' ln p changes by is measured in its place.

use crate::error::Result;

/// From a divergence of so many times the limit on, a step is measured again where it is to end. Below, the square law says
/// enough, and where the policy reads the answers, what a quantized model rounds would be in the way: its divergence at short
/// steps is that of the rounding.
const FAR: f64 = 100.0;
/// Most measurements of a step.
const MAX_MEASUREMENTS: usize = 5;
/// What a step is shortened to whose divergence is not a number.
const RETREAT: f64 = 0.1;

/// How much of a proposed step is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fraction {
    /// From 0 to 1; 0 where no length that was tried was anywhere near the limit.
    pub share: f64,
    /// KL(π_before ‖ π_after) of this share, nats per token: as it was measured, or as it follows from a longer one.
    pub kl: f64,
}

/// The largest fraction of a step whose divergence, as `kl_at` measures it, is about `limit` or less. The divergence grows
/// with the square of the length.
///
/// # Errors
/// Those of `kl_at`.
pub fn fraction(limit: f64, mut kl_at: impl FnMut(f64) -> Result<f64>) -> Result<Fraction> {
    let mut share = 1.0;
    for _ in 0..MAX_MEASUREMENTS {
        let kl = kl_at(share)?;
        if kl <= limit {
            return Ok(Fraction { share, kl });
        }
        share *= if kl.is_finite() { (limit / kl).sqrt() } else { RETREAT };
        if kl <= FAR * limit {
            return Ok(Fraction { share, kl: limit });
        }
    }
    Ok(Fraction { share: 0.0, kl: 0.0 })
}

/// KL(π_before ‖ π_after) per token, from ln p of tokens that `before` drew: the mean of r − 1 − ln r, with
/// r = π_after/π_before. It has the same mean as −ln r, is never negative, and varies much less (Schulman 2020, k₃).
pub fn divergence(before: &[f64], after: &[f64]) -> f64 {
    let of = |(before, after): (&f64, &f64)| {
        let ln_r = after - before;
        ln_r.exp_m1() - ln_r
    };
    before.iter().zip(after).map(of).sum::<f64>() / before.len().max(1) as f64
}

/// How far tokens that nobody drew, those of gold answers, are from what they were: the mean of ½·(ln r)². For drawn ones it
/// is their divergence too, for short steps (Schulman 2020, k₂). [`divergence`] would take a gold token that becomes e times as
/// likely for worse than one that becomes e times less likely, and one that was hardly possible for a leap.
pub fn distance(before: &[f64], after: &[f64]) -> f64 {
    let of = |(before, after): (&f64, &f64)| 0.5 * (after - before).powi(2);
    before.iter().zip(after).map(of).sum::<f64>() / before.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_within_the_limit_stays_whole() {
        let found = fraction(0.1, |share| Ok(0.09 * share * share)).unwrap();
        assert_eq!(found, Fraction { share: 1.0, kl: 0.09 });
    }

    #[test]
    fn a_longer_one_is_shortened_to_the_limit() {
        for kl in [0.5, 20.0, 1e6] {
            let found = fraction(0.1, |share| Ok(kl * share * share)).unwrap();
            assert!(
                (found.kl - 0.1).abs() < 1e-9 && (found.share - (0.1 / kl).sqrt()).abs() < 1e-9,
                "{found:?}"
            );
        }
        // Far from the limit the square law may not hold.
        let saturated = |share: f64| Ok((100.0 * share * share).min(20.0));
        let found = fraction(0.1, saturated).unwrap();
        assert!((found.share - (0.001f64).sqrt()).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn what_is_no_number_is_retreated_from() {
        let found = fraction(0.1, |share| Ok(if share > 0.2 { f64::NAN } else { share * share })).unwrap();
        assert!(found.share > 0.0 && found.kl <= 0.1, "{found:?}");
        let none = fraction(0.1, |_| Ok(f64::INFINITY)).unwrap();
        assert_eq!(none, Fraction { share: 0.0, kl: 0.0 });
    }

    /// Against the sum over all tokens, for distributions over four.
    #[test]
    fn the_divergence_of_many_draws_is_that_of_the_distributions() {
        let (before, after) = ([0.4f64, 0.3, 0.2, 0.1], [0.35f64, 0.35, 0.17, 0.13]);
        let exact: f64 = before.iter().zip(after).map(|(p, q)| p * (p / q).ln()).sum();
        // Each token as often as `before` draws it.
        let drawn: Vec<usize> =
            before.iter().enumerate().flat_map(|(i, p)| vec![i; (p * 10.0).round() as usize]).collect();
        let ln = |p: [f64; 4]| drawn.iter().map(|&i| p[i].ln()).collect::<Vec<_>>();
        assert!((divergence(&ln(before), &ln(after)) - exact).abs() < 1e-12);
        assert_eq!(divergence(&ln(before), &ln(before)), 0.0);
        // The distance is the same but for the third power of the step.
        let near = before.map(|p| (p * 50.0 + 0.25) / 51.0);
        let (near, before) = (ln(near), ln(before));
        assert!((distance(&before, &near) / divergence(&before, &near) - 1.0).abs() < 0.03);
        assert_eq!(distance(&before, &before), 0.0);
    }
}
