//! llama.cpp's own chat code: a conversation in, the prompt that llama-server would make of it out, and a parser of what
//! the model answers. What the texts hold stands in `kernels/llama/svf_chat.h`.

use std::ffi::{c_char, CStr, CString};
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use crate::ffi::model::ModelHandle;
use crate::ffi::svf;

/// A parsed template.
pub struct ChatTemplate {
    raw: NonNull<svf::svf_chat_template>,
    thinking: (String, String),
}

// SAFETY: the template belongs to nobody else, and llama.cpp keeps nothing of it in a thread.
unsafe impl Send for ChatTemplate {}
// SAFETY: applying a template only reads it, but for what was found out about it, which is exchanged atomically.
unsafe impl Sync for ChatTemplate {}

impl Drop for ChatTemplate {
    fn drop(&mut self) {
        // SAFETY: it was made by `svf_chat_template_new` and is freed once.
        unsafe { svf::svf_chat_template_free(self.raw.as_ptr()) }
    }
}

/// Why a call failed; llama.cpp shows the place in the template over several lines.
type Error = String;

/// Calls `function` with room for an error text.
fn call<T>(function: impl FnOnce(*mut c_char, usize) -> *mut T) -> Result<NonNull<T>, Error> {
    let mut error = [0 as c_char; 4096];
    let result = function(error.as_mut_ptr(), error.len());
    NonNull::new(result).ok_or_else(|| {
        // SAFETY: what it wrote ends with a zero within `error`, which began as zeros.
        unsafe { CStr::from_ptr(error.as_ptr()) }.to_string_lossy().into_owned()
    })
}

/// Calls `function`, which returns a text or fills the buffer it is given.
fn text(function: impl FnOnce(*mut c_char, usize) -> *mut c_char) -> Result<String, Error> {
    let text = call(function)?;
    // SAFETY: it ends with a zero, and lives until it is freed, once, after the copy.
    unsafe {
        let copy = CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned();
        svf::svf_chat_text_free(text.as_ptr());
        Ok(copy)
    }
}

fn c_string(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| String::from("it holds a zero byte"))
}

/// The names of llama.cpp's built-in templates.
pub fn builtin_names() -> Vec<String> {
    // SAFETY: without an array it only counts.
    let count = unsafe { sys::llama_chat_builtin_templates(std::ptr::null_mut(), 0) };
    let mut names = vec![std::ptr::null(); usize::try_from(count).unwrap_or(0)];
    // SAFETY: the array has room for all of them, and they are texts that live as long as the process.
    unsafe {
        sys::llama_chat_builtin_templates(names.as_mut_ptr(), names.len());
        names.into_iter().map(|name| CStr::from_ptr(name).to_string_lossy().into_owned()).collect()
    }
}

impl ChatTemplate {
    /// Parses `source`, a Jinja template or the name of one of llama.cpp's built-in ones, or else the template that
    /// the model carries.
    ///
    /// # Errors
    /// llama.cpp's words for what is wrong with the template.
    pub fn new(model: &ModelHandle, source: Option<&str>) -> Result<Self, Error> {
        if let Some(source) = source.filter(|source| !source.contains("{{") && !source.contains("{%")) {
            let names = builtin_names();
            if !names.iter().any(|name| name == source) {
                let names = names.join(", ");
                return Err(format!("'{source}' is neither in Jinja nor one of {names}"));
            }
        }
        let source = source.map(c_string).transpose()?;
        let source = source.as_ref().map_or(std::ptr::null(), |source| source.as_ptr());
        // SAFETY: all pointers live through the call, and `error` has `size` bytes.
        let raw =
            call(|error, size| unsafe { svf::svf_chat_template_new(model.as_ptr(), source, error, size) })?;
        // SAFETY: both texts end with a zero and live as long as the template.
        let mark = |text: *const c_char| unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned();
        // SAFETY: the template was made just now.
        let thinking =
            unsafe { (svf::svf_chat_thinking_start(raw.as_ptr()), svf::svf_chat_thinking_end(raw.as_ptr())) };
        Ok(Self { raw, thinking: (mark(thinking.0), mark(thinking.1)) })
    }

    /// What begins and what ends the model's thinking, such as `<think>` and `</think>`; `None` if it does not think.
    pub fn thinking(&self) -> Option<(&str, &str)> {
        let (start, end) = &self.thinking;
        (!start.is_empty() && !end.is_empty()).then_some((start, end))
    }

    /// The result for a request, both in JSON.
    ///
    /// # Errors
    /// llama.cpp's words for what is wrong with the request, or the template's own, such as that roles must alternate.
    pub fn apply(&self, request: &str) -> Result<String, Error> {
        let request = c_string(request)?;
        // SAFETY: template and request live through the call, and `error` has `size` bytes.
        text(|error, size| unsafe { svf::svf_chat_apply(self.raw.as_ptr(), request.as_ptr(), error, size) })
    }
}

/// A parser of one answer.
pub struct AnswerParser {
    raw: NonNull<svf::svf_chat_parser>,
}

// SAFETY: the parser belongs to nobody else, and llama.cpp keeps nothing of it in a thread.
unsafe impl Send for AnswerParser {}

impl Drop for AnswerParser {
    fn drop(&mut self) {
        // SAFETY: it was made by `svf_chat_parser_new` and is freed once.
        unsafe { svf::svf_chat_parser_free(self.raw.as_ptr()) }
    }
}

impl AnswerParser {
    /// The parser that a template's result describes, in JSON.
    ///
    /// # Errors
    /// It is no such description.
    pub fn new(parser: &str) -> Result<Self, Error> {
        let parser = c_string(parser)?;
        // SAFETY: the text lives through the call, and `error` has `size` bytes.
        let raw = call(|error, size| unsafe { svf::svf_chat_parser_new(parser.as_ptr(), error, size) })?;
        Ok(Self { raw })
    }

    /// What all of an answer so far says, in JSON.
    ///
    /// # Errors
    /// The answer `is_whole`, and is not in the format that the prompt asks for.
    pub fn push(&mut self, answer: &str, is_whole: bool) -> Result<String, Error> {
        // SAFETY: parser and answer live through the call, and `error` has `size` bytes.
        text(|error, size| unsafe {
            let answer: (*const c_char, _) = (answer.as_ptr().cast(), answer.len());
            svf::svf_chat_parser_push(self.raw.as_ptr(), answer.0, answer.1, is_whole, error, size)
        })
    }
}

/// The grammar, in GBNF, of what is valid for a JSON schema.
///
/// # Errors
/// llama.cpp's words for why there is none.
pub fn schema_grammar(schema: &str) -> Result<String, Error> {
    let schema = c_string(schema)?;
    // SAFETY: the schema lives through the call, and `error` has `size` bytes.
    text(|error, size| unsafe { svf::svf_chat_schema_grammar(schema.as_ptr(), error, size) })
}
