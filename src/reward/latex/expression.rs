//! From tokens to one expression: the grammar of formulas.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};
use winnow::combinator::{expression, fail, peek, Infix, Postfix, Prefix};
use winnow::error::{ContextError, ErrMode};
use winnow::prelude::*;
use winnow::stream::{Stateful, Stream, TokenSlice};
use winnow::token::any;

use super::token::Token;
use super::words::Function;

/// A formula.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Expr {
    Number(BigRational),
    /// A whole number with a fraction beside it, and whether the fraction is in lowest terms.
    Mixed(BigRational, bool),
    /// A variable or a constant, by name.
    Letter(String),
    Negative(Box<Expr>),
    Sum(Box<Expr>, Box<Expr>),
    Product(Box<Expr>, Box<Expr>),
    Quotient(Box<Expr>, Box<Expr>),
    Power(Box<Expr>, Box<Expr>),
    /// Degree and radicand.
    Root(Box<Expr>, Box<Expr>),
    Apply(Function, Box<Expr>),
    /// Base and argument.
    Log(Box<Expr>, Box<Expr>),
    Absolute(Box<Expr>),
    Floor(Box<Expr>),
    Ceiling(Box<Expr>),
    Factorial(Box<Expr>),
    Binomial(Box<Expr>, Box<Expr>),
    Degrees(Box<Expr>),
    /// A function that is known by name only.
    Unknown(String, Box<Expr>),
}

impl Expr {
    pub(super) fn integer(value: i64) -> Self {
        Self::Number(BigRational::from_integer(value.into()))
    }

    /// `self` - `other`
    pub(super) fn minus(self, other: Self) -> Self {
        Self::Sum(self.into(), Self::Negative(other.into()).into())
    }

    /// The expressions it is made of.
    pub(super) fn parts(&self) -> Vec<&Self> {
        match self {
            Self::Number(_) | Self::Mixed(..) | Self::Letter(_) => vec![],
            Self::Negative(a)
            | Self::Apply(_, a)
            | Self::Absolute(a)
            | Self::Floor(a)
            | Self::Ceiling(a)
            | Self::Factorial(a)
            | Self::Degrees(a)
            | Self::Unknown(_, a) => vec![a],
            Self::Sum(a, b)
            | Self::Product(a, b)
            | Self::Quotient(a, b)
            | Self::Power(a, b)
            | Self::Root(a, b)
            | Self::Log(a, b)
            | Self::Binomial(a, b) => vec![a, b],
        }
    }

    /// Whether it is a number that nothing is left to do with: digits, a fraction in lowest terms, a mixed
    /// number, or a multiple of a power of ten.
    pub(super) fn is_written_out(&self) -> bool {
        match self {
            Self::Number(_) => true,
            Self::Mixed(_, lowest) => *lowest,
            Self::Negative(a) | Self::Degrees(a) => a.is_written_out(),
            Self::Quotient(a, b) => match (a.signed_integer(), b.signed_integer()) {
                (Some(a), Some(b)) if !b.is_zero() => {
                    let lowest = BigRational::new(a.clone(), b.clone());
                    !lowest.is_integer() && lowest.denom() == &b.abs()
                }
                _ => false,
            },
            Self::Product(a, b) => matches!(a.as_ref(), Self::Number(_)) && b.is_power_of_ten(),
            Self::Power(..) => self.is_power_of_ten(),
            _ => false,
        }
    }

    fn is_power_of_ten(&self) -> bool {
        matches!(self, Self::Power(base, power)
            if **base == Self::integer(10) && power.signed_integer().is_some())
    }

    fn signed_integer(&self) -> Option<BigInt> {
        match self {
            Self::Number(value) => value.is_integer().then(|| value.to_integer()),
            Self::Negative(a) => a.signed_integer().map(|a| -a),
            _ => None,
        }
    }
}

