//! The sidecar file `MODEL.svf.gguf`: the factors of a base model's weights, checked when opened.
//!
//! A GGUF file with these metadata (all required):
//!
//! | key | type | value |
//! |---|---|---|
//! | `general.type`, `adapter.type` | str | `adapter`, `svf`: stock llama.cpp then refuses it clearly |
//! | `general.architecture` | str | copied from the base model |
//! | `svf.version` | u32 | [`FORMAT_VERSION`] |
//! | `svf.base.fingerprint` | str | [`Fingerprint`] of the base model |
//! | `svf.base.name` | str | what the base model calls itself |
//! | `svf.rank` | str | `full`, or the number of components kept |
//! | `svf.tensors` | str | the selection as the user gave it |
//! | `svf.type` | str | the element type asked for (single tensors may have fallen back to another) |
//! | `svf.checksums`, `svf.seal` | strs, str | see [`seal`] |
//!
//! and for each adapted weight `NAME` with W ≈ U·diag(σ)·Vᵀ, W of ne `[n_in, n_out]`, three tensors:
//!
//! | tensor | ggml ne | type |
//! |---|---|---|
//! | `NAME.svf_u` | `[r, n_out]` | F32, F16 or Q8_0 |
//! | `NAME.svf_s` | `[r]` | F32: σ, finite, not negative, descending |
//! | `NAME.svf_vt` | `[n_in, r]` | F32, F16 or Q8_0 |
//!
//! Opening reads the header and σ. The factors are only mapped, so that a file of many gigabytes opens at
//! once; [`Sidecar::verify`] reads them in full.

mod blank;
pub mod fingerprint;
pub mod header;
pub mod seal;

use std::collections::HashMap;
use std::path::Path;

use blake3::Hash;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::ffi::gguf::{GgufFile, TensorInfo};
use crate::ffi::tensor_type::TensorType;
use crate::progress::Progress;
use crate::resume::Digest;

pub use fingerprint::Fingerprint;
pub use header::SidecarHeader;

/// Version of the sidecar and expert formats, in `svf.version`.
pub const FORMAT_VERSION: u32 = 1;
/// Types in which U and Vᵀ may be stored: those that every implementation of the op reads.
pub const FACTOR_TYPES: [TensorType; 3] = [TensorType::F32, TensorType::F16, TensorType::Q8_0];

const U: &str = ".svf_u";
const S: &str = ".svf_s";
const VT: &str = ".svf_vt";
/// ggml's CPU backend wants tensor data at multiples of this.
const ALIGNMENT: usize = 32;
/// Elements converted at a time when factors are verified.
const VERIFY_CHUNK: usize = 1 << 16;
const REMAKE: &str = "make it again with `decompose`";

/// What a sidecar says about its origin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct About {
    /// What the base model calls itself (`general.name`).
    pub base_name: String,
    /// The base model's `general.architecture`.
    pub architecture: String,
    /// Components kept per weight; `None` for all.
    pub rank: Option<usize>,
    /// The selection of tensors, as the user gave it.
    pub selection: String,
    /// The type of U and Vᵀ that was asked for.
    pub factor_type: TensorType,
}

/// One adapted weight: where its factors lie, and σ.
#[derive(Clone, Debug)]
pub struct AdaptedWeight {
    /// Name of the base weight, such as `blk.0.ffn_up.weight`.
    pub name: String,
    /// Length of x.
    pub n_in: usize,
    /// Length of y.
    pub n_out: usize,
    /// Number of components r, 1 ≤ r ≤ min(n_in, n_out).
    pub rank: usize,
    /// U, ne `[r, n_out]`.
    pub u: TensorInfo,
    /// Vᵀ, ne `[n_in, r]`.
    pub vt: TensorInfo,
    /// σ, length r: finite, not negative, descending.
    pub sigma: Vec<f32>,
}

impl AdaptedWeight {
    /// Whether no component was cut off, so that the factored form can replace the weight.
    pub fn is_full_rank(&self) -> bool {
        self.rank == self.n_in.min(self.n_out)
    }
}

/// An open sidecar.
pub struct Sidecar {
    /// Which base model it belongs to.
    pub fingerprint: Fingerprint,
    /// How it was made.
    pub about: About,
    /// The adapted weights, in the order of the file; at least one.
    pub weights: Vec<AdaptedWeight>,
    file: GgufFile,
    checksums: HashMap<String, Hash>,
    by_name: HashMap<String, usize>,
}

