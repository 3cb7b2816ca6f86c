//! The output head and the objective: log π of what was sampled, KL to the base, and their gradient.
//!
//! Some rows are taken at a time, and the vocabulary in tiles, so that memory holds neither all logits nor the output
//! matrix in F32. Of each row there is one vector as long as the vocabulary, and one more where it is compared with
//! the base.

use faer::{Accum, MatRef};
use rayon::prelude::*;

use super::columns::{view, view_mut, Columns};
use super::packing::{Output, Sampled};
use super::plan::Plan;
use super::pointwise::{log_sum_exp, rms_norm, rms_norm_back, softmax_with_means};
use super::product;
use super::rounding::Rounding;
use super::weights::{Layout, Matrix};
use crate::error::Result;
use crate::ffi::gguf::{GgufFile, TensorInfo};

/// Norm and output matrix.
pub(super) struct Head {
    norm: Vec<f32>,
    eps: f32,
    /// `[width, vocabulary]`; that of the embeddings where they are tied.
    matrix: TensorInfo,
}

/// What the gradient is of.
#[derive(Clone, Copy)]
pub(super) struct Objective {
    /// Of each sampled token.
    pub weight: f32,
    /// λ.
    pub kl: f32,
}

/// Sums over sampled tokens.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    /// Number and log π of each.
    pub log_probs: Vec<(usize, f64)>,
    pub entropy: f64,
    /// Tokens that [`Self::kl`] counts.
    pub n_kl: usize,
    pub kl: f64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.log_probs.extend(other.log_probs);
        self.entropy += other.entropy;
        self.n_kl += other.n_kl;
        self.kl += other.kl;
    }
}

impl Head {
    pub(super) fn read(file: &GgufFile, eps: f32) -> Result<Self> {
        let norm = file.to_f32(file.require_tensor("output_norm.weight")?)?;
        let matrix =
            file.tensor("output.weight").map_or_else(|| file.require_tensor("token_embd.weight"), Ok)?;
        Ok(Self { norm, eps, matrix: matrix.clone() })
    }

    pub(super) fn n_vocab(&self) -> usize {
        self.matrix.ne[1]
    }

    /// Logits `[vocabulary, rows]` of the last block's output `x` `[width, rows]`.
    pub(super) fn logits(
        &self,
        file: &GgufFile,
        plan: &Plan,
        x: &Columns,
        is_rounded: bool,
    ) -> Result<Columns> {
        let (n, n_vocab) = (plan.head_block(), self.n_vocab());
        let mut normed = Columns::zeros(x.n(), x.rows());
        let blocks = (x.blocks(n), normed.blocks_mut(n));
        blocks.into_par_iter().for_each(|(x, normed)| {
            rms_norm(x, &self.norm, self.eps, normed);
            if is_rounded {
                Rounding::of(self.matrix.ty).apply(normed);
            }
        });
        let mut logits = Columns::zeros(n_vocab, x.rows());
        self.tiles(file, plan, Layout::Outputs, |first, tile| {
            (normed.blocks(n), logits.blocks_mut(n)).into_par_iter().for_each(|(normed, logits)| {
                let part = view_mut(logits, n_vocab).subrows_mut(first, tile.ncols());
                product(part, Accum::Replace, tile.transpose(), view(normed, tile.nrows()));
            });
        })?;
        Ok(logits)
    }

    /// Number and log π of the sampled tokens of `outputs`.
    pub(super) fn log_probs(
        &self,
        file: &GgufFile,
        plan: &Plan,
        x: &Columns,
        outputs: &[Output],
    ) -> Result<Vec<(usize, f64)>> {
        let mut found = Vec::new();
        for outputs in outputs.chunks(plan.head_rows) {
            let logits = self.logits(file, plan, &gather(x, outputs), false)?;
            let of_row =
                |(logits, output): (&[f32], &Output)| log_probs(logits, &output.sampled, log_sum_exp(logits));
            let of_rows: Vec<_> = (logits.blocks(1), outputs).into_par_iter().map(of_row).collect();
            found.extend(of_rows.concat());
        }
        Ok(found)
    }

