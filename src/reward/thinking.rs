//! Reasoning models think aloud before they answer: what a completion says beside its thinking.
//!
//! Thinking stands between marks such as `<think>` and `</think>`. Where a chat template has begun it, the completion
//! only ends it. Thinking that never ends leaves no answer.

/// How thinking begins and ends. Whoever runs a model that marks it in another way writes the first of these.
pub const MARKS: [(&str, &str); 3] =
    [("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]")];

/// A completion, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parts {
    /// What was thought, without its marks; empty if nothing was.
    pub thinking: String,
    /// What was said; `None` if the thinking never ends.
    pub answer: Option<String>,
}

/// Takes a completion apart.
pub fn split(completion: &str) -> Parts {
    let mut parts = Parts { thinking: String::new(), answer: Some(completion.to_owned()) };
    for (start, end) in MARKS {
        let Some(text) = parts.answer.take() else { break };
        let mut answer = String::new();
        let mut rest = text.as_str();
        let mut has_thought = false;
        parts.answer = loop {
            let (begins, ends) = (rest.find(start), rest.find(end));
            let (said, thought, after) = match (begins, ends) {
                // It began in the prompt.
                (_, Some(at)) if !has_thought && begins.is_none_or(|begins| at < begins) => {
                    ("", &rest[..at], &rest[at + end.len()..])
                }
                (Some(begins), _) => {
                    let inner = &rest[begins + start.len()..];
                    let Some(at) = inner.find(end) else {
                        parts.thinking += inner;
                        break None;
                    };
                    (&rest[..begins], &inner[..at], &inner[at + end.len()..])
                }
                (None, _) => {
                    answer += rest;
                    break Some(answer);
                }
            };
            has_thought = true;
            answer += said;
            parts.thinking += thought;
            rest = after;
        };
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_thought_is_not_said() {
        let table: [(&str, &str, Option<&str>); 13] = [
            ("18", "", Some("18")),
            ("<think>9 * 2</think>18", "9 * 2", Some("18")),
            ("<think>\n\n</think>\n\n18", "\n\n", Some("\n\n18")),
            // Begun by the template: DeepSeek-R1's distills.
            ("9 * 2\n</think>\n\n18", "9 * 2\n", Some("\n\n18")),
            ("<think>9 * 2", "9 * 2", None),
            ("<think>", "", None),
            ("</think>18", "", Some("18")),
            ("Well. <think>a</think> So <think>b</think> 18", "ab", Some("Well.  So  18")),
            ("<think>a</think> b <think>c", "ac", None),
            // The second end ends nothing.
            ("<think>a</think> b </think> c", "a", Some(" b </think> c")),
            ("[THINK]a[/THINK]18", "a", Some("18")),
            ("<thinking>a</thinking>18", "a", Some("18")),
            ("if x < think > 2", "", Some("if x < think > 2")),
        ];
        for (completion, thinking, answer) in table {
            let expected = Parts { thinking: thinking.into(), answer: answer.map(str::to_owned) };
            assert_eq!(split(completion), expected, "{completion}");
        }
    }

    #[test]
    fn long_completions_take_no_long_time() {
        for piece in ["<think>", "</think>", "<think></think>", "<", "</thi"] {
            let text = piece.repeat(100_000);
            let parts = split(&text);
            assert!(parts.thinking.len() + parts.answer.unwrap_or_default().len() <= text.len());
        }
    }
}
