//! The exact gradient of REINFORCE with respect to m, on the frozen model as it is.
//!
//! J(m) = mean over answers of Σ over their tokens of A·log π_m - λ·KL(π_m ‖ π_1), for fixed advantages A
//! (paper, section 3.1, with the base at m = 1 of the same factors).
//!
//! ```text
//! groups ─ packing ─► chunks: answers share the rows of their prompt
//!   forwards, layer by layer:   weights at m ─► block ─► x, kept before each block
//!   head:                       logits, their gradient, tile by tile
//!   backwards, layer by layer:  back, after the block again where memory was short; Σ x·dyᵀ per weight ─► dJ/dm = σ ⊙ diag(Uᵀ·(Σ dy·xᵀ)·V)
//! ```
//!
//! Only one layer's weights are in memory in F32 at a time, composed W + U·diag(σ(m - 1))·Vᵀ once per
//! direction for all chunks. Threads take fixed shares of the chunks and sums are added in a fixed order, so
//! that equal calls give equal bits.

mod architecture;
mod attention;
mod block;
mod guard;
mod head;
mod packing;
mod pointwise;
mod rope;
mod weights;

use std::sync::Arc;
use std::time::Instant;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;
use rayon::ThreadPool;

use crate::engine::{AdaptedModel, Form, Token};
use crate::error::{Error, Result};
use crate::expert::Multipliers;
use crate::progress::Interrupt;
use architecture::Architecture;
use block::{Saved, Shape, Sums};
use head::{Head, Totals};
use packing::Chunk;
use weights::Weights;

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
    /// dJ/dm.
    pub of_m: Multipliers,
    /// Mean entropy of π_m at sampled tokens, in nats.
    pub entropy: f64,
    /// Mean KL(π_m ‖ π_1) at sampled tokens, in nats. Without a penalty it is that of the first chunk only.
    pub kl: f64,
    /// Where the time went.
    pub seconds: Seconds,
}

/// Seconds of the parts of a gradient.
#[derive(Clone, Copy, Debug)]
pub struct Seconds {
    /// Forwards at m = 1, for KL.
    pub base: f64,
    /// Forwards at m.
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
    pool: ThreadPool,
}

/// Most rows computed together; beyond it nothing is gained, and memory grows.
const CHUNK_ROWS: usize = 1024;
/// Most bytes kept on the way there for the way back. Layers beyond them are computed twice.
const KEPT_BYTES: usize = 1 << 30;
/// A chunk on its way through the layers.
struct Work {
    chunk: Chunk,
    /// Inputs of the layers so far, and what the way back needs where it is kept.
    inputs: Vec<(Mat<f32>, Option<Saved>)>,
    /// Output of the last layer so far; on the way back, its gradient.
    x: Mat<f32>,
    /// Output of the last layer at m = 1.
    base: Option<Mat<f32>>,
}

impl PolicyGradient {
    /// Reads the model's description, and checks it against llama.cpp.
    ///
    /// # Errors
    /// An architecture that is not described (llama, mistral, qwen2 and qwen3 are), a sidecar that adapts
    /// something else than matrices of blocks, or logits that differ from llama.cpp's.
    pub fn new(adapted: &Arc<AdaptedModel>, form: Form, n_threads: usize) -> Result<Self> {
        let file = adapted.model().file();
        let architecture = Architecture::read(file)?;
        let weights = Weights::new(adapted, form, architecture.n_layers)?;
        let head = Head::read(file, architecture.eps)?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(n_threads)
            .build()
            .map_err(|error| Error::engine(format!("cannot start threads: {error}")))?;
        let this = Self { architecture, weights, head, pool };
        this.check()?;
        Ok(this)
    }

