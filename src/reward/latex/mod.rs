//! LaTeX answers: whether a completion's answer is the gold one, as a careful reader of MATH judges it.
//!
//! | file | idea |
//! |---|---|
//! | `find` | where the answer stands in a completion |
//! | `tex` | from text to tokens: what TeX sees |
//! | `token` | one symbol, or one construct |
//! | `numeral` | how numbers are written |
//! | `words` | the vocabulary: commands, functions, units |
//! | `answer` | from tokens to lists, points, intervals, matrices, equations, names |
//! | `expression` | from tokens to one formula |
//! | `value` | the value of a formula at a point |
//! | `identity` | whether two formulas are the same |
//! | `equality` | whether two answers are the same |
//! | `relation` | what equations and inequalities state |
//! | `set` | inequalities as intervals |
//!
//! The rules are those published with MATH (Hendrycks et al. 2021) and with Minerva (Lewkowycz et al. 2022,
//! appendix D, as lm-evaluation-harness uses it): spacing, `\left`, `$`, degrees, percent signs, units and
//! `x =` in front go away, and what is left is compared as mathematics, here by exact arithmetic or at random
//! points instead of by sympy. So `3+2x` is `2x+3`, `\frac{1}{\sqrt 2}` is `\frac{\sqrt 2}{2}`, and 0.5 is
//! `\frac12`.
//!
//! **A number has to be written out.** Where gold is a number, the answer is that number in digits, as a fraction
//! in lowest terms, as a mixed number, as a repeating decimal or as a multiple of a power of ten. `3245/5`,
//! `10+7`, `2^{10}`, `\sqrt{16}` and `5!` have the values 649, 17, 1024, 4 and 120, but they repeat the question,
//! and so they are wrong. Irrational numbers and formulas may have any form. In the same way, gold that is not
//! written out (`2^{2005}`) asks for a form that is not written out either.
//!
//! Different from Minerva's rules:
//! - tuples, intervals, sets, matrices, lists and names, which sympy does not read, are compared element by
//!   element; a list is in any order and complete, a tuple in its order, and identical texts are equal;
//! - numbers have to be written out (sympy computes them), and no decimal equals an irrational number;
//! - an equation is compared as an equation, where Minerva keeps what follows its last `=`: `y = 2x` is
//!   `2x - y = 0`, and `x^2 = 4` is not 4;
//! - a unit is dropped only if it is one: `\sqrt 2 g` and `2\mathrm{e}` are products.
//!
//! Different from math-verify:
//! - one answer is read as a whole: neither a part of it, nor a number within a formula that cannot be read,
//!   counts; a subset of a list is wrong;
//! - no rounding (it compares six digits), and 50% is 50 but not 0.5;
//! - plain text is read as LaTeX is: `1 1/4`, `sqrt(2)`, `x**2`;
//! - equality is symmetric: `x > 3` is `(3, \infty)`, whichever of them is gold.
//!
//! Known limits: `\sum`, `\int` and the like are compared as written; numbers in another base, `1011_2`, are not
//! converted; beyond 4000 bytes nothing is an answer.

mod answer;
mod equality;
mod expression;
mod find;
mod identity;
mod numeral;
mod relation;
mod set;
mod tex;
mod token;
mod value;
mod words;

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use super::Score;
pub use find::answer;
pub(crate) use find::last_boxed;
use value::Work;

/// 1 if the answer of `completion` is equivalent to `gold`, an expression without `\boxed`.
pub fn score(gold: &str, completion: &str) -> Score {
    let Some(found) = find::answer(completion) else {
        return Score::wrong(format!("found no \\boxed{{}} and no final answer, expected {gold}"));
    };
    // In MATH's own solutions gold is the last one of several boxes.
    let last = || {
        find::last_boxed(find::before_next_question(completion)).is_some_and(|last| equivalent(last, gold))
    };
    Score::compare(equivalent(found, gold) || last(), found, gold)
}

/// No answer is longer.
const MAX_BYTES: usize = 4000;

/// Whether two expressions are the same answer.
pub fn equivalent(a: &str, b: &str) -> bool {
    if a.len().max(b.len()) > MAX_BYTES {
        return false;
    }
    let mut work = Work::new();
    let (a, b) = (unannounced(a), unannounced(b));
    let (a, b) = (trimmed(&a), trimmed(&b));
    let text = squeezed(a);
    if text == squeezed(b) {
        return !text.is_empty();
    }
    let mut same = |a: &str, b: &str| match (tex::tokens(a), tex::tokens(b)) {
        (Some(a), Some(b)) => equality::equal(&answer::read(&a), &answer::read(&b), &mut work),
        _ => false,
    };
    same(a, b) || {
        let (number, other) = (without_noun(a), without_noun(b));
        (number, other) != (None, None) && same(number.unwrap_or(a), other.unwrap_or(b))
    }
}

/// Without "The answer is" in front, in a `\text` or as part of one.
fn unannounced(text: &str) -> Cow<'_, str> {
    static ANNOUNCED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?xi)^\s* (?P<open>\\(?:text(?:bf|it|rm)?|mathrm|mbox)\s*\{\s*)?
            (?:(?:so|thus|therefore|hence),?\s+)? (?:the\s+)? (?:final\s+|correct\s+)?
            answer\s*(?:is\b|:|=)\s*:?\s* (?P<close>\})? [\s~]*",
        )
        .unwrap()
    });
    let Some(found) = ANNOUNCED.captures(text) else { return text.into() };
    let rest = &text[found[0].len()..];
    match (found.name("open"), found.name("close")) {
        (Some(open), None) => format!("{}{rest}", open.as_str()).into(),
        _ => rest.into(),
    }
}

/// Without the end of a sentence.
fn trimmed(text: &str) -> &str {
    let text = text.trim();
    let end = text.trim_end_matches(['.', ',', ';', ' ']);
    // `\,` at the end is a space, and `0.333...` goes on.
    if end.ends_with('\\') || text.ends_with("...") {
        text
    } else {
        end
    }
}

/// The text without what only sets it, so that what cannot be read still equals itself.
fn squeezed(text: &str) -> String {
    static SETTING: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\\(?:left|right|displaystyle)\b|\\[!,;:]|\$|\^\{?\\circ\}?").unwrap());
    static SPACE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"([^\w\s])\s+|\s+([^\w\s])").unwrap());
    let text = SETTING.replace_all(text, "").replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac");
    // Twice, because a sign has space on both sides.
    let once = SPACE.replace_all(text.trim(), "${1}${2}");
    SPACE.replace_all(&once, "${1}${2}").into_owned()
}

/// A number without the noun or the short unit behind it: `73 residents`, `5 m`, `5 m/s`. Only a number that is all
/// of the answer has one: in `\sqrt{2} m` and in `5m`, m is a variable.
fn without_noun(text: &str) -> Option<&str> {
    static NOUN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^(-?[\d.,]*\d)\s+(?:[mg]|([A-Za-z]{4,})(?:\s[A-Za-z]+)*|([a-z]+/[a-z]+))$").unwrap()
    });
    let found = NOUN.captures(text)?;
    let is_unit = found.get(3).is_none_or(|unit| words::is_unit(unit.as_str()));
    let is_factor = found.get(2).is_some_and(|noun| words::magnitude(noun.as_str()).is_some());
    found.get(1).map(|number| number.as_str()).filter(|_| is_unit && !is_factor)
}
