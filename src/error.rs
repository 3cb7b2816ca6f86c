//! The one error type: what was wrong, where, and what to do about it, in one line.
//!
//! A message reads `FILE: FIELD: expected …, found … (hint: …)`. Exit codes live here too, so that
//! `main` maps every outcome in one place.

use std::fmt;
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

/// Why an operation failed.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    file: Option<PathBuf>,
    field: Option<String>,
    problem: String,
    hint: Option<String>,
}

#[derive(Debug)]
enum Kind {
    /// Something a user handed us is not what it must be.
    Invalid,
    /// The operating system refused.
    Io(std::io::Error),
    /// llama.cpp or a backend refused.
    Engine,
    /// The user pressed Ctrl-C.
    Interrupted,
}

impl Error {
    fn new(kind: Kind, problem: impl Into<String>) -> Self {
        Self { kind, file: None, field: None, problem: problem.into(), hint: None }
    }

    /// Bad input; `problem` is a short statement without a full stop.
    pub fn invalid(problem: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, problem)
    }

    /// Bad input where one value was expected and another was found.
    pub fn expected(expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self::invalid(format!("expected {expected}, found {found}"))
    }

    /// A failed system call; `operation` is a verb phrase such as "cannot read".
    pub fn io(operation: &str, file: impl AsRef<Path>, source: std::io::Error) -> Self {
        let problem = format!("{operation}: {source}");
        Self::new(Kind::Io(source), problem).file(file)
    }

    /// A failure reported by llama.cpp, ggml or a backend.
    pub fn engine(problem: impl Into<String>) -> Self {
        Self::new(Kind::Engine, problem)
    }

    /// The user interrupted the work.
    pub fn interrupted(problem: impl Into<String>) -> Self {
        Self::new(Kind::Interrupted, problem)
    }

    /// Names the file at fault. The innermost name stays.
    #[must_use]
    pub fn file(mut self, file: impl AsRef<Path>) -> Self {
        self.file.get_or_insert_with(|| file.as_ref().to_path_buf());
        self
    }

    /// Names the field, tensor or flag at fault. The innermost name stays.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field.get_or_insert_with(|| field.into());
        self
    }

    /// Says what the user can do. The innermost hint stays.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// The exit code this error ends a command with.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Interrupted => exit::INTERRUPTED,
            Kind::Invalid | Kind::Io(_) | Kind::Engine => exit::ERROR,
        }
    }

    /// Whether the user interrupted the work.
    pub fn is_interrupted(&self) -> bool {
        matches!(self.kind, Kind::Interrupted)
    }

    /// Whether the reader of our output went away, which is not an error for a command-line tool.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(&self.kind, Kind::Io(source) if source.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = String::new();
        if let Some(file) = &self.file {
            line += &format!("{}: ", file.display());
        }
        if let Some(field) = &self.field {
            line += &format!("{field}: ");
        }
        line += &self.problem;
        if let Some(hint) = &self.hint {
            line += &format!(" (hint: {hint})");
        }
        // Names come from untrusted files: nothing in them may start a new line or move the cursor.
        for c in line.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            Kind::Io(source) => Some(source),
            _ => None,
        }
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
}
