//! The measurements: who takes turns at what, and what becomes of the times.

use std::sync::Arc;
use std::time::Instant;

use super::{expert_name, Bench, Variant, N_SEQUENCES};
use crate::engine::{Input, Placement, Session, Token};
use crate::error::Result;
use crate::expert::Mixture;

/// Tokens of KV cache per session: eight sequences of [`LONGEST`], or one prompt of [`PREFILL`].
pub(super) const CONTEXT: u32 = 1024;
/// Tokens of the prompt whose time is measured.
pub(super) const PREFILL: usize = 512;
/// Tokens before the first measured one.
const PROMPT: usize = 64;
/// Sequences begin again before they are longer than this, so that attention costs much the same all along.
const LONGEST: u32 = 128;
/// Tokens measured per turn; one more goes before them, because the first finds the caches full of what the
/// previous variant read.
const TOKENS_PER_TURN: usize = 4;

/// Milliseconds of the variants.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Turns each variant had.
    pub rounds: usize,
    /// The base model.
    pub base_ms: f64,
    /// Experts from stock ops.
    pub composed_ms: f64,
    /// Experts with the fused op.
    pub fused_ms: f64,
    /// llama.cpp's LoRA with F16 matrices.
    pub lora_ms: f64,
    /// llama.cpp's LoRA with matrices in the types of the factors.
    pub lora_same_type_ms: Option<f64>,
}

/// Tokens per second over eight sequences that are decoded together.
#[derive(Clone, Debug)]
pub struct Batch8 {
    /// Turns each had.
    pub rounds: usize,
    /// The base model.
    pub base_tok_s: f64,
    /// Fused, one expert for all.
    pub same_tok_s: f64,
    /// Fused, eight experts.
    pub mixed_tok_s: f64,
    /// Composed, eight experts.
    pub composed_mixed_tok_s: f64,
    /// LoRA F16, one adapter for all.
    pub lora_same_tok_s: f64,
    /// LoRA F16, another adapter for every sequence: one after the other, because llama.cpp applies adapters to
    /// the whole session. Two copies take turns; each decode reads as much as with eight. The sequences are empty,
    /// which spares them the little that attention costs the others.
    pub lora_mixed_tok_s: f64,
}

/// Milliseconds that a change costs, up to the end of the next token, beyond an ordinary token.
#[derive(Clone, Debug)]
pub struct Switching {
    /// Pairs of tokens measured.
    pub rounds: usize,
    /// Another expert in the sequence's slot.
    pub switch_ms: f64,
    /// Of that, writing the slot.
    pub write_ms: f64,
    /// Another LoRA adapter.
    pub lora_switch_ms: f64,
}

/// Largest difference of a logit from the fused op's, after the same prompt with the same expert, relative
/// to the largest difference between the fused op and the base model.
///
/// A quantized base model rounds activations: the smallest difference makes it round differently, so that even
/// equal functions disagree by an amount that does not depend on the expert. F32 base models show the rest.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// Largest |logit(fused) − logit(base)|: how much the expert changes.
    pub expert_effect: f64,
    /// Composed.
    pub composed: f64,
    /// LoRA F16.
    pub lora: f64,
}

/// Work that turns report as progress: about how long each takes, in units of a pair of switching tokens.
const DECODE_WORK: usize = 1;
const PREFILL_WORK: usize = 15;
const BATCH_WORK: usize = 4;
/// See [`Batch8`].
const BATCH_VARIANTS: usize = 6;

type Measured = (Comparison, Comparison, Batch8, Switching, Agreement, Vec<Placement>);