impl Sidecar {
    /// Opens and checks `path`; see the module's description for what must hold.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or is no sidecar.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::open_checked(GgufFile::open(path)?).map_err(|error| error.file(path).hint(REMAKE))
    }

    fn open_checked(file: GgufFile) -> Result<Self> {
        check_kind(&file, "svf", "a sidecar")?;
        let checksums = seal::check_header(&file)?;
        let fingerprint = require_fingerprint(&file)?;
        let about = read_about(&file)?;
        let checksums: HashMap<_, _> =
            file.tensors().iter().map(|tensor| tensor.name.clone()).zip(checksums).collect();
        // σ lies scattered between the factors.
        let weights = file.without_read_ahead(|| read_weights(&file, &checksums))?;
        let by_name = weights.iter().enumerate().map(|(i, weight)| (weight.name.clone(), i)).collect();
        Ok(Self { fingerprint, about, weights, file, checksums, by_name })
    }

    /// The open file, for the data of U and Vᵀ.
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// The adapted weight `name`.
    pub fn weight(&self, name: &str) -> Option<&AdaptedWeight> {
        self.by_name.get(name).map(|&index| &self.weights[index])
    }

    /// Whether every weight kept all its components.
    pub fn is_full_rank(&self) -> bool {
        self.weights.iter().all(AdaptedWeight::is_full_rank)
    }

    /// Checks that `model` is the base model: its fingerprint, and every adapted weight with its shape.
    ///
    /// # Errors
    /// It is another model.
    pub fn check_model(&self, model: &GgufFile) -> Result<()> {
        let found = Fingerprint::of_model(model)?;
        if found != self.fingerprint {
            return Err(Error::expected(
                format!("base model {} ('{}')", self.fingerprint.short(), self.about.base_name),
                format!("{} in {}", found.short(), model.path().display()),
            )
            .file(self.file.path())
            .field(header::FINGERPRINT)
            .hint("this sidecar was made for another model; run `decompose`"));
        }
        for weight in &self.weights {
            let expected = [weight.n_in, weight.n_out, 1, 1];
            let found = model.tensor(&weight.name).map(|tensor| tensor.ne);
            if found != Some(expected) {
                let found = found.map_or("no such tensor".into(), |ne| format!("{ne:?}"));
                return Err(Error::expected(format!("shape {expected:?} in the model"), found)
                    .file(self.file.path())
                    .field(format!("weight {}", weight.name))
                    .hint(REMAKE));
            }
        }
        Ok(())
    }

    /// Changes with the names, ranks and types of the adapted weights, and with their σ. It takes no reading of factors.
    pub fn digest(&self) -> String {
        let mut digest = Digest::new();
        for AdaptedWeight { name, rank, u, vt, sigma, .. } in &self.weights {
            digest.text("weight", name).number("rank", *rank);
            digest.text("u", u.ty.name()).text("vt", vt.ty.name()).floats("sigma", sigma);
        }
        digest.finish()
    }

    /// Reads U and Vᵀ of every weight in full and checks that they are as they were written, and finite.
    /// Progress counts bytes.
    ///
    /// # Errors
    /// The first factor that is not.
    pub fn verify(&self, progress: &dyn Progress) -> Result<()> {
        let factors: Vec<_> = self.weights.iter().flat_map(|weight| [&weight.u, &weight.vt]).collect();
        progress.start(factors.iter().map(|tensor| tensor.n_bytes as u64).sum(), 0);
        let verdict = factors
            .par_iter()
            .map(|tensor| {
                let verdict = self.verify_factor(tensor);
                progress.advance(tensor.n_bytes as u64);
                verdict
            })
            .find_first(Result::is_err);
        progress.finish();
        verdict.unwrap_or(Ok(()))
    }

    fn verify_factor(&self, tensor: &TensorInfo) -> Result<()> {
        seal::check_data(&self.file, tensor, self.checksums[&tensor.name])?;
        let named = |error: Error| error.file(self.file.path()).field(format!("tensor {}", tensor.name));
        let ty = tensor.ty;
        let chunk_bytes = VERIFY_CHUNK / ty.block_len() * ty.block_bytes();
        let mut values = vec![0.0; VERIFY_CHUNK];
        for (i, bytes) in self.file.bytes(tensor).chunks(chunk_bytes).enumerate() {
            let values = &mut values[..bytes.len() / ty.block_bytes() * ty.block_len()];
            ty.dequantize(bytes, values).map_err(named)?;
            if let Some(at) = values.iter().position(|x| !x.is_finite()) {
                let found = format!("{} at element {}", values[at], i * VERIFY_CHUNK + at);
                return Err(named(Error::expected("finite values", found).hint(REMAKE)));
            }
        }
        Ok(())
    }
}

/// Checks that `file` is an SVF file of the kind `adapter_type`, in a version that is understood.
pub(crate) fn check_kind(file: &GgufFile, adapter_type: &str, what: &str) -> Result<()> {
    let found = file.str(header::ADAPTER_TYPE)?;
    if file.str(header::GENERAL_TYPE)? != Some("adapter") || found != Some(adapter_type) {
        let found = found.map_or("none".into(), |found| format!("'{found}'"));
        return Err(Error::expected(format!("'{adapter_type}' ({what})"), found)
            .field(header::ADAPTER_TYPE)
            .hint(format!("give {what} that llama-svf wrote")));
    }
    let version = file.require_u32(header::VERSION)?;
    if version != FORMAT_VERSION {
        return Err(Error::expected(format!("version {FORMAT_VERSION}"), version)
            .field(header::VERSION)
            .hint("the file was written by another version of llama-svf; update, or create it again"));
    }
    Ok(())
}

