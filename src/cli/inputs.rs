//! What the commands read that answer a task's questions: the task and the model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;

use super::runtime_args::ChatModelArgs;
use super::{ctrl_c, printer};
use crate::engine::{AdaptedModel, Model};
use crate::error::{Error, Result};
use crate::sidecar::Sidecar;
use crate::task::{LoadOptions, Overrides, Part, Task};
use crate::{decompose, embedded};

#[derive(clap::Args)]
pub struct TaskArgs {
    /// A built-in task or a task file; several with commas between are one shuffled stream
    #[arg(long, value_name = "NAME|FILE")]
    task: String,
    #[command(flatten)]
    options: TaskOptions,
}

/// A model and its sidecar.
#[derive(clap::Args)]
pub struct AdaptedFiles {
    /// The model, a GGUF file [default: the embedded model]
    #[arg(short, long, value_name = "FILE", requires = "svf")]
    pub model: Option<PathBuf>,
    /// The model's sidecar, made by `llama-svf decompose` [default for the embedded model: all weights, full rank]
    #[arg(long, value_name = "FILE")]
    pub svf: Option<PathBuf>,
}

impl AdaptedFiles {
    /// The model with its sidecar, and what keeps temporary files in place.
    pub fn open(&self, how: &ChatModelArgs, n_threads: u32) -> Result<(Arc<AdaptedModel>, ModelFile)> {
        let sidecar = self.svf.as_deref().map(Sidecar::open).transpose()?;
        let file = ModelFile::new(self.model.as_deref())?;
        let sidecar = match (sidecar, &file) {
            (Some(sidecar), _) => sidecar,
            (None, ModelFile::Embedded(embedded)) => embedded_sidecar(embedded, n_threads)?,
            (None, ModelFile::Given(_)) => return Err(Error::expected("a sidecar", "none").field("--svf")),
        };
        let model = how.load(file.path())?;
        Ok((AdaptedModel::new(&model, sidecar)?, file))
    }
}

/// Of what a task's items are made, and whether scoring may run programs.
#[derive(clap::Args)]
pub struct DataArgs {
    /// Read the items from here instead of the task's own files; may be repeated
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,
    /// Run the code that the model writes, or the task's own program, for tasks that are scored so
    #[arg(long)]
    allow_exec: bool,
}

/// How a task is loaded.
#[derive(clap::Args)]
pub struct TaskOptions {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    overrides: OverrideArgs,
}

/// What stands over a task's own way to generate answers.
#[derive(clap::Args)]
pub struct OverrideArgs {
    /// Most tokens of one answer, over what the task says
    #[arg(long, value_name = "N", help_heading = "Answers")]
    max_tokens: Option<usize>,
    /// Give the model the prompts as they are, without its chat template
    #[arg(long, help_heading = "Answers")]
    no_chat: bool,
    /// What the chat's system message says, over what the task says
    #[arg(long, value_name = "TEXT", conflicts_with = "no_chat", help_heading = "Answers")]
    system: Option<String>,
}

impl OverrideArgs {
    pub fn overrides(&self) -> Overrides {
        let Self { max_tokens, no_chat, system } = self;
        Overrides { max_tokens: *max_tokens, no_chat: *no_chat, system: system.clone() }
    }
}

impl DataArgs {
    /// Loads the task `name`.
    pub fn load(&self, name: &str, overrides: Overrides) -> Result<Task> {
        let Self { data, allow_exec } = self;
        let options =
            LoadOptions { data: data.clone(), allow_exec: *allow_exec, overrides, ..LoadOptions::default() };
        Task::load(name, &options)
    }
}

impl TaskOptions {
    /// Loads the task `name`.
    pub fn load(&self, name: &str) -> Result<Task> {
        self.data.load(name, self.overrides.overrides())
    }
}

impl TaskArgs {
    /// Loads the task, and tells what a user should know of it.
    pub fn load(&self) -> Result<Task> {
        self.options.load(&self.task).inspect(tell_notes)
    }
}

/// Tells what a user should know of a task.
pub fn tell_notes(task: &Task) {
    for note in task.notes() {
        printer::note(format_args!("note: {note}"));
    }
}

/// Which of a task's parts.
#[derive(Clone, Copy, ValueEnum)]
pub enum PartFlag {
    Train,
    Validation,
    Test,
}

impl PartFlag {
    pub fn part(self) -> Part {
        match self {
            Self::Train => Part::Train,
            Self::Validation => Part::Validation,
            Self::Test => Part::Test,
        }
    }
}

/// Whether `model` can be asked as `task` wants it.
pub fn check_template(task: &Task, model: &Model) -> Result<()> {
    if !task.generation().chat {
        return Ok(());
    }
    model.check_chat_template().map_err(|error| {
        error.hint(format!(
            "the task {} asks in a chat: give one with --chat-template, such as chatml, or ask without one with --no-chat",
            task.name()
        ))
    })
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
    let bar = printer::Bar::new("decomposing");
    decompose::embedded(embedded, n_threads as usize, &bar, &ctrl_c::INTERRUPT)
}
