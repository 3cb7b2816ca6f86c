//! Choosing the next token from logits, with llama.cpp's own samplers.

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::token::LlamaToken;

use crate::engine::Token;
use crate::error::{Error, Result};

/// How tokens are chosen; names and defaults are llama-cli's.
#[derive(Clone, Debug)]
pub struct SamplerOptions {
    /// Temperature; 0 takes the most likely token.
    pub temperature: f32,
    /// Keep the k most likely tokens (0: all).
    pub top_k: u32,
    /// Keep the most likely tokens up to this total probability (1: all).
    pub top_p: f32,
    /// Drop tokens less likely than this fraction of the most likely one (0: none).
    pub min_p: f32,
    /// Seed of the random choice.
    pub seed: u32,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, seed: 0 }
    }
}

/// The most likely token, or a chain of samplers with its own random state.
pub struct Sampler {
    /// `None` takes the most likely token.
    chain: Option<LlamaSampler>,
}

impl Sampler {
    /// Builds the chain; an error for a temperature or probability out of range.
    pub fn new(options: &SamplerOptions) -> Result<Self> {
        if !(options.temperature >= 0.0 && options.temperature.is_finite()) {
            return Err(
                Error::expected("a temperature of 0 or more", options.temperature).setting("temperature")
            );
        }
        for (name, value) in [("top_p", options.top_p), ("min_p", options.min_p)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::expected("a probability between 0 and 1", value).setting(name));
            }
        }
        let chain = (options.temperature > 0.0).then(|| {
            let mut samplers = Vec::new();
            if options.top_k > 0 {
                samplers.push(LlamaSampler::top_k(i32::try_from(options.top_k).unwrap_or(i32::MAX)));
            }
            samplers.extend([
                LlamaSampler::top_p(options.top_p, 1),
                LlamaSampler::min_p(options.min_p, 1),
                LlamaSampler::temp(options.temperature),
                LlamaSampler::dist(fixed(options.seed)),
            ]);
            LlamaSampler::chain_simple(samplers)
        });
        Ok(Self { chain })
    }

    /// The next token for `logits` `[n_vocab]`; an error if a logit is NaN.
    pub fn sample(&mut self, logits: &[f32]) -> Result<Token> {
        if logits.iter().any(|logit| logit.is_nan()) {
            return Err(Error::engine("the model computed NaN")
                .hint("check model and sidecar with `Sidecar::verify`, or lower `strength`"));
        }
        let none = || Error::engine("no token could be sampled");
        let Some(chain) = &mut self.chain else { return most_likely(logits).ok_or_else(none) };
        let candidates =
            logits.iter().zip(0..).map(|(&logit, token)| LlamaTokenData::new(LlamaToken(token), logit, 0.0));
        let mut candidates = LlamaTokenDataArray::from_iter(candidates, false);
        candidates.apply_sampler(chain);
        let token = candidates.selected_token().ok_or_else(none)?;
        chain.accept(token);
        Ok(token.0)
    }
}

/// llama.cpp takes the last seed for the wish for a random one; equal seeds give equal texts here.
fn fixed(seed: u32) -> u32 {
    seed.min(u32::MAX - 1)
}

/// The token with the largest logit; the first of several, as llama.cpp's greedy sampler has it.
fn most_likely(logits: &[f32]) -> Option<Token> {
    let (&first, rest) = logits.split_first()?;
    let (mut best, mut token) = (first, 0);
    for (&logit, i) in rest.iter().zip(1..) {
        if logit > best {
            (best, token) = (logit, i);
        }
    }
    Some(token)
}