type Input<'a> = Stateful<TokenSlice<'a, Token>, u8>;
type Failure = ErrMode<ContextError>;
type Read<T> = winnow::Result<T, Failure>;

/// How deep formulas may nest.
const MAX_DEPTH: u8 = 60;

/// How many tokens a formula may have: as deep as that a chain of operators nests.
const MAX_TOKENS: usize = 500;

/// The expression that all of `tokens` are.
pub(super) fn parse(tokens: &[Token]) -> Option<Expr> {
    let size: usize = tokens.iter().map(Token::size).sum();
    if size > MAX_TOKENS {
        return None;
    }
    whole(tokens, 0).ok()
}

fn whole(tokens: &[Token], depth: u8) -> Read<Expr> {
    if depth > MAX_DEPTH {
        return fail.parse_next(&mut "");
    }
    let mut input = Input { input: TokenSlice::new(tokens), state: depth + 1 };
    let found = sum(&mut input)?;
    if input.input.is_empty() {
        Ok(found)
    } else {
        fail.parse_next(&mut input)
    }
}

const ADDITIVE: i64 = 10;
const MULTIPLICATIVE: i64 = 20;
const SIGN: i64 = 30;
const SCRIPT: i64 = 40;

fn sum(input: &mut Input) -> Read<Expr> {
    expression(operand).prefix(sign).postfix(postfix).infix(infix).parse_next(input)
}

/// Factors without a sign between them, as a function takes them.
fn factors<'a>(input: &mut Input<'a>) -> Read<Expr> {
    let beside = |input: &mut Input<'a>| match input.peek_token() {
        // The next function takes its own argument.
        Some(Token::Function(_)) => fail.parse_next(input),
        _ => juxtaposition(input),
    };
    expression(simple_operand).postfix(postfix).infix(beside).parse_next(input)
}

/// A run of signs is one.
fn sign<'a>(input: &mut Input<'a>) -> Read<Prefix<Input<'a>, Expr, Failure>> {
    let mut negative = None;
    while let Some(Token::Operator(c @ ('+' | '-'))) = input.peek_token() {
        any.parse_next(input)?;
        negative = Some(negative.unwrap_or(false) != (*c == '-'));
    }
    match negative {
        Some(true) => Ok(Prefix(SIGN, |_, a| Ok(Expr::Negative(a.into())))),
        Some(false) => Ok(Prefix(SIGN, |_, a| Ok(a))),
        None => fail.parse_next(input),
    }
}

fn infix<'a>(input: &mut Input<'a>) -> Read<Infix<Input<'a>, Expr, Failure>> {
    let operator = match input.peek_token() {
        Some(Token::Operator('+')) => {
            Infix::Left(ADDITIVE, |_, a, b| Ok(Expr::Sum(Box::new(a), Box::new(b))))
        }
        Some(Token::Operator('-')) => Infix::Left(ADDITIVE, |_, a: Expr, b| Ok(a.minus(b))),
        Some(Token::Operator('*')) => {
            Infix::Left(MULTIPLICATIVE, |_, a, b| Ok(Expr::Product(Box::new(a), Box::new(b))))
        }
        Some(Token::Operator('/')) => {
            Infix::Left(MULTIPLICATIVE, |_, a, b| Ok(Expr::Quotient(Box::new(a), Box::new(b))))
        }
        _ => return juxtaposition(input),
    };
    any.parse_next(input)?;
    Ok(operator)
}

/// The product that no sign marks.
fn juxtaposition<'a>(input: &mut Input<'a>) -> Read<Infix<Input<'a>, Expr, Failure>> {
    let next = peek(any).parse_next(input)?;
    if matches!(next, Token::Separator | Token::Operator(_) | Token::Power(_) | Token::Subscript(_)) {
        return fail.parse_next(input);
    }
    Ok(Infix::Left(MULTIPLICATIVE, |_, a, b| Ok(Expr::Product(Box::new(a), Box::new(b)))))
}

