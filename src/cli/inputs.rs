//! What the commands read that answer a task's questions: the task and the model.

use std::path::{Path, PathBuf};

use super::{ctrl_c, printer};
use crate::decompose::{decompose, DecomposeOptions};
use crate::embedded;
use crate::error::Result;
use crate::sidecar::Sidecar;
use crate::task::{LoadOptions, Task};

#[derive(clap::Args)]
pub struct TaskArgs {
    /// A built-in task or a task file; several with commas between are one shuffled stream
    #[arg(long, value_name = "NAME|FILE")]
    task: String,
    /// Read the items from here instead of the task's own files; may be repeated
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,
    /// Run the code that the model writes, or the task's own program, for tasks that are scored so
    #[arg(long)]
    allow_exec: bool,
}

impl TaskArgs {
    /// Loads the task, and tells what a user should know of it.
    pub fn load(&self) -> Result<Task> {
        let Self { data, allow_exec, .. } = self;
        let options = LoadOptions { data: data.clone(), allow_exec: *allow_exec, ..LoadOptions::default() };
        let task = Task::load(&self.task, &options)?;
        for note in task.notes() {
            printer::note(format_args!("note: {note}"));
        }
        Ok(task)
    }
}

/// A model's file.
pub enum ModelFile {
    Given(PathBuf),
    /// The embedded model's, which goes away with this value.
    Embedded(embedded::Temporary),
}

impl ModelFile {
    /// That of `-m`, or the embedded model's.
    pub fn new(model: Option<&Path>) -> Result<Self> {
        Ok(match model {
            Some(path) => Self::Given(path.to_path_buf()),
            None => Self::Embedded(embedded::Temporary::new()?),
        })
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Embedded(file) => file.path(),
        }
    }
}

/// The embedded model's sidecar: all weights, full rank.
pub fn embedded_sidecar(embedded: &embedded::Temporary, n_threads: u32) -> Result<Sidecar> {
    let options = DecomposeOptions::embedded(embedded, n_threads as usize);
    decompose(&options, &printer::Bar::new("decomposing"), &ctrl_c::INTERRUPT)?;
    Sidecar::open(&options.output)
}
