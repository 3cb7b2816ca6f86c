//! Whether two answers are the same.

use super::answer::{self, Answer, Kind};
use super::identity::same;
use super::relation::{point, relation_and_value, relations};
use super::set::{is_reals, reals_without, union};
use super::value::Work;

/// Whether `a` and `b` say the same.
pub(super) fn equal(a: &Answer, b: &Answer, work: &mut Work) -> bool {
    if a.tokens == b.tokens && !a.tokens.is_empty() {
        return true;
    }
    if work.spend(1).is_err() {
        return false;
    }
    match (&a.kind, &b.kind) {
        (Kind::Difference(x), Kind::Difference(y)) => in_order(x, y, work),
        (Kind::Difference(sets), _) => reals_without(sets, work).is_some_and(|set| equal(&set, b, work)),
        (_, Kind::Difference(sets)) => reals_without(sets, work).is_some_and(|set| equal(a, &set, work)),
        _ if is_reals(a) && is_reals(b) => true,
        (Kind::Name(name), _) => names(name, b),
        (_, Kind::Name(name)) => names(name, a),
        (Kind::Relation(..), Kind::Relation(..)) => relations(a, b, work),
        (Kind::Relation(..), _) => relation_and_value(a, b, work),
        (_, Kind::Relation(..)) => relation_and_value(b, a, work),
        (Kind::Expression(x), Kind::Expression(y)) => same(x, y, work),
        (Kind::List(x), Kind::List(y)) | (Kind::Union(x), Kind::Union(y)) => in_any_order(x, y, work),
        (Kind::Sequence(open, x, close), Kind::Sequence(other_open, y, other_close)) => {
            open == other_open && close == other_close && in_order(x, y, work)
        }
        (Kind::Ratio(x), Kind::Ratio(y)) => in_order(x, y, work),
        (Kind::Matrix(kind, x), Kind::Matrix(other_kind, y)) => {
            kind == other_kind && x.len() == y.len() && x.iter().zip(y).all(|(x, y)| in_order(x, y, work))
        }
        (Kind::List(items), Kind::Sequence(..) | Kind::Union(_)) => list_and_sequence(items, b, work),
        (Kind::Sequence(..) | Kind::Union(_), Kind::List(items)) => list_and_sequence(items, a, work),
        _ => false,
    }
}

pub(super) fn in_order(a: &[Answer], b: &[Answer], work: &mut Work) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b, work))
}

fn in_any_order(a: &[Answer], b: &[Answer], work: &mut Work) -> bool {
    let mut left: Vec<&Answer> = b.iter().collect();
    a.len() == b.len()
        && a.iter().all(|a| {
            let at = left.iter().position(|b| equal(a, b, work));
            at.map(|at| left.remove(at)).is_some()
        })
}

/// Names without the case of their letters; half of the day counts where both say it.
fn names(name: &str, other: &Answer) -> bool {
    let Some(other) = answer::words(&other.tokens) else { return false };
    let hour = |name: &str| {
        let hour = name.strip_suffix("am").or(name.strip_suffix("pm"))?;
        hour.bytes().all(|c| c.is_ascii_digit() || c == b':').then(|| hour.to_owned())
    };
    name == other || hour(name) == Some(other.clone()) || hour(&other).as_deref() == Some(name)
}

/// `x=1, y=2` is the point (1,2), and `x<1 or x>2` the union of two intervals.
fn list_and_sequence(items: &[Answer], other: &Answer, work: &mut Work) -> bool {
    match &other.kind {
        Kind::Union(_) => union(items).is_some_and(|set| equal(&set, other, work)),
        Kind::Sequence('(', coordinates, ')') => {
            point(items).is_some_and(|values| in_order(&values, coordinates, work))
        }
        _ => false,
    }
}
