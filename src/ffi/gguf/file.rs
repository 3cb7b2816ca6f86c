//! Reading: a memory-mapped GGUF file whose header and tensor table were checked when it was opened.

use std::collections::HashMap;
use std::ffi::{c_char, CStr, CString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;
use memmap2::Mmap;

use super::{Context, TensorInfo, TensorType, MAX_COUNT, MAX_HEADER_BYTES};
use crate::error::{Error, Result};
use crate::ffi::log;

const DAMAGED: &str = "the file is damaged or incomplete; download or create it again";
/// Magic, version, number of tensors, number of metadata entries.
const FIXED_HEADER_BYTES: usize = 24;
/// How many elements of an array [`GgufFile::metadata`] shows.
const SHOWN_ELEMENTS: usize = 4;

/// A GGUF file: metadata, tensor table and memory-mapped data, all checked at [`GgufFile::open`].
pub struct GgufFile {
    path: PathBuf,
    map: Arc<Mmap>,
    context: Context,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    data_offset: usize,
}

impl GgufFile {
    /// Maps and checks `path`.
    ///
    /// # Errors
    /// Not a regular file, not a GGUF, a damaged header, or tensors that do not lie within the file. The
    /// file must not be shortened by another process while it is open: like for every memory-mapped
    /// file, the system then ends this process.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::open_checked(path).map_err(|error| error.file(path))
    }

    fn open_checked(path: &Path) -> Result<Self> {
        let cannot_open = |source| Error::io("cannot open", path, source).hint("check the path");
        // Asked before opening: opening a pipe would wait for a writer.
        if !std::fs::metadata(path).map_err(cannot_open)?.is_file() {
            return Err(Error::expected("a GGUF file", "a directory or device"));
        }
        let file = File::open(path).map_err(cannot_open)?;
        // SAFETY: mapped read-only and private; the one hazard left, another process that changes the
        // file meanwhile, is documented at `open`.
        let map = unsafe { Mmap::map(&file) }.map_err(|source| Error::io("cannot map", path, source))?;
        check_fixed_header(&map)?;

        let prefix = &map[..map.len().min(MAX_HEADER_BYTES)];
        let params = sys::gguf_init_params { no_alloc: true, ctx: std::ptr::null_mut() };
        let (context, log) = log::captured(|| {
            // SAFETY: the buffer outlives the call, which copies what it keeps and reads no tensor data.
            NonNull::new(unsafe { sys::gguf_init_from_buffer(prefix.as_ptr().cast(), prefix.len(), params) })
        });
        let Some(context) = context.map(Context) else {
            return Err(header_error(&log, map.len()));
        };
        // SAFETY: the context is valid.
        let (data_offset, alignment) =
            unsafe { (sys::gguf_get_data_offset(context.ptr()), sys::gguf_get_alignment(context.ptr())) };
        if alignment % 8 != 0 {
            return Err(Error::expected("a multiple of 8", alignment)
                .field("general.alignment")
                .hint(DAMAGED));
        }

        let mut file = Self {
            path: path.to_path_buf(),
            map: Arc::new(map),
            context,
            tensors: Vec::new(),
            by_name: HashMap::new(),
            data_offset,
        };
        file.check_keys()?;
        file.read_tensor_table()?;
        Ok(file)
    }

    fn check_keys(&self) -> Result<()> {
        let mut seen = HashMap::new();
        for id in 0..self.n_kv() {
            let key = self.key(id);
            if key.is_empty() {
                return Err(Error::expected("a name", "an empty one")
                    .field(format!("metadata key {id}"))
                    .hint(DAMAGED));
            }
            if seen.insert(key, id).is_some() {
                let name = key.to_string_lossy();
                return Err(Error::invalid("appears twice")
                    .field(format!("metadata key {name}"))
                    .hint(DAMAGED));
            }
        }
        Ok(())
    }

    fn read_tensor_table(&mut self) -> Result<()> {
        let context = self.context.ptr();
        // SAFETY: the context is valid.
        let n_tensors = unsafe { sys::gguf_get_n_tensors(context) };
        for id in 0..n_tensors {
            // SAFETY: `id` is in range; the name is a NUL-terminated string owned by the context.
            let name = unsafe { CStr::from_ptr(sys::gguf_get_tensor_name(context, id)) };
            let field = format!("tensor {id} '{}'", name.to_string_lossy());
            let info = self.tensor_info(id, name).map_err(|error| error.field(field).hint(DAMAGED))?;
            if self.by_name.insert(info.name.clone(), self.tensors.len()).is_some() {
                return Err(Error::invalid("appears twice")
                    .field(format!("tensor {}", info.name))
                    .hint(DAMAGED));
            }
            self.tensors.push(info);
        }
        Ok(())
    }

    fn tensor_info(&self, id: i64, name: &CStr) -> Result<TensorInfo> {
        let context = self.context.ptr();
        let name = name.to_str().ok().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Error::invalid("its name is empty or not UTF-8"))?;
        // SAFETY: `id` is in range; ggml returns four non-negative dimensions and a type within its range.
        let (shape, type_id, relative, n_bytes) = unsafe {
            (
                *sys::gguf_get_tensor_ne(context, id).cast::<[i64; 4]>(),
                sys::gguf_get_tensor_type(context, id),
                sys::gguf_get_tensor_offset(context, id),
                sys::gguf_get_tensor_size(context, id),
            )
        };
        let ty = TensorType::from_id(type_id);
        let ty = ty.ok_or_else(|| Error::expected("a known tensor type", format!("type {type_id}")))?;
        let ne = shape.map(|n| usize::try_from(n).unwrap_or(0));
        if ne.contains(&0) {
            return Err(Error::expected("positive dimensions", format!("{shape:?}")));
        }
        let end = self.data_offset.checked_add(relative).and_then(|start| start.checked_add(n_bytes));
        if end.is_none_or(|end| end > self.map.len()) {
            return Err(Error::expected(
                format!("{n_bytes} bytes of data at byte {relative} of the data section"),
                format!("a file that ends after {} bytes", self.map.len()),
            ));
        }
        let n_dims = 4 - ne.iter().rev().take_while(|&&n| n == 1).count();
        let offset = self.data_offset + relative;
        Ok(TensorInfo { name: name.to_owned(), ne, n_dims: n_dims.max(1), ty, offset, n_bytes })
    }

    /// Where the file lies, as given to [`GgufFile::open`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All tensors, in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&index| &self.tensors[index])
    }

    /// The tensor `name`; an error that names it where it is missing.
    ///
    /// # Errors
    /// There is none.
    pub fn require_tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.tensor(name).ok_or_else(|| {
            Error::expected("a tensor of this name", "none").file(&self.path).field(format!("tensor {name}"))
        })
    }

    /// The data of `tensor`, which must come from this file's table.
    pub fn bytes(&self, tensor: &TensorInfo) -> &[u8] {
        &self.map[tensor.offset..tensor.offset + tensor.n_bytes]
    }

    /// The elements of `tensor` (from this file's table) as f32, in ggml's order.
    ///
    /// # Errors
    /// ggml cannot convert its type.
    pub fn to_f32(&self, tensor: &TensorInfo) -> Result<Vec<f32>> {
        let mut values = vec![0.0; tensor.n_elements()];
        tensor
            .ty
            .dequantize(self.bytes(tensor), &mut values)
            .map_err(|error| error.file(&self.path).field(format!("tensor {}", tensor.name)))?;
        Ok(values)
    }

    /// As many whole rows of `tensor` (from this file's table) as `out` has room for, from row `first` on, as f32.
    ///
    /// # Errors
    /// ggml cannot convert its type, or there are not as many rows.
    pub fn rows_to_f32(&self, tensor: &TensorInfo, first: usize, out: &mut [f32]) -> Result<()> {
        let row_bytes = tensor.n_bytes / (tensor.n_elements() / tensor.ne[0]).max(1);
        let n_rows = out.len() / tensor.ne[0].max(1);
        let bytes = first
            .checked_mul(row_bytes)
            .and_then(|start| self.bytes(tensor).get(start..)?.get(..n_rows.checked_mul(row_bytes)?));
        let bytes =
            bytes.ok_or_else(|| Error::expected("rows of the tensor", format!("{n_rows} from {first} on")));
        bytes
            .and_then(|bytes| tensor.ty.dequantize(bytes, out))
            .map_err(|error| error.file(&self.path).field(format!("tensor {}", tensor.name)))
    }

    /// Runs `work`, which reads small pieces all over the file, without the system reading ahead of each:
    /// a disk that reads 8 MiB ahead took 20 s for what takes 20 ms.
    pub fn without_read_ahead<T>(&self, work: impl FnOnce() -> T) -> T {
        self.advise(true);
        let result = work();
        self.advise(false);
        result
    }

    /// Only a hint, so a refusal changes nothing but the speed.
    #[cfg(unix)]
    fn advise(&self, scattered: bool) {
        let advice = if scattered { memmap2::Advice::Random } else { memmap2::Advice::Normal };
        let _ = self.map.advise(advice);
    }

    #[cfg(not(unix))]
    fn advise(&self, _scattered: bool) {}

    /// Takes what was read of the file out of this process's memory, where llama.cpp has mapped it, too, so that it counts
    /// once. What is read next comes from the system's cache of files again. Only a hint, like `advise`.
    #[cfg(unix)]
    pub fn release(&self) {
        // SAFETY: the mapping is read-only and of a file, which still has what is dropped.
        let _ = unsafe { self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }

    /// Nothing, on this system.
    #[cfg(not(unix))]
    pub fn release(&self) {}

    /// The mapping, for those who must keep it alive.
    pub fn mmap(&self) -> &Arc<Mmap> {
        &self.map
    }

    /// Everything before the data section; the whole file where there are no tensors.
    pub fn header_bytes(&self) -> &[u8] {
        let end = if self.tensors.is_empty() { self.map.len() } else { self.data_offset };
        &self.map[..end]
    }

    /// First byte of the data section.
    pub fn data_offset(&self) -> usize {
        self.data_offset
    }

    /// The string at `key`; `None` if absent, an error if of another type or not UTF-8.
    ///
    /// # Errors
    /// Another type, or not UTF-8.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        let Some(id) = self.find(key, sys::GGUF_TYPE_STRING)? else { return Ok(None) };
        // SAFETY: the id exists and holds a string, which the context owns.
        let text = unsafe { CStr::from_ptr(sys::gguf_get_val_str(self.context.ptr(), id)) };
        text.to_str().map(Some).map_err(|_| self.wrong(key, "UTF-8 text", "other bytes"))
    }

    /// The u16 at `key`; `None` if absent, an error if of another type.
    ///
    /// # Errors
    /// Another type.
    pub fn u16(&self, key: &str) -> Result<Option<u16>> {
        self.scalar(key, sys::GGUF_TYPE_UINT16, sys::gguf_get_val_u16)
    }

    /// The u32 at `key`; `None` if absent, an error if of another type.
    ///
    /// # Errors
    /// Another type.
    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.scalar(key, sys::GGUF_TYPE_UINT32, sys::gguf_get_val_u32)
    }

    /// The u64 at `key`; `None` if absent, an error if of another type.
    ///
    /// # Errors
    /// Another type.
    pub fn u64(&self, key: &str) -> Result<Option<u64>> {
        self.scalar(key, sys::GGUF_TYPE_UINT64, sys::gguf_get_val_u64)
    }

    /// The f32 at `key`; `None` if absent, an error if of another type.
    ///
    /// # Errors
    /// Another type.
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        self.scalar(key, sys::GGUF_TYPE_FLOAT32, sys::gguf_get_val_f32)
    }

    /// The boolean at `key`; `None` if absent, an error if of another type.
    ///
    /// # Errors
    /// Another type.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.scalar(key, sys::GGUF_TYPE_BOOL, sys::gguf_get_val_bool)
    }

    /// The array of strings at `key`; `None` if absent, an error if of another type or not UTF-8.
    ///
    /// # Errors
    /// Another type, or not UTF-8.
    pub fn strs(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let Some(id) = self.find(key, sys::GGUF_TYPE_ARRAY)? else { return Ok(None) };
        // SAFETY: the id exists and holds an array.
        let (ty, n) = unsafe {
            (sys::gguf_get_arr_type(self.context.ptr(), id), sys::gguf_get_arr_n(self.context.ptr(), id))
        };
        if ty != sys::GGUF_TYPE_STRING {
            return Err(self.wrong(key, "an array of str", &format!("an array of {}", type_name(ty))));
        }
        let element = |i| {
            // SAFETY: the array holds strings, `i` is below their number.
            let text = unsafe { CStr::from_ptr(sys::gguf_get_arr_str(self.context.ptr(), id, i)) };
            text.to_str().map_err(|_| self.wrong(key, "UTF-8 text", "other bytes"))
        };
        (0..n).map(element).collect::<Result<_>>().map(Some)
    }

    /// Like [`GgufFile::str`], with an error where the key is missing.
    ///
    /// # Errors
    /// No such key, another type, or not UTF-8.
    pub fn require_str(&self, key: &str) -> Result<&str> {
        self.str(key)?.ok_or_else(|| self.wrong(key, "a str", "no such key"))
    }

    /// Like [`GgufFile::u32`], with an error where the key is missing.
    ///
    /// # Errors
    /// No such key, or another type.
    pub fn require_u32(&self, key: &str) -> Result<u32> {
        self.u32(key)?.ok_or_else(|| self.wrong(key, "a u32", "no such key"))
    }

    /// Like [`GgufFile::strs`], with an error where the key is missing.
    ///
    /// # Errors
    /// No such key, another type, or not UTF-8.
    pub fn require_strs(&self, key: &str) -> Result<Vec<&str>> {
        self.strs(key)?.ok_or_else(|| self.wrong(key, "an array of str", "no such key"))
    }

    /// Every key with its value as text, in the order of the file; arrays show their first elements.
    pub fn metadata(&self) -> Vec<(String, String)> {
        (0..self.n_kv())
            .map(|id| (self.key(id).to_string_lossy().into_owned(), self.value_text(id)))
            .collect()
    }

    pub(super) fn context(&self) -> *const sys::gguf_context {
        self.context.ptr()
    }

    fn n_kv(&self) -> i64 {
        // SAFETY: the context is valid.
        unsafe { sys::gguf_get_n_kv(self.context.ptr()) }
    }

    /// `id` must be below [`GgufFile::n_kv`].
    fn key(&self, id: i64) -> &CStr {
        // SAFETY: the id exists, and the context owns the NUL-terminated key.
        unsafe { CStr::from_ptr(sys::gguf_get_key(self.context.ptr(), id)) }
    }

    /// The id of `key`, if it is there.
    pub(super) fn id(&self, key: &str) -> Option<i64> {
        let key = CString::new(key).ok()?;
        // SAFETY: the key is NUL-terminated.
        let id = unsafe { sys::gguf_find_key(self.context.ptr(), key.as_ptr()) };
        (id >= 0).then_some(id)
    }

    /// The id of `key` if it holds a value of type `expected`.
    fn find(&self, key: &str, expected: sys::gguf_type) -> Result<Option<i64>> {
        let Some(id) = self.id(key) else { return Ok(None) };
        // SAFETY: the id exists.
        let found = unsafe { sys::gguf_get_kv_type(self.context.ptr(), id) };
        if found != expected {
            return Err(self.wrong(key, type_name(expected), type_name(found)));
        }
        Ok(Some(id))
    }

    fn scalar<T>(
        &self,
        key: &str,
        ty: sys::gguf_type,
        get: unsafe extern "C" fn(*const sys::gguf_context, i64) -> T,
    ) -> Result<Option<T>> {
        // SAFETY: the id exists and holds a value of `ty`, the type that `get` wants.
        Ok(self.find(key, ty)?.map(|id| unsafe { get(self.context.ptr(), id) }))
    }

    fn wrong(&self, key: &str, expected: &str, found: &str) -> Error {
        Error::expected(expected, found).file(&self.path).field(key)
    }

    /// `id` must be below [`GgufFile::n_kv`].
    fn value_text(&self, id: i64) -> String {
        let context = self.context.ptr();
        // SAFETY: the id exists.
        let ty = unsafe { sys::gguf_get_kv_type(context, id) };
        if ty != sys::GGUF_TYPE_ARRAY {
            return match ty {
                // SAFETY: the id exists and holds a string.
                sys::GGUF_TYPE_STRING => text_of(unsafe { sys::gguf_get_val_str(context, id) }),
                // SAFETY: the id exists and holds a scalar of `ty`, whose address this returns.
                _ => unsafe { element_text(ty, sys::gguf_get_val_data(context, id).cast(), 0) },
            };
        }
        // SAFETY: the id exists and holds an array.
        let (ty, n) = unsafe { (sys::gguf_get_arr_type(context, id), sys::gguf_get_arr_n(context, id)) };
        let shown = (0..n.min(SHOWN_ELEMENTS)).map(|i| match ty {
            // SAFETY: the array holds strings and `i` is below their number.
            sys::GGUF_TYPE_STRING => text_of(unsafe { sys::gguf_get_arr_str(context, id, i) }),
            // SAFETY: the array holds `n` > `i` elements of `ty`.
            _ => unsafe { element_text(ty, sys::gguf_get_arr_data(context, id).cast(), i) },
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        let more = if n > SHOWN_ELEMENTS { ", …" } else { "" };
        format!("{n} × {}: {shown}{more}", type_name(ty))
    }
}

/// What ggml would refuse with less clear words, and the counts it would believe.
fn check_fixed_header(bytes: &[u8]) -> Result<()> {
    if !bytes.starts_with(b"GGUF") {
        let found = bytes[..bytes.len().min(4)].escape_ascii();
        let found = if bytes.is_empty() { "an empty file".into() } else { format!("'{found}'") };
        return Err(Error::expected("a GGUF file, which begins with 'GGUF'", found)
            .field("magic")
            .hint("give a .gguf file"));
    }
    let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (Some(n_tensors), Some(n_kv)) = (number(8), number(16)) else {
        return Err(Error::expected(format!("{FIXED_HEADER_BYTES} bytes"), bytes.len())
            .field("header")
            .hint(DAMAGED));
    };
    for (field, n) in [("number of tensors", n_tensors), ("number of metadata entries", n_kv)] {
        if n > MAX_COUNT {
            return Err(Error::expected(format!("at most {MAX_COUNT}"), n).field(field).hint(DAMAGED));
        }
    }
    Ok(())
}

/// ggml's first complaint says what is wrong; the ones that follow only say where it gave up.
fn header_error(log: &str, file_bytes: usize) -> Error {
    let line = log.lines().next().unwrap_or("ggml gave no reason");
    let reason = line.split_once(": ").map_or(line, |(_function, reason)| reason);
    let hint = if file_bytes > MAX_HEADER_BYTES {
        format!("the file is damaged, or its header is larger than {} MiB", MAX_HEADER_BYTES >> 20)
    } else {
        DAMAGED.into()
    };
    Error::invalid(reason).field("header").hint(hint)
}

pub(super) fn type_name(ty: sys::gguf_type) -> &'static str {
    // SAFETY: any number may be asked for; ggml returns null or a static string.
    let name = unsafe { sys::gguf_type_name(ty) };
    if name.is_null() {
        return "an unknown type";
    }
    // SAFETY: not null, hence a static NUL-terminated string.
    unsafe { CStr::from_ptr(name) }.to_str().unwrap_or("an unknown type")
}

