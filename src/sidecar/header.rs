//! Writing a sidecar: its header is laid out first, factors are then written in any order, and the header
//! with their checksums comes last, so that an unfinished file is never taken for a sidecar.

use std::collections::HashMap;

use blake3::Hash;

use super::{seal, About, Fingerprint, FACTOR_TYPES, FORMAT_VERSION, S, U, VT};
use crate::error::{Error, Result};
use crate::ffi::gguf::GgufHeader;
use crate::ffi::tensor_type::TensorType;

pub(crate) const GENERAL_TYPE: &str = "general.type";
pub(crate) const ADAPTER_TYPE: &str = "adapter.type";
pub(crate) const VERSION: &str = "svf.version";
pub(crate) const FINGERPRINT: &str = "svf.base.fingerprint";
pub(super) const ARCHITECTURE: &str = "general.architecture";
pub(super) const BASE_NAME: &str = "svf.base.name";
pub(super) const RANK: &str = "svf.rank";
pub(super) const SELECTION: &str = "svf.tensors";
pub(super) const TYPE: &str = "svf.type";

/// The header of a sidecar to be written.
pub struct SidecarHeader {
    header: GgufHeader,
    tensors: Vec<String>,
}

impl SidecarHeader {
    /// A sidecar without weights.
    ///
    /// # Errors
    /// A text that holds NUL.
    pub fn new(fingerprint: &Fingerprint, about: &About) -> Result<Self> {
        let mut header = new_header("svf", fingerprint)?;
        header.set_str(ARCHITECTURE, &about.architecture)?;
        header.set_str(BASE_NAME, &about.base_name)?;
        header.set_str(RANK, &about.rank.map_or("full".into(), |rank| rank.to_string()))?;
        header.set_str(SELECTION, &about.selection)?;
        header.set_str(TYPE, about.factor_type.name())?;
        Ok(Self { header, tensors: Vec::new() })
    }

    /// Appends the three tensors of weight `name`, ne `[n_in, n_out]`, with `rank` components.
    ///
    /// # Errors
    /// A name too long to carry the suffixes, a type that factors cannot have or whose blocks do not fill
    /// the rows (of n_in for Vᵀ, of rank for U), a rank beyond min(n_in, n_out).
    pub fn add_weight(
        &mut self,
        name: &str,
        [n_in, n_out]: [usize; 2],
        rank: usize,
        u: TensorType,
        vt: TensorType,
    ) -> Result<()> {
        if rank > n_in.min(n_out) {
            return Err(Error::expected(format!("at most {} components", n_in.min(n_out)), rank)
                .field(format!("weight {name}")));
        }
        for ty in [u, vt] {
            if !FACTOR_TYPES.contains(&ty) {
                return Err(Error::expected("type f32, f16 or q8_0", ty).field(format!("weight {name}")));
            }
        }
        let tensors: [(&str, &[usize], TensorType); 3] =
            [(U, &[rank, n_out], u), (S, &[rank], TensorType::F32), (VT, &[n_in, rank], vt)];
        for (suffix, ne, ty) in tensors {
            let tensor = format!("{name}{suffix}");
            self.header.add_tensor(&tensor, ne, ty)?;
            self.tensors.push(tensor);
        }
        seal::reserve(&mut self.header, self.tensors.len())
    }

    /// Names of the tensors, in the order of the table.
    pub fn tensors(&self) -> &[String] {
        &self.tensors
    }

    /// First byte of the data of `tensor` from the start of the file; `None` for an unknown one. Final once
    /// all weights were added.
    pub fn data_offset(&self, tensor: &str) -> Option<usize> {
        self.header.data_offset(tensor)
    }

    /// Bytes of the whole file, the padding after the last tensor included.
    pub fn total_size(&self) -> usize {
        self.header.total_size()
    }

    /// The header with the checksum of every tensor's data.
    ///
    /// # Errors
    /// A tensor has no checksum.
    pub fn encode(&mut self, checksums: &HashMap<String, Hash>) -> Result<Vec<u8>> {
        let in_order = self.tensors.iter().map(|tensor| {
            checksums
                .get(tensor)
                .copied()
                .ok_or_else(|| Error::invalid("has no checksum").field(format!("tensor {tensor}")))
        });
        let in_order = in_order.collect::<Result<Vec<_>>>()?;
        seal::encode(&mut self.header, &in_order)
    }
}

/// The metadata that sidecars and experts share.
pub(crate) fn new_header(adapter_type: &str, fingerprint: &Fingerprint) -> Result<GgufHeader> {
    let mut header = GgufHeader::new();
    header.set_str(GENERAL_TYPE, "adapter")?;
    header.set_str(ADAPTER_TYPE, adapter_type)?;
    header.set_u32(VERSION, FORMAT_VERSION)?;
    header.set_str(FINGERPRINT, fingerprint.as_str())?;
    Ok(header)
}
