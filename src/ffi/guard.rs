//! llama.cpp's calls that can throw, made through `svf_guard.h`: what C++ throws becomes an error here.

use std::ffi::c_char;

use crate::error::{Error, Result};
use crate::ffi::log;

/// Room for a message; longer ones are cut.
const MESSAGE_BYTES: usize = 512;

/// Runs `call`, which fills the buffer it is given where something was thrown. Beside its result stands what llama.cpp
/// logged meanwhile.
///
/// # Errors
/// Something was thrown; `action` is what llama.cpp could not do.
pub(super) fn guarded<T>(action: &str, call: impl FnOnce(*mut c_char, usize) -> T) -> Result<(T, String)> {
    let mut message = [0u8; MESSAGE_BYTES];
    let (result, said) = log::captured(|| call(message.as_mut_ptr().cast(), message.len()));
    match message.iter().position(|&byte| byte == 0) {
        Some(0) => Ok((result, said)),
        end => {
            let thrown = String::from_utf8_lossy(&message[..end.unwrap_or(message.len())]).into_owned();
            Err(Error::engine(format!("llama.cpp cannot {action}: {}", thrown.trim())))
        }
    }
}
