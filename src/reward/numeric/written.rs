//! Numbers as people and models write them: `1,234.5`, `1.234.567,8`, `1e5`, `1.5 \times 10^3`, `2 1/2`,
//! `\frac{3}{4}`, `-$5`, `$1.5 million`, `50%`, `10k`.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::Number;
use crate::reward::characters;

/// The text with one way to write signs, thousands, fractions and powers.
pub(super) fn plain(text: &str) -> String {
    static SPACED: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(\d)(?:\\[!,]|\{,\}|,\\!|[\u{a0}\u{2009}\u{202f}])(\d{3})\b").unwrap());
    static RAISED: LazyLock<Regex> = LazyLock::new(|| Regex::new("[0-9][⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+").unwrap());
    static VULGAR: LazyLock<Regex> = LazyLock::new(|| Regex::new("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]").unwrap());
    const RAISED_DIGITS: &str = "⁰¹²³⁴⁵⁶⁷⁸⁹";
    const FRACTIONS: [(&str, &str); 15] = [
        ("½", "1/2"),
        ("⅓", "1/3"),
        ("⅔", "2/3"),
        ("¼", "1/4"),
        ("¾", "3/4"),
        ("⅕", "1/5"),
        ("⅖", "2/5"),
        ("⅗", "3/5"),
        ("⅘", "4/5"),
        ("⅙", "1/6"),
        ("⅚", "5/6"),
        ("⅛", "1/8"),
        ("⅜", "3/8"),
        ("⅝", "5/8"),
        ("⅞", "7/8"),
    ];
    let text = characters::plain(text).replace("\\$", "$");
    // Twice, because matches share digits.
    let once = SPACED.replace_all(&text, "${1}${2}");
    let text = SPACED.replace_all(&once, "${1}${2}");
    let text = RAISED.replace_all(&text, |found: &Captures| {
        let raised =
            found[0].chars().skip(1).map(|c| match RAISED_DIGITS.chars().position(|digit| digit == c) {
                Some(digit) => digit.to_string(),
                None => String::from(if c == '⁻' { "-" } else { "" }),
            });
        format!("{}^{{{}}}", &found[0][..1], raised.collect::<String>())
    });
    let text = VULGAR.replace_all(&text, |found: &Captures| {
        let fraction =
            FRACTIONS.iter().find(|(vulgar, _)| *vulgar == &found[0]).map_or("", |(_, plain)| plain);
        format!(" {fraction}")
    });
    text.into_owned()
}

/// A number in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub number: Number,
    /// The other value that the same words can mean: 1.5 for `1.5 million`, because the question may ask for
    /// millions, and 1/2 for `50%`.
    pub other: Option<Number>,
    /// A division that was not carried out: `36/2`.
    pub is_division: bool,
    /// `5th`.
    pub is_ordinal: bool,
    pub start: usize,
    pub end: usize,
}

impl Written {
    pub fn negated(self) -> Self {
        Self { number: self.number.negated(), other: self.other.map(Number::negated), ..self }
    }
}

/// All numbers of a text, in order. Exponents, indices, digits in names (`CO2`), times (`5:30`) and dates
/// (`1/2/2024`) are none.
pub(super) fn numbers(text: &str) -> impl Iterator<Item = Written> + '_ {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        let power = r"10(?:\^|\*\*)(?:\{\ ?(?P<NAME1>[-+]?\d{1,3})\ ?\}|\(?(?P<NAME2>[-+]?\d{1,3})\)?)";
        let (alone, factor) = (power.replace("NAME", "p"), power.replace("NAME", "s"));
        Regex::new(&format!(
            r"(?x)
            (?P<minus>-)?
            (?:(?P<currency>\b(?:USD|EUR|GBP|CAD|AUD|INR|Rs\.?|US|HK|RM)\ ?\$?|[$€£¥₹₽₩])\ ?)?
            (?P<inner>-)?
            (?: \\[dtc]?frac\s?(?:\{{\s?(?P<a>-?\d+)\s?\}}\s?\{{\s?(?P<b>\d+)\s?\}}|(?P<c>\d)\s?(?P<d>\d))
              | (?P<whole>\d+)(?:(?:\ |\ and\ )(?P<e>\d+)/(?P<f>\d+)
                  | \ ?\\[dtc]?frac\s?\{{(?P<g>\d+)\}}\{{(?P<h>\d+)\}})
              | {alone}
              | (?: (?P<continental>[1-9]\d{{0,2}}(?:(?:\.\d{{3}}){{2,}}(?:,\d+)?|(?:\.\d{{3}})+,\d+))
                  | (?P<plain>\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)? | \d{{1,2}}(?:,\d{{2}})+,\d{{3}}(?:\.\d+)?
                      | \d{{1,3}}(?:['’_]\d{{3}})+(?:\.\d+)? | \d*\.\d+ | \d+) )
                (?: [eE](?P<e10>[-+]?\d{{1,3}})\b | \ ?(?:\\times|\\cdot|[×·*xX])\ ?{factor} )?
                (?: \ ?/\ ?(?P<below>\d{{1,3}}(?:,\d{{3}})+|\d+) )? )
            (?P<ordinal>(?:st|nd|rd|th)\b)?
            (?: [\ -](?i:(?P<scale>hundred|thousand|million|billion|trillion|dozen))\b | (?P<kilo>k\b)
              | \ ?(?P<percent>\\?%) )?"
        ))
        .unwrap()
    });
    NUMBER.captures_iter(text).filter_map(move |found| written(text, &found))
}

