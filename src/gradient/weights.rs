//! The weights of a block at some parameters, and the factors of those that are adapted, read and composed by all threads.

use std::sync::Arc;

use faer::{Accum, MatRef};
use rayon::prelude::*;

use super::architecture::POST_NORMS;
use super::block::{named, Layer, Places, N_PLACES};
use super::columns::{view, view_mut};
use super::product;
use super::rounding::Rounding;
use crate::engine::{AdaptedModel, Form, LoraModel};
use crate::error::{Error, Result};
use crate::expert::Multipliers;
use crate::ffi::gguf::{GgufFile, TensorInfo};

/// Outputs of a matrix that a thread reads or composes at a time.
const TILE: usize = 128;

/// A matrix of a file, `[n_in, n_out]`.
pub(super) struct Matrix {
    pub n_in: usize,
    pub n_out: usize,
    values: Vec<f32>,
    layout: Layout,
    /// What llama.cpp does to what is multiplied by it.
    pub rounding: Rounding,
}

/// Which numbers of a matrix lie side by side. Products are faster where the rows of their left factor do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Layout {
    /// Those of an output, as in the file: for the way back, W·dy.
    Inputs,
    /// Those of an input: for the way there, Wᵀ·x.
    Outputs,
}

/// U, as `rank` entries for each output, and V, as `n_in` entries for each component: B and A of a LoRA.
pub(super) struct Factors {
    pub u: Matrix,
    pub v: Matrix,
}

/// What is trained beside the weights.
#[derive(Clone)]
pub(super) enum Adapter {
    /// The multipliers of their singular values.
    Svf(Form),
    /// B·A, added to them.
    Lora(LoraModel),
}

/// Reads weights and factors from their files; both stay mapped, nothing is kept in memory.
pub(super) struct Weights {
    adapted: Arc<AdaptedModel>,
    adapter: Adapter,
    places: Places,
    /// For each layer and matrix, its index in the sidecar.
    indices: Vec<[Option<usize>; N_PLACES]>,
}

impl Weights {
    /// # Errors
    /// An adapted weight that is no matrix of a block, or is cut off in the factored form.
    pub(super) fn new(
        adapted: &Arc<AdaptedModel>,
        adapter: Adapter,
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
        if matches!(adapter, Adapter::Svf(Form::Factored)) && !adapted.sidecar().is_full_rank() {
            return Err(Error::expected("a sidecar of full rank", "one that is cut off").setting("form"));
        }
        Ok(Self { adapted: Arc::clone(adapted), adapter, places, indices })
    }

    pub(super) fn adapted(&self) -> &Arc<AdaptedModel> {
        &self.adapted
    }

    pub(super) fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// How many parameters each adapted weight has, in the sidecar's order.
    pub(super) fn lengths(&self) -> Vec<usize> {
        match &self.adapter {
            Adapter::Svf(_) => self.adapted.sidecar().weights.iter().map(|weight| weight.rank).collect(),
            Adapter::Lora(lora) => lora.lengths().collect(),
        }
    }

    pub(super) fn file(&self) -> &GgufFile {
        self.adapted.model().file()
    }

    /// The adapted matrices of `layer`, by their places in the block and in the sidecar.
    pub(super) fn adapted_in(&self, layer: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.indices[layer].iter().enumerate().filter_map(|(place, index)| Some((place, (*index)?)))
    }

