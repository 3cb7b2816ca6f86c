//! How the library reports long work; the command line decides how it looks.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// A listener for long work. All methods may be called from several threads.
pub trait Progress: Sync {
    /// The work consists of `total` units (bytes, tensors, tokens: the caller knows), `done` of which
    /// were finished in an earlier run.
    fn start(&self, _total: u64, _done: u64) {}
    /// `units` more are done.
    fn advance(&self, _units: u64) {}
    /// How the work goes, in a few words that replace those before; shown beside what [`Self::advance`] counts.
    fn status(&self, _words: &str) {}
    /// A line worth telling the user, such as a fallback that was taken.
    fn note(&self, _line: &str) {}
    /// The work ended.
    fn finish(&self) {}
}

/// Reports nothing.
pub struct Silent;

impl Progress for Silent {}

/// A flag that Ctrl-C raises and long work looks at between units.
#[derive(Debug, Default)]
pub struct Interrupt(AtomicBool);

impl Interrupt {
    /// A lowered flag.
    pub const fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Asks the work to stop at the next safe point.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the work was asked to stop.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// `Err` with exit code 130 once the flag is raised.
    ///
    /// # Errors
    /// It is raised; the kind is [`ErrorKind::Interrupted`](crate::error::ErrorKind::Interrupted).
    pub fn check(&self) -> Result<()> {
        if self.is_raised() {
            return Err(Error::interrupted("interrupted"));
        }
        Ok(())
    }
}
