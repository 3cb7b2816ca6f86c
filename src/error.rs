//! The one error type: what was wrong, where, and what to do about it, in one line.
//!
//! A message reads `FILE: FIELD: expected …, found … (hint: …)`, and calls settings as the library's options do; a host
//! that calls them otherwise lets [`Error::message`] translate. [`Error::kind`] says what sort of answer a host owes.
//! Exit codes live here too, so that `main` maps every outcome in one place.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// `Result` with the crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Process exit codes of every command.
pub mod exit {
    /// The command did what was asked.
    pub const DONE: u8 = 0;
    /// The command ran, and the honest answer is "no" (a verification that does not hold).
    pub const NO: u8 = 1;
    /// Bad input or a failure.
    pub const ERROR: u8 = 2;
    /// Interrupted by the user; state was saved where the command can resume.
    pub const INTERRUPTED: u8 = 130;
}

/// What sort of failure an [`Error`] is, for hosts that answer with it. The number is the HTTP status that says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something handed to us is not what it must be (400).
    BadInput,
    /// Something named is not there, or not loaded (404).
    NotFound,
    /// More than there is room for, such as a prompt longer than the context (413).
    TooLarge,
    /// There are too many already, and the same may work another time (429).
    Full,
    /// Not now: something is busy or late, and the same may work another time (503).
    Unavailable,
    /// Who asked stopped the work (499).
    Interrupted,
    /// llama.cpp, a backend or the operating system failed (500).
    Engine,
}

impl ErrorKind {
    fn of(source: &io::Error) -> Self {
        use io::ErrorKind as Io;
        match source.kind() {
            Io::NotFound => Self::NotFound,
            Io::FileTooLarge => Self::TooLarge,
            Io::StorageFull
            | Io::QuotaExceeded
            | Io::OutOfMemory
            | Io::ResourceBusy
            | Io::WouldBlock
            | Io::TimedOut => Self::Unavailable,
            Io::PermissionDenied
            | Io::AlreadyExists
            | Io::IsADirectory
            | Io::NotADirectory
            | Io::InvalidFilename
            | Io::InvalidInput
            | Io::InvalidData
            | Io::UnexpectedEof => Self::BadInput,
            _ => Self::Engine,
        }
    }
}

/// Why an operation failed.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    source: Option<io::Error>,
    file: Option<PathBuf>,
    place: Option<Place>,
    problem: String,
    hint: Option<String>,
}

/// What is at fault, in a file or in a call.
#[derive(Debug)]
struct Place {
    name: String,
    is_setting: bool,
}

impl Error {
    fn new(kind: ErrorKind, problem: impl Into<String>) -> Self {
        Self { kind, source: None, file: None, place: None, problem: problem.into(), hint: None }
    }

    /// Bad input; `problem` is a short statement without a full stop.
    pub fn invalid(problem: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadInput, problem)
    }

    /// Bad input where one value was expected and another was found.
    pub fn expected(expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self::invalid(format!("expected {expected}, found {found}"))
    }

    /// Something that is named is not there, or not loaded.
    pub fn not_found(problem: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, problem)
    }

    /// There is no room for something.
    pub fn too_large(problem: impl Into<String>) -> Self {
        Self::new(ErrorKind::TooLarge, problem)
    }

    /// There are too many of something already: a queue is full.
    pub fn full(problem: impl Into<String>) -> Self {
        Self::new(ErrorKind::Full, problem)
    }

    /// What is asked for does not work now, and may another time: a deadline has passed.
    pub fn unavailable(problem: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, problem)
    }

    /// A failed system call; `operation` is a verb phrase such as "cannot read".
    pub fn io(operation: &str, file: impl AsRef<Path>, source: io::Error) -> Self {
        let error = Self::new(ErrorKind::of(&source), format!("{operation}: {source}")).file(file);
        Self { source: Some(source), ..error }
    }

    /// A failure reported by llama.cpp, ggml or a backend.
    pub fn engine(problem: impl Into<String>) -> Self {
        Self::new(ErrorKind::Engine, problem)
    }

    /// The user interrupted the work.
    pub fn interrupted(problem: impl Into<String>) -> Self {
        Self::new(ErrorKind::Interrupted, problem)
    }

    /// Names the file at fault. The innermost name stays.
    #[must_use]
    pub fn file(mut self, file: impl AsRef<Path>) -> Self {
        self.file.get_or_insert_with(|| file.as_ref().to_path_buf());
        self
    }

    /// Names the field of a file, the tensor or whatever else is at fault. The innermost name stays.
    #[must_use]
    pub fn field(self, name: impl Into<String>) -> Self {
        self.place(name.into(), false)
    }

    /// Names the setting at fault, as the field of the library's options or the argument is called. The innermost name
    /// stays.
    #[must_use]
    pub fn setting(self, name: impl Into<String>) -> Self {
        self.place(name.into(), true)
    }

    fn place(mut self, name: String, is_setting: bool) -> Self {
        self.place.get_or_insert(Place { name, is_setting });
        self
    }

    /// Says what the user can do. Settings, and functions to call, stand in backticks: "use a larger `n_ctx`". The innermost
    /// hint stays.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The exit code this error ends a command with.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Interrupted => exit::INTERRUPTED,
            _ => exit::ERROR,
        }
    }

    /// Whether the user interrupted the work.
    pub fn is_interrupted(&self) -> bool {
        self.kind == ErrorKind::Interrupted
    }

    /// Whether the reader of our output went away, which is not an error for a command-line tool.
    pub fn is_broken_pipe(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The error in one line, with a host's own words for settings and for the functions that a hint advises: what `word`
    /// knows no word for stays as the library calls it.
    pub fn message<'a>(&self, word: impl Fn(&str) -> Option<&'a str>) -> String {
        let mut line = String::new();
        if let Some(file) = &self.file {
            line += &format!("{}: ", file.display());
        }
        if let Some(Place { name, is_setting }) = &self.place {
            let own = is_setting.then(|| word(name)).flatten();
            line += &format!("{}: ", own.unwrap_or(name));
        }
        line += &self.problem;
        if let Some(hint) = &self.hint {
            line += &format!(" (hint: {})", translated(hint, word));
        }
        // Names come from untrusted files: nothing in them may start a new line or move the cursor.
        let mut message = String::with_capacity(line.len());
        for c in line.chars() {
            if c.is_control() {
                message.extend(c.escape_default());
            } else {
                message.push(c);
            }
        }
        message
    }
}

