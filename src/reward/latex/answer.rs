//! From tokens to an answer: a list, a point, an interval, a set, a matrix, an equation, a name, or one
//! expression.

use super::expression::{self, Expr};
use super::token::Token;

/// What an answer says, and the tokens that say it.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) tokens: Vec<Token>,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Expression(Expr),
    /// Words, in small letters and without punctuation.
    Name(String),
    /// Elements in any order, with or without the braces of a set.
    List(Vec<Answer>),
    /// Elements in their order, between brackets: a point, a vector, an interval.
    Sequence(char, Vec<Answer>, char),
    Union(Vec<Answer>),
    /// A set without others.
    Difference(Vec<Answer>),
    /// `true` for a determinant.
    Matrix(bool, Vec<Vec<Answer>>),
    /// Sides, and the signs between them.
    Relation(Vec<Answer>, Vec<char>),
    /// Numbers with colons between them.
    Ratio(Vec<Answer>),
    /// Nothing of these: it equals what is written the same way.
    Unread,
}

/// How deep answers may nest.
const MAX_DEPTH: u8 = 12;

/// What all of `tokens` say.
pub(super) fn read(tokens: &[Token]) -> Answer {
    element(tokens, 0)
}

fn element(tokens: &[Token], depth: u8) -> Answer {
    let tokens = trimmed(tokens);
    if depth < MAX_DEPTH {
        if let Some(inner) = unwrapped(tokens) {
            return element(inner, depth + 1);
        }
    }
    let kind = if depth < MAX_DEPTH { kind(tokens, depth + 1) } else { Kind::Unread };
    Answer { tokens: tokens.to_vec(), kind }
}

/// Without the punctuation of a sentence.
fn trimmed(mut tokens: &[Token]) -> &[Token] {
    let is_punctuation = |token: &Token| matches!(token, Token::Separator | Token::Operator('.' | ':' | '?'));
    while let [first, rest @ ..] = tokens {
        if !is_punctuation(first) {
            break;
        }
        tokens = rest;
    }
    while let [rest @ .., last] = tokens {
        if !is_punctuation(last) {
            break;
        }
        tokens = rest;
    }
    tokens
}

/// What stands in brackets that change nothing.
fn unwrapped(tokens: &[Token]) -> Option<&[Token]> {
    match tokens {
        [Token::Group(inner)] => Some(inner),
        [Token::Fenced('(', inner, ')')] if !inner.contains(&Token::Separator) => Some(inner),
        [Token::Fenced('[', inner, ']')] if matches!(inner.as_slice(), [Token::Matrix(..)]) => Some(inner),
        _ => None,
    }
}

fn kind(tokens: &[Token], depth: u8) -> Kind {
    if tokens.is_empty() {
        return Kind::Unread;
    }
    if tokens.contains(&Token::Separator) {
        return Kind::List(elements(tokens, depth));
    }
    if tokens.iter().any(has_two_signs) {
        return Kind::List(both_signs(tokens).iter().map(|tokens| element(tokens, depth)).collect());
    }
    if let Some((sides, signs)) = relation(tokens) {
        let sides = sides.into_iter().map(|side| element(side, depth)).collect();
        return Kind::Relation(sides, signs);
    }
    let split = |sign: char| {
        let parts: Vec<_> = tokens.split(|token| *token == Token::Operator(sign)).collect();
        let all = parts.len() > 1 && parts.iter().all(|part| !part.is_empty());
        all.then(|| parts.into_iter().map(|part| element(part, depth)).collect())
    };
    if let Some(parts) = split('∪') {
        return Kind::Union(parts);
    }
    if let Some(parts) = split('∖') {
        return Kind::Difference(parts);
    }
    if let Some(parts) = split(':') {
        return Kind::Ratio(parts);
    }
    match tokens {
        [Token::Fenced('{', inner, '}')] if inner.is_empty() => {
            return Kind::Expression(Expr::Letter("emptyset".to_owned()));
        }
        [Token::Fenced('{', inner, '}')] if description(inner).is_some() => {
            return description(inner).map_or(Kind::Unread, |inner| element(inner, depth).kind);
        }
        [Token::Fenced('{', inner, '}')] => return Kind::List(elements(inner, depth)),
        [Token::Fenced(open @ ('(' | '[' | '⟨'), inner, close)] if inner.contains(&Token::Separator) => {
            let plain = |bracket: char| match bracket {
                '⟨' => '(',
                '⟩' => ')',
                other => other,
            };
            return Kind::Sequence(plain(*open), items(inner, depth), plain(*close));
        }
        [Token::Matrix(is_determinant, rows)] => {
            let row = |row: &Vec<Vec<Token>>| row.iter().map(|cell| element(cell, depth)).collect();
            return Kind::Matrix(*is_determinant, rows.iter().map(row).collect());
        }
        _ => {}
    }
    if let Some(name) = name(tokens) {
        return Kind::Name(name);
    }
    expression::parse(tokens).map_or(Kind::Unread, Kind::Expression)
}

