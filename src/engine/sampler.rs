//! Choosing the next token from logits, with llama.cpp's own samplers.

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::token::logit_bias::LlamaLogitBias;
use llama_cpp_2::token::LlamaToken;

use super::grammar::{Grammar, GrammarSampler};
use crate::engine::{Model, Token};
use crate::error::{Error, Result};

/// How tokens are chosen; names, meaning and defaults are llama-cli's.
#[derive(Clone, Debug)]
pub struct SamplerOptions {
    /// Temperature; 0 takes the most likely token.
    pub temperature: f32,
    /// A temperature that follows the entropy.
    pub dynatemp: DynamicTemperature,
    /// Keep the k most likely tokens (0: all).
    pub top_k: u32,
    /// Keep the most likely tokens up to this total probability (1: all).
    pub top_p: f32,
    /// Drop tokens less likely than this fraction of the most likely one (0: none).
    pub min_p: f32,
    /// Seed of the random choice.
    pub seed: u32,
    /// Keep tokens of about as much information as is expected, up to this total probability (1: all).
    pub typical_p: f32,
    /// Keep logits within so many standard deviations of the largest (0 or less: all).
    pub top_n_sigma: f32,
    /// Penalties on tokens that were there before.
    pub penalties: Penalties,
    /// Penalty on repeated passages.
    pub dry: Dry,
    /// Leaving out the most likely tokens.
    pub xtc: Xtc,
    /// Aiming at a constant surprise, in the place of what keeps and drops tokens.
    pub mirostat: Option<Mirostat>,
    /// In which order these are applied; what is not named is not.
    pub order: Vec<SamplerKind>,
    /// Least number of tokens that what keeps and drops tokens leaves.
    pub min_keep: u32,
    /// Added to the logits of these tokens; −∞ forbids one.
    pub logit_bias: Vec<(Token, f32)>,
    /// What may be written.
    pub grammar: Option<Grammar>,
}

/// A temperature between T − range and T + range, by the entropy of the distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DynamicTemperature {
    /// Half the width (0: the temperature is constant).
    pub range: f32,
    /// How the entropy, in parts of its maximum, maps to it.
    pub exponent: f32,
}

/// A step on the way from logits to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerKind {
    /// [`Penalties`].
    Penalties,
    /// [`Dry`].
    Dry,
    /// [`SamplerOptions::top_n_sigma`].
    TopNSigma,
    /// [`SamplerOptions::top_k`].
    TopK,
    /// [`SamplerOptions::typical_p`].
    TypicalP,
    /// [`SamplerOptions::top_p`].
    TopP,
    /// [`SamplerOptions::min_p`].
    MinP,
    /// [`Xtc`].
    Xtc,
    /// [`SamplerOptions::temperature`].
    Temperature,
}

impl SamplerKind {
    /// All, in llama.cpp's usual order, each with its name there and its letter.
    const ALL: [(Self, &str, char); 9] = [
        (Self::Penalties, "penalties", 'e'),
        (Self::Dry, "dry", 'd'),
        (Self::TopNSigma, "top_n_sigma", 's'),
        (Self::TopK, "top_k", 'k'),
        (Self::TypicalP, "typ_p", 'y'),
        (Self::TopP, "top_p", 'p'),
        (Self::MinP, "min_p", 'm'),
        (Self::Xtc, "xtc", 'x'),
        (Self::Temperature, "temperature", 't'),
    ];

    /// llama.cpp's name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, name, _)| name)
    }

    /// The one that llama.cpp calls `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = if name == "typical_p" { "typ_p" } else { name };
        Self::ALL.iter().find(|(_, known, _)| *known == name).map(|(kind, ..)| *kind)
    }

    /// The one that llama.cpp abbreviates so.
    pub fn from_letter(letter: char) -> Option<Self> {
        Self::ALL.iter().find(|(_, _, known)| *known == letter).map(|(kind, ..)| *kind)
    }
}

/// Penalties on the tokens among the last ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Penalties {
    /// How many of the last tokens, of prompt and answer, are looked at.
    pub last_n: u32,
    /// Divides positive logits, and multiplies negative ones (1: no penalty).
    pub repeat: f32,
    /// Taken off for each time that the token is there.
    pub frequency: f32,
    /// Taken off once if the token is there.
    pub presence: f32,
}

