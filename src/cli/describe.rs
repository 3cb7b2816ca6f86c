//! `llama-svf describe`: an expert's file tells for which questions it is.

use std::path::PathBuf;

use super::inputs::AdaptedFiles;
use super::runtime_args::BatchArgs;
use super::{ctrl_c, printer};
use crate::dispatch::{describe, Description};
use crate::engine::ModelWithExperts;
use crate::error::{exit, Error, Result};
use crate::expert::profile::MAX_QUESTIONS;
use crate::expert::{self, Expert};
use crate::task::{LoadOptions, Part, Task};

/// Let an expert's file tell for which questions it is
///
/// The base model reads train questions of a task. A few typical ones become the expert's examples, which `--adapt prompt` shows
/// to the model, and what all of them do to the model's hidden states is what `--adapt nearest` compares new questions with.
/// `train` does this for the experts that it makes; this is for older ones, and for those that other questions suit better.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    llama-svf describe maths.expert.gguf -m model.gguf --svf model.svf.gguf --task gsm8k --data train.jsonl.gz\n  \
    llama-svf describe mine.expert.gguf -m model.gguf --svf model.svf.gguf --task my-task.toml -o new.expert.gguf\n  \
    llama-svf run -m model.gguf --svf model.svf.gguf --expert maths.expert.gguf --expert code.expert.gguf --adapt nearest \\\n    \
    --chat -p 'What is 3 * 4?'\n\n\
    A task whose prompts tell how to answer should say what users ask: question = \"{{ question }}\".")]
pub struct Args {
    /// The expert
    #[arg(value_name = "FILE")]
    expert: PathBuf,
    #[command(flatten)]
    files: AdaptedFiles,
    /// The task that it is for: a built-in one or a task file
    #[arg(long, value_name = "NAME|FILE")]
    task: String,
    /// Read the questions from here instead of the task's own files; may be repeated
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,
    #[command(flatten)]
    examples: ExamplesArg,
    /// What it is good at, in a line, in the place of what the file says
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Where it goes [default: the file itself]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file of that name
    #[arg(long, requires = "output")]
    force: bool,
    #[command(flatten)]
    batch: BatchArgs,
}

/// How many questions are shown as examples.
#[derive(clap::Args)]
pub struct ExamplesArg {
    /// Typical questions that the expert's file shows as examples, or none
    #[arg(long, value_name = "N", default_value = "8", value_parser = n_examples)]
    examples: usize,
}

impl ExamplesArg {
    /// How an expert is described, in the batches of `batch`.
    pub fn description(&self, batch: &BatchArgs) -> Result<Description> {
        Ok(Description {
            examples: self.examples,
            batch: batch.n_answers()?,
            n_threads: batch.model.n_threads()?,
            ..Description::default()
        })
    }
}

fn n_examples(word: &str) -> std::result::Result<usize, String> {
    match word {
        "none" => Ok(0),
        number => match number.parse() {
            Ok(n) if n <= MAX_QUESTIONS => Ok(n),
            _ => Err(format!("expected none or a number up to {MAX_QUESTIONS}")),
        },
    }
}

pub fn main(args: &Args) -> Result<u8> {
    let output = args.output.as_ref().unwrap_or(&args.expert);
    if args.output.is_some() && output.exists() && !args.force {
        return Err(Error::invalid("exists already").file(output).hint("--force replaces it"));
    }
    let mut expert = Expert::open(&args.expert)?;
    if let Some(description) = &args.description {
        expert::check_line(description).map_err(|error| error.field("--description"))?;
        expert.description.clone_from(description);
    }
    // Nothing is answered, so that nothing is run.
    let options = LoadOptions { data: args.data.clone(), allow_exec: true, ..LoadOptions::default() };
    let task = Task::load(&args.task, &options)?;
    let how = args.examples.description(&args.batch)?;
    let (adapted, _files) = args.files.open(&args.batch.model, how.n_threads)?;
    expert.check(adapted.sidecar())?;
    let joined = ModelWithExperts::residual(adapted, Vec::new());
    let bar = printer::Bar::new("describing");
    expert.profile = describe(&joined, task.items(Part::Train), &how, &bar, &ctrl_c::INTERRUPT)?;
    expert.save(output)?;
    let bytes = std::fs::metadata(output).map_err(|error| Error::io("cannot read", output, error))?.len();
    let n_states = expert.profile.states.as_ref().map_or(0, |states| states.own.len());
    printer::note(format_args!(
        "wrote {}: {} examples, {n_states} hidden states, {} KB",
        output.display(),
        expert.profile.questions.len(),
        bytes.div_ceil(1000)
    ));
    Ok(exit::DONE)
}
