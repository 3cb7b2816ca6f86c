//! How numbers are written: thousands separators, decimal points, digits that repeat for ever.

use std::sync::LazyLock;

use regex::Regex;
use winnow::combinator::{alt, delimited, opt, peek, preceded, repeat};
use winnow::prelude::*;
use winnow::token::{any, take_while};

use super::tex::{fail, spaces, Input, Read};
use super::token::Token;

fn digits<'a>(input: &mut Input<'a>) -> Read<&'a str> {
    take_while(1.., |c: char| c.is_ascii_digit()).parse_next(input)
}

/// A number, or the points of an ellipsis.
pub(super) fn number(input: &mut Input, tokens: &mut Vec<Token>) -> Read<()> {
    let mut written = whole(input)?;
    if let Some(part) = opt(preceded('.', digits)).parse_next(input)? {
        written = format!("{written}.{part}");
    } else if let Some(period) = opt(preceded('.', period)).parse_next(input)? {
        tokens.push(Token::Recurring { digits: written + ".", period });
        return Ok(());
    }
    if written.is_empty() {
        let point = any.parse_next(input)?;
        return ellipsis(input, point).map(|token| tokens.push(token));
    }
    if written.contains('.') {
        if let Some(period) = opt(period).parse_next(input)? {
            tokens.push(Token::Recurring { digits: written, period });
            return Ok(());
        }
        if opt(alt(("...", "\\ldots", "\\dots", "\\cdots"))).parse_next(input)?.is_some() {
            match recurring(&written) {
                Some(token) => tokens.push(token),
                None => tokens.extend([Token::Number(written), Token::Operator('…')]),
            }
            return Ok(());
        }
    }
    tokens.push(Token::Number(written));
    Ok(())
}

/// `...` that goes on a list, or a point alone.
fn ellipsis(input: &mut Input, point: char) -> Read<Token> {
    let more: Option<&str> = opt("..").parse_next(input)?;
    Ok(Token::Operator(if more.is_some() { '…' } else { point }))
}

/// Digits before the point, in groups of three or in one.
fn whole(input: &mut Input) -> Read<String> {
    static COMMAS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^[1-9]\d{0,2}(?:,\d{3})+").unwrap());
    if input.state.fences == 0 {
        if let Some(found) = COMMAS.find(input.input) {
            let rest = &input.input[found.end()..];
            let goes_on = rest.strip_prefix(',').unwrap_or(rest).starts_with(|c: char| c.is_ascii_digit());
            if !goes_on {
                input.input = rest;
                return Ok(found.as_str().replace(',', ""));
            }
        }
    }
    let first: &str = take_while(0.., |c: char| c.is_ascii_digit()).parse_next(input)?;
    let mut whole = first.to_owned();
    if (1..=3).contains(&first.len()) && !first.starts_with('0') {
        let more: Vec<&str> = repeat(0.., three).parse_next(input)?;
        more.iter().for_each(|more| whole.push_str(more));
    }
    Ok(whole)
}

/// A space, or TeX's comma without one, and three more digits.
fn three<'a>(input: &mut Input<'a>) -> Read<&'a str> {
    alt((",\\!", "{,}", "\\,", "\\!", "\\ ", "\\;", "\\:", "~", " ")).parse_next(input)?;
    spaces(input)?;
    let digits = digits.verify(|digits: &str| digits.len() == 3).parse_next(input)?;
    // The fraction of a mixed number is no group of digits.
    let over: Option<char> = opt(peek(preceded(spaces, '/'))).parse_next(input)?;
    if over.is_some() {
        return fail();
    }
    Ok(digits)
}

/// `\overline{3}`, `\bar 3`, `\dot{3}`
fn period(input: &mut Input) -> Read<String> {
    alt(("\\overline", "\\bar", "\\dot")).parse_next(input)?;
    spaces(input)?;
    let one = take_while(1..=1, |c: char| c.is_ascii_digit());
    let period: &str =
        alt((delimited('{', preceded(spaces, digits), (spaces, '}')), one)).parse_next(input)?;
    Ok(period.to_owned())
}

/// The number that 0.333… or 0.1666… goes on to be: its last digits, twice the same at least, repeat.
fn recurring(written: &str) -> Option<Token> {
    const LONGEST: usize = 12;
    let part = written.split_once('.')?.1;
    let period = (1..=LONGEST.min(part.len() / 2)).find(|&length| {
        let (rest, last) = part.split_at(part.len() - length);
        rest.ends_with(last)
    })?;
    let period = &part[part.len() - period..];
    Some(Token::Recurring { digits: written.to_owned(), period: period.to_owned() })
}
