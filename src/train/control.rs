//! The control: train rewards that have nothing to do with the answers. What such a run "learns" is the noise
//! of training and of choosing by validation, which is scored as ever; a claim has to beat it.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::policy::{Answers, Policy, Wanted};
use crate::engine::Token;
use crate::error::Result;
use crate::expert::Multipliers;
use crate::progress::Interrupt;
use crate::task::Part;

/// A policy whose train answers are rewarded by the toss of a coin.
pub struct RandomReward<P> {
    /// What answers.
    pub policy: P,
}

impl<P: Policy> Policy for RandomReward<P> {
    fn n_items(&self, part: Part) -> usize {
        self.policy.n_items(part)
    }

    fn prompt(&self, item: usize) -> &[Token] {
        self.policy.prompt(item)
    }

    fn gold(&self, item: usize) -> Option<&[Token]> {
        self.policy.gold(item)
    }

    fn max_candidates(&self) -> usize {
        self.policy.max_candidates()
    }

    fn answer(
        &mut self,
        candidates: &[&Multipliers],
        wanted: &[Wanted],
        interrupt: &Interrupt,
    ) -> Result<Answers> {
        let mut answers = self.policy.answer(candidates, wanted, interrupt)?;
        for (answer, wanted) in answers.answers.iter_mut().zip(wanted) {
            if wanted.part == Part::Train {
                // The seed of sampling with one more number: the coin is fixed, and independent of the answer.
                let toss = super::draws::seed(u64::from(wanted.seed), "coin", &[wanted.candidate as u64]);
                answer.reward = f64::from(u8::from(ChaCha8Rng::seed_from_u64(toss).random::<bool>()));
            }
        }
        Ok(answers)
    }

    fn log_probs(
        &mut self,
        parameters: &Multipliers,
        answers: &[(usize, &[Token])],
        interrupt: &Interrupt,
    ) -> Result<Vec<f64>> {
        self.policy.log_probs(parameters, answers, interrupt)
    }
}
