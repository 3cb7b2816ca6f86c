//! The Jinja of all templates: strict about what is missing, nothing escaped, and with the methods and filters that
//! templates written for Python's Jinja use, such as those of lm-evaluation-harness.
//!
//! Values print as Python prints them (`True`, `None`, `['a']`). What Python's methods do to a list in place
//! (`append`, `pop`) is an error: values do not change.

use std::borrow::Cow;
use std::io::{self, Write};

use minijinja::value::{from_args, Kwargs, Rest, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, Value};
use minijinja_contrib::pycompat;
use regex::{Captures, Regex};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

use crate::reward::latex;

type Result<T> = std::result::Result<T, Error>;

/// An environment without templates.
pub fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    // Without it an error of a release build does not say what is undefined.
    environment.set_debug(true);
    environment.set_unknown_method_callback(method);
    minijinja_contrib::add_to_environment(&mut environment);
    environment.add_filter("regex_replace", regex_replace);
    environment.add_filter("boxed", boxed);
    environment.add_filter("tojson", to_json);
    environment
}

/// What went wrong, without the place.
pub fn plainly(error: &Error) -> String {
    match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    }
}

/// Methods of Python that `pycompat` does not know, or knows without keywords; all others are its own.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value> {
    if value.kind() == ValueKind::Seq && name == "index" {
        let (wanted,): (&Value,) = from_args(args)?;
        return position(
            value.try_iter()?.position(|item| item == *wanted),
            &format!("'{wanted}' is not in the list"),
        );
    }
    let Some(text) = value.as_str() else {
        return pycompat::unknown_method_callback(state, value, name, args);
    };
    match name {
        "index" | "rindex" => {
            let (wanted,): (&str,) = from_args(args)?;
            let at = if name == "index" { text.find(wanted) } else { text.rfind(wanted) };
            let at = at.map(|at| text[..at].chars().count());
            position(at, &format!("'{wanted}' is not in the text"))
        }
        "split" => split(args, |separator, most| {
            let args = [Value::from(separator), Value::from(most)];
            pycompat::unknown_method_callback(state, value, name, &args)
        }),
        "rsplit" => split(args, |separator, most| Ok(rsplit(text, separator, most))),
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            let is_first = name == "partition";
            let parts = if is_first { text.split_once(separator) } else { text.rsplit_once(separator) };
            Ok(Value::from_iter(match parts {
                Some((before, after)) => [before, separator, after],
                None if is_first => [text, "", ""],
                None => ["", "", text],
            }))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        "casefold" => {
            let () = from_args(args)?;
            Ok(text.to_lowercase().into())
        }
        "swapcase" => {
            let () = from_args(args)?;
            let swapped = |c: char| match c.is_uppercase() {
                true => c.to_lowercase().to_string(),
                false => c.to_uppercase().to_string(),
            };
            Ok(text.chars().map(swapped).collect::<String>().into())
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            Ok(format!("{sign}{}{digits}", fill("0", missing(text, width)?)).into())
        }
        "ljust" | "rjust" | "center" => {
            let (width, with): (usize, Option<&str>) = from_args(args)?;
            let n = missing(text, width)?;
            let left = match name {
                "ljust" => 0,
                "rjust" => n,
                // As Python rounds: the odd one goes left where the width is odd.
                _ => n / 2 + (n & width & 1),
            };
            let with = with.unwrap_or(" ");
            Ok(format!("{}{text}{}", fill(with, left), fill(with, n - left)).into())
        }
        _ => pycompat::unknown_method_callback(state, value, name, args),
    }
}

fn invalid(problem: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}

fn position(found: Option<usize>, problem: &str) -> Result<Value> {
    found.map(Value::from).ok_or_else(|| invalid(problem.to_owned()))
}

/// Calls `by` with the arguments of `split(sep=None, maxsplit=-1)`.
fn split(args: &[Value], by: impl FnOnce(Option<&str>, Option<i64>) -> Result<Value>) -> Result<Value> {
    let (rest, named): (Rest<Value>, Kwargs) = from_args(args)?;
    let (separator, most): (Option<&str>, Option<i64>) = from_args(&rest)?;
    let separator = match separator {
        None => named.get::<Option<&str>>("sep")?,
        given => given,
    };
    let most = match most {
        None => named.get::<Option<i64>>("maxsplit")?,
        given => given,
    };
    named.assert_all_used()?;
    if separator == Some("") {
        return Err(invalid("a text cannot be split at an empty one"));
    }
    by(separator, most.filter(|most| *most >= 0))
}

