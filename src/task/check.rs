//! Whether a task is in order: its gold completions, ended as answers are, have to score 1.

use rayon::prelude::*;

use super::{Item, Task};
use crate::error::Result;
use crate::progress::{Interrupt, Progress};

/// What the check of a task found.
#[derive(Clone, Debug, Default)]
pub struct Check {
    /// Items that were checked.
    pub n_checked: usize,
    /// Gold completions that a stop string cuts and that score 1 all the same.
    pub n_cut: usize,
    /// Those that do not score 1, in the order of the items.
    pub faults: Vec<Fault>,
}

/// A gold completion that does not score 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Of the item.
    pub id: String,
    /// What it scores.
    pub score: f64,
    /// Why, in one line.
    pub reason: String,
}

impl Task {
    /// Scores the gold completions of `items`, which belong to this task, as if a model had written them: what comes
    /// after a stop string is lost. Progress counts items.
    ///
    /// # Errors
    /// An interrupt, or one of [`Task::score`].
    pub fn check(&self, items: &[&Item], progress: &dyn Progress, interrupt: &Interrupt) -> Result<Check> {
        let check = |item: &&Item| {
            interrupt.check()?;
            let stop = self.first_stop(&item.completion);
            let text = stop.map_or(&*item.completion, |(at, _)| &item.completion[..at]);
            let score = self.score(item, text)?;
            progress.advance(1);
            let cut = stop.map(|(_, stop)| format!("; the stop string {stop:?} cuts it off"));
            // A NaN is a fault too.
            let fault = (score.value != 1.0).then(|| Fault {
                id: item.id.clone(),
                score: score.value,
                reason: score.reason + cut.as_deref().unwrap_or(""),
            });
            Ok((stop.is_some() && fault.is_none(), fault))
        };
        progress.start(items.len() as u64, 0);
        let checked = items.par_iter().map(check).collect::<Result<Vec<_>>>();
        progress.finish();
        let checked = checked?;
        Ok(Check {
            n_checked: items.len(),
            n_cut: checked.iter().filter(|(is_cut, _)| *is_cut).count(),
            faults: checked.into_iter().filter_map(|(_, fault)| fault).collect(),
        })
    }

    /// The stop string that ends `text`, and where.
    fn first_stop(&self, text: &str) -> Option<(usize, &str)> {
        let stops = self.generation.stop.iter();
        stops.filter_map(|stop| Some((text.find(stop.as_str())?, stop.as_str()))).min()
    }
}
