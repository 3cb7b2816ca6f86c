//! Fenced blocks of an answer, as models write them.
//!
//! More is a fence here than in CommonMark: one behind prose on its line (`The code: ```python`), one in
//! front of code or behind it, a closing one alone (the prompt had opened it), and a fence with a language
//! inside an unclosed block. Less is one, too: a fence inside a string that spans lines belongs to the code,
//! if that string ends.

use std::sync::LazyLock;

use regex::Regex;

use super::python::{self, Scanner};

/// What a fence holds.
pub(super) struct Block {
    pub text: String,
    /// The first word behind the opening fence, in lower case.
    tag: String,
}

impl Block {
    /// Says that it is Python, or nothing else.
    pub fn may_be_python(&self) -> bool {
        self.tag.is_empty() || self.tag.starts_with("py")
    }
}

/// All blocks of an answer, in order; an unclosed one goes to the end.
pub(super) fn blocks(answer: &str) -> Vec<Block> {
    /// Documents in documents: more is no answer.
    const MAX_DEPTH: usize = 3;
    nested(answer, MAX_DEPTH)
}

/// Blocks that hold Markdown are replaced by the blocks in them.
fn nested(text: &str, depth: usize) -> Vec<Block> {
    let (mut blocks, unended) = read(text, text.len());
    if let Some(unended) = unended {
        blocks = read(text, unended).0;
    }
    let is_document = |block: &Block| ["md", "markdown"].contains(&block.tag.as_str());
    if depth == 0 || !blocks.iter().any(is_document) {
        return blocks;
    }
    let inner = |block: Block| {
        let inner = if is_document(&block) { nested(&block.text, depth - 1) } else { Vec::new() };
        if inner.is_empty() {
            vec![block]
        } else {
            inner
        }
    };
    blocks.into_iter().flat_map(inner).collect()
}

/// A block that is being read.
struct Open {
    fence: String,
    indent: usize,
    block: Block,
    scanner: Scanner,
}

/// The blocks, and where the piece of text began in which a string never ended. Up to `heeded`, fences in
/// strings are told apart.
fn read(text: &str, heeded: usize) -> (Vec<Block>, Option<usize>) {
    static OPENING: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^(.*?)(`{3,}|~{3,})[ \t]*(.*?)\s*$").unwrap());
    // Code on the line of its fence.
    static INLINE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^(?:py(?:thon)?3?[ \t]+)?(\S.*?)`{3,}[^`]*$").unwrap());
    static LANGUAGE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^(?:\w[\w+#.-]*(?:[ \t]+.*)?|\{.*)$").unwrap());
    let (mut blocks, mut open): (Vec<Block>, Option<Open>) = (Vec::new(), None);
    let mut outside = Scanner::default();
    let mut seen_fence = false;
    // Of this line, and of the block or of the text between blocks.
    let (mut start, mut piece) = (0, 0);
    for line in text.split_inclusive('\n') {
        let here = start;
        start += line.len();
        let scanner = open.as_mut().map_or(&mut outside, |open| &mut open.scanner);
        let heeds = piece < heeded;
        let was_in_string = heeds && scanner.in_string();
        let code = scanner.line(line);
        if !line.contains("```") && !line.contains("~~~") || was_in_string && scanner.in_string() {
            if let Some(open) = &mut open {
                open.block.text += without_indent(line, open.indent);
            }
            continue;
        }
        let Some(found) = OPENING.captures(line) else { continue };
        let (before, fence, info) = (&found[1], &found[2], &found[3]);
        if let Some(current) = &mut open {
            let closes = fence.starts_with(&current.fence);
            if before.trim().is_empty() && closes && (info.is_empty() || LANGUAGE.is_match(info)) {
                piece = start;
                blocks.extend(open.take().map(|open| open.block));
                if !info.is_empty() {
                    open = Some(opened(fence, before, info));
                }
            } else if closes && info.is_empty() && (!heeds || code.trim_end().ends_with(fence)) {
                current.block.text += without_indent(before, current.indent);
                piece = start;
                blocks.extend(open.take().map(|open| open.block));
            } else {
                current.block.text += without_indent(line, current.indent);
            }
            continue;
        }
        if fence.starts_with('~') && !before.trim().is_empty() {
            continue;
        }
        outside = Scanner::default();
        let first = !std::mem::replace(&mut seen_fence, true);
        piece = start;
        let (ahead, behind) = (&text[..here + before.len()], &text[start..]);
        if first && info.is_empty() && !ahead.trim().is_empty() {
            // It may close what the prompt opened.
            if behind.trim().is_empty() || python::is_code(ahead) {
                blocks.push(Block { text: ahead.to_owned(), tag: String::new() });
                continue;
            }
        }
        if let Some(inline) = INLINE.captures(info) {
            blocks.push(Block { text: inline[1].trim_end().to_owned(), tag: String::new() });
        } else {
            // Code may begin behind the fence; a language never has a bracket or a space in it.
            let is_code = !info.is_empty() && !LANGUAGE.is_match(info) || begins_code(info);
            let mut new = opened(fence, before, if is_code { "" } else { info });
            if is_code {
                let line = format!("{info}\n");
                new.scanner.line(&line);
                new.block.text = line;
            }
            open = Some(new);
        }
    }
    let is_unended = open.as_ref().map_or(&outside, |open| &open.scanner).in_string();
    blocks.extend(open.map(|open| open.block));
    (blocks, is_unended.then_some(piece))
}

fn opened(fence: &str, before: &str, info: &str) -> Open {
    let tag = info.trim_start_matches(['{', '.']).split(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
    let block = Block { text: String::new(), tag: tag.to_lowercase() };
    let indent = if before.trim().is_empty() { before.chars().count() } else { 0 };
    Open { fence: fence.to_owned(), indent, block, scanner: Scanner::default() }
}

fn begins_code(info: &str) -> bool {
    static CODE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^(?:(?:def|class|import|from|return)\s|\w+\s*[=(])").unwrap());
    CODE.is_match(info)
}

/// The line without as much space in front as its fence has.
fn without_indent(line: &str, indent: usize) -> &str {
    let space = line.chars().take(indent).take_while(|c| [' ', '\t'].contains(c)).count();
    &line[space..]
}
