//! Whether two answers are the same.

use super::answer::{self, Answer, Kind};
use super::expression::Expr;
use super::identity::{constant, proportional, same, variables};
use super::tex::Token;
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
        (Kind::Difference(sets), _) => difference_of_sets(sets, work).is_some_and(|set| equal(&set, b, work)),
        (_, Kind::Difference(sets)) => difference_of_sets(sets, work).is_some_and(|set| equal(a, &set, work)),
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

fn in_order(a: &[Answer], b: &[Answer], work: &mut Work) -> bool {
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

/// A name before `=` or `∈`: anything without a number of its own, such as x, f(3), AB, a+b.
fn is_label(side: &Answer) -> bool {
    fn has_number(expr: &Expr) -> bool {
        match expr {
            Expr::Number(_) | Expr::Mixed(..) | Expr::Root(..) => true,
            Expr::Unknown(..) => false,
            other => other.parts().into_iter().any(has_number),
        }
    }
    match &side.kind {
        Kind::Expression(expr) => !has_number(expr) || is_application(expr),
        Kind::Name(_) | Kind::Unread => true,
        Kind::Sequence(_, items, _) => {
            items.iter().all(|item| matches!(item.kind, Kind::Expression(Expr::Letter(_))))
        }
        _ => false,
    }
}

/// P(3), which the grammar takes for a product, or f(3).
fn is_application(expr: &Expr) -> bool {
    match expr {
        Expr::Unknown(..) => true,
        Expr::Product(head, _) => {
            matches!(head.as_ref(), Expr::Letter(name) if name.starts_with(char::is_uppercase))
        }
        _ => false,
    }
}

/// The variable that an answer is.
fn variable(answer: &Answer) -> Option<&str> {
    match &answer.kind {
        Kind::Expression(Expr::Letter(name))
            if !["e", "i", "pi", "infty", "emptyset"].contains(&name.as_str()) =>
        {
            Some(name)
        }
        _ => None,
    }
}

/// The values that a relation states: what follows the last `=` or `∈`, or what stands before `≈`.
fn stated<'a>(relation: &'a Answer, work: &mut Work) -> Vec<&'a Answer> {
    let Kind::Relation(sides, signs) = &relation.kind else { return Vec::new() };
    let [first, .., last] = sides.as_slice() else { return Vec::new() };
    if !signs.iter().all(|sign| "=≈≡∈".contains(*sign)) {
        return Vec::new();
    }
    let mut values = Vec::new();
    let computes = matches!(&first.kind, Kind::Expression(expr) if constant(expr, work).is_some());
    if first.tokens.is_empty() || computes || is_label(first) {
        values.push(last);
    }
    if let [.., before, '≈'] = [&['='], signs.as_slice()].concat()[..] {
        if before != '≈' && !is_label(&sides[sides.len() - 2]) {
            values.push(&sides[sides.len() - 2]);
        }
    }
    if variable(last).is_some() && signs == &['='] {
        values.push(first);
    }
    values
}

fn relation_and_value(relation: &Answer, value: &Answer, work: &mut Work) -> bool {
    if stated(relation, work).into_iter().any(|stated| equal(stated, value, work)) {
        return true;
    }
    intervals(relation, work).is_some_and(|set| equal(&set, value, work))
}

fn relations(a: &Answer, b: &Answer, work: &mut Work) -> bool {
    let (Kind::Relation(a_sides, a_signs), Kind::Relation(b_sides, b_signs)) = (&a.kind, &b.kind) else {
        return false;
    };
    let ordered = |signs: &[char]| signs.iter().all(|sign| "<>≤≥".contains(*sign));
    if ordered(a_signs) && ordered(b_signs) {
        return inequalities(a_sides, a_signs, b_sides, b_signs, work);
    }
    // A set, and what describes it.
    match (&a_signs[..], &b_signs[..]) {
        (['∈'], ['∈']) => {}
        (['∈'], _) => return a_sides.last().is_some_and(|set| relation_and_value(b, set, work)),
        (_, ['∈']) => return b_sides.last().is_some_and(|set| relation_and_value(a, set, work)),
        _ => {}
    }
    // Two equations, of which one may be a multiple of the other.
    let solved = is_solved(a_sides) || is_solved(b_sides);
    if let (false, [x, y], [u, v], ['='], ['=']) =
        (solved, &a_sides[..], &b_sides[..], &a_signs[..], &b_signs[..])
    {
        if let (Some(difference), Some(other)) = (difference(x, y), difference(u, v)) {
            if proportional(&difference, &other, false, work) {
                return true;
            }
        }
    }
    if a_signs == b_signs && in_order(a_sides, b_sides, work) {
        return true;
    }
    let named = |a: &Answer, b: &Answer, work: &mut Work| match (variable(a), variable(b)) {
        (Some(a), Some(b)) => a == b,
        _ => {
            let head = |side: &Answer| matches!(&side.kind, Kind::Expression(expr) if is_application(expr));
            head(a) || head(b) || equal(a, b, work)
        }
    };
    let (Some(a_name), Some(b_name)) = (a_sides.first(), b_sides.first()) else { return false };
    if !named(a_name, b_name, work) {
        return false;
    }
    let (a, b) = (stated(a, work), stated(b, work));
    a.iter().any(|a| b.iter().any(|b| equal(a, b, work)))
}

