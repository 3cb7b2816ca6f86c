//! A run, put together: a model that learns a task, in the folder beside its expert or LoRA.

use std::path::Path;
use std::sync::Arc;

use serde_json::{json, Value};

use super::control::RandomReward;
use super::estimator::Estimator;
use super::evolution::Evolution;
use super::folder::Folder;
use super::layers::layer_of;
use super::log::Log;
use super::memory;
use super::model_policy::{ModelOptions, ModelPolicy};
use super::names::{EstimatorName, RewardName};
use super::objective::Objective;
use super::options::Options;
use super::parametrisation::{Parametrisation, Weight};
use super::policy::Policy;
use super::run::Run;
use super::state::State;
use super::trained::Trained;
use crate::engine::{AdaptedModel, Form, LoraModel, Placement};
use crate::error::{Error, Result};
use crate::expert::Profile;
use crate::gradient::Budget;
use crate::progress::{Interrupt, Progress};
use crate::resume::Earlier;
use crate::sidecar::AdaptedWeight;
use crate::task::{Item, Part, Task};

/// How a model is trained.
#[derive(Clone, Debug)]
pub struct TrainingOptions {
    /// What is learnt, and how.
    pub learning: Options,
    /// Where gradients come from.
    pub estimator: EstimatorName,
    /// What rewards train answers.
    pub reward: RewardName,
    /// How adapted layers run.
    pub form: Form,
    /// Answers written at once.
    pub batch: u32,
    /// Threads over everything.
    pub n_threads: u32,
    /// Bytes that the whole process may use; `None` takes most of what the machine can spare.
    pub memory: Option<usize>,
}

/// The setting that says how many bytes a gradient may use: a machine can spare more or less when a run goes on.
const GRADIENT_MEMORY: &str = "gradient_memory";

/// A run that is ready to begin, or to go on.
///
/// ```no_run
/// use std::path::Path;
///
/// use llama_svf::engine::{AdaptedModel, Form, Model};
/// use llama_svf::progress::{Interrupt, Silent};
/// use llama_svf::resume::Earlier;
/// use llama_svf::sidecar::Sidecar;
/// use llama_svf::task::{LoadOptions, Task};
/// use llama_svf::train::{Options, Training, TrainingOptions};
///
/// let model = Model::load(Path::new("model.gguf"), 0)?;
/// let adapted = AdaptedModel::new(&model, Sidecar::open("model.svf.gguf")?)?;
/// let task = Task::load("math", &LoadOptions::default())?;
/// let options = TrainingOptions { batch: 32, n_threads: 4, ..TrainingOptions::new(Options::default()) };
/// // What is in sums.train goes on, if there is something.
/// let output = Path::new("sums.expert.gguf");
/// let training = Training::open(&adapted, &task, output, Earlier::Resume, options)?;
/// let trained = training.run(&Silent, &Interrupt::new())?;
/// println!("{}: {} steps", trained.ended.word(), trained.state.step);
/// trained.save("sums", "adds and subtracts")?;
/// # Ok::<(), llama_svf::error::Error>(())
/// ```
pub struct Training<'a> {
    adapted: Arc<AdaptedModel>,
    task: &'a Task,
    options: TrainingOptions,
    settings: Value,
    lora: Option<LoraModel>,
    weights: Vec<Weight>,
    policy: Box<dyn Policy + 'a>,
    estimator: Box<dyn Estimator>,
    folder: Folder,
    log: Log,
    state: State,
    fallback: Option<Error>,
    notes: Vec<String>,
}

impl TrainingOptions {
    /// The task's own rewards, whichever estimator the model allows, the residual form, and 32 answers at once in one
    /// thread.
    pub fn new(learning: Options) -> Self {
        Self {
            learning,
            estimator: EstimatorName::default(),
            reward: RewardName::default(),
            form: Form::Residual,
            batch: 32,
            n_threads: 1,
            memory: None,
        }
    }
}

