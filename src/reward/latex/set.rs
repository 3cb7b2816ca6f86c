//! Sets of real numbers: inequalities and differences as intervals and their unions.

use super::answer::{self, Answer, Kind};
use super::expression::Expr;
use super::identity::{constant, variables};
use super::token::Token;
use super::value::Work;

/// The set of numbers that an inequality of one variable describes.
pub(super) fn interval(relation: &Answer) -> Option<Answer> {
    let Kind::Relation(sides, signs) = &relation.kind else { return None };
    let is_bound = |side: &Answer| matches!(&side.kind, Kind::Expression(expr) if variables(&[expr]).iter().all(|name| name == "infty"));
    if let ([x, y], ['≠']) = (&sides[..], &signs[..]) {
        let bound = if variable(x).is_some() { y } else { x };
        if !is_bound(bound) || variable(x).or(variable(y)).is_none() {
            return None;
        }
        let below = sequence('(', infinity(true), bound.clone(), ')');
        let above = sequence('(', bound.clone(), infinity(false), ')');
        return Some(unwritten(Kind::Union(vec![below, above])));
    }
    let (sides, signs) = ascending(sides, signs)?;
    let open = |sign: char| if sign == '<' { '(' } else { '[' };
    let close = |sign: char| if sign == '<' { ')' } else { ']' };
    let (low, high, from, to) = match (&sides[..], &signs[..]) {
        ([x, high], [sign]) if variable(x).is_some() => (None, Some(*high), '(', close(*sign)),
        ([low, x], [sign]) if variable(x).is_some() => (Some(*low), None, open(*sign), ')'),
        ([low, x, high], [first, second]) if variable(x).is_some() => {
            (Some(*low), Some(*high), open(*first), close(*second))
        }
        _ => return None,
    };
    if !low.into_iter().chain(high).all(is_bound) {
        return None;
    }
    let low = low.cloned().unwrap_or_else(|| infinity(true));
    let high = high.cloned().unwrap_or_else(|| infinity(false));
    Some(sequence(from, low, high, to))
}

/// All real numbers, by sign, by name or as an interval.
pub(super) fn is_reals(set: &Answer) -> bool {
    let is = |bound: &Answer, other: Answer| bound.tokens == other.tokens;
    match &set.kind {
        Kind::Expression(Expr::Letter(name)) => name == "mathbb r",
        Kind::Name(name) => {
            ["allreals", "allrealnumbers", "realnumbers", "thereals"].contains(&name.as_str())
        }
        Kind::Sequence('(', bounds, ')') => {
            matches!(&bounds[..], [low, high] if is(low, infinity(true)) && is(high, infinity(false)))
        }
        _ => false,
    }
}

/// The real numbers without some, as a union of intervals.
pub(super) fn reals_without(sets: &[Answer], work: &mut Work) -> Option<Answer> {
    let [all, Answer { kind: Kind::List(left_out), .. }] = sets else { return None };
    let mut points = Vec::new();
    for point in left_out {
        let Kind::Expression(expr) = &point.kind else { return None };
        points.push((constant(expr, work)?.near().re, point.clone()));
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let points: Vec<Answer> = points.into_iter().map(|(_, point)| point).collect();
    let lows = std::iter::once(infinity(true)).chain(points.iter().cloned());
    let highs = points.iter().cloned().chain(std::iter::once(infinity(false)));
    let pieces = lows.zip(highs).map(|(low, high)| sequence('(', low, high, ')')).collect();
    is_reals(all).then_some(unwritten(Kind::Union(pieces)))
}

fn sequence(open: char, low: Answer, high: Answer, close: char) -> Answer {
    unwritten(Kind::Sequence(open, vec![low, high], close))
}

fn infinity(negative: bool) -> Answer {
    let mut tokens = vec![Token::Letter("infty".to_owned())];
    if negative {
        tokens.insert(0, Token::Operator('-'));
    }
    answer::read(&tokens)
}

/// The union of the sets that inequalities describe.
pub(super) fn union(inequalities: &[Answer]) -> Option<Answer> {
    let sets: Option<Vec<Answer>> = inequalities.iter().map(interval).collect();
    sets.map(|sets| unwritten(Kind::Union(sets)))
}

/// An answer that nobody wrote.
fn unwritten(kind: Kind) -> Answer {
    Answer { tokens: Vec::new(), kind }
}

/// Both sides and signs with the smaller side first.
pub(super) fn ascending<'a>(sides: &'a [Answer], signs: &[char]) -> Option<(Vec<&'a Answer>, Vec<char>)> {
    let mut sides: Vec<&Answer> = sides.iter().collect();
    let mut signs = signs.to_vec();
    if signs.iter().all(|sign| ['>', '≥'].contains(sign)) {
        sides.reverse();
        signs.reverse();
        signs.iter_mut().for_each(|sign| *sign = if *sign == '>' { '<' } else { '≤' });
    }
    signs.iter().all(|sign| ['<', '≤'].contains(sign)).then_some((sides, signs))
}

/// The variable that an answer is.
pub(super) fn variable(answer: &Answer) -> Option<&str> {
    match &answer.kind {
        Kind::Expression(Expr::Letter(name))
            if !["e", "i", "pi", "infty", "emptyset"].contains(&name.as_str()) =>
        {
            Some(name)
        }
        _ => None,
    }
}
