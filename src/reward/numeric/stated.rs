//! The one number that a phrase states as its answer, or that it states none.

use std::sync::LazyLock;

use regex::Regex;

use super::written::{numbers, Written};
use super::{words, Number};
use crate::reward::statement::first_sentence;

/// What a phrase states.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Stated {
    /// A number; `leads` if the phrase begins with it, or gives it as the result of an equation.
    Number { number: Number, other: Option<Number>, leads: bool },
    /// Something with numbers in it that is no single number: an expression, or several.
    Expression { text: String, leads: bool },
    /// No number.
    Nothing,
}

impl Stated {
    /// Whether the phrase begins with what it states. "The answer is rounded to 2 digits" does not.
    pub fn leads(&self) -> bool {
        matches!(self, Self::Number { leads: true, .. } | Self::Expression { leads: true, .. })
    }

    fn of(written: &Written, leads: bool) -> Self {
        Self::Number { number: written.number, other: written.other, leads }
    }
}

/// What follows "the answer is".
pub(super) fn in_prose(phrase: &str) -> Stated {
    static CLAUSE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)(?:,\s+(?:[a-z]|\\)|;|\b(?:where|because|since|when|if|as|so|for|per)\b|\s\()")
            .unwrap()
    });
    static NEGATED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?i)^\W*(?:not|n't|neither|never|no longer)\b").unwrap());
    if NEGATED.is_match(phrase) {
        return Stated::Nothing;
    }
    let phrase = without_asides(&without_emphasis(phrase)).into_owned();
    let sentence = without_markup(first_sentence(&phrase));
    // "18, since 9 * 2 = 18": the clause behind the number explains it.
    let first = numbers(&sentence).next().map_or(sentence.len(), |first| first.end);
    let clause = CLAUSE.find_at(&sentence, first).map_or(sentence.len(), |clause| clause.start());
    match equation(&sentence[..clause], false) {
        number @ Stated::Number { .. } => number,
        other => match equation(&sentence, false) {
            number @ Stated::Number { .. } if clause < sentence.len() => number,
            _ => other,
        },
    }
}

/// What a box holds: the number has to be the whole of it, but for units and for what it is called.
pub(super) fn in_box(boxed: &str) -> Stated {
    equation(&without_markup(boxed), true)
}

/// Without parentheses that hold an equation, such as "(9 eggs = $2 each)".
pub(super) fn without_asides(text: &str) -> std::borrow::Cow<'_, str> {
    static ASIDE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\([^()\n]{0,200}=[^()\n]{0,200}\)").unwrap());
    ASIDE.replace_all(text, "")
}

/// Without the asterisks that set off, as opposed to those that multiply, which stand between two alike.
fn without_emphasis(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['*', '`']) {
        let (before, from) = rest.split_at(at);
        let behind = from.trim_start_matches(['*', '`']);
        plain += before;
        let is_operand = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit() || "()$".contains(c));
        let is_space = |c: Option<char>| c == Some(' ');
        let (left, right) = (plain.chars().next_back(), behind.chars().next());
        if from.starts_with('*')
            && (is_operand(left) && is_operand(right) || is_space(left) && is_space(right))
        {
            plain += &from[..from.len() - behind.len()];
        }
        rest = behind;
    }
    plain + rest
}

/// Without what LaTeX and Markdown add to a number and its unit.
fn without_markup(text: &str) -> String {
    static TEXT: LazyLock<Regex> = LazyLock::new(|| {
        let styles = "text|textbf|textrm|textit|mbox|mathbf|mathit|boldsymbol|bf|rm";
        Regex::new(&format!(r"\\(?:{styles})\s*\{{([^{{}}]*)\}}|\\mathrm\s*\{{([^{{}}]{{2,}})\}}")).unwrap()
    });
    static SPACING: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\\(?:left|right|displaystyle|quad|qquad|big|Big|,|;|!|:|\s)|\\[()\[\]]|~|__").unwrap()
    });
    let text = TEXT.replace_all(text, " $1$2");
    SPACING.replace_all(&text, " ").into_owned()
}

/// The result of an equation: its last side, or else its first one ("5 = 2 + 3").
fn equation(text: &str, is_math: bool) -> Stated {
    static EQUALS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?ix) [=≈→⇒] | \\approx | \\equiv | \\Rightarrow | \bequals\b
            | ,?\s\bwhich\ (?:is|equals)\b | \bi\.e\.",
        )
        .unwrap()
    });
    let sides: Vec<&str> = EQUALS.split(text).filter(|side| !side.trim().is_empty()).collect();
    let Some((last, before)) = sides.split_last() else { return Stated::Nothing };
    let result = single(last, is_math);
    match (result, before.first()) {
        (Stated::Number { number, other, .. }, Some(_)) => Stated::Number { number, other, leads: true },
        (expression @ Stated::Expression { .. }, Some(first)) => match single(first, is_math) {
            number @ Stated::Number { .. } => number,
            _ => expression,
        },
        (Stated::Nothing, Some(first)) => single(first, is_math),
        (result, None) => result,
    }
}

