//! A light reading of Python text: its logical lines, the names they bind and use, and where code turns into
//! prose.
//!
//! This is no parser. Strings and comments are taken out, lines in brackets are joined, and regexes read the
//! rest: enough to tell which block of an answer defines a function. Whether it runs, python3 alone decides.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

/// Where strings and brackets stand open between lines.
#[derive(Clone, Default)]
pub(super) struct Scanner {
    /// The quote of an open string, and whether it is a triple one.
    string: Option<(char, bool)>,
    depth: usize,
    joined: bool,
}

impl Scanner {
    /// The line without comments and without what strings hold; quotes stay.
    pub fn line(&mut self, line: &str) -> String {
        let mut code = String::new();
        let mut rest = line;
        self.joined = false;
        while let Some(c) = rest.chars().next() {
            let triple = rest.starts_with("\"\"\"") || rest.starts_with("'''");
            let mut used = c.len_utf8();
            match self.string {
                Some(_) if c == '\\' => used += rest[used..].chars().next().map_or(0, char::len_utf8),
                Some((quote, is_triple)) if c == quote && (triple || !is_triple) => {
                    used = if is_triple { 3 } else { 1 };
                    code.push_str(&rest[..used]);
                    self.string = None;
                }
                Some(_) => {}
                None => match c {
                    '"' | '\'' => {
                        used = if triple { 3 } else { 1 };
                        code.push_str(&rest[..used]);
                        self.string = Some((c, triple));
                    }
                    '#' => break,
                    _ => {
                        self.joined = c == '\\' && rest[1..].trim().is_empty();
                        match c {
                            '(' | '[' | '{' => self.depth += 1,
                            ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
                            _ => {}
                        }
                        code.push(c);
                    }
                },
            }
            rest = &rest[used..];
        }
        if self.string.is_some_and(|(_, is_triple)| !is_triple) {
            self.string = None;
        }
        code
    }

    /// Whether a string is open that may span lines.
    pub fn in_string(&self) -> bool {
        self.string.is_some()
    }

    fn is_open(&self) -> bool {
        self.in_string() || self.depth > 0 || self.joined
    }
}

/// One statement, or the head of a compound one, without strings and comments.
pub(super) struct Line {
    /// Bytes of the text, from the beginning of its first line to the end of its last.
    pub start: usize,
    pub end: usize,
    /// Spaces in front; a tab counts as one.
    pub indent: usize,
    pub code: String,
}

impl Line {
    /// Nothing, or a comment.
    pub fn is_blank(&self) -> bool {
        self.code.is_empty()
    }
}

/// The logical lines of a text. Brackets that are never closed, as in prose, join no more than they can.
pub(super) fn lines(text: &str) -> Vec<Line> {
    /// No honest statement is longer.
    const MAX_JOINED: usize = 1000;
    let mut lines: Vec<Line> = Vec::new();
    let mut scanner = Scanner::default();
    let (mut start, mut n_joined) = (0, 0);
    for line in text.split_inclusive('\n') {
        let continues = scanner.is_open() && n_joined < MAX_JOINED;
        if !continues {
            scanner = Scanner::default();
        }
        let code = scanner.line(line);
        let end = start + line.len();
        if let Some(last) = lines.last_mut().filter(|_| continues) {
            last.code = format!("{} {}", last.code.trim_end_matches('\\'), code.trim()).trim().to_owned();
            last.end = end;
            n_joined += 1;
        } else {
            let indent = line.len() - line.trim_start_matches([' ', '\t']).len();
            lines.push(Line { start, end, indent, code: code.trim().to_owned() });
            n_joined = 0;
        }
        start = end;
    }
    lines
}

/// Builtins that demonstrations like to hide behind variables: a program that uses one means the builtin.
const HIDDEN_BUILTINS: [&str; 24] = [
    "all", "any", "bytes", "dict", "filter", "float", "hash", "id", "input", "int", "iter", "len", "list",
    "map", "max", "min", "next", "object", "range", "set", "str", "sum", "tuple", "type",
];

/// Whether `name` is a builtin that is often used as a name.
pub(super) fn is_builtin(name: &str) -> bool {
    HIDDEN_BUILTINS.contains(&name)
}

/// The names of a program.
#[derive(Default)]
pub(super) struct Names {
    /// Functions and classes that the top level defines.
    pub functions: BTreeSet<String>,
    /// What else the top level binds: variables and imports.
    pub variables: BTreeSet<String>,
    /// Whether it imports whatever a module has.
    pub imports_all: bool,
    /// Used, and bound nowhere in the program.
    pub free: BTreeSet<String>,
    /// Those of `free` that are called.
    pub called: BTreeSet<String>,
}

