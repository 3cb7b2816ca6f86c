//! Text from tokens: bytes become characters when these are complete, and what may be the beginning of a stop string
//! waits until it is clear whether it is one.

/// A text that grows.
pub(super) struct Stream {
    bytes: Vec<u8>,
    /// Bytes of it that were handed out.
    n_given: usize,
    stop: Vec<String>,
    /// Which of these appeared.
    stopped_by: Option<usize>,
}

impl Stream {
    /// An empty text that ends where one of `stop` appears.
    pub fn new(stop: Vec<String>) -> Self {
        Self { bytes: Vec::new(), n_given: 0, stop, stopped_by: None }
    }

    /// Adds bytes; whether a stop string appeared. Then the text ends before it.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let old = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        match find_stop(&self.bytes, old, &self.stop) {
            Some(at) => {
                self.stopped_by =
                    self.stop.iter().position(|stop| self.bytes[at..].starts_with(stop.as_bytes()));
                self.bytes.truncate(at);
                true
            }
            None => false,
        }
    }

    /// The characters that are complete, cannot be part of a stop string, and were not handed out yet; U+FFFD stands for
    /// what is not UTF-8.
    pub fn next(&mut self) -> String {
        let end = self.bytes.len() - self.n_held();
        let text = characters(&self.bytes[self.n_given..end]);
        self.n_given += text.1;
        text.0
    }

    /// What is left at the end.
    pub fn rest(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.bytes[self.n_given..]).into_owned();
        self.n_given = self.bytes.len();
        rest
    }

    /// The stop string that appeared.
    pub fn stopped_by(&self) -> Option<&str> {
        self.stopped_by.map(|which| self.stop[which].as_str())
    }

    /// All of it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Length of the longest end of the text that begins a stop string, of what was not handed out.
    fn n_held(&self) -> usize {
        let new = &self.bytes[self.n_given..];
        let held = |stop: &String| {
            let longest = new.len().min(stop.len() - 1);
            (1..=longest).rev().find(|&n| stop.as_bytes().starts_with(&new[new.len() - n..])).unwrap_or(0)
        };
        self.stop.iter().map(held).max().unwrap_or(0)
    }
}

/// The characters that are complete in `bytes`, and how many bytes they are.
fn characters(bytes: &[u8]) -> (String, usize) {
    let mut text = String::new();
    let mut rest = bytes;
    loop {
        let error = match std::str::from_utf8(rest) {
            Ok(valid) => {
                text += valid;
                return (text, bytes.len());
            }
            Err(error) => error,
        };
        let (valid, after) = rest.split_at(error.valid_up_to());
        text += &String::from_utf8_lossy(valid);
        let Some(n_wrong) = error.error_len() else { return (text, bytes.len() - after.len()) };
        text.push(char::REPLACEMENT_CHARACTER);
        rest = &after[n_wrong..];
    }
}

/// Where in `text` the first of the stop strings begins that ends beyond `old`, the length of what was
/// searched before.
fn find_stop(text: &[u8], old: usize, stop: &[String]) -> Option<usize> {
    let find = |stop: &String| {
        let start = (old + 1).saturating_sub(stop.len());
        let at = text[start..].windows(stop.len()).position(|window| window == stop.as_bytes())?;
        Some(start + at)
    };
    stop.iter().filter_map(find).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &[&[u8]], stop: &[&str]) -> (Vec<String>, String, bool) {
        let mut stream = Stream::new(stop.iter().map(|&text| text.to_owned()).collect());
        let mut given = Vec::new();
        for bytes in bytes {
            let is_over = stream.push(bytes);
            given.push(if is_over { stream.rest() } else { stream.next() });
            if is_over {
                return (given, stream.text(), true);
            }
        }
        given.push(stream.rest());
        (given, stream.text(), false)
    }

    #[test]
    fn a_stop_string_is_found_at_any_border_of_tokens() {
        let stop = ["\nQ:".to_owned(), "END".to_owned()];
        for (old, new, found) in [
            ("", "abc", None),
            ("ab", "c\nQ:", Some(3)),
            ("ab\n", "Q: x", Some(2)),
            ("ab\nQ", ":", Some(2)),
            ("aEN", "D\nQ:", Some(1)),
            ("a\nQ", "END", Some(3)),
            ("END", "x", None), // it was searched before
        ] {
            let text = format!("{old}{new}");
            assert_eq!(find_stop(text.as_bytes(), old.len(), &stop), found, "{old:?} + {new:?}");
        }
    }

    #[test]
    fn a_character_in_pieces_appears_when_it_is_complete() {
        let bytes = "a€🙂".as_bytes();
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        let (given, text, _) = pieces(&single, &[]);
        assert_eq!(given, ["a", "", "", "€", "", "", "", "🙂", ""]);
        assert_eq!(text, "a€🙂");
    }

    #[test]
    fn wrong_bytes_are_replaced_and_do_not_hold_up_the_rest() {
        let (given, ..) = pieces(&[b"a\xffb\xe2\x82", b"c", b"\xe2\x82"], &[]);
        assert_eq!(given, ["a\u{fffd}b", "\u{fffd}c", "", "\u{fffd}"]);
    }

    #[test]
    fn what_may_begin_a_stop_string_waits_and_nothing_of_one_is_given() {
        assert_eq!(pieces(&[b"one\n", b"Q", b"x"], &["\nQ:"]).0, ["one", "", "\nQx", ""]);
        let (given, text, is_over) = pieces(&[b"one\n", b"Q", b": two"], &["\nQ:"]);
        assert!(is_over);
        assert_eq!((given.concat().as_str(), text.as_str()), ("one", "one"));
        // At the end of the text it was none.
        assert_eq!(pieces(&[b"one\nQ"], &["\nQ:"]).0, ["one", "\nQ"]);
        assert_eq!(pieces(&[b"aab", b"aac"], &["aabaad", "b"]).0, ["aa"]);
    }

    #[test]
    fn pieces_make_up_the_text() {
        let bytes = "xéy\nQz🙂\nQ:never".as_bytes();
        for n in 1..6 {
            let chunks: Vec<&[u8]> = bytes.chunks(n).collect();
            let (given, text, is_over) = pieces(&chunks, &["\nQ:"]);
            assert!(is_over);
            assert_eq!(
                (given.concat().as_str(), text.as_str()),
                ("xéy\nQz🙂", "xéy\nQz🙂"),
                "{n} bytes at a time"
            );
        }
    }
}
