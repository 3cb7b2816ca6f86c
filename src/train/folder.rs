//! The folder `NAME.train` beside an expert or a LoRA: its checkpoint, its log, its report.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::checkpoint;
use super::log::{self, Line, Log};
use super::options::Options;
use super::parametrisation::Weight;
use super::state::State;
use crate::error::{Error, Result};
use crate::resume::{Earlier, Lock};

/// Where a run leaves its files.
#[derive(Debug)]
pub struct Folder {
    output: PathBuf,
    path: PathBuf,
    lock: Option<Lock>,
}

impl Folder {
    /// The folder of the run that makes `output`; nothing is written yet. `maths.expert.gguf` has `maths.train`, and
    /// `maths.lora.gguf`, which may lie beside it, `maths.lora.train`.
    pub fn of(output: &Path) -> Self {
        let name = output.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let stem =
            [".expert.gguf", ".gguf"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(&name);
        Self { output: output.into(), path: output.with_file_name(format!("{stem}.train")), lock: None }
    }

    /// Checks that the output and the folder can be written, and that `earlier` allows it.
    ///
    /// # Errors
    /// Which of these does not hold.
    pub fn check(&self, earlier: Earlier) -> Result<()> {
        let Self { output, path, .. } = self;
        if output.exists() && !output.is_file() {
            return Err(Error::expected("the name of a file to write", "a folder or device").file(output));
        }
        if path.exists() && !path.is_dir() {
            return Err(Error::expected("a folder", "a file").file(path).hint("choose another `output`"));
        }
        // The only sure way to know is to write something.
        let parent = match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let hint = "choose another `output`";
        tempfile::tempfile_in(parent)
            .map_err(|source| Error::io("cannot write", output, source).hint(hint))?;
        if path.is_dir() {
            tempfile::tempfile_in(path)
                .map_err(|source| Error::io("cannot write", path, source).hint(hint))?;
        }
        if earlier == Earlier::Refuse && self.checkpoint().exists() {
            return Err(Error::invalid("an earlier run is there")
                .file(path)
                .hint("`Earlier::Resume` goes on with it, `Earlier::Replace` starts over"));
        }
        let is_of_this_run = earlier == Earlier::Resume && self.checkpoint().exists();
        if output.exists() && earlier != Earlier::Replace && !is_of_this_run {
            return Err(Error::invalid("exists already").file(output).hint("`Earlier::Replace` replaces it"));
        }
        Ok(())
    }

    /// Makes the folder and opens its log: for a new run, or for the one that the checkpoint holds.
    ///
    /// # Errors
    /// A checkpoint of another run, a damaged one, files that cannot be written, or another process at work here.
    pub fn open(
        &mut self,
        earlier: Earlier,
        options: &Options,
        settings: &Value,
        weights: &[Weight],
    ) -> Result<(Log, State)> {
        let cannot_make = |source| Error::io("cannot make a folder", &self.path, source);
        std::fs::create_dir_all(&self.path).map_err(cannot_make)?;
        self.lock = Some(Lock::take(&self.path, "another run is at work here")?);
        if earlier == Earlier::Resume && self.checkpoint().exists() {
            let lengths = options.parametrisation.lengths(weights);
            let state = checkpoint::load(&self.checkpoint(), options, settings, &lengths)?;
            return Ok((Log::resume(&self.log(), settings, &state)?, state));
        }
        // An old checkpoint goes first: a kill between the two must not leave it beside a new log.
        match std::fs::remove_file(self.checkpoint()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("cannot replace", self.checkpoint(), error));
            }
            _ => {}
        }
        Ok((Log::create(&self.log(), settings)?, State::new(options, weights)))
    }

    /// The setting `name` of the run that the checkpoint holds, if there is one.
    ///
    /// # Errors
    /// The checkpoint cannot be read, or is damaged.
    pub fn setting(&self, name: &str) -> Result<Option<Value>> {
        let path = self.checkpoint();
        Ok(if path.exists() { checkpoint::settings(&path)?.get(name).cloned() } else { None })
    }

    /// Keeps `state`.
    ///
    /// # Errors
    /// It cannot be written; the one before is still there.
    pub fn save(&self, state: &State, settings: &Value) -> Result<()> {
        checkpoint::save(&self.checkpoint(), state, settings)
    }

    /// All lines of the log.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn history(&self) -> Result<Vec<Line>> {
        log::read(&self.log())
    }

    /// The expert, or the LoRA.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state of the run.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join("checkpoint")
    }

    /// JSON lines.
    pub fn log(&self) -> PathBuf {
        self.path.join("log.jsonl")
    }

    /// For people.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_lies_beside_the_expert() {
        for (output, folder) in [
            ("a/b.expert.gguf", "a/b.train"),
            ("a/b.lora.gguf", "a/b.lora.train"),
            ("b.c.gguf", "b.c.train"),
            ("plain", "plain.train"),
        ] {
            assert_eq!(Folder::of(Path::new(output)).path(), Path::new(folder));
        }
    }
}
