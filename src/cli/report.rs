//! `llama-svf report`: the tables of Transformer² for a model, its experts and tasks.

use std::path::{Path, PathBuf};

use super::experts::ExpertArgs;
use super::inputs::{check_template, ModelFile, OverrideArgs};
use super::runtime_args::BatchArgs;
use super::search_args::{Preset, SearchArgs};
use super::{ctrl_c, printer};
use crate::dispatch::{AdaptPrompt, Candidates, Dispatcher, Options, Reading, Strategy, CLASSIFIER};
use crate::engine::Model;
use crate::error::{exit, Error, Result};
use crate::eval::Runner;
use crate::expert::ExpertSet;
use crate::report::{Folder, Plan, Results, Targets};
use crate::resume::Earlier;
use crate::skills::Skill;
use crate::task::{presets, LoadOptions};

/// Measure experts and strategies on tasks, as a report
///
/// Each expert alone and each strategy (prompt, classifier, few-shot, the best single expert, an oracle) answers the test
/// items of every task, and of all seen tasks as one shuffled stream. FOLDER gets the tables of Transformer² (arXiv
/// 2501.06252) as report.md, report.html and report.json, with pictures, and cells.jsonl, from which an interrupted
/// report goes on.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    llama-svf report                                     the embedded model, its experts and tasks\n  \
    llama-svf report -m model.gguf --svf model.svf.gguf --expert maths.expert.gguf --expert code.expert.gguf \\\n    \
    --task maths.toml,code.toml --unseen hard-maths.toml -n 200 -o my-report\n\n\
    A task's own expert is the one called as the task; rename experts with --expert NAME=FILE.")]
pub struct Args {
    /// The model, a GGUF file [default: the embedded model, with its experts and tasks]
    #[arg(short, long, value_name = "FILE", requires = "task")]
    model: Option<PathBuf>,
    /// Tasks that experts were trained on: built-in tasks or task files, with commas between [default: the embedded
    /// model's]
    #[arg(long, value_name = "TASK,TASK", value_delimiter = ',')]
    task: Vec<String>,
    /// Tasks that no expert was trained on
    #[arg(long, value_name = "TASK,TASK", value_delimiter = ',', requires = "task")]
    unseen: Vec<String>,
    /// Run the code that the model writes, for tasks that are checked so
    #[arg(long)]
    allow_exec: bool,
    #[command(flatten)]
    overrides: OverrideArgs,
    /// Ask the first N test items of each task only
    #[arg(short = 'n', long = "items", value_name = "N")]
    n_items: Option<usize>,
    /// Where the report goes
    #[arg(short, long, value_name = "FOLDER", default_value = "report")]
    output: PathBuf,
    /// Go on with the report that was interrupted
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Replace a report, or write beside something else
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    experts: ExpertArgs,

    /// The expert that names skills; it is never chosen itself
    #[arg(long, value_name = "NAME", default_value = CLASSIFIER, help_heading = "Choosing")]
    classifier: String,
    /// Ask for the choice with this Jinja template instead of our own
    #[arg(long, value_name = "FILE", help_heading = "Choosing")]
    adapt_prompt: Option<PathBuf>,
    /// Give choices that are less sure than this, from 0 to 1, to the base model
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    #[arg(help_heading = "Choosing")]
    threshold: f64,

    #[command(flatten)]
    search: SearchArgs,

    #[command(flatten)]
    batch: BatchArgs,
    /// Print the numbers, which are those of report.json
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args) -> Result<u8> {
    // What can be wrong with flags and files is found before a model of many gigabytes is loaded.
    let search = args.search.options(Preset::Light);
    search.check()?;
    args.experts.chosen.refuse_mixture("report")?;
    let (batch, n_threads) = (args.batch.n_answers()?, args.batch.model.n_threads()?);
    let earlier = Earlier::of_flags(args.resume, args.force);
    Folder::check(&args.output, earlier)?;
    let prompt = args.adapt_prompt.as_deref().map(AdaptPrompt::read).transpose()?;
    let targets = args.targets()?;

    let file = ModelFile::new(args.model.as_deref())?;
    let adapter = args.experts.adapter(&file, n_threads)?;
    let model = args.batch.model.load(file.path())?;
    targets.targets.iter().try_for_each(|target| check_template(&target.task, &model))?;
    let joined = adapter.join(&model)?;
    let experts = joined.expert_set()?;
    if experts.names().is_empty() {
        return Err(Error::expected("1 expert or more", 0).field("--expert"));
    }
    let dispatchers = args.dispatchers(&model, &experts, prompt)?;
    let runner = Runner::new(&model, Some(&joined), batch, n_threads);
    let name = name(args.model.as_deref());
    let plan = Plan::new(runner, &targets, &experts, &args.classifier, &dispatchers, &search, &name)?;
    let mut folder = Folder::open(&args.output, earlier, &plan.settings()?)?;
    plan.measure(&mut folder, &printer::Bar::new("measuring"), &ctrl_c::INTERRUPT).map_err(|error| {
        if error.is_interrupted() {
            error.hint("--resume goes on from here")
        } else {
            error
        }
    })?;

    let results = Results::new(&plan, &folder)?;
    results.write(&folder)?;
    results.notes.iter().for_each(|note| printer::note(format_args!("note: {note}")));
    match args.json {
        true => printer::print_json(&results)?,
        false => printer::print(&format!("{}\n", args.output.join("report.html").display()))?,
    }
    Ok(exit::DONE)
}

fn name(model: Option<&Path>) -> String {
    match model {
        None => "the embedded model".into(),
        Some(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

impl Args {
    fn targets(&self) -> Result<Targets> {
        let embedded = |ending: &str| Skill::ALL.iter().map(|skill| format!("{skill}{ending}")).collect();
        let (seen, unseen) = match self.task.is_empty() {
            true => (embedded(""), embedded("-unseen")),
            false => (self.task.clone(), self.unseen.clone()),
        };
        if let Some(preset) = seen.iter().chain(&unseen).find(|name| presets::text(name).is_some()) {
            return Err(Error::invalid("a preset has no data of its own")
                .field(format!("task {preset}"))
                .hint(format!("write a task file with base = \"{preset}\" and its data")));
        }
        let options = LoadOptions {
            allow_exec: self.allow_exec,
            overrides: self.overrides.overrides(),
            ..LoadOptions::default()
        };
        Targets::load(&seen, &unseen, self.n_items, &options)
    }

    /// The strategies that choose for each question, as far as the experts allow it.
    fn dispatchers(
        &self,
        model: &Model,
        experts: &ExpertSet,
        prompt: Option<AdaptPrompt>,
    ) -> Result<Vec<Dispatcher>> {
        let dispatcher = |strategy| {
            let prompt = match &prompt {
                Some(prompt) => prompt.clone(),
                None => AdaptPrompt::suited(model, &Candidates::new(experts.iter(), &self.classifier)?),
            };
            let options = Options {
                strategy,
                classifier: self.classifier.clone(),
                reading: Reading::Labels,
                threshold: self.threshold,
                blend: false,
            };
            Dispatcher::new(experts, prompt, options)
        };
        Strategy::possible(experts, &self.classifier).into_iter().map(dispatcher).collect()
    }
}
