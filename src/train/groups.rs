//! From rewards to advantages: how much better than expected each answer was.

use serde::Serialize;

use super::policy::Answer;
use crate::engine::Token;
use crate::gradient::{Group, Rollout};

/// What an answer's reward is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// The mean of the other answers to the same prompt (Kool et al. 2019): unbiased, needs 2 or more.
    LeaveOneOut,
    /// Nothing; the reward itself, from −1 (wrong) to 1 (right), as in the released code and the paper.
    Signed,
}

impl Baseline {
    /// Advantages of the answers to one prompt with these rewards, from 0 to 1.
    pub fn advantages(self, rewards: &[f64]) -> Vec<f32> {
        match self {
            Self::Signed => rewards.iter().map(|reward| (2.0 * reward - 1.0) as f32).collect(),
            // Rounding must not make a signal of equal rewards.
            Self::LeaveOneOut if is_flat(rewards) => vec![0.0; rewards.len()],
            Self::LeaveOneOut => {
                let (sum, others) = (rewards.iter().sum::<f64>(), rewards.len() as f64 - 1.0);
                rewards.iter().map(|reward| (reward - (sum - reward) / others) as f32).collect()
            }
        }
    }

    /// Whether these rewards, of `samples` answers to each prompt in turn, have nothing to teach.
    pub fn is_flat(self, rewards: &[f64], samples: usize) -> bool {
        match self {
            Self::Signed => is_flat(rewards),
            Self::LeaveOneOut => rewards.chunks(samples).all(is_flat),
        }
    }

    /// The group of the answers to one prompt.
    pub fn group(self, prompt: &[Token], answers: &[Answer]) -> Group {
        let rewards: Vec<_> = answers.iter().map(|answer| answer.reward).collect();
        let rollouts = answers
            .iter()
            .zip(self.advantages(&rewards))
            .map(|(answer, advantage)| Rollout { tokens: answer.tokens.clone(), advantage })
            .collect();
        Group { prompt: prompt.to_vec(), rollouts }
    }
}

/// Whether all rewards are equal, so that nothing can be learnt from them.
pub fn is_flat(rewards: &[f64]) -> bool {
    rewards.windows(2).all(|pair| pair[0] == pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advantages_by_hand() {
        let close = |found: &[f32], expected: &[f32]| {
            assert_eq!(found.len(), expected.len());
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} {expected:?}");
        };
        close(&Baseline::LeaveOneOut.advantages(&[1.0, 0.0, 0.0]), &[1.0, -0.5, -0.5]);
        close(&Baseline::LeaveOneOut.advantages(&[1.0, 1.0, 0.0, 0.5]), &[0.5, 0.5, -5.0 / 6.0, -1.0 / 6.0]);
        assert_eq!(Baseline::LeaveOneOut.advantages(&[0.1; 7]), [0.0; 7]);
        assert_eq!(Baseline::LeaveOneOut.advantages(&[1.0]), [0.0]);
        close(&Baseline::Signed.advantages(&[1.0, 0.0, 0.5]), &[1.0, -1.0, 0.0]);
    }
}
