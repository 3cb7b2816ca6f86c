//! Which tokens are decoded next, and in which order.
//!
//! Every sequence that writes gets its token, so that no long prompt holds it up. While anyone writes, prompts get a part of
//! a batch only, which is the time between two tokens, and share it evenly, so that a long one holds up no short one; those that
//! are longer than that part get less still, because they would take it again and again. While nobody writes they are read
//! whole, the shortest first.
//!
//! llama.cpp computes together what is equally long and of sequences whose numbers follow each other. So the tokens of those
//! who write stand side by side, in one graph. Prompts, which are rarely equally long, are better off in a graph each than in
//! many for what remains of them: theirs stand in falling order.

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

/// Long prompts get this part of `n_ubatch` together while anyone writes.
const LONG_PART: usize = 4;

/// The sequences whose tokens are decoded next, each with how many, in the order of the batch; a sequence can appear twice.
/// `n_batch` tokens fit into a decode, `n_ubatch` into one while someone writes; both have room for a token of each sequence.
pub(super) fn plan(needs: &[Need], n_batch: usize, n_ubatch: usize) -> Vec<(usize, usize)> {
    let n_writers = needs.iter().filter(|need| need.writes).count();
    let is_shared = n_writers > 0;
    let room = match n_writers {
        0 => n_batch,
        n => n_batch.min(n_ubatch.max(n + 1)) - n,
    };
    let mut readers: Vec<_> = needs.iter().filter(|need| !need.writes && need.n_unread > 0).collect();
    // Who needs least is served first, so that what they leave goes to the others.
    readers.sort_by_key(|need| (need.n_unread, need.order));
    let mut left = room;
    // Of what is left, for long prompts.
    let is_long = |need: &Need| is_shared && need.n_unread > n_ubatch / 2;
    let mut left_for_long = (n_ubatch / LONG_PART).max(1);
    let mut n_long = readers.iter().filter(|need| is_long(need)).count();
    let mut read: Vec<(usize, usize)> = Vec::new();
    let n_readers = readers.len();
    for (i, need) in readers.into_iter().enumerate() {
        let share = if is_shared { left.div_ceil(n_readers - i) } else { left };
        let mut n = need.n_unread.min(share);
        if is_long(need) {
            n = n.min(left_for_long.div_ceil(n_long));
            left_for_long -= n;
            n_long -= 1;
        }
        left -= n;
        if n > 0 {
            read.push((need.seat, n));
        }
    }
    let mut order: Vec<_> = needs.iter().filter(|need| need.writes).map(|need| (need.seat, 1)).collect();
    if is_shared {
        // One token of each prompt fills the gap that its sequence leaves among those who write.
        for (seat, n) in &mut read {
            order.push((*seat, 1));
            *n -= 1;
        }
    }
    order.sort_unstable();
    read.sort_unstable();
    order.extend(read.into_iter().rev().filter(|(_, n)| *n > 0));
    order
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
        assert_eq!(plan(&needs, 2048, 512), [(0, 1), (1, 1), (2, 1), (3, 1), (3, 9), (1, 127)]);
        let equal = [need(0, 40, false), need(1, 40, false), need(2, 1, true)];
        assert_eq!(plan(&equal, 50, 100), [(0, 1), (1, 1), (2, 1), (1, 23), (0, 24)]);
        // Long ones share less.
        let long = [need(0, 300, false), need(1, 300, false), need(2, 1, true)];
        assert_eq!(plan(&long, 100, 100), [(0, 1), (1, 1), (2, 1), (1, 11), (0, 12)]);
    }

    #[test]
    fn without_writers_prompts_are_read_whole_and_the_shortest_first() {
        let readers = [need(1, 5000, false), need(3, 10, false), need(4, 20, false)];
        assert_eq!(plan(&readers, 2048, 512), [(4, 20), (3, 10), (1, 2018)]);
        assert_eq!(plan(&readers, 25, 16), [(4, 15), (3, 10)]);
    }

    #[test]
    fn nobody_starves_in_the_smallest_batch() {
        let needs = [need(0, 1, true), need(1, 1, true), need(2, 9, false), need(3, 9, false)];
        assert_eq!(plan(&needs, 4, 1), [(0, 1), (1, 1), (2, 1)]);
        assert_eq!(plan(&needs[2..], 1, 1), [(2, 1)]);
        assert_eq!(plan(&[], 8, 8), []);
    }
}
