//! The net below everything else: where ggml or llama.cpp would abort or crash, the process ends in one line.
//!
//! Left to themselves, a failed GGML_ASSERT and an uncaught exception start a debugger for a backtrace and end the process
//! by SIGABRT, and a wild read ends it by SIGSEGV; temporary files stay behind. What a file can provoke is to be found
//! before that, with the field at fault (see `engine::check`): what falls into this net deserves a check there.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The model in use, for the message.
static MODEL: Mutex<Option<PathBuf>> = Mutex::new(None);

/// What a program does in its last moment.
#[derive(Clone, Copy, Debug)]
pub struct LastWords {
    /// Tells the user: `model` is the file of the model loaded last, `problem` the reason in the words of ggml.
    pub tell: fn(model: Option<PathBuf>, problem: &str),
    /// The exit code.
    pub code: u8,
}

/// Names the model that is at fault if something breaks from now on.
pub(super) fn blame(model: &std::path::Path) {
    *MODEL.lock().unwrap_or_else(PoisonError::into_inner) = Some(model.to_path_buf());
}

/// From now on ends the process by `words` where ggml or llama.cpp abort, throw what nobody catches, or crash.
///
/// A decision about the whole process, and so for its program to take: the library never calls this by itself. What a
/// debugger or a core dump would show is lost.
pub fn end_in_one_line(words: LastWords) {
    ggml::install(words);
    #[cfg(unix)]
    signals::install(words);
}

/// Speaks and ends the process. If several threads break at once, the first one speaks.
fn end(words: LastWords, problem: &str) -> ! {
    static SPEAKING: AtomicBool = AtomicBool::new(false);
    if SPEAKING.swap(true, Ordering::SeqCst) {
        loop {
            std::thread::park();
        }
    }
    let model = MODEL.lock().unwrap_or_else(PoisonError::into_inner).take();
    (words.tell)(model, problem);
    exit_now(words.code)
}

/// Without destructors of C++ and without `atexit`, which may wait for threads that will never come.
fn exit_now(code: u8) -> ! {
    extern "C" {
        fn _exit(code: std::ffi::c_int) -> !;
    }
    // SAFETY: C's own function, which may be called at any time.
    unsafe { _exit(std::ffi::c_int::from(code)) }
}

mod ggml {
    //! Failed assertions, and exceptions that nobody catches.

    use std::ffi::{c_char, CStr};
    use std::sync::OnceLock;

    use llama_cpp_sys_2 as sys;

    use super::LastWords;
    use crate::ffi::svf;

    static WORDS: OnceLock<LastWords> = OnceLock::new();

    pub fn install(words: LastWords) {
        WORDS.get_or_init(|| words);
        // SAFETY: the callback has the expected signature and lives as long as the process.
        unsafe {
            sys::ggml_set_abort_callback(Some(on_abort));
            svf::svf_abort_on_uncaught();
        }
    }

    /// ggml aborts when this returns.
    unsafe extern "C" fn on_abort(message: *const c_char) {
        let Some(&words) = WORDS.get() else { return };
        // SAFETY: ggml passes a NUL-terminated string that lives for the duration of the call.
        let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
        super::end(words, &format!("llama.cpp gave up: {}", reason(message.trim())))
    }

    /// `folder/file.cpp:12: reason` without the folder of the machine that built it.
    fn reason(message: &str) -> &str {
        let place = message.split(": ").next().unwrap_or_default();
        place.rfind(['/', '\\']).map_or(message, |at| &message[at + 1..])
    }

    #[cfg(test)]
    mod tests {
        use super::reason;

        #[test]
        fn a_reason_names_no_folder() {
            let failed = "llama-vocab.cpp:12: GGML_ASSERT(a / b == c) failed";
            assert_eq!(reason(&format!("/build/x y/src/{failed}")), failed);
            assert_eq!(reason(failed), failed);
            assert_eq!(reason(""), "");
        }
    }
}

#[cfg(unix)]
mod signals {
    //! Crashes. A handler may do next to nothing, so it wakes a thread that speaks, and waits to be ended with the rest.

    use std::fs::File;
    use std::io::Read;
    use std::os::fd::{IntoRawFd, OwnedFd};
    use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

    use nix::libc;
    use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};

    use super::LastWords;

    /// What a processor or the C library says of a broken program.
    const CRASHES: [Signal; 5] =
        [Signal::SIGSEGV, Signal::SIGFPE, Signal::SIGBUS, Signal::SIGILL, Signal::SIGABRT];

    /// Where a handler writes the number of its signal.
    static WAKE: AtomicI32 = AtomicI32::new(-1);
    static CODE: AtomicU8 = AtomicU8::new(0);

    pub fn install(words: LastWords) {
        let Ok((read, write)) = nix::unistd::pipe() else { return };
        let listen = move || {
            // A signal from outside is for any thread; in this one the handler would wait for itself.
            let _ = CRASHES.into_iter().collect::<SigSet>().thread_block();
            let Some(signal) = next_signal(read) else { return };
            super::end(words, &format!("llama.cpp or a kernel crashed ({signal})"))
        };
        if std::thread::Builder::new().name("crashes".into()).spawn(listen).is_err() {
            return;
        }
        CODE.store(words.code, Ordering::SeqCst);
        WAKE.store(write.into_raw_fd(), Ordering::SeqCst);
        // On the thread's own stack for signals, as the usual one may be what overflowed.
        let action = SigAction::new(SigHandler::Handler(on_crash), SaFlags::SA_ONSTACK, SigSet::empty());
        for signal in CRASHES {
            // SAFETY: the handler calls nothing but what is allowed in one.
            let _ = unsafe { sigaction(signal, &action) };
        }
    }

    fn next_signal(read: OwnedFd) -> Option<&'static str> {
        let mut number = [0];
        File::from(read).read_exact(&mut number).ok()?;
        Signal::try_from(i32::from(number[0])).ok().map(Signal::as_str)
    }

    extern "C" fn on_crash(signal: libc::c_int) {
        let number = signal as u8;
        // SAFETY: write, nanosleep and _exit are allowed in a handler; the pointers are valid.
        unsafe {
            let written = libc::write(WAKE.load(Ordering::SeqCst), (&raw const number).cast(), 1);
            if written == 1 {
                // Long enough to speak and to clean up; the memory may be too broken for either.
                let pause = libc::timespec { tv_sec: 30, tv_nsec: 0 };
                libc::nanosleep(&pause, std::ptr::null_mut());
            }
            libc::_exit(libc::c_int::from(CODE.load(Ordering::SeqCst)))
        }
    }
}
