//! Where rollouts come from: a model and a task, or anything else that answers items with a reward.

use crate::engine::Token;
use crate::error::Result;
use crate::expert::Multipliers;
use crate::progress::Interrupt;
use crate::task::Part;

/// One answer that is wanted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// Which of the candidates answers.
    pub candidate: usize,
    /// Train or validation.
    pub part: Part,
    /// Which item of the part.
    pub item: usize,
    /// Seed of sampling.
    pub seed: u32,
    /// Temperature; 0 always takes the most likely token.
    pub temperature: f32,
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What was written, with the token that ended it.
    pub tokens: Vec<Token>,
    /// From 0 to 1.
    pub reward: f64,
    /// Whether the limit of tokens ended it.
    pub is_cut: bool,
}

/// Answers, and where the time went.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// In the order in which they were wanted.
    pub answers: Vec<Answer>,
    /// Seconds of writing them.
    pub writing: f64,
    /// Seconds of scoring them.
    pub scoring: f64,
}

/// What is trained: it answers items, and its answers depend on parameters, the multipliers m or A and B.
pub trait Policy {
    /// Items of a part.
    fn n_items(&self, part: Part) -> usize;

    /// What an answer to `item` of the train part goes on from.
    fn prompt(&self, item: usize) -> &[Token];

    /// The gold answer to `item` of the train part, with the token that ends it, where it is known.
    fn gold(&self, item: usize) -> Option<&[Token]> {
        let _ = item;
        None
    }

    /// Most candidates in one call of [`Self::answer`].
    fn max_candidates(&self) -> usize;

    /// One answer for each of `wanted`; equal calls have equal results.
    ///
    /// # Errors
    /// An interrupt, or a failure of the model or of scoring.
    fn answer(
        &mut self,
        candidates: &[&Multipliers],
        wanted: &[Wanted],
        interrupt: &Interrupt,
    ) -> Result<Answers>;

    /// ln p, at temperature 1, of each token of `answers` to train items, one answer after the other.
    ///
    /// # Errors
    /// An interrupt, or a failure of the model.
    fn log_probs(
        &mut self,
        parameters: &Multipliers,
        answers: &[(usize, &[Token])],
        interrupt: &Interrupt,
    ) -> Result<Vec<f64>>;
}
