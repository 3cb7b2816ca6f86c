//! Phrases: the option that one names, by its label or by its text.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::mentions::{joins, mentions, Mention};
use super::{Choice, Labels, Named};
use crate::reward::statement;

impl Choice {
    /// The option whose label or text is all of the phrase.
    pub(super) fn whole(&self, phrase: &str) -> Named {
        // A label is a label, even if it happens to be the text of another option.
        self.label(phrase).or_else(|| {
            let same = |option: &String| words(option) == words(phrase);
            let mut same = self.options.iter().enumerate().filter(|(_, option)| same(option));
            match (same.next(), same.next()) {
                (Some((index, _)), None) => Named::One(index),
                (None, _) => Named::Nothing,
                _ => Named::Several,
            }
        })
    }

    /// The label that is all of the phrase.
    pub(super) fn label(&self, phrase: &str) -> Named {
        let bare = phrase.trim_matches(|c: char| !c.is_alphanumeric());
        let label =
            (0..self.options.len()).find(|&index| self.labels.label(index).eq_ignore_ascii_case(bare));
        label.map_or(Named::Nothing, Named::One)
    }

    /// The label that the phrase begins with. `strict` leaves out those that begin a sentence about
    /// something else.
    pub(super) fn leading(&self, phrase: &str, strict: bool) -> Named {
        static FILLER: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(
                r"(?ix)^(?:\d{1,2}[.)]\s+)? (?:[\s\x22'*_:$(\[{<>`,-]
                | \b(?:options?|choices?|letter|answer|label|number|most\ likely|likely|probably|clearly
                |definitely|therefore|thus|indeed|of\ course|actually|simply|just|only|still|now|either|both|the
                |is|be|correct|right|best|final|one|it|must|a|an|la|el|le|die)\b)*$",
            )
            .unwrap()
        });
        static ENDS: LazyLock<Regex> = LazyLock::new(|| {
            let words = "because|since|as|or|and|is|due";
            let pattern =
                format!(r"(?i)^\s*(?:$|[.,;:!\n–—/&(-]|\p{{Han}}|\p{{Hiragana}}|\p{{Hangul}}|(?:{words})\b)");
            Regex::new(&pattern).unwrap()
        });
        static VERB: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"(?i)^\s*(?:is|was|would|can|could|has|does|isn['’]t|cannot|will|be)\b").unwrap()
        });
        static OR: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?i)\bor\s+(?:\w+\s+)?$").unwrap());
        static CLAUSE: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"(?i)\b(?:because|since|as|so|but|while)\b").unwrap());
        let found = mentions(phrase, self.labels);
        // Small letters and numbers are labels where nothing follows them that they could belong to.
        let is_expected = |mention: &Mention| {
            let behind = &phrase[mention.end..];
            let is_article = self.labels == Labels::Letters && [0, 8].contains(&mention.index);
            !mention.is_weak
                || behind.trim_start().is_empty()
                || behind.starts_with(['.', ',', ':', ';', '!', '\n'])
                || ENDS.is_match(behind) && !is_article
        };
        let found: Vec<Mention> = found.into_iter().filter(is_expected).collect();
        let Some(first) = found.first().copied() else { return Named::Nothing };
        let behind = &phrase[first.end..];
        let goes_on = strict && !ENDS.is_match(behind) && !self.repeats(first.index, behind);
        if !FILLER.is_match(&phrase[..first.start])
            || first.is_rejected
            || goes_on
            || behind.trim_start().starts_with('?')
        {
            return Named::Nothing;
        }
        let sentence = statement::first_sentence(phrase);
        let clause = CLAUSE.find(sentence).map_or(sentence.len(), |clause| clause.start());
        let is_rival = |at: usize| {
            let other = found[at];
            let between = &phrase[found[at - 1].end..other.start];
            let alternative = other.end <= clause && OR.is_match(&phrase[first.end..other.start]);
            other.index != first.index
                && !other.is_rejected
                && (at == 1 && (joins(between) || between.trim().is_empty() && !other.is_weak) || alternative)
                && !VERB.is_match(&phrase[other.end..])
        };
        // "C, A and B" where that is what option C says.
        let says_labels = self.repeats(first.index, behind)
            && !mentions(&self.options[first.index], self.labels).is_empty();
        if !says_labels && (1..found.len().min(8)).any(is_rival) {
            return Named::Several;
        }
        self.one(first.index)
    }

    /// The option whose text the phrase begins with, the longest one, of at least `n_words` words.
    pub(super) fn beginning(&self, phrase: &str, n_words: usize) -> Named {
        const ARTICLES: [&str; 5] = [" the ", " a ", " an ", " that ", " both "];
        let phrase = words(phrase);
        let article = ARTICLES.iter().find(|article| phrase.starts_with(**article));
        let bare = article.map(|article| &phrase[article.len() - 1..]);
        let options = self.options.iter().map(|option| words(option)).enumerate();
        let is_long = |option: &str| option.split_whitespace().count() >= n_words;
        let begins = |option: &str| {
            is_long(option)
                && (phrase.starts_with(option) || bare.is_some_and(|bare| bare.starts_with(option)))
        };
        let longest = options.filter(|(_, option)| begins(option)).max_by_key(|(_, option)| option.len());
        let goes_on = |option: &str| {
            let rest = phrase.strip_prefix(option).or_else(|| bare?.strip_prefix(option)).unwrap_or("");
            rest.starts_with("or ") || rest.starts_with("and ")
        };
        longest.filter(|(_, option)| !goes_on(option)).map_or(Named::Nothing, |(index, _)| Named::One(index))
    }

    /// The only option that a sentence speaks for.
    pub(super) fn in_sentence(&self, sentence: &str) -> Named {
        static CALLED: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"(?i)\b(?:option|choice|letter|answer)\s*[(*]*$").unwrap());
        let counts = |mention: &Mention| {
            let called = CALLED.is_match(&sentence[..mention.start]);
            let strong = !mention.is_weak && self.labels == Labels::Letters;
            !mention.is_rejected && (called || mention.is_marked || strong)
        };
        let label = self.only(mentions(sentence, self.labels).into_iter().filter(counts));
        let text = self.mentioned(sentence);
        match (label, text) {
            // "Vitamin C" names no option C.
            (Named::One(label), Named::One(text)) if label != text => {
                let is_inside =
                    mentions(&self.options[text], self.labels).iter().any(|inside| inside.index == label);
                if is_inside {
                    Named::One(text)
                } else {
                    Named::One(label)
                }
            }
            (Named::Nothing, text) => text,
            (label, _) => label,
        }
    }

    /// Whether a text begins with what option `index` says.
    fn repeats(&self, index: usize, text: &str) -> bool {
        let option = self.options.get(index).map_or_else(String::new, |option| words(option));
        let begin = text.char_indices().nth(option.len() + 40).map_or(text.len(), |(at, _)| at);
        option.len() > 2 && words(&text[..begin]).starts_with(option.trim_end())
    }

    pub(super) fn only(&self, mentions: impl Iterator<Item = Mention>) -> Named {
        let labels: BTreeSet<usize> =
            mentions.filter(|mention| !mention.is_rejected).map(|mention| mention.index).collect();
        match labels.first() {
            Some(&label) if labels.len() == 1 => self.one(label),
            Some(_) => Named::Several,
            None => Named::Nothing,
        }
    }

    /// A label beyond the options is an answer, and a wrong one.
    pub(super) fn one(&self, index: usize) -> Named {
        if index < self.options.len() {
            Named::One(index)
        } else {
            Named::Several
        }
    }

    /// The option whose text occurs; where options contain each other, the longer one counts.
    pub(super) fn mentioned(&self, phrase: &str) -> Named {
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
        match found.first() {
            Some(&index) if found.len() == 1 => Named::One(index),
            Some(_) => Named::Several,
            None => Named::Nothing,
        }
    }
}

/// Lower case, single spaces, also at both ends; no punctuation around words.
pub(super) fn words(text: &str) -> String {
    let word =
        |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric() && !"-+$%°".contains(c)).to_lowercase();
    let words: Vec<_> = text.split_whitespace().map(word).filter(|word| !word.is_empty()).collect();
    format!(" {} ", words.join(" "))
}
