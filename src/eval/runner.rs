//! What answers which item of a measurement: one mixture for all, the one that the model chooses, the one that an oracle
//! would, or a LoRA adapter.

use std::sync::Arc;

use super::{By, Configuration, Dispatched, EvalOptions, Evaluation, Questions, Trace};
use crate::dispatch::Dispatcher;
use crate::engine::scheduler::sessions_for;
use crate::engine::{Lora, Model, ModelWithExperts, Scheduler};
use crate::error::{Error, Result};
use crate::expert::Mixture;
use crate::progress::{Interrupt, Progress};
use crate::task::{Item, Task};

/// Who chooses the mixture of an item.
#[derive(Clone, PartialEq, Debug)]
pub enum Choice {
    /// Nobody: the same for all.
    Fixed(Mixture),
    /// The model.
    Adapted,
    /// Who knows the item's task, and that an expert of this name is for it.
    Oracle,
    /// Nobody: the base model with the adapter of [`Runner::lora`], which has this name.
    Lora(String),
}

impl Choice {
    /// Whether it is the base model.
    pub fn is_base(&self) -> bool {
        matches!(self, Self::Fixed(mixture) if mixture.is_base())
    }

    /// The name of the configuration that answers so.
    pub fn name(&self, dispatcher: Option<&Dispatcher>) -> String {
        match self {
            Self::Fixed(mixture) if mixture.is_base() => "base".into(),
            Self::Fixed(mixture) => mixture.to_string(),
            Self::Adapted => {
                format!("adapt {}", dispatcher.map_or("", |it| it.options().strategy.name()))
            }
            Self::Oracle => "oracle".into(),
            Self::Lora(name) => name.clone(),
        }
    }

    fn is_lora(&self) -> bool {
        matches!(self, Self::Lora(_))
    }
}

/// Schedulers, and what answers which item.
pub struct Routed {
    /// Of the model with experts or without, where some choice needs it, and of the base model with the LoRA adapter.
    schedulers: [Option<Scheduler>; 2],
    /// Which configurations are answered by the latter.
    are_lora: Vec<bool>,
    /// The choices, by name.
    pub configurations: Vec<Configuration>,
    /// What the model chose, where it was to.
    pub dispatched: Option<Dispatched>,
}

/// What a measurement found.
pub struct Measured<'a> {
    /// The answers.
    pub evaluation: Evaluation<'a>,
    /// Who gave them, by name.
    pub configurations: Vec<Configuration>,
    /// What the model chose, where it was to.
    pub dispatched: Option<Dispatched>,
}

/// Puts questions through both passes: it opens sessions, lets choices decide, and measures the answers.
#[derive(Clone, Copy)]
pub struct Runner<'a> {
    /// The model.
    pub model: &'a Arc<Model>,
    /// The same with experts; `None` runs the base model without adapted layers.
    pub joined: Option<&'a ModelWithExperts>,
    /// Who chooses for [`Choice::Adapted`].
    pub dispatcher: Option<&'a Dispatcher>,
    /// Scales the mixtures that are chosen.
    pub strength: f32,
    /// The adapter of [`Choice::Lora`], and its scale.
    pub lora: Option<&'a (Arc<Lora>, f32)>,
    /// Answers generated at once.
    pub batch: u32,
    /// Threads.
    pub n_threads: u32,
}

impl<'a> Runner<'a> {
    /// Answers `batch` questions at once with `n_threads` threads, with `joined` or without experts; nobody chooses.
    pub fn new(
        model: &'a Arc<Model>,
        joined: Option<&'a ModelWithExperts>,
        batch: u32,
        n_threads: u32,
    ) -> Self {
        Self { model, joined, dispatcher: None, strength: 1.0, lora: None, batch, n_threads }
    }

    /// A scheduler for texts of `n_ctx_seq` tokens.
    ///
    /// # Errors
    /// Sessions that cannot be opened.
    pub fn scheduler(&self, n_ctx_seq: u32) -> Result<Scheduler> {
        let (n_sessions, options) = sessions_for(self.model, self.batch, n_ctx_seq, self.n_threads);
        match self.joined {
            Some(joined) => joined.scheduler_with(n_sessions, &options),
            None => Scheduler::base(self.model, n_sessions, &options),
        }
    }

    /// The same for the base model with the LoRA adapter.
    ///
    /// # Errors
    /// No adapter, or sessions that cannot be opened.
    fn lora_scheduler(&self, n_ctx_seq: u32) -> Result<Scheduler> {
        let (lora, scale) = self.lora.ok_or_else(|| Error::expected("a LoRA adapter", "none"))?;
        let (n_sessions, options) = sessions_for(self.model, self.batch, n_ctx_seq, self.n_threads);
        Scheduler::with_loras(self.model, n_sessions, &options, &[(Arc::clone(lora), *scale)])
    }