/// `hint` with what stands in backticks replaced, backticks and all, where there is a `word` for it.
fn translated<'a>(hint: &str, word: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut text = String::new();
    let mut rest = hint;
    while let Some((before, after)) = rest.split_once('`') {
        text += before;
        rest = after;
        match rest.split_once('`') {
            Some((name, after)) => {
                match word(name) {
                    Some(own) => text += own,
                    None => text += &format!("`{name}`"),
                }
                rest = after;
            }
            None => text.push('`'),
        }
    }
    text + rest
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message(|_| None))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_and_names_file_field_and_hint() {
        let error =
            Error::expected("rank 64", "rank 3").field("blk.0\n.svf_u").file("a.gguf").hint("convert again");
        assert_eq!(
            error.to_string(),
            "a.gguf: blk.0\\n.svf_u: expected rank 64, found rank 3 (hint: convert again)"
        );
        assert_eq!(error.exit_code(), exit::ERROR);
    }

    #[test]
    fn the_innermost_name_stays() {
        let error = Error::invalid("bad").field("inner").field("outer");
        assert_eq!(error.to_string(), "inner: bad");
    }

    #[test]
    fn a_host_has_its_own_words_for_settings_and_for_nothing_else() {
        let word = |name: &str| (name == "n_ctx").then_some("--ctx-size");
        let error = Error::too_large("no room").setting("n_ctx").hint("raise `n_ctx`, see `n_seq` (n_ctx)");
        assert_eq!(error.to_string(), "n_ctx: no room (hint: raise `n_ctx`, see `n_seq` (n_ctx))");
        assert_eq!(error.message(word), "--ctx-size: no room (hint: raise --ctx-size, see `n_seq` (n_ctx))");
        let error = Error::invalid("`n_ctx` is missing").field("n_ctx").hint("an odd ` stays, `n_ctx");
        assert_eq!(error.message(word), "n_ctx: `n_ctx` is missing (hint: an odd ` stays, `n_ctx)");
    }

    #[test]
    fn a_failed_system_call_is_of_the_kind_of_its_reason() {
        let kind = |reason: io::ErrorKind| Error::io("cannot read", "a.gguf", reason.into()).kind();
        assert_eq!(kind(io::ErrorKind::NotFound), ErrorKind::NotFound);
        assert_eq!(kind(io::ErrorKind::PermissionDenied), ErrorKind::BadInput);
        assert_eq!(kind(io::ErrorKind::StorageFull), ErrorKind::Unavailable);
        assert_eq!(kind(io::ErrorKind::BrokenPipe), ErrorKind::Engine);
        let interrupted = Error::io("cannot read", "a.gguf", io::ErrorKind::Interrupted.into());
        assert_eq!((interrupted.kind(), interrupted.exit_code()), (ErrorKind::Engine, exit::ERROR));
        assert_eq!(Error::interrupted("stopped").exit_code(), exit::INTERRUPTED);
    }
}
