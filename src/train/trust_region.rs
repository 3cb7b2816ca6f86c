//! How long a step may be: so long that it changes the model's answers by no more than a given divergence.
//!
//! Adam moves every parameter by about the rate, whether its gradient is signal or noise. What a rate does to a model
//! depends on the model: how many parameters it has, and how much each of them says. So the step that the optimiser
//! proposes is shortened until KL(π_before ‖ π_after), in nats per token, measured on answers of this very step, is within
//! the limit (Schulman et al. 2015, TRPO, with the optimiser's direction in place of the natural gradient). Where gold answers
//! are learnt from, what their tokens' ln p changes by is measured in its place.

use super::policy::Answer;
use crate::engine::Token;
use crate::error::Result;

/// From a divergence of so many times the limit on, a step is measured again where it is to end. Below, the square law says
/// enough, and where the policy reads the answers, what a quantized model rounds would be in the way: its divergence at short
/// steps is that of the rounding.
const FAR: f64 = 100.0;
/// Most measurements of a step.
const MAX_MEASUREMENTS: usize = 5;
/// What a step is shortened to whose divergence is not a number.
const RETREAT: f64 = 0.1;

/// A step is measured on the answers to one of so many of its items; to so many at least.
const MEASURED: usize = 8;
const MIN_MEASURED: usize = 4;
/// So many tokens are enough: of long answers only some to each item are read again.
const ENOUGH_TOKENS: usize = 512;

/// What a step learns from.
pub struct Answered<'a> {
    /// Its train items.
    pub items: &'a [usize],
    /// `n_answers` to each of them, one item after the other.
    pub answers: &'a [Answer],
    /// Answers to an item.
    pub n_answers: usize,
    /// The items, by their place in `items`, whose answers the step can be measured on; in random order, as those of a step are.
    pub places: Vec<usize>,
    /// ln p of each token of their answers, where it is known.
    pub log_probs: Option<&'a [f64]>,
}

/// What a step is measured on.
pub struct Sample<'a> {
    /// Answers, each with its item.
    pub answers: Vec<(usize, &'a [Token])>,
    /// ln p of each of their tokens, where it is known.
    pub log_probs: Option<Vec<f64>>,
}

impl<'a> Answered<'a> {
    /// The answers to the first items, as many to each as are enough.
    pub fn sample(&self) -> Sample<'a> {
        let of = |&place: &usize| &self.answers[place * self.n_answers..][..self.n_answers];
        let lengths: Vec<_> = self.places.iter().flat_map(of).map(|answer| answer.tokens.len()).collect();
        let (n_items, n_first) = enough(&lengths, self.n_answers);
        let mut sample = Sample { answers: Vec::new(), log_probs: self.log_probs.map(|_| Vec::new()) };
        let mut seen = 0;
        for place in &self.places[..n_items] {
            for (i, Answer { tokens, .. }) in of(place).iter().enumerate() {
                if i < n_first {
                    sample.answers.push((self.items[*place], tokens));
                    let known = self.log_probs.map(|all| &all[seen..seen + tokens.len()]);
                    sample.log_probs.iter_mut().for_each(|of| of.extend(known.into_iter().flatten()));
                }
                seen += tokens.len();
            }
        }
        sample
    }
}

/// To how many items, and how many answers to each, are enough of those that have so many tokens, `n_answers` to one item after the other.
fn enough(lengths: &[usize], n_answers: usize) -> (usize, usize) {
    let n_items = lengths.len() / n_answers;
    let measured = n_items.div_ceil(MEASURED).max(MIN_MEASURED).min(n_items);
    let of_measured = || lengths[..measured * n_answers].chunks(n_answers);
    let tokens = |n: usize| of_measured().flat_map(|of_item| &of_item[..n]).sum::<usize>();
    (measured, (1..n_answers).find(|&n| tokens(n) >= ENOUGH_TOKENS).unwrap_or(n_answers))
}

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
    fn some_answers_are_enough() {
        for (n_items, n_answers, length, expected) in [
            (2, 8, 4, (2, 8)),
            (16, 8, 12, (4, 8)),
            // 4 · 3 · 50 tokens are more than 512, 4 · 2 · 50 are not.
            (16, 8, 50, (4, 3)),
            (64, 8, 12, (8, 6)),
            (32, 8, 1000, (4, 1)),
            // Gold answers.
            (16, 1, 2, (4, 1)),
            (0, 8, 0, (0, 8)),
        ] {
            let lengths = vec![length; n_items * n_answers];
            assert_eq!(enough(&lengths, n_answers), expected, "{n_items} × {n_answers} × {length}");
        }
        let mixed = [600, 1, 1, 300, 1, 1];
        assert_eq!(enough(&mixed, 3), (2, 1));
        assert_eq!(enough(&mixed[1..5], 2), (2, 2));
    }

    #[test]
    fn a_sample_has_the_log_probabilities_of_its_tokens() {
        let answer = |n: usize, first: Token| Answer {
            tokens: (first..).take(n).collect(),
            reward: 0.0,
            is_cut: false,
        };
        // Items 7, 8, 9, whose tokens are numbered through. The answers to 8 say nothing.
        let answers =
            [answer(2, 0), answer(1, 2), answer(1, 90), answer(1, 91), answer(600, 3), answer(2, 603)];
        let log_probs: Vec<_> = (0..605).map(f64::from).collect();
        let of = |log_probs| Answered {
            items: &[7, 8, 9],
            answers: &answers,
            n_answers: 2,
            places: vec![0, 2],
            log_probs,
        };
        let Sample { answers: found, log_probs: known } = of(Some(&log_probs)).sample();
        assert_eq!(found, [(7, &answers[0].tokens[..]), (9, &answers[4].tokens[..])]);
        let expected: Vec<_> =
            found.iter().flat_map(|(_, tokens)| tokens.iter().map(|&token| f64::from(token))).collect();
        assert_eq!(known.unwrap(), expected);
        assert!(of(None).sample().log_probs.is_none());
    }

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
