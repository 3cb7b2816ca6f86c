//! Multiple choice: the one option that a completion settles on.
//!
//! A completion says which by a statement: in a `\boxed{…}`, behind "the answer is", "I choose", "it must be" and
//! their like, or by "B is correct". The last statement that names an option counts, but none that comes
//! after a new question has begun. Without a statement these count, in this order: a label that is all of the last
//! line; one that the completion begins with, such as `B`, `B.`, `(B)` or `B) text`; the only label in
//! parentheses; the only option whose text occurs. Options that the completion says again are left out before.
//!
//! - Small letters count where a label is expected and nothing else can be meant: `(b)`, `b.`, "the answer is d".
//! - Labels that the text speaks against do not count: "not A", "A and B are wrong", "rules out C".
//! - Wherever two options are named alike ("A or B"), or a label beyond the options, there is no answer.

mod mentions;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::{characters, latex, run_on, statement, Score};
use crate::error::{Error, Result};
use mentions::{joins, mentions, Mention};

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
        let text = characters::plain(completion);
        let mut named =
            run_on::parts(&text).into_iter().map(|part| self.stated(part).or_else(|| self.named(part)));
        match named.find(|named| *named != Named::Nothing) {
            Some(Named::One(index)) => Some(index),
            _ => None,
        }
    }

    /// What the last statement of a text names.
    fn stated(&self, text: &str) -> Named {
        static STATED: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(&format!(
                r"{}
                | \b(?:choice|option|selection)\b[*\s]*(?:\sis\b|:)[*\s]*:?
                | \b(?:choose|chose|choosing|pick|select|selecting|go(?:ing)?\ (?:with|for)|opt\ for|settle\ (?:on|for))\b
                | (?:正确|应该?)?(?:选项|選項|选择|选)(?:应该?)?(?:是|为)?[\s:]*",
                statement::ANNOUNCED
            ))
            .unwrap()
        });
        static DIRECT: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(
                r"(?ix)\b(?:it|this|that|which)(?:['’]s|\ is|\ (?:must|has\ to|should|can\ only)\ be)\b
                | \b(?:therefore|thus|hence|so|consequently)\b,? | \bleav(?:es|ing)\b(?:\ (?:us\ with|only|just))?
                | \b(?:corresponds?|points?)\ to\b | \bit\ has\ to\ be\b | \b(?:say|get)\b | \bby\ elimination\b,? | (?:所以|因此|故)",
            )
            .unwrap()
        });
        let announced = statement::behind(text, &STATED).into_iter();
        let announced = announced.map(|(at, phrase)| (at, self.in_statement(text, at, phrase)));
        let direct = statement::behind(text, &DIRECT).into_iter();
        let direct = direct.map(|(at, phrase)| (at, self.leading(phrase, true)));
        let boxed = latex::last_boxed(text).map(|boxed| {
            let at = text.rfind("\\boxed").max(text.rfind("\\fbox")).unwrap_or(0);
            (at, self.in_box(boxed))
        });
        let statements = announced.chain(direct).chain(boxed).chain(self.praised(text));
        let named = statements.filter(|(_, named)| *named != Named::Nothing);
        named.max_by_key(|(at, _)| *at).map_or(Named::Nothing, |(_, named)| named)
    }

    /// "B is correct", with the place of the label.
    fn praised(&self, text: &str) -> Option<(usize, Named)> {
        static PRAISED: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(
                r"(?ix)[\w)\]*_\x22'$][:,]?\s*(?:[-–—]\s*)?(?:\b(?:is|seems|appears|looks|must\ be|would\ be|has\ to\ be)\b\s*)?
                (?:(?:to\ be|the|clearly|definitely|therefore|thus|most|only|our|my|indeed|also|probably|likely|single)\s+)*
                \b(?:correct|right|best|true|accurate|answer|appropriate)\b",
            )
            .unwrap()
        });
        // From the last one back, so that a long text costs little.
        const MAX: usize = 32;
        let found: Vec<_> = PRAISED.find_iter(text).collect();
        found.iter().rev().take(MAX).find_map(|found| {
            if text[found.end()..].starts_with('?') {
                return None;
            }
            let start = text[..found.start()].rfind(['\n', '.', '!', '?']).map_or(0, |at| at + 1);
            let start =
                (start.max(found.start().saturating_sub(80))..).find(|&at| text.is_char_boundary(at))?;
            let sentence = &text[start..found.end()];
            let label_end = found.start() + found.as_str().chars().next().map_or(0, char::len_utf8);
            let mentions = mentions(sentence, self.labels);
            let Some(at) = mentions.iter().rposition(|mention| start + mention.end == label_end) else {
                return self.of_line(&text[..label_end]);
            };
            let mention = mentions[at];
            if mention.is_rejected || mention.is_weak {
                return None;
            }
            let is_joined = at > 0 && joins(&sentence[mentions[at - 1].end..mention.start]);
            Some((start + mention.start, if is_joined { Named::Several } else { self.one(mention.index) }))
        })
    }

    /// The label of the line that a text breaks off in, if it speaks of itself: "B) It filters air, so this".
    fn of_line(&self, text: &str) -> Option<(usize, Named)> {
        static ITSELF: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"(?i)\b(?:it|this|that|which)$").unwrap());
        const MAX_BYTES: usize = 400;
        let start = text.rfind('\n').map_or(0, |at| at + 1);
        let line = &text[start..];
        if line.len() > MAX_BYTES || !ITSELF.is_match(line) {
            return None;
        }
        let first = mentions(line, self.labels).first().copied()?;
        let begins = line[..first.start].trim_matches(['-', '*', ' ', '\t']).is_empty();
        let is_label = first.is_marked || line[first.end..].starts_with(['.', ':']);
        (begins && is_label).then(|| (start, self.one(first.index)))
    }

    /// What stands behind "the answer is", which begins at `at` of the text.
    fn in_statement(&self, text: &str, at: usize, phrase: &str) -> Named {
        static CONDITION: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"(?i)\b(?:if|whether|suppose|assuming|unless)\s+(?:the\s+)?(?:correct\s+|right\s+)?$")
                .unwrap()
        });
        let from = (at.saturating_sub(40)..=at).find(|&from| text.is_char_boundary(from)).unwrap_or(at);
        if CONDITION.is_match(&text[from..at]) {
            return Named::Nothing;
        }
        self.whole(phrase)
            .or_else(|| self.beginning(phrase, 2))
            .or_else(|| self.leading(phrase, self.labels == Labels::Numbers))
            .or_else(|| self.beginning(phrase, 1))
            .or_else(|| self.in_sentence(statement::first_sentence(phrase)))
    }

    fn in_box(&self, boxed: &str) -> Named {
        static TEXT: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"\\(?:text|textbf|textrm|textit|mathrm|mathbf|mbox|bf|rm)\s*\{([^{}]*)\}|\\(?:,|;|!|\s|quad)").unwrap()
        });
        let boxed = TEXT.replace_all(boxed, " $1 ");
        self.whole(&boxed).or_else(|| self.leading(&boxed, true)).or_else(|| self.mentioned(&boxed))
    }

    /// The option that a text without a statement names.
    fn named(&self, text: &str) -> Named {
        let text = self.without_options(text);
        let text = text.trim();
        let last_line = text.rsplit('\n').next().unwrap_or("");
        self.whole(text)
            .or_else(|| self.label(last_line))
            .or_else(|| self.beginning(text, 2))
            .or_else(|| self.leading(text, true))
            .or_else(|| {
                let bracketed = |mention: &Mention| {
                    mention.is_marked
                        && text[..mention.end].ends_with(')')
                        && text[mention.start..].starts_with('(')
                };
                self.only(mentions(text, self.labels).into_iter().filter(bracketed))
            })
            .or_else(|| self.mentioned(text))
    }

    /// The option whose label or text is all of the phrase.
    fn whole(&self, phrase: &str) -> Named {
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
    fn label(&self, phrase: &str) -> Named {
        let bare = phrase.trim_matches(|c: char| !c.is_alphanumeric());
        let label =
            (0..self.options.len()).find(|&index| self.labels.label(index).eq_ignore_ascii_case(bare));
        label.map_or(Named::Nothing, Named::One)
    }

    /// The label that the phrase begins with. `strict` leaves labels out that begin a sentence about something
    /// else.
    fn leading(&self, phrase: &str, strict: bool) -> Named {
        static FILLER: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(
                r"(?ix)^(?:\d{1,2}[.)]\s+)?(?:[\s\x22'*_:$(\[{<>`,-] | \b(?:options?|choices?|letter|answer|label|most\ likely|probably|clearly
                |definitely|therefore|thus|indeed|of\ course|actually|simply|just|only|still|now|either|both|the|is|be
                |correct|right|best|final|one|likely|number|it|must|a|an|la|el|le|die)\b)*$",
            )
            .unwrap()
        });
        static ENDS: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"(?i)^\s*(?:$|[.,;:!\n–—/&(-]|\p{Han}|\p{Hiragana}|\p{Hangul}|because\b|since\b|as\b|or\b|and\b|is\b|due\b)").unwrap()
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
    fn beginning(&self, phrase: &str, n_words: usize) -> Named {
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
    fn in_sentence(&self, sentence: &str) -> Named {
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

    /// The text without its lines that only say the options again, if there are several.
    fn without_options(&self, text: &str) -> String {
        let restated = |line: &str| {
            let mention = mentions(line, self.labels).first().copied();
            let mention = mention
                .filter(|mention| line[..mention.start].trim_matches(['-', '*', ' ', '\t']).is_empty())?;
            let option = self.options.get(mention.index)?;
            (words(&line[mention.end..]) == words(option)).then_some(mention.index)
        };
        let lines: Vec<(&str, Option<usize>)> = text.lines().map(|line| (line, restated(line))).collect();
        let labels: BTreeSet<usize> = lines.iter().filter_map(|(_, restated)| *restated).collect();
        if labels.len() < 2 {
            return text.to_owned();
        }
        lines
            .iter()
            .filter(|(_, restated)| restated.is_none())
            .map(|(line, _)| *line)
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn only(&self, mentions: impl Iterator<Item = Mention>) -> Named {
        let labels: BTreeSet<usize> =
            mentions.filter(|mention| !mention.is_rejected).map(|mention| mention.index).collect();
        match labels.first() {
            Some(&label) if labels.len() == 1 => self.one(label),
            Some(_) => Named::Several,
            None => Named::Nothing,
        }
    }

    /// A label beyond the options is an answer, and a wrong one.
    fn one(&self, index: usize) -> Named {
        if index < self.options.len() {
            Named::One(index)
        } else {
            Named::Several
        }
    }

    /// The option whose text occurs; where options contain each other, the longer one counts.
    fn mentioned(&self, phrase: &str) -> Named {
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

/// What a text says of the options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Named {
    One(usize),
    /// More than one, or one that does not exist: no answer, whatever else is said.
    Several,
    Nothing,
}

impl Named {
    fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        if self == Self::Nothing {
            other()
        } else {
            self
        }
    }
}

/// Lower case, single spaces, also at both ends; no punctuation around words.
fn words(text: &str) -> String {
    let word =
        |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric() && !"-+$%°".contains(c)).to_lowercase();
    let words: Vec<_> = text.split_whitespace().map(word).filter(|word| !word.is_empty()).collect();
    format!(" {} ", words.join(" "))
}
