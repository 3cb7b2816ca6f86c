//! Where the answer of a completion stands.
//!
//! In this order: in the last `\boxed{}`, with those before it that only commas, "and" or "or" part from it;
//! in `<answer>` tags; behind the last "answer is", "answer:" or heading "Final Answer", up to the end of the
//! formula or of the sentence. What follows an answer behind a new "Problem:" or "Question:" does not count.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use crate::reward::run_on;

/// The answer of a completion.
pub fn answer(completion: &str) -> Option<&str> {
    answer_of(before_next_question(completion))
}

/// The first part of a completion that gives an answer: what stands behind a new question answers that.
pub(super) fn before_next_question(completion: &str) -> &str {
    run_on::parts(completion).into_iter().find(|part| answer_of(part).is_some()).unwrap_or(completion)
}

fn answer_of(completion: &str) -> Option<&str> {
    let found = last_boxes(completion).or_else(|| tagged(completion)).or_else(|| stated(completion));
    found.map(str::trim).filter(|answer| !answer.is_empty())
}

/// What the last `\boxed{…}` or `\fbox{…}` holds, braces balanced; also `\boxed 5`. An empty one is none.
pub(crate) fn last_boxed(text: &str) -> Option<&str> {
    boxes(text).next()?.map(|found| found.inner)
}

struct Boxed<'a> {
    start: usize,
    end: usize,
    inner: &'a str,
}

/// All boxes that hold something, from the last one; `None` for one that is cut off.
fn boxes(text: &str) -> impl Iterator<Item = Option<Boxed<'_>>> {
    static COMMAND: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\\(?:boxed|fbox)").unwrap());
    let commands: Vec<_> = COMMAND.find_iter(text).map(|command| command.range()).collect();
    let read = |command: Range<usize>| {
        let after = text[command.end..].trim_start();
        let (inner, length) = if after.starts_with('{') {
            let length = group_end(after)?;
            (&after[1..length - 1], length)
        } else {
            let length = after.find(|c: char| c == '$' || c.is_whitespace()).unwrap_or(after.len());
            let inner = after[..length].trim_end_matches('.');
            // "Put it in \boxed format" is no answer.
            let is_prose = inner.chars().take_while(|c| c.is_alphabetic()).count() > 1;
            (if is_prose { "" } else { inner }, length)
        };
        Some(Boxed { start: command.start, end: text.len() - after.len() + length, inner })
    };
    let all = commands.into_iter().rev().map(read);
    all.filter(|found| found.as_ref().is_none_or(|found| !found.inner.trim().is_empty()))
}

/// The last box, or the last ones if they are a list.
fn last_boxes(text: &str) -> Option<&str> {
    static JOINT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"^(?:[\s$&]|\\[,;: ()\[\]]|\\q?quad|,|;|\band\b|\bor\b|\\text\{[\s,]*(?:and|or)?[\s,]*\})*$",
        )
        .unwrap()
    });
    static JOINS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[,;]|\band\b|\bor\b").unwrap());
    let mut boxes = boxes(text);
    let last = boxes.next()??;
    let mut start = last.start;
    let mut is_list = false;
    while let Some(Some(before)) = boxes.next() {
        let joint =
            text.get(before.end..start).filter(|joint| JOINT.is_match(joint) && JOINS.is_match(joint));
        if joint.is_none() {
            break;
        }
        start = before.start;
        // The same answer several times is one.
        is_list |= before.inner.trim() != last.inner.trim();
    }
    Some(if is_list { &text[start..last.end] } else { last.inner })
}