/// "Don't repeat yourself": a penalty of multiplier·base^(length − allowed) on what would lengthen a repetition.
#[derive(Clone, Debug, PartialEq)]
pub struct Dry {
    /// Size of the penalty (0: none).
    pub multiplier: f32,
    /// How fast it grows.
    pub base: f32,
    /// Tokens that may be repeated without one.
    pub allowed_length: u32,
    /// How many of the last tokens are looked at.
    pub last_n: u32,
    /// Texts that end a repetition.
    pub breakers: Vec<String>,
}

/// "Exclude top choices".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Xtc {
    /// How often it is done (0: never).
    pub probability: f32,
    /// All tokens of at least this probability but the last of them are left out.
    pub threshold: f32,
}

/// Which algorithm of "Mirostat" (arXiv 2007.14966), and its aim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mirostat {
    /// 1 or 2.
    pub version: u32,
    /// Wanted surprise, in bits.
    pub tau: f32,
    /// Rate of learning.
    pub eta: f32,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            dynatemp: DynamicTemperature { range: 0.0, exponent: 1.0 },
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            seed: 0,
            typical_p: 1.0,
            top_n_sigma: -1.0,
            penalties: Penalties::default(),
            dry: Dry::default(),
            xtc: Xtc { probability: 0.0, threshold: 0.1 },
            mirostat: None,
            order: SamplerKind::ALL.iter().map(|(kind, ..)| *kind).collect(),
            min_keep: 0,
            logit_bias: Vec::new(),
            grammar: None,
        }
    }
}

impl Default for Penalties {
    fn default() -> Self {
        Self { last_n: 64, repeat: 1.0, frequency: 0.0, presence: 0.0 }
    }
}

impl Default for Dry {
    fn default() -> Self {
        let breakers = ["\n", ":", "\"", "*"].map(String::from).into();
        Self { multiplier: 0.0, base: 1.75, allowed_length: 2, last_n: 4096, breakers }
    }
}

impl SamplerOptions {
    /// The most likely token, always.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// The model's own distribution at `temperature`, from which nothing is left out.
    pub fn plain(temperature: f32, seed: u32) -> Self {
        Self { temperature, top_k: 0, top_p: 1.0, min_p: 0.0, seed, ..Self::default() }
    }

