//! The description of a model is checked by its results: logits as llama.cpp computes them, with random multipliers or a
//! random LoRA, so that the factors count too.
//!
//! How far they may be apart follows from what llama.cpp rounds and this module does not: activations, before weights of
//! fewer bits. The same is done here, and what it changes is measured on the same tokens.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::columns::Columns;
use super::plan::Plan;
use super::weights::{Adapter, Layout};
use super::{packing, Group, PolicyGradient};
use crate::engine::{
    AdaptedModel, AdapterOptions, Form, GraphOp, Input, KvType, Session, SessionOptions, Token,
};
use crate::error::{Error, Result};
use crate::expert::{Expert, Mixture, Multipliers};
use crate::sidecar::AdaptedWeight;

/// Tokens that are read.
const N_TOKENS: usize = 128;
/// What they say.
const TEXT: &str = "Rain had fallen since noon, and by the time the ferry left the harbour the far shore was gone. Ingrid stood at \
    the rail and counted the buoys: seven red ones, then four green. Twice seven is fourteen, she thought, and four more make \
    eighteen. \"How long until we arrive?\" she asked. The man beside her looked at his watch. \"An hour, if the wind stays in the \
    west.\"\n\ndef mean(values):\n    total = 0.0\n    for value in values:\n        total += value\n    return total / \
    len(values)\n\n1. Water boils at 100 degrees Celsius at sea level.\n2. On a mountain the air is thinner, so it boils earlier.\n";
/// Of so many, the logits after one are compared.
const STRIDE: usize = 4;
/// Seed of the parameters.
const SEED: u64 = 1;
/// What the expert with them is called.
const NAME: &str = "random";
/// Distances that rounding explains: so many times what rounding activations changes …
const TIMES: f64 = 2.0;
/// … and what F32 and the types of factors leave. Measured were 0.8 to 1.3 times what rounding changes, for weights of
/// Q4_0 to Q8_0 and real models of mixed types, and 2e-4 for factors in Q8_0 beside weights in F32.
const FLOOR: f64 = 2e-3;

/// How far logits are apart: ‖difference‖ / ‖logits - their mean‖.
#[derive(Clone, Copy, Debug)]
pub struct Distance {
    /// From llama.cpp's.
    pub found: f64,
    /// From those with activations rounded as llama.cpp does.
    pub rounding: f64,
}

impl Distance {
    /// The largest that rounding explains.
    pub fn bound(&self) -> f64 {
        TIMES * self.rounding + FLOOR
    }

    /// Whether rounding explains it.
    pub fn is_explained(&self) -> bool {
        // Not so for NaN.
        self.found <= self.bound()
    }
}

