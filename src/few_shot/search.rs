//! Few-shot adaptation to a task as a whole: which of its items are shots, a search for each number of groups of layers,
//! and the choice between these on validation items.

use serde_json::{json, Value};

use super::{FewShot, Found, State};
use crate::cem::{Cem, Score, Settings};
use crate::engine::ModelWithExperts;
use crate::error::{Error, Result};
use crate::eval::{Choice, Questions, Runner};
use crate::expert::Mixture;
use crate::progress::{Interrupt, Progress};
use crate::task::{Item, Part, Task};

/// What is searched, and how.
#[derive(Clone, Debug)]
pub struct SearchOptions {
    /// Of every search; their seed also says which items are shots.
    pub settings: Settings,
    /// Training items that score a mixture.
    pub n_shots: usize,
    /// Groups of layers with weights of their own, a search for each.
    pub groups: Vec<usize>,
    /// Whether the base model has a weight too.
    pub with_base: bool,
    /// Validation items that choose between several searches.
    pub n_select: usize,
}

/// One search.
pub struct Search {
    /// Its groups of layers.
    pub n_groups: usize,
    /// What it found.
    pub found: Found,
    /// Accuracy on the validation items, where several searches compete.
    pub selection: Option<f64>,
}

/// All searches for one task.
pub struct Searched {
    /// The expert that does best alone on the same shots.
    pub single: String,
    /// What it scores.
    pub single_score: Score,
    /// By number of groups, in the order asked for.
    pub searches: Vec<Search>,
    /// The one that is taken.
    pub best: usize,
}

impl Searched {
    /// The mixture that is taken.
    pub fn mixture(&self) -> &Mixture {
        &self.searches[self.best].found.mixture
    }
}

impl SearchOptions {
    /// Checks all that can be before anything is loaded.
    ///
    /// # Errors
    /// Settings of the search out of range, or no groups.
    pub fn check(&self) -> Result<()> {
        if self.groups.is_empty() {
            return Err(Error::expected("1 number or more", 0).setting("groups"));
        }
        for &n_groups in &self.groups {
            Cem::new(1, n_groups, self.settings.clone())
                .map_err(|error| error.hint("see `population`, `elites`, `generations` and `groups`"))?;
        }
        Ok(())
    }

    /// The shots: training items, chosen by a hash with the seed.
    ///
    /// # Errors
    /// There are not so many.
    pub fn shots(&self, task: &Task) -> Result<Vec<Item>> {
        let n = self.n_shots;
        let mut items = task.items(Part::Train).to_vec();
        if items.is_empty() {
            return Err(Error::invalid("the task has no training items").setting("n_shots"));
        }
        if n == 0 || n > items.len() {
            let expected = format!("1 to {} training items", items.len());
            return Err(Error::expected(expected, n).setting("n_shots"));
        }
        let seed = self.settings.seed;
        let key = |item: &Item| *blake3::hash(format!("{seed} {}", item.prompt).as_bytes()).as_bytes();
        items.sort_by_cached_key(key);
        items.truncate(n);
        Ok(items)
    }
}

/// What a mixture is searched for.
#[derive(Clone, Copy)]
pub struct SearchProblem<'a> {
    /// The task.
    pub task: &'a Task,
    /// Its items that score a mixture; see [`SearchOptions::shots`].
    pub shots: &'a [Item],
    /// The experts that are mixed.
    pub experts: &'a [&'a str],
    /// How.
    pub options: &'a SearchOptions,
}

impl SearchProblem<'_> {
    /// All that changes the result, by name; a search goes on only with the same.
    pub fn identity(&self, joined: &ModelWithExperts, setup: &Runner) -> Value {
        let Self { task, shots, experts, options } = self;
        json!({
            "task": task.name(),
            "task_generation": task.generation(),
            "task_rules": task.rules_digest(),
            "n_shots": options.n_shots,
            "shots": Item::digest_of_all(*shots),
            "model": joined.identity(),
            "among": experts,
            "settings": options.settings,
            "groups": options.groups,
            "with_base": options.with_base,
            "batch": setup.batch,
            "threads": setup.n_threads,
        })
    }
}

/// The first `n` of `items`, or all if there are fewer.
///
/// # Errors
/// None is left; the error names `setting`.
pub fn first_items<'a>(items: &'a [Item], n: usize, setting: &str) -> Result<&'a [Item]> {
    if n == 0 || items.is_empty() {
        return Err(Error::expected("1 item or more", n.min(items.len())).setting(setting));
    }
    Ok(&items[..n.min(items.len())])
}

impl SearchProblem<'_> {
    /// Searches for mixtures that solve it, with `runner`. `states` are the searches begun earlier, the last of which goes on;
    /// `save` gets those that are done and the one at work, after each generation. Progress counts the generations of a
    /// search. The first search is taken; see [`Self::select`].
    ///
    /// # Errors
    /// No experts or shots, or those of [`FewShot::search`].
    pub fn search(
        &self,
        runner: &Runner,
        mut states: Vec<State>,
        mut save: impl FnMut(&[State], &State) -> Result<()>,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Searched> {
        let Self { task, shots, experts, options } = *self;
        let questions = Questions::new(runner.model, task, shots)?;
        let few_shot = FewShot::new(&questions, experts, options.with_base)?;
        let scheduler = runner.scheduler(questions.n_ctx_seq())?;
        let (single, single_score) = few_shot.best_single(&scheduler, options.settings.ties, interrupt)?;
        let mut searches = Vec::new();
        for (i, &n_groups) in options.groups.iter().enumerate() {
            if states.len() == i {
                states.push(State::new(Cem::new(few_shot.n_weights(), n_groups, options.settings.clone())?));
            }
            let (done, rest) = states.split_at_mut(i);
            let found =
                few_shot.search(&scheduler, &mut rest[0], progress, interrupt, |state| save(done, state))?;
            searches.push(Search { n_groups, found, selection: None });
        }
        Ok(Searched { single, single_score, searches, best: 0 })
    }

    /// Takes the search that does best on the task's validation items, the first of equal ones; nothing is measured where
    /// there is one search only.
    ///
    /// # Errors
    /// No validation items, or those of [`Runner::measure`].
    pub fn select(
        &self,
        runner: &Runner,
        searched: &mut Searched,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let Self { task, options, .. } = *self;
        if searched.searches.len() < 2 {
            return Ok(());
        }
        let items = first_items(task.items(Part::Validation), options.n_select, "n_select")?;
        let fixed = |search: &Search| Choice::Fixed(search.found.mixture.clone());
        let choices: Vec<_> = searched.searches.iter().map(fixed).collect();
        let questions = Questions::new(runner.model, task, items)?;
        let evaluation = runner.measure(&questions, &choices, progress, interrupt)?.evaluation;
        for (i, search) in searched.searches.iter_mut().enumerate() {
            search.selection = Some(evaluation.summary(i).accuracy);
        }
        for i in 1..searched.searches.len() {
            if searched.searches[i].selection > searched.searches[searched.best].selection {
                searched.best = i;
            }
        }
        Ok(())
    }
}
