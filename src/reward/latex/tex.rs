//! From text to tokens: what TeX, or a reader of plain text, sees.
//!
//! Groups, brackets and the arguments of commands become trees; spacing, fonts, `$`, percent signs and units
//! go away; each thing has one way of being written. Text that does not nest properly has no tokens.

use std::sync::LazyLock;

use regex::Regex;
use winnow::combinator::{alt, delimited, opt, peek};
use winnow::error::{ContextError, ErrMode};
use winnow::prelude::*;
use winnow::stream::Stateful;
use winnow::token::{any, one_of, take_while};

use super::numeral::number;
use super::token::Token;
use super::words;

/// How deep brackets and arguments may nest.
const MAX_DEPTH: u8 = 40;

/// Where the lexer stands.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Place {
    depth: u8,
    /// Open round, square or set brackets, in which commas separate elements.
    pub(super) fences: u8,
    /// Inside `|…|`.
    pipe: bool,
    /// Inside a cell of an environment.
    cell: bool,
}

pub(super) type Input<'a> = Stateful<&'a str, Place>;
pub(super) type Read<T> = winnow::Result<T, ErrMode<ContextError>>;

pub(super) fn fail<T>() -> Read<T> {
    Err(ErrMode::Backtrack(ContextError::new()))
}

/// The tokens of a text.
pub(super) fn tokens(text: &str) -> Option<Vec<Token>> {
    static SCIENTIFIC: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^([-+]?[\d.]+)[eE]([-+]?\d{1,4})$").unwrap());
    static MERIDIEM: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b([aApP])\.\s?[mM]\b\.?").unwrap());
    let text = ascii(text);
    let text = text.trim();
    let text = SCIENTIFIC.replace(text, "${1}*10^{${2}}");
    let text = MERIDIEM.replace_all(&text, "${1}m");
    let mut input = Input { input: &text, state: Place::default() };
    let tokens = sequence(&mut input).ok()?;
    input.input.is_empty().then_some(tokens)
}

/// The text in TeX's own characters.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let c = match c {
            // The full-width forms of East Asian text.
            '\u{ff01}'..='\u{ff5e}' if c != '，' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
            c => c,
        };
        // A line above a digit: the digit repeats, with those before it that have one.
        if ['\u{304}', '\u{305}'].contains(&c) && out.ends_with(|c: char| c.is_ascii_digit()) {
            let digit = out.pop().unwrap_or_default();
            if out.ends_with('}') && out.contains("\\overline{") {
                out.pop();
            } else {
                out.push_str("\\overline{");
            }
            out.push(digit);
            out.push('}');
            continue;
        }
        match words::in_tex(c) {
            // Digits above or below the line that follow each other are one number.
            Some(tex) if tex.starts_with(['^', '_']) && tex.ends_with('}') && out.ends_with('}') => {
                let script = out.rfind('{').filter(|at| out[..*at].ends_with(&tex[..1]));
                if let Some(inner) = script.map(|at| &out[at + 1..out.len() - 1]) {
                    if inner.bytes().all(|c| c.is_ascii_digit()) {
                        out.pop();
                        out.push_str(&tex[2..]);
                        continue;
                    }
                }
                out.push_str(tex);
            }
            Some(tex) => out.push_str(tex),
            None => out.push(c),
        }
    }
    out
}

/// Runs `parser` one level deeper.
fn nested<'a, T>(
    input: &mut Input<'a>,
    change: impl FnOnce(&mut Place),
    parser: impl FnOnce(&mut Input<'a>) -> Read<T>,
) -> Read<T> {
    let outer = input.state;
    if outer.depth >= MAX_DEPTH {
        return fail();
    }
    input.state = Place { depth: outer.depth + 1, pipe: false, cell: false, ..outer };
    change(&mut input.state);
    let result = parser(input);
    input.state = outer;
    result
}

/// Tokens up to the end of the text, or to something that closes what is open.
fn sequence(input: &mut Input) -> Read<Vec<Token>> {
    let mut tokens = Vec::new();
    loop {
        take_while(0.., |c: char| c.is_whitespace() || c == '~' || c == '$' || c == '%').parse_next(input)?;
        let rest = input.input;
        let Some(next) = rest.chars().next() else { break };
        let closes = match next {
            '}' | ')' | ']' => true,
            '&' => input.state.cell,
            '|' => input.state.pipe && tokens.last().is_some_and(Token::ends_operand),
            '\\' => {
                let ends =
                    ["\\}", "\\rbrace", "\\rangle", "\\rfloor", "\\rceil", "\\rvert", "\\rVert", "\\end"];
                ends.iter().any(|end| rest.starts_with(end)) || input.state.cell && rest.starts_with("\\\\")
            }
            _ => false,
        };
        if closes {
            break;
        }
        token(input, &mut tokens)?;
    }
    Ok(tokens)
}

