//! What the scores of items say: the interval of one configuration's mean, and two configurations compared.
//!
//! Scores are `binary` where each item has one answer that is right (1) or wrong (0).

use super::stats;

/// Share of answers that were cut off from which scores say more about the limit of tokens than about the answers.
pub const MANY_CUT: f64 = 0.2;

/// Two configurations on the same items.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Difference of the accuracies.
    pub delta: f64,
    /// 95 % interval of `delta` by the bootstrap over items.
    pub delta_ci95: (f64, f64),
    /// Two-sided: how likely so large a difference is, were both equally good.
    pub p_value: f64,
    /// The test: exact McNemar where scores are binary, random sign flips otherwise.
    pub test: &'static str,
    /// Indices of the items with a higher score than the baseline's.
    pub gained: Vec<usize>,
    /// Indices of the items with a lower score.
    pub lost: Vec<usize>,
}

/// 95 % interval of the mean score: Wilson's of binary scores, the bootstrap's from `seed` otherwise.
pub fn interval(scores: &[f64], is_binary: bool, seed: u64) -> (f64, f64) {
    match is_binary {
        true => stats::wilson(scores.iter().filter(|&&score| score >= 1.0).count(), scores.len()),
        false => stats::bootstrap(scores, seed),
    }
}

/// The scores `new` against those of a baseline on the same items; resampling starts from `seed`.
pub fn compare(new: &[f64], baseline: &[f64], is_binary: bool, seed: u64) -> Comparison {
    let differences: Vec<_> = new.iter().zip(baseline).map(|(new, old)| new - old).collect();
    let items_where = |changed: fn(f64) -> bool| -> Vec<usize> {
        let changed = differences.iter().enumerate().filter(|(_, &difference)| changed(difference));
        changed.map(|(i, _)| i).collect()
    };
    let (gained, lost) = (items_where(|d| d > 0.0), items_where(|d| d < 0.0));
    let (p_value, test) = match is_binary {
        true => (stats::mcnemar(gained.len(), lost.len()), "exact McNemar"),
        false => (stats::sign_flip(&differences, seed), "sign flips"),
    };
    Comparison {
        delta: differences.iter().sum::<f64>() / differences.len().max(1) as f64,
        delta_ci95: match differences.is_empty() {
            true => (-1.0, 1.0),
            false => stats::bootstrap(&differences, seed),
        },
        p_value,
        test,
        gained,
        lost,
    }
}