fn postfix<'a>(input: &mut Input<'a>) -> Read<Postfix<Input<'a>, Expr, Failure>> {
    let next = peek(any).parse_next(input)?;
    // The mark is taken with what it means: a parser of operators knows no arguments.
    match next {
        Token::Power(_) | Token::Operator('!' | '\'' | '°') => Ok(Postfix(SCRIPT, marked)),
        _ => fail.parse_next(input),
    }
}

/// Applies the power or the mark that follows.
fn marked(input: &mut Input, base: Expr) -> Read<Expr> {
    let depth = input.state;
    Ok(match any.parse_next(input)? {
        Token::Power(power) => Expr::Power(base.into(), whole(power, depth)?.into()),
        // Two marks are the double factorial, which is another function.
        Token::Operator('!') if input.peek_token() != Some(&Token::Operator('!')) => {
            Expr::Factorial(base.into())
        }
        Token::Operator('°') => Expr::Degrees(base.into()),
        Token::Operator('\'') => match base {
            Expr::Letter(name) => Expr::Letter(name + "'"),
            _ => return fail.parse_next(input),
        },
        _ => return fail.parse_next(input),
    })
}

fn operand(input: &mut Input) -> Read<Expr> {
    if let Some(Token::Function(function)) = input.peek_token() {
        any.parse_next(input)?;
        return application(input, *function);
    }
    simple_operand(input)
}

fn simple_operand(input: &mut Input) -> Read<Expr> {
    let depth = input.state;
    let inner = |tokens: &Vec<Token>| whole(tokens, depth).map(Box::new);
    Ok(match any.parse_next(input)? {
        Token::Number(digits) => number(input, digits)?,
        Token::Recurring { digits, period } => Expr::Number(recurring(digits, period)),
        Token::Letter(name) => letter(input, name)?,
        Token::Accent(name, tokens) => Expr::Letter(format!("{name} {tokens:?}")),
        Token::Word(letters) => {
            let product = |a, b: char| Expr::Product(Box::new(a), Expr::Letter(b.to_string()).into());
            let mut letters = letters.chars();
            let first = Expr::Letter(letters.next().map(String::from).unwrap_or_default());
            letters.fold(first, product)
        }
        Token::Group(tokens) => whole(tokens, depth)?,
        Token::Fenced('(', tokens, ')') | Token::Fenced('[', tokens, ']') => whole(tokens, depth)?,
        Token::Fenced('|', tokens, _) => Expr::Absolute(inner(tokens)?),
        Token::Fenced('⌊', tokens, _) => Expr::Floor(inner(tokens)?),
        Token::Fenced('⌈', tokens, _) => Expr::Ceiling(inner(tokens)?),
        Token::Fraction(above, below) => Expr::Quotient(inner(above)?, inner(below)?),
        Token::Binomial(above, below) => Expr::Binomial(inner(above)?, inner(below)?),
        Token::Root(degree, radicand) => {
            let degree = if degree.is_empty() { Box::new(Expr::integer(2)) } else { inner(degree)? };
            Expr::Root(degree, inner(radicand)?)
        }
        _ => return fail.parse_next(input),
    })
}

/// A variable with its index, or a function of which only the name is known, perhaps with a power as in f⁻¹(x).
fn letter(input: &mut Input, name: &str) -> Read<Expr> {
    let depth = input.state;
    if let Some(Token::Subscript(index)) = input.peek_token() {
        any.parse_next(input)?;
        return Ok(Expr::Letter(format!("{name} {index:?}")));
    }
    if !["f", "g", "h"].contains(&name) {
        return Ok(Expr::Letter(name.to_owned()));
    }
    let ahead: Vec<&Token> = input.input.iter().take(2).collect();
    let (name, argument, length) = match ahead.as_slice() {
        [Token::Fenced('(', argument, ')'), ..] => (name.to_owned(), argument.clone(), 1),
        [Token::Power(power), Token::Fenced('(', argument, ')')] => {
            (format!("{name} {power:?}"), argument.clone(), 2)
        }
        _ => return Ok(Expr::Letter(name.to_owned())),
    };
    for _ in 0..length {
        any.parse_next(input)?;
    }
    Ok(Expr::Unknown(name, whole(&argument, depth)?.into()))
}

