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
        (n > 0).then_some(Self { n, error, steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