/// Whether a variable stands alone beside a number: then the question was to bring it there.
fn is_solved(sides: &[Answer]) -> bool {
    let is_number =
        |side: &Answer| matches!(&side.kind, Kind::Expression(expr) if variables(&[expr]).is_empty());
    match sides {
        [x, y] => variable(x).is_some() && is_number(y) || variable(y).is_some() && is_number(x),
        _ => false,
    }
}

fn difference(a: &Answer, b: &Answer) -> Option<Expr> {
    match (&a.kind, &b.kind) {
        (Kind::Expression(a), Kind::Expression(b)) => Some(a.clone().minus(b.clone())),
        _ => None,
    }
}

/// Both sides and signs with the smaller side first.
fn ascending<'a>(sides: &'a [Answer], signs: &[char]) -> Option<(Vec<&'a Answer>, Vec<char>)> {
    let mut sides: Vec<&Answer> = sides.iter().collect();
    let mut signs = signs.to_vec();
    if signs.iter().all(|sign| ['>', '≥'].contains(sign)) {
        sides.reverse();
        signs.reverse();
        signs.iter_mut().for_each(|sign| *sign = if *sign == '>' { '<' } else { '≤' });
    }
    signs.iter().all(|sign| ['<', '≤'].contains(sign)).then_some((sides, signs))
}

fn inequalities(a: &[Answer], a_signs: &[char], b: &[Answer], b_signs: &[char], work: &mut Work) -> bool {
    let (Some((a, a_signs)), Some((b, b_signs))) = (ascending(a, a_signs), ascending(b, b_signs)) else {
        return false;
    };
    if a_signs != b_signs {
        return false;
    }
    if a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| equal(a, b, work)) {
        return true;
    }
    let ([x, y], [u, v]) = (&a[..], &b[..]) else { return false };
    if is_solved(&[(*x).clone(), (*y).clone()]) || is_solved(&[(*u).clone(), (*v).clone()]) {
        return false;
    }
    let (Some(difference), Some(other)) = (difference(x, y), difference(u, v)) else { return false };
    proportional(&difference, &other, true, work)
}

/// The set of numbers that an inequality of one variable describes.
fn intervals(relation: &Answer, work: &mut Work) -> Option<Answer> {
    let Kind::Relation(sides, signs) = &relation.kind else { return None };
    let is_bound = |side: &Answer| matches!(&side.kind, Kind::Expression(expr) if variables(&[expr]).iter().all(|name| name == "infty"));
    if let ([x, y], ['≠']) = (&sides[..], &signs[..]) {
        let bound = if variable(x).is_some() { y } else { x };
        if !is_bound(bound) || variable(x).or(variable(y)).is_none() {
            return None;
        }
        let below = sequence('(', infinity(true), bound.clone(), ')');
        let above = sequence('(', bound.clone(), infinity(false), ')');
        return Some(Answer { tokens: Vec::new(), kind: Kind::Union(vec![below, above]) });
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
    if !low.into_iter().chain(high).all(is_bound) || work.is_spent() {
        return None;
    }
    let low = low.cloned().unwrap_or_else(|| infinity(true));
    let high = high.cloned().unwrap_or_else(|| infinity(false));
    Some(sequence(from, low, high, to))
}

/// All real numbers, by sign, by name or as an interval.
fn is_reals(set: &Answer) -> bool {
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
fn difference_of_sets(sets: &[Answer], work: &mut Work) -> Option<Answer> {
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
    is_reals(all).then_some(Answer { tokens: Vec::new(), kind: Kind::Union(pieces) })
}

fn sequence(open: char, low: Answer, high: Answer, close: char) -> Answer {
    Answer { tokens: Vec::new(), kind: Kind::Sequence(open, vec![low, high], close) }
}

fn infinity(negative: bool) -> Answer {
    let mut tokens = vec![Token::Letter("infty".to_owned())];
    if negative {
        tokens.insert(0, Token::Operator('-'));
    }
    answer::read(&tokens)
}

/// `x=1, y=2` is the point (1,2), and `x<1 or x>2` the union of two intervals.
fn list_and_sequence(items: &[Answer], other: &Answer, work: &mut Work) -> bool {
    if let Kind::Union(_) = &other.kind {
        let sets: Option<Vec<Answer>> = items.iter().map(|item| intervals(item, work)).collect();
        return sets
            .is_some_and(|sets| equal(&Answer { tokens: Vec::new(), kind: Kind::Union(sets) }, other, work));
    }
    let Kind::Sequence('(', point, ')') = &other.kind else { return false };
    let assigned = |item: &Answer| match &item.kind {
        Kind::Relation(sides, signs) if signs == &['='] && sides.len() == 2 => {
            variable(&sides[0]).map(|name| (name.to_owned(), sides[1].clone()))
        }
        _ => None,
    };
    let Some(assigned) = items.iter().map(assigned).collect::<Option<Vec<_>>>() else { return false };
    let in_alphabet = assigned.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let values: Vec<Answer> = assigned.into_iter().map(|(_, value)| value).collect();
    in_alphabet && in_order(&values, point, work)
}
