//! Task files, read: TOML in, settings out, with the line of whatever is wrong.
//!
//! A file with `base` is laid over the file or preset that it names, before anything is read as settings. The
//! tables `generation`, `split` and `reward` are joined key by key; everything else that a file gives stands in the
//! place of what the base gives. A `reward` of another kind takes no key from the base's, and another `prompt` not the
//! base's `question`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::{DeTable, DeValue, Deserializer};
use toml::Spanned;

use super::file::TaskFile;
use super::presets;
use crate::error::{Error, Result};

/// A task file is a page of text; more is a mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Tables that are joined key by key.
const JOINED: [&str; 3] = ["generation", "split", "reward"];

/// Where the settings of a task come from: knows in which file and on which line a key stands.
#[derive(Clone, Debug)]
pub struct Source {
    /// The bases, the first of them first, and at last the file itself.
    files: Vec<File>,
    /// By dotted name, such as `split.train`: where the key stands, counted through all files.
    keys: BTreeMap<String, usize>,
}

/// A file's text, and how many bytes of others come before it.
#[derive(Clone, Debug)]
struct File {
    /// The file, or "preset NAME".
    path: PathBuf,
    text: String,
    begin: usize,
}

impl Source {
    /// Names file, line and key in `error`; `key` is dotted, such as `split.train`.
    pub fn blame(&self, key: &str, error: Error) -> Error {
        error.field(key).file(self.at(self.position(key)))
    }

    /// The folder of the file that gives `key`: what its paths are relative to.
    pub fn folder_of(&self, key: &str) -> &Path {
        let file = self.position(key).map_or_else(|| self.files.last(), |at| self.file(at));
        file.map_or(Path::new(""), File::folder)
    }

    /// The file itself, or "preset NAME", and then what it is based on.
    pub fn names(&self) -> Vec<String> {
        self.files.iter().rev().map(|file| file.path.display().to_string()).collect()
    }

    /// Where `key` stands, or else the table around it.
    fn position(&self, mut key: &str) -> Option<usize> {
        loop {
            if let Some(&at) = self.keys.get(key) {
                return Some(at);
            }
            key = key.rsplit_once('.')?.0;
        }
    }

    fn file(&self, at: usize) -> Option<&File> {
        self.files.iter().rev().find(|file| file.begin <= at)
    }

    /// `FILE:LINE` of a position, or of the file itself.
    fn at(&self, position: Option<usize>) -> PathBuf {
        let own = || self.files.last().map(|file| (file, file.begin));
        let found = position.and_then(|at| Some((self.file(at)?, at)));
        let Some((file, at)) = found.or_else(own) else { return PathBuf::new() };
        PathBuf::from(format!("{}:{}", file.path.display(), file.line(at)))
    }

    /// The settings, from the tables of all files.
    fn read(mut self) -> Result<(TaskFile, Self)> {
        // Spaces in front put the positions of a file behind those of its bases.
        let texts: Vec<_> = self.files.iter().map(|file| " ".repeat(file.begin) + &file.text).collect();
        let mut joined = DeTable::new();
        let mut whole = 0..0;
        for text in &texts {
            let table = DeTable::parse(text).map_err(|error| self.explain(&error))?;
            whole = table.span();
            join(&mut joined, table.into_inner());
        }
        index(&joined, "", &mut self.keys);
        let file = TaskFile::deserialize(Deserializer::from(Spanned::new(whole, joined)))
            .map_err(|error| self.explain(&error))?;
        Ok((file, self))
    }

    /// An error of the TOML reader, in our words.
    fn explain(&self, error: &toml::de::Error) -> Error {
        let span = error.span().filter(|span| !span.is_empty());
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
        if let Some((unknown, known)) = unknown {
            let hint = did_you_mean(unknown, known.split('`').skip(1).step_by(2));
            // Within a table with kinds the reader knows the table's place only.
            let within = |at: &usize| span.as_ref().is_none_or(|span| *at >= span.start);
            let is_named = |key: &str| key.rsplit('.').next() == Some(unknown);
            let key =
                self.keys.iter().filter(|(key, at)| is_named(key) && within(at)).map(|(_, &at)| at).min();
            let at = key.or(span.map(|span| span.start));
            let error = Error::invalid(message.clone()).file(self.at(at)).field(unknown);
            return match hint {
                Some(hint) => error.hint(hint),
                None => error,
            };
        }
        // A wrong value is named by the key in front of it.
        let key = span.as_ref().and_then(|span| self.key_before(span));
        let error = Error::invalid(message).file(self.at(span.map(|span| span.start)));
        match key {
            Some(key) => error.field(key),
            None => error,
        }
    }

    fn key_before(&self, span: &Range<usize>) -> Option<String> {
        let file = self.file(span.start)?;
        let at = span.start - file.begin;
        let line = file.text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
        let key = file.text[line..].split(['=', '\n']).next()?.trim();
        (!key.is_empty()).then(|| key.to_owned())
    }
}

