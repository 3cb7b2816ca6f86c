//! Text from outside and the control tokens that it spells: `<|im_end|>` in a question is text, not the end of a turn.
//!
//! Templates put such text between control tokens of their own, and only the whole is turned into tokens: a tokenizer
//! joins letters over the borders of a question, as it did when the model was trained. So the borders must not show, and
//! yet what a question spells must not count. Before it goes into a template, [`ControlTokens::shield`] therefore puts a
//! *mark*, a character that stands for another one, into each control token that it spells; the finished prompt becomes
//! tokens by [`ControlTokens::tokenize`], which reads marks as the characters they stand for, but no control token there.
//!
//! Some vocabularies declare the tokens between which their turns stand as ordinary words (DeepSeek's `<｜User｜>`). What
//! the template says of such words is therefore treated like control tokens.

use std::collections::BTreeSet;
use std::ops::{Range, RangeInclusive};

use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;

use crate::engine::Token;
use crate::error::Result;
use crate::ffi::model::ModelHandle;

/// Characters of no language, which mark places in prompts. Where text from outside holds one, it is lost:
/// U+FFFD takes its place.
pub const RESERVED: RangeInclusive<char> = '\u{10F000}'..='\u{10FFFD}';
/// So many of them, the last, are left to others.
const N_LEFT: usize = 2;

/// A token that only a template may say.
struct Special {
    text: String,
    token: Token,
    /// Whether it swallows white space before it, and after it.
    strips: (bool, bool),
    /// Whether the tokenizer reads it in any text, so that only a cut through it prevents that.
    is_word: bool,
}

/// The control tokens of a vocabulary.
pub struct ControlTokens {
    /// The longest first, as the tokenizer looks for them.
    specials: Vec<Special>,
    /// What the marks stand for, in the order of [`RESERVED`]: the characters that `specials` begin or end with.
    marked: Vec<char>,
}

/// A piece of a prompt.
enum Fragment {
    Text(Range<usize>),
    Token(Token),
}

impl ControlTokens {
    /// Those of the model, and what its chat `template` uses like them.
    pub fn new(model: &ModelHandle, template: &str) -> Self {
        let vocab = model.llama().vocab();
        let special = |token: LlamaToken| {
            let attributes = vocab.attr(token);
            let is_word = !attributes.intersects(LlamaTokenAttr::Control | LlamaTokenAttr::Unknown);
            if is_word && !attributes.contains(LlamaTokenAttr::UserDefined) {
                return None;
            }
            let text = vocab.text(token)?.to_str().ok().filter(|text| !text.is_empty())?.to_owned();
            // Runs of spaces and of line breaks are words, too.
            let is_marker = |text: &str| text.chars().any(|c| !c.is_alphanumeric() && !c.is_whitespace());
            if is_word && !(text.chars().nth(1).is_some() && is_marker(&text) && template.contains(&text)) {
                return None;
            }
            let strips =
                (attributes.contains(LlamaTokenAttr::LStrip), attributes.contains(LlamaTokenAttr::RStrip));
            Some(Special { text, token: token.0, strips, is_word })
        };
        let mut specials: Vec<_> = vocab.tokens().filter_map(special).collect();
        specials.sort_by_key(|special| std::cmp::Reverse(special.text.len()));
        let ends = |special: &Special| [special.text.chars().next(), special.text.chars().next_back()];
        let marked: BTreeSet<char> = specials.iter().flat_map(ends).flatten().collect();
        let marked = marked.into_iter().take(RESERVED.count() - N_LEFT).collect();
        Self { specials, marked }
    }

    /// `text` with marks in all control tokens that it spells, in the beginnings of such at its end, and in the ends of
    /// such at its beginning, which the text around it might complete.
    pub fn shield(&self, text: &str) -> String {
        let text: String = text.chars().map(|c| if RESERVED.contains(&c) { '\u{FFFD}' } else { c }).collect();
        // Byte offsets of the characters to be marked.
        let mut marks = Vec::new();
        for Special { text: special, .. } in &self.specials {
            marks.extend(text.match_indices(special.as_str()).map(|(at, _)| at));
            let borders = special.char_indices().skip(1).map(|(at, _)| at);
            for border in borders {
                let (start, end) = special.split_at(border);
                if text.ends_with(start) {
                    marks.push(text.len() - start.len());
                }
                if text.starts_with(end) {
                    marks.push(end.char_indices().next_back().map_or(0, |(at, _)| at));
                }
            }
        }
        if marks.is_empty() {
            return text;
        }
        marks.sort_unstable();
        let mark = |(at, c)| match marks.binary_search(&at) {
            Ok(_) => self.mark(c),
            Err(_) => c,
        };
        text.char_indices().map(mark).collect()
    }

