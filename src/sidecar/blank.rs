//! Sidecars whose factors are still to come: σ = 1, and zeros for U and V.

use std::collections::HashMap;
use std::io::{Seek, SeekFrom, Write};

use super::{About, AdaptedWeight, Sidecar, SidecarHeader, S, U, VT};
use crate::error::{Error, Result};
use crate::ffi::tensor_type::TensorType;
use crate::temporary::Listed;

impl Sidecar {
    /// A sidecar of the same model for those of its weights that are `wanted`, with `rank` components of zeros in F32. Its
    /// file is gone once it is open, and takes next to no room: zeros are not stored.
    ///
    /// # Errors
    /// A rank beyond the shape of one of them, or no room for temporary files.
    pub fn blank(&self, rank: usize, wanted: impl Fn(&AdaptedWeight) -> bool) -> Result<Self> {
        let about = About { rank: Some(rank), factor_type: TensorType::F32, ..self.about.clone() };
        let mut header = SidecarHeader::new(&self.fingerprint, &about)?;
        let mut checksums = HashMap::new();
        let zeros = vec![0; 1 << 16];
        let of_zeros = |n: usize| {
            let (mut hasher, n_bytes) = (blake3::Hasher::new(), n * size_of::<f32>());
            for first in (0..n_bytes).step_by(zeros.len()) {
                hasher.update(&zeros[..zeros.len().min(n_bytes - first)]);
            }
            hasher.finalize()
        };
        let ones = 1f32.to_le_bytes().repeat(rank);
        let mut sigmas = Vec::new();
        for AdaptedWeight { name, n_in, n_out, .. } in self.weights.iter().filter(|weight| wanted(weight)) {
            header.add_weight(name, [*n_in, *n_out], rank, TensorType::F32, TensorType::F32)?;
            checksums.insert(format!("{name}{U}"), of_zeros(rank * n_out));
            checksums.insert(format!("{name}{S}"), blake3::hash(&ones));
            checksums.insert(format!("{name}{VT}"), of_zeros(n_in * rank));
            sigmas.push(format!("{name}{S}"));
        }
        let folder = std::env::temp_dir();
        let failed = |source| Error::io("cannot write a temporary file in", &folder, source);
        let mut file = tempfile::Builder::new().suffix(".svf.gguf").tempfile().map_err(failed)?;
        let _listed = Listed::new(file.path());
        let mut write = |offset: usize, bytes: &[u8]| {
            file.seek(SeekFrom::Start(offset as u64)).and_then(|_| file.write_all(bytes)).map_err(failed)
        };
        for sigma in &sigmas {
            let offset = header.data_offset(sigma).ok_or_else(|| Error::engine("a tensor has no place"))?;
            write(offset, &ones)?;
        }
        write(0, &header.encode(&checksums)?)?;
        file.as_file().set_len(header.total_size() as u64).map_err(failed)?;
        Self::open(file.path())
    }
}
