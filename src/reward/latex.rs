//! LaTeX answers: whether a completion's boxed expression is the gold one, as the MATH evaluations judge it.
//!
//! The rules are those published with MATH (Hendrycks et al. 2021, `strip_string` and `is_equiv`) and with
//! Minerva (Lewkowycz et al. 2022, appendix D, as used by lm-evaluation-harness): spacing, `\left`, `\right`,
//! `$`, degrees, percent, units and `\text` go away; `\dfrac12`, `\tfrac{1}{2}` and `1/2` become
//! `\frac{1}{2}`; `\sqrt2` becomes `\sqrt{2}`; `x =` in front and thousands separators go away. Unlike those
//! rules, this file
//! - compares plain numbers by value (0.5 = 1/2 = .50, 2\frac12 = 2.5). A fraction counts only in lowest
//!   terms, so that repeating a question such as "120/8" does not answer it;
//! - compares tuples, intervals, sets and matrices element by element; the order of a set, or of a bare list,
//!   does not matter.

use std::sync::LazyLock;

use regex::Regex;

use super::numeric::Number;
use super::Score;

/// 1 if the answer of `completion` is equivalent to `gold`, an expression without `\boxed`.
pub fn score(gold: &str, completion: &str) -> Score {
    let Some(found) = answer(completion) else {
        return Score::wrong(format!("found no \\boxed{{}} and no final answer, expected {gold}"));
    };
    Score::compare(equivalent(found, gold), found, gold)
}

/// The answer of a completion: what the last `\boxed{}` holds, or else what "final answer is" states.
pub fn answer(completion: &str) -> Option<&str> {
    static STATED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)final answer is:?[ \t]*(\$[^$\n]+\$|[^\n]*?)(?:\.?[ \t]*I hope it is correct.*)?\.?[ \t]*(?:\n|$)")
            .unwrap()
    });
    let stated = || Some(STATED.captures_iter(completion).last()?.get(1)?.as_str());
    last_boxed(completion).or_else(stated).map(str::trim).filter(|answer| !answer.is_empty())
}

/// What the last `\boxed{…}` or `\fbox{…}` holds, braces balanced; also `\boxed 5`.
pub(crate) fn last_boxed(text: &str) -> Option<&str> {
    let (at, command) = ["\\boxed", "\\fbox"].iter().filter_map(|c| Some((text.rfind(c)?, c))).max()?;
    let after = text[at + command.len()..].trim_start();
    if !after.starts_with('{') {
        let end = after.find(|c: char| c == '$' || c.is_whitespace()).unwrap_or(after.len());
        return Some(after[..end].trim_end_matches('.')).filter(|answer| !answer.is_empty());
    }
    let end = group_end(after)?;
    Some(&after[1..end - 1])
}

/// Where the group that `text` begins with ends, past its brace. Escaped braces do not count.
fn group_end(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// No answer is longer. Expressions nest, and so do the functions that read them.
const MAX_BYTES: usize = 4000;

/// Whether two expressions are the same answer.
pub fn equivalent(a: &str, b: &str) -> bool {
    if a.len().max(b.len()) > MAX_BYTES {
        return false;
    }
    let (a, b) = (normalised(a), normalised(b));
    !a.is_empty() && equal(&a, &b, 8)
}

/// Compares normalised expressions; `depth` bounds how far they may be nested.
fn equal(a: &str, b: &str, depth: usize) -> bool {
    if a == b {
        return true;
    }
    if let (Some(a), Some(b)) = (value(a), value(b)) {
        return a == b;
    }
    if depth == 0 {
        return false;
    }
    let (a, b) = (Shape::of(a), Shape::of(b));
    if a.rows != b.rows
        || a.open != b.open
        || a.close != b.close
        || a.elements.len() != b.elements.len()
        || a.is_atom()
    {
        return false;
    }
    let ordered = !a.open.is_empty() && a.open != "\\{";
    if ordered {
        return a.elements.iter().zip(&b.elements).all(|(a, b)| equal(a, b, depth - 1));
    }
    let mut left = b.elements;
    a.elements.iter().all(|a| {
        let at = left.iter().position(|b| equal(a, b, depth - 1));
        at.map(|at| left.remove(at)).is_some()
    })
}

/// An expression as a bracketed list of elements.
struct Shape<'a> {
    open: &'a str,
    close: &'a str,
    elements: Vec<&'a str>,
    /// More than one in a matrix only.
    rows: usize,
}

