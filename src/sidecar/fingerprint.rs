//! The fingerprint of a base model: which weights a sidecar or expert belongs to.
//!
//! It is the blake3 hash of, for every tensor in the order of names: length of the name, name, ggml's
//! number of the type, four dimensions (numbers as little-endian u64), and samples of the data. A tensor
//! of up to 16 KiB is hashed whole; of a larger one, four stretches of 4 KiB are, at 0, ⅓, ⅔ and all of the
//! way to its end. Fine-tuning moves nearly every element of a tensor by a little, so thousands of sampled
//! elements (or hundreds of quantized blocks with their scales) tell; a change of a few rows may not.
//! Metadata do not count: a corrected chat template leaves a model the same, a renamed file too.

use std::fmt;

use crate::error::{Error, Result};
use crate::ffi::gguf::GgufFile;

/// Bytes per sampled stretch, and stretches per tensor.
const STRETCH: usize = 4096;
const STRETCHES: usize = 4;
const HEX_DIGITS: usize = 64;

/// Identifies the weights of a base model; 64 lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// Computes the fingerprint of a base model, in milliseconds (about 16 KiB are read per tensor).
    ///
    /// # Errors
    /// A file without tensors, an adapter instead of a model, or one part of a model that was split.
    pub fn of_model(model: &GgufFile) -> Result<Self> {
        let wrong = |found: &str, hint: &str| {
            Err(Error::expected("a complete model", found).file(model.path()).hint(hint))
        };
        if model.str("general.type")? == Some("adapter") {
            return wrong("an adapter", "give the base model");
        }
        model.check_is_whole()?;
        if model.tensors().is_empty() {
            return wrong("a file without tensors", "give a model with weights");
        }
        Ok(Self(model.without_read_ahead(|| hash(model)).to_hex().to_string()))
    }

    /// Reads the textual form.
    ///
    /// # Errors
    /// Another text than 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self> {
        let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() != HEX_DIGITS || !text.bytes().all(is_digit) {
            return Err(Error::expected(
                format!("a fingerprint of {HEX_DIGITS} lower-case hexadecimal digits"),
                format!("'{text}'"),
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The textual form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first digits, enough for a person to tell two models apart.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

fn hash(model: &GgufFile) -> blake3::Hash {
    let mut tensors: Vec<_> = model.tensors().iter().collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut hasher = blake3::Hasher::new();
    for tensor in tensors {
        // Fixed-width fields and a length before the name keep neighbours apart.
        hasher.update(&(tensor.name.len() as u64).to_le_bytes());
        hasher.update(tensor.name.as_bytes());
        hasher.update(&u64::from(tensor.ty.id()).to_le_bytes());
        for n in tensor.ne {
            hasher.update(&(n as u64).to_le_bytes());
        }
        let bytes = model.bytes(tensor);
        if bytes.len() <= STRETCH * STRETCHES {
            hasher.update(bytes);
            continue;
        }
        let last = bytes.len() - STRETCH;
        for i in 0..STRETCHES {
            // Divided first: the product of a size and a small number may not fit 32 bits.
            let start = last / (STRETCHES - 1) * i;
            let start = if i == STRETCHES - 1 { last } else { start };
            hasher.update(&bytes[start..start + STRETCH]);
        }
    }
    hasher.finalize()
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
