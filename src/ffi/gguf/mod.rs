//! GGUF files through ggml's own gguf API, read and written without ever reaching one of its aborts.
//!
//! ggml's reader holds up against damaged files (its counts are compared with the bytes that remain),
//! with these exceptions, which are caught here before or after it runs:
//! - memory: a sparse file of 256 MiB whose header announces 2²⁵ empty strings makes it allocate 2 GB, and
//!   where there is less it ends the process by an uncaught `std::bad_alloc`. It is therefore given the
//!   first [`MAX_HEADER_BYTES`] only, and the counts are capped before;
//! - names are C strings to it: two names that differ after a NUL are equal, an empty key aborts when
//!   metadata are copied. Names are checked again after it ran;
//! - it does not compare the tensors with the end of the file unless it also reads them;
//! - getters and setters abort on a wrong type, an empty key, or a reserved one.

mod file;
mod header;
mod split;
mod value;

use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::tensor_type::TensorType;

pub use file::GgufFile;
pub use header::GgufHeader;
pub use value::Value;

/// A header (metadata and tensor table) beyond this size is refused. The largest public models, with
/// vocabularies of 260 000 tokens and their merges, stay below 20 MiB.
pub const MAX_HEADER_BYTES: usize = 64 << 20;
/// More tensors or metadata entries than this are refused; large public models have a few thousand.
pub const MAX_COUNT: u64 = 1 << 16;
/// Tensor names are shorter than this many bytes (ggml's GGML_MAX_NAME).
pub const MAX_NAME_BYTES: usize = 64;

/// One entry of a tensor table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TensorInfo {
    /// Name, shorter than 64 bytes and unique in its file.
    pub name: String,
    /// Elements per dimension, fastest first; 1 beyond `n_dims`. None is zero.
    pub ne: [usize; 4],
    /// Dimensions as written in the file; trailing ones may have been dropped.
    pub n_dims: usize,
    /// Element type.
    pub ty: TensorType,
    /// First byte, counted from the start of the file.
    pub offset: usize,
    /// Bytes of data; all within the file.
    pub n_bytes: usize,
}

impl TensorInfo {
    /// Number of elements.
    pub fn n_elements(&self) -> usize {
        self.ne.iter().product()
    }

    /// The dimensions as text, such as `[64, 172]`.
    pub fn shape(&self) -> String {
        format!("{:?}", &self.ne[..self.n_dims.max(1)])
    }
}

/// An owned `gguf_context`.
struct Context(NonNull<sys::gguf_context>);

// SAFETY: a gguf context is plain memory without thread affinity.
unsafe impl Send for Context {}
// SAFETY: ggml's getters take it const and keep no hidden state; setters are reached through `&mut` only.
unsafe impl Sync for Context {}

impl Context {
    fn ptr(&self) -> *const sys::gguf_context {
        self.0.as_ptr()
    }

    fn mut_ptr(&mut self) -> *mut sys::gguf_context {
        self.0.as_ptr()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context came from ggml, is owned by this value and is freed once.
        unsafe { sys::gguf_free(self.0.as_ptr()) }
    }
}
