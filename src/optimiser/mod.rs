//! Pure mathematics of gradient ascent: AdamW, the schedule of its learning rate, clipping.
//!
//! Everything here *maximises*: a positive gradient moves a parameter up.

use std::f64::consts::PI;

/// Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), ascending:
///
/// ```text
/// a ← β₁·a + (1−β₁)·g      v ← β₂·v + (1−β₂)·g²
/// x ← x + lr·( â/(√v̂ + ε) − decay·(x − x₀) ),   â = a/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ)
/// ```
///
/// Decay pulls towards the initial value x₀, not towards 0: m = 1 is the base model, m = 0 has no weight.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamW {
    /// Hyper-parameters.
    pub options: AdamWOptions,
    /// Updates so far, t.
    pub t: u64,
    /// Mean of gradients, by parameter.
    pub first: Vec<f32>,
    /// Mean of squared gradients, by parameter.
    pub second: Vec<f32>,
}

/// Hyper-parameters of [`AdamW`] other than its rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWOptions {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// What keeps the denominator from 0.
    pub epsilon: f64,
    /// Pull towards the initial value, per unit of rate.
    pub decay: f64,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.0 }
    }
}

impl AdamW {
    /// The state before the first update of `n` parameters.
    pub fn new(n: usize, options: AdamWOptions) -> Self {
        Self { options, t: 0, first: vec![0.0; n], second: vec![0.0; n] }
    }

    /// One update of `x` `[n]` along `gradient` `[n]`, with `initial` `[n]` as x₀.
    pub fn step(&mut self, x: &mut [f32], initial: &[f32], gradient: &[f32], rate: f64) {
        assert!([initial.len(), gradient.len(), self.first.len()].iter().all(|&n| n == x.len()));
        let AdamWOptions { beta1, beta2, epsilon, decay } = self.options;
        self.t += 1;
        let exponent = i32::try_from(self.t).unwrap_or(i32::MAX);
        let (correct1, correct2) = (1.0 - beta1.powi(exponent), 1.0 - beta2.powi(exponent));
        for (i, x) in x.iter_mut().enumerate() {
            let (g, old) = (f64::from(gradient[i]), f64::from(*x));
            let first = beta1 * f64::from(self.first[i]) + (1.0 - beta1) * g;
            let second = beta2 * f64::from(self.second[i]) + (1.0 - beta2) * g * g;
            let direction = first / correct1 / ((second / correct2).sqrt() + epsilon);
            *x = (old + rate * (direction - decay * (old - f64::from(initial[i])))) as f32;
            (self.first[i], self.second[i]) = (first as f32, second as f32);
        }
    }
}

/// How the rate changes over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// It stays.
    Constant,
    /// Half a cosine, down to 0 at the end.
    Cosine,
}

/// A rate by step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// Steps over which it rises in a straight line.
    pub warmup: u64,
    /// Steps of the run.
    pub steps: u64,
    /// What happens after the rise.
    pub shape: Shape,
}

impl Schedule {
    /// The rate of step `step`, counted from 0. The first step of a warm-up of w steps has peak/w, step w−1 peak.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        match self.shape {
            Shape::Constant => self.peak,
            Shape::Cosine => {
                let length = self.steps.saturating_sub(self.warmup).max(1) as f64;
                let at = ((step - self.warmup) as f64 / length).min(1.0);
                self.peak * 0.5 * (1.0 + (PI * at).cos())
            }
        }
    }
}

/// Scales `gradient` down to a Euclidean norm of at most `limit`; returns the norm it had.
pub fn clip(gradient: &mut [f32], limit: f64) -> f64 {
    let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
    if norm > limit {
        gradient.iter_mut().for_each(|g| *g = (f64::from(*g) * (limit / norm)) as f32);
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_updates_by_hand() {
        let options = AdamWOptions { decay: 0.1, ..AdamWOptions::default() };
        let mut adam = AdamW::new(1, options);
        let mut x = [2.0];
        adam.step(&mut x, &[1.0], &[0.5], 0.01);
        // The first direction is the sign of the gradient: 2 + 0.01·(1 − 0.1·(2 − 1)).
        assert!((x[0] - 2.009).abs() < 1e-6, "{}", x[0]);
        adam.step(&mut x, &[1.0], &[-1.0], 0.01);
        // a = 0.9·0.05 − 0.1 = −0.055, v = 0.999·0.00025 + 0.001 = 0.00124975.
        let direction = (-0.055 / 0.19) / (0.00124975f64 / 0.001999).sqrt();
        let expected = 2.009 + 0.01 * (direction - 0.1 * 1.009);
        assert!((f64::from(x[0]) - expected).abs() < 1e-6, "{} {expected}", x[0]);
    }

    #[test]
    fn rates_by_hand() {
        let cosine = Schedule { peak: 2.0, warmup: 4, steps: 14, shape: Shape::Cosine };
        for (step, rate) in [(0, 0.5), (3, 2.0), (4, 2.0), (9, 1.0), (14, 0.0), (99, 0.0)] {
            assert!((cosine.rate(step) - rate).abs() < 1e-12, "step {step}: {}", cosine.rate(step));
        }
        let constant = Schedule { warmup: 0, shape: Shape::Constant, ..cosine };
        assert_eq!([constant.rate(0), constant.rate(99)], [2.0, 2.0]);
    }

    #[test]
    fn clipping_keeps_the_direction_and_what_is_small() {
        let mut g = [3.0, -4.0];
        assert_eq!(clip(&mut g, 1.0), 5.0);
        assert!((g[0] - 0.6).abs() < 1e-7 && (g[1] + 0.8).abs() < 1e-7, "{g:?}");
        let mut small = [0.3, 0.4];
        clip(&mut small, 1.0);
        assert_eq!(small, [0.3, 0.4]);
    }
}