impl Bench<'_> {
    pub(super) fn measure(&self) -> Result<Measured> {
        let rounds = self.options.rounds;
        let prefill_rounds = rounds.div_ceil(3);
        let pairs = 4 * rounds;
        let variants = self.variants().len();
        let work = [
            variants * rounds * DECODE_WORK,
            variants * prefill_rounds * PREFILL_WORK,
            BATCH_VARIANTS * rounds * BATCH_WORK,
            pairs,
        ];
        self.progress.start(work.iter().sum::<usize>() as u64, 0);

        let mut sessions: Vec<(Variant, Session)> = self
            .variants()
            .into_iter()
            .map(|variant| Ok((variant, self.session(variant)?)))
            .collect::<Result<_>>()?;
        let fused = sessions.iter().find(|(variant, _)| *variant == Variant::Fused);
        let placements = fused.map_or(Vec::new(), |(_, session)| session.placements());
        let agreement = self.agreement(&mut sessions)?;
        let decode = self.compare(&mut sessions, rounds, DECODE_WORK, decode_turn)?;
        let prefill = self.compare(&mut sessions, prefill_rounds, PREFILL_WORK, prefill_turn)?;
        let switching = self.switching(&mut sessions, pairs)?;
        // Gives back its memory before the sessions of the batch figures are made.
        drop(sessions);
        let batch8 = self.batch8(rounds)?;
        Ok((decode, prefill, batch8, switching, agreement, placements))
    }

    /// Lets the variants take turns; `turn` returns milliseconds.
    fn compare(
        &self,
        sessions: &mut [(Variant, Session)],
        rounds: usize,
        work: usize,
        turn: fn(&mut Session) -> Result<f64>,
    ) -> Result<Comparison> {
        let mut times = vec![Vec::with_capacity(rounds); sessions.len()];
        self.take_turns(rounds, sessions.len(), work, |i| {
            times[i].push(turn(&mut sessions[i].1)?);
            Ok(())
        })?;
        let of = |variant| {
            let at = sessions.iter().position(|(other, _)| *other == variant)?;
            Some(median(&times[at]))
        };
        let measured = |variant| of(variant).unwrap_or(f64::NAN);
        Ok(Comparison {
            rounds,
            base_ms: measured(Variant::Base),
            composed_ms: measured(Variant::Composed),
            fused_ms: measured(Variant::Fused),
            lora_ms: measured(Variant::LoraF16),
            lora_same_type_ms: of(Variant::LoraSameType),
        })
    }

    /// Calls `turn` with 0 … `n`−1 in each round, beginning with another one every time.
    fn take_turns(
        &self,
        rounds: usize,
        n: usize,
        work: usize,
        mut turn: impl FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        for round in 0..rounds {
            for i in 0..n {
                self.interrupt.check()?;
                turn((round + i) % n)?;
                self.progress.advance(work as u64);
            }
        }
        Ok(())
    }

    fn batch8(&self, rounds: usize) -> Result<Batch8> {
        let mut mixed = [self.session(Variant::Fused)?, self.session(Variant::Composed)?];
        for session in &mut mixed {
            for sequence in 0..N_SEQUENCES {
                session.assign(sequence, sequence + 1)?;
            }
        }
        let [fused_mixed, composed_mixed] = mixed;
        let mut sessions: [Session; BATCH_VARIANTS] = [
            self.session(Variant::Base)?,
            self.session(Variant::Fused)?,
            fused_mixed,
            composed_mixed,
            self.session(Variant::LoraF16)?,
            self.session(Variant::LoraF16)?,
        ];
        let one_by_one = BATCH_VARIANTS - 1;
        let mut times = vec![Vec::with_capacity(rounds); sessions.len()];
        self.take_turns(rounds, BATCH_VARIANTS, BATCH_WORK, |i| {
            let time = match i == one_by_one {
                true => self.lora_batch_turn(&mut sessions[i])?,
                false => batch_turn(&mut sessions[i])?,
            };
            times[i].push(time);
            Ok(())
        })?;
        let tok_s = |i: usize| 1e3 * f64::from(N_SEQUENCES) / median(&times[i]);
        Ok(Batch8 {
            rounds,
            base_tok_s: tok_s(0),
            same_tok_s: tok_s(1),
            mixed_tok_s: tok_s(2),
            composed_mixed_tok_s: tok_s(3),
            lora_same_tok_s: tok_s(4),
            lora_mixed_tok_s: tok_s(one_by_one),
        })
    }

    /// Milliseconds of one token for each of eight sequences with adapters of their own.
    fn lora_batch_turn(&self, session: &mut Session) -> Result<f64> {
        timed_tokens(|| {
            for sequence in 0..N_SEQUENCES as usize {
                let lora = &self.lora_f16[sequence % 2];
                fresh_token(session, |session| session.set_loras(&[(Arc::clone(lora), 1.0)]))?;
            }
            Ok(())
        })
    }

    fn switching(&self, sessions: &mut [(Variant, Session)], pairs: usize) -> Result<Switching> {
        let (mut switch, mut write, mut lora_switch) = (Vec::new(), Vec::new(), Vec::new());
        for pair in 0..pairs {
            self.interrupt.check()?;
            for (variant, session) in sessions.iter_mut() {
                let is_fused = *variant == Variant::Fused;
                if !is_fused && *variant != Variant::LoraF16 {
                    continue;
                }
                // Experts and copies alternate; which of the two tokens comes first does, too.
                let mut ordinary = 0.0;
                if pair % 2 == 0 {
                    ordinary = fresh_token(session, |_| Ok(()))?;
                }
                let mut write_ms = 0.0;
                let changed = fresh_token(session, |session| {
                    let began = Instant::now();
                    if is_fused {
                        session.set_mixture(1, &Mixture::single(expert_name(1 + pair as u32 % 2)))?;
                    } else {
                        session.set_loras(&[(Arc::clone(&self.lora_f16[pair % 2]), 1.0)])?;
                    }
                    write_ms = milliseconds(began);
                    Ok(())
                })?;
                if pair % 2 == 1 {
                    ordinary = fresh_token(session, |_| Ok(()))?;
                }
                if is_fused {
                    switch.push(changed - ordinary);
                    write.push(write_ms);
                } else {
                    lora_switch.push(changed - ordinary);
                }
            }
            self.progress.advance(1);
        }
        Ok(Switching {
            rounds: pairs,
            switch_ms: median(&switch),
            write_ms: median(&write),
            lora_switch_ms: median(&lora_switch),
        })
    }

    /// Also runs every session once before anything is timed.
    fn agreement(&self, sessions: &mut [(Variant, Session)]) -> Result<Agreement> {
        let mut logits = Vec::new();
        for (variant, session) in sessions.iter_mut() {
            session.prompt(0, &tokens(session, PROMPT))?;
            logits.push((*variant, session.logits(0).to_vec()));
            session.clear(0)?;
        }
        let of = |variant| logits.iter().find(|(other, _)| *other == variant).map(|(_, logits)| logits);
        let distance = |a, b| match (of(a), of(b)) {
            (Some(a), Some(b)) => a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max),
            _ => f64::NAN,
        };
        let expert_effect = distance(Variant::Fused, Variant::Base);
        Ok(Agreement {
            expert_effect,
            composed: distance(Variant::Fused, Variant::Composed) / expert_effect,
            lora: distance(Variant::Fused, Variant::LoraF16) / expert_effect,
        })
    }
}

