//! What comes of a run: the expert, and the report.

use std::sync::Arc;

use serde_json::Value;

use super::folder::Folder;
use super::log::{share_cut, Line, StepLine};
use super::options::Options;
use super::report::Report;
use super::run::Ended;
use super::state::{mean, State};
use crate::dispatch::{describe, Description};
use crate::engine::{AdaptedModel, ModelWithExperts};
use crate::error::Result;
use crate::expert::{Expert, Multipliers, Profile, Training as Origin};
use crate::progress::{Interrupt, Progress};
use crate::task::{Part, Task};

/// A run that ended, one way or another.
pub struct Trained<'a> {
    /// Why.
    pub ended: Ended,
    /// As it was after the last step that went well.
    pub state: State,
    /// The whole run, earlier parts too.
    pub history: Vec<Line>,
    /// Where all of it is kept.
    pub folder: Folder,
    /// What was learnt, and how.
    pub options: Options,
    /// All that changes the result, by name.
    pub settings: Value,
    /// What was learnt from.
    pub task: &'a Task,
    /// What the expert's file is to tell of the questions that it is for; see [`Self::describe`].
    pub profile: Profile,
    pub(super) adapted: Arc<AdaptedModel>,
}

impl Trained<'_> {
    /// Whether there is an expert worth keeping. Of a run that stopped half-way, one which is no better than the base
    /// model is of no use to anybody.
    pub fn is_kept(&self) -> bool {
        self.ended.is_success() || self.state.best.as_ref().is_some_and(|best| best.step > 0)
    }

    /// What did best on the validation items, as an expert; before the first validation it changes nothing.
    pub fn expert(&self, name: &str, description: &str) -> Expert {
        let sidecar = self.adapted.sidecar();
        let mut expert = Expert::identity(name, sidecar);
        if let Some(best) = &self.state.best {
            expert = Expert::of_multipliers(name, sidecar, &best.m);
            expert.training = Some(Origin {
                task: self.task.name().to_owned(),
                steps: best.step,
                validation_before: mean(&self.state.before) as f32,
                validation_after: best.accuracy() as f32,
                seed: self.options.seed,
                layers: self.options.layers.map(|layers| layers.to_string()),
            });
        }
        Expert { description: description.to_owned(), profile: self.profile.clone(), ..expert }
    }

    /// Finds out what the file is to tell of the train questions.
    ///
    /// # Errors
    /// Those of [`describe`].
    pub fn describe(
        &mut self,
        how: &Description,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<()> {
        let joined = ModelWithExperts::residual(Arc::clone(&self.adapted), Vec::new());
        self.profile = describe(&joined, self.task.items(Part::Train), how, progress, interrupt)?;
        Ok(())
    }

    /// Writes the expert, if it [is kept](Self::is_kept), and the report.
    ///
    /// # Errors
    /// A name or description that no expert can have, or files that cannot be written.
    pub fn save(&self, name: &str, description: &str) -> Result<()> {
        if self.is_kept() {
            self.expert(name, description).save(self.folder.output())?;
        }
        let weights = &self.adapted.sidecar().weights;
        let base = Multipliers::identity(self.adapted.sidecar());
        let report = Report {
            name,
            task: self.task.name(),
            ended: &self.ended,
            state: &self.state,
            history: &self.history,
            settings: &self.settings,
            weights: &weights.iter().map(|weight| weight.name.clone()).collect::<Vec<_>>(),
            m: self.state.best.as_ref().map_or(&base, |best| &best.m),
        };
        report.save(&self.folder.report())
    }

    /// The steps of the run.
    pub fn steps(&self) -> impl Iterator<Item = &StepLine> {
        self.history.iter().filter_map(|line| if let Line::Step(step) = line { Some(step) } else { None })
    }

    /// The share of train answers that the limit cut off, if the log knows it.
    pub fn share_cut(&self) -> Option<f64> {
        share_cut(self.steps())
    }
}
