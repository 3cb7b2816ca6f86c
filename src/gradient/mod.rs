//! The exact gradient of REINFORCE with respect to m, or to the A and B of a LoRA, on the frozen model as it is.
//!
//! J(m) = mean over answers of Σ over their tokens of A·log π_m - λ·KL(π_m ‖ π_1), for fixed advantages A
//! (paper, section 3.1, with the base at m = 1 of the same factors). With A = 1 for given answers it is their likelihood.
//!
//! ```text
//! groups ─ plan, packing ─► batches: answers share the rows of their prompt
//!   forwards, layer by layer:   composed weights ─► block ─► x, kept before each block
//!   head:                       logits, their gradient, tile by tile
//!   backwards, layer by layer:  back, after the block again where memory was short; project, lora ─► dJ/dm or dJ/dA, dJ/dB
//! ```
//!
//! Only one layer's weights are in memory in F32 at a time, composed W + U·diag(σ(m - 1))·Vᵀ or W + B·A once per direction
//! for each batch. Backwards ends at the first layer that is trained. Threads share blocks of rows, heads of attention and tiles
//! of matrices, whose sizes do not depend on the number of threads, and sums are added in a fixed order: any number of
//! threads gives the same bits.

mod architecture;
mod attention;
mod block;
mod columns;
mod guard;
mod head;
mod lora;
mod packing;
mod plan;
mod pointwise;
mod project;
mod rope;
mod rounding;
mod weights;

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;
use rayon::ThreadPool;

pub use guard::Distance;
pub use plan::{Budget, Plan};

use crate::engine::{AdaptedModel, Form, LoraModel, Token};
use crate::error::{Error, Result};
use crate::expert::Multipliers;
use crate::progress::Interrupt;
use architecture::{Architecture, Attention};
use attention::View;
use block::{Saved, Shape, Wanted, N_PLACES};
use columns::Columns;
use head::{Head, Objective, Totals};
use packing::{Batch, Rows};
use plan::Sizes;
use rope::Table;
use weights::{Adapter, Layout, Weights};

/// One prompt and what was written after it.
#[derive(Clone, Debug)]
pub struct Group {
    /// The prompt; at least one token.
    pub prompt: Vec<Token>,
    /// Its answers.
    pub rollouts: Vec<Rollout>,
}

/// One answer, and how much better than expected it was.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// With the end token.
    pub tokens: Vec<Token>,
    /// Reward above the baseline.
    pub advantage: f32,
}

/// A gradient, and what was seen on the way.
#[derive(Clone, Debug)]
pub struct Gradient {
    /// dJ/dm, or dJ/dA and dJ/dB of each weight.
    pub of_parameters: Multipliers,
    /// log π of each token of the answers, in nats: one answer and one group after the other.
    pub log_probs: Vec<f64>,
    /// Mean entropy of π_m at sampled tokens, in nats.
    pub entropy: f64,
    /// Mean KL(π_m ‖ π_1) at sampled tokens, in nats. Without a penalty it is that of the first sixteenth of the groups
    /// only.
    pub kl: f64,
    /// Where the time went.
    pub seconds: Seconds,
}

/// Seconds of the parts of a gradient.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seconds {
    /// Forwards of the base model, for KL.
    pub base: f64,
    /// Forwards.
    pub forward: f64,
    /// Logits, and back through them.
    pub head: f64,
    /// Through the blocks again and back.
    pub backward: f64,
}

/// Computes gradients of one model with its sidecar.
pub struct PolicyGradient {
    architecture: Architecture,
    weights: Weights,
    head: Head,
    /// Layers whose parameters are trained.
    layers: Range<usize>,
    pool: ThreadPool,
}

/// Without a penalty KL is only shown, and this part of the groups shows it.
const SHOWN: usize = 16;

/// What batches add up to.
struct Sums {
    /// Σ (Uᵀ·dy) ⊙ (Vᵀ·x), or dJ/dA and dJ/dB, by weight, in the sidecar's order.
    of_parameters: Vec<Vec<f64>>,
    totals: Totals,
    seconds: Seconds,
}

