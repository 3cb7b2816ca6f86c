//! llama.cpp's own chat templates: a conversation in, the prompt that llama-server would make of it out.

use std::ffi::{c_char, CStr, CString};
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use crate::ffi::model::ModelHandle;
use crate::ffi::svf;

/// One message of a conversation.
pub struct Message<'a> {
    /// Who says it.
    pub role: &'a str,
    /// What is said.
    pub content: &'a str,
    /// What was thought before.
    pub reasoning: Option<&'a str>,
}

/// A parsed template.
pub struct ChatTemplate {
    raw: NonNull<svf::svf_chat_template>,
    thinking: (String, String),
}

// SAFETY: the template belongs to nobody else, and llama.cpp keeps nothing of it in a thread.
unsafe impl Send for ChatTemplate {}

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
        let text = |text: *const c_char| unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned();
        // SAFETY: the template was made just now.
        let thinking =
            unsafe { (svf::svf_chat_thinking_start(raw.as_ptr()), svf::svf_chat_thinking_end(raw.as_ptr())) };
        Ok(Self { raw, thinking: (text(thinking.0), text(thinking.1)) })
    }

    /// What begins and what ends the model's thinking, such as `<think>` and `</think>`; `None` if it does not think.
    pub fn thinking(&self) -> Option<(&str, &str)> {
        let (start, end) = &self.thinking;
        (!start.is_empty() && !end.is_empty()).then_some((start, end))
    }

    /// The conversation as the model expects it, ready for the assistant's next message.
    ///
    /// # Errors
    /// A message that holds a zero byte, or the template's own words, such as that roles must alternate.
    pub fn render(&mut self, messages: &[Message]) -> Result<String, Error> {
        let texts = messages.iter().map(|message| {
            let reasoning = message.reasoning.map(c_string).transpose()?;
            Ok((c_string(message.role)?, c_string(message.content)?, reasoning))
        });
        let texts = texts.collect::<Result<Vec<_>, Error>>()?;
        let pointers = texts.iter().map(|(role, content, reasoning)| svf::svf_chat_message {
            role: role.as_ptr(),
            content: content.as_ptr(),
            reasoning: reasoning.as_ref().map_or(std::ptr::null(), |reasoning| reasoning.as_ptr()),
        });
        let pointers: Vec<_> = pointers.collect();
        // SAFETY: template, messages and their texts live through the call, and `error` has `size` bytes.
        let prompt = call(|error, size| unsafe {
            svf::svf_chat_render(self.raw.as_ptr(), pointers.as_ptr(), pointers.len(), error, size)
        })?;
        // SAFETY: it ends with a zero, and lives until it is freed, once, after the copy.
        unsafe {
            let text = CStr::from_ptr(prompt.as_ptr()).to_string_lossy().into_owned();
            svf::svf_chat_text_free(prompt.as_ptr());
            Ok(text)
        }
    }
}
