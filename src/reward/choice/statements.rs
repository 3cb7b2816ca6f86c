//! Statements: where a completion says which option it takes.

use std::sync::LazyLock;

use regex::Regex;

use super::mentions::{joins, mentions};
use super::{Choice, Labels, Named};
use crate::reward::{latex, statement};

impl Choice {
    /// What the last statement of a text names.
    pub(super) fn stated(&self, text: &str) -> Named {
        static STATED: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(&format!(
                r"{}
                | \b(?:choice|option|selection)\b[*\s]*
                    (?:\s(?:is|was|(?:w|sh)ould\ be|must\ be|has\ to\ be|(?:seems|appears)\ to\ be)\b|:)[*\s]*:?
                | \b(?:choose|chose|choosing|pick|select|selecting)\b
                | \b(?:go(?:ing)?\ (?:with|for)|opt\ for|settle\ (?:on|for))\b
                | (?:正确|应该?)?(?:选项|選項|选择|选)(?:应该?)?(?:是|为)?[\s:]*",
                statement::ANNOUNCED
            ))
            .unwrap()
        });
        static DIRECT: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(
                r"(?ix)\b(?:it|this|that|which)(?:['’]s|\ is|\ (?:must|has\ to|should|can\ only)\ be)\b
                | \b(?:therefore|thus|hence|so|consequently|by\ elimination)\b,?
                | \bleav(?:es|ing)\b(?:\ (?:us\ with|only|just))?
                | \b(?:corresponds?|points?)\ to\b | \b(?:say|get)\b | 所以 | 因此 | 故",
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
                r"(?ix)[\w)\]*_\x22'$][:,]?\s*(?:[-–—]\s*)?
                (?:\b(?:is|seems|appears|looks|must\ be|would\ be|has\ to\ be)\b\s*)?
                (?:(?:to\ be|the|clearly|definitely|therefore|thus|most|only|our|my|indeed|probably|likely
                |single)\s+)*
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
            let styles = "text|textbf|textrm|textit|mathrm|mathbf|mbox|bf|rm";
            Regex::new(&format!(r"\\(?:{styles})\s*\{{([^{{}}]*)\}}|\\(?:,|;|!|\s|quad)")).unwrap()
        });
        let boxed = TEXT.replace_all(boxed, " $1 ");
        self.whole(&boxed).or_else(|| self.leading(&boxed, true)).or_else(|| self.mentioned(&boxed))
    }
}