fn token(input: &mut Input, tokens: &mut Vec<Token>) -> Read<()> {
    let next = peek(any).parse_next(input)?;
    match next {
        '\\' => return command(input, tokens),
        '0'..='9' | '.' => return number(input, tokens),
        'a'..='z' | 'A'..='Z' => return word(input, tokens),
        '{' => return group(input).map(|group| push_group(tokens, group)),
        '(' | '[' => {
            let open = any.parse_next(input)?;
            let body = nested(input, |place| place.fences += 1, sequence)?;
            let close = one_of([')', ']']).parse_next(input)?;
            tokens.push(Token::Fenced(open, body, close));
        }
        '|' => {
            any.parse_next(input)?;
            let body = nested(input, |place| place.pipe = true, sequence)?;
            '|'.parse_next(input)?;
            tokens.push(Token::Fenced('|', body, '|'));
        }
        '^' => {
            any.parse_next(input)?;
            let power = script(input)?;
            push_power(tokens, power);
        }
        '_' => {
            any.parse_next(input)?;
            // Digits may stand in brackets before their base.
            if let Some(Token::Fenced('(', body, ')')) = tokens.last() {
                if let [digits @ Token::Number(_)] = body.as_slice() {
                    *tokens.last_mut().expect("the brackets") = digits.clone();
                }
            }
            // Without braces TeX takes one digit, but a base of two digits is written without, too.
            let base = matches!(tokens.last(), Some(Token::Number(_)));
            let below = if base { script(input)? } else { argument(input)? };
            tokens.push(Token::Subscript(below));
        }
        ',' | ';' => {
            any.parse_next(input)?;
            separate(tokens);
        }
        '*' => {
            // Python's power.
            if opt("**").parse_next(input)?.is_some() {
                let power = script(input)?;
                push_power(tokens, power);
            } else {
                any.parse_next(input)?;
                tokens.push(Token::Operator('*'));
            }
        }
        '<' if opt("<=").parse_next(input)?.is_some() => tokens.push(Token::Operator('≤')),
        '>' if opt(">=").parse_next(input)?.is_some() => tokens.push(Token::Operator('≥')),
        '!' if opt("!=").parse_next(input)?.is_some() => tokens.push(Token::Operator('≠')),
        '=' if opt("==").parse_next(input)?.is_some() => tokens.push(Token::Operator('=')),
        _ => {
            any.parse_next(input)?;
            tokens.push(Token::Operator(next));
        }
    }
    Ok(())
}

/// Several separators in a row are one.
fn separate(tokens: &mut Vec<Token>) {
    if tokens.last() != Some(&Token::Separator) {
        tokens.push(Token::Separator);
    }
}

/// Braces around one token change nothing.
fn push_group(tokens: &mut Vec<Token>, mut group: Vec<Token>) {
    match group.len() {
        0 => {}
        1 => tokens.append(&mut group),
        _ => tokens.push(Token::Group(group)),
    }
}

/// `^\circ` is a sign of its own, and `^{\prime}` another.
fn push_power(tokens: &mut Vec<Token>, power: Vec<Token>) {
    match power.as_slice() {
        [Token::Operator(mark @ ('°' | '\''))] => tokens.push(Token::Operator(*mark)),
        _ => tokens.push(Token::Power(power)),
    }
}

/// `{…}`
fn group(input: &mut Input) -> Read<Vec<Token>> {
    '{'.parse_next(input)?;
    let tokens = nested(input, |_| (), sequence)?;
    '}'.parse_next(input)?;
    Ok(tokens)
}

pub(super) fn spaces(input: &mut Input) -> Read<()> {
    take_while(0.., char::is_whitespace).void().parse_next(input)
}

/// What TeX takes as an argument: a group, a command with its own arguments, or one character.
fn argument(input: &mut Input) -> Read<Vec<Token>> {
    spaces(input)?;
    let next = peek(any).parse_next(input)?;
    match next {
        '{' => group(input),
        '0'..='9' => Ok(vec![Token::Number(any.parse_next(input)?.to_string())]),
        'a'..='z' | 'A'..='Z' => Ok(vec![Token::Letter(any.parse_next(input)?.to_string())]),
        '}' | ')' | ']' | ',' => fail(),
        _ => nested(
            input,
            |_| (),
            |input| {
                let mut tokens = Vec::new();
                token(input, &mut tokens)?;
                Ok(tokens)
            },
        ),
    }
}