/// Where the group that `text` begins with ends, past its brace. Escaped braces do not count.
pub(super) fn group_end(text: &str) -> Option<usize> {
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
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// What stands between the last `<answer>` and `</answer>`.
fn tagged(text: &str) -> Option<&str> {
    let (before, _) = text.rsplit_once("</answer>")?;
    before.rsplit_once("<answer>").map(|(_, inner)| inner)
}

/// What the last statement of an answer states.
fn stated(text: &str) -> Option<&str> {
    static MARKER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?imx) (?:\b|_) answers?\b [\s*_]* (?:\( [^()\n]{0,40} \))? [\s*_]*
              (?: (?:is|are|equals|would\ be|must\ be) \b [\s*_]* :? | : | = )
            | ^ [\#*_>\ \t]* (?:final\ )? answers? [*_:\ ]* \n ",
        )
        .unwrap()
    });
    // "I hope this answer is correct" states nothing.
    static REMARK: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)^(?:in)?(?:correct|right|wrong|not|consistent|valid|verified|confirmed|reasonable|indeed correct)\b").unwrap()
    });
    let markers: Vec<_> = MARKER.find_iter(text).collect();
    let after = markers.iter().rev().map(|marker| {
        text[marker.end()..].trim_start_matches(|c: char| c.is_whitespace() || "*_:`>#".contains(c))
    });
    let stated = after.filter(|after| !REMARK.is_match(after)).map(phrase);
    stated.map(|phrase| phrase.trim_end_matches(['*', '`', ' ', '.', ','])).find(|phrase| !phrase.is_empty())
}

/// The answer that `text` begins with.
fn phrase(text: &str) -> &str {
    static LEAD: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?i)^(?:(?:therefore|thus|simply|just|exactly|equal to|given by|that|as follows)\b[\s:,*]*)+",
        )
        .unwrap()
    });
    // The end of a sentence, the reason after an answer, the end of emphasis.
    static END: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)\n|\*\*|`|[.!?](?:\s|$)|,?\s(?:because|since|which|where|as|when|for|so)\s|\s\((?:\d+\s)?[a-z]{2,}").unwrap()
    });
    // "The area is", "There are": what follows is the answer.
    static SENTENCE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?i)^(?:the|there|it|this|that|we|our|his|her|their|they)\b[^$\\]*\b(?:is|are|equals|equal to|has|have|get)\s+").unwrap()
    });
    static PROSE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?:^|[^\\A-Za-z])[A-Za-z]{3,}").unwrap());
    let text = &text[LEAD.find(text).map_or(0, |lead| lead.end())..];
    if let Some(end) = formulas_end(text) {
        return &text[..end];
    }
    // Half of the day ends with a point, as a sentence does.
    static HALF: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?i)^[^\n.]{0,20}[ap]\.\s?m\.").unwrap());
    if let Some(half) = HALF.find(text) {
        return half.as_str();
    }
    let plain = &text[..END.find(text).map_or(text.len(), |end| end.start())];
    if let Some(stated) = SENTENCE.find(plain) {
        return phrase(&text[stated.end()..]);
    }
    // "the value $5$" and not "x = $5$"
    let formula = plain
        .find(['$', '\\'])
        .filter(|&at| PROSE.is_match(&plain[..at]) && formulas_end(&text[at..]).is_some());
    match formula {
        Some(at) => &text[at..at + formulas_end(&text[at..]).unwrap_or(0)],
        None => plain,
    }
}

/// Where the formula that `text` begins with ends, with those that it is a list with.
fn formulas_end(text: &str) -> Option<usize> {
    static JOINT: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^\s*(?:,|;)?\s*(?:and\b|or\b)?\s*").unwrap());
    let mut end = formula_end(text)?;
    loop {
        let rest = &text[end..];
        let joint = JOINT.find(rest).map_or("", |joint| joint.as_str());
        let Some(more) = formula_end(&rest[joint.len()..]).filter(|_| !joint.trim().is_empty()) else {
            return Some(end);
        };
        end += joint.len() + more;
    }
}

/// Where the formula that `text` begins with ends, past its `$` or its like.
fn formula_end(text: &str) -> Option<usize> {
    for (open, close) in [("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)")] {
        if let Some(inner) = text.strip_prefix(open) {
            return inner.find(close).map(|end| open.len() + end + close.len());
        }
    }
    // A price begins with `$`, too: what closes stands directly behind something, and before no digit.
    let inner = text.strip_prefix('$')?;
    let line = inner.lines().next()?;
    let closes = |at: &usize| {
        let (before, after) = (&line[..*at], &line[*at + 1..]);
        !before.is_empty()
            && !before.ends_with([' ', '\\'])
            && !after.starts_with(|c: char| c.is_ascii_digit())
    };
    line.match_indices('$').map(|(at, _)| at).find(closes).map(|at| 1 + at + 1)
}
