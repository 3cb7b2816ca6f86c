//! Equations, inequalities and memberships: what they state, and whether two say the same.

use super::answer::{Answer, Kind};
use super::equality::{equal, in_order};
use super::expression::Expr;
use super::identity::{constant, proportional, variables};
use super::set::{ascending, interval, variable};
use super::value::Work;

/// Whether a relation states the value, or describes the set.
pub(super) fn relation_and_value(relation: &Answer, value: &Answer, work: &mut Work) -> bool {
    if stated(relation, work).into_iter().any(|stated| equal(stated, value, work)) {
        return true;
    }
    interval(relation).is_some_and(|set| equal(&set, value, work))
}

/// Whether two equations, inequalities or memberships say the same.
pub(super) fn relations(a: &Answer, b: &Answer, work: &mut Work) -> bool {
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
    if let ([x, y], [u, v], ['='], ['=']) = (&a_sides[..], &b_sides[..], &a_signs[..], &b_signs[..]) {
        if let (Some(difference), Some(other), false) =
            (left_minus_right(x, y), left_minus_right(u, v), is_solved(x, y) || is_solved(u, v))
        {
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
fn is_solved(a: &Answer, b: &Answer) -> bool {
    let is_number =
        |side: &Answer| matches!(&side.kind, Kind::Expression(expr) if variables(&[expr]).is_empty());
    variable(a).is_some() && is_number(b) || variable(b).is_some() && is_number(a)
}

fn left_minus_right(a: &Answer, b: &Answer) -> Option<Expr> {
    match (&a.kind, &b.kind) {
        (Kind::Expression(a), Kind::Expression(b)) => Some(a.clone().minus(b.clone())),
        _ => None,
    }
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
    if is_solved(x, y) || is_solved(u, v) {
        return false;
    }
    let (Some(difference), Some(other)) = (left_minus_right(x, y), left_minus_right(u, v)) else {
        return false;
    };
    proportional(&difference, &other, true, work)
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

/// The values that a relation states: what follows the last `=` or `∈`, and, exact as it is, what stands before `≈`.
fn stated<'a>(relation: &'a Answer, work: &mut Work) -> Vec<&'a Answer> {
    let Kind::Relation(sides, signs) = &relation.kind else { return Vec::new() };
    let ([first, .., before, last] | [first @ before, last]) = sides.as_slice() else { return Vec::new() };
    if !signs.iter().all(|sign| "=≈≡∈".contains(*sign)) {
        return Vec::new();
    }
    let mut values = Vec::new();
    let computes = matches!(&first.kind, Kind::Expression(expr) if constant(expr, work).is_some());
    if first.tokens.is_empty() || computes || is_label(first) {
        values.push(last);
    }
    if signs.last() == Some(&'≈') && !is_label(before) {
        values.push(before);
    }
    if variable(last).is_some() && signs == &['='] {
        values.push(first);
    }
    values
}

/// The coordinates of the point that `x=1, y=2` states, if the variables stand in the order of the alphabet.
pub(super) fn point(assignments: &[Answer]) -> Option<Vec<Answer>> {
    let mut last = "";
    let mut values = Vec::new();
    for assignment in assignments {
        let Kind::Relation(sides, signs) = &assignment.kind else { return None };
        let ([name, value], ['=']) = (&sides[..], &signs[..]) else { return None };
        let name = variable(name).filter(|name| *name > last)?;
        last = name;
        values.push(value.clone());
    }
    Some(values)
}