/// What stands above the line: a group, or, as in plain text, a whole number with its sign.
fn script(input: &mut Input) -> Read<Vec<Token>> {
    spaces(input)?;
    let sign = opt('-').parse_next(input)?;
    let digits: &str = take_while(0.., |c: char| c.is_ascii_digit()).parse_next(input)?;
    let mut tokens = Vec::new();
    if sign.is_some() {
        tokens.push(Token::Operator('-'));
    }
    if digits.is_empty() {
        tokens.append(&mut argument(input)?);
    } else {
        tokens.push(Token::Number(digits.to_owned()));
    }
    Ok(tokens)
}

/// Letters in a row: a name that is known, a unit, single letters, or a word.
fn word(input: &mut Input, tokens: &mut Vec<Token>) -> Read<()> {
    const MIN_WORD: usize = 4;
    let letters: &str = take_while(1.., |c: char| c.is_ascii_alphabetic()).parse_next(input)?;
    let after_operand = tokens.last().is_some_and(Token::ends_operand);
    if words::is_conjunction(letters) {
        separate(tokens);
        return Ok(());
    }
    if let (Some(power), Some(Token::Number(_))) = (words::magnitude(letters), tokens.last()) {
        multiply(tokens, power);
        return Ok(());
    }
    if words::is_meridiem(letters) && after_operand {
        tokens.push(Token::Prose(letters.to_lowercase()));
        return Ok(());
    }
    if letters == "in" && input.input.trim_start().starts_with(['[', '(']) {
        tokens.push(Token::Operator('∈'));
        return Ok(());
    }
    if letters.len() == 1 {
        // The sign of a union, as typed.
        let fenced = matches!(tokens.last(), Some(Token::Fenced(..)));
        let union = letters == "U" && fenced && input.input.trim_start().starts_with(['[', '(']);
        tokens.push(if union { Token::Operator('∪') } else { Token::Letter(letters.to_owned()) });
        return Ok(());
    }
    let ends =
        input.input.trim_start().is_empty() || input.input.trim_start().starts_with([',', ')', '.', ';']);
    // Before its argument, sec is the secant.
    if after_operand && words::is_plain_unit(letters) && (ends || letters != "sec") {
        return unit_power(input);
    }
    if letters == "sqrt" {
        let radicand = radicand(input)?;
        tokens.push(Token::Root(Vec::new(), radicand));
    } else if let Some(function) = words::function(letters) {
        tokens.push(Token::Function(function));
    } else if let Some(letter) = words::plain_letter(letters) {
        tokens.push(Token::Letter(letter.to_owned()));
    } else if ["inf", "oo"].contains(&letters) {
        tokens.push(Token::Letter("infty".to_owned()));
    } else if letters.len() >= MIN_WORD {
        tokens.push(Token::Word(letters.to_owned()));
    } else {
        tokens.extend(letters.chars().map(|letter| Token::Letter(letter.to_string())));
    }
    Ok(())
}

/// Times a power of ten, as "million" says.
fn multiply(tokens: &mut Vec<Token>, power: u8) {
    let power = Token::Power(vec![Token::Number(power.to_string())]);
    tokens.extend([Token::Operator('*'), Token::Number("10".to_owned()), power]);
}

/// What plain `sqrt` takes: all of a bracket or of a number.
fn radicand(input: &mut Input) -> Read<Vec<Token>> {
    spaces(input)?;
    if !input.input.starts_with(|c: char| c.is_ascii_digit()) {
        return argument(input).map(unfenced);
    }
    let mut tokens = Vec::new();
    number(input, &mut tokens)?;
    Ok(tokens)
}

fn unfenced(tokens: Vec<Token>) -> Vec<Token> {
    match <[Token; 1]>::try_from(tokens) {
        Ok([Token::Fenced('(', body, ')')]) => body,
        Ok([token]) => vec![token],
        Err(tokens) => tokens,
    }
}

/// The power of a unit that was dropped.
fn unit_power(input: &mut Input) -> Read<()> {
    let digit = || one_of('1'..='4');
    opt((spaces, '^', spaces, alt((digit(), delimited('{', digit(), '}'))))).void().parse_next(input)
}

