//! What a report measures: targets, experts, and the strategies that are possible with them.

use std::collections::HashSet;

use serde_json::{json, Value};

use crate::dispatch::Dispatcher;
use crate::engine::{ModelWithExperts, Token};
use crate::error::{Error, Result};
use crate::eval::{Questions, Runner};
use crate::expert::{ExpertSet, Mixture};
use crate::few_shot::SearchOptions;
use crate::sidecar::Fingerprint;
use crate::task::{Item, LoadOptions, Part, Task, SKILLS};

/// Where a target's questions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A task that experts were trained on.
    Seen,
    /// All of those as one shuffled stream.
    Stream,
    /// A task that no expert was trained on.
    Unseen,
}

impl Kind {
    /// `seen`, `stream` or `unseen`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Stream => "stream",
            Self::Unseen => "unseen",
        }
    }
}

/// Questions that all strategies answer.
pub struct Target {
    /// What they are.
    pub kind: Kind,
    /// The task.
    pub task: Task,
    /// Its test items that are asked.
    pub items: Vec<Item>,
}

impl Target {
    /// The task's name.
    pub fn name(&self) -> &str {
        self.task.name()
    }
}

/// The tasks of a report.
pub struct Targets {
    /// Seen tasks, their stream if there is one, unseen tasks.
    pub targets: Vec<Target>,
    /// What a reader should know about them.
    pub notes: Vec<String>,
}

impl Targets {
    /// Loads the tasks `seen` and `unseen`, the first `n_items` test items of each, or all.
    ///
    /// # Errors
    /// No seen task, one that is named twice, those of [`Task::load`], or a task without test items.
    pub fn load(
        seen: &[String],
        unseen: &[String],
        n_items: Option<usize>,
        options: &LoadOptions,
    ) -> Result<Self> {
        if seen.is_empty() {
            return Err(Error::expected("1 task or more", 0).setting("seen"));
        }
        let target = |kind: Kind, name: &String| {
            let task = Task::load(name, options)?;
            let all = task.items(Part::Test);
            let items = all[..n_items.unwrap_or(all.len()).min(all.len())].to_vec();
            if items.is_empty() {
                return Err(Error::expected("1 test item or more", 0).field(format!("task {name}")));
            }
            Ok(Target { kind, task, items })
        };
        let mut targets = seen.iter().map(|name| target(Kind::Seen, name)).collect::<Result<Vec<_>>>()?;
        let n_seen = targets.len();
        let others = unseen.iter().map(|name| target(Kind::Unseen, name)).collect::<Result<Vec<_>>>()?;
        let mut names = HashSet::new();
        if let Some(twice) = targets.iter().chain(&others).find(|target| !names.insert(target.name())) {
            return Err(Error::invalid("it is named twice").field(format!("task {}", twice.name())));
        }
        let mut notes = Vec::new();
        if n_seen > 1 {
            match stream(seen, &targets, options) {
                Ok(stream) => targets.push(stream),
                Err(error) => notes.push(format!("The seen tasks make no stream: {error}.")),
            }
        }
        // A stream's own notes repeat those of its tasks.
        for target in targets.iter().chain(&others).filter(|target| target.kind != Kind::Stream) {
            let lines = target.task.notes().iter().map(|note| format!("{}: {note}.", target.name()));
            notes.extend(lines);
        }
        targets.extend(others);
        Ok(Self { targets, notes })
    }
}

/// The items of `targets` in the order of a stream.
fn stream(names: &[String], targets: &[Target], options: &LoadOptions) -> Result<Target> {
    let task = Task::load(&names.join(","), options)?;
    let asked: HashSet<_> =
        targets.iter().flat_map(|target| &target.items).map(|item| item.prompt.as_str()).collect();
    let all = task.items(Part::Test);
    let items = all.iter().filter(|item| asked.contains(item.prompt.as_str())).cloned().collect();
    Ok(Target { kind: Kind::Stream, task, items })
}