    /// The gradient, with respect to the last block's output `x` `[width, rows]`, of
    /// `weight` · Σ (A·log π(token) - `kl`·KL(π ‖ π_base)) over the sampled tokens of `outputs`. `base` has the first
    /// rows of `x` at m = 1; KL is reported of these, and can only be wanted of all.
    pub(super) fn backward(
        &self,
        file: &GgufFile,
        plan: &Plan,
        x: &Columns,
        base: Option<&Columns>,
        outputs: &[Output],
        objective: Objective,
    ) -> Result<(Columns, Totals)> {
        let (n, n_vocab) = (plan.head_block(), self.n_vocab());
        let mut dx = Columns::zeros(x.n(), x.rows());
        let mut totals = Totals::default();
        for outputs in outputs.chunks(plan.head_rows) {
            let rows = gather(x, outputs);
            let mut logits = self.logits(file, plan, &rows, false)?;
            let n_compared =
                base.map_or(0, |base| outputs.partition_point(|output| output.row < base.rows()));
            let mut base = match base {
                Some(base) if n_compared > 0 => {
                    Some(self.logits(file, plan, &gather(base, &outputs[..n_compared]), false)?)
                }
                _ => None,
            };
            let mut bases: Vec<Option<&mut [f32]>> = Vec::new();
            bases.extend(base.iter_mut().flat_map(|base| base.rows_mut().map(Some)));
            bases.resize_with(outputs.len(), || None);
            let work = (logits.blocks_mut(1), bases, outputs);
            let of_rows: Vec<Totals> = work
                .into_par_iter()
                .map(|(logits, base, output)| differentiate(logits, base, &output.sampled, objective))
                .collect();
            of_rows.into_iter().for_each(|more| totals += more);

            let mut d_normed = Columns::zeros(x.n(), outputs.len());
            self.tiles(file, plan, Layout::Inputs, |first, tile| {
                (logits.blocks(n), d_normed.blocks_mut(n)).into_par_iter().for_each(|(logits, d_normed)| {
                    let part = view(logits, n_vocab).subrows(first, tile.ncols());
                    product(view_mut(d_normed, tile.nrows()), Accum::Add, tile, part);
                });
            })?;
            for (j, output) in outputs.iter().enumerate() {
                let to = dx.row_mut(output.row);
                rms_norm_back(rows.row(j), &self.norm, self.eps, d_normed.row(j), to);
            }
        }
        Ok((dx, totals))
    }

    /// Calls `work` with each part of the output matrix, `[width, tokens]`, and its first token.
    fn tiles(
        &self,
        file: &GgufFile,
        plan: &Plan,
        layout: Layout,
        mut work: impl FnMut(usize, MatRef<'_, f32>),
    ) -> Result<()> {
        let n_vocab = self.n_vocab();
        for first in (0..n_vocab).step_by(plan.tile) {
            let mut tile = Matrix::zeros(self.matrix.ne[0], plan.tile.min(n_vocab - first), layout);
            tile.fill(|output, part| file.rows_to_f32(&self.matrix, first + output, part))?;
            file.release();
            work(first, tile.view());
        }
        Ok(())
    }
}

fn gather(x: &Columns, outputs: &[Output]) -> Columns {
    let mut rows = Columns::zeros(x.n(), outputs.len());
    for (j, output) in outputs.iter().enumerate() {
        rows.row_mut(j).copy_from_slice(x.row(output.row));
    }
    rows
}

fn log_probs(logits: &[f32], sampled: &[Sampled], log_sum: f64) -> Vec<(usize, f64)> {
    sampled.iter().map(|of| (of.number, f64::from(logits[of.token as usize]) - log_sum)).collect()
}

/// Turns logits into the gradient with respect to them,
/// `weight` · Σ (A·(onehot(token) - π) - `kl`·π ⊙ (d - ⟨π, d⟩)), d = logits - base; leaves d in `base`.
fn differentiate(
    logits: &mut [f32],
    base: Option<&mut [f32]>,
    sampled: &[Sampled],
    objective: Objective,
) -> Totals {
    let Objective { weight, kl } = objective;
    let n = sampled.len();
    let base = base.map(|base| {
        let log_sum = log_sum_exp(base);
        base.iter_mut().zip(&*logits).for_each(|(base, l)| *base = l - *base);
        (log_sum, &*base)
    });
    let mut found = log_probs(logits, sampled, 0.0);
    let of = softmax_with_means(logits, base.map_or(&[], |(_, difference)| difference));
    found.iter_mut().for_each(|(_, log_p)| *log_p -= of.log_sum);
    let mut totals =
        Totals { log_probs: found, entropy: n as f64 * (of.log_sum - of.mean_logit), ..Totals::default() };
    let advantage: f32 = sampled.iter().map(|sampled| sampled.advantage).sum();
    let probabilities = logits;
    let pull = -advantage * weight;
    match base {
        Some((base_log_sum, difference)) => {
            totals.n_kl = n;
            totals.kl = n as f64 * (of.mean_beside - of.log_sum + base_log_sum);
            let (share, mean) = (kl * n as f32 * weight, of.mean_beside as f32);
            for (p, d) in probabilities.iter_mut().zip(difference) {
                *p *= pull - share * (d - mean);
            }
        }
        None => probabilities.iter_mut().for_each(|p| *p *= pull),
    }
    for &Sampled { token, advantage, .. } in sampled {
        probabilities[token as usize] += advantage * weight;
    }
    totals
}
