//! The model with W′ = W + U·diag(c)·Vᵀ in the place of W, as a GGUF file like any other.
//!
//! Where no type changes, every byte that is not of an adapted weight is that of the model's file. W′ is rounded to the type it
//! is stored in as W was, and what that costs is measured beside the change: a change much smaller than the rounding is lost.

use std::io::{self, Write};
use std::path::Path;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::{lora, Change, WeightChange};
use crate::atomic;
use crate::error::{Error, Result};
use crate::ffi::gguf::{GgufFile, GgufHeader, TensorInfo};
use crate::ffi::tensor_type::TensorType;
use crate::progress::{Interrupt, Progress};
use crate::sidecar::Sidecar;

/// In which type adapted weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// That of W; Q8_0 in the place of a type that cannot be written without a matrix of importance, or at all.
    Kept,
    /// This one.
    As(TensorType),
}

/// What became of one weight.
#[derive(Clone, Debug)]
pub struct MergedWeight {
    /// Its name.
    pub name: String,
    /// The type it was stored in.
    pub from: TensorType,
    /// The type it is stored in.
    pub ty: TensorType,
    /// |W|.
    pub norm: f64,
    /// |W′ − W|.
    pub change: f64,
    /// |W′ as stored − W′|.
    pub rounding: f64,
}

/// Rows that are stored together.
const ROWS: usize = 64;

/// Writes `model` with `change` to `path`, which is replaced as a whole or not touched. Progress counts the bytes of the model's
/// tensors.
///
/// # Errors
/// A sidecar of another model, a type that cannot be written or that rows do not fill, a value beyond its range, a file that
/// cannot be written, or an interrupt.
pub fn write(
    path: impl AsRef<Path>,
    model: &GgufFile,
    sidecar: &Sidecar,
    change: &Change,
    storage: Storage,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Vec<MergedWeight>> {
    sidecar.check_model(model)?;
    let mut plan = Vec::with_capacity(model.tensors().len());
    for tensor in model.tensors() {
        let part = change.weights.iter().find(|part| sidecar.weights[part.index].name == tensor.name);
        let ty = match part {
            None => tensor.ty,
            Some(_) => stored(tensor, storage)?,
        };
        plan.push(Step { tensor, part, ty });
    }
    let layout = Layout::new(model, &plan)?;
    let mut merged = Vec::new();
    let mut failed = None;
    progress.start(model.tensors().iter().map(|tensor| tensor.n_bytes as u64).sum(), 0);
    let written = atomic::write(path.as_ref(), |out| {
        let done = write_all(out, model, sidecar, &plan, &layout, progress, interrupt);
        merged = done.map_err(|problem| match problem {
            Problem::Io(error) => error,
            Problem::Other(error) => {
                failed = Some(error);
                io::Error::other("see the other error")
            }
        })?;
        Ok(())
    });
    progress.finish();
    match failed {
        Some(error) => Err(error),
        None => written.map(|()| merged),
    }
}

/// A tensor of the new file.
struct Step<'a> {
    tensor: &'a TensorInfo,
    /// How it changes; `None` for one that is copied.
    part: Option<&'a WeightChange>,
    ty: TensorType,
}

