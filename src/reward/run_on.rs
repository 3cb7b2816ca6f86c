//! Where a model that was asked one question goes on to ask the next: base models continue a prompt with
//! examples in its own form, and chat models whose end of turn is not known write both sides.

use std::sync::LazyLock;

use regex::Regex;

/// The text, split where a new question or somebody else's turn begins. An answer stands in the first part
/// that gives one; what comes later answers something else.
pub(super) fn parts(text: &str) -> Vec<&str> {
    static NEXT: LazyLock<Regex> = LazyLock::new(|| {
        let words =
            "question|problem|exercise|q|user|human|instruction|example\\s?\\d+|pregunta|problema|frage|\
                     domanda|pergunta|вопрос|задача|swali|问题|題目|题目|問題|প্রশ্ন|ప్రశ్న|คำถาม";
        Regex::new(&format!(
            r"(?mx)
            ^[\ \t>]*(?:\#{{1,6}}[\ \t]*|\*{{1,2}}|[-*][\ \t]+)?(?i:{words})[\ \t]*
                (?: \#?\d{{1,4}}[\ \t]*\*{{0,2}}(?:[:.)]|[\ \t]*$) | \*{{0,2}}[\ \t]*: )
            | ^[\ \t]*\#{{2,6}}[\ \t]*(?i:new\ |next\ )?(?i:instruction|question|user|human|problem|input)s?\b
                [^\n]{{0,20}}$
            | (?:\b|^)Question[\ ]?\d{{0,3}}:
            | <\|[a-z_|]{{2,20}}\|> | <｜[^｜\n]{{1,20}}｜> | </s> | <eos> | <(?:start|end)_of_turn> | \[/?INST\]",
        ))
        .unwrap()
    });
    let mut parts = Vec::new();
    let mut start = 0;
    for next in NEXT.find_iter(text) {
        parts.push(&text[start..next.start()]);
        start = next.start();
    }
    parts.push(&text[start..]);
    parts
}