    /// Checks all that can be without a model.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn check(&self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(
                Error::expected("a temperature of 0 or more", self.temperature).setting("temperature")
            );
        }
        for (field, value) in [
            ("top_p", self.top_p),
            ("min_p", self.min_p),
            ("typical_p", self.typical_p),
            ("xtc_probability", self.xtc.probability),
            ("xtc_threshold", self.xtc.threshold),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::expected("a probability between 0 and 1", value).setting(field));
            }
        }
        let Penalties { repeat, frequency, presence, .. } = self.penalties;
        if !(repeat > 0.0 && repeat.is_finite()) {
            return Err(Error::expected("a number above 0", repeat).setting("repeat_penalty"));
        }
        let Dry { multiplier, base, breakers, .. } = &self.dry;
        let mut finite = vec![
            ("frequency_penalty", frequency),
            ("presence_penalty", presence),
            ("top_n_sigma", self.top_n_sigma),
            ("dynatemp_range", self.dynatemp.range),
            ("dynatemp_exponent", self.dynatemp.exponent),
            ("dry_multiplier", *multiplier),
            ("dry_base", *base),
        ];
        if let Some(Mirostat { version, tau, eta }) = self.mirostat {
            if !(1..=2).contains(&version) {
                return Err(Error::expected("1 or 2", version).setting("mirostat"));
            }
            finite.extend([("mirostat_tau", tau), ("mirostat_eta", eta)]);
        }
        for (field, value) in finite {
            if !value.is_finite() {
                return Err(Error::expected("a finite number", value).setting(field));
            }
        }
        if breakers.iter().any(|text| text.contains('\0')) {
            return Err(Error::invalid("it holds the character NUL").setting("dry_sequence_breakers"));
        }
        if let Some((token, bias)) = self.logit_bias.iter().find(|(_, bias)| bias.is_nan()) {
            return Err(Error::expected("a number", bias).field(format!("logit_bias of token {token}")));
        }
        Ok(())
    }

    /// Whether nothing but the largest logit decides.
    fn is_greedy(&self) -> bool {
        let Penalties { repeat, frequency, presence, .. } = self.penalties;
        let is_penalised = repeat != 1.0 || frequency != 0.0 || presence != 0.0 || self.dry.multiplier != 0.0;
        self.temperature == 0.0 && !is_penalised && self.logit_bias.is_empty() && self.grammar.is_none()
    }

    /// The samplers of everything but the grammar, in llama.cpp's order.
    fn chain(&self, model: &Model) -> Vec<LlamaSampler> {
        let n_vocab = i32::try_from(model.n_vocab()).unwrap_or(i32::MAX);
        let seed = fixed(self.seed);
        let mut chain = Vec::new();
        if !self.logit_bias.is_empty() {
            let bias = |&(token, bias): &(Token, f32)| LlamaLogitBias::new(LlamaToken(token), bias);
            chain.push(LlamaSampler::logit_bias(
                n_vocab,
                &self.logit_bias.iter().map(bias).collect::<Vec<_>>(),
            ));
        }
        if let Some(Mirostat { version, tau, eta }) = self.mirostat.filter(|_| self.temperature > 0.0) {
            chain.push(LlamaSampler::temp(self.temperature));
            chain.push(match version {
                1 => LlamaSampler::mirostat(n_vocab, seed, tau, eta, 100),
                _ => LlamaSampler::mirostat_v2(seed, tau, eta),
            });
            return chain;
        }
        chain.extend(self.order.iter().filter_map(|kind| self.step(*kind, model, n_vocab, seed)));
        chain.push(match self.temperature {
            0.0 => LlamaSampler::greedy(),
            _ => LlamaSampler::dist(seed),
        });
        chain
    }

    /// One step, if it does anything.
    fn step(&self, kind: SamplerKind, model: &Model, n_vocab: i32, seed: u32) -> Option<LlamaSampler> {
        let min_keep = self.min_keep as usize;
        let Penalties { last_n, repeat, frequency, presence } = self.penalties;
        let Dry { multiplier, base, allowed_length, last_n: dry_last_n, breakers } = &self.dry;
        // Of one token nothing can be left out.
        let cuts = self.temperature > 0.0;
        let step = match kind {
            SamplerKind::Penalties if repeat != 1.0 || frequency != 0.0 || presence != 0.0 => {
                LlamaSampler::penalties(n_vocab, window(last_n), repeat, frequency, presence)
            }
            SamplerKind::Dry if *multiplier != 0.0 => {
                let (allowed, last_n) = (int(*allowed_length), window(*dry_last_n));
                LlamaSampler::dry(model.handle.llama(), *multiplier, *base, allowed, last_n, breakers)
            }
            SamplerKind::TopNSigma if cuts && self.top_n_sigma > 0.0 => {
                LlamaSampler::top_n_sigma(self.top_n_sigma)
            }
            SamplerKind::TopK if cuts && self.top_k > 0 => LlamaSampler::top_k(int(self.top_k)),
            SamplerKind::TypicalP if cuts && self.typical_p < 1.0 => {
                LlamaSampler::typical(self.typical_p, min_keep)
            }
            SamplerKind::TopP if cuts => LlamaSampler::top_p(self.top_p, min_keep),
            SamplerKind::MinP if cuts => LlamaSampler::min_p(self.min_p, min_keep),
            SamplerKind::Xtc if cuts && self.xtc.probability > 0.0 => {
                LlamaSampler::xtc(self.xtc.probability, self.xtc.threshold, min_keep, seed)
            }
            SamplerKind::Temperature if cuts => {
                let DynamicTemperature { range, exponent } = self.dynatemp;
                LlamaSampler::temp_ext(self.temperature, range, exponent)
            }
            _ => return None,
        };
        Some(step)
    }
}