enum Problem {
    Io(io::Error),
    Other(Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Where everything lies in the new file.
struct Layout {
    header: Vec<u8>,
    /// First byte of each tensor.
    offsets: Vec<usize>,
    total: usize,
    /// Whether the new file is the old one but for adapted weights.
    is_same: bool,
}

impl Layout {
    fn new(model: &GgufFile, plan: &[Step]) -> Result<Self> {
        if plan.iter().all(|step| step.ty == step.tensor.ty) {
            let header = model.mmap()[..model.data_offset()].to_vec();
            let offsets = plan.iter().map(|step| step.tensor.offset).collect();
            return Ok(Self { header, offsets, total: model.mmap().len(), is_same: true });
        }
        let mut header = GgufHeader::new();
        header.copy_metadata(model);
        for Step { tensor, ty, .. } in plan {
            header.add_tensor(&tensor.name, &tensor.ne[..tensor.n_dims], *ty)?;
        }
        let offset = |step: &Step| header.data_offset(&step.tensor.name).unwrap_or(0);
        let offsets = plan.iter().map(offset).collect();
        Ok(Self { offsets, total: header.total_size(), header: header.encode(), is_same: false })
    }
}

fn write_all(
    out: &mut dyn Write,
    model: &GgufFile,
    sidecar: &Sidecar,
    plan: &[Step],
    layout: &Layout,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> std::result::Result<Vec<MergedWeight>, Problem> {
    // Tensors may lie in another order than the table has them.
    let mut order: Vec<usize> = (0..plan.len()).collect();
    order.sort_by_key(|&i| layout.offsets[i]);
    let mut merged = Vec::new();
    let mut written = 0;
    let fill = |out: &mut dyn Write, written: usize, to: usize| -> io::Result<()> {
        match layout.is_same {
            true => out.write_all(&model.mmap()[written..to]),
            false => out.write_all(&vec![0; to - written]),
        }
    };
    out.write_all(&layout.header)?;
    written += layout.header.len();
    for i in order {
        interrupt.check()?;
        let Step { tensor, part, ty } = &plan[i];
        fill(out, written, layout.offsets[i])?;
        written = layout.offsets[i];
        match part {
            None => {
                out.write_all(model.bytes(tensor))?;
                written += tensor.n_bytes;
            }
            Some(part) => {
                let (bytes, weight) = merge(model, sidecar, tensor, part, *ty)?;
                out.write_all(&bytes)?;
                written += bytes.len();
                merged.push(weight);
            }
        }
        progress.advance(tensor.n_bytes as u64);
    }
    fill(out, written, layout.total)?;
    Ok(merged)
}

/// The type that the adapted weight `tensor` is stored in.
fn stored(tensor: &TensorInfo, storage: Storage) -> Result<TensorType> {
    let ty = match storage {
        Storage::As(ty) => ty,
        Storage::Kept if tensor.ty.can_be_written() => tensor.ty,
        Storage::Kept => TensorType::Q8_0,
    };
    if !ty.can_be_written() {
        return Err(Error::invalid(format!("weights cannot be written as {ty}"))
            .setting("type")
            .hint("f32, f16, bf16, q8_0, or a type of blocks that needs no matrix of importance"));
    }
    match (ty.row_bytes(tensor.ne[0]), storage) {
        (Some(_), _) => Ok(ty),
        (None, Storage::Kept) => Ok(TensorType::F16),
        (None, Storage::As(_)) => {
            Err(Error::expected(format!("rows of a multiple of {} for {ty}", ty.block_len()), tensor.ne[0])
                .field(format!("tensor {}", tensor.name))
                .hint("try another `type`"))
        }
    }
}

/// W′ of one weight as it is stored, and what that means.
fn merge(
    model: &GgufFile,
    sidecar: &Sidecar,
    tensor: &TensorInfo,
    part: &WeightChange,
    ty: TensorType,
) -> Result<(Vec<u8>, MergedWeight)> {
    let weight = &sidecar.weights[part.index];
    let (n_in, rank) = (weight.n_in, part.rank());
    let a = lora::a_of(sidecar, weight, part)?;
    let b = lora::b_of(sidecar, weight, part)?;
    let row_bytes = tensor.n_bytes / weight.n_out;
    let blocks = model.bytes(tensor).par_chunks(row_bytes * ROWS).enumerate().map(|(i, bytes)| {
        let mut base = vec![0.0; bytes.len() / row_bytes * n_in];
        tensor.ty.dequantize(bytes, &mut base)?;
        let mut w = base.clone();
        if rank > 0 {
            let n_rows = base.len() / n_in;
            // Row-major `[n_rows, n_in]` is column-major `[n_in, n_rows]`: W′ᵀ = Wᵀ + V·(U·diag(c))ᵀ.
            matmul(
                MatMut::from_column_major_slice_mut(&mut w, n_in, n_rows),
                Accum::Add,
                MatRef::from_column_major_slice(&a, n_in, rank),
                MatRef::from_column_major_slice(&b[i * ROWS * rank..][..n_rows * rank], rank, n_rows),
                1.0,
                Par::Seq,
            );
        }
        let mut stored = Vec::new();
        ty.quantize(&w, n_in, &mut stored)?;
        let mut read = vec![0.0; w.len()];
        ty.dequantize(&stored, &mut read)?;
        let squares = [square(&base), squared_distance(&w, &base), squared_distance(&read, &w)];
        Ok((stored, squares))
    });
    let named = |error: Error| error.field(format!("tensor {}", tensor.name)).hint("try another `type`");
    let blocks: Vec<(Vec<u8>, [f64; 3])> = blocks.collect::<Result<_>>().map_err(named)?;
    let norm = |i: usize| blocks.iter().map(|(_, squares)| squares[i]).sum::<f64>().sqrt();
    let merged = MergedWeight {
        name: tensor.name.clone(),
        from: tensor.ty,
        ty,
        norm: norm(0),
        change: norm(1),
        rounding: norm(2),
    };
    Ok((blocks.into_iter().flat_map(|(bytes, _)| bytes).collect(), merged))
}

fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

fn square(a: &[f32]) -> f64 {
    a.iter().map(|&a| f64::from(a).powi(2)).sum()
}