impl Names {
    pub fn of(text: &str) -> Self {
        static FUNCTION: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"^(?:(?:async\s+)?def|class)\s+(\w+)").unwrap());
        static PARAMETER: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"[(,]\s*\*{0,2}\s*([^\W\d]\w*)").unwrap());
        static IMPORT: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"^(?:from\s+[\w.]+\s+import|import)\s+(.*)").unwrap());
        static TARGET: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"\b(?:for\s+([\w\s,()*]+?)\s+in\b|as\s+(\w+)|lambda\s+([\w\s,*]+):|(\w+)\s*:=)")
                .unwrap()
        });
        static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[^\W\d]\w*").unwrap());
        static USE: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"(\.\s*|[(,]\s*)?\b([^\W\d]\w*)\s*(\(|==|=)?").unwrap());
        let mut names = Self::default();
        let mut bound = BTreeSet::new();
        let lines = lines(text);
        for line in &lines {
            let code = line.code.as_str();
            if let Some(found) = FUNCTION.captures(code) {
                if line.indent == 0 {
                    names.functions.insert(found[1].to_owned());
                }
                bound.insert(found[1].to_owned());
                bound.extend(PARAMETER.captures_iter(code).map(|found| found[1].to_owned()));
            } else if let Some(found) = IMPORT.captures(code) {
                names.imports_all |= found[1].trim() == "*";
                for name in found[1].trim_matches(['(', ')']).split(',') {
                    let name = name.rsplit(" as ").next().unwrap_or("").trim();
                    let name = name.split('.').next().unwrap_or("").to_owned();
                    if line.indent == 0 {
                        names.variables.insert(name.clone());
                    }
                    bound.insert(name);
                }
            } else if let Some(targets) = assigned(code) {
                for name in WORD.find_iter(targets) {
                    if line.indent == 0 {
                        names.variables.insert(name.as_str().to_owned());
                    }
                    bound.insert(name.as_str().to_owned());
                }
            }
            for found in TARGET.captures_iter(code) {
                let targets = found.iter().skip(1).flatten();
                bound.extend(
                    targets
                        .flat_map(|part| WORD.find_iter(part.as_str()))
                        .map(|name| name.as_str().to_owned()),
                );
            }
        }
        for line in lines.iter().filter(|line| !IMPORT.is_match(&line.code)) {
            for found in USE.captures_iter(&line.code) {
                let before = found.get(1).map_or("", |before| before.as_str().trim());
                let after = found.get(3).map_or("", |after| after.as_str());
                let is_keyword = before != "." && !before.is_empty() && after == "=";
                if before == "." || is_keyword || bound.contains(&found[2]) {
                    continue;
                }
                if after == "(" {
                    names.called.insert(found[2].to_owned());
                }
                names.free.insert(found[2].to_owned());
            }
        }
        names
    }
}

/// The targets of an assignment.
fn assigned(code: &str) -> Option<&str> {
    static ASSIGNED: LazyLock<Regex> = LazyLock::new(|| {
        let target = r"\*?[^\W\d][\w.]*(?:\[[^\]]*\])*";
        let operator = r"(?:[-+*/%&|^@]|//|\*\*|<<|>>)?";
        let pattern =
            format!(r"^(\(?{target}(?:\s*,\s*{target})*\)?)\s*,?\s*(?::[^=]+)?{operator}=(?:[^=]|$)");
        Regex::new(&pattern).unwrap()
    });
    Some(ASSIGNED.captures(code)?.get(1)?.as_str())
}

/// Whether a line begins something that only code begins like this.
fn begins_code(line: &Line) -> bool {
    static BEGINS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?x)^(?: (?:async\s+)?def\s+\w+\s*\( | class\s+\w+\s*[:(]
            | import\s+[\w.]+(?:\s+as\s+\w+|\s*,.*)?$ | from\s+[\w.]+\s+import\b | @\w[\w.]*(?:\(.*\))?$ )",
        )
        .unwrap()
    });
    BEGINS.is_match(&line.code)
}

/// Whether a line of the top level can be a statement. Prose cannot, or hardly.
fn is_statement(line: &Line) -> bool {
    static STATEMENT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r#"(?x)^(?:
            [)\]}"'@]
            | (?:if|elif|for|while|with|except|async)\b.*:
            | (?:else|try|finally)\s*:
            | (?:return|yield|raise|assert|pass|break|continue|del|global|nonlocal)\b
            | [^\W\d][\w.]*(?:\[[^\]]*\])*\(.*\)(?:\s*(?:[.\[;].*)?)?$ )"#,
        )
        .unwrap()
    });
    line.is_blank() || begins_code(line) || assigned(&line.code).is_some() || STATEMENT.is_match(&line.code)
}

/// Whether a text can be code from its first line on: indented, or nothing but statements.
pub(super) fn is_code(text: &str) -> bool {
    let lines = lines(text);
    lines.iter().any(|line| !line.is_blank())
        && lines.iter().all(|line| line.indent > 0 || is_statement(line))
}

/// The code of a text that has no fences: without the prose in front of it and behind it.
pub(super) fn without_prose(text: &str) -> &str {
    let lines = lines(text);
    let Some(first) = lines.iter().position(|line| !line.is_blank()) else { return text };
    let (mut start, mut margin) = (first, 0);
    if lines[first].indent == 0 && !is_statement(&lines[first]) {
        // At the margin, or else where Markdown indents code.
        let at_margin = |line: &Line| line.indent == 0 && begins_code(line);
        let begin = lines.iter().position(at_margin).or_else(|| lines.iter().position(begins_code));
        let Some(begin) = begin else { return text };
        margin = lines[begin].indent;
        let statements =
            lines[..begin].iter().rev().take_while(|line| line.indent == margin && is_statement(line));
        start = begin - statements.count();
    }
    let is_prose = |line: &&Line| {
        !line.is_blank() && (line.indent < margin || line.indent == margin && !is_statement(line))
    };
    let end = lines[start..].iter().find(is_prose).map_or(text.len(), |line| line.start);
    &text[if start == first { 0 } else { lines[start].start }..end]
}
