//! Metadata of whatever type they may be, for those who check them before llama.cpp reads them.

use std::ffi::CStr;

use llama_cpp_sys_2 as sys;

use super::file::type_name;
use super::GgufFile;

/// The value of a key.
#[derive(Clone, PartialEq, Debug)]
pub enum Value<'a> {
    /// A number of any type; a 64-bit integer beyond 2⁵³ is rounded.
    Number(f64),
    /// Yes or no.
    Bool(bool),
    /// A text, which need not be UTF-8.
    Text(&'a [u8]),
    /// An array of numbers of any type; yes and no are 1 and 0.
    Numbers(Vec<f64>),
    /// An array of texts, which need not be UTF-8.
    Texts(Vec<&'a [u8]>),
}

impl GgufFile {
    /// The value at `key`, and the name of its type.
    pub fn value(&self, key: &str) -> Option<(Value<'_>, &'static str)> {
        let context = self.context();
        let id = self.id(key)?;
        // SAFETY: the id exists.
        let ty = unsafe { sys::gguf_get_kv_type(context, id) };
        let value = match ty {
            // SAFETY: the id exists and holds a string, which the context owns.
            sys::GGUF_TYPE_STRING => {
                Value::Text(unsafe { CStr::from_ptr(sys::gguf_get_val_str(context, id)) }.to_bytes())
            }
            sys::GGUF_TYPE_ARRAY => self.array(id),
            _ => {
                // SAFETY: the id exists and holds a scalar of `ty`, whose address this returns.
                let number = unsafe { number(ty, sys::gguf_get_val_data(context, id).cast(), 0) };
                if ty == sys::GGUF_TYPE_BOOL {
                    Value::Bool(number != 0.0)
                } else {
                    Value::Number(number)
                }
            }
        };
        Some((value, type_name(ty)))
    }

    /// `id` must hold an array.
    fn array(&self, id: i64) -> Value<'_> {
        let context = self.context();
        // SAFETY: the id exists and holds an array.
        let (ty, n) = unsafe { (sys::gguf_get_arr_type(context, id), sys::gguf_get_arr_n(context, id)) };
        if ty == sys::GGUF_TYPE_STRING {
            // SAFETY: the array holds `n` strings, which the context owns.
            let text = |i| unsafe { CStr::from_ptr(sys::gguf_get_arr_str(context, id, i)) }.to_bytes();
            return Value::Texts((0..n).map(text).collect());
        }
        // SAFETY: the array holds `n` scalars of `ty`.
        let number = |i| unsafe { number(ty, sys::gguf_get_arr_data(context, id).cast(), i) };
        Value::Numbers((0..n).map(number).collect())
    }
}

/// SAFETY: `data` must point at more than `i` scalars of the GGUF type `ty`.
unsafe fn number(ty: sys::gguf_type, data: *const u8, i: usize) -> f64 {
    // SAFETY: promised by the caller; the elements may lie at any address.
    unsafe fn read<T: Copy>(data: *const u8, i: usize) -> T {
        // SAFETY: as above.
        unsafe { data.cast::<T>().add(i).read_unaligned() }
    }
    // SAFETY: each arm reads the type that `ty` stands for.
    unsafe {
        match ty {
            sys::GGUF_TYPE_UINT8 | sys::GGUF_TYPE_BOOL => read::<u8>(data, i).into(),
            sys::GGUF_TYPE_INT8 => read::<i8>(data, i).into(),
            sys::GGUF_TYPE_UINT16 => read::<u16>(data, i).into(),
            sys::GGUF_TYPE_INT16 => read::<i16>(data, i).into(),
            sys::GGUF_TYPE_UINT32 => read::<u32>(data, i).into(),
            sys::GGUF_TYPE_INT32 => read::<i32>(data, i).into(),
            sys::GGUF_TYPE_FLOAT32 => read::<f32>(data, i).into(),
            sys::GGUF_TYPE_UINT64 => read::<u64>(data, i) as f64,
            sys::GGUF_TYPE_INT64 => read::<i64>(data, i) as f64,
            sys::GGUF_TYPE_FLOAT64 => read::<f64>(data, i),
            _ => f64::NAN,
        }
    }
}