/// A report to be made.
pub struct Plan<'a> {
    /// The model with its experts; no dispatcher of its own.
    pub runner: Runner<'a>,
    /// What is answered.
    pub targets: &'a Targets,
    /// The experts.
    pub experts: &'a ExpertSet,
    /// The one that names skills and does not answer, whether or not it is loaded.
    pub classifier: &'a str,
    /// Who chooses an expert for each question, as far as it can be done.
    pub dispatchers: &'a [Dispatcher],
    /// How mixtures are searched.
    pub search: &'a SearchOptions,
    /// What the model is called.
    pub model_name: &'a str,
    /// By target.
    limits: Vec<Limits>,
}

/// What is not possible on a target, and why.
#[derive(Default)]
struct Limits {
    /// By dispatcher.
    choice: Vec<Option<String>>,
    search: Option<String>,
}

impl<'a> Plan<'a> {
    /// A plan; nothing is measured yet.
    ///
    /// # Errors
    /// A question that is too long for the model's context, or that the adaptation prompt cannot hold.
    pub fn new(
        runner: Runner<'a>,
        targets: &'a Targets,
        experts: &'a ExpertSet,
        classifier: &'a str,
        dispatchers: &'a [Dispatcher],
        search: &'a SearchOptions,
        model_name: &'a str,
    ) -> Result<Self> {
        let limits = Vec::new();
        let mut plan = Self { runner, targets, experts, classifier, dispatchers, search, model_name, limits };
        plan.limits = targets.targets.iter().map(|target| plan.find_limits(target)).collect::<Result<_>>()?;
        Ok(plan)
    }

    fn find_limits(&self, target: &Target) -> Result<Limits> {
        let model = self.runner.model;
        let n_ctx = model.n_ctx_train() as usize;
        let too_long = |items: &[Item]| -> Result<Option<String>> {
            let prompts = Questions::new(model, &target.task, items)?.into_prompts();
            let max_tokens = target.task.generation().max_tokens;
            let is_long = |prompt: &[Token]| prompt.len() + max_tokens > n_ctx + 1;
            let at = prompts.iter().position(|prompt| is_long(prompt));
            Ok(at.map(|at| {
                format!(
                    "item {} has {} tokens and its answer may have {max_tokens}, but the model's context is {n_ctx}",
                    items[at].id,
                    prompts[at].len()
                )
            }))
        };
        if let Some(problem) = too_long(&target.items)? {
            return Err(Error::too_large(problem).field(format!("task {}", target.name())));
        }
        let questions: Vec<_> = target.items.iter().map(|item| item.prompt.as_str()).collect();
        let choice = |dispatcher: &Dispatcher| {
            let n = dispatcher.n_read(model, &questions)?;
            Ok((n > n_ctx)
                .then(|| format!("pass 1 would read {n} tokens, but the model's context is {n_ctx}")))
        };
        Ok(Limits {
            choice: self.dispatchers.iter().map(choice).collect::<Result<_>>()?,
            search: match (self.answering().is_empty(), self.search.shots(&target.task)) {
                (true, _) => Some("there is no expert beside the classifier".into()),
                (_, Err(error)) => Some(error.to_string()),
                _ if self.search.groups.len() > 1 && target.task.items(Part::Validation).is_empty() => {
                    Some("it has no validation items to choose the groups of layers by".into())
                }
                (_, Ok(shots)) => too_long(&shots)?,
            },
        })
    }

    fn limits(&self, target: &Target) -> Option<&Limits> {
        let at = self.targets.targets.iter().position(|other| other.name() == target.name())?;
        self.limits.get(at)
    }

    /// The dispatchers that can choose for `target`.
    pub(super) fn choosing(&self, target: &Target) -> impl Iterator<Item = &'a Dispatcher> + '_ {
        let choice = self.limits(target).map_or(&[][..], |limits| &limits.choice);
        self.dispatchers.iter().zip(choice).filter(|(_, limit)| limit.is_none()).map(|(it, _)| it)
    }

