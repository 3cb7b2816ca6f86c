//! `llama-svf train`: an expert, or a LoRA, learnt from rewards.

mod finished;

use std::path::PathBuf;

use clap::ValueEnum;

use super::describe::ExamplesArg;
use super::experts::FormFlag;
use super::inputs::{check_template, AdaptedFiles, TaskArgs};
use super::runtime_args::BatchArgs;
use super::{ctrl_c, printer};
use crate::error::{Error, Result};
use crate::expert;
use crate::optimiser::Shape;
use crate::resume::Earlier;
use crate::task::Task;
use crate::train::{
    memory, EstimatorName, Folder, Layers, Objective, Options, Parametrisation, RewardName, Training,
    TrainingOptions,
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
///
/// To compare with: --adapter lora trains a LoRA beside the same weights, and --objective likelihood learns from the task's
/// gold answers in the place of rewards, either of them.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    llama-svf train --task math -o math.expert.gguf          the embedded model, in minutes\n  \
    llama-svf train -m model.gguf --svf model.svf.gguf --task gsm8k --data train=gsm8k/train.jsonl.gz \\\n    \
    -o maths.expert.gguf --description 'grade-school maths'\n  \
    llama-svf train -m model.gguf --svf model.svf.gguf --task my-task.toml -o mine.expert.gguf --resume\n  \
    llama-svf train -m model.gguf --svf model.svf.gguf --task gsm8k -o maths.lora.gguf --adapter lora --rank 16\n  \
    llama-svf train -m model.gguf --svf model.svf.gguf --task gsm8k -o gold.lora.gguf --adapter lora --objective likelihood\n  \
    llama-svf eval -m model.gguf --svf model.svf.gguf --expert maths.expert.gguf --use maths --against base --task gsm8k\n  \
    llama-svf eval -m model.gguf --lora maths.lora.gguf --against base --task gsm8k\n\n\
    If the reward does not rise: a lower --step-kl where it jumps, a higher one where it creeps; more --samples where few\n\
    questions are informative (answered both rightly and wrongly). A question that the model never answers rightly\n\
    teaches nothing. --kl keeps an expert closer to the base model.")]
pub struct Args {
    #[command(flatten)]
    files: AdaptedFiles,
    #[command(flatten)]
    task: TaskArgs,
    /// The expert or LoRA to write; its run is kept in NAME.train beside it
    #[arg(short, long, value_name = "NAME.expert.gguf|NAME.lora.gguf")]
    output: PathBuf,
    /// Name of the expert or LoRA [default: that of the output]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What it is good at, in a line; dispatch reads it [default: the task's description]
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    examples: ExamplesArg,
    /// Go on with the run that the output's folder holds
    #[arg(long)]
    resume: bool,
    /// Replace an expert or a run that is there
    #[arg(long, conflicts_with = "resume")]
    force: bool,

    /// What is learnt from
    #[arg(long, value_enum, default_value_t = ObjectiveFlag::Reward, help_heading = "Learning")]
    objective: ObjectiveFlag,
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
    /// Shorten steps that change the answers by more nats per token, where the rate is highest; 0 for no limit [default:
    /// 0.001; 0.02 with --objective likelihood; 0 with --reference]
    #[arg(long, value_name = "KL", allow_negative_numbers = true, help_heading = "Learning")]
    step_kl: Option<f64>,
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
    /// How an expert's multipliers are parametrised [default: multiplier; reference with --reference]
    #[arg(long, value_enum, help_heading = "Learning")]
    parametrisation: Option<ParametrisationFlag>,
    /// What is trained beside the frozen weights: an expert, or to compare with it a LoRA that stock llama.cpp loads
    #[arg(long, value_enum, default_value_t = AdapterFlag::Svf, help_heading = "Learning")]
    adapter: AdapterFlag,
    /// Rank of the LoRA [default: 16]
    #[arg(long, value_name = "R", help_heading = "Learning")]
    rank: Option<usize>,
    /// Train these layers only, counted from 0; the others stay as in the base model [default: all that are adapted]
    #[arg(long, value_name = "A-B", help_heading = "Learning")]
    layers: Option<String>,
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
    /// Most memory of the whole process, such as 4G [default: three quarters of what the machine can spare]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    #[command(flatten)]
    batch: BatchArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Rank of a LoRA.
const DEFAULT_RANK: usize = 16;

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
enum ObjectiveFlag {
    /// Rewards of the model's own answers
    Reward,
    /// The likelihood of the task's gold answers: nothing is written in a step, only for validation
    Likelihood,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum AdapterFlag {
    /// The multipliers of the singular values that the sidecar holds
    Svf,
    /// B*A beside each weight that the sidecar adapts: y = W*x + B*A*x
    Lora,
}

#[derive(Clone, Copy, ValueEnum)]
enum EstimatorFlag {
    /// The exact gradient, or evolution strategies for a model it is not described for
    Auto,
    /// The exact gradient, or an error
    Exact,
    /// Evolution strategies: for every architecture, from rewards alone, much slower to learn
    Evolution,
}

#[derive(Clone, Copy, ValueEnum)]
enum RewardFlag {
    /// The task's
    Task,
    /// A coin's, whatever the answer
    Random,
}

impl EstimatorFlag {
    fn name(self) -> EstimatorName {
        match self {
            Self::Auto => EstimatorName::Auto,
            Self::Exact => EstimatorName::Exact,
            Self::Evolution => EstimatorName::Evolution,
        }
    }
}

impl RewardFlag {
    fn name(self) -> RewardName {
        match self {
            Self::Task => RewardName::Task,
            Self::Random => RewardName::Random,
        }
    }
}

pub fn main(args: &Args) -> Result<u8> {
    // What can be wrong with flags and files is found before a model of many gigabytes is loaded.
    let options = args.training_options()?;
    let earlier = Earlier::of_flags(args.resume, args.force);
    Folder::of(&args.output).check(earlier)?;
    let task = args.task.load()?;
    let (name, description) = args.about(&task)?;
    let how = args.examples.description(&args.batch)?;

    let (adapted, _files) = args.files.open(&args.batch.model, options.n_threads)?;
    check_template(&task, adapted.model())?;
    let training = Training::open(&adapted, &task, &args.output, earlier, options)?;
    training.fallback().into_iter().for_each(printer::note_error);
    training.notes().iter().for_each(|note| printer::note(format_args!("note: {note}")));
    let mut trained = training.run(&printer::Bar::new("training"), &ctrl_c::INTERRUPT)?;
    if trained.ended.is_success() && !trained.is_lora() {
        // What was learnt is not lost for want of it.
        let described = trained.describe(&how, &printer::Bar::new("describing"), &ctrl_c::INTERRUPT);
        described.unwrap_or_else(|error| printer::note_error(&error));
    }
    trained.save(&name, &description)?;
    finished::tell(args, trained)
}

impl Args {
    fn training_options(&self) -> Result<TrainingOptions> {
        Ok(TrainingOptions {
            learning: self.learning_options()?,
            estimator: self.estimator.name(),
            reward: self.reward.name(),
            form: self.form.form(),
            batch: self.batch.n_answers()?,
            n_threads: self.batch.model.n_threads()?,
            memory: self.memory.as_deref().map(memory::parse).transpose()?,
        })
    }

    /// What is trained: of flags that contradict each other the one is named that the other leaves no room for.
    fn parametrisation(&self, default: Parametrisation) -> Result<Parametrisation> {
        if self.adapter == AdapterFlag::Lora {
            let refused = [
                ("--reference", self.reference, "the released code trains multipliers"),
                ("--parametrisation", self.parametrisation.is_some(), "a LoRA has no multipliers"),
                (
                    "--estimator",
                    matches!(self.estimator, EstimatorFlag::Evolution),
                    "a LoRA needs the exact gradient",
                ),
            ];
            if let Some((flag, _, problem)) = refused.into_iter().find(|(_, is_given, _)| *is_given) {
                return Err(Error::invalid(problem).field(flag).hint("train an expert with --adapter svf"));
            }
            return Ok(Parametrisation::Lora { rank: self.rank.unwrap_or(DEFAULT_RANK) });
        }
        if self.rank.is_some() {
            return Err(Error::invalid("the rank of an expert is that of its sidecar")
                .field("--rank")
                .hint("--adapter lora has one of its own; `llama-svf decompose --rank R` makes a sidecar"));
        }
        Ok(match self.parametrisation {
            Some(ParametrisationFlag::Multiplier) => Parametrisation::Multiplier,
            Some(ParametrisationFlag::Reference) => Parametrisation::Reference,
            None => default,
        })
    }

    /// What is learnt from: of flags for answers that nobody writes the first is named.
    fn objective(&self) -> Result<Objective> {
        if self.objective == ObjectiveFlag::Reward {
            return Ok(Objective::Reward);
        }
        let refused = [
            ("--reference", self.reference),
            ("--samples", self.samples.is_some()),
            ("--temp", self.temp.is_some()),
            ("--reward", matches!(self.reward, RewardFlag::Random)),
            ("--estimator", matches!(self.estimator, EstimatorFlag::Evolution)),
        ];
        match refused.into_iter().find(|(_, is_given)| *is_given) {
            Some((flag, _)) => Err(Error::invalid("it is about answers of the model that are rewarded")
                .field(flag)
                .hint("--objective likelihood learns from the task's gold answers alone")),
            None => Ok(Objective::Likelihood),
        }
    }

    fn learning_options(&self) -> Result<Options> {
        let mut options = match self.objective()? {
            Objective::Likelihood => Options::likelihood(),
            Objective::Reward if self.reference => Options::reference(),
            Objective::Reward => Options::default(),
        };
        let schedule = &mut options.schedule;
        schedule.steps = self.steps.unwrap_or(schedule.steps);
        schedule.peak = self.lr.unwrap_or(schedule.peak);
        schedule.warmup = self.warmup.unwrap_or(schedule.warmup);
        schedule.shape = match self.schedule {
            Some(ShapeFlag::Cosine) => Shape::Cosine,
            Some(ShapeFlag::Constant) => Shape::Constant,
            None => schedule.shape,
        };
        options.parametrisation = self.parametrisation(options.parametrisation)?;
        options.layers = self.layers.as_deref().map(Layers::parse).transpose()?;
        options.prompts = self.prompts.unwrap_or(options.prompts);
        options.samples = self.samples.unwrap_or(options.samples);
        options.step_kl = match self.step_kl {
            Some(limit) => (limit != 0.0).then_some(limit),
            None => options.step_kl,
        };
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

    /// Name and description of the expert or LoRA.
    fn about(&self, task: &Task) -> Result<(String, String)> {
        let file =
            self.output.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let stem = file.strip_suffix(".gguf").unwrap_or(&file);
        let kind = if self.adapter == AdapterFlag::Lora { ".lora" } else { ".expert" };
        let name = self.name.clone().unwrap_or_else(|| stem.strip_suffix(kind).unwrap_or(stem).to_owned());
        expert::check_name(&name).map_err(|error| error.field("--name"))?;
        let description = match (&self.description, task.description()) {
            (Some(description), _) => description.clone(),
            (None, "") => format!("trained on {}", task.name()),
            (None, description) => description.to_owned(),
        };
        expert::check_line(&description).map_err(|error| error.field("--description"))?;
        Ok((name, description))
    }
}
