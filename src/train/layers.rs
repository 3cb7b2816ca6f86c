//! Which layers are trained: of the others, m stays 1, and no LoRA is beside them.

use std::fmt;
use std::ops::Range;

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};
use crate::sidecar::Sidecar;

/// Layers from `first` to `last`, counted from 0 as in the names of tensors (`blk.0.…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    first: usize,
    last: usize,
}

impl Layers {
    /// `A-B`, or `A` alone.
    ///
    /// # Errors
    /// Another text, or an end before the beginning.
    pub fn parse(text: &str) -> Result<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self { first, last }),
            _ => {
                Err(Error::expected("layers such as 8-15, counted from 0", format!("'{text}'"))
                    .setting("layers"))
            }
        }
    }

    /// The same, without the end.
    pub fn range(self) -> Range<usize> {
        self.first..self.last.saturating_add(1)
    }

    /// Checks that `sidecar` adapts some of them.
    ///
    /// # Errors
    /// It does not; the error says which layers it adapts.
    pub fn check(self, sidecar: &Sidecar) -> Result<()> {
        let adapted = || sidecar.weights.iter().filter_map(|weight| layer_of(&weight.name));
        if adapted().any(|layer| self.range().contains(&layer)) {
            return Ok(());
        }
        let expected = match (adapted().min(), adapted().max()) {
            (Some(first), Some(last)) => format!("layers that the sidecar adapts, {first} to {last}"),
            _ => "a sidecar that adapts layers".into(),
        };
        Err(Error::expected(expected, self).setting("layers"))
    }
}

/// The layer that the weight `name` belongs to, if it does.
pub(super) fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Serialize for Layers {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_a_range() {
        assert_eq!(Layers::parse("3-5").unwrap().range(), 3..6);
        assert_eq!(Layers::parse("0").unwrap().to_string(), "0-0");
        for text in ["", "-", "5-3", "a-b", "1-", "-2", "1-2-3", "1.5", "99999999999999999999"] {
            let error = Layers::parse(text).unwrap_err().to_string();
            assert!(error.contains("8-15"), "{text}: {error}");
        }
    }
}