    /// What is not possible on `target`, and why.
    pub(super) fn impossible(&self, target: &Target) -> Vec<String> {
        let Some(limits) = self.limits(target) else { return Vec::new() };
        let name = target.name();
        let strategies = self.dispatchers.iter().map(|it| it.options().strategy.name());
        let choice = strategies
            .zip(&limits.choice)
            .filter_map(|(strategy, limit)| Some(format!("No {strategy} for {name}: {}.", limit.as_ref()?)));
        let search = limits.search.iter().map(|limit| format!("No few-shot adaptation to {name}: {limit}."));
        let oracle = (!self.has_oracle(target))
            .then(|| format!("No oracle for {name}: no expert is called as the task."));
        choice.chain(search).chain(oracle).collect()
    }

    /// Whether a mixture is searched for `target`.
    pub(super) fn is_searched(&self, target: &Target) -> bool {
        self.limits(target).is_some_and(|limits| limits.search.is_none())
    }

    /// Whether each item's own expert is known. A single task's oracle is that expert alone.
    pub(super) fn has_oracle(&self, target: &Target) -> bool {
        let answering = self.answering();
        match target.kind {
            Kind::Stream => target.items.iter().all(|item| answering.contains(&target.task.source(item))),
            Kind::Seen | Kind::Unseen => self.own(target.name()).is_some(),
        }
    }

    /// All experts: those that are called as tasks in the order of these, then others, and the classifier last.
    pub fn names(&self) -> Vec<&str> {
        let mut names = self.experts.names();
        let targets = &self.targets.targets;
        names.sort_by_key(|name| {
            let own = targets.iter().position(|target| target.name() == *name);
            (*name == self.classifier, own.unwrap_or(targets.len()))
        });
        names
    }

    /// The experts that answer: all but the classifier.
    pub fn answering(&self) -> Vec<&str> {
        self.names().into_iter().filter(|&name| name != self.classifier).collect()
    }

    /// The expert that is for the task `name`, where that is known: the one called alike, or for the unseen variant of a
    /// built-in skill the one called as the skill.
    pub fn own<'b>(&self, name: &'b str) -> Option<&'b str> {
        let own = match name.strip_suffix("-unseen") {
            Some(skill) if SKILLS.contains(&name) => skill,
            _ => name,
        };
        self.answering().contains(&own).then_some(own)
    }

    /// The configurations that are measured whatever is found: the base model, and each expert alone.
    pub fn singles(&self) -> Vec<Mixture> {
        let singles = self.names().into_iter().map(Mixture::single);
        [Mixture::base()].into_iter().chain(singles).collect()
    }

    /// Everything that changes what is measured, by name.
    ///
    /// # Errors
    /// A model without tensors, or a prompt that cannot be filled in.
    pub fn settings(&self) -> Result<Value> {
        let target = |target: &Target| {
            let task = &target.task;
            let chosen_by = [Part::Train, Part::Validation].map(|part| task.items(part));
            let all = target.items.iter().chain(chosen_by.into_iter().flatten());
            let value = json!({
                "generation": task.generation(),
                "items": target.items.len(),
                "items_digest": Item::digest_of_all(all),
                "kind": target.kind.name(),
                "rules": task.rules_digest(),
            });
            (target.name().to_owned(), value)
        };
        let dispatcher = |it: &Dispatcher| Ok((it.options().strategy.name().to_owned(), it.identity()?));
        let SearchOptions { settings, n_shots, groups, with_base, n_select } = self.search;
        Ok(json!({
            "model": Fingerprint::of_model(self.runner.model.file())?.as_str(),
            "experts": self.names(),
            "adapted": self.runner.joined.map(ModelWithExperts::identity),
            "tasks": self.targets.targets.iter().map(target).collect::<Value>(),
            "dispatch": self.dispatchers.iter().map(dispatcher).collect::<Result<Value>>()?,
            "search": {
                "settings": settings,
                "shots": n_shots,
                "groups": groups,
                "with_base": with_base,
                "select": n_select,
            },
            "batch": self.runner.batch,
            "threads": self.runner.n_threads,
        }))
    }
}