fn command(input: &mut Input, tokens: &mut Vec<Token>) -> Read<()> {
    '\\'.parse_next(input)?;
    let letters: &str = take_while(0.., |c: char| c.is_ascii_alphabetic()).parse_next(input)?;
    let name = if letters.is_empty() {
        let Some(first) = opt(any).parse_next(input)? else { return fail() };
        first.to_string()
    } else {
        letters.to_owned()
    };
    let name = name.as_str();
    if let Some(operator) = words::operator(name) {
        tokens.push(Token::Operator(operator));
        return Ok(());
    }
    if let Some(letter) = words::letter(name) {
        tokens.push(Token::Letter(letter.to_owned()));
        return Ok(());
    }
    if let Some(function) = words::function(name) {
        tokens.push(Token::Function(function));
        return Ok(());
    }
    if name == " " || words::is_among(words::SPACING, name) {
        if ["left", "right"].contains(&name) {
            spaces(input)?;
            opt('.').void().parse_next(input)?;
        }
        return Ok(());
    }
    if words::is_among(words::PROSE, name) {
        return prose(input, tokens);
    }
    if words::is_among(words::FONT, name) {
        return font(input, name, tokens);
    }
    match name {
        "\\" | "newline" | "wedge" | "land" | "lor" | "vee" => separate(tokens),
        "frac" | "dfrac" | "tfrac" | "cfrac" => {
            let above = argument(input)?;
            tokens.push(Token::Fraction(above, argument(input)?));
        }
        "binom" | "dbinom" | "tbinom" => {
            let above = argument(input)?;
            tokens.push(Token::Binomial(above, argument(input)?));
        }
        "sqrt" => {
            spaces(input)?;
            let degree = if input.input.starts_with('[') {
                '['.parse_next(input)?;
                let degree = nested(input, |_| (), sequence)?;
                ']'.parse_next(input)?;
                degree
            } else {
                Vec::new()
            };
            let radicand = unfenced(argument(input)?);
            tokens.push(Token::Root(degree, radicand));
        }
        "overline" | "bar" | "hat" | "widehat" | "tilde" | "dot" => {
            let mut inner = argument(input)?;
            // A segment is written with or without its line.
            let segment = inner.len() > 1 && inner.iter().all(|token| matches!(token, Token::Letter(_)));
            if segment {
                tokens.append(&mut inner);
            } else {
                let name = if name == "bar" { "overline" } else { name };
                tokens.push(Token::Accent(name.to_owned(), inner));
            }
        }
        "mathbb" => {
            let set = argument(input)?;
            let name = super::answer::words(&set).unwrap_or_default();
            tokens.push(Token::Letter(format!("mathbb {name}")));
        }
        "begin" => return environment(input, tokens),
        "{" | "lbrace" => {
            let body = nested(input, |place| place.fences += 1, sequence)?;
            alt(("\\}", "\\rbrace")).void().parse_next(input)?;
            tokens.push(Token::Fenced('{', body, '}'));
        }
        "langle" => fence(input, tokens, '⟨', &["\\rangle"], '⟩')?,
        "lfloor" => fence(input, tokens, '⌊', &["\\rfloor"], '⌋')?,
        "lceil" => fence(input, tokens, '⌈', &["\\rceil"], '⌉')?,
        "lvert" | "lVert" => fence(input, tokens, '|', &["\\rvert", "\\rVert"], '|')?,
        "vert" | "mid" | "|" | "Vert" => tokens.push(Token::Command("mid".to_owned())),
        _ => tokens.push(Token::Command(name.to_owned())),
    }
    Ok(())
}

fn fence(input: &mut Input, tokens: &mut Vec<Token>, open: char, closes: &[&str], close: char) -> Read<()> {
    let body = nested(input, |place| place.fences += 1, sequence)?;
    let Some(rest) = closes.iter().find_map(|close| input.input.strip_prefix(close)) else { return fail() };
    input.input = rest;
    tokens.push(Token::Fenced(open, body, close));
    Ok(())
}

/// What stands in braces, character by character.
fn verbatim<'a>(input: &mut Input<'a>) -> Read<&'a str> {
    spaces(input)?;
    let Some(end) = super::find::group_end(input.input) else { return fail() };
    let inner = &input.input[1..end - 1];
    input.input = &input.input[end..];
    Ok(inner)
}

