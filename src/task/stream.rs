//! Several tasks as one: their items in one shuffled stream, each scored by its own task.

use std::collections::HashSet;

use super::reward::{Answer, Reward};
use super::{dropped, Generation, Item, LoadOptions, Origin, Part, Parts, Task};
use crate::error::{Error, Result};

impl Task {
    /// The tasks `names` as a stream. The order of the items is that of a hash, so that the first n are a fair
    /// sample of all tasks.
    ///
    /// # Errors
    /// Those of [`Task::load`], a task named twice, data of one's own (whose would they be?), or tasks whose answers
    /// are not generated alike.
    pub(super) fn stream(names: &[&str], options: &LoadOptions) -> Result<Self> {
        if !options.data.is_empty() {
            return Err(Error::invalid("a stream of tasks takes no data")
                .setting("data")
                .hint("write a task file for each of them that names its data"));
        }
        let tasks = names.iter().map(|name| Self::load(name, options)).collect::<Result<Vec<_>>>()?;
        Self::join(tasks)
    }

    /// The tasks as one.
    ///
    /// # Errors
    /// See [`Self::stream`].
    pub(super) fn join(mut tasks: Vec<Self>) -> Result<Self> {
        let mut names = HashSet::new();
        if let Some(twice) = tasks.iter().find(|task| !names.insert(task.name())) {
            return Err(Error::invalid("it is in the stream twice").field(format!("task {}", twice.name())));
        }
        let Some(first) = tasks.first() else { return Err(Error::expected("1 task or more", 0)) };
        let mut generation = first.generation.clone();
        for task in &tasks {
            let Generation { max_tokens, stop, chat, system } = &task.generation;
            if (stop, chat, system) != (&generation.stop, &generation.chat, &generation.system) {
                return Err(Error::invalid(
                    "its answers are generated in another way than those of the first task",
                )
                .field(format!("task {}", task.name()))
                .hint("a stream needs the same stop, chat and system in every task file"));
            }
            generation.max_tokens = generation.max_tokens.max(*max_tokens);
        }
        let mut seen = HashSet::new();
        let mut duplicates = Vec::new();
        let mut parts = Parts::default();
        // In this order, as within one task: what two parts share stays where it tests.
        for part in [Part::Test, Part::Validation, Part::Train] {
            let mut items = Vec::new();
            for (i, task) in tasks.iter_mut().enumerate() {
                for item in std::mem::take(task.parts.of_mut(part)) {
                    let is_new = seen.insert(blake3::hash(item.prompt.as_bytes()));
                    if is_new { &mut items } else { &mut duplicates }.push(item.of_task(i));
                }
            }
            items.sort_by_cached_key(|item| *blake3::hash(item.prompt.as_bytes()).as_bytes());
            *parts.of_mut(part) = items;
        }
        let name = tasks.iter().map(Self::name).collect::<Vec<_>>().join(",");
        let mut notes = dropped(duplicates.len());
        for (i, task) in tasks.iter_mut().enumerate() {
            duplicates.extend(std::mem::take(&mut task.duplicates).into_iter().map(|item| item.of_task(i)));
        }
        notes.extend(tasks.iter().flat_map(|task| task.notes.clone()));
        let mut origin = Origin::default();
        for task in &tasks {
            origin.files.extend(task.origin.files.iter().cloned());
            origin.data.extend(task.origin.data.iter().cloned());
        }
        let mut rewards: Vec<_> = tasks.iter().map(|task| task.origin.reward.as_str()).collect();
        rewards.dedup();
        origin.reward = rewards.join(", ");
        let rule = tasks.iter().map(Self::rules).collect::<Vec<_>>().join("; ");
        Ok(Self {
            description: format!("a shuffled stream of {name}"),
            name,
            generation,
            reward: Reward::Stream(tasks),
            keep_thinking: false,
            rule,
            origin,
            parts,
            duplicates,
            notes,
        })
    }

    /// The name of the task that an item comes from: this one's own, except in a stream.
    pub fn source(&self, item: &Item) -> &str {
        match (&self.reward, &item.answer) {
            (Reward::Stream(tasks), Answer::Of(i, _)) => tasks.get(*i).map_or(&self.name, |task| &task.name),
            _ => &self.name,
        }
    }
}

impl Item {
    /// The item as one of a stream, of its task number `i`.
    fn of_task(self, i: usize) -> Self {
        Self { answer: Answer::Of(i, Box::new(self.answer)), ..self }
    }
}