impl PolicyGradient {
    /// How far logits at random parameters are from those that llama.cpp computes with `adapted`, after a text. It has
    /// the weights that this was made for, or others of the same shapes, to see that they are told apart. A LoRA is left
    /// with random numbers.
    ///
    /// # Errors
    /// llama.cpp cannot run the model.
    pub fn distance_from_llama_cpp(&self, adapted: &Arc<AdaptedModel>) -> Result<Distance> {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        // After a text such as models are trained on: after random tokens they are beside themselves, and rounding changes
        // more than many a mistake would.
        let mut tokens = adapted.model().tokenize(TEXT, true, false)?;
        tokens.truncate(N_TOKENS.min(adapted.model().n_ctx_train() as usize));
        let n = tokens.len();
        let mut uniform = |middle: f32, width: f32, n: usize| -> Vec<f32> {
            (0..n).map(|_| middle + width * rng.random_range(-1.0..1.0f32)).collect()
        };
        let sidecar = adapted.sidecar();
        let (parameters, form, expert) = match self.weights.adapter() {
            Adapter::Svf(form) => {
                let m: Multipliers =
                    sidecar.weights.iter().map(|weight| uniform(1.0, 0.5, weight.rank)).collect();
                self.check_parameters(&m)?;
                let expert = Expert::of_multipliers(NAME, sidecar, &m);
                (m, *form, expert)
            }
            Adapter::Lora(lora) => {
                // B·A is about as large as a weight is.
                let scale = |n: usize| 1.0 / (n as f32).sqrt();
                let pair = |weight: &AdaptedWeight| {
                    let AdaptedWeight { n_in, n_out, rank, .. } = *weight;
                    [uniform(0.0, scale(n_in), rank * n_in), uniform(0.0, scale(rank), n_out * rank)].concat()
                };
                let parameters: Multipliers = lora.weights().iter().map(pair).collect();
                lora.write(&parameters);
                (parameters, Form::Residual, lora.expert(NAME))
            }
        };

        let options = SessionOptions {
            n_ctx: n as u32,
            n_threads: self.pool.current_num_threads() as u32,
            kv: KvType::F32,
            flash_attention: false,
            ..Default::default()
        };
        let adapter = AdapterOptions { form, op: GraphOp::Auto, n_slots: 2 };
        let mut session = Session::adapted(adapted, &options, &adapter)?;
        session.experts_mut()?.insert(expert)?;
        session.set_mixture(1, &Mixture::single(NAME))?;
        session.assign(0, 1)?;
        let is_compared = |i: usize| i % STRIDE == STRIDE - 1;
        let input = |(i, &token): (usize, &Token)| Input { seq: 0, token, output: is_compared(i) };
        session.decode(&tokens.iter().enumerate().map(input).collect::<Vec<_>>())?;

        let ours = self.logits(&tokens, &parameters, &is_compared, false)?;
        let rounded = self.logits(&tokens, &parameters, &is_compared, true)?;
        let mut sums = [0.0; 4];
        for row in 0..ours.rows() {
            let found = squared(ours.row(row), session.logits(row));
            let rounding = squared(rounded.row(row), ours.row(row));
            sums.iter_mut().zip([found, rounding].concat()).for_each(|(sum, more)| *sum += more);
        }
        Ok(Distance { found: (sums[0] / sums[1]).sqrt(), rounding: (sums[2] / sums[3]).sqrt() })
    }

    pub(super) fn check(&self) -> Result<()> {
        let distance = self.distance_from_llama_cpp(self.weights.adapted())?;
        if distance.is_explained() {
            return Ok(());
        }
        Err(Error::engine(format!(
            "logits computed here are {:.1e} of their spread away from llama.cpp's, and rounding explains {:.1e}",
            distance.found,
            distance.bound()
        ))
        .file(self.weights.file().path())
        .hint("the exact gradient misses a part of this model; `Evolution` needs no gradient"))
    }

    /// Logits `[vocabulary, …]` at `parameters` after those of `tokens` whose places are `wanted`.
    fn logits(
        &self,
        tokens: &[Token],
        parameters: &Multipliers,
        wanted: &(dyn Fn(usize) -> bool + Sync),
        is_rounded: bool,
    ) -> Result<Columns> {
        let group = Group { prompt: tokens.to_vec(), rollouts: Vec::new() };
        let plan = Plan::default();
        let batches = packing::pack(&[group], &plan, 0, self.head.n_vocab())?;
        self.pool.install(|| {
            let batch = batches.first().ok_or_else(|| Error::invalid("there are no tokens"))?;
            let located = self.located(batch.rows(1, plan.block));
            let mut x = self.embed(&batch.tokens)?;
            for layer in 0..self.architecture.n_layers {
                let shape = self.shape(&located, layer);
                let mut layer = self.weights.layer(layer, Some(parameters), Layout::Outputs)?;
                layer.is_rounded = is_rounded;
                x = layer.forward(&shape, &x).0;
            }
            let kept: Vec<_> = (0..x.rows()).filter(|&row| wanted(row)).collect();
            let mut last = Columns::zeros(x.n(), kept.len());
            kept.iter().enumerate().for_each(|(j, &row)| last.row_mut(j).copy_from_slice(x.row(row)));
            self.head.logits(self.weights.file(), &plan, &last, is_rounded)
        })
    }
}

/// ‖a - b‖² and ‖b - mean b‖².
fn squared(a: &[f32], b: &[f32]) -> [f64; 2] {
    let mean = b.iter().map(|&b| f64::from(b)).sum::<f64>() / b.len() as f64;
    let square = |x: f64| x * x;
    let difference = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    [difference, b.iter().map(|b| square(f64::from(*b) - mean)).sum()]
}