/// The most likely token, or a chain of samplers with its own random state.
pub(super) struct Sampler {
    /// `None` takes the most likely token.
    chain: Option<LlamaSampler>,
    /// What may come next. Of a large vocabulary it is slow to check every token, so the chain chooses first, and only
    /// where it chose what may not come are all tokens checked, and the chain chooses again.
    grammar: Option<GrammarSampler>,
    /// Whether the chain takes the most likely token.
    is_greedy: bool,
    /// The tokens among which the last one was drawn, each with its logit then; `None` if that is not asked.
    drawn: Option<Vec<(Token, f32)>>,
}

impl Sampler {
    /// Builds the chain, for what goes on from `prompt`.
    ///
    /// # Errors
    /// Those of [`SamplerOptions::check`], a bias for a token that there is not, or a grammar that does not parse.
    pub fn new(options: &SamplerOptions, model: &Model, prompt: &[Token]) -> Result<Self> {
        options.check()?;
        let n_vocab = model.n_vocab();
        let is_known = |token: Token| usize::try_from(token).is_ok_and(|token| token < n_vocab);
        if let Some((token, _)) = options.logit_bias.iter().find(|(token, _)| !is_known(*token)) {
            return Err(Error::expected(format!("a token below {n_vocab}"), token).setting("logit_bias"));
        }
        if options.is_greedy() {
            return Ok(Self { chain: None, grammar: None, is_greedy: true, drawn: None });
        }
        let grammar = options.grammar.as_ref().map(|grammar| GrammarSampler::new(grammar, model));
        let mut chain = LlamaSampler::chain_simple(options.chain(model));
        chain.accept_many(prompt.iter().copied().map(LlamaToken));
        Ok(Self {
            chain: Some(chain),
            grammar: grammar.transpose()?,
            is_greedy: options.temperature == 0.0,
            drawn: None,
        })
    }

    /// The same, ready for [`Self::sampled`].
    pub fn remembering(self) -> Self {
        Self { drawn: Some(Vec::new()), ..self }
    }

    /// Under the distribution from which the last token was drawn: ln p of `token`, and the `n` most likely tokens with ln p,
    /// the likeliest first.
    pub fn sampled(&self, token: Token, n: usize) -> (f32, Vec<(Token, f32)>) {
        // One that always takes the most likely token draws from nothing else.
        let Some(drawn) = self.drawn.as_ref().filter(|drawn| !drawn.is_empty()) else {
            return (0.0, vec![(token, 0.0)]);
        };
        let logits: Vec<f32> = drawn.iter().map(|(_, logit)| *logit).collect();
        let log_sum = log_sum(&logits);
        let mut all: Vec<_> =
            drawn.iter().map(|&(token, logit)| (token, (f64::from(logit) - log_sum) as f32)).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let log_prob = all.iter().find(|(other, _)| *other == token).map_or(f32::NEG_INFINITY, |it| it.1);
        all.truncate(n);
        // Nothing was drawn from what is too unlikely for a number.
        all.retain(|(_, p)| p.exp() > 0.0);
        (log_prob, all)
    }

    /// The next token for `logits` `[n_vocab]`, none of them NaN.
    ///
    /// # Errors
    /// The grammar allows no token.
    pub fn sample(&mut self, logits: &[f32]) -> Result<Token> {
        let none = || Error::engine("no token could be sampled");
        let Some(chain) = &mut self.chain else { return most_likely(logits).ok_or_else(none) };
        let mut candidates = candidates(logits);
        candidates.apply_sampler(chain);
        let mut token = candidates.selected_token().ok_or_else(none)?;
        if let Some(grammar) = &mut self.grammar {
            if !grammar.allows(token) {
                candidates = self::candidates(logits);
                grammar.restrict(&mut candidates);
                if candidates.data.is_empty() {
                    return Err(Error::invalid("no token of the model may come next").setting("grammar"));
                }
                candidates.apply_sampler(chain);
                token = candidates.selected_token().ok_or_else(none)?;
            }
            grammar.accept(token)?;
        }
        if let Some(drawn) = &mut self.drawn {
            drawn.clear();
            if !self.is_greedy {
                drawn.extend(candidates.data.iter().map(|it| (it.id().0, it.logit())));
            }
        }
        chain.accept(token);
        Ok(token.0)
    }
}