    /// Block `layer` at some parameters; that of the base model for `None`.
    pub(super) fn layer(
        &self,
        layer: usize,
        parameters: Option<&Multipliers>,
        layout: Layout,
    ) -> Result<Layer> {
        let file = self.file();
        let optional = |name: String| file.tensor(&name).map(|tensor| file.to_f32(tensor)).transpose();
        let required = |name: &str| file.to_f32(file.require_tensor(&format!("blk.{layer}.{name}.weight"))?);
        let q_norm = optional(format!("blk.{layer}.attn_q_norm.weight"))?;
        let k_norm = optional(format!("blk.{layer}.attn_k_norm.weight"))?;
        let [after_attention, after_ffn] =
            POST_NORMS.map(|name| optional(format!("blk.{layer}.{name}.weight")));
        let matrix = |place: usize| {
            let Some(name) = self.places[place] else { return Ok(None) };
            let name = format!("blk.{layer}.{name}.weight");
            self.matrix(&name, self.indices[layer][place], parameters, layout).map(Some)
        };
        let bias = |place: usize| {
            self.places[place].map_or(Ok(None), |name| optional(format!("blk.{layer}.{name}.bias")))
        };
        let found = Layer {
            attn_norm: required("attn_norm")?,
            head_norms: q_norm.zip(k_norm).map(|(q, k)| [q, k]),
            ffn_norm: required("ffn_norm")?,
            post_norms: after_attention?.zip(after_ffn?).map(|(attention, ffn)| [attention, ffn]),
            matrices: all(matrix)?,
            biases: all(bias)?,
            is_rounded: false,
        };
        file.release();
        Ok(found)
    }

    /// U and V of the weight `index` of the sidecar, or B and A of a LoRA with these parameters.
    pub(super) fn factors(&self, index: usize, parameters: &Multipliers) -> Result<Factors> {
        match &self.adapter {
            Adapter::Svf(_) => self.stored(index),
            Adapter::Lora(lora) => {
                let [a, b] = lora.pair(index, parameters);
                let weight = &lora.weights()[index];
                Ok(Factors { u: Matrix::of(weight.rank, b.to_vec()), v: Matrix::of(weight.n_in, a.to_vec()) })
            }
        }
    }

    fn stored(&self, index: usize) -> Result<Factors> {
        let (file, weight) = (self.adapted.sidecar().file(), &self.adapted.sidecar().weights[index]);
        let read = |tensor: &TensorInfo| {
            let mut matrix = Matrix::zeros(tensor.ne[0], tensor.ne[1], Layout::Inputs);
            matrix.fill(|first, tile| file.rows_to_f32(tensor, first, tile))?;
            Ok(matrix)
        };
        Ok(Factors { u: read(&weight.u)?, v: read(&weight.vt)? })
    }

    /// What is added to the weight `index`, as factors and a scale for each component; `None` for nothing.
    fn change(&self, index: usize, parameters: Option<&Multipliers>) -> Result<Option<(Factors, Vec<f32>)>> {
        let weight = &self.adapted.sidecar().weights[index];
        let scale: Vec<f32> = match (&self.adapter, parameters) {
            (Adapter::Svf(form), m) => {
                let shift = if matches!(form, Form::Residual) { 1.0 } else { 0.0 };
                match m {
                    Some(m) => {
                        weight.sigma.iter().zip(m.weight(index)).map(|(s, m)| s * (m - shift)).collect()
                    }
                    None => weight.sigma.iter().map(|s| s * (1.0 - shift)).collect(),
                }
            }
            (Adapter::Lora(_), Some(_)) => vec![1.0; weight.rank],
            (Adapter::Lora(_), None) => return Ok(None),
        };
        if scale.iter().all(|&scale| scale == 0.0) {
            return Ok(None);
        }
        let factors = match parameters {
            Some(parameters) => self.factors(index, parameters)?,
            None => self.stored(index)?,
        };
        Ok(Some((factors, scale)))
    }

    /// W + U·diag(σ(m - 1))·Vᵀ, U·diag(σ·m)·Vᵀ in the factored form, or W + B·A; W where it is not adapted.
    fn matrix(
        &self,
        name: &str,
        index: Option<usize>,
        parameters: Option<&Multipliers>,
        layout: Layout,
    ) -> Result<Matrix> {
        let file = self.file();
        let tensor = file.require_tensor(name)?;
        let is_residual = index.is_none() || !matches!(self.adapter, Adapter::Svf(Form::Factored));
        let change = index.map_or(Ok(None), |index| self.change(index, parameters))?;
        let mut w = Matrix::zeros(tensor.ne[0], tensor.ne[1], layout);
        w.rounding = Rounding::of(tensor.ty);
        w.fill(|first, tile| {
            if is_residual {
                file.rows_to_f32(tensor, first, tile)?;
            }
            if let Some((factors, scale)) = &change {
                factors.add_to(first, tile, scale);
            }
            Ok(())
        })?;
        Ok(w)
    }
}

