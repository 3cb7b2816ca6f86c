//! What the probabilities of labels mean, learnt from questions whose labels are known.
//!
//! Labels are as likely as the model likes their words, whatever is asked (Zhao et al. 2021). So ln p of each gets a bias, and
//! all of them one slope: p′ ∝ exp(slope · ln p + bias), the likeliest on the known questions (vector scaling of Guo et
//! al. 2017, with one slope because these questions are few), drawn a little towards slope 1 and bias 0.

/// How strongly slope and biases are drawn to where they begin.
const PULL: f64 = 0.01;
/// Steps of gradient descent, of at most this length; the loss is convex.
const N_STEPS: usize = 4000;
const RATE: f64 = 0.02;
/// What is less likely than this says nothing more.
const MIN_LN_P: f64 = -15.0;

/// Turns probabilities of labels into better ones.
#[derive(Clone, Debug)]
pub struct Calibration {
    slope: f64,
    biases: Vec<f64>,
}

impl Calibration {
    /// Learns from probabilities of the labels, each with the number of the right one; `None` where a label has fewer than
    /// two.
    pub fn new(known: &[(Vec<f64>, usize)]) -> Option<Self> {
        let n_labels = known.first()?.0.len();
        let n_of = |label: usize| known.iter().filter(|(_, right)| *right == label).count();
        if (0..n_labels).any(|label| n_of(label) < 2) {
            return None;
        }
        let mut calibration = Self { slope: 1.0, biases: vec![0.0; n_labels] };
        // Each label counts as much, whatever it has of questions.
        let weight: Vec<f64> = (0..n_labels).map(|label| 1.0 / (n_of(label) * n_labels) as f64).collect();
        for _ in 0..N_STEPS {
            let mut of_slope = PULL * (calibration.slope - 1.0);
            let mut of_biases: Vec<_> = calibration.biases.iter().map(|bias| PULL * bias).collect();
            for (p, right) in known {
                let found = calibration.probabilities(p);
                for (label, found) in found.into_iter().enumerate() {
                    let gradient = weight[*right] * (found - f64::from(label == *right));
                    of_biases[label] += gradient;
                    of_slope += gradient * ln(p[label]);
                }
            }
            calibration.slope = (calibration.slope - RATE * of_slope).max(0.0);
            calibration
                .biases
                .iter_mut()
                .zip(of_biases)
                .for_each(|(bias, gradient)| *bias -= RATE * gradient);
        }
        Some(calibration)
    }

    /// Better probabilities than `p`.
    pub fn probabilities(&self, p: &[f64]) -> Vec<f64> {
        let odds: Vec<_> = p.iter().zip(&self.biases).map(|(&p, bias)| self.slope * ln(p) + bias).collect();
        let max = odds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<_> = odds.into_iter().map(|odds| (odds - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }
}

fn ln(p: f64) -> f64 {
    p.ln().max(MIN_LN_P)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities that a model gives which likes the first label `liking` times as much.
    fn biased(right: usize, sure: f64, liking: f64) -> Vec<f64> {
        let mut p: Vec<_> =
            (0..3).map(|label| if label == right { sure } else { (1.0 - sure) / 2.0 }).collect();
        p[0] *= liking;
        let sum: f64 = p.iter().sum();
        p.into_iter().map(|p| p / sum).collect()
    }

    #[test]
    fn a_liking_for_a_label_is_found_and_taken_out() {
        let known: Vec<_> =
            (0..18).map(|i| (biased(i % 3, 0.5 + 0.02 * (i / 3) as f64, 20.0), i % 3)).collect();
        assert!(known.iter().all(|(p, _)| p[0] > p[1].max(p[2])), "it always says the first");
        let calibration = Calibration::new(&known).unwrap();
        for right in 0..3 {
            let p = calibration.probabilities(&biased(right, 0.55, 20.0));
            assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-9 && p.iter().all(|p| p.is_finite()));
            assert!((0..3).all(|label| label == right || p[right] > p[label]), "{right}: {p:?}");
        }
    }

    #[test]
    fn what_says_nothing_is_not_trusted() {
        // The right label is as likely as any.
        let known: Vec<_> = (0..30).map(|i| (biased((i / 3) % 3, 0.99, 1.0), i % 3)).collect();
        let p = Calibration::new(&known).unwrap().probabilities(&biased(1, 0.99, 1.0));
        assert!(p.iter().all(|p| (p - 1.0 / 3.0).abs() < 0.1), "{p:?}");
    }

    #[test]
    fn a_label_without_questions_cannot_be_calibrated() {
        assert!(Calibration::new(&[]).is_none());
        assert!(Calibration::new(&[(vec![0.5, 0.5], 0), (vec![0.5, 0.5], 0), (vec![0.5, 0.5], 1)]).is_none());
        let impossible = [(vec![1.0, 0.0], 0), (vec![1.0, 0.0], 0), (vec![0.0, 1.0], 1), (vec![0.0, 1.0], 1)];
        let p = Calibration::new(&impossible).unwrap().probabilities(&[1.0, 0.0]);
        assert!(p[0] > 0.9 && p.iter().all(|p| p.is_finite()), "{p:?}");
    }
}
