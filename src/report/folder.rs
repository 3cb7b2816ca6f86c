//! The folder of a report: `cells.jsonl` with what was measured, a lock, and the report's own files.
//!
//! `cells.jsonl` is a [`Journal`]: each line but the first is a cell, written when it is finished. A killed process loses
//! the cell at work, or of a search the generation at work.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::cells::{Answers, Cell, Search, Searching};
use crate::atomic;
use crate::error::{Error, Result};
use crate::resume::{Earlier, Journal, Lock, Work};

const SCHEMA: &str = "llama-svf/report-cells/2";
const CELLS: &str = "cells.jsonl";
const GO_ON: &str = "`Earlier::Resume` needs this report, with the settings it was begun with; `Earlier::Replace` starts over";
/// What a report can consist of; a new one takes an old one's away.
const FILES: [&str; 12] = [
    "report.md",
    "report.html",
    "report.json",
    "experts.svg",
    "strategies.svg",
    "dispatch-prompt.svg",
    "dispatch-classifier.svg",
    "dispatch-nearest.svg",
    "reliability-prompt.svg",
    "reliability-classifier.svg",
    "reliability-nearest.svg",
    "mixtures.svg",
];

/// An open folder.
pub struct Folder {
    path: PathBuf,
    cells: Vec<Cell>,
    journal: Journal,
    _lock: Lock,
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
        let lock = Lock::take(path, "another report is made here")?;
        // Another process may have been faster.
        Self::check(path, earlier)?;
        let work = Work { schema: SCHEMA, name: "report", settings };
        let cells_path = path.join(CELLS);
        let found = match earlier {
            Earlier::Resume => Journal::resume(&cells_path, work).map_err(|error| error.hint(GO_ON))?,
            Earlier::Refuse | Earlier::Replace => None,
        };
        let (journal, cells) = match found {
            Some(found) => found,
            None => {
                if matches!(contents(path)?, Contents::Report) {
                    for name in FILES {
                        remove(&path.join(name))?;
                    }
                }
                (Journal::create(&cells_path, work, &[] as &[Cell])?, Vec::new())
            }
        };
        Ok(Self { path: path.into(), cells, journal, _lock: lock })
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
        self.journal.append(&cell)?;
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
        false if names.iter().all(|name| name == Lock::FILE) => Contents::Nothing,
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
