//! The weights of a block at some m, and the factors of those that are adapted, read and composed by all threads.

use std::sync::Arc;

use faer::{Accum, MatRef};
use rayon::prelude::*;

use super::architecture::POST_NORMS;
use super::block::{named, Layer, Places, N_PLACES};
use super::columns::{view, view_mut};
use super::product;
use crate::engine::{AdaptedModel, Form};
use crate::error::{Error, Result};
use crate::expert::Multipliers;
use crate::ffi::gguf::{GgufFile, TensorInfo};

/// Outputs of a matrix that a thread reads or composes at a time.
const TILE: usize = 128;

/// A matrix of a file: `n_out` columns of `n_in` entries.
pub(super) struct Matrix {
    pub n_in: usize,
    pub n_out: usize,
    pub values: Vec<f32>,
}

/// U, as `rank` entries for each output, and V, as `n_in` entries for each component.
pub(super) struct Factors {
    pub u: Matrix,
    pub v: Matrix,
}

/// Reads weights and factors from their files; both stay mapped, nothing is kept in memory.
pub(super) struct Weights {
    adapted: Arc<AdaptedModel>,
    form: Form,
    places: Places,
    /// For each layer and matrix, its index in the sidecar.
    indices: Vec<[Option<usize>; N_PLACES]>,
}

impl Weights {
    /// # Errors
    /// An adapted weight that is no matrix of a block, or is cut off in the factored form.
    pub(super) fn new(
        adapted: &Arc<AdaptedModel>,
        form: Form,
        places: Places,
        n_layers: usize,
    ) -> Result<Self> {
        let mut indices = vec![[None; N_PLACES]; n_layers];
        for (index, weight) in adapted.sidecar().weights.iter().enumerate() {
            let place =
                place(&places, &weight.name).filter(|&(layer, _)| layer < n_layers).ok_or_else(|| {
                    Error::invalid("the exact gradient adapts matrices of blocks only")
                        .field(format!("weight {}", weight.name))
                        .hint("decompose with `tensors` all, attn or ffn, or use `Evolution`")
                })?;
            indices[place.0][place.1] = Some(index);
        }
        if matches!(form, Form::Factored) && !adapted.sidecar().is_full_rank() {
            return Err(Error::expected("a sidecar of full rank", "one that is cut off").setting("form"));
        }
        Ok(Self { adapted: Arc::clone(adapted), form, places, indices })
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

    /// The adapted matrices of `layer`, by their places in the block and in the sidecar.
    pub(super) fn adapted_in(&self, layer: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.indices[layer].iter().enumerate().filter_map(|(place, index)| Some((place, (*index)?)))
    }

    /// Block `layer` at `m`; at m = 1 for `None`.
    pub(super) fn layer(&self, layer: usize, m: Option<&Multipliers>) -> Result<Layer> {
        let file = self.file();
        let optional = |name: String| file.tensor(&name).map(|tensor| file.to_f32(tensor)).transpose();
        let required = |name: &str| file.to_f32(file.require_tensor(&format!("blk.{layer}.{name}.weight"))?);
        let q_norm = optional(format!("blk.{layer}.attn_q_norm.weight"))?;
        let k_norm = optional(format!("blk.{layer}.attn_k_norm.weight"))?;
        let [after_attention, after_ffn] =
            POST_NORMS.map(|name| optional(format!("blk.{layer}.{name}.weight")));
        let matrix = |place: usize| {
            let Some(name) = self.places[place] else { return Ok(None) };
            self.matrix(&format!("blk.{layer}.{name}.weight"), self.indices[layer][place], m).map(Some)
        };
        let bias = |place: usize| {
            self.places[place].map_or(Ok(None), |name| optional(format!("blk.{layer}.{name}.bias")))
        };
        Ok(Layer {
            attn_norm: required("attn_norm")?,
            head_norms: q_norm.zip(k_norm).map(|(q, k)| [q, k]),
            ffn_norm: required("ffn_norm")?,
            post_norms: after_attention?.zip(after_ffn?).map(|(attention, ffn)| [attention, ffn]),
            matrices: all(matrix)?,
            biases: all(bias)?,
        })
    }

    /// U and V of the weight `index` of the sidecar.
    pub(super) fn factors(&self, index: usize) -> Result<Factors> {
        let (file, weight) = (self.adapted.sidecar().file(), &self.adapted.sidecar().weights[index]);
        Ok(Factors { u: read_matrix(file, &weight.u)?, v: read_matrix(file, &weight.vt)? })
    }

    /// W + U·diag(σ(m - 1))·Vᵀ, or U·diag(σ·m)·Vᵀ in the factored form; W where it is not adapted.
    fn matrix(&self, name: &str, index: Option<usize>, m: Option<&Multipliers>) -> Result<Matrix> {
        let tensor = self.file().require_tensor(name)?;
        let Some(index) = index else { return read_matrix(self.file(), tensor) };
        let is_residual = matches!(self.form, Form::Residual);
        let shift = if is_residual { 1.0 } else { 0.0 };
        let sigma = &self.adapted.sidecar().weights[index].sigma;
        let scale: Vec<f32> = match m {
            Some(m) => sigma.iter().zip(m.weight(index)).map(|(s, m)| s * (m - shift)).collect(),
            None => sigma.iter().map(|s| s * (1.0 - shift)).collect(),
        };
        let mut w = if is_residual { read_matrix(self.file(), tensor)? } else { Matrix::zeros(tensor) };
        if scale.iter().any(|&scale| scale != 0.0) {
            w.add_product(&self.factors(index)?, &scale);
        }
        Ok(w)
    }
}

impl Matrix {
    fn zeros(tensor: &TensorInfo) -> Self {
        let [n_in, n_out, ..] = tensor.ne;
        Self { n_in, n_out, values: vec![0.0; n_in * n_out] }
    }

