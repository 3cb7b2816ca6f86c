//! Which mixture answers which item of a measurement: one for all, the one that the model chooses, or the one that an
//! oracle would.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{json, Value};

use super::ctrl_c;
use crate::dispatch::{Cost, Decision, Dispatcher};
use crate::engine::{sessions_for, Joined, Model, Session};
use crate::error::{Error, Result};
use crate::eval::{Configuration, Questions};
use crate::expert::Mixture;
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

/// What pass 1 decided about all items.
pub struct Dispatched {
    strategy: &'static str,
    threshold: f64,
    decisions: Vec<Decision>,
    pub cost: Cost,
    /// The task of each item.
    sources: Vec<String>,
    /// Whether the experts are called as the tasks are, so that a choice can be right or wrong.
    is_named: bool,
}

/// Sessions with all mixtures in their slots, and the questions with the slots that answer them.
pub struct Routed {
    pub sessions: Vec<Session>,
    pub configurations: Vec<Configuration>,
    pub dispatched: Option<Dispatched>,
}

/// How a measurement is set up.
pub struct Setup<'a> {
    pub model: &'a Arc<Model>,
    pub joined: Option<&'a Joined>,
    pub dispatcher: Option<&'a Dispatcher>,
    /// Scales the mixtures that are chosen.
    pub strength: f32,
    pub batch: u32,
    pub n_threads: u32,
}

impl Setup<'_> {
    /// Opens sessions for `choices`, the configurations in their order, lets the model choose where it is to, and
    /// routes `questions` accordingly.
    pub fn route(&self, questions: &mut Questions, choices: &[Choice]) -> Result<Routed> {
        let task = questions.task();
        let items = questions.items();
        let mut slots = Slots::default();
        let single = |name: &str| Mixture::single(name).strength(self.strength);
        let configurations = choices
            .iter()
            .map(|choice| {
                Ok(match choice {
                    Choice::Fixed(mixture) => {
                        let slot = slots.of(mixture);
                        let name = if slot == 0 { "base".into() } else { mixture.to_string() };
                        Configuration { name, slot }
                    }
                    Choice::Adapted => {
                        let strategy = self.dispatcher.map_or("", |it| it.options().strategy.name());
                        Configuration { name: format!("adapt {strategy}"), slot: 0 }
                    }
                    Choice::Oracle => {
                        for item in items {
                            slots.of(&single(task.source(item))?);
                        }
                        Configuration { name: "oracle".into(), slot: 0 }
                    }
                })
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
            let (decisions, cost) =
                dispatcher.decide_all(&mut sessions, pass1_slot, &prompts, &ctrl_c::INTERRUPT)?;
            let sources: Vec<_> = items.iter().map(|item| task.source(item).to_owned()).collect();
            let labels = dispatcher.candidates().labels();
            dispatched = Some(Dispatched {
                strategy: dispatcher.options().strategy.name(),
                threshold: dispatcher.options().threshold,
                is_named: sources.iter().all(|source| labels.contains(source)),
                decisions,
                cost,
                sources,
            });
        }
        for (i, choice) in choices.iter().enumerate() {
            let slots = match (choice, &dispatched) {
                (Choice::Fixed(_), _) => continue,
                (Choice::Adapted, Some(dispatched)) => self.chosen(dispatched, &mut slots)?,
                (Choice::Adapted, None) => return Err(Error::expected("--adapt", "none")),
                (Choice::Oracle, _) => {
                    let slot = |item: &Item| Ok(slots.of(&single(task.source(item))?));
                    items.iter().map(slot).collect::<Result<_>>()?
                }
            };
            questions.route(i, slots)?;
        }
        Ok(Routed { sessions, configurations, dispatched })
    }

    fn chosen(&self, dispatched: &Dispatched, slots: &mut Slots) -> Result<Vec<u32>> {
        let slot = |decision: &Decision| Ok(slots.of(&decision.mixture().strength(self.strength)?));
        dispatched.decisions.iter().map(slot).collect()
    }
}

/// An oracle needs experts called as the tasks are.
pub fn check_oracle(task: &Task, items: &[Item], experts: &[&str]) -> Result<()> {
    match items.iter().map(|item| task.source(item)).find(|source| !experts.contains(source)) {
        None => Ok(()),
        Some(source) => {
            Err(Error::expected(format!("an expert called {source}, as the task"), experts.join(", "))
                .field("--against oracle")
                .hint("load it under this name with --expert NAME=FILE"))
        }
    }
}

impl Dispatched {
    /// Task, then who answers its items, then how many.
    fn confusion(&self) -> BTreeMap<&str, BTreeMap<&str, usize>> {
        let mut confusion: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for (source, decision) in self.sources.iter().zip(&self.decisions) {
            let chosen = decision.expert.as_deref().unwrap_or("base");
            *confusion.entry(source).or_default().entry(chosen).or_default() += 1;
        }
        confusion
    }

    /// Share of items that the expert of their task answers; `None` where experts have other names.
    pub fn accuracy(&self) -> Option<f64> {
        let pairs = self.sources.iter().zip(&self.decisions);
        let n_right = pairs.filter(|(source, decision)| decision.expert.as_ref() == Some(source)).count();
        self.is_named.then(|| n_right as f64 / self.sources.len() as f64)
    }

    /// For `--json`; `pass2_seconds` where pass 2 was timed alone.
    pub fn json(&self, pass2_seconds: Option<f64>) -> Value {
        let n = self.decisions.len() as f64;
        json!({
            "strategy": self.strategy,
            "threshold": self.threshold,
            "accuracy": self.accuracy(),
            "confusion": self.confusion(),
            "confidence": self.decisions.iter().map(|decision| decision.confidence).sum::<f64>() / n,
            "n_fallback": self.decisions.iter().filter(|decision| decision.is_fallback).count(),
            "pass1_tokens": self.cost.n_tokens,
            "pass1_ms": self.cost.ms,
            "pass2_ms": pass2_seconds.map(|seconds| 1e3 * seconds),
            "pass1_over_pass2": pass2_seconds.map(|seconds| self.cost.ms / (1e3 * seconds)),
        })
    }

    /// The same as text.
    pub fn table(&self, pass2_seconds: Option<f64>) -> String {
        let confusion = self.confusion();
        let mut columns: Vec<&str> = confusion.values().flat_map(|row| row.keys().copied()).collect();
        columns.sort_unstable();
        columns.dedup();
        let width = confusion.keys().map(|source| source.len()).max().unwrap_or(0).max(8);
        let mut text = format!("\nchosen by {}:\n{:width$}", self.strategy, "");
        // Writing to a string cannot fail.
        for column in &columns {
            let _ = write!(text, "  {column:>8}");
        }
        text.push('\n');
        for (source, row) in &confusion {
            let _ = write!(text, "{source:width$}");
            for column in &columns {
                let _ = write!(text, "  {:>w$}", row.get(column).unwrap_or(&0), w = column.len().max(8));
            }
            text.push('\n');
        }
        if let Some(accuracy) = self.accuracy() {
            let _ = writeln!(text, "{:.1} % by the expert of their task", 100.0 * accuracy);
        }
        let Cost { n_tokens, ms } = self.cost;
        let _ = write!(text, "pass 1: {n_tokens} tokens in {:.2} s", ms / 1e3);
        match pass2_seconds {
            Some(seconds) => {
                let _ = writeln!(text, ", {:.1} % of pass 2's {seconds:.2} s", ms / 10.0 / seconds);
            }
            None => text.push('\n'),
        }
        text
    }
}