    /// Opens schedulers for `choices`, the configurations in their order, and lets the model choose where it is to.
    ///
    /// # Errors
    /// An expert that is not loaded, a choice for the model without a dispatcher or for a LoRA without one, sessions that cannot be opened, or
    /// an error or interrupt of pass 1.
    pub fn route(&self, questions: &Questions, choices: &[Choice], interrupt: &Interrupt) -> Result<Routed> {
        let (task, items) = (questions.task(), questions.items());
        let prompts: Vec<_> = items.iter().map(|item| item.prompt.as_str()).collect();
        let mut n_ctx_seq = questions.n_ctx_seq();
        if let Some(dispatcher) = self.dispatcher {
            let wanted = dispatcher.n_ctx_seq(self.model, &prompts)?;
            n_ctx_seq =
                n_ctx_seq.max(u32::try_from(wanted).unwrap_or(u32::MAX)).min(self.model.n_ctx_train());
        }
        let are_lora: Vec<_> = choices.iter().map(Choice::is_lora).collect();
        let with_lora = are_lora.contains(&true).then(|| self.lora_scheduler(n_ctx_seq)).transpose()?;
        let scheduler = are_lora.contains(&false).then(|| self.scheduler(n_ctx_seq)).transpose()?;
        let (mut dispatched, mut mixtures) = (None, Vec::new());
        if let (Some(dispatcher), Some(scheduler)) = (self.dispatcher, &scheduler) {
            let (decisions, cost) = dispatcher.decide_all(scheduler, &prompts, interrupt)?;
            mixtures = decisions.iter().map(|decision| dispatcher.mixture_for(decision)).collect();
            let sources = items.iter().map(|item| task.source(item).to_owned()).collect();
            dispatched = Some(Dispatched::new(dispatcher, sources, decisions, cost));
        }
        let configuration = |choice: &Choice| {
            let by = match (choice, &dispatched) {
                (Choice::Fixed(mixture), _) => By::One(mixture.clone()),
                (Choice::Lora(_), _) => By::One(Mixture::base()),
                (Choice::Adapted, Some(_)) => By::Each(
                    mixtures
                        .iter()
                        .map(|it: &Mixture| it.clone().strength(self.strength))
                        .collect::<Result<_>>()?,
                ),
                (Choice::Adapted, None) => return Err(Error::expected("who chooses", "nobody")),
                (Choice::Oracle, _) => {
                    let own = |item: &Item| Mixture::single(task.source(item)).strength(self.strength);
                    By::Each(items.iter().map(own).collect::<Result<_>>()?)
                }
            };
            Ok(Configuration { name: choice.name(self.dispatcher), by })
        };
        let configurations = choices.iter().map(configuration).collect::<Result<_>>()?;
        Ok(Routed { schedulers: [scheduler, with_lora], are_lora, configurations, dispatched })
    }

    /// Lets each of `choices` answer all `questions` greedily, in the same batches.
    ///
    /// # Errors
    /// Those of [`Self::route`] and of [`Questions::evaluate`], or an interrupt.
    pub fn measure<'q>(
        &self,
        questions: &Questions<'q>,
        choices: &[Choice],
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Measured<'q>> {
        let routed = self.route(questions, choices, interrupt)?;
        let measured = routed.evaluate(questions, &EvalOptions::greedy(), None, progress, interrupt)?;
        match measured.evaluation.is_partial() {
            true => Err(Error::interrupted("interrupted")),
            false => Ok(measured),
        }
    }
}

impl Routed {
    /// Lets the choices answer the questions that were routed; after an interrupt the result holds those that are
    /// answered.
    ///
    /// # Errors
    /// Those of [`Questions::evaluate`].
    pub fn evaluate<'a>(
        self,
        questions: &Questions<'a>,
        options: &EvalOptions,
        mut trace: Option<&mut Trace>,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Measured<'a>> {
        let Self { schedulers, are_lora, configurations, dispatched } = self;
        let (mut evaluation, mut n_done): (Option<Evaluation>, usize) = (None, 0);
        for part in are_lora.chunk_by(|a, b| a == b) {
            let scheduler = schedulers[usize::from(part[0])].as_ref();
            let scheduler = scheduler.ok_or_else(|| Error::engine("a scheduler is missing"))?;
            let own = &configurations[n_done..][..part.len()];
            let found =
                questions.evaluate(scheduler, own, options, trace.as_deref_mut(), progress, interrupt)?;
            evaluation = Some(match evaluation {
                Some(before) => before.beside(found),
                None => found,
            });
            n_done += part.len();
        }
        let evaluation = evaluation.ok_or_else(|| Error::expected("1 configuration or more", 0))?;
        Ok(Measured { evaluation, configurations, dispatched })
    }
}

impl Measured<'_> {
    /// Seconds of writing the answers, where one choice gave them all.
    pub fn pass2_seconds(&self) -> Option<f64> {
        let evaluation = &self.evaluation;
        (self.configurations.len() == 1).then_some(evaluation.writing_seconds)
    }
}

/// An oracle needs experts called as the tasks are.
///
/// # Errors
/// One is missing.
pub fn check_oracle(task: &Task, items: &[Item], experts: &[&str]) -> Result<()> {
    match items.iter().map(|item| task.source(item)).find(|source| !experts.contains(source)) {
        None => Ok(()),
        Some(source) => Err(Error::not_found(format!(
            "expected an expert called {source}, as the task, found {}",
            experts.join(", ")
        ))
        .setting("Choice::Oracle")
        .hint("load it under this `Expert::name`")),
    }
}
