//! ggml's tensor types: sizes, names, and conversion from and to f32.

use std::ffi::CStr;
use std::fmt;

use llama_cpp_sys_2 as sys;

use crate::error::{Error, Result};

/// A tensor type that the linked ggml knows; only valid ids can be held.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorType(sys::ggml_type);

/// Types that [`TensorType::quantize`] writes. ggml aborts on the others, or wants an importance matrix.
const QUANTIZABLE: [TensorType; 13] = [
    TensorType::F32,
    TensorType::F16,
    TensorType::BF16,
    TensorType::Q8_0,
    TensorType::Q4_0,
    TensorType(sys::GGML_TYPE_Q4_1),
    TensorType(sys::GGML_TYPE_Q5_0),
    TensorType(sys::GGML_TYPE_Q5_1),
    TensorType(sys::GGML_TYPE_Q2_K),
    TensorType(sys::GGML_TYPE_Q3_K),
    TensorType::Q4_K,
    TensorType(sys::GGML_TYPE_Q5_K),
    TensorType(sys::GGML_TYPE_Q6_K),
];

/// The largest finite half-precision number; a bigger value (or block scale) would become infinite.
const F16_MAX: f32 = 65504.0;

#[allow(non_upper_case_globals, missing_docs)] // ggml's own names
impl TensorType {
    pub const F32: Self = Self(sys::GGML_TYPE_F32);
    pub const F16: Self = Self(sys::GGML_TYPE_F16);
    pub const BF16: Self = Self(sys::GGML_TYPE_BF16);
    pub const Q8_0: Self = Self(sys::GGML_TYPE_Q8_0);
    pub const Q4_0: Self = Self(sys::GGML_TYPE_Q4_0);
    pub const Q4_K: Self = Self(sys::GGML_TYPE_Q4_K);
}

impl TensorType {
    /// The type with ggml's number `id`; `None` for numbers that are unknown or were retired.
    pub fn from_id(id: u32) -> Option<Self> {
        // The number of a retired type stays below the count, with a block size of zero.
        // SAFETY: ggml asserts that the number is in range, which is checked first.
        (id < sys::GGML_TYPE_COUNT && unsafe { sys::ggml_blck_size(id) } > 0).then_some(Self(id))
    }

    /// ggml's number of this type.
    pub fn id(self) -> sys::ggml_type {
        self.0
    }

    /// Whether matrices of this type can be multiplied with; integers and f64 only hold data.
    pub fn is_for_weights(self) -> bool {
        let data = [
            sys::GGML_TYPE_I8,
            sys::GGML_TYPE_I16,
            sys::GGML_TYPE_I32,
            sys::GGML_TYPE_I64,
            sys::GGML_TYPE_F64,
            // Intermediate results of ggml's own.
            sys::GGML_TYPE_Q8_1,
            sys::GGML_TYPE_Q8_K,
        ];
        !data.contains(&self.0)
    }

    /// Whether [`Self::quantize`] writes it.
    pub fn can_be_written(self) -> bool {
        QUANTIZABLE.contains(&self)
    }