fn written(text: &str, found: &Captures) -> Option<Written> {
    let whole = found.get(0)?;
    let (start, end) = (whole.start(), whole.end());
    let part = |name: &str| found.name(name).map(|part| part.as_str());
    let ratio = |above: &str, below: &str| Number::fraction(above.parse().ok()?, below.parse().ok()?);
    let (before, after) = (&text[..start], &text[end..]);
    let previous = before.chars().next_back();
    if part("currency").is_none() && is_no_number(before, whole.as_str(), after) {
        return None;
    }
    let mut is_division = false;
    let number = if let Some((above, below)) = part("a").zip(part("b")).or(part("c").zip(part("d"))) {
        is_division = true;
        ratio(above, below)?
    } else if let Some(whole) = part("whole") {
        let (above, below) = part("e").zip(part("f")).or(part("g").zip(part("h")))?;
        Number::mixed(whole, above, below)?
    } else if let Some(power) = part("p1").or(part("p2")) {
        Number::fraction(1, 1)?.times_ten_to(power.parse().ok()?)?
    } else {
        let digits = match part("continental") {
            Some(digits) => digits.replace('.', "").replace(',', "."),
            None => part("plain")?.replace([',', '\'', '’', '_'], ""),
        };
        let mut number = Number::decimal(&digits)?;
        if let Some(power) = part("e10").or(part("s1")).or(part("s2")) {
            number = number.times_ten_to(power.parse().ok()?)?;
        }
        if let Some(below) = part("below") {
            is_division = true;
            number = number.over(Number::decimal(&below.replace(',', ""))?)?;
        }
        number
    };
    let scale = part("scale").map(str::to_lowercase);
    let factor = match (scale.as_deref(), part("kilo"), part("percent")) {
        (Some("hundred"), ..) => Some(100),
        (Some("thousand"), ..) | (_, Some(_), _) => Some(1000),
        (Some("million"), ..) => Some(1_000_000),
        (Some("billion"), ..) => Some(1_000_000_000),
        (Some("trillion"), ..) => Some(1_000_000_000_000),
        (Some(_), ..) => Some(12),
        _ => None,
    };
    let scaled = factor.and_then(|factor| number.times(Number::fraction(factor, 1)?));
    let (number, other) = match (scaled, part("percent")) {
        (Some(scaled), _) => (scaled, Some(number)),
        (None, Some(_)) => (number, number.over(Number::fraction(100, 1)?)),
        (None, None) => (number, None),
    };
    let is_ordinal = part("ordinal").is_some();
    let is_division = is_division && number.is_whole();
    let written = Written { number, other, is_division, is_ordinal, start, end };
    // After an operand a minus subtracts, and after a letter it joins.
    let operand = previous.is_some_and(|c| c.is_alphanumeric() || ")]}%".contains(c));
    let em_dash = previous == Some('—') && before.trim_end_matches('—').ends_with(char::is_whitespace);
    let negative = part("minus").is_some() && !operand || part("inner").is_some() || em_dash;
    Some(if negative { written.negated() } else { written })
}

/// Whether digits between `before` and `after` count nothing.
fn is_no_number(before: &str, number: &str, after: &str) -> bool {
    let mut back = before.chars().rev();
    let (last, but_one) = (back.next(), back.next());
    let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
    let mut next = after.chars();
    let (first, second) = (next.next(), next.next());
    let in_name =
        last.is_some_and(|c| c.is_ascii_alphabetic() || c == '_') && !number.starts_with(['-', '\\']);
    let is_raised = last == Some('^') || last == Some('{') && matches!(but_one, Some('^' | '_'));
    let is_time = last == Some(':') && is_digit(but_one) || first == Some(':') && is_digit(second);
    let is_date = last == Some('/') && is_digit(but_one) || first == Some('/') && is_digit(second);
    let is_version = number.starts_with('.') && is_digit(last);
    in_name || is_raised || is_time || is_date || is_version
}
