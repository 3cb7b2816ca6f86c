//! `llama-svf train`: an expert learnt from rewards.

mod finished;

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use finished::Finished;
use serde_json::{json, Value};

use super::experts::FormFlag;
use super::inputs::{check_template, embedded_sidecar, ModelFile, TaskArgs};
use super::runtime_args::BatchArgs;
use super::{ctrl_c, printer};
use crate::engine::{AdaptedModel, Placement};
use crate::error::{Error, Result};
use crate::expert;
use crate::optimiser::Shape;
use crate::resume::Earlier;
use crate::sidecar::Sidecar;
use crate::task::{Item, Part, Task};
use crate::train::{
    Estimator, Evolution, Exact, Folder, ModelOptions, ModelPolicy, Options, Parametrisation, Policy,
    RandomReward, Run,
};

/// Train an expert by reinforcement, from a task's rewards alone
///
/// In each step the model answers some of the task's train questions several times at temperature 1. Answers that
/// score better than the others to the same question become more likely: the multipliers of the singular values
/// are moved along the gradient. The model itself never changes. What does best on the validation questions is
/// kept as the expert; measure it on the test questions with `llama-svf eval`.
///
/// Ctrl-C keeps everything in the folder NAME.train beside the output, with a log and a report with learning
/// curves; --resume goes on exactly where the run stopped.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    llama-svf train --task math -o math.expert.gguf          the embedded model, in minutes\n  \
    llama-svf train -m model.gguf --svf model.svf.gguf --task gsm8k --data train=gsm8k/train.jsonl.gz \\\n    \
    -o maths.expert.gguf --description 'grade-school maths'\n  \
    llama-svf train -m model.gguf --svf model.svf.gguf --task my-task.toml -o mine.expert.gguf --resume\n  \
    llama-svf eval -m model.gguf --svf model.svf.gguf --expert maths.expert.gguf --use maths --against base --task gsm8k\n\n\
    If the reward does not rise: a lower --lr where it jumps, a higher one where it creeps; more --samples where few\n\
    questions are informative (answered both rightly and wrongly). A question that the model never answers rightly\n\
    teaches nothing. --kl keeps an expert closer to the base model.")]
pub struct Args {
    /// The model, a GGUF file [default: the embedded model]
    #[arg(short, long, value_name = "FILE", requires = "svf")]
    model: Option<PathBuf>,
    /// The model's sidecar, made by `llama-svf decompose` [default for the embedded model: all weights, full rank]
    #[arg(long, value_name = "FILE")]
    svf: Option<PathBuf>,
    #[command(flatten)]
    task: TaskArgs,
    /// The expert to write; its run is kept in NAME.train beside it
    #[arg(short, long, value_name = "NAME.expert.gguf")]
    output: PathBuf,
    /// Name of the expert [default: that of the output]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What it is good at, in a line; dispatch reads it [default: the task's description]
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Go on with the run that the output's folder holds
    #[arg(long)]
    resume: bool,
    /// Replace an expert or a run that is there
    #[arg(long, conflicts_with = "resume")]
    force: bool,

    /// Steps [default: 150; 200 with --reference]
    #[arg(long, value_name = "N", help_heading = "Learning")]
    steps: Option<u64>,
    /// Questions per step [default: 32; 256 with --reference]
    #[arg(long, value_name = "N", help_heading = "Learning")]
    prompts: Option<usize>,
    /// Answers to each question, which are each other's baseline [default: 8]
    #[arg(long, value_name = "K", help_heading = "Learning", conflicts_with = "reference")]
    samples: Option<usize>,
    /// Highest rate of learning [default: 0.01; 0.002 with --reference]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, help_heading = "Learning")]
    lr: Option<f64>,
    /// What the rate does after the warm-up [default: cosine; constant with --reference]
    #[arg(long, value_enum, help_heading = "Learning")]
    schedule: Option<ShapeFlag>,
    /// Steps over which the rate rises from 0 [default: 5; 0 with --reference]
    #[arg(long, value_name = "N", help_heading = "Learning")]
    warmup: Option<u64>,
    /// Shorten longer gradients to this norm [default: 1; 0.001 with --reference]
    #[arg(long, value_name = "NORM", allow_negative_numbers = true, help_heading = "Learning")]
    clip: Option<f64>,
    /// Pull of each parameter to where it began, per unit of rate
    #[arg(long, value_name = "X", default_value_t = 0.0, help_heading = "Learning")]
    #[arg(allow_negative_numbers = true)]
    decay: f64,
    /// Weight of the penalty on the KL divergence from the base model, per token
    #[arg(long, value_name = "X", default_value_t = 0.0, help_heading = "Learning")]
    #[arg(allow_negative_numbers = true)]
    kl: f32,
    /// Temperature of the answers [default: 1; 0 with --reference]
    #[arg(long, value_name = "T", allow_negative_numbers = true, help_heading = "Learning")]
    temp: Option<f32>,
    /// Seed of everything random [default: 0; 42 with --reference]
    #[arg(short, long, value_name = "N", help_heading = "Learning")]
    seed: Option<u64>,
    /// What is trained [default: multiplier; reference with --reference]
    #[arg(long, value_enum, help_heading = "Learning")]
    parametrisation: Option<ParametrisationFlag>,
    /// Learn as the code that was released with the paper does
    #[arg(long, help_heading = "Learning")]
    reference: bool,
    /// Where gradients come from
    #[arg(long, value_enum, default_value_t = EstimatorFlag::Auto, help_heading = "Learning")]
    estimator: EstimatorFlag,
    /// What rewards answers: the task, or a coin (a control: what is learnt so is noise)
    #[arg(long, value_enum, default_value_t = RewardFlag::Task, help_heading = "Learning")]
    reward: RewardFlag,