/// What `\{x : …\}` says of x.
fn description(set: &[Token]) -> Option<&[Token]> {
    let mark = |token: &Token| *token == Token::Operator(':') || *token == Token::Command("mid".to_owned());
    match set {
        [Token::Letter(_), sign, rest @ ..] if mark(sign) => Some(rest),
        [Token::Letter(_), Token::Operator('∈'), Token::Letter(_), sign, rest @ ..] if mark(sign) => {
            Some(rest)
        }
        _ => None,
    }
}

/// The parts between separators.
fn items(tokens: &[Token], depth: u8) -> Vec<Answer> {
    let parts = tokens.split(|token| *token == Token::Separator).filter(|part| !part.is_empty());
    parts.map(|part| element(part, depth)).collect()
}

/// The elements of a list, of which `1 \pm \sqrt 2` is two.
fn elements(tokens: &[Token], depth: u8) -> Vec<Answer> {
    let both = |answer: Answer| match answer.kind {
        Kind::List(inner) if answer.tokens.iter().any(has_two_signs) => inner,
        _ => vec![answer],
    };
    items(tokens, depth).into_iter().flat_map(both).collect()
}

fn has_two_signs(token: &Token) -> bool {
    match token {
        Token::Operator('±' | '∓') => true,
        Token::Group(inner) | Token::Power(inner) => inner.iter().any(has_two_signs),
        Token::Fenced('(' | '[', inner, _) => {
            !inner.contains(&Token::Separator) && inner.iter().any(has_two_signs)
        }
        Token::Fraction(a, b) | Token::Root(a, b) => a.iter().chain(b).any(has_two_signs),
        _ => false,
    }
}

/// The tokens with the upper signs, and with the lower ones.
fn both_signs(tokens: &[Token]) -> [Vec<Token>; 2] {
    fn signed(tokens: &[Token], upper: bool) -> Vec<Token> {
        let all = |tokens: &[Token]| signed(tokens, upper);
        let one = |token: &Token| match token {
            Token::Operator('±') => Token::Operator(if upper { '+' } else { '-' }),
            Token::Operator('∓') => Token::Operator(if upper { '-' } else { '+' }),
            Token::Group(inner) => Token::Group(all(inner)),
            Token::Power(inner) => Token::Power(all(inner)),
            Token::Fenced(open, inner, close) => Token::Fenced(*open, all(inner), *close),
            Token::Fraction(a, b) => Token::Fraction(all(a), all(b)),
            Token::Root(a, b) => Token::Root(all(a), all(b)),
            other => other.clone(),
        };
        tokens.iter().map(one).collect()
    }
    [signed(tokens, true), signed(tokens, false)]
}

/// The sides of an equation, of an inequality or of a membership.
fn relation(tokens: &[Token]) -> Option<(Vec<&[Token]>, Vec<char>)> {
    let sign = |token: &Token| match token {
        Token::Operator(c) if "=<>≤≥≠≈≡∈".contains(*c) => Some(*c),
        _ => None,
    };
    let signs: Vec<char> = tokens.iter().filter_map(sign).collect();
    let sides: Vec<_> = tokens.split(|token| sign(token).is_some()).collect();
    let whole = !signs.is_empty() && sides.last().is_some_and(|side| !side.is_empty());
    whole.then_some((sides, signs))
}

/// The words that the tokens are.
fn name(tokens: &[Token]) -> Option<String> {
    let is_name = tokens.iter().any(|token| matches!(token, Token::Word(_) | Token::Prose(_)));
    words(tokens).filter(|words| is_name && !words.is_empty())
}

/// Letters, digits, colons and signs without what is between them; none if there is more than that.
pub(super) fn words(tokens: &[Token]) -> Option<String> {
    let mut all = String::new();
    for token in tokens {
        match token {
            Token::Letter(text) | Token::Word(text) | Token::Prose(text) | Token::Number(text) => all += text,
            Token::Operator(':') => all.push(':'),
            Token::Operator('-') if all.is_empty() => all.push('-'),
            Token::Operator('.' | '\'' | '-' | '?' | '"' | '“' | '”') => {}
            Token::Group(inner) => all += &words(inner)?,
            _ => return None,
        }
    }
    let letters = all.chars().filter(|c| c.is_alphanumeric() || ":-".contains(*c));
    Some(letters.flat_map(char::to_lowercase).collect())
}