    pub(super) fn view(&self) -> MatRef<'_, f32> {
        view(&self.values, self.n_in)
    }

    /// Adds V·diag(`scale`)·Uᵀ, which is how U·diag(`scale`)·Vᵀ lies in a file.
    fn add_product(&mut self, factors: &Factors, scale: &[f32]) {
        let us = factors.u.values.par_chunks(factors.rank() * TILE);
        self.values.par_chunks_mut(self.n_in * TILE).zip(us).for_each(|(w, u)| {
            let mut u = u.to_vec();
            for u in u.chunks_exact_mut(scale.len()) {
                u.iter_mut().zip(scale).for_each(|(u, scale)| *u *= scale);
            }
            let (v, u) = (factors.v.view(), view(&u, scale.len()));
            product(view_mut(w, self.n_in), Accum::Add, v, u);
        });
    }
}

impl Factors {
    pub(super) fn rank(&self) -> usize {
        self.u.n_in
    }
}

/// Layer and place of the weight `name`.
fn place(places: &Places, name: &str) -> Option<(usize, usize)> {
    let (layer, part) = name.strip_prefix("blk.")?.strip_suffix(".weight")?.split_once('.')?;
    let (place, _) = named(places).find(|(_, name)| *name == part)?;
    Some((layer.parse().ok()?, place))
}

/// Reads it on all threads.
fn read_matrix(file: &GgufFile, tensor: &TensorInfo) -> Result<Matrix> {
    let mut matrix = Matrix::zeros(tensor);
    let tiles = matrix.values.par_chunks_mut(matrix.n_in * TILE).enumerate();
    tiles.try_for_each(|(i, values)| file.rows_to_f32(tensor, i * TILE, values))?;
    Ok(matrix)
}

/// One for each place.
fn all<T: Send>(of: impl Fn(usize) -> Result<T> + Send + Sync) -> Result<[T; N_PLACES]> {
    let found: Vec<T> = (0..N_PLACES).into_par_iter().map(of).collect::<Result<_>>()?;
    found.try_into().map_err(|_| Error::engine("a block has so many places"))
}