    /// Steps between two validations
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = "Validation")]
    validate_every: u64,
    /// Most validation questions
    #[arg(long, value_name = "N", default_value_t = 200, help_heading = "Validation")]
    validation_items: usize,
    /// End after this many validations without a new best [default: never]
    #[arg(long, value_name = "N", help_heading = "Validation")]
    patience: Option<u64>,

    /// How adapted layers run: beside the base weight, or in its place (full-rank sidecars)
    #[arg(long, value_enum, default_value_t = FormFlag::Residual)]
    form: FormFlag,
    #[command(flatten)]
    batch: BatchArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ShapeFlag {
    /// Down to 0 along half a cosine
    Cosine,
    /// It stays
    Constant,
}

#[derive(Clone, Copy, ValueEnum)]
enum ParametrisationFlag {
    /// The multipliers themselves, from 1
    Multiplier,
    /// z, with multipliers sigmoid(z) scaled to keep the sum of singular values
    Reference,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum EstimatorFlag {
    /// The exact gradient, or evolution strategies for a model it is not described for
    Auto,
    /// The exact gradient, or an error
    Exact,
    /// Evolution strategies: for every architecture, from rewards alone, much slower to learn
    Evolution,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum RewardFlag {
    /// The task's
    Task,
    /// A coin's, whatever the answer
    Random,
}

pub fn main(args: &Args) -> Result<u8> {
    // What can be wrong with flags and files is found before a model of many gigabytes is loaded.
    let options = args.options()?;
    let (batch, n_threads) = (args.batch.n_answers()?, args.batch.model.n_threads()?);
    let earlier = Earlier::of_flags(args.resume, args.force);
    let mut folder = Folder::of(&args.output);
    folder.check(earlier)?;
    let task = args.task.load()?;
    let about = args.about(&task)?;

    let (adapted, _files) = args.open(n_threads)?;
    check_template(&task, adapted.model())?;
    let sidecar = adapted.sidecar();
    let mut estimator = args.estimator(&adapted, n_threads)?;
    if options.kl > 0.0 && !estimator.uses_groups() {
        return Err(Error::invalid(format!("the estimator '{}' cannot keep a KL penalty", estimator.name()))
            .field("--kl"));
    }
    let model_options = ModelOptions {
        form: args.form.form(),
        batch,
        n_threads,
        max_candidates: if estimator.uses_groups() { 1 } else { 2 * Evolution::default().pairs },
        validation_items: options.validation_items,
    };
    let model_policy = ModelPolicy::new(&adapted, &task, &model_options)?;
    if let Some(line) = Placement::line(&model_policy.placements()) {
        printer::note(line);
    }
    let mut policy: Box<dyn Policy> = match args.reward {
        RewardFlag::Task => Box::new(model_policy),
        RewardFlag::Random => Box::new(RandomReward { policy: model_policy }),
    };
    let settings = args.settings(&options, &task, &adapted, estimator.name(), &model_options);
    let sigma: Vec<_> = sidecar.weights.iter().map(|weight| weight.sigma.clone()).collect();
    let (log, state) = folder.open(earlier, &options, &settings, &sigma)?;
    if state.step > 0 {
        printer::note(format_args!("note: going on after step {}", state.step));
    }
    let bar = printer::Bar::new("training");
    let run = Run {
        options: &options,
        settings: &settings,
        sigma: &sigma,
        policy: &mut *policy,
        estimator: &mut *estimator,
        folder: &folder,
        log,
        progress: &bar,
        interrupt: &ctrl_c::INTERRUPT,
    };
    let (ended, state) = run.go(state)?;
    let result =
        Finished { args, task: &task, sidecar, options: &options, folder, ended, state, settings, about };
    result.finish()
}

impl Args {
    fn options(&self) -> Result<Options> {
        let mut options = if self.reference { Options::reference() } else { Options::default() };
        let schedule = &mut options.schedule;
        schedule.steps = self.steps.unwrap_or(schedule.steps);
        schedule.peak = self.lr.unwrap_or(schedule.peak);
        schedule.warmup = self.warmup.unwrap_or(schedule.warmup);
        schedule.shape = match self.schedule {
            Some(ShapeFlag::Cosine) => Shape::Cosine,
            Some(ShapeFlag::Constant) => Shape::Constant,
            None => schedule.shape,
        };
        options.parametrisation = match self.parametrisation {
            Some(ParametrisationFlag::Multiplier) => Parametrisation::Multiplier,
            Some(ParametrisationFlag::Reference) => Parametrisation::Reference,
            None => options.parametrisation,
        };
        options.prompts = self.prompts.unwrap_or(options.prompts);
        options.samples = self.samples.unwrap_or(options.samples);
        options.clip = self.clip.unwrap_or(options.clip);
        options.temperature = self.temp.unwrap_or(options.temperature);
        options.seed = self.seed.unwrap_or(options.seed);
        options.adam.decay = self.decay;
        options.kl = self.kl;
        options.validate_every = self.validate_every;
        options.validation_items = self.validation_items;
        options.patience = self.patience;
        options.check()?;
        Ok(options)
    }

    /// Where gradients come from.
    fn estimator(&self, adapted: &Arc<AdaptedModel>, n_threads: u32) -> Result<Box<dyn Estimator>> {
        let exact = || Exact::new(adapted, self.form.form(), n_threads as usize);
        Ok(match self.estimator {
            EstimatorFlag::Exact => Box::new(exact()?),
            EstimatorFlag::Evolution => Box::new(Evolution::default()),
            EstimatorFlag::Auto => match exact() {
                Ok(exact) => Box::new(exact),
                Err(error) => {
                    printer::note(format_args!("note: {error}"));
                    printer::note(
                        "note: gradients are estimated from rewards alone, a fallback that needs many more answers \
                         to learn as much",
                    );
                    Box::new(Evolution::default())
                }
            },
        })
    }

    /// Name and description of the expert.
    fn about(&self, task: &Task) -> Result<(String, String)> {
        let file =
            self.output.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let stem = file.strip_suffix(".gguf").unwrap_or(&file);
        let name =
            self.name.clone().unwrap_or_else(|| stem.strip_suffix(".expert").unwrap_or(stem).to_owned());
        expert::check_name(&name).map_err(|error| error.field("--name"))?;
        let description = match (&self.description, task.description()) {
            (Some(description), _) => description.clone(),
            (None, "") => format!("trained on {}", task.name()),
            (None, description) => description.to_owned(),
        };
        expert::check_line(&description).map_err(|error| error.field("--description"))?;
        Ok((name, description))
    }

    /// The model with its sidecar, and what keeps temporary files in place.
    fn open(&self, n_threads: u32) -> Result<(Arc<AdaptedModel>, ModelFile)> {
        let sidecar = self.svf.as_deref().map(Sidecar::open).transpose()?;
        let file = ModelFile::new(self.model.as_deref())?;
        let sidecar = match (sidecar, &file) {
            (Some(sidecar), _) => sidecar,
            (None, ModelFile::Embedded(embedded)) => embedded_sidecar(embedded, n_threads)?,
            (None, ModelFile::Given(_)) => return Err(Error::expected("a sidecar", "none").field("--svf")),
        };
        let model = self.batch.model.load(file.path())?;
        Ok((AdaptedModel::new(&model, sidecar)?, file))
    }

    /// All that changes the result; a run goes on only with the same.
    fn settings(
        &self,
        options: &Options,
        task: &Task,
        adapted: &AdaptedModel,
        estimator: &str,
        answering: &ModelOptions,
    ) -> Value {
        let items = [Part::Train, Part::Validation].into_iter().flat_map(|part| task.items(part));
        let sidecar = adapted.sidecar();
        json!({
            "task": task.name(),
            "task_generation": task.generation(),
            "task_items": Item::digest_of_all(items),
            "task_rules": task.rules_digest(),
            "model": sidecar.fingerprint.as_str(),
            "chat_template": adapted.model().given_template_digest(),
            "sidecar": sidecar.digest(),
            "reward": if self.reward == RewardFlag::Random { "random" } else { "task" },
            "estimator": estimator,
            "form": answering.form.name(),
            "options": options,
            "batch": answering.batch,
            "threads": answering.n_threads,
        })
    }
}
