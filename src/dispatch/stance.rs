//! Where a model's hidden states tell what it is about to answer: after the question, in what its chat template puts there.
//!
//! These few tokens are the same for every question, and have looked at all of it.

use crate::engine::scheduler::Pool;
use crate::engine::{ChatMessage, Model, Request, Token};
use crate::error::Result;
use crate::expert::Mixture;

/// Of all blocks, the one at this share is looked at: late enough to know what the answer is about, and too early
/// for its first word.
const DEPTH: f64 = 0.85;

/// The block whose states are compared, counted from 0; `None` for a model that has too few.
pub(super) fn layer(model: &Model) -> Option<u32> {
    let n = model.n_layer();
    // The last one computes what outputs need, and no more.
    (n >= 2).then(|| ((f64::from(n) * DEPTH) as u32).min(n - 2))
}

/// The tokens that end each prompt of `model`; none without a chat template.
///
/// # Errors
/// A chat template that cannot be filled in.
pub(super) fn ending(model: &Model) -> Result<Vec<Token>> {
    if !model.has_chat_template() {
        return Ok(Vec::new());
    }
    let [a, b] = ["Yes", "7 + 5?"].map(|question| prompt(model, question));
    let (a, b) = (a?, b?);
    let n = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    Ok(a[a.len() - n..].to_vec())
}

/// What a model reads that is asked `question` alone.
///
/// # Errors
/// A chat template that cannot be filled in, or a question that cannot be tokenized.
pub(super) fn prompt(model: &Model, question: &str) -> Result<Vec<Token>> {
    match model.has_chat_template() {
        true => Ok(model.chat_prompt(&[ChatMessage::user(question)])?.tokens),
        false => model.tokenize(question, true, false),
    }
}

/// The mean hidden state of the base model, of block `layer`, over the last `n` tokens of `prompt`, 1 or more.
pub(super) fn request(prompt: Vec<Token>, layer: u32, n: usize) -> Request {
    let end = prompt.len();
    let pool = Pool { layer, tokens: end.saturating_sub(n.max(1))..end };
    Request::pool(prompt, Mixture::base(), pool)
}

/// Most numbers of a state that is compared, so that files stay small.
const MAX_WIDTH: usize = 1024;

/// Numbers of a state that is compared.
pub(super) fn width(model: &Model) -> usize {
    model.n_embd().min(MAX_WIDTH)
}

/// `state` as states are compared: of length 1, and a long one folded, with signs as if drawn, which leaves angles nearly as
/// they are (the count sketch of Charikar et al. 2002).
pub(super) fn compared(state: &[f32]) -> Vec<f32> {
    if state.len() <= MAX_WIDTH {
        return unit(state.to_vec());
    }
    let mut folded = vec![0.0; MAX_WIDTH];
    for (i, x) in state.iter().enumerate() {
        // The finalizer of MurmurHash3 makes the signs.
        let mut hash = i as u32 ^ 0x9e37_79b9;
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
        folded[i % MAX_WIDTH] += if (hash ^ (hash >> 16)) & 1 == 0 { *x } else { -*x };
    }
    unit(folded)
}

fn unit(mut state: Vec<f32>) -> Vec<f32> {
    let length = state.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    if length > 0.0 {
        state.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
    state
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn angles_of_long_states_stay() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        println!("seed 1");
        let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let (a, noise) = (draw(4096), draw(4096));
        let b: Vec<_> = a.iter().zip(&noise).map(|(a, b)| a + b).collect();
        let cosine = |a: &[f32], b: &[f32]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        let (folded_a, folded_b) = (compared(&a), compared(&b));
        assert_eq!(folded_a.len(), MAX_WIDTH);
        assert!((dot(&folded_a, &folded_a) - 1.0).abs() < 1e-4);
        assert!((dot(&folded_a, &folded_b) - cosine(&a, &b)).abs() < 0.1);
        // Short ones are as they were.
        assert!((cosine(&compared(&a[..9]), &a[..9]) - 1.0).abs() < 1e-5);
        assert_eq!(compared(&[0.0; 3]), [0.0; 3]);
    }
}