/// `\text{…}`: joins elements, is a remark behind them, or is the answer or a part of it.
fn prose(input: &mut Input, tokens: &mut Vec<Token>) -> Read<()> {
    static QUANTITY: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^\s*(-?[\d.,/]*\d)\s+([A-Za-z][^\d]*)$").unwrap());
    let words = verbatim(input)?;
    if words::is_conjunction(words) {
        separate(tokens);
        return Ok(());
    }
    let (joined, words) = if words.trim_start().to_lowercase().starts_with("and ") {
        (true, &words.trim_start()[4..])
    } else {
        (false, words)
    };
    if joined {
        separate(tokens);
    }
    let rest = input.input.trim_start();
    let ends = rest.is_empty() || rest.starts_with([',', '}', ')', ']', '.', '$', '&', ';', '^']) || {
        rest.starts_with("\\\\") || rest.starts_with("\\}") || rest.starts_with("\\text")
    };
    let first = words.split_whitespace().next().unwrap_or_default();
    let words = match (words::magnitude(first), tokens.last()) {
        (Some(power), Some(Token::Number(_))) => {
            multiply(tokens, power);
            &words.trim_start()[first.len()..]
        }
        _ => words,
    };
    let letters = words.chars().filter(|c| c.is_alphabetic()).count();
    if words::is_meridiem(words) {
        tokens.push(Token::Prose(words.trim().to_lowercase()));
        return Ok(());
    }
    if let Some(found) = QUANTITY.captures(words) {
        // A number with its unit, all of it in prose.
        let (number, unit) = (found.get(1).map_or("", |part| part.as_str()), &found[2]);
        if tokens.is_empty()
            && (words::is_unit(unit) || unit.starts_with(char::is_lowercase) && unit.len() > 3)
        {
            return splice(input, number, tokens);
        }
    }
    if tokens.last().is_some_and(Token::ends_operand) && (words::is_unit(words) || ends && letters > 1) {
        return unit_power(input);
    }
    let is_prose = |word: &str| word.len() > 1 && !words::is_conjunction(word);
    if words.contains(['\\', '$']) || !words.split(|c: char| !c.is_alphabetic()).any(is_prose) {
        return splice(input, words, tokens);
    }
    tokens.push(Token::Prose(words.trim().to_owned()));
    Ok(())
}

/// Another font: a unit, or the same as without.
fn font(input: &mut Input, name: &str, tokens: &mut Vec<Token>) -> Read<()> {
    spaces(input)?;
    if !input.input.starts_with('{') {
        let mut inner = argument(input)?;
        tokens.append(&mut inner);
        return Ok(());
    }
    let inner = verbatim(input)?;
    let unit = inner.replace(['~', '\\', ',', '{', '}'], " ");
    let is_unit = ["mathrm", "operatorname", "mathit", "mathsf"].contains(&name) && words::is_unit(&unit);
    if is_unit && tokens.last().is_some_and(Token::ends_operand) {
        return unit_power(input);
    }
    splice(input, inner, tokens)
}

/// Reads `text` as if it stood here without its command.
fn splice(input: &mut Input, text: &str, tokens: &mut Vec<Token>) -> Read<()> {
    let inner = nested(
        input,
        |_| (),
        |outer| {
            let mut input = Input { input: text, state: outer.state };
            let tokens = sequence(&mut input)?;
            if input.input.is_empty() {
                Ok(tokens)
            } else {
                fail()
            }
        },
    )?;
    push_group(tokens, inner);
    Ok(())
}

/// `\begin{pmatrix}…\end{pmatrix}` and its like.
fn environment(input: &mut Input, tokens: &mut Vec<Token>) -> Read<()> {
    let name = verbatim(input)?.trim().trim_end_matches('*').to_owned();
    if name == "array" {
        spaces(input)?;
        if input.input.starts_with('{') {
            verbatim(input)?;
        }
    }
    let mut rows = vec![Vec::new()];
    nested(
        input,
        |_| (),
        |input| loop {
            let cell = nested(input, |place| place.cell = true, sequence)?;
            rows.last_mut().expect("at least one row").push(cell);
            match alt(("&", "\\\\", "\\end")).parse_next(input)? {
                "&" => {}
                "\\\\" => rows.push(Vec::new()),
                _ => return Ok(()),
            }
        },
    )?;
    verbatim(input)?;
    if rows.last().is_some_and(|row| row.iter().all(Vec::is_empty)) {
        rows.pop();
    }
    if ["aligned", "align", "gather", "gathered", "split", "equation"].contains(&name.as_str()) {
        for row in rows {
            tokens.extend(row.into_iter().flatten());
            separate(tokens);
        }
        return Ok(());
    }
    let is_determinant = name.starts_with(['v', 'V']);
    tokens.push(Token::Matrix(is_determinant, rows));
    Ok(())
}
