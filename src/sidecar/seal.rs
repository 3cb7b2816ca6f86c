//! Checksums that a file carries in its own header, so that no flipped bit goes unnoticed.
//!
//! `svf.checksums` holds the blake3 hash of each tensor's data, in the order of the tensor table;
//! `svf.seal` the hash of the whole header, its own digits counted as zeros. The seal costs microseconds
//! and is checked whenever a file is opened; whoever opens it decides which tensors are read in full.

use blake3::Hash;

use crate::error::{Error, Result};
use crate::ffi::gguf::{GgufFile, GgufHeader, TensorInfo};

const CHECKSUMS: &str = "svf.checksums";
const SEAL: &str = "svf.seal";
const HEX_DIGITS: usize = ZEROS.len();
const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const DAMAGED: &str = "the file was damaged or edited; download or create it again";

/// Gives `header` room for the checksums of `n_tensors` tensors and its seal, so that the size of the
/// header, and with it every offset, is final before the data are known.
///
/// # Errors
/// The keys cannot be set.
pub fn reserve(header: &mut GgufHeader, n_tensors: usize) -> Result<()> {
    header.set_strs(CHECKSUMS, &vec![ZEROS; n_tensors])?;
    header.set_str(SEAL, ZEROS)
}

/// The header with `checksums`, one per tensor in the order they were added, and its seal.
///
/// # Errors
/// The keys cannot be set.
pub fn encode(header: &mut GgufHeader, checksums: &[Hash]) -> Result<Vec<u8>> {
    let checksums: Vec<_> = checksums.iter().map(Hash::to_hex).collect();
    header.set_strs(CHECKSUMS, &checksums)?;
    header.set_str(SEAL, ZEROS)?;
    let seal = blake3::hash(&header.encode());
    header.set_str(SEAL, &seal.to_hex())?;
    Ok(header.encode())
}

/// Checks the seal and returns the checksums of the tensors, in the order of the table.
///
/// # Errors
/// A key is missing or malformed, or the seal is not that of the header.
pub fn check_header(file: &GgufFile) -> Result<Vec<Hash>> {
    let named = |key: &str, error: Error| error.file(file.path()).field(key).hint(DAMAGED);
    let text = file.require_str(SEAL).map_err(|error| named(SEAL, error))?;
    let seal = parse(text).map_err(|error| named(SEAL, error))?;
    let header = file.header_bytes();
    // The value itself is in the header, so it is found; a second copy elsewhere would not match anyway.
    let Some(at) = header.windows(HEX_DIGITS).position(|window| window == text.as_bytes()) else {
        return Err(named(SEAL, Error::invalid("not found in the header")));
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&header[..at]).update(ZEROS.as_bytes()).update(&header[at + HEX_DIGITS..]);
    let found = hasher.finalize();
    if found != seal {
        return Err(named(SEAL, mismatch("the header", seal, found)));
    }
    let checksums = file.require_strs(CHECKSUMS).map_err(|error| named(CHECKSUMS, error))?;
    if checksums.len() != file.tensors().len() {
        let expected = format!("{} checksums, one per tensor", file.tensors().len());
        return Err(named(CHECKSUMS, Error::expected(expected, checksums.len())));
    }
    checksums.iter().map(|text| parse(text).map_err(|error| named(CHECKSUMS, error))).collect()
}

/// Checks the data of one tensor.
///
/// # Errors
/// They are not what was written.
pub fn check_data(file: &GgufFile, tensor: &TensorInfo, expected: Hash) -> Result<()> {
    let found = blake3::hash(file.bytes(tensor));
    if found != expected {
        return Err(mismatch("the data", expected, found)
            .file(file.path())
            .field(format!("tensor {}", tensor.name))
            .hint(DAMAGED));
    }
    Ok(())
}

fn parse(text: &str) -> Result<Hash> {
    // Upper-case digits would be read too, but are not what was written.
    let hash = Hash::from_hex(text).ok().filter(|hash| hash.to_hex().as_str() == text);
    hash.ok_or_else(|| {
        Error::expected(format!("{HEX_DIGITS} lower-case hexadecimal digits"), format!("'{text}'"))
    })
}

fn mismatch(what: &str, expected: Hash, found: Hash) -> Error {
    let short = |hash: Hash| hash.to_hex()[..12].to_owned();
    Error::invalid(format!(
        "{what} differs from its checksum: expected {}…, found {}…",
        short(expected),
        short(found)
    ))
}
