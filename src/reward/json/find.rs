//! Where the JSON stands in an answer: the first object or array, in a code fence or not, with prose around it.
//!
//! Careful readers take neither a citation such as `[1]` in a sentence nor an example in a block of another language for
//! the answer while there is anything better. Nor do they take a part of what is broken: in `{'a': {"b": 1}}`, which is
//! no JSON, the inner object is no answer either. A bare text, number, `true`, `false` or `null` counts only if it is all
//! there is, in the answer or in a fence.

use serde_json::value::RawValue;

use super::value::{why_none, Json};

/// The first value of `answer`.
///
/// # Errors
/// Says why there is none.
pub fn first(answer: &str) -> Result<Json, String> {
    let text = answer.trim_start_matches('\u{feff}').trim();
    if serde_json::from_str::<&RawValue>(text).is_ok() {
        return Json::read(text);
    }
    let mut second_best = None;
    let mut problem = None;
    let mut fence: Option<Fence> = None;
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        let rest = &text[at..];
        if let Some(found) = Fence::at(text, at) {
            at += found.len;
            fence = match fence {
                Some(open) if found.closes(&open) => None,
                // Within a block, only one with a language begins another: of text in Markdown, or after a block that
                // nobody closed.
                Some(open) if !found.is_named => Some(open),
                _ => Some(found),
            };
            if let Some(value) = fence.as_ref().and_then(|fence| fence.scalar(&text[at..])) {
                return Ok(value);
            }
            continue;
        }
        if !matches!(next, '{' | '[') {
            at += next.len_utf8();
            continue;
        }
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        match values.next() {
            Some(Ok(raw)) => {
                let value = Json::read(raw.get())?;
                let end = at + values.byte_offset();
                let is_example = fence.as_ref().is_some_and(|fence| !fence.may_hold_json);
                if !is_example && !is_citation(&value, text, at, end) {
                    return Ok(value);
                }
                second_best.get_or_insert(value);
                at = end;
            }
            Some(Err(error)) => {
                problem.get_or_insert_with(|| why_none(rest, &error));
                if error.is_eof() {
                    return Err(why_none(rest, &error));
                }
                at += match is_meant_as_json(rest) {
                    true => balanced(rest).ok_or_else(|| why_none(rest, &error))?,
                    false => 1,
                };
            }
            None => break,
        }
    }
    second_best.ok_or_else(|| problem.unwrap_or_else(|| String::from("no JSON in the answer")))
}

/// The value that `answer` is, with nothing around it but white space.
///
/// # Errors
/// Says why it is none.
pub fn whole(answer: &str) -> Result<Json, String> {
    Json::read(answer.trim()).map_err(|problem| match first(answer) {
        Ok(_) => String::from("more than JSON in the answer"),
        Err(_) => problem,
    })
}

/// The mark that begins or ends a block of code.
struct Fence {
    mark: char,
    n_marks: usize,
    /// Bytes of the mark and the language, with white space before them.
    len: usize,
    /// Whether a language follows it.
    is_named: bool,
    may_hold_json: bool,
}

impl Fence {
    /// The fence that begins at byte `at` of `text`, if a line does.
    fn at(text: &str, at: usize) -> Option<Self> {
        if at > 0 && !text[..at].ends_with('\n') {
            return None;
        }
        let line = text[at..].trim_start_matches([' ', '\t']);
        let mark = line.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
        let after = line.trim_start_matches(mark);
        let n_marks = line.len() - after.len();
        let name = after.trim_start_matches([' ', '\t']);
        let name_end = name.find(|c: char| c.is_whitespace() || "{[\"`".contains(c)).unwrap_or(name.len());
        let rest = &name[name_end..];
        let name = name[..name_end].to_lowercase();
        let may_hold_json = name.is_empty() || name.starts_with("json");
        let len = text[at..].len() - rest.len();
        (n_marks >= 3).then_some(Self { mark, n_marks, len, is_named: !name.is_empty(), may_hold_json })
    }

    fn closes(&self, open: &Self) -> bool {
        self.mark == open.mark && self.n_marks >= open.n_marks && !self.is_named
    }

    /// The text, number or word that all of the block is which goes on with `rest`.
    fn scalar(&self, rest: &str) -> Option<Json> {
        let block = rest.trim_start();
        if !self.may_hold_json || block.starts_with(['{', '[']) {
            return None;
        }
        let mut values = serde_json::Deserializer::from_str(block).into_iter::<&RawValue>();
        let raw = values.next()?.ok()?;
        let after = block[values.byte_offset()..].trim_start();
        let is_all = after.is_empty() || after.starts_with(&self.mark.to_string().repeat(self.n_marks));
        is_all.then(|| Json::read(raw.get()).ok()).flatten()
    }
}

/// Whether the value from byte `at` to `end` of `text` is a number in brackets amid words, or an empty box.
fn is_citation(value: &Json, text: &str, at: usize, end: usize) -> bool {
    let Json::Array(elements) = value else { return false };
    if !matches!(elements.as_slice(), [] | [Json::Number(_)]) {
        return false;
    }
    /// As far as words around it are looked for.
    const MAX_CHARS: usize = 100;
    let before = text[..at].chars().rev().take(MAX_CHARS).take_while(|&c| c != '\n');
    let mut before = before.skip_while(|c| c.is_whitespace()).peekable();
    let mut after = text[end..].chars().take(MAX_CHARS).take_while(|&c| c != '\n');
    match before.peek() {
        Some(':' | '=' | '`') => false,
        Some('-' | '*') => true,
        _ => before.any(char::is_alphanumeric) || after.any(char::is_alphanumeric),
    }
}

/// Whether what begins with a bracket was meant as a value, as far as one can see, and not as punctuation.
fn is_meant_as_json(text: &str) -> bool {
    let inside = text[1..].trim_start();
    if text.starts_with('[') {
        return inside.starts_with(['"', '\'', '{', '[']);
    }
    let after_word = inside.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
    inside.starts_with(['"', '\'', '“'])
        || after_word.len() < inside.len() && after_word.trim_start().starts_with(':')
}

/// Bytes up to the bracket that closes the first one, if brackets match; those within quotes do not count.
fn balanced(text: &str) -> Option<usize> {
    let mut open = Vec::new();
    let mut quote = None;
    let mut is_escaped = false;
    // Only where a value or a key may begin is ' a quote and no apostrophe.
    let mut may_begin = true;
    for (i, c) in text.char_indices() {
        if let Some(end) = quote {
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                _ if c == end => quote = None,
                _ => {}
            }
            continue;
        }
        match c {
            '"' => quote = Some(c),
            '\'' if may_begin => quote = Some(c),
            '{' => open.push('}'),
            '[' => open.push(']'),
            '}' | ']' => {
                if open.pop() != Some(c) {
                    return None;
                }
                if open.is_empty() {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
        may_begin = matches!(c, '{' | '[' | ',' | ':') || may_begin && c.is_whitespace();
    }
    None
}
