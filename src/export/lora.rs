//! LoRA adapters as llama.cpp reads them (`llama-adapter.cpp` there): `NAME.lora_a` of ne `[n_in, r]` is Vᵀ, `NAME.lora_b` of ne
//! `[r, n_out]` is U·diag(c).
//!
//! There is no `adapter.lora.alpha`: llama.cpp then takes B·A as it is, whatever the rank of each weight, and the scale that a
//! user gives is the strength of the mixture.

use std::borrow::Cow;
use std::path::Path;

use super::{Change, WeightChange};
use crate::atomic;
use crate::error::{Error, Result};
use crate::ffi::gguf::{GgufFile, GgufHeader};
use crate::ffi::tensor_type::TensorType;
use crate::sidecar::{AdaptedWeight, Sidecar};

/// Types in which A and B can be stored.
pub const TYPES: [TensorType; 4] = [TensorType::F32, TensorType::F16, TensorType::BF16, TensorType::Q8_0];

const A: &str = ".lora_a";
const B: &str = ".lora_b";
const FINGERPRINT: &str = "svf.base.fingerprint";

/// A and B of one weight, to be written.
pub struct Pair<'a> {
    /// Its name.
    pub weight: &'a str,
    /// Rows of A.
    pub rank: usize,
    /// A `[rank, n_in]`, row by row.
    pub a: Cow<'a, [f32]>,
    /// B `[n_out, rank]`, row by row.
    pub b: Cow<'a, [f32]>,
    /// The types in which A and B are stored, of [`TYPES`]; F16 where blocks do not fill a row.
    pub types: [TensorType; 2],
}

/// How A and B are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In one of [`TYPES`]; F16 where its blocks do not fill a row.
    As(TensorType),
    /// As the sidecar stores Vᵀ and U; F16 where blocks do not fill a row.
    Kept,
}

/// What the file says of itself.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// A name, such as the expert's.
    pub name: String,
    /// A line on what it is.
    pub description: String,
}

/// Writes `change` of the weights of `sidecar` to `path`, which is replaced as a whole or not touched. Returns the number of
/// matrices that are F16 because blocks of the type that was asked for do not fill their rows.
///
/// # Errors
/// A type that is none of [`TYPES`], a value beyond the range of its type, or a file that cannot be written.
pub fn write(
    path: impl AsRef<Path>,
    sidecar: &Sidecar,
    change: &Change,
    storage: Storage,
    about: &About,
) -> Result<usize> {
    let pair = |part: &WeightChange| {
        let weight = &sidecar.weights[part.index];
        let types = match storage {
            Storage::As(ty) => [ty; 2],
            Storage::Kept => [weight.vt.ty, weight.u.ty],
        };
        let (a, b) = (a_of(sidecar, weight, part)?.into(), b_of(sidecar, weight, part)?.into());
        Ok(Pair { weight: &sidecar.weights[part.index].name, rank: part.rank(), a, b, types })
    };
    let parts = change.weights.iter().filter(|part| part.rank() > 0);
    write_pairs(path, sidecar, parts.map(pair), about)
}

/// Writes `pairs`, which are for weights of the model that `sidecar` is for, to `path`, which is replaced as a whole or not
/// touched. Returns the number of matrices that are F16 because blocks of the type that was asked for do not fill their rows.
///
/// # Errors
/// A pair that is an error, a type that is none of [`TYPES`], a value beyond the range of its type, or a file that cannot be
/// written.
pub fn write_pairs<'a>(
    path: impl AsRef<Path>,
    sidecar: &Sidecar,
    pairs: impl Iterator<Item = Result<Pair<'a>>>,
    about: &About,
) -> Result<usize> {
    let path = path.as_ref();
    let mut header = GgufHeader::new();
    header.set_str("general.type", "adapter")?;
    header.set_str("general.architecture", &sidecar.about.architecture)?;
    header.set_str("general.name", &about.name)?;
    header.set_str("general.description", &about.description)?;
    header.set_str("adapter.type", "lora")?;
    header.set_str(FINGERPRINT, sidecar.fingerprint.as_str())?;
    let mut data = Vec::new();
    let mut n_other = 0;
    for pair in pairs {
        let Pair { weight, rank, a, b, types: [type_a, type_b] } = pair?;
        for (suffix, row_len, values, wanted) in [(A, a.len() / rank, a, type_a), (B, rank, b, type_b)] {
            check_type(wanted)?;
            let (name, ty) = (format!("{weight}{suffix}"), fitting(wanted, row_len));
            n_other += usize::from(ty != wanted);
            header.add_tensor(&name, &[row_len, values.len() / row_len], ty)?;
            let mut bytes = Vec::new();
            ty.quantize(&values, row_len, &mut bytes).map_err(|error| {
                error.field(format!("tensor {name}")).hint("try another `type`, such as f32")
            })?;
            data.push((name, bytes));
        }
    }
    let encoded = header.encode();
    atomic::write(path, |out| {
        out.write_all(&encoded)?;
        let mut written = encoded.len();
        for (tensor, bytes) in &data {
            let offset = header.data_offset(tensor).unwrap_or(written);
            out.write_all(&vec![0; offset - written])?;
            out.write_all(bytes)?;
            written = offset + bytes.len();
        }
        out.write_all(&vec![0; header.total_size() - written])
    })?;
    Ok(n_other)
}

