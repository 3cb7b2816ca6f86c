//! Work that goes on where it was interrupted: only with the settings it was begun with, and in one process at a time.
//!
//! [`Digest`] makes one line of all that is too long to be written down, [`check`] names the first setting that differs,
//! [`Lock`] keeps a folder to one process, and a [`Journal`] keeps what is done.

mod difference;
mod digest;
mod journal;
mod lock;

pub use difference::{check, first_difference, Difference};
pub use digest::Digest;
pub use journal::{Journal, Work};
pub use lock::Lock;

/// What to do about earlier work of which the state is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// Refuse to touch it.
    Refuse,
    /// Go on with it, if there is some.
    Resume,
    /// Replace it.
    Replace,
}

impl Earlier {
    /// What `--resume` and `--force` ask for.
    pub fn of_flags(resume: bool, force: bool) -> Self {
        match (resume, force) {
            (true, _) => Self::Resume,
            (false, true) => Self::Replace,
            (false, false) => Self::Refuse,
        }
    }
}
