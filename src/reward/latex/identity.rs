//! Whether two expressions are the same: exactly where they are numbers, at random points where they are not.
//!
//! Polynomials and rational functions are evaluated exactly, so that by Schwartz and Zippel two different ones
//! agree at one of the eight points with a probability of at most degree/2¹¹. Everything else is compared in floating
//! point, where a root, a logarithm or a pole leaves points out: a point counts where both expressions are
//! real, and only if there is none, where they are complex. The points are always the same ones.

use std::collections::BTreeSet;

use num_bigint::BigInt;
use num_complex::Complex64;
use num_rational::BigRational;
use num_traits::Zero;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::expression::Expr;
use super::value::{Evaluation, Undefined, Value, Work};

/// Points at which two expressions must agree, and how many are tried to find them.
const POINTS: usize = 8;
const MIN_POINTS: usize = 3;
const TRIES: u64 = 80;

/// Largest relative difference between equal values, with and without variables.
const TOLERANCE: f64 = 1e-9;
const CONSTANT_TOLERANCE: f64 = 1e-11;

/// Whether two expressions are the same answer.
///
/// A number that is written out equals no number that is not: what still has to be computed, such as
/// `3245/5` or `2^{10}`, only repeats the question.
pub(super) fn same(a: &Expr, b: &Expr, work: &mut Work) -> bool {
    a == b || a.is_written_out() == b.is_written_out() && same_value(a, b, work)
}

/// Whether two expressions have the same value.
pub(super) fn same_value(a: &Expr, b: &Expr, work: &mut Work) -> bool {
    let constant = variables(&[a, b]).is_empty();
    let tolerance = if constant { CONSTANT_TOLERANCE } else { TOLERANCE };
    agree(&[a, b], work, |values| match values {
        [Value::Exact(a), Value::Exact(b)] => a == b,
        // A long decimal fraction is no irrational number, however near.
        [a, b] if constant && (is_long(a) || is_long(b)) => false,
        [a, b] => is_near(a.near(), b.near(), tolerance),
        _ => false,
    })
}

/// Whether `a` is a multiple of `b` by a number other than 0, a positive one if `positive`.
pub(super) fn proportional(a: &Expr, b: &Expr, positive: bool, work: &mut Work) -> bool {
    if variables(&[a, b]).is_empty() {
        return false;
    }
    let mut ratio: Option<Complex64> = None;
    agree(&[a, b], work, |values| {
        let [a, b] = values else { return false };
        let (a, b) = (a.near(), b.near());
        if b.is_zero() || a.is_zero() {
            return a == b;
        }
        let first = *ratio.get_or_insert(a / b);
        let sign = !positive || first.re > 0.0 && first.im.abs() <= TOLERANCE * first.re;
        sign && is_near(a / b, first, TOLERANCE)
    }) && ratio.is_some()
}

/// The value of an expression without variables.
pub(super) fn constant(a: &Expr, work: &mut Work) -> Option<Value> {
    if !variables(&[a]).is_empty() {
        return None;
    }
    let point = |_: &str| BigRational::zero();
    Evaluation { point: &point, work, left_reals: false }.value(a).ok()
}

fn is_long(value: &Value) -> bool {
    const MAX_BITS: u64 = 20;
    value.as_rational().is_some_and(|value| value.denom().bits() > MAX_BITS)
}

fn is_near(a: Complex64, b: Complex64, tolerance: f64) -> bool {
    // An exact number may lie beyond floating point.
    a.is_finite() && b.is_finite() && (a - b).norm() <= tolerance * a.norm().max(b.norm())
}

/// The names of all variables.
pub(super) fn variables(all: &[&Expr]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut left = all.to_vec();
    while let Some(expr) = left.pop() {
        match expr {
            Expr::Letter(name) if !["e", "i", "pi"].contains(&name.as_str()) => {
                names.insert(name.clone());
            }
            _ => left.extend(expr.parts()),
        }
    }
    names
}

/// Whether `passes` holds for the values of all expressions, at every point where they have any.
fn agree(all: &[&Expr], work: &mut Work, mut passes: impl FnMut(&[Value]) -> bool) -> bool {
    let is_constant = variables(all).is_empty();
    let mut real = 0;
    let mut complex = Vec::new();
    for round in 0..TRIES {
        let point = |name: &str| coordinate(name, round);
        let mut evaluation = Evaluation { point: &point, work: &mut *work, left_reals: false };
        let values: Result<Vec<Value>, Undefined> = all.iter().map(|expr| evaluation.value(expr)).collect();
        let left_reals = evaluation.left_reals;
        match values {
            Ok(values) if is_constant => return passes(&values),
            Ok(values) if left_reals => complex.push(values),
            Ok(values) if !passes(&values) => return false,
            Ok(_) => real += 1,
            Err(Undefined) if is_constant || work.is_spent() => return false,
            Err(Undefined) => {}
        }
        if real == POINTS {
            return true;
        }
    }
    real >= MIN_POINTS
        || real == 0
            && complex.len() >= MIN_POINTS
            && complex.iter().take(POINTS).all(|values| passes(values))
}

/// A random number for a variable: small or large, positive or of either sign, in turn.
fn coordinate(name: &str, round: u64) -> BigRational {
    const DENOMINATOR: u32 = 1 << 12;
    let mut rng = ChaCha8Rng::from_seed(*blake3::hash(format!("{name} {round}").as_bytes()).as_bytes());
    let size = [4, 4, 50, 1][usize::try_from(round / 2 % 4).unwrap_or(0)] * i64::from(DENOMINATOR);
    let least = if round.is_multiple_of(2) { 1 } else { -size };
    // An odd numerator is never a whole number.
    let numerator = rng.random_range(least..size) | 1;
    BigRational::new(BigInt::from(numerator), BigInt::from(DENOMINATOR))
}