    /// dJ/dm at `m`, for answers sampled from π_m, with `kl` for λ.
    ///
    /// # Errors
    /// An m that has not the shape of the sidecar, tokens that the model does not know, empty prompts, lengths that do not fit, or an interrupt.
    pub fn estimate(
        &self,
        m: &Multipliers,
        groups: &[Group],
        kl: f32,
        interrupt: &Interrupt,
    ) -> Result<Gradient> {
        self.check_m(m)?;
        let n_rollouts = groups.iter().map(|group| group.rollouts.len()).sum::<usize>();
        let weight = 1.0 / n_rollouts.max(1) as f32;
        let n_rows: usize = groups.iter().map(packing::rows_of).sum();
        let n_threads = self.pool.current_num_threads();
        let chunks = packing::pack(groups, CHUNK_ROWS.min(n_rows.div_ceil(n_threads)), self.head.n_vocab())?;
        self.pool.install(|| {
            let mut parts = self.begin(chunks)?;
            // Without a penalty KL is only shown, and a part of the rows shows it.
            let with_base = |part: usize, chunk: usize| kl != 0.0 || (part, chunk) == (0, 0);
            let shape = self.shape(&parts);
            let ((), base) = timed(|| self.forward_base(&shape, &mut parts, &with_base, interrupt))?;
            let ((), forward) = timed(|| self.forward(&shape, &mut parts, Some(m), interrupt))?;
            let (totals, head) = timed(|| self.differentiate(&mut parts, weight, kl))?;
            let (of_m, backward) = timed(|| self.backward(&shape, &mut parts, m, interrupt))?;
            let mean = |sum: f64, n: usize| sum / n.max(1) as f64;
            Ok(Gradient {
                of_m,
                entropy: mean(totals.entropy, totals.n_tokens),
                kl: mean(totals.kl, totals.n_kl),
                seconds: Seconds { base, forward, head, backward },
            })
        })
    }

    /// Logits at m = 1 of every token of `tokens` `[vocabulary]`, one after the other.
    fn logits(&self, tokens: &[Token]) -> Result<Vec<Vec<f32>>> {
        let group = Group { prompt: tokens.to_vec(), rollouts: Vec::new() };
        let chunks = packing::pack(&[group], tokens.len(), self.head.n_vocab())?;
        self.pool.install(|| {
            let mut parts = self.begin(chunks)?;
            self.forward(&self.shape(&parts), &mut parts, None, &Interrupt::default())?;
            let logits = self.head.logits(self.weights.file(), &parts[0][0].x)?;
            Ok((0..logits.ncols()).map(|j| logits.col_as_slice(j).to_vec()).collect())
        })
    }

    fn check_m(&self, m: &Multipliers) -> Result<()> {
        let expected = self.weights.adapted().sidecar().weights.iter().map(|weight| weight.rank);
        if !m.ranks().eq(expected) {
            return Err(Error::invalid("m does not have the shape of the sidecar"));
        }
        Ok(())
    }

    /// Embeds the tokens, and gives each thread a fixed share of the chunks.
    fn begin(&self, chunks: Vec<Chunk>) -> Result<Vec<Vec<Work>>> {
        let file = self.weights.file();
        let table = file.require_tensor("token_embd.weight")?;
        let row_bytes = table.n_bytes / table.ne[1];
        let mut parts: Vec<Vec<Work>> = Vec::new();
        parts.resize_with(self.pool.current_num_threads().min(chunks.len()), Vec::new);
        let n_parts = parts.len();
        for (i, chunk) in chunks.into_iter().enumerate() {
            let mut x = Mat::zeros(self.architecture.width, chunk.n_rows());
            for (j, &token) in chunk.tokens.iter().enumerate() {
                let bytes = &file.bytes(table)[token as usize * row_bytes..][..row_bytes];
                table.ty.dequantize(bytes, x.col_as_slice_mut(j))?;
            }
            parts[i % n_parts].push(Work { chunk, inputs: Vec::new(), x, base: None });
        }
        Ok(parts)
    }

