//! Where a text says that its answer comes: "the answer is", "Answer:", `<answer>`, in the languages of
//! the common evaluations.

use regex::Regex;

/// The pattern of what announces an answer.
pub(super) const ANNOUNCED: &str = r#"(?ix)
    <answer>
    | (?m:^)[\#*_\ \t]*(?:the\ )?(?:final\ |correct\ )?answer[*_:\ \t]*\n\s*
    | (?:\b|_)(?:answers?|final\ result|antwort|respuesta|r[ée]ponse|resposta|risposta|ответ|jibu)
        (?:\s+(?:correcta|correcte|corretta|correta|final))?
        (?:\s+(?:to|for)\s[^.:\n]{1,80}?)? (?:\s*\([^()\n]{0,60}\))? ["'*_`)\]\s]{0,6}
        (?: \b(?:is|was|are|equals|comes?\ (?:out\ )?to|(?:w|sh)ould\ be|must\ be|will\ be|has\ to\ be
            |(?:seems|appears)\ to\ be|ist|lautet|es|est|é|è)\b | [:=] | -\s )
        [\s:=*_`"']*
    | (?:答案|回答|正解|答え)(?:は)?(?:应该|應該)?(?:是|为|為|选|選)?[\s:*]*
    | (?:উত্তর|సమాధానం|คำตอบ|정답|답)(?:\s?คือ|은|는)?[\s:*]*"#;

/// What stands behind each match of `marker`, from the last one back: the rest of its line, or the next line
/// that holds something. With the offset of the match.
pub(super) fn behind<'a>(text: &'a str, marker: &Regex) -> Vec<(usize, &'a str)> {
    /// A text that announces more answers has none. This and the length of a phrase bound the work.
    const MAX: usize = 32;
    const MAX_BYTES: usize = 400;
    let found: Vec<_> = marker.find_iter(text).collect();
    let phrase = |end: usize| {
        let rest = text[end..].trim_start();
        let line = rest.split('\n').next().unwrap_or("");
        let line = line.split("</answer").next().unwrap_or("");
        &line[..floor_char_boundary(line, MAX_BYTES)]
    };
    found.iter().rev().take(MAX).map(|found| (found.start(), phrase(found.end()))).collect()
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// What a phrase says until its first sentence ends.
pub(super) fn first_sentence(phrase: &str) -> &str {
    let ends = |at: usize, c: char| {
        let rest = &phrase[at + c.len_utf8()..];
        let next = rest.trim_start_matches(['"', '\'', ')', '*', '_', '$', '`']);
        "。！".contains(c)
            || ".!".contains(c)
                && (next.is_empty()
                    || next.starts_with(char::is_whitespace)
                        && next
                            .trim_start()
                            .chars()
                            .next()
                            .is_none_or(|c| !c.is_lowercase() && !c.is_numeric()))
    };
    let end = phrase.char_indices().find(|&(at, c)| ends(at, c)).map_or(phrase.len(), |(at, _)| at);
    &phrase[..end]
}
