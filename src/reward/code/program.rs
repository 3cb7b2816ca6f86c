//! The program of an answer: which of its blocks run, and how they go on from what the task begins.
//!
//! What the tests use and the answer defines decides. For each such name the last block that defines it runs,
//! together with the blocks that define what those use (imports, helpers), in the order of the answer.
//! Demonstrations, drafts and printed results stay out. Where no block defines anything that the tests use,
//! the last block counts; where there is no block, the text counts without the prose around its code.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use super::blocks::{blocks, Block};
use super::python::{self, Names};

/// The program that an answer makes, to be run before `tests`. `continues` is the beginning of a program that
/// the answer goes on from; an answer may repeat it.
pub fn program(answer: &str, continues: Option<&str>, tests: &str) -> String {
    let blocks: Vec<Block> =
        blocks(answer).into_iter().filter(|block| !block.text.trim().is_empty()).collect();
    let tests = Names::of(tests);
    let Some(head) = continues else {
        return match chosen(&blocks, &tests, |_| false) {
            Some(code) => dedented(&code).into_owned(),
            None => dedented(python::without_prose(answer)).into_owned(),
        };
    };
    let is_fenced = !blocks.is_empty();
    let code = chosen(&blocks, &tests, is_body).unwrap_or_else(|| python::without_prose(answer).to_owned());
    let defines = Names::of(&dedented(&code)).functions.iter().any(|name| tests.free.contains(name));
    let whole = dedented(&code);
    if defines && !is_body(&whole) {
        return format!("{}{whole}", closed(head));
    }
    continued(head, &code, is_fenced)
}

/// The code of an answer whose tests are unknown: what its last fenced block holds, or what a lone closing
/// fence ends, or all of it.
pub fn without_fences(answer: &str) -> String {
    blocks(answer).pop().map_or_else(|| answer.to_owned(), |block| block.text)
}

/// The code that runs of an answer in blocks. Where none defines what the tests use, the last that `fits`
/// counts, or else the last that may be Python.
fn chosen(blocks: &[Block], tests: &Names, fits: impl Fn(&str) -> bool) -> Option<String> {
    let names: Vec<Names> = blocks.iter().map(|block| Names::of(&dedented(&block.text))).collect();
    let mut definers: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, names) in names.iter().enumerate() {
        for name in names.functions.iter().chain(&names.variables) {
            definers.entry(name).or_default().push(at);
        }
    }
    let is_wanted = |names: &Names, name: &str| {
        tests.free.contains(name) && (names.functions.contains(name) || tests.called.contains(name))
    };
    let wanted = tests.free.iter().filter_map(|name| {
        let definers = definers.get(name.as_str())?;
        definers.iter().rev().copied().find(|&at| is_wanted(&names[at], name))
    });
    let mut taken: BTreeSet<usize> = wanted.collect();
    if taken.is_empty() {
        let last = |passes: &dyn Fn(&Block) -> bool| blocks.iter().rev().find(|block| passes(block));
        let block = last(&|block| fits(&block.text)).or_else(|| last(&Block::may_be_python));
        return block.or(blocks.last()).map(|block| block.text.clone());
    }
    let mut left: Vec<usize> = taken.iter().copied().collect();
    while let Some(user) = left.pop() {
        for name in names[user].free.iter().filter(|name| !python::is_builtin(name)) {
            let Some(definers) = definers.get(name.as_str()) else { continue };
            if definers.iter().any(|at| taken.contains(at)) {
                continue;
            }
            // The nearest one in front, or else the first behind.
            let nearest = definers[..definers.partition_point(|&at| at < user)].last();
            let helper = *nearest.unwrap_or(&definers[0]);
            taken.insert(helper);
            left.push(helper);
        }
    }
    // What a module's star brings is unknown, and does no harm.
    let last = taken.last().copied().unwrap_or(0);
    taken.extend((0..last).filter(|&at| names[at].imports_all && names[at].functions.is_empty()));
    let parts: Vec<_> = taken.into_iter().map(|at| dedented(&blocks[at].text)).collect();
    Some(parts.join("\n"))
}

