//! How tokens are chosen, by llama.cpp's flags.

use std::path::PathBuf;

use crate::engine::{Dry, Grammar, Mirostat, Penalties, SamplerOptions, Token, Xtc};
use crate::error::{Error, Result};

#[derive(clap::Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplerArgs {
    /// Temperature; 0 always takes the most likely token
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    temp: f32,
    /// Choose among the K most likely tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 40)]
    top_k: u32,
    /// Choose among the most likely tokens up to this total probability
    #[arg(long, value_name = "P", default_value_t = 0.95, allow_negative_numbers = true)]
    top_p: f32,
    /// Leave out tokens less likely than this fraction of the most likely one
    #[arg(long, value_name = "P", default_value_t = 0.05, allow_negative_numbers = true)]
    min_p: f32,
    /// Choose among tokens that say about as much as is expected, up to this total probability; 1 for all
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    typical: f32,
    /// Choose among logits within so many standard deviations of the largest; 0 or less for all
    #[arg(long, value_name = "N", default_value_t = -1.0, allow_negative_numbers = true)]
    top_nsigma: f32,
    /// Seed of the random choice [default: a new one each time]
    #[arg(short, long, value_name = "N")]
    seed: Option<u32>,
    /// Tokens, of prompt and answer, that the penalties look back on
    #[arg(long, value_name = "N", default_value_t = 64)]
    repeat_last_n: u32,
    /// Penalty on tokens that were there; 1 for none
    #[arg(long, value_name = "X", default_value_t = 1.0, allow_negative_numbers = true)]
    repeat_penalty: f32,
    /// Penalty on tokens that were there, however often; 0 for none
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    /// Penalty on tokens for each time that they were there; 0 for none
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// Penalty on repeated passages (DRY); 0 for none
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    dry_multiplier: f32,
    /// How fast that penalty grows with the passage
    #[arg(long, value_name = "X", default_value_t = 1.75, allow_negative_numbers = true)]
    dry_base: f32,
    /// Tokens that may be repeated without it
    #[arg(long, value_name = "N", default_value_t = 2)]
    dry_allowed_length: u32,
    /// Tokens that it looks back on
    #[arg(long, value_name = "N", default_value_t = 4096)]
    dry_penalty_last_n: u32,
    /// Text that ends a passage, in place of the usual ones; may be repeated
    #[arg(long, value_name = "TEXT")]
    dry_sequence_breaker: Vec<String>,
    /// How often the most likely tokens are left out (XTC); 0 for never
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    xtc_probability: f32,
    /// Which ones: those of at least this probability, but for the last of them
    #[arg(long, value_name = "P", default_value_t = 0.1, allow_negative_numbers = true)]
    xtc_threshold: f32,
    /// Aim at a constant surprise by Mirostat 1 or 2, in place of what leaves tokens out; 0 for no
    #[arg(long, value_name = "N", default_value_t = 0)]
    mirostat: u32,
    /// The surprise, in bits
    #[arg(long, value_name = "X", default_value_t = 5.0, allow_negative_numbers = true)]
    mirostat_ent: f32,
    /// How fast Mirostat learns
    #[arg(long, value_name = "X", default_value_t = 0.1, allow_negative_numbers = true)]
    mirostat_lr: f32,
    /// Add to the logit of a token, such as 15043+1 or 15043-1; may be repeated
    #[arg(short, long, value_name = "TOKEN+BIAS")]
    logit_bias: Vec<String>,
    /// Write only what this grammar allows, in GBNF
    #[arg(long, value_name = "GBNF", conflicts_with = "grammar_file")]
    grammar: Option<String>,
    /// The same from a file
    #[arg(long, value_name = "FILE")]
    grammar_file: Option<PathBuf>,
}

impl SamplerArgs {
    /// Whether the seed is given.
    pub fn has_seed(&self) -> bool {
        self.seed.is_some()
    }

    /// What the flags ask for, checked as far as it can be without a model.
    pub fn options(&self) -> Result<SamplerOptions> {
        let dry = Dry {
            multiplier: self.dry_multiplier,
            base: self.dry_base,
            allowed_length: self.dry_allowed_length,
            last_n: self.dry_penalty_last_n,
            breakers: match self.dry_sequence_breaker.is_empty() {
                true => Dry::default().breakers,
                false => self.dry_sequence_breaker.clone(),
            },
        };
        let grammar = match (&self.grammar, &self.grammar_file) {
            (Some(text), _) => Some(text.clone()),
            (None, Some(path)) => Some(
                std::fs::read_to_string(path)
                    .map_err(|error| Error::io("cannot read", path, error).field("--grammar-file"))?,
            ),
            (None, None) => None,
        };
        let grammar = grammar.map(Grammar::from);
        let options = SamplerOptions {
            temperature: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            seed: self.seed.unwrap_or_else(random_seed),
            typical_p: self.typical,
            top_n_sigma: self.top_nsigma,
            penalties: Penalties {
                last_n: self.repeat_last_n,
                repeat: self.repeat_penalty,
                frequency: self.frequency_penalty,
                presence: self.presence_penalty,
            },
            dry,
            xtc: Xtc { probability: self.xtc_probability, threshold: self.xtc_threshold },
            mirostat: (self.mirostat > 0).then_some(Mirostat {
                version: self.mirostat,
                tau: self.mirostat_ent,
                eta: self.mirostat_lr,
            }),
            logit_bias: self.logit_bias.iter().map(|text| bias(text)).collect::<Result<_>>()?,
            grammar,
            ..SamplerOptions::default()
        };
        options.check()?;
        Ok(options)
    }
}

/// A token and what is added to its logit.
fn bias(text: &str) -> Result<(Token, f32)> {
    let parse = || {
        let at = text.find(['+', '-'])?;
        Some((text[..at].trim().parse().ok()?, text[at..].trim().parse().ok()?))
    };
    parse().ok_or_else(|| {
        Error::expected("a token and a number, such as 15043+1", format!("'{text}'")).field("--logit-bias")
    })
}

/// The standard library seeds its hash maps from the system's random source.
fn random_seed() -> u32 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bias_is_a_token_with_a_sign_and_a_number() {
        for (text, expected) in
            [("15043+1", (15043, 1.0)), ("7-2.5", (7, -2.5)), (" 3 -inf", (3, f32::NEG_INFINITY))]
        {
            assert_eq!(bias(text).unwrap(), expected, "{text}");
        }
        for text in ["", "7", "+1", "a+1", "7+b", "-7+1"] {
            let error = bias(text).unwrap_err().to_string();
            assert!(error.contains("--logit-bias") && error.contains("15043+1"), "{error}");
        }
    }
}
