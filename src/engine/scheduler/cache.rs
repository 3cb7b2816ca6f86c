//! What sequences have read, and which one serves the next request best.
//!
//! The KV cache belongs to tokens *and* mixture: what was read with one mixture is never used with another, also where the
//! other is a newer expert of the same name, because [`Contents`] say what a mixture is made of.

use crate::engine::Token;
use crate::expert::Contents;

/// The scope in which the cache ignores mixtures, for tests.
#[cfg(test)]
pub(crate) const PLANTED: u64 = u64::MAX;

/// Whose reading may be shared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    /// The mixture that reads.
    pub contents: Contents,
    /// See [`super::Request::scope`].
    pub scope: u64,
}

impl Key {
    /// Whether what was read for one may be used for the other.
    fn may_share(self, other: Self) -> bool {
        #[cfg(test)]
        if self.scope == PLANTED {
            // The fault that the tests must see: another mixture's reading.
            return other.scope == self.scope;
        }
        self == other
    }
}

/// What a free sequence still holds.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub key: Key,
    pub tokens: Vec<Token>,
    /// When it was used last, in numbers that grow.
    pub used: u64,
    /// Whether it is of no use once nobody waits.
    pub is_disposable: bool,
}

/// A sequence, as far as it matters here.
pub(super) enum Place<'a> {
    /// It is free.
    Free(Option<&'a Held>),
    /// It is at work: its key, what it will have read of its prompt, how many tokens of that it has read, and its number
    /// among the admitted.
    Busy(Key, &'a [Token], usize, u64),
    /// It cannot be used.
    Closed,
}

/// A sequence, and how many tokens of its beginning are to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub seat: usize,
    pub n: usize,
}

/// How many tokens two texts have in common at their beginning.
pub(super) fn common(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The sequence that has read most of what `prompt` begins with, at most `limit` tokens of it; the first of equal ones.
/// `except` is not asked.
pub(super) fn known<'a>(
    places: impl Iterator<Item = Place<'a>>,
    key: Key,
    prompt: &[Token],
    limit: usize,
    except: Option<usize>,
) -> Option<Source> {
    let n = |place: Place| match place {
        Place::Free(Some(held)) if key.may_share(held.key) => common(&held.tokens, prompt),
        Place::Busy(other, tokens, n_read, _) if key.may_share(other) => common(&tokens[..n_read], prompt),
        _ => 0,
    };
    let mut best: Option<Source> = None;
    for (seat, place) in places.enumerate().filter(|(seat, _)| Some(*seat) != except) {
        let n = n(place).min(limit);
        if n > best.map_or(0, |best| best.n) {
            best = Some(Source { seat, n });
        }
    }
    best
}

/// The same among what sequences admitted before number `order` will have read; the one that waits must not be waited for.
pub(super) fn promised<'a>(
    places: impl Iterator<Item = Place<'a>>,
    key: Key,
    prompt: &[Token],
    limit: usize,
    order: u64,
) -> usize {
    let n = |place: Place| match place {
        Place::Busy(other, tokens, _, earlier) if key.may_share(other) && earlier < order => {
            common(tokens, prompt)
        }
        _ => 0,
    };
    places.map(n).max().unwrap_or(0).min(limit)
}