/// Rows of a batch, and the rotations of their positions.
struct Located<'a> {
    rows: Rows<'a>,
    tables: Vec<Table<'a>>,
}

/// A batch on its way through the layers.
struct Forward {
    /// The input of each layer that the way back comes to, and what it needs of it where that is kept.
    inputs: Vec<(Columns, Option<Saved>)>,
    out: Columns,
}

impl PolicyGradient {
    /// Reads the model's description, and checks it against llama.cpp.
    ///
    /// # Errors
    /// An architecture that is not described (llama, mistral, qwen2, qwen3, smollm3, gemma3 and phi3 are), a sidecar that adapts
    /// something else than matrices of blocks, or logits that differ from llama.cpp's.
    pub fn new(adapted: &Arc<AdaptedModel>, form: Form, n_threads: usize) -> Result<Self> {
        Self::of(adapted, Adapter::Svf(form), n_threads)
    }

    /// The same for the A and B of `lora`, which is left with random numbers.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn of_lora(lora: &LoraModel, n_threads: usize) -> Result<Self> {
        Self::of(lora.adapted(), Adapter::Lora(lora.clone()), n_threads)
    }

    fn of(adapted: &Arc<AdaptedModel>, adapter: Adapter, n_threads: usize) -> Result<Self> {
        let file = adapted.model().file();
        let architecture = Architecture::read(file)?;
        let weights = Weights::new(adapted, adapter, architecture.places, architecture.n_layers)?;
        let head = Head::read(file, architecture.eps)?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .build()
            .map_err(|error| Error::engine(format!("cannot start threads: {error}")))?;
        let layers = 0..architecture.n_layers;
        let this = Self { architecture, weights, head, layers, pool };
        this.check()?;
        Ok(this)
    }

    /// The same for the parameters of `layers` only, from 0 on: the gradient of the others is 0.
    ///
    /// # Errors
    /// None of these layers is adapted.
    pub fn with_layers(self, layers: Range<usize>) -> Result<Self> {
        let n_layers = self.architecture.n_layers;
        if !(layers.start..layers.end.min(n_layers))
            .any(|layer| self.weights.adapted_in(layer).next().is_some())
        {
            let adapted: Vec<_> =
                (0..n_layers).filter(|&layer| self.weights.adapted_in(layer).next().is_some()).collect();
            let expected = format!(
                "some of the layers from {} to {}, which the sidecar adapts",
                adapted.first().unwrap_or(&0),
                adapted.last().unwrap_or(&0)
            );
            let found = format!("{} to {}", layers.start, layers.end.saturating_sub(1));
            return Err(Error::expected(expected, found).setting("layers"));
        }
        Ok(Self { layers, ..self })
    }

    /// How a gradient of `groups` is computed within what `budget` leaves for it.
    ///
    /// # Errors
    /// The budget is too small; the error says how much is needed.
    pub fn plan(&self, groups: &[Group], kl: f32, budget: Budget) -> Result<Plan> {
        Plan::new(&self.sizes(), groups, kl != 0.0, budget)
    }

    /// How many layers are computed twice by `plan`.
    pub fn computed_again(&self, plan: &Plan) -> usize {
        (self.architecture.n_layers - self.lowest()).saturating_sub(plan.kept)
    }

    /// The gradient at `parameters`, for answers sampled with these, with `kl` for λ.
    ///
    /// # Errors
    /// Parameters that have not the shape of what is trained, tokens that the model does not know, empty prompts, lengths that do not
    /// fit, or an interrupt.
    pub fn estimate(
        &self,
        parameters: &Multipliers,
        groups: &[Group],
        kl: f32,
        interrupt: &Interrupt,
    ) -> Result<Gradient> {
        self.estimate_by(&self.plan(groups, kl, Budget::default())?, parameters, groups, kl, interrupt)
    }

    /// The same, divided as `plan` says.
    ///
    /// # Errors
    /// Those of [`Self::estimate`].
    pub fn estimate_by(
        &self,
        plan: &Plan,
        parameters: &Multipliers,
        groups: &[Group],
        kl: f32,
        interrupt: &Interrupt,
    ) -> Result<Gradient> {
        self.check_parameters(parameters)?;
        let n_rollouts = groups.iter().map(|group| group.rollouts.len()).sum::<usize>();
        let objective = Objective { weight: 1.0 / n_rollouts.max(1) as f32, kl };
        let n_compared = if kl == 0.0 { groups.len().div_ceil(SHOWN) } else { groups.len() };
        let batches = packing::pack(groups, plan, n_compared, self.head.n_vocab())?;
        let mut sums = Sums {
            of_parameters: parameters.ranks().map(|n| vec![0.0; n]).collect(),
            totals: Totals::default(),
            seconds: Seconds::default(),
        };
        self.pool.install(|| {
            batches
                .into_iter()
                .try_for_each(|batch| self.add(plan, batch, parameters, objective, interrupt, &mut sums))
        })?;
        let Sums { of_parameters, totals, seconds } = sums;
        let narrow = |(index, sums): (usize, Vec<f64>)| -> Vec<f32> {
            match self.weights.adapter() {
                Adapter::Svf(_) => {
                    let sigma = &self.weights.adapted().sidecar().weights[index].sigma;
                    sums.iter().zip(sigma).map(|(sum, &sigma)| (sum * f64::from(sigma)) as f32).collect()
                }
                Adapter::Lora(_) => sums.into_iter().map(|sum| sum as f32).collect(),
            }
        };
        let mean = |sum: f64, n: usize| sum / n.max(1) as f64;
        Ok(Gradient {
            of_parameters: of_parameters.into_iter().enumerate().map(narrow).collect(),
            entropy: mean(totals.entropy, totals.log_probs.len()),
            kl: mean(totals.kl, totals.n_kl),
            log_probs: in_order(totals.log_probs),
            seconds,
        })
    }

    /// log π of each token of the answers of `groups`, as in [`Gradient::log_probs`], without a gradient.
    ///
    /// # Errors
    /// Those of [`Self::estimate`].
    pub fn log_probs(
        &self,
        plan: &Plan,
        parameters: &Multipliers,
        groups: &[Group],
        interrupt: &Interrupt,
    ) -> Result<Vec<f64>> {
        self.check_parameters(parameters)?;
        let batches = packing::pack(groups, plan, 0, self.head.n_vocab())?;
        let of_batch = |batch: Batch| {
            let located = self.located(batch.rows(batch.groups.len(), plan.block));
            let x = self.embed(&batch.tokens)?;
            let out = self.forward(&located, x, Some(parameters), &|_| None, interrupt)?.out;
            self.head.log_probs(self.weights.file(), plan, &out, &batch.outputs)
        };
        let found: Vec<_> = self.pool.install(|| batches.into_iter().map(of_batch).collect::<Result<_>>())?;
        Ok(in_order(found.concat()))
    }

    /// Floating-point operations per second of products on all threads, as measured for some hundredths of a second.
    pub fn operations_per_second(&self) -> f64 {
        const N: usize = 512;
        const ROUNDS: usize = 8;
        let n_threads = self.pool.current_num_threads();
        let one = || {
            let (a, b) = (Mat::<f32>::full(N, N, 0.5), Mat::<f32>::full(N, N, 0.25));
            let mut c = Mat::zeros(N, N);
            (0..ROUNDS).for_each(|_| product(c.as_mut(), Accum::Replace, a.as_ref(), b.as_ref()));
            c[(0, 0)]
        };
        let began = Instant::now();
        let results: Vec<f32> = self
            .pool
            .install(|| (0..n_threads).into_par_iter().map(|_| std::hint::black_box(one())).collect());
        (2 * N * N * N * ROUNDS * results.len()) as f64 / began.elapsed().as_secs_f64()
    }

    fn check_parameters(&self, parameters: &Multipliers) -> Result<()> {
        if !parameters.ranks().eq(self.weights.lengths()) {
            return Err(Error::invalid("the parameters do not have the shape of what is trained"));
        }
        Ok(())
    }

    fn sizes(&self) -> Sizes {
        let Architecture { n_layers, width, heads, ffn, .. } = self.architecture;
        let adapted = |layer| -> Vec<_> {
            let weights =
                self.trained_in(layer).map(|(_, index)| &self.weights.adapted().sidecar().weights[index]);
            weights.map(|weight| [weight.rank, weight.n_in, weight.n_out]).collect()
        };
        Sizes {
            n_layers,
            n_back: n_layers - self.lowest(),
            width,
            ffn,
            q: heads.n * heads.size,
            kv: heads.n_kv * heads.size,
            has_head_norms: self.architecture.has_head_norms,
            has_post_norms: self.architecture.has_post_norms,
            is_joined: self.architecture.places == block::JOINED,
            n_vocab: self.head.n_vocab(),
            adapted: (0..n_layers).map(adapted).collect(),
            is_lora: matches!(self.weights.adapter(), Adapter::Lora(_)),
            n_threads: self.pool.current_num_threads(),
        }
    }

    /// The trained matrices of `layer`: their places in a block and in the sidecar.
    fn trained_in(&self, layer: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.weights.adapted_in(layer).filter(move |_| self.layers.contains(&layer))
    }

    /// The first layer that is trained: the way back ends there.
    fn lowest(&self) -> usize {
        let n_layers = self.architecture.n_layers;
        (0..n_layers).find(|&layer| self.trained_in(layer).next().is_some()).unwrap_or(n_layers)
    }

    /// Adds what a batch has to say.
    fn add(
        &self,
        plan: &Plan,
        batch: Batch,
        parameters: &Multipliers,
        objective: Objective,
        interrupt: &Interrupt,
        sums: &mut Sums,
    ) -> Result<()> {
        let located = self.located(batch.rows(batch.groups.len(), plan.block));
        let compared = self.located(batch.rows(batch.n_compared, plan.block));
        let x = self.embed(&batch.tokens)?;
        let base = timed(&mut sums.seconds.base, || {
            let nothing = compared.rows.positions.is_empty();
            let x = (!nothing).then(|| x.first(compared.rows.positions.len()));
            x.map(|x| Ok(self.forward(&compared, x, None, &|_| None, interrupt)?.out)).transpose()
        })?;
        let first_kept = self.architecture.n_layers.saturating_sub(plan.kept);
        let keep = |layer: usize| (layer >= self.lowest()).then_some(layer >= first_kept);
        let forward = timed(&mut sums.seconds.forward, || {
            self.forward(&located, x, Some(parameters), &keep, interrupt)
        })?;
        let Forward { inputs, out } = forward;
        let dout = timed(&mut sums.seconds.head, || {
            let file = self.weights.file();
            let (dout, totals) =
                self.head.backward(file, plan, &out, base.as_ref(), &batch.outputs, objective)?;
            sums.totals += totals;
            Ok(dout)
        })?;
        drop((out, base));
        timed(&mut sums.seconds.backward, || {
            self.backward(&located, inputs, dout, parameters, interrupt, &mut sums.of_parameters)
        })
    }

    /// Embeddings `[width, tokens]`.
    fn embed(&self, tokens: &[Token]) -> Result<Columns> {
        let file = self.weights.file();
        let table = file.require_tensor("token_embd.weight")?;
        let mut x = Columns::zeros(self.architecture.width, tokens.len());
        for (&token, x) in tokens.iter().zip(x.rows_mut()) {
            file.rows_to_f32(table, token as usize, x)?;
            x.iter_mut().for_each(|x| *x *= self.architecture.embedding_scale);
        }
        Ok(x)
    }

    fn located<'a>(&'a self, rows: Rows<'a>) -> Located<'a> {
        let n_positions = rows.positions.iter().max().map_or(0, |last| last + 1);
        Located { rows, tables: self.architecture.ropes.iter().map(|rope| rope.table(n_positions)).collect() }
    }

    fn shape<'a>(&self, located: &'a Located<'a>, layer: usize) -> Shape<'a> {
        let Architecture { heads, ffn, eps, activation, ref attention, .. } = self.architecture;
        let Attention { rope, window } = attention[layer];
        let rope = rope.map(|rope| &located.tables[rope]);
        Shape { view: View { heads, window }, eps, ffn, activation, rope, rows: located.rows }
    }

    /// `keep` says of each layer whether its input is wanted later, and whether all that the way back needs is.
    fn forward(
        &self,
        located: &Located,
        mut x: Columns,
        parameters: Option<&Multipliers>,
        keep: &dyn Fn(usize) -> Option<bool>,
        interrupt: &Interrupt,
    ) -> Result<Forward> {
        let mut inputs = Vec::new();
        for layer in 0..self.architecture.n_layers {
            interrupt.check()?;
            let weights = self.weights.layer(layer, parameters, Layout::Outputs)?;
            let (out, saved) = weights.forward(&self.shape(located, layer), &x);
            if let Some(keeps_all) = keep(layer) {
                inputs.push((x, keeps_all.then_some(saved)));
            }
            x = out;
        }
        Ok(Forward { inputs, out: x })
    }

    /// From the gradient `dout` of the last layer's output down to the lowest trained layer, whose input is the first of
    /// `inputs`.
    fn backward(
        &self,
        located: &Located,
        mut inputs: Vec<(Columns, Option<Saved>)>,
        mut dout: Columns,
        parameters: &Multipliers,
        interrupt: &Interrupt,
        sums: &mut [Vec<f64>],
    ) -> Result<()> {
        for layer in (self.lowest()..self.architecture.n_layers).rev() {
            interrupt.check()?;
            let Some((input, saved)) = inputs.pop() else { break };
            let shape = &self.shape(located, layer);
            let weights = self.weights.layer(layer, Some(parameters), Layout::Inputs)?;
            let saved = saved.unwrap_or_else(|| weights.forward(shape, &input).1);
            let mut indices = [None; N_PLACES];
            self.trained_in(layer).for_each(|(place, index)| indices[place] = Some(index));
            let wanted =
                Wanted { matrices: indices.map(|index| index.is_some()), input: layer > self.lowest() };
            let mut take = |place: usize, x: &Columns, dy: &Columns| -> Result<()> {
                let Some(index) = indices[place] else { return Ok(()) };
                let (factors, sums) = (self.weights.factors(index, parameters)?, &mut sums[index]);
                match self.weights.adapter() {
                    Adapter::Svf(_) => {
                        let more = project::project(&factors, x, dy, shape.rows.block);
                        sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                    }
                    Adapter::Lora(_) => lora::add_gradient(&factors, x, dy, shape.rows.block, sums),
                }
                Ok(())
            };
            match weights.backward(shape, &input, saved, dout, &wanted, &mut take)? {
                Some(dx) => dout = dx,
                None => break,
            }
        }
        Ok(())
    }
}

/// What has a number each, in the order of these.
fn in_order(mut numbered: Vec<(usize, f64)>) -> Vec<f64> {
    numbered.sort_unstable_by_key(|&(number, _)| number);
    numbered.into_iter().map(|(_, value)| value).collect()
}

/// The result of `work`; the seconds it took are added to `seconds`.
fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let result = work();
    *seconds += began.elapsed().as_secs_f64();
    result
}

/// `to` (+)= `a`·`b`, on this thread.
fn product(to: MatMut<'_, f32>, accumulate: Accum, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    matmul(to, accumulate, a, b, 1.0, Par::Seq);
}
