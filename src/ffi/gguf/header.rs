//! Writing: the metadata and tensor table of a GGUF file; the data are streamed after it by the caller.

use std::ffi::{c_char, CString};
use std::ptr::NonNull;
use std::sync::OnceLock;

use llama_cpp_sys_2 as sys;

use super::{Context, GgufFile, TensorType, MAX_NAME_BYTES};
use crate::error::{Error, Result};

/// Where tensor data begin: at multiples of this, from the start of the file.
const ALIGNMENT: usize = 32;
/// ggml derives offsets from this key and aborts on values that do not suit it.
const ALIGNMENT_KEY: &std::ffi::CStr = c"general.alignment";

/// The header of a file to be written: metadata, and tensors laid out one after the other.
pub struct GgufHeader {
    context: Context,
    /// Bytes of data announced so far, with padding.
    data_bytes: usize,
    /// Bytes of the encoded header; measured when asked for, forgotten when anything changes.
    header_bytes: OnceLock<usize>,
}

impl Default for GgufHeader {
    fn default() -> Self {
        Self::new()
    }
}

impl GgufHeader {
    /// No metadata, no tensors.
    ///
    /// # Panics
    /// There is no memory at all.
    pub fn new() -> Self {
        // SAFETY: allocates; `new` in C++ does not return null.
        let context = NonNull::new(unsafe { sys::gguf_init_empty() }).map(Context).expect("operator new");
        Self { context, data_bytes: 0, header_bytes: OnceLock::new() }
    }

    /// Sets a string.
    ///
    /// # Errors
    /// Like for all setters: a key that is empty or reserved, text that contains NUL.
    pub fn set_str(&mut self, key: &str, value: &str) -> Result<()> {
        let value = c_string(value).map_err(|error| error.field(key))?;
        self.set(key, |context, key| {
            // SAFETY: both strings are NUL-terminated and copied.
            unsafe { sys::gguf_set_val_str(context, key, value.as_ptr()) }
        })
    }

    /// Sets a u32.
    ///
    /// # Errors
    /// A key that is empty, reserved or holds NUL.
    pub fn set_u32(&mut self, key: &str, value: u32) -> Result<()> {
        // SAFETY: the key is NUL-terminated, not empty and not reserved.
        self.set(key, |context, key| unsafe { sys::gguf_set_val_u32(context, key, value) })
    }

    /// Sets a u64.
    ///
    /// # Errors
    /// A key that is empty, reserved or holds NUL.
    pub fn set_u64(&mut self, key: &str, value: u64) -> Result<()> {
        // SAFETY: the key is NUL-terminated, not empty and not reserved.
        self.set(key, |context, key| unsafe { sys::gguf_set_val_u64(context, key, value) })
    }

    /// Sets an f32.
    ///
    /// # Errors
    /// A key that is empty, reserved or holds NUL.
    pub fn set_f32(&mut self, key: &str, value: f32) -> Result<()> {
        // SAFETY: the key is NUL-terminated, not empty and not reserved.
        self.set(key, |context, key| unsafe { sys::gguf_set_val_f32(context, key, value) })
    }

    /// Sets a boolean.
    ///
    /// # Errors
    /// A key that is empty, reserved or holds NUL.
    pub fn set_bool(&mut self, key: &str, value: bool) -> Result<()> {
        // SAFETY: the key is NUL-terminated, not empty and not reserved.
        self.set(key, |context, key| unsafe { sys::gguf_set_val_bool(context, key, value) })
    }

    /// Sets an array of strings.
    ///
    /// # Errors
    /// A key that is empty, reserved or holds NUL, or a string that holds NUL.
    pub fn set_strs<S: AsRef<str>>(&mut self, key: &str, values: &[S]) -> Result<()> {
        let values = values.iter().map(|value| c_string(value.as_ref())).collect::<Result<Vec<_>>>();
        let values = values.map_err(|error| error.field(key))?;
        let mut pointers: Vec<*const c_char> = values.iter().map(|value| value.as_ptr()).collect();
        self.set(key, |context, key| {
            // SAFETY: `pointers` holds that many NUL-terminated strings, which ggml copies.
            unsafe { sys::gguf_set_arr_str(context, key, pointers.as_mut_ptr(), pointers.len()) }
        })
    }

    /// Sets an array of f32.
    ///
    /// # Errors
    /// A key that is empty, reserved or holds NUL.
    pub fn set_f32s(&mut self, key: &str, values: &[f32]) -> Result<()> {
        let (data, len) = (values.as_ptr().cast(), values.len());
        // SAFETY: the key is NUL-terminated, not empty and not reserved; ggml copies `len` elements.
        self.set(key, |context, key| unsafe {
            sys::gguf_set_arr_data(context, key, sys::GGUF_TYPE_FLOAT32, data, len)
        })
    }

    /// Sets an array of i32.
    ///
    /// # Errors
    /// A key that is empty, reserved or holds NUL.
    pub fn set_i32s(&mut self, key: &str, values: &[i32]) -> Result<()> {
        let (data, len) = (values.as_ptr().cast(), values.len());
        // SAFETY: the key is NUL-terminated, not empty and not reserved; ggml copies `len` elements.
        self.set(key, |context, key| unsafe {
            sys::gguf_set_arr_data(context, key, sys::GGUF_TYPE_INT32, data, len)
        })
    }

