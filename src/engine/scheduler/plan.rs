//! Which tokens are decoded next.
//!
//! Every sequence that writes gets its token, so that no long prompt holds it up. What room is left is shared evenly among
//! the prompts, so that a long one holds up no short one, and the earlier ones get what others do not need. While anyone
//! writes, prompts get a part of a batch only: it is the time between two tokens.

/// A sequence that has something to decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// The sequence.
    pub seat: usize,
    /// Tokens that it has not decoded yet.
    pub n_unread: usize,
    /// Whether it writes, that is, the one token is what it chose last.
    pub writes: bool,
    /// Its number among the admitted.
    pub order: u64,
}

/// How many tokens of each sequence are decoded next, by sequence: llama.cpp computes neighbours together. `n_batch` tokens
/// fit into a decode, `n_ubatch` into one while someone writes; both have room for a token of each sequence.
pub(super) fn plan(needs: &[Need], n_batch: usize, n_ubatch: usize) -> Vec<(usize, usize)> {
    let n_writers = needs.iter().filter(|need| need.writes).count();
    let room = match n_writers {
        0 => n_batch,
        n => n_batch.min(n_ubatch.max(n + 1)) - n,
    };
    let mut readers: Vec<_> = needs.iter().filter(|need| !need.writes && need.n_unread > 0).collect();
    // Who needs least is served first, so that what they leave goes to the others.
    readers.sort_by_key(|need| (need.n_unread, need.order));
    let mut left = room;
    let mut chosen: Vec<(usize, usize)> =
        needs.iter().filter(|need| need.writes).map(|need| (need.seat, 1)).collect();
    let n_readers = readers.len();
    for (i, need) in readers.into_iter().enumerate() {
        let share = left.div_ceil(n_readers - i);
        let n = need.n_unread.min(share);
        left -= n;
        if n > 0 {
            chosen.push((need.seat, n));
        }
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(seat: usize, n_unread: usize, writes: bool) -> Need {
        Need { seat, n_unread, writes, order: seat as u64 }
    }

    #[test]
    fn writers_come_first_and_prompts_share_the_rest() {
        let needs = [need(0, 1, true), need(1, 1000, false), need(2, 1, true), need(3, 10, false)];
        assert_eq!(plan(&needs, 2048, 512), [(0, 1), (1, 500), (2, 1), (3, 10)]);
        // Without writers a whole batch.
        let readers = [need(1, 5000, false), need(3, 10, false)];
        assert_eq!(plan(&readers, 2048, 512), [(1, 2038), (3, 10)]);
        let equal = [need(0, 300, false), need(1, 300, false), need(2, 300, false)];
        assert_eq!(plan(&equal, 100, 100), [(0, 34), (1, 33), (2, 33)]);
    }

    #[test]
    fn nobody_starves_in_the_smallest_batch() {
        let needs = [need(0, 1, true), need(1, 1, true), need(2, 9, false), need(3, 9, false)];
        assert_eq!(plan(&needs, 4, 1), [(0, 1), (1, 1), (2, 1)]);
        assert_eq!(plan(&needs[2..], 1, 1), [(2, 1)]);
        assert_eq!(plan(&[], 8, 8), []);
    }
}