fn text_of(text: *const c_char) -> String {
    // SAFETY: only called with strings that ggml returned and still owns.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// SAFETY: `data` must point at more than `i` scalars of the GGUF type `ty`.
unsafe fn element_text(ty: sys::gguf_type, data: *const u8, i: usize) -> String {
    unsafe fn show<T: Copy + ToString>(data: *const u8, i: usize) -> String {
        // SAFETY: promised by the caller; the elements may lie at any address.
        unsafe { data.cast::<T>().add(i).read_unaligned() }.to_string()
    }
    // SAFETY: each arm reads the type that `ty` stands for.
    unsafe {
        match ty {
            sys::GGUF_TYPE_UINT8 => show::<u8>(data, i),
            sys::GGUF_TYPE_INT8 => show::<i8>(data, i),
            sys::GGUF_TYPE_UINT16 => show::<u16>(data, i),
            sys::GGUF_TYPE_INT16 => show::<i16>(data, i),
            sys::GGUF_TYPE_UINT32 => show::<u32>(data, i),
            sys::GGUF_TYPE_INT32 => show::<i32>(data, i),
            sys::GGUF_TYPE_FLOAT32 => show::<f32>(data, i),
            sys::GGUF_TYPE_BOOL => (data.add(i).read() != 0).to_string(),
            sys::GGUF_TYPE_UINT64 => show::<u64>(data, i),
            sys::GGUF_TYPE_INT64 => show::<i64>(data, i),
            sys::GGUF_TYPE_FLOAT64 => show::<f64>(data, i),
            _ => "?".into(),
        }
    }
}
