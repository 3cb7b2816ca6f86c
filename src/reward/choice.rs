//! Multiple choice: the one option that a completion settles on.
//!
//! In this order: what stands after the last "answer is", "answer:" or in the last `\boxed{…}`; a label that
//! the completion begins with, such as `B`, `B.`, `(B)` or `B) text`; the only label in parentheses; the only
//! option whose text the completion contains. Wherever two options fit equally well, there is no answer.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::{latex, Score};
use crate::error::{Error, Result};

/// How options are called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Labels {
    /// A, B, C, …
    #[default]
    Letters,
    /// 1, 2, 3, …
    Numbers,
}

impl Labels {
    /// The label of option `index`, counted from 0.
    pub fn label(self, index: usize) -> String {
        match self {
            Self::Letters => char::from(b'A' + u8::try_from(index % 26).unwrap_or(0)).to_string(),
            Self::Numbers => (index + 1).to_string(),
        }
    }
}

/// The options of a question, and which one is right.
#[derive(Clone, PartialEq, Debug)]
pub struct Choice {
    labels: Labels,
    options: Vec<String>,
    gold: usize,
}

impl Choice {
    /// # Errors
    /// Fewer than 2 or more than 26 options, an empty one, or a `gold` that is not among them.
    pub fn new(labels: Labels, options: Vec<String>, gold: usize) -> Result<Self> {
        if !(2..=26).contains(&options.len()) {
            return Err(Error::expected("2 to 26 options", options.len()).field("options"));
        }
        if let Some(at) = options.iter().position(|option| option.trim().is_empty()) {
            return Err(Error::invalid(format!("option {} is empty", labels.label(at))).field("options"));
        }
        if gold >= options.len() {
            let expected = format!("one of {} options", options.len());
            return Err(Error::expected(expected, format!("option {gold}, counted from 0")).field("gold"));
        }
        Ok(Self { labels, options, gold })
    }

    /// The label of the right option.
    pub fn gold(&self) -> String {
        self.labels.label(self.gold)
    }

    /// 1 if the completion settles on the right option, and on no other.
    pub fn score(&self, completion: &str) -> Score {
        match self.settled(completion) {
            Some(found) => Score::compare(found == self.gold, &self.labels.label(found), &self.gold()),
            None => Score::wrong(format!("found no single option, expected {}", self.gold())),
        }
    }

    fn settled(&self, completion: &str) -> Option<usize> {
        static ANSWER: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"(?i)\b(?:answer|choice|option)\b[*\s]*(?:\sis\b|:)[*\s]*:?").unwrap()
        });
        if let Some(boxed) = latex::last_boxed(completion) {
            return self.named(boxed);
        }
        if let Some(marker) = ANSWER.find_iter(completion).last() {
            return self.named(&completion[marker.end()..]);
        }
        self.named(completion)
    }

    /// The option that a phrase names.
    fn named(&self, phrase: &str) -> Option<usize> {
        let phrase = phrase.trim();
        // A label is a label, even if it happens to be the text of another option.
        let bare = phrase.trim_matches(|c: char| !c.is_alphanumeric());
        if let Some(label) = (0..self.options.len()).find(|&index| self.labels.label(index) == bare) {
            return Some(label);
        }
        if let Some(all) = self.only(|option| same(option, phrase)) {
            return all;
        }
        if let Some(first) = self.leading(phrase) {
            return first;
        }
        let in_parentheses: BTreeSet<_> = self
            .label_pattern(r"\((LABEL)\)")
            .captures_iter(phrase)
            .map(|found| self.index(&found[1]))
            .collect();
        if !in_parentheses.is_empty() {
            return in_parentheses.first().copied().filter(|_| in_parentheses.len() == 1);
        }
        self.mentioned(phrase)
    }

    /// The label that the phrase begins with; `Some(None)` if it goes on with another one, as in "A or B".
    fn leading(&self, phrase: &str) -> Option<Option<usize>> {
        let start = r"^(?:option\s+|choice\s+)?[\s*$`\x22']*(?:\\text\{|\\mathrm\{)?\s*(?:\((LABEL)\)|(LABEL)(?:[.):,;*}$`\x22']|\s*$|\s+(?:is|because|since|or|and)\b|\s*\n|\s*/))";
        let found = self.label_pattern(start).captures(phrase)?;
        let label = found.get(1).or(found.get(2))?;
        let rest = &phrase[label.end()..];
        let another =
            self.label_pattern(r"^[)*.\s]*(?:,|/|&|\bor\b|\band\b|,\s*or\b)\s*\(?(LABEL)(?:[).,;]|\s|$)");
        let other = another.captures(rest).map(|other| self.index(&other[1]));
        let index = self.index(label.as_str());
        Some(Some(index).filter(|_| other.is_none_or(|other| other == index)))
    }

    /// The option whose text occurs; where options contain each other, the longer one counts.
    fn mentioned(&self, phrase: &str) -> Option<usize> {
        let phrase = words(phrase);
        let mut options: Vec<_> = self.options.iter().map(|option| words(option)).enumerate().collect();
        options.sort_by_key(|(_, option)| std::cmp::Reverse(option.len()));
        let mut left = phrase;
        let mut found = BTreeSet::new();
        for (index, option) in options {
            if left.contains(&option) {
                // Neighbours share the space between them.
                left = left.replace(&option, " \u{0} ");
                found.insert(index);
            }
        }
        found.first().copied().filter(|_| found.len() == 1)
    }

    /// `Some` if at least one option passes: the only one, or `None` among several.
    fn only(&self, passes: impl Fn(&str) -> bool) -> Option<Option<usize>> {
        let mut passing = (0..self.options.len()).filter(|&index| passes(&self.options[index]));
        let first = passing.next()?;
        Some(passing.next().is_none().then_some(first))
    }

    fn index(&self, label: &str) -> usize {
        (0..self.options.len()).find(|&index| self.labels.label(index) == label).unwrap_or(usize::MAX)
    }

    fn label_pattern(&self, pattern: &str) -> Regex {
        let last = self.labels.label(self.options.len() - 1);
        let labels = match self.labels {
            Labels::Letters => format!("[A-{last}]"),
            Labels::Numbers if self.options.len() < 10 => format!("[1-{last}]"),
            Labels::Numbers => {
                (1..=self.options.len()).rev().map(|n| n.to_string()).collect::<Vec<_>>().join("|")
            }
        };
        Regex::new(&pattern.replace("LABEL", &labels)).expect("a pattern of this file")
    }
}

/// Whether two texts are equal but for case, spaces and a final full stop.
fn same(a: &str, b: &str) -> bool {
    words(a) == words(b)
}

/// Lower case, single spaces, also at both ends; no punctuation around words.
fn words(text: &str) -> String {
    let word =
        |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric() && !"-+$%°".contains(c)).to_lowercase();
    let words: Vec<_> = text.split_whitespace().map(word).filter(|word| !word.is_empty()).collect();
    format!(" {} ", words.join(" "))
}