fn decimal(digits: &str) -> BigRational {
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all: BigInt = format!("0{whole}{part}").parse().unwrap_or_default();
    BigRational::new(all, power_of_ten(part.len()))
}

fn power_of_ten(power: usize) -> BigInt {
    num_traits::pow(BigInt::from(10), power)
}

/// Digits, and the period that follows them without end.
fn recurring(digits: &str, period: &str) -> BigRational {
    let places = digits.split_once('.').map_or(0, |(_, part)| part.len());
    let repeated: BigInt = period.parse().unwrap_or_default();
    let nines = power_of_ten(period.len()) - BigInt::one();
    decimal(digits) + BigRational::new(repeated, nines * power_of_ten(places))
}

/// A number, with the proper fraction beside it that makes it a mixed one.
fn number(input: &mut Input, digits: &str) -> Read<Expr> {
    let value = decimal(digits);
    let ahead: Vec<&Token> = input.input.iter().take(3).collect();
    let (above, below, length) = match ahead.as_slice() {
        [Token::Fraction(above, below), ..] => match (above.as_slice(), below.as_slice()) {
            ([Token::Number(above)], [Token::Number(below)]) => (above, below, 1),
            _ => return Ok(Expr::Number(value)),
        },
        [Token::Number(above), Token::Operator('/'), Token::Number(below)] => (above, below, 3),
        // Two numbers side by side are not a product.
        [Token::Number(_) | Token::Recurring { .. }, ..] => return fail.parse_next(input),
        _ => return Ok(Expr::Number(value)),
    };
    let (above, below) = (decimal(above), decimal(below));
    if !value.is_integer() || !above.is_integer() || !below.is_integer() || above.is_zero() || above >= below
    {
        return fail.parse_next(input);
    }
    for _ in 0..length {
        any.parse_next(input)?;
    }
    let fraction = above / &below;
    let lowest = fraction.denom() == below.numer();
    Ok(Expr::Mixed(value + fraction, lowest))
}

/// A function with its power, its base and its argument.
fn application(input: &mut Input, function: Function) -> Read<Expr> {
    let depth = input.state;
    if depth > MAX_DEPTH {
        return fail.parse_next(input);
    }
    let (mut function, mut power, mut base) = (function, None, None);
    loop {
        match input.peek_token() {
            Some(Token::Power(tokens)) if power.is_none() => {
                any.parse_next(input)?;
                power = Some(whole(tokens, depth)?);
            }
            Some(Token::Subscript(tokens)) if base.is_none() && function == Function::Log => {
                any.parse_next(input)?;
                base = Some(whole(tokens, depth)?);
            }
            _ => break,
        }
    }
    if power == Some(Expr::Negative(Expr::integer(1).into())) {
        if let Some(inverse) = function.inverse() {
            (function, power) = (inverse, None);
        }
    }
    let argument = match input.peek_token() {
        Some(
            Token::Fenced('(', tokens, ')')
            | Token::Fenced('[', tokens, ']')
            | Token::Fenced('{', tokens, '}'),
        ) => {
            any.parse_next(input)?;
            whole(tokens, depth)?
        }
        Some(Token::Function(inner)) => {
            any.parse_next(input)?;
            input.state += 1;
            let argument = application(input, *inner)?;
            input.state = depth;
            argument
        }
        _ => factors(input)?,
    };
    let applied = match base {
        Some(base) => Expr::Log(base.into(), argument.into()),
        None => Expr::Apply(function, argument.into()),
    };
    Ok(match power {
        Some(power) => Expr::Power(applied.into(), power.into()),
        None => applied,
    })
}