/// Without the space that all lines have in front.
fn dedented(code: &str) -> Cow<'_, str> {
    let lines = || code.lines().filter(|line| !line.trim().is_empty());
    let space = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let shared = lines().map(space).min().unwrap_or(0);
    if shared == 0 {
        return Cow::Borrowed(code);
    }
    let line = |line: &str| line.get(shared..).unwrap_or("\n").to_owned();
    Cow::Owned(code.split_inclusive('\n').map(line).collect())
}

/// Whether code can only stand inside a function.
fn is_body(code: &str) -> bool {
    let lines = python::lines(code);
    let mut lines = lines.iter().filter(|line| !line.is_blank()).peekable();
    let is_indented = lines.peek().is_some_and(|line| line.indent > 0);
    is_indented
        || lines.any(|line| {
            let word = line.code.split(|c: char| !c.is_alphanumeric()).next();
            line.indent == 0 && word.is_some_and(|word| ["return", "yield"].contains(&word))
        })
}

/// How far the body of the function is indented that a text breaks off in; `None` outside of functions.
fn body_indent(head: &str) -> Option<usize> {
    let lines = python::lines(head);
    let lines: Vec<_> = lines.iter().filter(|line| !line.is_blank()).collect();
    let last = lines.last()?;
    let opener = lines.iter().rposition(|line| line.code.ends_with(':') && line.indent < last.indent);
    match opener {
        _ if last.code.ends_with(':') => Some(last.indent + 4),
        Some(_) => Some(last.indent),
        None => None,
    }
}

/// What the task begins, ended so that a program can follow: its imports and helpers stay, and the function
/// that it breaks off in does nothing.
fn closed(head: &str) -> String {
    let end = if head.ends_with('\n') { "" } else { "\n" };
    match body_indent(head) {
        Some(indent) => format!("{}\n{}pass\n\n", head.trim_end(), " ".repeat(indent)),
        None => format!("{head}{end}"),
    }
}

/// What the task begins, and a body that goes on from it.
fn continued(head: &str, body: &str, is_fenced: bool) -> String {
    let line_start = head.rfind('\n').map_or(0, |at| at + 1);
    let (above, begun) = head.split_at(line_start);
    if !begun.trim().is_empty() {
        let end = if is_fenced && !body.starts_with('\n') { "\n" } else { "" };
        return format!("{head}{end}{body}");
    }
    let body = format!("{begun}{body}");
    match body_indent(head) {
        Some(indent) => format!("{above}{}", indented(&body, indent)),
        None => format!("{above}{body}"),
    }
}

/// The body, indented as its function wants it. Sampling often eats the space of its first line, chat models
/// begin bodies at the margin, and a tokenizer may add one space; the lines after the first tell these apart.
fn indented(body: &str, indent: usize) -> String {
    let lines = python::lines(body);
    let mut code = lines.iter().filter(|line| !line.is_blank());
    let Some(first) = code.next() else { return body.to_owned() };
    if first.indent == indent {
        return body.to_owned();
    }
    let next = code.next().map(|line| line.indent);
    let opens = first.code.ends_with(':');
    let only_first = match next {
        None => true,
        Some(next) if opens => next <= first.indent || next > indent && first.indent < indent,
        Some(next) => next != first.indent && next != 0,
    };
    let mut shifted = String::from(&body[..first.start]);
    let mut is_inside = true;
    for line in lines.iter().filter(|line| line.start >= first.start) {
        let text = &body[line.start..line.end];
        is_inside &= line.is_blank() || line.indent >= first.indent;
        if line.start == first.start || is_inside && !only_first && !line.is_blank() {
            shifted += &" ".repeat((line.indent + indent).saturating_sub(first.indent));
            shifted += &text[line.indent..];
        } else {
            shifted += text;
        }
    }
    shifted
}