impl<'a> Shape<'a> {
    fn of(text: &'a str) -> Self {
        const BRACKETS: [(&str, &[&str]); 4] = [
            ("\\{", &["\\}"]),
            ("(", &[")", "]"]),
            ("[", &["]", ")"]),
            ("\\begin{pmatrix}", &["\\end{pmatrix}"]),
        ];
        for (open, closes) in BRACKETS {
            let Some(rest) = text.strip_prefix(open) else { continue };
            for close in closes {
                let Some(inner) = rest.strip_suffix(close).filter(|inner| is_balanced(inner)) else {
                    continue;
                };
                let (open, close) = (&text[..open.len()], &text[text.len() - close.len()..]);
                if !open.starts_with("\\begin") {
                    return Self { open, close, elements: split(inner, ","), rows: 1 };
                }
                let rows = split(inner, "\\\\");
                let elements = rows.iter().flat_map(|row| split(row, "&")).collect();
                return Self { open, close, elements, rows: rows.len() };
            }
        }
        Self { open: "", close: "", elements: split(text, ","), rows: 1 }
    }

    /// Not a list at all.
    fn is_atom(&self) -> bool {
        self.open.is_empty() && self.elements.len() == 1
    }
}

/// Whether no bracket closes what was not opened: `(1,2)\cup(3,4)` is not one pair of parentheses.
fn is_balanced(text: &str) -> bool {
    let mut depth = 0i32;
    for c in text.chars() {
        depth += nesting(c);
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}

fn nesting(c: char) -> i32 {
    match c {
        '(' | '[' | '{' => 1,
        ')' | ']' | '}' => -1,
        _ => 0,
    }
}

/// The parts between separators outside of brackets.
fn split<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut parts, mut depth, mut start, mut at) = (Vec::new(), 0, 0, 0);
    while let Some(c) = text[at..].chars().next() {
        if depth == 0 && text[at..].starts_with(separator) {
            parts.push(&text[start..at]);
            at += separator.len();
            start = at;
            continue;
        }
        depth += nesting(c);
        at += c.len_utf8();
    }
    parts.push(&text[start..]);
    parts
}

/// How a plain fraction is written, and how it is normalised.
const SLASH: &str = r"^(-?\d+)/(\d+)$";
const FRACTION: &str = r"\frac{${1}}{${2}}";

/// The number that a normalised expression plainly is.
fn value(text: &str) -> Option<Number> {
    static VALUE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^([-+]?)(?:(\d+(?:\.\d*)?|\.\d+)|(\d*)\\frac\{(-?)(\d+)\}\{(-?)(\d+)\})$").unwrap()
    });
    let text = replace_all(text, &[(SLASH, FRACTION)]);
    let found = VALUE.captures(&text)?;
    let (number, mut negative) = if let Some(decimal) = found.get(2) {
        (Number::decimal(decimal.as_str())?, false)
    } else {
        let (whole, above, below) = (&found[3], &found[5], &found[7]);
        let lowest = Number::fraction(above.parse().ok()?, below.parse().ok()?)?;
        if lowest.to_string() != format!("{above}/{below}") {
            return None;
        }
        let number = if whole.is_empty() { lowest } else { Number::mixed(whole, above, below)? };
        (number, found[4].is_empty() != found[6].is_empty())
    };
    negative ^= &found[1] == "-";
    Some(if negative { number.negated() } else { number })
}