    /// As [`Self::shield`], for text that may be a name: that of a field must stay readable, and its letters complete
    /// nothing.
    pub fn shield_name(&self, text: &str) -> String {
        let is_name = text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'));
        if is_name && !self.specials.iter().any(|special| text.contains(&special.text)) {
            return text.to_owned();
        }
        self.shield(text)
    }

    /// Whether a template that puts `text` between words of its own could make a control token of them.
    pub fn is_within_one(&self, text: &str) -> bool {
        self.specials.iter().any(|special| special.text.contains(text))
    }

    /// The mark for a character; itself if it has none.
    fn mark(&self, c: char) -> char {
        let place = self.marked.binary_search(&c).ok();
        place.and_then(|place| RESERVED.clone().nth(place)).unwrap_or(c)
    }

    /// What a mark stands for.
    fn unmarked(&self, c: char) -> Option<char> {
        let place = (c as u32).checked_sub(*RESERVED.start() as u32)?;
        self.marked.get(usize::try_from(place).ok()?).copied()
    }

    /// `text` without marks.
    pub fn plain(&self, text: &str) -> String {
        text.chars().map(|c| self.unmarked(c).unwrap_or(c)).collect()
    }

    /// Tokens of a text that may hold marks, as the model's own tokenizer gives them with control tokens read, but for
    /// those that hold a mark. `add_special` adds what the model wants at both ends.
    ///
    /// # Errors
    /// The vocabulary has no way to say some of the text.
    pub fn tokenize(&self, model: &ModelHandle, text: &str, add_special: bool) -> Result<Vec<Token>> {
        if !text.contains(|c| self.unmarked(c).is_some()) {
            return model.tokenize(text, add_special, true);
        }
        let vocab = model.llama().vocab();
        let mut plain = String::with_capacity(text.len());
        let mut marks = Vec::new();
        for c in text.chars() {
            if self.unmarked(c).is_some() {
                marks.push(plain.len());
            }
            plain.push(self.unmarked(c).unwrap_or(c));
        }
        let (mut first, mut last) = (Vec::new(), None);
        if add_special {
            first = model.tokenize("", true, true)?;
            last = if vocab.should_add_eos() || vocab.should_add_sep() { first.pop() } else { None };
        }
        let mut tokens = first;
        for fragment in self.partition(&plain, &marks) {
            match fragment {
                Fragment::Token(token) => tokens.push(token),
                Fragment::Text(range) => tokens.extend(model.tokenize(&plain[range], false, false)?),
            }
        }
        tokens.extend(last);
        Ok(tokens)
    }

    /// Cuts `text` at the control tokens that do not reach over any of the offsets `marks`, as llama.cpp's tokenizer
    /// does before it looks at the text between them.
    fn partition(&self, text: &str, marks: &[usize]) -> Vec<Fragment> {
        let mut fragments = vec![Fragment::Text(0..text.len())];
        for special in &self.specials {
            if !text.contains(special.text.as_str()) {
                continue;
            }
            let cut = |fragment| match fragment {
                Fragment::Token(_) => vec![fragment],
                Fragment::Text(range) => special.cut(text, range, marks),
            };
            fragments = fragments.into_iter().flat_map(cut).collect();
        }
        fragments
    }
}

impl Special {
    fn cut(&self, text: &str, mut rest: Range<usize>, marks: &[usize]) -> Vec<Fragment> {
        let mut fragments = Vec::new();
        let mut from = rest.start;
        while let Some(at) = text[from..rest.end].find(&self.text).map(|at| from + at) {
            let end = at + self.text.len();
            let next_mark = marks.get(marks.partition_point(|&mark| mark < at));
            if next_mark.is_some_and(|&mark| mark < end) {
                from = at + text[at..].chars().next().map_or(1, char::len_utf8);
                if self.is_word {
                    fragments.push(Fragment::Text(rest.start..from));
                    rest.start = from;
                }
                continue;
            }
            if self.is_word {
                from = end;
                continue;
            }
            let mut before = &text[rest.start..at];
            if self.strips.0 {
                before = before.trim_end_matches(is_space);
            }
            if !before.is_empty() {
                fragments.push(Fragment::Text(rest.start..rest.start + before.len()));
            }
            fragments.push(Fragment::Token(self.token));
            let mut after = &text[end..rest.end];
            if self.strips.1 {
                after = after.trim_start_matches(is_space);
            }
            rest.start = rest.end - after.len();
            from = rest.start;
        }
        if !rest.is_empty() {
            fragments.push(Fragment::Text(rest));
        }
        fragments
    }
}

/// White space as C knows it.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}