impl Matrix {
    pub(super) fn zeros(n_in: usize, n_out: usize, layout: Layout) -> Self {
        Self { n_in, n_out, values: vec![0.0; n_in * n_out], layout, rounding: Rounding::None }
    }

    /// `[n_in, n_out]`, with the inputs of an output side by side.
    pub(super) fn of(n_in: usize, values: Vec<f32>) -> Self {
        let n_out = values.len() / n_in;
        Self { n_in, n_out, values, layout: Layout::Inputs, rounding: Rounding::None }
    }

    pub(super) fn view(&self) -> MatRef<'_, f32> {
        match self.layout {
            Layout::Inputs => view(&self.values, self.n_in),
            Layout::Outputs => view(&self.values, self.n_out).transpose(),
        }
    }

    /// The inputs of output `o`.
    ///
    /// # Panics
    /// They do not lie side by side.
    pub(super) fn output(&self, o: usize) -> &[f32] {
        assert_eq!(self.layout, Layout::Inputs);
        &self.values[o * self.n_in..][..self.n_in]
    }

    /// Fills it on all threads: `write` gets the first output of a part, and zeros for the inputs of each of its outputs.
    ///
    /// # Errors
    /// Those of `write`.
    pub(super) fn fill(&mut self, write: impl Fn(usize, &mut [f32]) -> Result<()> + Sync) -> Result<()> {
        let (n_in, n_out) = (self.n_in, self.n_out);
        if self.layout == Layout::Inputs {
            let tiles = self.values.par_chunks_mut(n_in * TILE).enumerate();
            return tiles.try_for_each(|(i, tile)| write(i * TILE, tile));
        }
        let (mut tiles, mut rest) = (Vec::new(), view_mut(&mut self.values, n_out));
        while rest.nrows() > TILE {
            let (tile, below) = rest.split_at_row_mut(TILE);
            tiles.push(tile);
            rest = below;
        }
        tiles.push(rest);
        tiles.into_par_iter().enumerate().try_for_each(|(i, mut to)| {
            let mut tile = vec![0.0; n_in * to.nrows()];
            write(i * TILE, &mut tile)?;
            to.copy_from(view(&tile, n_in).transpose());
            Ok(())
        })
    }
}

impl Factors {
    pub(super) fn rank(&self) -> usize {
        self.u.n_in
    }

    /// Adds U·diag(`scale`)·Vᵀ to some outputs of a weight, from `first` on, the inputs of each side by side.
    fn add_to(&self, first: usize, w: &mut [f32], scale: &[f32]) {
        let n_in = self.v.n_in;
        let mut u = Vec::with_capacity(w.len() / n_in * self.rank());
        for output in first..first + w.len() / n_in {
            u.extend(self.u.output(output).iter().zip(scale).map(|(u, scale)| u * scale));
        }
        product(view_mut(w, n_in), Accum::Add, self.v.view(), view(&u, self.rank()));
    }
}

/// Layer and place of the weight `name`.
fn place(places: &Places, name: &str) -> Option<(usize, usize)> {
    let (layer, part) = name.strip_prefix("blk.")?.strip_suffix(".weight")?.split_once('.')?;
    let (place, _) = named(places).find(|(_, name)| *name == part)?;
    Some((layer.parse().ok()?, place))
}

/// One for each place.
fn all<T: Send>(of: impl Fn(usize) -> Result<T> + Send + Sync) -> Result<[T; N_PLACES]> {
    let found: Vec<T> = (0..N_PLACES).into_par_iter().map(of).collect::<Result<_>>()?;
    found.try_into().map_err(|_| Error::engine("a block has so many places"))
}
