//! How good parameters are on items that it was not trained on, greedily.

use super::policy::{Policy, Wanted};
use crate::error::Result;
use crate::eval::stats;
use crate::expert::Multipliers;
use crate::progress::Interrupt;
use crate::task::Part;

/// Scores of greedy answers with `parameters` to the first `n` validation items.
///
/// # Errors
/// An interrupt, or a failure of the model or of scoring.
pub fn validate(
    parameters: &Multipliers,
    n: usize,
    policy: &mut dyn Policy,
    interrupt: &Interrupt,
) -> Result<Vec<f32>> {
    let n = n.min(policy.n_items(Part::Validation));
    let wanted: Vec<_> = (0..n)
        .map(|item| Wanted { candidate: 0, part: Part::Validation, item, seed: 0, temperature: 0.0 })
        .collect();
    let answers = policy.answer(&[parameters], &wanted, interrupt)?.answers;
    Ok(answers.iter().map(|answer| answer.reward as f32).collect())
}

/// 95 % interval of the mean of `scores`: Wilson's where all are 0 or 1, otherwise the bootstrap from `seed`.
pub fn interval(scores: &[f32], seed: u64) -> (f64, f64) {
    if is_binary(scores) {
        return stats::wilson(scores.iter().filter(|&&score| score == 1.0).count(), scores.len());
    }
    stats::bootstrap(&scores.iter().map(|&score| f64::from(score)).collect::<Vec<_>>(), seed)
}

/// Two-sided p-value of the difference of `after` and `before` on the same items: exact McNemar where all scores
/// are 0 or 1, otherwise sign flips from `seed`. The best of several validations was *chosen* by these items:
/// only test items tell what it is worth.
pub fn p_value(after: &[f32], before: &[f32], seed: u64) -> f64 {
    let differences: Vec<_> =
        after.iter().zip(before).map(|(after, before)| f64::from(after - before)).collect();
    if is_binary(after) && is_binary(before) {
        let count = |sign: f64| differences.iter().filter(|&&difference| difference * sign > 0.0).count();
        return stats::mcnemar(count(1.0), count(-1.0));
    }
    stats::sign_flip(&differences, seed)
}

fn is_binary(scores: &[f32]) -> bool {
    scores.iter().all(|&score| score == 0.0 || score == 1.0)
}
