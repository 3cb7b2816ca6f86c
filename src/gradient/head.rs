//! The output head and the objective: log π of what was sampled, KL to the base, and their gradient.
//!
//! Rows are taken in blocks and the vocabulary in tiles, so that memory holds neither all logits nor the output
//! matrix in F32.

use faer::{Accum, Mat, MatRef};

use super::packing::Output;
use super::pointwise::{log_softmax_sum, rms_norm, rms_norm_back};
use super::product;
use crate::error::Result;
use crate::ffi::gguf::{GgufFile, TensorInfo};

/// Tokens whose output vectors are converted at a time.
const TILE: usize = 4096;
/// Most logits held at a time by a thread (64 MB), beside those of the base.
const LOGITS: usize = 1 << 24;

/// Norm and output matrix.
pub(super) struct Head {
    norm: Vec<f32>,
    eps: f32,
    /// `[width, vocabulary]`; that of the embeddings where they are tied.
    matrix: TensorInfo,
}

/// Sums over sampled tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub n_tokens: usize,
    pub entropy: f64,
    /// Tokens that [`Self::kl`] counts.
    pub n_kl: usize,
    pub kl: f64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.n_tokens += other.n_tokens;
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
    pub(super) fn logits(&self, file: &GgufFile, x: &Mat<f32>) -> Result<Mat<f32>> {
        let normed = rms_norm(x, &self.norm, self.eps);
        let mut logits = Mat::zeros(self.n_vocab(), x.ncols());
        self.tiles(file, |first, tile| {
            let part = logits.as_mut().subrows_mut(first, tile.ncols());
            product(part, Accum::Replace, tile.transpose(), normed.as_ref());
        })?;
        Ok(logits)
    }

    /// The gradient, with respect to the last block's output `x` `[width, rows]`, of
    /// `weight` · Σ (A·log π(token) - `kl`·KL(π ‖ π_base)) over the sampled tokens of `outputs`. `base` is `x` at
    /// m = 1; KL is reported where it is given.
    pub(super) fn backward(
        &self,
        file: &GgufFile,
        x: &Mat<f32>,
        base: Option<&Mat<f32>>,
        outputs: &[Output],
        weight: f32,
        kl: f32,
    ) -> Result<(Mat<f32>, Totals)> {
        let mut dx = Mat::zeros(x.nrows(), x.ncols());
        let mut totals = Totals::default();
        for outputs in outputs.chunks((LOGITS / self.n_vocab()).max(1)) {
            let rows = gather(x, outputs);
            let mut logits = self.logits(file, &rows)?;
            let base = base.map(|base| self.logits(file, &gather(base, outputs))).transpose()?;
            for (j, output) in outputs.iter().enumerate() {
                let base = base.as_ref().map(|base| base.col_as_slice(j));
                totals += differentiate(logits.col_as_slice_mut(j), base, &output.sampled, weight, kl);
            }
            let mut d_normed = Mat::zeros(x.nrows(), outputs.len());
            self.tiles(file, |first, tile| {
                let part = logits.as_ref().subrows(first, tile.ncols());
                product(d_normed.as_mut(), Accum::Add, tile, part);
            })?;
            let mut d_rows = Mat::zeros(x.nrows(), outputs.len());
            rms_norm_back(&rows, &self.norm, self.eps, &d_normed, &mut d_rows);
            for (j, output) in outputs.iter().enumerate() {
                dx.col_as_slice_mut(output.row).copy_from_slice(d_rows.col_as_slice(j));
            }
        }
        Ok((dx, totals))
    }

    /// Calls `work` with each part of the output matrix, `[width, tokens]`, and its first token.
    fn tiles(&self, file: &GgufFile, mut work: impl FnMut(usize, MatRef<'_, f32>)) -> Result<()> {
        let (width, bytes) = (self.matrix.ne[0], file.bytes(&self.matrix));
        let row_bytes = bytes.len() / self.n_vocab();
        let mut values = vec![0.0; width * TILE.min(self.n_vocab())];
        for (i, bytes) in bytes.chunks(row_bytes * TILE).enumerate() {
            let n = bytes.len() / row_bytes;
            let values = &mut values[..n * width];
            self.matrix.ty.dequantize(bytes, values)?;
            work(i * TILE, MatRef::from_column_major_slice(values, width, n));
        }
        Ok(())
    }
}

fn gather(x: &Mat<f32>, outputs: &[Output]) -> Mat<f32> {
    let mut rows = Mat::zeros(x.nrows(), outputs.len());
    for (j, output) in outputs.iter().enumerate() {
        rows.col_as_slice_mut(j).copy_from_slice(x.col_as_slice(output.row));
    }
    rows
}

/// Turns logits into the gradient with respect to them,
/// `weight` · Σ (A·(onehot(token) - π) - `kl`·π ⊙ (d - ⟨π, d⟩)), d = logits - base.
fn differentiate(
    logits: &mut [f32],
    base: Option<&[f32]>,
    sampled: &[(i32, f32)],
    weight: f32,
    kl: f32,
) -> Totals {
    let n = sampled.len();
    let difference: Option<Vec<f32>> = base.map(|base| logits.iter().zip(base).map(|(l, b)| l - b).collect());
    // ⟨π, l⟩, for the entropy ln Σ eˡ - ⟨π, l⟩.
    let original = logits.to_vec();
    let log_sum = log_softmax_sum(logits);
    let mean = |values: &[f32], p: &[f32]| -> f64 {
        values.iter().zip(p).map(|(value, p)| f64::from(*value) * f64::from(*p)).sum()
    };
    let entropy = f64::from(log_sum) - mean(&original, logits);
    let mut totals = Totals { n_tokens: n, entropy: n as f64 * entropy, ..Default::default() };

    let advantage: f32 = sampled.iter().map(|(_, advantage)| advantage).sum();
    let probabilities = logits;
    let mut pull = vec![-advantage; probabilities.len()];
    if let (Some(difference), Some(base)) = (difference, base) {
        let mean_difference = mean(&difference, probabilities);
        let mut base = base.to_vec();
        let base_log_sum = log_softmax_sum(&mut base);
        totals.n_kl = n;
        totals.kl = n as f64 * (mean_difference - f64::from(log_sum) + f64::from(base_log_sum));
        for (pull, d) in pull.iter_mut().zip(&difference) {
            *pull -= kl * n as f32 * (d - mean_difference as f32);
        }
    }
    for (p, pull) in probabilities.iter_mut().zip(&pull) {
        *p *= pull * weight;
    }
    for &(token, advantage) in sampled {
        probabilities[token as usize] += advantage * weight;
    }
    totals
}