/// The number that a phrase without equations is.
fn single(phrase: &str, is_math: bool) -> Stated {
    static FILLER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r#"(?ix)^(?: [\s"'*_:$(\[{+-]
            | \b(?:about|approximately|approx\.?|around|roughly|exactly|just|only|a|an|the|total|of|is|simply
            |therefore|thus|indeed|at|least|most|up|to|equal|option|number|value|be|now|also|still|clearly
            |probably|likely|sum|negative|minus|we|have|get|that|there|are)\b )*$"#,
        )
        .unwrap()
    });
    static MINUS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?i)(?:^\s*-|\b(?:minus|negative))\s*\$?\s*$").unwrap());
    // "70 000" and "1,5" are numbers where nothing else can be meant.
    static SPACED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(^|[^\d.,])(\d{1,3})((?: \d{3})+)\b").unwrap());
    // "50% of 36" is a product.
    static SHARE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\s+of\s+\W?\d").unwrap());
    static COMMA: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(^|[^\d.,])(\d+),(\d{1,2}|\d{4,})($|[^\d.,]|[.,](?:\s|$))").unwrap());
    let phrase = SPACED.replace(phrase, |found: &regex::Captures| {
        format!("{}{}{}", &found[1], &found[2], found[3].replace(' ', ""))
    });
    let phrase = COMMA.replace(&phrase, "${1}${2}.${3}${4}");
    let Some(written) = numbers(&phrase).next() else {
        if phrase.contains(|c: char| c.is_ascii_digit()) {
            return Stated::Expression { text: phrase.trim().to_owned(), leads: true };
        }
        return match words::leading(&phrase) {
            Some((number, other)) => Stated::Number { number, other, leads: true },
            None => Stated::Nothing,
        };
    };
    let (before, after) = (&phrase[..written.start], &phrase[written.end..]);
    let is_share = phrase[..written.end].ends_with('%') && SHARE.is_match(after);
    if is_share || written.is_division || !is_harmless(before, is_math) || goes_on(after, is_math) {
        return Stated::Expression { text: phrase.trim().to_owned(), leads: FILLER.is_match(before) };
    }
    let written = if MINUS.is_match(before) { written.negated() } else { written };
    Stated::of(&written, FILLER.is_match(before))
}

/// Whether what stands in front of a number leaves it alone: words do, operators and functions do not.
fn is_harmless(before: &str, is_math: bool) -> bool {
    static OPERATOR: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[√^π∑∏|]|[^\s(]\s*[+×·÷/]\s*[($\s]*$|\d\s*[*-]\s*$").unwrap());
    let compares = is_math && before.contains(['<', '>', '≤', '≥']);
    !OPERATOR.is_match(before) && !compares && commands_are_harmless(before)
}

fn commands_are_harmless(text: &str) -> bool {
    static COMMAND: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\\([a-zA-Z]+)(?:\s*\{([^{}]*)\})?").unwrap());
    const HARMLESS: [&str; 10] =
        ["circ", "degree", "euro", "pounds", "fbox", "boxed", "text", "textbf", "hspace", "textdegree"];
    COMMAND.captures_iter(text).all(|found| {
        HARMLESS.contains(&&found[1])
            || &found[1] == "mathrm" && found.get(2).is_some_and(|unit| is_unit(unit.as_str()))
    })
}

/// Whether an expression goes on behind a number, or a list.
fn goes_on(after: &str, is_math: bool) -> bool {
    static GOES_ON: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?x)^\s*(?:
            [+×·÷^√π±] | \*{1,2}
            | \\(?:times|cdot|div|pm|sqrt|pi|frac|dfrac|tfrac|binom|log|ln|sin|cos|tan|infty)\b
            | [-/]\s*[($\\]*\d | [xX]\s?\d
            | ,?\s*\b(?:or|and|to|/)\b\s*[-$(]*\d | ,\s*[-$(]*\d[\d,.]*\s*(?:[.,;)\]]|$|\b(?:and|or)\b) )",
        )
        .unwrap()
    });
    // Degrees, and units in a fraction: no part of the number.
    static PER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?x)^\s*(?: \^\s*\{?\s*(?:\\circ|o\b|∘|\\degree)
            | \\[dt]?frac\s*\{\s*\pL{1,4}\s*\}\s*\{\s*\pL{1,4}(?:\^\d)?\s*\} )",
        )
        .unwrap()
    });
    static MATH: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^\s*(?:([A-Za-z]+)|[!<>≤≥]|;\s*[-$(]*\d)").unwrap());
    if PER.is_match(after) {
        return false;
    }
    if GOES_ON.is_match(after) || !commands_are_harmless(first_command(after)) {
        return true;
    }
    is_math
        && MATH.captures(after).is_some_and(|found| match found.get(1) {
            Some(word) => !is_unit(word.as_str()),
            None => true,
        })
}

/// The command that a text begins with.
fn first_command(text: &str) -> &str {
    let text = text.trim_start();
    if text.starts_with('\\') {
        text
    } else {
        ""
    }
}

/// Whether letters behind a number can be its unit. Single ones are variables, but for those of common units.
fn is_unit(word: &str) -> bool {
    let mut letters = word.trim().chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => "mgshlLJWVNKCFpc€".contains(letter),
        (first, _) => first.is_some(),
    }
}
