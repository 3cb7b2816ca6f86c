//! Whether confidence means what it says: of the choices that are 80 % sure, 80 % should be right.

use serde::Serialize;

use super::stats;

const N_STEPS: usize = 10;

/// Choices by their confidence, in equal steps from 0 to 1; steps without choices are left out.
#[derive(Clone, Debug, Serialize)]
pub struct Reliability {
    /// Choices.
    pub n: usize,
    /// Expected calibration error (Guo et al. 2017): how far confidence and the share of right choices are apart, on
    /// average over the choices.
    pub error: f64,
    /// The steps.
    pub steps: Vec<Step>,
    /// Below this confidence choices are more often wrong than right, so that they are better left to the base model: of
    /// all thresholds the lowest with the most right choices less wrong ones above it.
    pub threshold: f64,
}

/// Choices of about the same confidence.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Where the step begins and ends.
    pub range: (f64, f64),
    /// Choices.
    pub n: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// The share that is right.
    pub right: f64,
    /// Its 95 % interval.
    pub ci95: (f64, f64),
}

impl Reliability {
    /// Of the confidence of each choice, and whether it is right; `None` without choices.
    pub fn new(choices: &[(f64, bool)]) -> Option<Self> {
        let n = choices.len();
        let step_of = |confidence: f64| ((confidence * N_STEPS as f64) as usize).min(N_STEPS - 1);
        let step = |step: usize| {
            let of: Vec<_> = choices.iter().filter(|(confidence, _)| step_of(*confidence) == step).collect();
            let n_right = of.iter().filter(|(_, is_right)| *is_right).count();
            (!of.is_empty()).then(|| Step {
                range: (step as f64 / N_STEPS as f64, (step + 1) as f64 / N_STEPS as f64),
                n: of.len(),
                confidence: of.iter().map(|(confidence, _)| confidence).sum::<f64>() / of.len() as f64,
                right: n_right as f64 / of.len() as f64,
                ci95: stats::wilson(n_right, of.len()),
            })
        };
        let steps: Vec<_> = (0..N_STEPS).filter_map(step).collect();
        let gap = |step: &Step| step.n as f64 * (step.confidence - step.right).abs();
        let error = steps.iter().map(gap).sum::<f64>() / n as f64;
        (n > 0).then(|| Self { n, error, steps, threshold: threshold(choices) })
    }
}

fn threshold(choices: &[(f64, bool)]) -> f64 {
    let mut sorted = choices.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    // From the surest down; what is equally sure stands or falls together.
    let (mut gain, mut best) = (0i64, (i64::MIN, 1.0));
    for (i, &(confidence, is_right)) in sorted.iter().enumerate() {
        gain += if is_right { 1 } else { -1 };
        let is_last = sorted.get(i + 1).is_none_or(|next| next.0 < confidence);
        if is_last && gain >= best.0 {
            best = (gain, confidence);
        }
    }
    match best.1 <= sorted.last().map_or(0.0, |last| last.0) {
        true => 0.0,
        false => best.1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_leaves_out_what_is_more_often_wrong() {
        let of = |choices: &[(f64, bool)]| Reliability::new(choices).unwrap().threshold;
        assert_eq!(of(&[(0.9, true), (0.8, true), (0.5, false), (0.4, true), (0.3, false)]), 0.4);
        assert_eq!(of(&[(0.9, true), (0.5, false), (0.4, true), (0.3, true)]), 0.0);
        assert_eq!(of(&[(0.9, true), (0.5, false), (0.5, true), (0.4, false)]), 0.5);
        assert_eq!(of(&[(0.7, true)]), 0.0);
    }

    #[test]
    fn the_error_is_the_mean_gap() {
        // Ten choices of 95 %, nine of which are right, and ten of 55 %, all right.
        let choices: Vec<_> = (0..20).map(|i| if i < 10 { (0.95, i > 0) } else { (0.55, true) }).collect();
        let found = Reliability::new(&choices).unwrap();
        assert_eq!((found.n, found.steps.len()), (20, 2));
        assert!((found.error - (0.05 + 0.45) / 2.0).abs() < 1e-9, "{}", found.error);
        assert_eq!(found.steps[0].range, (0.5, 0.6));
        assert!((found.steps[1].right - 0.9).abs() < 1e-9);
        assert_eq!(Reliability::new(&[(1.0, true)]).unwrap().error, 0.0);
        assert!(Reliability::new(&[]).is_none());
    }
}
