//! Numbers in English words: `eighteen`, `two hundred and five`, `minus three`, `two and a half`, `a dozen`.

use super::Number;

/// The number that a phrase begins with, after words such as "about"; and the other one that it may mean, as
/// `two` dozen.
pub(super) fn leading(phrase: &str) -> Option<(Number, Option<Number>)> {
    const AHEAD: [&str; 12] = [
        "a",
        "about",
        "an",
        "approximately",
        "around",
        "exactly",
        "just",
        "only",
        "roughly",
        "the",
        "total",
        "of",
    ];
    let words: Vec<String> = phrase
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    let mut rest = &words[words.iter().take_while(|word| AHEAD.contains(&word.as_str())).count()..];
    let negative = rest.first().is_some_and(|word| ["minus", "negative"].contains(&word.as_str()));
    rest = &rest[usize::from(negative)..];
    // Sum of the thousands and millions that are complete, and what stands behind them.
    let (mut sum, mut current, mut n_read, mut is_half) = (0i128, None, 0, false);
    let mut unscaled = None;
    while let Some(word) = rest.get(n_read) {
        let word = word.as_str();
        if let Some(small) = small(word) {
            current = Some(current.unwrap_or(0) + small);
            unscaled = None;
        } else if let Some(factor) = factor(word) {
            if current == Some(0) {
                return None;
            }
            unscaled = current.filter(|_| sum == 0);
            let scaled = i128::checked_mul(current.unwrap_or(1), factor)?;
            if factor > 100 {
                sum = sum.checked_add(scaled)?;
                current = Some(0);
            } else {
                current = Some(scaled);
            }
        } else if word == "and" && current.is_some() {
            let next = |ahead: usize| rest.get(n_read + ahead).map_or("", String::as_str);
            if next(1) == "a" && next(2) == "half" {
                is_half = true;
                n_read += 3;
                break;
            }
            if small(next(1)).is_none() {
                break;
            }
        } else {
            break;
        }
        n_read += 1;
        if n_read > 20 {
            return None;
        }
    }
    let whole = Number::fraction(sum.checked_add(current?)?, 1)?;
    let number = if is_half { whole.plus(Number::fraction(1, 2)?)? } else { whole };
    // "One of them", "one more": no count.
    let is_pronoun = n_read == 1 && rest[0] == "one" && rest.len() > 2;
    let signed = |number: Number| if negative { number.negated() } else { number };
    let other = unscaled.and_then(|unscaled| Number::fraction(unscaled, 1)).map(signed);
    (!is_pronoun).then_some((signed(number), other))
}

fn small(word: &str) -> Option<i128> {
    const ONES: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    let ones = ONES.iter().position(|one| *one == word);
    let found = ones.or_else(|| TENS.iter().position(|ten| *ten == word).map(|at| 10 * (at + 2)));
    found.and_then(|found| i128::try_from(found).ok())
}

fn factor(word: &str) -> Option<i128> {
    Some(match word {
        "dozen" => 12,
        "hundred" => 100,
        "thousand" => 1000,
        "million" => 1_000_000,
        "billion" => 1_000_000_000,
        _ => return None,
    })
}
