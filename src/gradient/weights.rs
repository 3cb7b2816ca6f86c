//! The weights of a block at some m, and the gradient of m from that of the weights.

use std::sync::Arc;

use faer::{Accum, Mat};

use super::block::{Layer, Matrix, Sums, MATRICES};
use super::product;
use crate::engine::{AdaptedModel, Form};
use crate::error::{Error, Result};
use crate::expert::Multipliers;
use crate::ffi::gguf::{GgufFile, TensorInfo};
use crate::sidecar::AdaptedWeight;

/// Reads weights and factors from their files; both stay mapped, nothing is kept in memory.
pub(super) struct Weights {
    adapted: Arc<AdaptedModel>,
    form: Form,
    /// For each layer and matrix, its index in the sidecar.
    indices: Vec<[Option<usize>; 7]>,
}

impl Weights {
    /// # Errors
    /// An adapted weight that is no matrix of a block, or is cut off in the factored form.
    pub(super) fn new(adapted: &Arc<AdaptedModel>, form: Form, n_layers: usize) -> Result<Self> {
        let mut indices = vec![[None; 7]; n_layers];
        for (index, weight) in adapted.sidecar().weights.iter().enumerate() {
            let place = place(&weight.name).filter(|&(layer, _)| layer < n_layers).ok_or_else(|| {
                Error::invalid("the exact gradient adapts matrices of blocks only")
                    .field(format!("weight {}", weight.name))
                    .hint("decompose with `tensors` all, attn or ffn, or use `Evolution`")
            })?;
            indices[place.0][place.1] = Some(index);
        }
        if matches!(form, Form::Factored) && !adapted.sidecar().is_full_rank() {
            return Err(Error::expected("a sidecar of full rank", "one that is cut off").setting("form"));
        }
        Ok(Self { adapted: Arc::clone(adapted), form, indices })
    }

