//! Which mixture answers which item of a measurement: one for all, the one that the model chooses, or the one that an
//! oracle would.

use std::sync::Arc;

use super::{Decision, Dispatched, Dispatcher};
use crate::engine::{sessions_for, Joined, Model, Session};
use crate::error::{Error, Result};
use crate::eval::{Configuration, EvalOptions, Evaluation, Questions, Trace};
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
        }
    }
}

/// Mixtures with a slot each, beginning with slot 1; the base model is slot 0.
#[derive(Default)]
struct Slots(Vec<Mixture>);

impl Slots {
    fn of(&mut self, mixture: &Mixture) -> u32 {
        if mixture.is_base() {
            return 0;
        }
        let at = self.0.iter().position(|other| other == mixture).unwrap_or_else(|| {
            self.0.push(mixture.clone());
            self.0.len() - 1
        });
        at as u32 + 1
    }
}

/// Sessions with all mixtures in their slots, and the questions with the slots that answer them.
pub struct Routed {
    sessions: Vec<Session>,
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

/// How a measurement is set up.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// The model.
    pub model: &'a Arc<Model>,
    /// The same with experts; `None` runs the base model without adapted layers.
    pub joined: Option<&'a Joined>,
    /// Who chooses for [`Choice::Adapted`].
    pub dispatcher: Option<&'a Dispatcher>,
    /// Scales the mixtures that are chosen.
    pub strength: f32,
    /// Answers generated at once.
    pub batch: u32,
    /// Threads.
    pub n_threads: u32,
}

impl Setup<'_> {
    /// Opens sessions for `choices`, the configurations in their order, lets the model choose where it is to, and
    /// routes `questions` accordingly.
    ///
    /// # Errors
    /// An expert that is not loaded, a choice for the model without a dispatcher, sessions that cannot be opened, or
    /// an error or interrupt of pass 1.
    pub fn route(
        &self,
        questions: &mut Questions,
        choices: &[Choice],
        interrupt: &Interrupt,
    ) -> Result<Routed> {
        let task = questions.task();
        let items = questions.items();
        let mut slots = Slots::default();
        let single = |name: &str| Mixture::single(name).strength(self.strength);
        let configurations = choices
            .iter()
            .map(|choice| {
                let slot = match choice {
                    Choice::Fixed(mixture) => slots.of(mixture),
                    Choice::Adapted => 0,
                    Choice::Oracle => {
                        for item in items {
                            slots.of(&single(task.source(item))?);
                        }
                        0
                    }
                };
                Ok(Configuration { name: choice.name(self.dispatcher), slot })
            })
            .collect::<Result<Vec<_>>>()?;
        let mut pass1_slot = 0;
        let prompts: Vec<_> = items.iter().map(|item| item.prompt.as_str()).collect();
        let mut n_ctx_seq = questions.n_ctx_seq();
        if let Some(dispatcher) = self.dispatcher {
            pass1_slot = slots.of(&dispatcher.mixture());
            for expert in dispatcher.candidates().experts() {
                slots.of(&single(&expert.name)?);
            }
            let wanted = dispatcher.n_ctx_seq(self.model, &prompts)?;
            n_ctx_seq =
                n_ctx_seq.max(u32::try_from(wanted).unwrap_or(u32::MAX)).min(self.model.n_ctx_train());
        }

        let (n_sessions, options) = sessions_for(self.model, self.batch, n_ctx_seq, self.n_threads);
        let session = || {
            let Some(joined) = self.joined else { return Session::new(self.model, &options) };
            let mut session = joined.session(&options, 1 + slots.0.len() as u32)?;
            for (slot, mixture) in (1..).zip(&slots.0) {
                session.set_mixture(slot, mixture)?;
            }
            Ok(session)
        };
        let mut sessions = (0..n_sessions).map(|_| session()).collect::<Result<Vec<_>>>()?;
        // Also where a weight is 0 and the expert would not be looked at.
        for choice in choices {
            if let (Choice::Fixed(mixture), Some(session)) = (choice, sessions.first()) {
                for (name, _) in mixture.weights() {
                    session.experts()?.get(name)?;
                }
            }
        }

        let mut dispatched = None;
        if let Some(dispatcher) = self.dispatcher {
            let (decisions, cost) = dispatcher.decide_all(&mut sessions, pass1_slot, &prompts, interrupt)?;
            let sources = items.iter().map(|item| task.source(item).to_owned()).collect();
            dispatched = Some(Dispatched::new(dispatcher, sources, decisions, cost));
        }
        for (i, choice) in choices.iter().enumerate() {
            let slots = match (choice, &dispatched) {
                (Choice::Fixed(_), _) => continue,
                (Choice::Adapted, Some(dispatched)) => self.chosen(dispatched, &mut slots)?,
                (Choice::Adapted, None) => return Err(Error::expected("a dispatcher", "none")),
                (Choice::Oracle, _) => {
                    let slot = |item: &Item| Ok(slots.of(&single(task.source(item))?));
                    items.iter().map(slot).collect::<Result<_>>()?
                }
            };
            questions.route(i, slots)?;
        }
        Ok(Routed { sessions, configurations, dispatched })
    }

    /// Lets each of `choices` answer all `questions` greedily, in the same batches.
    ///
    /// # Errors
    /// Those of [`Self::route`] and of [`Questions::evaluate`], or an interrupt.
    pub fn measure<'a>(
        &self,
        questions: &mut Questions<'a>,
        choices: &[Choice],
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Measured<'a>> {
        let routed = self.route(questions, choices, interrupt)?;
        let measured = routed.evaluate(questions, &EvalOptions::greedy(), None, progress, interrupt)?;
        match measured.evaluation.is_partial() {
            true => Err(Error::interrupted("interrupted")),
            false => Ok(measured),
        }
    }

    fn chosen(&self, dispatched: &Dispatched, slots: &mut Slots) -> Result<Vec<u32>> {
        let slot = |decision: &Decision| Ok(slots.of(&decision.mixture().strength(self.strength)?));
        dispatched.decisions().iter().map(slot).collect()
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
        trace: Option<&mut Trace>,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Measured<'a>> {
        let Self { mut sessions, configurations, dispatched } = self;
        let evaluation =
            questions.evaluate(&mut sessions, &configurations, options, trace, progress, interrupt)?;
        Ok(Measured { evaluation, configurations, dispatched })
    }
}

impl Measured<'_> {
    /// Seconds of writing the answers, where one choice gave them all.
    pub fn pass2_seconds(&self) -> Option<f64> {
        let evaluation = &self.evaluation;
        (self.configurations.len() == 1).then_some(evaluation.seconds - evaluation.scoring_seconds)
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