/// Milliseconds per token of sequence 0.
fn decode_turn(session: &mut Session) -> Result<f64> {
    restart(session, 0..1)?;
    timed_tokens(|| decode_one(session, 0))
}

/// Milliseconds of a prompt.
fn prefill_turn(session: &mut Session) -> Result<f64> {
    session.clear(0)?;
    let tokens = tokens(session, PREFILL);
    let began = Instant::now();
    session.prompt(0, &tokens)?;
    let time = milliseconds(began);
    session.clear(0)?;
    Ok(time)
}

/// Milliseconds of one token for each of eight sequences, decoded together.
fn batch_turn(session: &mut Session) -> Result<f64> {
    restart(session, 0..N_SEQUENCES)?;
    timed_tokens(|| {
        let batch: Vec<_> = (0..N_SEQUENCES)
            .map(|seq| Input { seq, token: token(session, seq as usize), output: true })
            .collect();
        session.decode(&batch)
    })
}

/// Milliseconds from `change` to the end of the first token of an empty sequence 0.
fn fresh_token(session: &mut Session, change: impl FnOnce(&mut Session) -> Result<()>) -> Result<f64> {
    session.clear(0)?;
    let began = Instant::now();
    change(session)?;
    decode_one(session, 0)?;
    Ok(milliseconds(began))
}

/// Milliseconds per call of `next`.
fn timed_tokens(mut next: impl FnMut() -> Result<()>) -> Result<f64> {
    next()?;
    let began = Instant::now();
    for _ in 0..TOKENS_PER_TURN {
        next()?;
    }
    Ok(milliseconds(began) / TOKENS_PER_TURN as f64)
}

fn decode_one(session: &mut Session, seq: u32) -> Result<()> {
    let token = token(session, seq as usize);
    session.decode(&[Input { seq, token, output: true }])
}

/// Lets sequences that are empty, or would get too long, begin again with a prompt.
fn restart(session: &mut Session, sequences: std::ops::Range<u32>) -> Result<()> {
    for seq in sequences {
        let n_past = session.n_past(seq)?;
        if n_past == 0 || n_past + TOKENS_PER_TURN as u32 + 1 > LONGEST {
            session.clear(seq)?;
            session.prompt(seq, &tokens(session, PROMPT))?;
        }
    }
    Ok(())
}

/// Some tokens; which ones makes no difference to the time.
fn tokens(session: &Session, n: usize) -> Vec<Token> {
    (0..n).map(|i| token(session, i)).collect()
}

fn token(session: &Session, i: usize) -> Token {
    const STRIDE: usize = 7919;
    Token::try_from((i + 1) * STRIDE % session.model().n_vocab()).unwrap_or(0)
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// The middle value, or the mean of the two in the middle; NaN for none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n => (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_ignores_outliers() {
        assert_eq!(median(&[3.0, 1.0, 900.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 900.0]), 3.0);
        assert!(median(&[]).is_nan());
    }
}
