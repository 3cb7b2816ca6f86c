//! Which label a model means that answers in words.

/// The label that `text` names first, as a word of its own, in capitals or not; of several at one place, the
/// longest. `None` if it names none.
pub fn named_in(text: &str, labels: &[String]) -> Option<usize> {
    let at = |label: &String| {
        let (text, label) = (text.as_bytes(), label.as_bytes());
        let is_word = |byte: Option<&u8>| {
            byte.is_some_and(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || b"-_".contains(c))
        };
        (0..=text.len().checked_sub(label.len())?).find(|&at| {
            let end = at + label.len();
            text[at..end].eq_ignore_ascii_case(label)
                && !at.checked_sub(1).is_some_and(|before| is_word(text.get(before)))
                && !is_word(text.get(end))
        })
    };
    let found = labels.iter().enumerate().filter_map(|(i, label)| Some((at(label)?, label.len(), i)));
    found.min_by_key(|&(at, length, _)| (at, std::cmp::Reverse(length))).map(|(.., i)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_whole_word_counts_and_the_longest_label_there() {
        let labels = ["math", "math.v2", "math-hard", "code", "other"].map(String::from);
        for (text, expected) in [
            (" math", Some("math")),
            ("Math.", Some("math")),
            ("math-hard", Some("math-hard")),
            ("math.v2!", Some("math.v2")),
            ("mathematics or code", Some("code")),
            ("the code, not math", Some("code")),
            ("a math-like thing", None),
            ("žmath", None),
            ("", None),
            ("**other**", Some("other")),
        ] {
            assert_eq!(named_in(text, &labels).map(|i| labels[i].as_str()), expected, "{text:?}");
        }
    }
}