fn rsplit(text: &str, separator: Option<&str>, most: Option<i64>) -> Value {
    let n = most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX)).saturating_add(1);
    let mut parts: Vec<&str> = match separator {
        Some(separator) => text.rsplitn(n, separator).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = text.trim_end();
            while !rest.is_empty() {
                let cut = rest.rfind(char::is_whitespace).filter(|_| parts.len() + 1 < n);
                // A space has a width of its own.
                let begin = cut.map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8));
                parts.push(&rest[begin..]);
                rest = cut.map_or("", |at| rest[..at].trim_end());
            }
            parts
        }
    };
    parts.reverse();
    Value::from_iter(parts)
}

/// Characters that `text` has too few for `width`.
fn missing(text: &str, width: usize) -> Result<usize> {
    /// Nobody pads a line of a prompt further.
    const MAX_WIDTH: usize = 10_000;
    if width > MAX_WIDTH {
        return Err(invalid(format!("a width of at most {MAX_WIDTH}, not {width}")));
    }
    Ok(width.saturating_sub(text.chars().count()))
}

fn fill(with: &str, n: usize) -> String {
    with.repeat(n)
}

/// `{{ text | regex_replace('(a+)', 'b\\1') }}`, with references as Python's `re.sub` writes them; a `count` of 0
/// replaces all.
fn regex_replace(text: &str, pattern: &str, by: &str, count: Option<usize>, named: Kwargs) -> Result<String> {
    let count = match count {
        None => named.get::<Option<usize>>("count")?.unwrap_or(0),
        Some(count) => count,
    };
    named.assert_all_used()?;
    let pattern = Regex::new(pattern).map_err(|error| invalid(error.to_string()))?;
    let by = replacement(by, &pattern)?;
    let replaced = pattern.replacen(text, count, |found: &Captures| {
        by.iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Group(group) => found.get(*group).map_or("", |group| group.as_str()),
            })
            .collect::<String>()
    });
    Ok(replaced.into_owned())
}

/// Part of what a match is replaced by.
enum Piece {
    Text(String),
    Group(usize),
}

/// Reads `\1`, `\g<1>`, `\g<name>`, `\n`, `\t` and `\\`.
fn replacement(text: &str, pattern: &Regex) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        pieces.push(Piece::Text(before.to_owned()));
        let first = after.chars().next().ok_or_else(|| invalid("the replacement ends with a backslash"))?;
        let (name, next) = match after.strip_prefix("g<").and_then(|after| after.split_once('>')) {
            Some(named) => named,
            None if first.is_ascii_digit() => {
                let n = after.bytes().take(2).take_while(u8::is_ascii_digit).count();
                after.split_at(n)
            }
            None => {
                let literal = match first {
                    'n' => "\n",
                    't' => "\t",
                    '\\' => "\\",
                    _ => return Err(invalid(format!("a replacement has no '\\{first}'"))),
                };
                pieces.push(Piece::Text(literal.to_owned()));
                rest = &after[1..];
                continue;
            }
        };
        let known = name.parse().ok().filter(|group| *group < pattern.captures_len());
        let named = pattern.capture_names().position(|known| known == Some(name));
        let group = known.or(named).ok_or_else(|| invalid(format!("the pattern has no group '{name}'")))?;
        pieces.push(Piece::Group(group));
        rest = next;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

/// `{{ solution | boxed }}`: what the last `\boxed{…}` holds, as solutions of competition mathematics give it.
fn boxed(text: &str) -> Result<String> {
    let answer = latex::last_boxed(text).ok_or_else(|| invalid("the text has no \\boxed{…}"))?;
    Ok(answer.trim().to_owned())
}

/// `{{ value | tojson }}`, or `tojson(indent=2)`, with spaces where Python writes them. Jinja's own writes `<`, `>`, `&` and
/// `'` as escapes, for web pages; models are to see them as they are.
fn to_json(value: &Value, options: Kwargs) -> Result<String> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    let indent: Option<usize> = options.get("indent")?;
    options.assert_all_used()?;
    let mut json = Vec::new();
    let written = match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut json, Spaced)),
        Some(n) => {
            let spaces = b" ".repeat(n);
            value.serialize(&mut Serializer::with_formatter(&mut json, PrettyFormatter::with_indent(&spaces)))
        }
    };
    let wrong = |problem: String| Error::new(ErrorKind::InvalidOperation, problem);
    written.map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(json).map_err(|error| wrong(error.to_string()))
}

/// JSON in one line, with a space behind each comma and colon.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, is_first: bool) -> io::Result<()> {
        writer.write_all(if is_first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, is_first: bool) -> io::Result<()> {
        writer.write_all(if is_first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