/// Which free sequence takes a request for which `source` knows most. Where that is free itself and the request uses most
/// of what it holds, it is taken; otherwise the one that was used longest ago, so that what the source holds stays. The
/// sequences from number `n_open` on are for requests that are to be kept, which take others only where these are busy.
pub(super) fn seat_for<'a>(
    places: impl Iterator<Item = Place<'a>>,
    source: Option<Source>,
    n_open: usize,
    is_kept: bool,
) -> Option<usize> {
    let mut oldest: Option<(bool, u64, usize)> = None;
    let mut of_source = None;
    for (seat, place) in places.enumerate() {
        let Place::Free(held) = place else { continue };
        let is_open = seat < n_open;
        if !is_open && !is_kept {
            continue;
        }
        if let (Some(source), Some(held)) = (source.filter(|source| source.seat == seat), held) {
            if held.tokens.len() <= 2 * source.n {
                return Some(seat);
            }
            of_source = Some(seat);
            continue;
        }
        let order = (is_open && is_kept, held.map_or(0, |held| held.used), seat);
        if oldest.is_none_or(|earliest| (order.0, order.1) < (earliest.0, earliest.1)) {
            oldest = Some(order);
        }
    }
    oldest.map(|(.., seat)| seat).or(of_source)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { contents: Contents::BASE, scope: 0 };

    fn held(tokens: &[Token], used: u64, key: Key) -> Held {
        Held { key, tokens: tokens.to_vec(), used, is_disposable: false }
    }

    fn places(all: &[Option<Held>]) -> impl Iterator<Item = Place<'_>> {
        all.iter().map(|held| Place::Free(held.as_ref()))
    }

    #[test]
    fn the_longest_beginning_of_the_same_key_counts() {
        let other = Key { scope: 1, ..KEY };
        let all = [
            Some(held(&[1, 2, 9], 1, KEY)),
            Some(held(&[1, 2, 3, 4], 2, other)),
            None,
            Some(held(&[1, 2, 3, 9], 3, KEY)),
        ];
        let prompt = [1, 2, 3, 4, 5];
        assert_eq!(known(places(&all), KEY, &prompt, 4, None), Some(Source { seat: 3, n: 3 }));
        assert_eq!(known(places(&all), KEY, &prompt, 4, Some(3)), Some(Source { seat: 0, n: 2 }));
        assert_eq!(known(places(&all), other, &prompt, 2, None), Some(Source { seat: 1, n: 2 }));
        assert_eq!(known(places(&all), KEY, &[7], 0, None), None);
        // Of a busy one what it has read, and what it promises to those after it.
        let busy = || [Place::Busy(KEY, &prompt, 2, 5)].into_iter();
        assert_eq!(known(busy(), KEY, &prompt, 4, None), Some(Source { seat: 0, n: 2 }));
        assert_eq!(promised(busy(), KEY, &prompt, 4, 6), 4);
        assert_eq!(promised(busy(), KEY, &prompt, 4, 5), 0);
        assert_eq!(promised(busy(), other, &prompt, 4, 6), 0);
    }

    #[test]
    fn a_source_is_taken_over_where_little_of_it_is_lost_and_otherwise_stays() {
        let all = [Some(held(&[1; 10], 7, KEY)), Some(held(&[2; 3], 5, KEY)), Some(held(&[3; 3], 6, KEY))];
        let seat = |n| seat_for(places(&all), Some(Source { seat: 0, n }), 9, false);
        assert_eq!((seat(8), seat(5), seat(4)), (Some(0), Some(0), Some(1)));
        assert_eq!(seat_for(places(&all), None, 9, false), Some(1), "the one used longest ago");
        assert_eq!(
            seat_for(places(&all[..1]), Some(Source { seat: 0, n: 1 }), 9, false),
            Some(0),
            "there is no other"
        );
        assert_eq!(seat_for([Place::Closed].into_iter(), None, 9, false), None);
        let empty = [Some(held(&[1], 7, KEY)), None, None];
        assert_eq!(seat_for(places(&empty), None, 9, false), Some(1), "an empty one first");
    }

    #[test]
    fn what_is_reserved_goes_to_requests_that_are_kept() {
        let all = [Some(held(&[2; 3], 5, KEY)), Some(held(&[1; 10], 1, KEY))];
        let seat = |source, is_kept| seat_for(places(&all), source, 1, is_kept);
        assert_eq!((seat(None, false), seat(None, true)), (Some(0), Some(1)));
        assert_eq!(seat(Some(Source { seat: 1, n: 9 }), false), Some(0));
        let busy = [Place::Closed, Place::Free(all[1].as_ref())];
        assert_eq!(seat_for(busy.into_iter(), None, 1, false), None, "it waits for the other");
        let busy = [Place::Free(all[0].as_ref()), Place::Closed];
        assert_eq!(seat_for(busy.into_iter(), None, 1, true), Some(0), "it takes another");
    }
}