    fn shape(&self, parts: &[Vec<Work>]) -> Shape<'_> {
        let positions = parts.iter().flatten().flat_map(|work| &work.chunk.positions);
        let n_positions = positions.max().map_or(0, |last| last + 1);
        let Architecture { heads, eps, ref rope, .. } = self.architecture;
        Shape { heads, eps, rope: rope.table(n_positions) }
    }

    fn forward(
        &self,
        shape: &Shape,
        parts: &mut [Vec<Work>],
        m: Option<&Multipliers>,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let n_chunks = parts.iter().map(Vec::len).sum::<usize>();
        for layer in 0..self.architecture.n_layers {
            interrupt.check()?;
            let weights = self.weights.layer(layer, m)?;
            parts.par_iter_mut().flatten_iter().for_each(|work| {
                let (out, saved) = weights.forward(shape, &work.chunk, &work.x);
                let input = std::mem::replace(&mut work.x, out);
                // A function of the layer alone, so that equal calls have equal results.
                let is_kept = saved.n_bytes().saturating_mul((layer + 1) * n_chunks) <= KEPT_BYTES;
                work.inputs.push((input, is_kept.then_some(saved)));
            });
        }
        Ok(())
    }

    /// The same at m = 1, where it is wanted, without keeping anything but the end.
    fn forward_base(
        &self,
        shape: &Shape,
        parts: &mut [Vec<Work>],
        is_wanted: &(dyn Fn(usize, usize) -> bool + Sync),
        interrupt: &Interrupt,
    ) -> Result<()> {
        for layer in 0..self.architecture.n_layers {
            interrupt.check()?;
            let weights = self.weights.layer(layer, None)?;
            parts.par_iter_mut().enumerate().for_each(|(part, works)| {
                let wanted = works.iter_mut().enumerate().filter(|&(chunk, _)| is_wanted(part, chunk));
                for (_, work) in wanted {
                    let x = work.base.as_ref().unwrap_or(&work.x);
                    work.base = Some(weights.forward(shape, &work.chunk, x).0);
                }
            });
        }
        Ok(())
    }

    /// Replaces outputs by their gradients.
    fn differentiate(&self, parts: &mut [Vec<Work>], weight: f32, kl: f32) -> Result<Totals> {
        let file = self.weights.file();
        let of_part = |works: &mut Vec<Work>| -> Result<Totals> {
            let mut totals = Totals::default();
            for work in works {
                let base = work.base.take();
                let (dx, more) =
                    self.head.backward(file, &work.x, base.as_ref(), &work.chunk.outputs, weight, kl)?;
                work.x = dx;
                totals += more;
            }
            Ok(totals)
        };
        let of_parts: Vec<_> = parts.par_iter_mut().map(of_part).collect::<Result<_>>()?;
        let mut totals = Totals::default();
        of_parts.into_iter().for_each(|more| totals += more);
        Ok(totals)
    }

    fn backward(
        &self,
        shape: &Shape,
        parts: &mut [Vec<Work>],
        m: &Multipliers,
        interrupt: &Interrupt,
    ) -> Result<Multipliers> {
        let mut gradient = m.zeros_like();
        for layer in (0..self.architecture.n_layers).rev() {
            interrupt.check()?;
            let weights = self.weights.layer(layer, Some(m))?;
            let of_part = |works: &mut Vec<Work>| -> Sums {
                let mut sums = self.weights.sums(layer);
                for work in works {
                    let Some((input, saved)) = work.inputs.pop() else { continue };
                    let saved = saved.unwrap_or_else(|| weights.forward(shape, &work.chunk, &input).1);
                    let dout = std::mem::replace(&mut work.x, Mat::new());
                    work.x = weights.backward(shape, &work.chunk, &input, saved, dout, &mut sums);
                }
                sums
            };
            let sums = parts.par_iter_mut().map(of_part).collect::<Vec<_>>().into_iter().reduce(added);
            let Some(sums) = sums else { continue };
            for (index, of_weight) in self.weights.project(layer, &sums)? {
                gradient.weight_mut(index).copy_from_slice(&of_weight);
            }
        }
        Ok(gradient)
    }
}

/// The result of `work` and the seconds it took.
fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let began = Instant::now();
    work().map(|result| (result, began.elapsed().as_secs_f64()))
}

fn added(mut a: Sums, b: Sums) -> Sums {
    for (a, b) in a.iter_mut().zip(b) {
        if let (Some(a), Some(b)) = (a, b) {
            *a += b;
        }
    }
    a
}

/// `to` (+)= `a`·`b`, on this thread.
fn product(to: MatMut<'_, f32>, accumulate: Accum, a: MatRef<'_, f32>, b: MatRef<'_, f32>) {
    matmul(to, accumulate, a, b, 1.0, Par::Seq);
}