    /// ggml's name, such as `q8_0`.
    pub fn name(self) -> &'static str {
        // SAFETY: the id is valid, so ggml returns a static NUL-terminated string.
        unsafe { CStr::from_ptr(sys::ggml_type_name(self.0)) }.to_str().unwrap_or("?")
    }

    /// Elements per block (1 for plain types).
    pub fn block_len(self) -> usize {
        // SAFETY: the id is valid.
        unsafe { sys::ggml_blck_size(self.0) as usize }
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        // SAFETY: the id is valid.
        unsafe { sys::ggml_type_size(self.0) }
    }

    /// Bytes of a row of `n` elements; `None` if blocks do not fill it exactly, or on overflow.
    pub fn row_bytes(self, n: usize) -> Option<usize> {
        if !n.is_multiple_of(self.block_len()) {
            return None;
        }
        (n / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Converts whole blocks to f32. `bytes` must be exactly the blocks of `out.len()` elements.
    ///
    /// # Errors
    /// Lengths that disagree, or a type that ggml cannot convert.
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) -> Result<()> {
        if self.row_bytes(out.len()) != Some(bytes.len()) {
            return Err(Error::expected(
                format!("{} bytes' worth of {self} blocks", bytes.len()),
                format!("room for {} elements", out.len()),
            ));
        }
        if self == Self::F32 {
            for (value, raw) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *value = f32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
            }
            return Ok(());
        }
        // SAFETY: the id is valid, so ggml returns a pointer into its static table.
        let to_float = unsafe { (*sys::ggml_get_type_traits(self.0)).to_float };
        let to_float = to_float.ok_or_else(|| {
            Error::invalid(format!("ggml cannot convert {self} to f32")).hint("use a model in another type")
        })?;
        // ggml reads through pointers of up to two bytes' alignment; other addresses need a copy.
        let copy: Vec<u64>;
        let mut start = bytes.as_ptr();
        if !start.cast::<u16>().is_aligned() {
            copy = to_words(bytes);
            start = copy.as_ptr().cast();
        }
        // SAFETY: `start` has `bytes.len()` readable bytes, which are exactly the blocks of `out.len()`
        // elements; block structs need at most the alignment of u16.
        unsafe { to_float(start.cast(), out.as_mut_ptr(), out.len() as i64) };
        Ok(())
    }

    /// Appends `rows` (whole rows of `row_len` finite elements) to `out` in this type.
    ///
    /// # Errors
    /// A type that cannot be written, rows of no whole blocks, or a value beyond its range.
    pub fn quantize(self, rows: &[f32], row_len: usize, out: &mut Vec<u8>) -> Result<()> {
        if !self.can_be_written() {
            return Err(Error::invalid(format!("tensors cannot be written as {self}"))
                .hint("use f32, f16, bf16, q8_0 or another plain block type"));
        }
        let row_bytes = self.row_bytes(row_len).filter(|_| row_len > 0 && rows.len().is_multiple_of(row_len));
        let Some(row_bytes) = row_bytes else {
            return Err(Error::expected(
                format!("rows of a multiple of {} elements", self.block_len()),
                format!("{} elements in rows of {row_len}", rows.len()),
            ));
        };
        let limit = if self == Self::F32 || self == Self::BF16 { f32::MAX } else { F16_MAX };
        if let Some(at) = rows.iter().position(|x| x.is_nan() || x.abs() > limit) {
            return Err(Error::expected(
                format!("values within ±{limit:e} for {self}"),
                format!("{} at element {at}", rows[at]),
            ));
        }
        let n_rows = rows.len() / row_len;
        let n_bytes = row_bytes.checked_mul(n_rows).ok_or_else(|| Error::invalid("tensor too large"))?;
        // Written in aligned memory of its own, because `out` may end at any address.
        let mut blocks = vec![0u64; n_bytes.div_ceil(8)];
        // SAFETY: source and destination hold exactly `n_rows` rows, the row length is a positive
        // multiple of the block length, and the type is one that ggml can write without a matrix.
        let written = unsafe {
            sys::ggml_quantize_chunk(
                self.0,
                rows.as_ptr(),
                blocks.as_mut_ptr().cast(),
                0,
                n_rows as i64,
                row_len as i64,
                std::ptr::null(),
            )
        };
        debug_assert_eq!(written, n_bytes);
        out.extend(blocks.iter().flat_map(|word| word.to_ne_bytes()).take(n_bytes));
        Ok(())
    }
}

/// `bytes` in memory that is aligned for everything.
fn to_words(bytes: &[u8]) -> Vec<u64> {
    let word = |part: &[u8]| {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        u64::from_ne_bytes(word)
    };
    bytes.chunks(8).map(word).collect()
}

/// The type with ggml's name `name`, in any case.
///
/// # Errors
/// ggml has no such type.
pub fn parse(name: &str) -> Result<TensorType> {
    (0..sys::GGML_TYPE_COUNT)
        .filter_map(TensorType::from_id)
        .find(|ty| ty.name().eq_ignore_ascii_case(name))
        .ok_or_else(|| Error::expected("a tensor type such as f32, f16 or q8_0", format!("'{name}'")))
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