/// An expression in the one way of writing that comparisons know.
fn normalised(text: &str) -> String {
    let text = without_spacing(text.trim());
    let text = without_units(&without_text(&text));
    let text = without_thousands(text.trim());
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let text = with_arguments(&text);
    let text = replace_all(&text, &[(r"(^|[^\d])\.(\d)", "${1}0.${2}"), (r"([_^])\{(\w)\}", "${1}${2}")]);
    let text = without_prefix(&text);
    replace_all(text, &[(SLASH, FRACTION), (r"^\(([A-Z])\)$", "${1}")])
}

/// Replaces by regexes, one after the other.
fn replace_all(text: &str, rules: &[(&'static str, &str)]) -> String {
    rules
        .iter()
        .fold(text.to_owned(), |text, (pattern, by)| regex(pattern).replace_all(&text, *by).into_owned())
}

/// Compiles each pattern of this file once.
fn regex(pattern: &'static str) -> Regex {
    use std::collections::HashMap;
    use std::sync::{Mutex, PoisonError};
    static COMPILED: LazyLock<Mutex<HashMap<&'static str, Regex>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    compiled.entry(pattern).or_insert_with(|| Regex::new(pattern).expect("a pattern of this file")).clone()
}

/// One name for each command, nothing that is only spacing, no `$`, `%` or degrees.
fn without_spacing(text: &str) -> String {
    const SAME: [(&str, &str); 43] = [
        ("\\!", ""),
        ("\\,", " "),
        ("\\;", " "),
        ("\\:", " "),
        ("\\ ", " "),
        ("~", " "),
        ("\\qquad", " "),
        ("\\quad", " "),
        ("\\left", ""),
        ("\\right", ""),
        ("\\bigl", ""),
        ("\\bigr", ""),
        ("\\displaystyle", ""),
        ("\\dfrac", "\\frac"),
        ("\\tfrac", "\\frac"),
        ("\\cfrac", "\\frac"),
        ("{,}", ","),
        ("\\$", ""),
        ("$", ""),
        ("\\%", ""),
        ("%", ""),
        ("^{\\circ}", ""),
        ("^\\circ", ""),
        ("^{\\degree}", ""),
        ("^\\degree", ""),
        ("\\degree", ""),
        ("°", ""),
        ("−", "-"),
        ("\\leq", "\\le"),
        ("\\geq", "\\ge"),
        ("\\neq", "\\ne"),
        ("\\varnothing", "\\emptyset"),
        ("+\\infty", "\\infty"),
        ("\\lbrace", "\\{"),
        ("\\rbrace", "\\}"),
        ("bmatrix}", "pmatrix}"),
        ("\\(", ""),
        ("\\)", ""),
        ("\\[", ""),
        ("\\]", ""),
        ("\\ldots", "..."),
        ("\\dots", "..."),
        ("\\cdots", "..."),
    ];
    // `\\` may end a row of a matrix and be followed by `[` or a space, so it is kept out of the way.
    let text = text.replace("\\\\", "\u{0}");
    let text = replace_all(&text, &[(r"\\left\s*\.|\\right\s*\.", "")]).replace("\\leftarrow", "\u{1}");
    let text = SAME.iter().fold(text, |text, (from, to)| text.replace(from, to));
    let text = replace_all(&text, &[(r"\s*\x00\s*(\\end)", "${1}")]);
    let text = text.replace('\u{0}', "\\\\").replace('\u{1}', "\\leftarrow");
    text.trim().trim_end_matches('.').trim().to_owned()
}

/// `\text{…}` and its like: opened where it is the answer or a part of it, dropped where it is a remark.
fn without_text(text: &str) -> String {
    let command =
        regex(r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf|mathit|operatorname|boxed|overline)\s*\{");
    let mut out = String::new();
    let mut rest = text;
    while let Some(found) = command.find(rest) {
        let Some(end) = group_end(&rest[found.end() - 1..]).map(|end| found.end() - 1 + end) else { break };
        let inner = without_text(&rest[found.end()..end - 1]);
        let before = format!("{out}{}", &rest[..found.start()]);
        let is_remark =
            rest[found.start()..].starts_with("\\text") || rest[found.start()..].starts_with("\\mbox");
        let is_remark = is_remark || rest[found.start()..].starts_with("\\mathrm");
        let follows = before.trim_end().chars().next_back();
        out = before;
        rest = &rest[end..];
        match inner.trim() {
            "and" | "or" | ", and" | ",and" | ", or" => out.push(','),
            // A unit, with its power, or an explanation.
            _ if is_remark && follows.is_some_and(|c| c.is_alphanumeric() || ")}]".contains(c)) => {
                let power = regex(r"^\s*\^\{?\d\}?").find(rest).map_or(0, |power| power.end());
                rest = &rest[power..];
                out.push(' ');
            }
            _ => out += &inner,
        }
    }
    out += rest;
    regex(r",\s*,").replace_all(&out, ",").into_owned()
}

/// Units in plain words after a number.
fn without_units(text: &str) -> String {
    const UNITS: &str = r"(?x)^(.*[\d})])\s*
        (?:\b|\s)(?:(?:square|sq|cubic)\s+)?
        (?:units?|square|ways|integers|dollars?|cents?|mph|inch(?:es)?|in|ft|foot|feet|hours?|hrs?|minutes?|seconds?|
           days?|weeks?|months?|years?|km|cm|mm|m|meters?|metres?|miles?|yards?|kg|gm|grams?|g|pounds?|lbs?|points?|
           digits|degrees?|percent|meals|edges|students|children|tickets|multiples|people|p\.?m\.?|a\.?m\.?)
        (?:\^\{?[23]\}?)?\.?$";
    regex(UNITS).replace(text, "${1}").into_owned()
}

/// 12,345 without its comma: groups of three without a space, and nothing else.
fn without_thousands(text: &str) -> String {
    let is_number = regex(r"^-?\d{1,3}(,\d{3})+(\.\d+)?$").is_match(text);
    if is_number {
        text.replace(',', "")
    } else {
        text.to_owned()
    }
}

/// Braces around the arguments of `\frac` and `\sqrt`.
fn with_arguments(text: &str) -> String {
    let command = regex(r"\\(frac|sqrt)(\[[^\]]*\])?");
    let mut out = String::new();
    let mut rest = text;
    while let Some(found) = command.captures(rest) {
        let all = found.get(0).map_or(0..0, |all| all.range());
        out += &rest[..all.end];
        rest = &rest[all.end..];
        for _ in 0..if &found[1] == "frac" { 2 } else { 1 } {
            let Some(end) = argument_end(rest) else { break };
            let argument = &rest[..end];
            let inner =
                argument.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(argument);
            out += &format!("{{{}}}", with_arguments(inner));
            rest = &rest[end..];
        }
    }
    out + rest
}

/// Where the argument that `text` begins with ends: a group, a command, or one character.
fn argument_end(text: &str) -> Option<usize> {
    match text.chars().next()? {
        '{' => group_end(text),
        '\\' => Some(1 + text[1..].find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len() - 1)),
        '}' | ')' | ',' => None,
        first => Some(first.len_utf8()),
    }
}

/// What follows `x=`, `f(x)=` or `x\in`.
fn without_prefix(text: &str) -> &str {
    let prefix = regex(
        r"^(?:[A-Za-z]|\\[a-z]{2,7})(?:_\w|_\{\w+\})?(?:\([a-z]\)|\([a-z],[a-z]\))?(?:=|\\in(?:[^a-z]))",
    );
    let Some(found) = prefix.find(text) else { return text };
    let is_membership = !found.as_str().ends_with('=');
    // The character behind `\in` is the answer's first.
    let end = if is_membership { found.as_str().rfind("\\in").map_or(0, |at| at + 3) } else { found.end() };
    let rest = &text[end..];
    if rest.is_empty() || rest.contains('=') {
        text
    } else {
        rest
    }
}