impl File {
    fn open(path: &Path) -> Result<Self> {
        let cannot_read = |source| Error::io("cannot read", path, source);
        let found = std::fs::metadata(path).map_err(cannot_read)?;
        if !found.is_file() || found.len() > MAX_FILE_BYTES {
            return Err(
                Error::invalid(format!("expected a task file of at most {MAX_FILE_BYTES} bytes")).file(path)
            );
        }
        Ok(Self {
            path: path.to_owned(),
            text: std::fs::read_to_string(path).map_err(cannot_read)?,
            begin: 0,
        })
    }

    fn preset(name: &str) -> Result<Self> {
        let text = presets::text(name).ok_or_else(|| {
            Error::expected(format!("a preset ({})", presets::names().join(", ")), format!("'{name}'"))
        })?;
        Ok(Self { path: PathBuf::from(format!("preset {name}")), text: text.to_owned(), begin: 0 })
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// The line of a position that is counted through all files.
    fn line(&self, at: usize) -> usize {
        let end = at.saturating_sub(self.begin).min(self.text.len());
        1 + self.text.as_bytes()[..end].iter().filter(|&&c| c == b'\n').count()
    }

    /// What the file is based on, and the place where it says so. Another type is found when all is read.
    fn base(&self) -> Option<(String, PathBuf)> {
        let table = DeTable::parse(&self.text).ok()?;
        let (key, base) = table.get_ref().get_key_value("base")?;
        let place = format!("{}:{}", self.path.display(), self.line(key.span().start));
        Some((base.get_ref().as_str()?.to_owned(), place.into()))
    }
}

/// Lays `own` over `joined`.
fn join<'a>(joined: &mut DeTable<'a>, own: DeTable<'a>) {
    // A base's name is its own.
    joined.remove("name");
    joined.remove("base");
    // Another prompt asks another question.
    if own.contains_key("prompt") {
        joined.remove("question");
    }
    for (key, mut value) in own {
        let below = joined.remove(key.get_ref().as_ref());
        if let (true, DeValue::Table(own), Some(DeValue::Table(below))) =
            (JOINED.contains(&key.get_ref().as_ref()), value.get_mut(), below.map(Spanned::into_inner))
        {
            let kind = |table: &DeTable| Some(table.get("kind")?.get_ref().as_str()?.to_owned());
            let is_other = kind(own).is_some_and(|kind_of_own| kind(&below) != Some(kind_of_own));
            for (key, value) in below {
                if !is_other && !own.contains_key(key.get_ref().as_ref()) {
                    own.insert(key, value);
                }
            }
        }
        joined.insert(key, value);
    }
}

/// Notes where the keys of `table`, whose name is `prefix`, stand.
fn index(table: &DeTable, prefix: &str, keys: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        if let DeValue::Table(inner) = value.get_ref() {
            index(inner, &format!("{name}."), keys);
        }
        keys.insert(name, key.span().start);
    }
}

/// A hint at the known name that `found` is a misspelling of, if there is one.
pub fn did_you_mean<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let near = known.map(|name| (strsim::damerau_levenshtein(found, name), name)).min();
    near.filter(|(distance, _)| *distance <= 2).map(|(_, name)| format!("did you mean {name}?"))
}

/// Whether a task is named by its file.
pub fn is_path(name: &str) -> bool {
    name.ends_with(".toml") || name.contains('/')
}

/// Reads the task file at `path` and what it is based on.
pub fn read(path: &Path) -> Result<(TaskFile, Source)> {
    let (mut file, source) = chain(File::open(path)?)?.read()?;
    if file.name.is_none() {
        file.name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    }
    Ok((file, source))
}

/// The preset `name`.
pub fn preset(name: &str) -> Result<(TaskFile, Source)> {
    let (mut file, source) = chain(File::preset(name)?)?.read()?;
    file.name = Some(name.to_owned());
    Ok((file, source))
}

/// The file with all that it is based on.
fn chain(file: File) -> Result<Source> {
    let mut files = vec![file];
    while let Some((base, place)) = files.last().and_then(File::base) {
        let blame = |error: Error| error.field("base").file(&place);
        let next = match is_path(&base) {
            true => File::open(&files[files.len() - 1].folder().join(&base))
                .map_err(|error| error.field("base"))?,
            false => File::preset(&base).map_err(blame)?,
        };
        let canonical = |file: &File| file.path.canonicalize().unwrap_or_else(|_| file.path.clone());
        if files.iter().any(|file| canonical(file) == canonical(&next)) {
            return Err(blame(Error::invalid("the file is based on itself")));
        }
        files.push(next);
    }
    files.reverse();
    let mut begin = 0;
    for file in &mut files {
        file.begin = begin;
        // Two files do not touch, so that the end of one is not the beginning of the next.
        begin += file.text.len() + 1;
    }
    Ok(Source { files, keys: BTreeMap::new() })
}