/// An adapter, as a file describes it.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// What it is called.
    pub name: String,
    /// A line on what it is; may be empty.
    pub description: String,
    /// What its model is called, or the model's architecture.
    pub base: String,
    /// The fingerprint of its model, if we made it.
    pub fingerprint: Option<String>,
    /// α, if there is one: B·A then counts α / rank times.
    pub alpha: Option<f32>,
    /// What it changes.
    pub weights: Vec<AdapterWeight>,
}

/// A weight that an adapter changes.
#[derive(Clone, Debug)]
pub struct AdapterWeight {
    /// Its name.
    pub name: String,
    /// Length of x.
    pub n_in: usize,
    /// Length of y.
    pub n_out: usize,
    /// Rows of A.
    pub rank: usize,
    /// The type of A and B.
    pub ty: String,
}

/// Describes the adapter at `path`.
///
/// # Errors
/// It cannot be read, is no LoRA adapter of llama.cpp's format, or has an A without its B.
pub fn open(path: impl AsRef<Path>) -> Result<Adapter> {
    let file = GgufFile::open(path)?;
    match file.str("adapter.type")? {
        Some("lora") => read(&file),
        kind => Err(Error::expected("'lora'", kind.map_or("none".into(), |kind| format!("'{kind}'")))
            .file(file.path())
            .field("adapter.type")
            .hint("`Model::load_lora` takes an adapter of llama.cpp's format, `Expert::open` an expert")),
    }
}

/// Describes an adapter of llama.cpp's format, whoever made it.
///
/// # Errors
/// An A without its B, or of other shapes.
pub fn read(file: &GgufFile) -> Result<Adapter> {
    let text = |key: &str| -> Result<String> { Ok(file.str(key)?.unwrap_or_default().to_owned()) };
    let mut weights = Vec::new();
    for a in file.tensors() {
        let Some(name) = a.name.strip_suffix(A) else { continue };
        let b = file.require_tensor(&format!("{name}{B}"))?;
        if a.ne[1] != b.ne[0] {
            return Err(Error::expected(format!("rows of {} in its B", a.ne[1]), b.ne[0])
                .file(file.path())
                .field(format!("tensor {}", a.name)));
        }
        let ty = if a.ty == b.ty { a.ty.to_string() } else { format!("{}, {}", a.ty, b.ty) };
        weights.push(AdapterWeight {
            name: name.to_owned(),
            n_in: a.ne[0],
            n_out: b.ne[1],
            rank: a.ne[1],
            ty,
        });
    }
    Ok(Adapter {
        name: text("general.name")?,
        description: text("general.description")?,
        base: text("general.architecture")?,
        fingerprint: file.str(FINGERPRINT)?.map(str::to_owned),
        alpha: file.f32("adapter.lora.alpha")?.filter(|&alpha| alpha != 0.0),
        weights,
    })
}

/// Whether A and B can be stored as `ty`.
///
/// # Errors
/// They cannot.
pub fn check_type(ty: TensorType) -> Result<()> {
    match TYPES.contains(&ty) {
        true => Ok(()),
        false => Err(Error::expected("f32, f16, bf16 or q8_0", ty).setting("type")),
    }
}

fn fitting(ty: TensorType, row_len: usize) -> TensorType {
    match row_len.is_multiple_of(ty.block_len()) {
        true => ty,
        false => TensorType::F16,
    }
}

/// A `[r, n_in]`, row-major: the rows of Vᵀ that are kept.
pub(super) fn a_of(sidecar: &Sidecar, weight: &AdaptedWeight, part: &WeightChange) -> Result<Vec<f32>> {
    let vt = sidecar.file().to_f32(&weight.vt)?;
    let row = |&k: &usize| &vt[k * weight.n_in..(k + 1) * weight.n_in];
    Ok(part.components.iter().flat_map(row).copied().collect())
}

/// B `[n_out, r]`, row-major: the columns of U that are kept, each times its c.
pub(super) fn b_of(sidecar: &Sidecar, weight: &AdaptedWeight, part: &WeightChange) -> Result<Vec<f32>> {
    let u = sidecar.file().to_f32(&weight.u)?;
    let scaled = |row: &[f32]| -> Vec<f32> {
        part.components.iter().zip(&part.scales).map(|(&k, c)| row[k] * c).collect()
    };
    Ok(u.chunks_exact(weight.rank).flat_map(scaled).collect())
}