impl<'a> Training<'a> {
    /// Prepares the training of an expert, or of a LoRA beside the weights that the sidecar adapts, at `output` for `task`; its run is kept in [`Folder::of`] that. An earlier run
    /// there goes on, if `earlier` says so, when it was begun with equal options.
    ///
    /// # Errors
    /// Options that nothing can be trained with, what [`Folder::check`] and [`Folder::open`] refuse, a model without exact
    /// gradients where these are asked for or a LoRA is, or what [`ModelPolicy::new`] refuses.
    pub fn open(
        adapted: &Arc<AdaptedModel>,
        task: &'a Task,
        output: &Path,
        earlier: Earlier,
        options: TrainingOptions,
    ) -> Result<Self> {
        let TrainingOptions { learning, form, batch, n_threads, .. } = &options;
        learning.check()?;
        let mut folder = Folder::of(output);
        folder.check(earlier)?;
        let mut notes = Vec::new();
        learning.layers.map_or(Ok(()), |layers| layers.check(adapted.sidecar()))?;
        let lora = beside(adapted, &options)?;
        let (mut estimator, fallback) = match &lora {
            Some(lora) => (options.estimator.open_for_lora(lora, *n_threads)?, None),
            None => options.estimator.open(adapted, *form, *n_threads, learning.layers)?,
        };
        if fallback.is_some() {
            notes.push(
                "gradients are estimated from rewards alone, a fallback that needs many more answers to learn \
                 as much"
                    .into(),
            );
        }
        let has_groups = estimator.uses_groups();
        if learning.kl > 0.0 && !has_groups {
            let problem = format!("the estimator '{}' cannot keep a KL penalty", estimator.name());
            return Err(Error::invalid(problem).setting("kl"));
        }
        let wanting = [
            ("layers", learning.layers.is_some(), "moves all layers"),
            ("objective", learning.objective == Objective::Likelihood, "learns from rewards alone"),
        ];
        if let Some((setting, _, does)) = wanting.iter().find(|(_, is_wanted, _)| *is_wanted && !has_groups) {
            let error =
                Error::invalid(format!("the estimator '{}' {does}", estimator.name())).setting(*setting);
            return Err(match fallback {
                Some(reason) => error.hint(format!("there is no exact gradient: {reason}")),
                None => error,
            });
        }
        if learning.objective == Objective::Likelihood && options.reward == RewardName::Random {
            return Err(
                Error::invalid("the likelihood of gold answers is learnt without rewards").setting("reward")
            );
        }
        let model_options = ModelOptions {
            form: *form,
            batch: *batch,
            n_threads: *n_threads,
            // Before and after a step, or all that evolution compares.
            max_candidates: if has_groups { 2 } else { 2 * Evolution::default().pairs },
            validation_items: learning.validation_items,
            gold: learning.objective == Objective::Likelihood,
        };
        let model_policy = match &lora {
            Some(lora) => ModelPolicy::of_lora(lora, task, &model_options)?,
            None => ModelPolicy::new(adapted, task, &model_options)?,
        };
        notes.extend(Placement::line(model_policy.placements()));
        // A run that goes on divides its work as before, and so has the same bits.
        let earlier_share = match earlier {
            Earlier::Resume => folder.setting(GRADIENT_MEMORY)?.and_then(|bytes| bytes.as_u64()),
            _ => None,
        };
        // Multipliers are too few to count.
        let n_parameters = lora.as_ref().map_or(0, |lora| lora.lengths().sum());
        let budget = memory::budget(options.memory, adapted.model().n_vocab(), n_parameters);
        let budget = match earlier_share {
            Some(free) => Budget { all: budget.taken.saturating_add(free as usize), ..budget },
            None => budget,
        };
        let largest = model_policy.largest(learning.prompts, learning.answers());
        notes.extend(estimator.bound(budget, &largest, learning.kl)?);
        let policy: Box<dyn Policy> = match options.reward {
            RewardName::Task => Box::new(model_policy),
            RewardName::Random => Box::new(RandomReward { policy: model_policy }),
        };
        let mut settings = settings(adapted, task, &options, estimator.name());
        if has_groups {
            settings[GRADIENT_MEMORY] = budget.free().into();
        }
        let trained = lora.as_ref().map_or(adapted, LoraModel::adapted);
        let weights: Vec<_> = trained.sidecar().weights.iter().map(Weight::from).collect();
        let (log, state) = folder.open(earlier, &options.learning, &settings, &weights)?;
        if state.step > 0 {
            notes.push(format!("going on after step {}", state.step));
        }
        let adapted = Arc::clone(adapted);
        Ok(Self {
            adapted,
            task,
            options,
            settings,
            lora,
            weights,
            policy,
            estimator,
            folder,
            log,
            state,
            fallback,
            notes,
        })
    }

    /// Why gradients are not exact, where that was left to the model.
    pub fn fallback(&self) -> Option<&Error> {
        self.fallback.as_ref()
    }

    /// What a user should know, one line each, without a full stop.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Trains until an end, which may be an interrupt or a failure: the state of the last step that went well is in the
    /// folder. Progress counts steps.
    ///
    /// # Errors
    /// The state cannot be kept. Every other trouble is [`Trained::ended`].
    pub fn run(mut self, progress: &dyn Progress, interrupt: &Interrupt) -> Result<Trained<'a>> {
        let learning = &self.options.learning;
        let run = Run {
            options: learning,
            settings: &self.settings,
            weights: &self.weights,
            initial: &learning.parametrisation.initial(&self.weights, learning.seed),
            policy: &mut *self.policy,
            estimator: &mut *self.estimator,
            folder: &self.folder,
            log: self.log,
            progress,
            interrupt,
        };
        let (ended, state) = run.go(self.state)?;
        Ok(Trained {
            history: self.folder.history()?,
            adapted: self.adapted,
            lora: self.lora,
            task: self.task,
            options: self.options.learning,
            settings: self.settings,
            folder: self.folder,
            profile: Profile::default(),
            ended,
            state,
        })
    }
}

/// The LoRA that `options` want trained beside the weights of `adapted`, if they do.
fn beside(adapted: &AdaptedModel, options: &TrainingOptions) -> Result<Option<LoraModel>> {
    let Parametrisation::Lora { rank } = options.learning.parametrisation else { return Ok(None) };
    if options.form != Form::Residual {
        return Err(Error::invalid("a LoRA runs beside the base weight, not in its place").setting("form"));
    }
    let layers = options.learning.layers;
    let is_wanted = |weight: &AdaptedWeight| {
        layers
            .is_none_or(|layers| layer_of(&weight.name).is_some_and(|layer| layers.range().contains(&layer)))
    };
    LoraModel::new(adapted.model(), adapted.sidecar(), rank, is_wanted).map(Some)
}

/// All that changes the result; a run goes on only with the same.
fn settings(adapted: &AdaptedModel, task: &Task, options: &TrainingOptions, estimator: &str) -> Value {
    let items = [Part::Train, Part::Validation].into_iter().flat_map(|part| task.items(part));
    let sidecar = adapted.sidecar();
    json!({
        "batch": options.batch,
        "chat_template": adapted.model().given_template_digest(),
        "estimator": estimator,
        "form": options.form.name(),
        "memory": options.memory,
        "model": sidecar.fingerprint.as_str(),
        "options": options.learning,
        "reward": options.reward,
        "sidecar": sidecar.digest(),
        "task": task.name(),
        "task_generation": task.generation(),
        "task_items": Item::digest_of_all(items),
        "task_rules": task.rules_digest(),
        "threads": options.n_threads,
    })
}
