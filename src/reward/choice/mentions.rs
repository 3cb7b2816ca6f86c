//! Labels of options in a text, told apart from letters and numbers that are none: articles and pronouns ("A
//! magnet", "I think"), units, apostrophes, hyphens; and whether the text speaks for an option or against it.

use std::sync::LazyLock;

use regex::Regex;

use super::Labels;

/// A label in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mention {
    /// Of the option, from 0; it may be beyond the last one.
    pub index: usize,
    /// Bytes of the text, with the marks around the label.
    pub start: usize,
    pub end: usize,
    /// In brackets, quotes, emphasis or math: `(b)`, `b)`, `**b**`, `$b$`.
    pub is_marked: bool,
    /// A small letter or a number that stands alone. It is a label only where one is expected.
    pub is_weak: bool,
    /// The text speaks against it: "not A", "A and B are wrong".
    pub is_rejected: bool,
}

/// Whether a text between two labels joins them: "A or B", "A, B", "(A) and (B)".
pub(super) fn joins(between: &str) -> bool {
    static JOINS: LazyLock<Regex> = LazyLock::new(|| {
        let between = "maybe|possibly|perhaps|even|also|option|choice|answer";
        let pattern = format!(r"(?i)^[.\s]*(?:,|/|&|;|,?\s*\b(?:or|and|nor)\b)\s*(?:(?:{between})\s+)*$");
        Regex::new(&pattern).unwrap()
    });
    JOINS.is_match(between)
}

/// All labels of a text, in order.
pub(super) fn mentions(text: &str, labels: Labels) -> Vec<Mention> {
    static LETTER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[A-Za-z]+").unwrap());
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\d+").unwrap());
    static PLURAL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)^\s*(?:are|were|aren['’]t|weren['’]t|both|all|do|don['’]t|have)\b").unwrap()
    });
    let pattern = match labels {
        Labels::Letters => &LETTER,
        Labels::Numbers => &NUMBER,
    };
    let mut mentions: Vec<Mention> = pattern
        .find_iter(text)
        .filter_map(|found| mention(text, found.start(), found.end(), labels))
        .collect();
    for at in 1..mentions.len() {
        // Marks between two labels belong to the first.
        mentions[at].start = mentions[at].start.max(mentions[at - 1].end);
    }
    for mention in &mut mentions {
        mention.is_rejected = is_rejected(&text[..mention.start], &text[mention.end..]);
    }
    // "Not A or B" rejects both, and so does "A, B and C are wrong"; "B, C is wrong" rejects one.
    let joined = |a: &Mention, b: &Mention| {
        joins(&text[a.end..b.start]).then(|| text[a.end..b.start].contains(char::is_alphabetic))
    };
    for at in 1..mentions.len() {
        if joined(&mentions[at - 1], &mentions[at]) == Some(true) {
            mentions[at].is_rejected |= mentions[at - 1].is_rejected;
        }
    }
    let mut speaks_of_several = false;
    for at in (1..mentions.len()).rev() {
        speaks_of_several |= PLURAL.is_match(&text[mentions[at].end..]);
        match joined(&mentions[at - 1], &mentions[at]) {
            Some(by_word) if by_word || speaks_of_several => {
                mentions[at - 1].is_rejected |= mentions[at].is_rejected;
                speaks_of_several = true;
            }
            _ => speaks_of_several = false,
        }
    }
    mentions
}

