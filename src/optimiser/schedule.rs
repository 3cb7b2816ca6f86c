//! The rate of learning, by step.

use std::f64::consts::PI;

use serde::Serialize;

/// How the rate changes over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// It stays.
    Constant,
    /// Half a cosine, down to 0 at the end.
    Cosine,
}

/// A rate by step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_by_hand() {
        let cosine = Schedule { peak: 2.0, warmup: 4, steps: 14, shape: Shape::Cosine };
        for (step, rate) in [(0, 0.5), (3, 2.0), (4, 2.0), (9, 1.0), (14, 0.0), (99, 0.0)] {
            assert!((cosine.rate(step) - rate).abs() < 1e-12, "step {step}: {}", cosine.rate(step));
        }
        let constant = Schedule { warmup: 0, shape: Shape::Constant, ..cosine };
        assert_eq!([constant.rate(0), constant.rate(99)], [2.0, 2.0]);
    }
}
