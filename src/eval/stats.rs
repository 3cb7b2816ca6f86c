//! How sure a measured accuracy is: intervals for one configuration, paired tests for two on the same items.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The normal distribution's 97.5 % quantile.
const Z: f64 = 1.959_963_984_540_054;

/// Resamples of the bootstrap and sign flips of the permutation test: enough for p-values down to 1e-4.
const ROUNDS: usize = 10_000;

/// 95 % interval of a probability from `right` of `n` trials, by Wilson (1927). It keeps its level for small
/// n and near 0 and 1, where p ± 2 standard errors does not. (0, 1) without trials.
pub fn wilson(right: usize, n: usize) -> (f64, f64) {
    if n == 0 {
        return (0.0, 1.0);
    }
    let (p, n) = (right as f64 / n as f64, n as f64);
    let centre = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    (((centre - half) / scale).max(0.0), ((centre + half) / scale).min(1.0))
}

/// 95 % interval of the mean of `values`, by the percentile bootstrap (Efron 1979) over 10000 resamples from
/// `seed`. For scores that are not just 0 or 1, or are means of several samples.
pub fn bootstrap(values: &[f64], seed: u64) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 1.0);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let n = values.len();
    let mut resample = || (0..n).map(|_| values[rng.random_range(0..n)]).sum::<f64>() / n as f64;
    let mut means: Vec<_> = (0..ROUNDS).map(|_| resample()).collect();
    means.sort_by(f64::total_cmp);
    let outside = ROUNDS / 40;
    (means[outside], means[ROUNDS - 1 - outside])
}

/// Two-sided p-value of McNemar's exact test: `gained` items are right only with the one, `lost` only with
/// the other configuration. Were both equally good, each changed item would go either way like a coin.
pub fn mcnemar(gained: usize, lost: usize) -> f64 {
    let n = gained + lost;
    // ln C(n, i) − n·ln 2, from i − 1 to i.
    let mut term = -(n as f64) * std::f64::consts::LN_2;
    let mut tail = term.exp();
    for i in 1..=gained.min(lost) {
        term += ((n - i + 1) as f64 / i as f64).ln();
        tail += term.exp();
    }
    (2.0 * tail).min(1.0)
}

/// Two-sided p-value of the paired permutation test (Fisher 1935) on per-item differences: how often random
/// signs from `seed` make the sum as far from 0 as it is. Of 10000 draws; the smallest p is 1e-4.
pub fn sign_flip(differences: &[f64], seed: u64) -> f64 {
    let changed: Vec<_> = differences.iter().copied().filter(|&difference| difference != 0.0).collect();
    let magnitude: f64 = changed.iter().map(|difference| difference.abs()).sum();
    // Sums that are equal but for rounding count as equal.
    let observed = changed.iter().sum::<f64>().abs() - 1e-9 * magnitude;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut is_as_far = || {
        let sum: f64 = changed.iter().map(|&value| if rng.random::<bool>() { value } else { -value }).sum();
        sum.abs() >= observed
    };
    let as_far = (0..ROUNDS).filter(|_| is_as_far()).count();
    (as_far + 1) as f64 / (ROUNDS + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(found: f64, expected: f64, tolerance: f64) {
        // Not `>`, which NaN would pass.
        assert!((found - expected).abs() <= tolerance, "{found}, expected {expected}");
    }

    #[test]
    fn wilson_gives_the_published_intervals() {
        // Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I, method 3.
        for (right, n, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let found = wilson(right, n);
            assert_near(found.0, low, 5e-5);
            assert_near(found.1, high, 5e-5);
            // The same from the other side.
            let mirrored = wilson(n - right, n);
            assert_near(mirrored.0, 1.0 - found.1, 1e-12);
            assert_near(mirrored.1, 1.0 - found.0, 1e-12);
        }
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }

    #[test]
    fn mcnemar_gives_the_exact_binomial_tail() {
        // 2·Σ C(n, i)/2ⁿ in rational arithmetic (Python's fractions).
        for (gained, lost, expected) in [
            (0, 0, 1.0),
            (1, 0, 1.0),
            (5, 0, 0.0625),
            (10, 2, 0.038_574_218_75),
            (25, 12, 0.047_031_027_439_516_04),
            (7, 7, 1.0),
            (150, 86, 3.715_936_139_571_442e-5),
            (1200, 900, 6.337_277_315_775_436e-11),
        ] {
            for found in [mcnemar(gained, lost), mcnemar(lost, gained)] {
                assert_near(found / expected, 1.0, 1e-9);
            }
        }
        assert_eq!(mcnemar(100_000, 0), 0.0, "too small for a float");
    }

    #[test]
    fn sign_flips_agree_with_mcnemar_on_items_that_are_right_or_wrong() {
        for (gained, lost) in [(0, 0), (5, 0), (10, 2), (25, 12), (7, 7)] {
            let seed = 5;
            println!("seed {seed}");
            let mut differences = vec![0.0; 50];
            differences.extend(vec![1.0; gained]);
            differences.extend(vec![-1.0; lost]);
            let exact = mcnemar(gained, lost);
            // Four standard errors of a share of ROUNDS draws.
            let tolerance = 4.0 * (exact * (1.0 - exact) / ROUNDS as f64).sqrt() + 1.0 / ROUNDS as f64;
            assert_near(sign_flip(&differences, seed), exact, tolerance);
        }
    }

    #[test]
    fn sign_flips_count_the_assignments_as_enumeration_does() {
        // Of the 16 choices of signs for 0.1, 0.2, 0.3 and 0.4, two have a sum of size 1, and all but two a
        // sum of size 0.2 or more.
        for (differences, expected) in
            [([0.1, 0.2, 0.3, 0.4], 2.0 / 16.0), ([0.1, 0.2, 0.3, -0.4], 14.0 / 16.0)]
        {
            assert_near(sign_flip(&differences, 1), expected, 4.0 * (0.25 / ROUNDS as f64).sqrt());
        }
    }

    #[test]
    fn the_bootstrap_agrees_with_the_normal_interval_of_a_mean() {
        let values: Vec<_> = (0..400).map(|i| f64::from(i % 5) / 4.0).collect();
        // Mean 1/2, variance of the five values 1/8.
        let half = Z * (0.125f64 / 400.0).sqrt();
        let (low, high) = bootstrap(&values, 3);
        // An estimated quantile of 10000 means is off by about 1 % of its distance.
        assert_near(low, 0.5 - half, 0.06 * half);
        assert_near(high, 0.5 + half, 0.06 * half);
        assert_eq!(bootstrap(&values, 3), (low, high), "a seed gives one interval");
        assert_eq!(bootstrap(&[0.25; 9], 3), (0.25, 0.25));
        assert_eq!(bootstrap(&[], 3), (0.0, 1.0));
    }
}