fn mention(text: &str, start: usize, end: usize, labels: Labels) -> Option<Mention> {
    /// What may follow a capital A or I that is a label.
    static VERB: LazyLock<Regex> = LazyLock::new(|| {
        let words = "is|was|are|because|since|or|and|as|but|which|would|seems|looks|must";
        Regex::new(&format!(r"^\s+(?:[^\pL\s]|[A-Z]\b|(?:{words})\b)")).unwrap()
    });
    let (word, before, after) = (&text[start..end], &text[..start], &text[end..]);
    let (previous, next) = (before.chars().next_back(), after.chars().next());
    let index = match labels {
        Labels::Numbers => word.parse::<usize>().ok().filter(|_| word.len() <= 2)?.checked_sub(1)?,
        Labels::Letters => {
            let mut letters = word.chars();
            let letter =
                letters.next().filter(|letter| letter.is_ascii_alphabetic() && letters.next().is_none())?;
            usize::from(letter.to_ascii_uppercase() as u8 - b'A')
        }
    };
    let is_spaced = |c: char| c.is_alphanumeric() && !is_unspaced(c);
    let joins_word = |c: char| is_spaced(c) || "-'’\\_^+=%°".contains(c);
    let second = after.chars().nth(1);
    let in_word = |c: Option<char>, beyond: Option<char>| {
        c.is_some_and(joins_word) && !(c == Some('\'') && beyond.is_none_or(|c| !c.is_alphanumeric()))
            || c.is_some_and(|c| ".,:".contains(c)) && beyond.is_some_and(is_spaced)
    };
    let emphasis = |c: Option<char>| c == Some('_');
    let but_one = before.chars().rev().nth(1);
    let begins_word = !emphasis(previous)
        && (previous.is_some_and(|c| joins_word(c) && !"'’-=+".contains(c))
            || previous.is_some_and(|c| "'’-.=+".contains(c)) && but_one.is_some_and(is_spaced));
    if begins_word || in_word(next, second) && !emphasis(next) {
        return None;
    }
    // A unit behind a number: "25 C".
    let is_unit = previous == Some(' ') && but_one.is_some_and(|c| c.is_ascii_digit());
    // A variable in math: "f(x)", "a = b".
    let is_argument = previous == Some('(') && but_one.is_some_and(is_spaced);
    if is_unit || is_argument {
        return None;
    }
    const OPENING: &str = "([{<\"“*_$`'";
    const CLOSING: &str = ")]}>\"”*_$`'";
    let opened = before.len() - before.trim_end_matches(|c| OPENING.contains(c)).len();
    let closed = after.len() - after.trim_start_matches(|c| CLOSING.contains(c)).len();
    let is_marked = closed > 0 && (opened > 0 || next == Some(')'));
    let is_word = ["A", "I"].contains(&word)
        && labels == Labels::Letters
        && closed == 0
        && after.starts_with(char::is_whitespace)
        && !after.trim_start().is_empty()
        && !after.starts_with(['\n', '\r'])
        && (!VERB.is_match(after) || word == "I" && !after.trim_start().starts_with("is "));
    let is_small = word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    (!is_word || is_marked).then_some(Mention {
        index,
        start: start - opened,
        end: end + closed,
        is_marked,
        is_weak: is_small && !is_marked,
        is_rejected: false,
    })
}

/// Of a script that puts no space between words.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}')
}

/// Whether the words around a label reject it.
fn is_rejected(before: &str, after: &str) -> bool {
    static AHEAD: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?ix)(?:\b(?:not|never|neither|cannot\ be|rul(?:e|es|ed|ing)\ out|eliminat\w+|exclud\w+|except
            |rather\ than|instead\ of|unlike|reject\w*|discard\w*|dismiss\w*)|n['’]t(?:\ be)?)
            \s+(?:(?:either|both|simply|just|option|options|choice|answer|answers)\s+)*$",
        )
        .unwrap()
    });
    static BEHIND: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?ix)^[.:]?\s*(?:[-–—]\s*)?
            (?:(?:is|are|was|were|does|do|can|could|would|will|has|seems?|looks?|must\ be)\s*)?
            (?:(?:also|both|all|clearly|definitely|simply|just|therefore|thus|probably|likely|obviously|too
            |even)\s+)*
            (?:not\b|n['’]t|incorrect|wrong|false\b|untrue|ruled\ out|eliminated|excluded|impossible|out\b
            |cannot\b|(?:ca|is|are|does|do|wo)n['’]t|invalid|irrelevant|unlikely|never)",
        )
        .unwrap()
    });
    // Long contexts make no difference, and would cost time at every label of a long text.
    const CONTEXT: usize = 80;
    let from = (before.len().saturating_sub(CONTEXT)..=before.len()).find(|&at| before.is_char_boundary(at));
    let to = (0..=CONTEXT.min(after.len())).rev().find(|&at| after.is_char_boundary(at));
    AHEAD.is_match(&before[from.unwrap_or(0)..]) || BEHIND.is_match(&after[..to.unwrap_or(0)])
}