/// The fingerprint of the base model that `file` names.
pub(crate) fn require_fingerprint(file: &GgufFile) -> Result<Fingerprint> {
    Fingerprint::parse(file.require_str(header::FINGERPRINT)?)
        .map_err(|error| error.field(header::FINGERPRINT))
}

fn read_about(file: &GgufFile) -> Result<About> {
    let rank = file.require_str(header::RANK)?;
    let rank = match rank.parse::<usize>() {
        _ if rank == "full" => None,
        Ok(rank) if rank > 0 => Some(rank),
        _ => {
            return Err(
                Error::expected("'full' or a positive number", format!("'{rank}'")).field(header::RANK)
            )
        }
    };
    let factor_type = crate::ffi::tensor_type::parse(file.require_str(header::TYPE)?)
        .map_err(|error| error.field(header::TYPE))?;
    Ok(About {
        base_name: file.require_str(header::BASE_NAME)?.to_owned(),
        architecture: file.require_str(header::ARCHITECTURE)?.to_owned(),
        rank,
        selection: file.require_str(header::SELECTION)?.to_owned(),
        factor_type,
    })
}

fn read_weights(file: &GgufFile, checksums: &HashMap<String, Hash>) -> Result<Vec<AdaptedWeight>> {
    let mut weights = Vec::new();
    for tensor in file.tensors() {
        let Some(name) = [U, S, VT].iter().find_map(|suffix| tensor.name.strip_suffix(suffix)) else {
            return Err(Error::expected(format!("names that end in {U}, {S} or {VT}"), "another")
                .field(format!("tensor {}", tensor.name)));
        };
        // Each weight is met three times: σ stands for it, and misses are noticed at any of them.
        let [u, sigma, vt] = [U, S, VT].map(|suffix| file.require_tensor(&format!("{name}{suffix}")));
        let (u, sigma, vt) = (u?, sigma?, vt?);
        if tensor.name.ends_with(S) {
            weights.push(read_weight(file, name, u, sigma, vt, checksums[&sigma.name])?);
        }
    }
    if weights.is_empty() {
        return Err(Error::expected("at least one adapted weight", "none").field("tensors"));
    }
    Ok(weights)
}

fn read_weight(
    file: &GgufFile,
    name: &str,
    u: &TensorInfo,
    sigma: &TensorInfo,
    vt: &TensorInfo,
    checksum: Hash,
) -> Result<AdaptedWeight> {
    let (rank, n_out, n_in) = (sigma.ne[0], u.ne[1], vt.ne[0]);
    for (tensor, expected) in [(sigma, [rank, 1]), (u, [rank, n_out]), (vt, [n_in, rank])] {
        let field = || format!("tensor {}", tensor.name);
        if tensor.ne != [expected[0], expected[1], 1, 1] {
            let found = format!("{:?}", tensor.ne);
            return Err(Error::expected(format!("shape {expected:?} (rank {rank})"), found).field(field()));
        }
        let is_factor = tensor.name != sigma.name;
        if is_factor && !FACTOR_TYPES.contains(&tensor.ty) {
            return Err(Error::expected("type f32, f16 or q8_0", tensor.ty).field(field()));
        }
        if !is_factor && tensor.ty != TensorType::F32 {
            return Err(Error::expected("type f32", tensor.ty).field(field()));
        }
        if !tensor.offset.is_multiple_of(ALIGNMENT) {
            let expected = format!("data at a multiple of {ALIGNMENT} bytes");
            return Err(Error::expected(expected, format!("byte {}", tensor.offset)).field(field()));
        }
    }
    if rank > n_in.min(n_out) {
        return Err(Error::expected(format!("at most {} components", n_in.min(n_out)), rank)
            .field(format!("tensor {}", sigma.name)));
    }
    seal::check_data(file, sigma, checksum)?;
    let values = file.to_f32(sigma)?;
    if let Some(at) = (0..rank).find(|&i| {
        let descending = i == 0 || values[i] <= values[i - 1];
        !(values[i].is_finite() && values[i] >= 0.0 && descending)
    }) {
        let found = format!("{} at component {at}", values[at]);
        return Err(Error::expected("finite, non-negative, descending values", found)
            .field(format!("tensor {}", sigma.name)));
    }
    Ok(AdaptedWeight {
        name: name.to_owned(),
        n_in,
        n_out,
        rank,
        u: u.clone(),
        vt: vt.clone(),
        sigma: values,
    })
}