    pub(super) fn adapted(&self) -> &Arc<AdaptedModel> {
        &self.adapted
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    pub(super) fn file(&self) -> &GgufFile {
        self.adapted.model().file()
    }

    /// Block `layer` at `m`; at m = 1 for `None`.
    pub(super) fn layer(&self, layer: usize, m: Option<&Multipliers>) -> Result<Layer> {
        let file = self.file();
        let optional = |name: String| file.tensor(&name).map(|tensor| file.to_f32(tensor)).transpose();
        let required = |name: &str| file.to_f32(file.require_tensor(&format!("blk.{layer}.{name}.weight"))?);
        let q_norm = optional(format!("blk.{layer}.attn_q_norm.weight"))?;
        let k_norm = optional(format!("blk.{layer}.attn_k_norm.weight"))?;
        let matrix = |part: usize| {
            let name = format!("blk.{layer}.{}.weight", MATRICES[part]);
            self.matrix(&name, self.indices[layer][part], m)
        };
        let bias = |part: usize| optional(format!("blk.{layer}.{}.bias", MATRICES[part]));
        Ok(Layer {
            attn_norm: required("attn_norm")?,
            head_norms: q_norm.zip(k_norm).map(|(q, k)| [q, k]),
            ffn_norm: required("ffn_norm")?,
            matrices: all(matrix)?,
            biases: all(bias)?,
        })
    }

    /// W + U·diag(σ(m - 1))·Vᵀ, or U·diag(σ·m)·Vᵀ in the factored form; W where it is not adapted.
    fn matrix(&self, name: &str, index: Option<usize>, m: Option<&Multipliers>) -> Result<Matrix> {
        let read = || read_matrix(self.file(), self.file().require_tensor(name)?);
        let Some(index) = index else { return read() };
        let AdaptedWeight { n_in, n_out, sigma, u, vt, .. } = &self.adapted.sidecar().weights[index];
        let m = m.map(|m| m.weight(index));
        let (mut w, accumulate, scale): (_, _, Vec<f32>) = match (self.form, m) {
            (Form::Residual, None) => return read(),
            (Form::Residual, Some(m)) => {
                (read()?, Accum::Add, sigma.iter().zip(m).map(|(s, m)| s * (m - 1.0)).collect())
            }
            (Form::Factored, m) => {
                let zeros = Matrix { n_in: *n_in, n_out: *n_out, values: vec![0.0; n_in * n_out] };
                let scale = match m {
                    Some(m) => sigma.iter().zip(m).map(|(s, m)| s * m).collect(),
                    None => sigma.clone(),
                };
                (zeros, Accum::Replace, scale)
            }
        };
        let sidecar = self.adapted.sidecar().file();
        let (u, mut v) = (read_matrix(sidecar, u)?, read_matrix(sidecar, vt)?);
        for (column, scale) in v.values.chunks_exact_mut(*n_in).zip(&scale) {
            column.iter_mut().for_each(|x| *x *= scale);
        }
        let to = faer::MatMut::from_column_major_slice_mut(&mut w.values, *n_in, *n_out);
        product(to, accumulate, v.view(), u.view());
        Ok(w)
    }

    /// Zeros for the matrices of `layer` that are adapted.
    pub(super) fn sums(&self, layer: usize) -> Sums {
        let shape = |index: usize| {
            let weight = &self.adapted.sidecar().weights[index];
            Mat::zeros(weight.n_in, weight.n_out)
        };
        self.indices[layer].map(|index| index.map(shape))
    }

    /// For each adapted matrix of `layer` its index in the sidecar and dJ/dm, which is σ ⊙ diag(Uᵀ·dW·V) for
    /// the gradient dW = `sums` `[n_in, n_out]`.
    pub(super) fn project(&self, layer: usize, sums: &Sums) -> Result<Vec<(usize, Vec<f32>)>> {
        let adapted =
            self.indices[layer].iter().zip(sums).filter_map(|(index, sum)| Some(((*index)?, sum.as_ref()?)));
        adapted.map(|(index, sum)| Ok((index, self.project_one(index, sum)?))).collect()
    }

    fn project_one(&self, index: usize, sum: &Mat<f32>) -> Result<Vec<f32>> {
        let AdaptedWeight { rank, n_out, sigma, u, vt, .. } = &self.adapted.sidecar().weights[index];
        let sidecar = self.adapted.sidecar().file();
        let (u, v) = (read_matrix(sidecar, u)?, read_matrix(sidecar, vt)?);
        let mut along = Mat::zeros(*rank, *n_out);
        product(along.as_mut(), Accum::Replace, v.view().transpose(), sum.as_ref());
        let mut total = vec![0.0_f64; *rank];
        for (j, u) in u.values.chunks_exact(*rank).enumerate() {
            for ((total, u), along) in total.iter_mut().zip(u).zip(along.col_as_slice(j)) {
                *total += f64::from(u * along);
            }
        }
        Ok(total.iter().zip(sigma).map(|(total, &sigma)| (total * f64::from(sigma)) as f32).collect())
    }
}

/// Layer and index in [`MATRICES`] of the weight `name`.
fn place(name: &str) -> Option<(usize, usize)> {
    let (layer, part) = name.strip_prefix("blk.")?.strip_suffix(".weight")?.split_once('.')?;
    Some((layer.parse().ok()?, MATRICES.iter().position(|matrix| *matrix == part)?))
}

fn read_matrix(file: &GgufFile, tensor: &TensorInfo) -> Result<Matrix> {
    let [n_in, n_out, ..] = tensor.ne;
    Ok(Matrix { n_in, n_out, values: file.to_f32(tensor)? })
}

/// One of each of [`MATRICES`].
fn all<T>(of: impl Fn(usize) -> Result<T>) -> Result<[T; 7]> {
    let found: Vec<T> = (0..7).map(of).collect::<Result<_>>()?;
    found.try_into().map_err(|_| Error::engine("a block has seven matrices"))
}
