//! The folder of a report: `cells.jsonl` with what was measured, a lock, and the report's own files.
//!
//! The first line of `cells.jsonl` holds the settings and their hash, each other one a cell, written when it is
//! finished; a killed process loses the cell at work, or of a search the generation at work.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cells::{Answers, Cell, Search, Searching};
use crate::atomic;
use crate::error::{Error, Result};
use crate::train::{lock, Earlier, LOCK};

const SCHEMA: &str = "llama-svf/report-cells/1";
const CELLS: &str = "cells.jsonl";
/// What a report can consist of; a new one takes an old one's away.
const FILES: [&str; 8] = [
    "report.md",
    "report.html",
    "report.json",
    "experts.svg",
    "strategies.svg",
    "dispatch-prompt.svg",
    "dispatch-classifier.svg",
    "mixtures.svg",
];

#[derive(Serialize, Deserialize)]
struct Header {
    schema: String,
    settings: Value,
    /// Of the settings as JSON.
    hash: String,
}

/// An open folder.
pub struct Folder {
    path: PathBuf,
    cells: Vec<Cell>,
    file: File,
    /// Held while a report is made here; the system takes it back from whoever dies.
    _lock: File,
}

impl Folder {
    /// Checks, before anything is loaded, that `earlier` allows to write to `path`.
    ///
    /// # Errors
    /// It is no folder, or holds an earlier report or something else that is not to be touched.
    pub fn check(path: &Path, earlier: Earlier) -> Result<()> {
        let found = match fs::metadata(path) {
            Err(_) => return Ok(()),
            Ok(found) => found,
        };
        if !found.is_dir() {
            return Err(Error::expected("a folder", "a file").file(path).hint("choose another `path`"));
        }
        match (contents(path)?, earlier) {
            (Contents::Nothing, _) | (_, Earlier::Replace) | (Contents::Report, Earlier::Resume) => Ok(()),
            (Contents::Report, Earlier::Refuse) => Err(Error::invalid("an earlier report is there")
                .file(path)
                .hint("`Earlier::Resume` goes on with it, `Earlier::Replace` starts over")),
            (Contents::Else, _) => Err(Error::invalid("it holds something else than a report")
                .file(path)
                .hint("choose another `path`, or `Earlier::Replace` to write beside it")),
        }
    }

    /// Opens the folder at `path`, which is made if need be, for a report with these `settings`.
    ///
    /// # Errors
    /// Those of [`Self::check`], a report begun with other settings (the first is named), damaged cells, another process
    /// at work here, or files that cannot be written.
    pub fn open(path: &Path, earlier: Earlier, settings: &Value) -> Result<Self> {
        Self::check(path, earlier)?;
        fs::create_dir_all(path).map_err(|source| Error::io("cannot make a folder", path, source))?;
        let lock = lock(path, "another report is made here")?;
        // Another process may have been faster.
        Self::check(path, earlier)?;
        let cells_path = path.join(CELLS);
        let mut cells = None;
        if earlier == Earlier::Resume && cells_path.exists() {
            cells = read(&cells_path, settings)?;
        } else if matches!(contents(path)?, Contents::Report) {
            for name in FILES {
                remove(&path.join(name))?;
            }
        }
        if cells.is_none() {
            let text = settings.to_string();
            let hash = blake3::hash(text.as_bytes()).to_string();
            let header = Header { schema: SCHEMA.into(), settings: settings.clone(), hash };
            let line = to_line(&header)?;
            atomic::write(&cells_path, |out| out.write_all(line.as_bytes()))?;
        }
        let file = OpenOptions::new()
            .append(true)
            .open(&cells_path)
            .map_err(|source| Error::io("cannot write", &cells_path, source))?;
        Ok(Self { path: path.into(), cells: cells.unwrap_or_default(), file, _lock: lock })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `configuration` answered to `target`, if that is known.
    pub fn answers(&self, target: &str, configuration: &str) -> Option<&Answers> {
        self.cells.iter().find_map(|cell| match cell {
            Cell::Answers(answers) if answers.target == target && answers.configuration == configuration => {
                Some(answers)
            }
            _ => None,
        })
    }

    /// The mixture found for `target`, if that is known.
    pub fn search(&self, target: &str) -> Option<&Search> {
        self.cells.iter().find_map(|cell| match cell {
            Cell::Search(search) if search.target == target => Some(search),
            _ => None,
        })
    }

    /// The search for `target` as far as it has come.
    pub fn searching(&self, target: &str) -> Option<&Searching> {
        self.cells.iter().rev().find_map(|cell| match cell {
            Cell::Searching(searching) if searching.target == target => Some(searching),
            _ => None,
        })
    }

    /// Keeps a cell, at once.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, cell: Cell) -> Result<()> {
        let line = to_line(&cell)?;
        let cannot_write = |source| Error::io("cannot write", self.path.join(CELLS), source);
        self.file.write_all(line.as_bytes()).map_err(cannot_write)?;
        self.cells.push(cell);
        Ok(())
    }