    /// Takes over all metadata of `from` (not its alignment: data begin at multiples of 32 bytes here).
    pub fn copy_metadata(&mut self, from: &GgufFile) {
        self.header_bytes.take();
        // SAFETY: both contexts are valid; `open` has refused the keys on which ggml would abort. Setting
        // the default alignment undoes what the copy may have changed.
        unsafe {
            let context = self.context.mut_ptr();
            sys::gguf_set_kv(context, from.context());
            sys::gguf_set_val_u32(context, ALIGNMENT_KEY.as_ptr(), ALIGNMENT as u32);
            sys::gguf_remove_key(context, ALIGNMENT_KEY.as_ptr());
        }
    }

    /// Appends a tensor with `ne` elements per dimension (fastest first, 1 to 4 dimensions).
    ///
    /// # Errors
    /// A name that is empty, taken, or of 64 bytes and more; a shape that is empty, that blocks of `ty` do
    /// not fill, or too large to count in bytes.
    pub fn add_tensor(&mut self, name: &str, ne: &[usize], ty: TensorType) -> Result<()> {
        self.add_tensor_checked(name, ne, ty).map_err(|error| error.field(format!("tensor {name}")))
    }

    fn add_tensor_checked(&mut self, name: &str, ne: &[usize], ty: TensorType) -> Result<()> {
        if name.is_empty() || name.len() >= MAX_NAME_BYTES {
            return Err(Error::expected(
                format!("a name of 1 to {} bytes", MAX_NAME_BYTES - 1),
                format!("{} bytes", name.len()),
            ));
        }
        let c_name = c_string(name)?;
        if self.tensor_id(name).is_some() {
            return Err(Error::invalid("appears twice"));
        }
        if ne.is_empty() || ne.len() > 4 || ne.contains(&0) {
            return Err(Error::expected("1 to 4 positive dimensions", format!("{ne:?}")));
        }
        if !ne[0].is_multiple_of(ty.block_len()) {
            let expected = format!("rows of a multiple of {} elements for {ty}", ty.block_len());
            return Err(Error::expected(expected, ne[0]));
        }
        let too_large = || Error::invalid(format!("shape {ne:?} is too large"));
        let row_bytes = ty.row_bytes(ne[0]).ok_or_else(too_large)?;
        let mut tensor = empty_tensor();
        tensor.type_ = ty.id();
        tensor.ne = [1; 4];
        tensor.nb = [ty.block_bytes(), row_bytes, row_bytes, row_bytes];
        let mut n_bytes = row_bytes;
        for (i, &n) in ne.iter().enumerate() {
            tensor.ne[i] = i64::try_from(n).map_err(|_| too_large())?;
            if i > 0 {
                n_bytes = n_bytes.checked_mul(n).ok_or_else(too_large)?;
            }
            for stride in tensor.nb.iter_mut().skip(i + 1) {
                *stride = n_bytes;
            }
        }
        let data_bytes = n_bytes
            .checked_next_multiple_of(ALIGNMENT)
            .and_then(|padded| self.data_bytes.checked_add(padded))
            .filter(|&bytes| i64::try_from(bytes).is_ok())
            .ok_or_else(too_large)?;
        for (to, &from) in tensor.name.iter_mut().zip(c_name.as_bytes_with_nul()) {
            *to = from as c_char;
        }
        // SAFETY: ggml copies the description, which is consistent, and whose name is new.
        unsafe { sys::gguf_add_tensor(self.context.mut_ptr(), &tensor) };
        self.data_bytes = data_bytes;
        self.header_bytes.take();
        Ok(())
    }

    /// The header as bytes, padded up to the data section.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0u8; self.header_bytes()];
        // SAFETY: the buffer has the size that ggml writes.
        unsafe { sys::gguf_get_meta_data(self.context.ptr(), bytes.as_mut_ptr().cast()) };
        bytes
    }

    /// First byte of the data of `name`, from the start of the file; `None` for an unknown name. It moves
    /// when metadata or tensors are added, so ask once the header is complete.
    pub fn data_offset(&self, name: &str) -> Option<usize> {
        let id = self.tensor_id(name)?;
        // SAFETY: the id exists.
        Some(self.header_bytes() + unsafe { sys::gguf_get_tensor_offset(self.context.ptr(), id) })
    }

    /// Bytes of the whole file, the padding after the last tensor included.
    pub fn total_size(&self) -> usize {
        self.header_bytes() + self.data_bytes
    }

    fn header_bytes(&self) -> usize {
        // SAFETY: the context is valid.
        *self.header_bytes.get_or_init(|| unsafe { sys::gguf_get_meta_size(self.context.ptr()) })
    }

    fn tensor_id(&self, name: &str) -> Option<i64> {
        let name = CString::new(name).ok()?;
        // SAFETY: the name is NUL-terminated.
        let id = unsafe { sys::gguf_find_tensor(self.context.ptr(), name.as_ptr()) };
        (id >= 0).then_some(id)
    }

    fn set(&mut self, key: &str, set: impl FnOnce(*mut sys::gguf_context, *const c_char)) -> Result<()> {
        let c_key = c_string(key)?;
        if key.is_empty() || c_key.as_c_str() == ALIGNMENT_KEY {
            return Err(Error::invalid(format!("'{key}' cannot be set")));
        }
        self.header_bytes.take();
        set(self.context.mut_ptr(), c_key.as_ptr());
        Ok(())
    }
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid("the text contains a NUL byte"))
}

fn empty_tensor() -> sys::ggml_tensor {
    // SAFETY: the struct consists of numbers and nullable pointers, for which zero bytes are valid.
    unsafe { std::mem::zeroed() }
}
