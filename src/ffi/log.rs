//! Where the messages of ggml and llama.cpp go: into our error messages instead of onto the terminal.

use std::cell::RefCell;
use std::ffi::{c_char, c_void, CStr};
use std::sync::Once;

use llama_cpp_sys_2 as sys;

thread_local! {
    /// What this thread's running [`captured`] has collected; `None` outside of one.
    static CAPTURED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `work` and returns, beside its result, the warnings and errors that ggml and llama.cpp logged
/// on this thread meanwhile (newline-separated, as they wrote them).
pub fn captured<T>(work: impl FnOnce() -> T) -> (T, String) {
    install();
    let outer = CAPTURED.replace(Some(String::new()));
    let result = work();
    let text = CAPTURED.replace(outer).unwrap_or_default();
    (result, text)
}

/// Takes over the logging of ggml and llama.cpp: from now on only errors that nobody captures reach
/// stderr. Called by [`captured`]; calling it again does nothing.
pub fn install() {
    static ONCE: Once = Once::new();
    // SAFETY: `receive` has the expected signature, needs no user data and lives as long as the process.
    ONCE.call_once(|| unsafe { sys::llama_log_set(Some(receive), std::ptr::null_mut()) });
}

/// ggml calls this from any thread; it must not unwind, hence the `try_` variants.
unsafe extern "C" fn receive(level: sys::ggml_log_level, text: *const c_char, _user: *mut c_void) {
    if text.is_null() || (level != sys::GGML_LOG_LEVEL_WARN && level != sys::GGML_LOG_LEVEL_ERROR) {
        return;
    }
    // SAFETY: ggml passes a NUL-terminated string that lives for the duration of the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let kept = CAPTURED
        .try_with(|cell| match cell.try_borrow_mut().as_deref_mut() {
            Ok(Some(buffer)) => {
                buffer.push_str(&text);
                true
            }
            _ => false,
        })
        .unwrap_or(false);
    if !kept && level == sys::GGML_LOG_LEVEL_ERROR {
        use std::io::Write;
        // A closed stderr leaves nobody to tell.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}