    /// Writes the report's file `name`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        debug_assert!(FILES.contains(&name), "{name}");
        atomic::write(self.path.join(name), |out| out.write_all(text.as_bytes()))
    }
}

enum Contents {
    Nothing,
    Report,
    Else,
}

fn contents(path: &Path) -> Result<Contents> {
    let cannot_read = |source| Error::io("cannot read", path, source);
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(cannot_read)? {
        names.push(entry.map_err(cannot_read)?.file_name());
    }
    Ok(match names.iter().any(|name| name == CELLS) {
        true => Contents::Report,
        false if names.iter().all(|name| name == LOCK) => Contents::Nothing,
        false => Contents::Else,
    })
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("cannot replace", path, source))
        }
        _ => Ok(()),
    }
}

/// The finished cells; `None` where not even the settings are whole. A last line that is not complete is dropped.
fn read(path: &Path, settings: &Value) -> Result<Option<Vec<Cell>>> {
    let text = fs::read_to_string(path).map_err(|source| Error::io("cannot read", path, source))?;
    let complete = text.rfind('\n').map_or("", |end| &text[..=end]);
    let wrong = |number: usize, problem: String| {
        Error::invalid(problem)
            .file(path)
            .field(format!("line {number}"))
            .hint("it is damaged, or no report's; `Earlier::Replace` starts over")
    };
    let mut lines = complete.lines();
    let Some(first) = lines.next() else { return Ok(None) };
    let header: Header = serde_json::from_str(first).map_err(|error| wrong(1, error.to_string()))?;
    if header.schema != SCHEMA {
        return Err(wrong(1, format!("expected {SCHEMA}, found {}", header.schema)));
    }
    if blake3::hash(header.settings.to_string().as_bytes()).to_string() != header.hash {
        return Err(wrong(1, "the settings are not those that were written".into()));
    }
    for (name, expected) in settings.as_object().into_iter().flatten() {
        let found = header.settings.get(name).unwrap_or(&Value::Null);
        if found != expected {
            return Err(Error::invalid(format!("the report was begun with {found}, and this is {expected}"))
                .file(path)
                .field(name)
                .hint("`Earlier::Resume` needs the settings of the report; `Earlier::Replace` starts over"));
        }
    }
    let parse = |(i, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| wrong(i + 2, error.to_string()))
    };
    let cells = lines.enumerate().map(parse).collect::<Result<Vec<_>>>()?;
    if complete.len() < text.len() {
        let cannot_write = |source| Error::io("cannot write", path, source);
        let file = OpenOptions::new().write(true).open(path).map_err(cannot_write)?;
        file.set_len(complete.len() as u64).map_err(cannot_write)?;
    }
    Ok(Some(cells))
}

fn to_line(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string(value);
    Ok(text.map_err(|error| Error::engine(format!("cannot write JSON: {error}")))? + "\n")
}