fn candidates(logits: &[f32]) -> LlamaTokenDataArray {
    let candidate = |(&logit, token)| LlamaTokenData::new(LlamaToken(token), logit, 0.0);
    LlamaTokenDataArray::from_iter(logits.iter().zip(0..).map(candidate), false)
}

fn int(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// How many tokens a penalty looks back at most: llama.cpp takes memory for all of them beforehand.
const MAX_WINDOW: u32 = 1 << 20;

fn window(last_n: u32) -> i32 {
    int(last_n.min(MAX_WINDOW))
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

/// ln p of each of `tokens` under the distribution that `logits` stand for: the model's own, at temperature 1 and before
/// anything is left out.
pub fn log_probs(logits: &[f32], tokens: &[Token]) -> Vec<f32> {
    let log_sum = log_sum(logits);
    tokens.iter().map(|&token| (f64::from(logits[token as usize]) - log_sum) as f32).collect()
}

/// The `n` most likely tokens with ln p, the likeliest first.
pub(super) fn top(logits: &[f32], n: usize) -> Vec<(Token, f32)> {
    let n = n.min(logits.len());
    if n == 0 {
        return Vec::new();
    }
    let log_sum = log_sum(logits);
    let mut order: Vec<Token> = (0..).take(logits.len()).collect();
    let by_logit =
        |a: &Token, b: &Token| logits[*b as usize].total_cmp(&logits[*a as usize]).then_with(|| a.cmp(b));
    if n < order.len() {
        order.select_nth_unstable_by(n - 1, by_logit);
        order.truncate(n);
    }
    order.sort_unstable_by(by_logit);
    order.into_iter().map(|token| (token, (f64::from(logits[token as usize]) - log_sum) as f32)).collect()
}

fn log_sum(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    f64::from(max) + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        // e^0 + e^ln 3 = 4.
        let logits = [0.0, 3f32.ln()];
        for (found, p) in log_probs(&logits, &[0, 1]).into_iter().zip([0.25f32, 0.75]) {
            assert!((found - p.ln()).abs() < 1e-6);
        }
        // Neither overflow nor underflow.
        assert_eq!(log_probs(&[1000.0, -1000.0], &[0, 1]), [0.0, -2000.0]);
    }

    #[test]
    fn the_most_likely_tokens_come_in_order_and_of_equal_ones_the_first() {
        let logits = [1.0, 3.0, 2.0, 3.0];
        let tokens = |n| top(&logits, n).into_iter().map(|(token, _)| token).collect::<Vec<_>>();
        assert_eq!(tokens(3), [1, 3, 2]);
        assert_eq!(tokens(9), [1, 3, 2, 0]);
        assert!(tokens(0).is_empty());
        assert_eq!(top(&logits, 1)[0].1, log_probs(&logits, &[1])[0]);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let good = SamplerOptions::default();
        assert!(good.check().is_ok());
        for (options, field) in [
            (SamplerOptions { temperature: f32::NAN, ..good.clone() }, "temperature"),
            (SamplerOptions { top_p: 1.5, ..good.clone() }, "top_p"),
            (SamplerOptions { min_p: -0.1, ..good.clone() }, "min_p"),
            (SamplerOptions { typical_p: 2.0, ..good.clone() }, "typical_p"),
            (
                SamplerOptions {
                    penalties: Penalties { repeat: 0.0, ..Penalties::default() },
                    ..good.clone()
                },
                "repeat_penalty",
            ),
            (
                SamplerOptions {
                    mirostat: Some(Mirostat { version: 3, tau: 5.0, eta: 0.1 }),
                    ..good.clone()
                },
                "mirostat",
            ),
            (SamplerOptions { logit_bias: vec![(1, f32::NAN)], ..good.clone() }, "logit_bias"),
            (
                SamplerOptions { dry: Dry { breakers: vec!["\0".into()], ..Dry::default() }, ..good.clone() },
                "dry_sequence_breakers",
            ),
        ] {
            let error = options.check().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
