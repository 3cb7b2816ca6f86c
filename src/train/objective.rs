//! What a step makes more likely: answers that were rewarded, or the gold ones.

use serde::Serialize;

use super::policy::Answer;
use crate::engine::Token;
use crate::gradient::{Group, Rollout};

/// What is learnt from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// Rewards of the model's own answers (REINFORCE).
    #[default]
    Reward,
    /// The likelihood of the gold answers: the mean of ln p over all their tokens in a step. Every token counts alike, so
    /// that what is climbed is what is shown; nothing is written.
    Likelihood,
}

impl Objective {
    /// Whether it is the default, which settings do not name.
    pub(super) fn is_reward(&self) -> bool {
        *self == Self::Reward
    }
}

/// The gold answer `tokens` as one that the model gave.
pub fn gold(tokens: &[Token]) -> Answer {
    Answer { tokens: tokens.to_vec(), reward: 1.0, is_cut: false }
}

/// The group of the gold answer to one prompt, one of `n_items` of a step whose answers have `n_tokens` tokens together: the
/// mean over answers of advantage·ln p is then the mean of ln p over tokens.
pub fn gold_group(prompt: &[Token], answer: &Answer, n_items: usize, n_tokens: usize) -> Group {
    let advantage = n_items as f32 / n_tokens.max(1) as f32;
    Group { prompt: prompt.to_vec(), rollouts: vec![Rollout { tokens: answer.tokens.clone(), advantage }] }
}
