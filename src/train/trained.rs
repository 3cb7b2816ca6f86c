//! What comes of a run: the expert or the LoRA, and the report.

use std::sync::Arc;

use serde_json::Value;

use super::folder::Folder;
use super::log::{share_cut, Line, StepLine};
use super::options::Options;
use super::report::{Report, Shown};
use super::run::Ended;
use super::state::{mean, State};
use crate::dispatch::{describe, Description};
use crate::engine::{AdaptedModel, LoraModel, ModelWithExperts};
use crate::error::{Error, Result};
use crate::expert::{Expert, Multipliers, Profile, Training as Origin};
use crate::export::lora::{self, About, Pair};
use crate::ffi::tensor_type::TensorType;
use crate::progress::{Interrupt, Progress};
use crate::sidecar::AdaptedWeight;
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
    /// What was trained, if it is a LoRA.
    pub(super) lora: Option<LoraModel>,
}

impl Trained<'_> {
    /// Whether there is an expert or a LoRA worth keeping. Of a run that stopped half-way, one which is no better than the base
    /// model is of no use to anybody.
    pub fn is_kept(&self) -> bool {
        self.ended.is_success() || self.state.best.as_ref().is_some_and(|best| best.step > 0)
    }

    /// Whether it is a LoRA that was trained.
    pub fn is_lora(&self) -> bool {
        self.lora.is_some()
    }

    /// What did best on the validation items, as an expert; before the first validation it changes nothing.
    ///
    /// # Errors
    /// A LoRA was trained.
    pub fn expert(&self, name: &str, description: &str) -> Result<Expert> {
        if self.is_lora() {
            return Err(Error::invalid("a LoRA was trained, not an expert"));
        }
        let sidecar = self.adapted.sidecar();
        let mut expert = Expert::identity(name, sidecar);
        if let Some(best) = &self.state.best {
            expert = Expert::of_multipliers(name, sidecar, &best.parameters);
            expert.training = Some(Origin {
                task: self.task.name().to_owned(),
                steps: best.step,
                validation_before: mean(&self.state.before) as f32,
                validation_after: best.accuracy() as f32,
                seed: self.options.seed,
                layers: self.options.layers.map(|layers| layers.to_string()),
            });
        }
        Ok(Expert { description: description.to_owned(), profile: self.profile.clone(), ..expert })
    }

    /// What did best on the validation items, as the A and B of a LoRA.
    fn parameters(&self) -> &Multipliers {
        self.state.best.as_ref().map_or(&self.state.raw, |best| &best.parameters)
    }

    /// Writes the LoRA as an adapter of llama.cpp's format in F32.
    fn save_lora(&self, lora: &LoraModel, name: &str, description: &str) -> Result<()> {
        let about = About { name: name.to_owned(), description: description.to_owned() };
        let parameters = self.parameters();
        let pairs = lora.weights().iter().enumerate().map(|(index, AdaptedWeight { name, rank, .. })| {
            let [a, b] = lora.pair(index, parameters);
            Ok(Pair { weight: name, rank: *rank, a: a.into(), b: b.into(), types: [TensorType::F32; 2] })
        });
        lora::write_pairs(self.folder.output(), self.adapted.sidecar(), pairs, &about).map(drop)
    }

    /// Finds out what the expert's file is to tell of the train questions.
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

    /// Writes the expert or the LoRA, if it [is kept](Self::is_kept), and the report.
    ///
    /// # Errors
    /// A name or description that no expert can have, or files that cannot be written.
    pub fn save(&self, name: &str, description: &str) -> Result<()> {
        if self.is_kept() {
            match &self.lora {
                Some(lora) => self.save_lora(lora, name, description)?,
                None => self.expert(name, description)?.save(self.folder.output())?,
            }
        }
        let base = Multipliers::identity(self.adapted.sidecar());
        let (weights, change) = match &self.lora {
            Some(lora) => (lora.weights(), Shown::Components(components(lora, self.parameters()))),
            None => {
                let best = self.state.best.as_ref();
                (
                    &self.adapted.sidecar().weights[..],
                    Shown::Multipliers(best.map_or(&base, |best| &best.parameters)),
                )
            }
        };
        let report = Report {
            name,
            task: self.task.name(),
            ended: &self.ended,
            state: &self.state,
            history: &self.history,
            settings: &self.settings,
            weights: &weights.iter().map(|weight| weight.name.clone()).collect::<Vec<_>>(),
            change,
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

/// The lengths |bₖ|·|aₖ| of the components of B·A = Σ bₖ·aₖᵀ, by weight, the longest first.
fn components(lora: &LoraModel, parameters: &Multipliers) -> Multipliers {
    let of_weight = |(index, weight): (usize, &AdaptedWeight)| {
        let [a, b] = lora.pair(index, parameters);
        let length =
            |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let of_component = |k: usize| {
            let row = length(&mut a[k * weight.n_in..][..weight.n_in].iter().copied());
            (row * length(&mut b.iter().skip(k).step_by(weight.rank).copied())) as f32
        };
        let mut lengths: Vec<f32> = (0..weight.rank).map(of_component).collect();
        lengths.sort_by(|a, b| b.total_cmp(a));
        lengths
    };
    lora.weights().iter().enumerate().map(of_weight).collect()
}
