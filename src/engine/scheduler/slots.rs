//! Which slot holds which mixture. Slot 0 is the base model's.

use crate::expert::Contents;

/// The slots of a session. Whether one is in use is known to the sequences.
pub(super) struct Slots {
    /// By slot, beginning with slot 1: what it holds, and when it was taken last.
    held: Vec<Option<(Contents, u64)>>,
    clock: u64,
}

/// Where a mixture finds its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is in this slot.
    There(u32),
    /// This slot has to be written; no sequence holds tokens of what was in it.
    Free(u32),
    /// This slot would have to be written, after sequences that are not at work have forgotten its tokens.
    Idle(u32),
}

/// Who holds tokens of a mixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    /// Nobody.
    None,
    /// Sequences that are not at work.
    Idle,
    /// Sequences at work.
    Busy,
}

impl Slots {
    /// So many slots, with that of the base model.
    pub fn new(n: usize) -> Self {
        Self { held: vec![None; n.saturating_sub(1)], clock: 0 }
    }

    /// A slot for `contents`, the one that was taken longest ago of those that are least in use; `None` if all are used by
    /// sequences at work.
    pub fn find(&self, contents: Contents, used_by: impl Fn(Contents) -> Use) -> Option<Found> {
        if contents == Contents::BASE {
            return Some(Found::There(0));
        }
        let slot = |i: usize| i as u32 + 1;
        if let Some(i) = self.held.iter().position(|held| held.is_some_and(|(other, _)| other == contents)) {
            return Some(Found::There(slot(i)));
        }
        let rank = |held: &Option<(Contents, u64)>| match held {
            None => (Use::None, 0),
            Some((contents, taken)) => (used_by(*contents), *taken),
        };
        let (i, (usage, _)) =
            self.held.iter().map(rank).enumerate().min_by_key(|(i, (usage, taken))| (*usage, *taken, *i))?;
        match usage {
            Use::None => Some(Found::Free(slot(i))),
            Use::Idle => Some(Found::Idle(slot(i))),
            Use::Busy => None,
        }
    }

    /// What `slot` holds.
    pub fn contents(&self, slot: u32) -> Option<Contents> {
        match slot {
            0 => Some(Contents::BASE),
            _ => self.held[slot as usize - 1].map(|(contents, _)| contents),
        }
    }

    /// Notes that `slot` holds `contents` and is taken now; `None` for nothing.
    pub fn take(&mut self, slot: u32, contents: Option<Contents>) {
        if slot > 0 {
            self.clock += 1;
            self.held[slot as usize - 1] = contents.map(|contents| (contents, self.clock));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_nobody_uses_is_taken_first_and_one_at_work_never() {
        let [a, b, c, d] = [1, 2, 3, 4].map(Contents::numbered);
        let mut slots = Slots::new(3);
        assert_eq!(slots.find(Contents::BASE, |_| Use::Busy), Some(Found::There(0)));
        assert_eq!(slots.find(a, |_| Use::None), Some(Found::Free(1)));
        slots.take(1, Some(a));
        assert_eq!(slots.find(b, |_| Use::None), Some(Found::Free(2)));
        slots.take(2, Some(b));
        assert_eq!(slots.find(a, |_| Use::Busy), Some(Found::There(1)));
        let used = |who: Contents, usage| move |other| if other == who { usage } else { Use::Busy };
        assert_eq!(slots.find(c, |_| Use::Busy), None);
        assert_eq!(slots.find(c, used(b, Use::Idle)), Some(Found::Idle(2)));
        assert_eq!(slots.find(c, used(b, Use::None)), Some(Found::Free(2)));
        slots.take(1, Some(a));
        assert_eq!(slots.find(d, |_| Use::Idle), Some(Found::Idle(2)), "the one taken longest ago");
        slots.take(2, None);
        assert_eq!(slots.contents(2), None);
        assert_eq!(Slots::new(1).find(a, |_| Use::None), None, "a session with the base model's slot only");
    }
}
