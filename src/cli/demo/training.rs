//! An expert that learns live.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::answers::BATCH;
use crate::cli::inspect::spark;
use crate::cli::{ctrl_c, printer};
use crate::engine::{AdaptedModel, Form};
use crate::error::{Error, Result};
use crate::expert::Expert;
use crate::optimiser::Schedule;
use crate::resume::Earlier;
use crate::task::Task;
use crate::train::log::Line;
use crate::train::{Ended, Exact, Folder, ModelOptions, ModelPolicy, Options, Run};

/// What came of it.
pub struct Learnt {
    pub expert: Expert,
    /// Mean reward of each step's answers, from 0 to 1.
    pub rewards: Vec<f64>,
    pub seconds: f64,
    n_answers: usize,
}

/// Trains an expert for `task` in `folder`.
pub fn learn(
    adapted: &Arc<AdaptedModel>,
    task: &Task,
    steps: u64,
    n_threads: u32,
    folder: &Path,
) -> Result<Learnt> {
    let defaults = Options::default();
    let options = Options {
        schedule: Schedule { steps, warmup: 2, ..defaults.schedule },
        validate_every: steps,
        validation_items: 100,
        ..defaults
    };
    let model_options = ModelOptions {
        form: Form::Residual,
        batch: BATCH,
        n_threads,
        max_candidates: 1,
        validation_items: options.validation_items,
    };
    let mut policy = ModelPolicy::new(adapted, task, &model_options)?;
    let mut estimator = Exact::new(adapted, Form::Residual, n_threads as usize)?;
    let sidecar = adapted.sidecar();
    let sigma: Vec<_> = sidecar.weights.iter().map(|weight| weight.sigma.clone()).collect();
    let mut folder = Folder::of(&folder.join("demo.expert.gguf"));
    let settings = json!({ "task": task.name(), "options": options });
    let (log, state) = folder.open(Earlier::Refuse, &options, &settings, &sigma)?;
    let run = Run {
        options: &options,
        settings: &settings,
        sigma: &sigma,
        policy: &mut policy,
        estimator: &mut estimator,
        folder: &folder,
        log,
        progress: &printer::Bar::new("training"),
        interrupt: &ctrl_c::INTERRUPT,
    };
    let (ended, state) = run.go(state)?;
    match ended {
        Ended::Interrupted => return Err(Error::interrupted("interrupted")),
        Ended::Failed(error) => return Err(error),
        Ended::Done | Ended::Patience | Ended::Mastered | Ended::Flat(_) => {}
    }
    let expert = match state.best {
        Some(best) => Expert::of_multipliers("expert", sidecar, &best.m),
        None => Expert::identity("expert", sidecar),
    };
    let reward = |line: Line| match line {
        Line::Step(step) => Some(step.reward),
        Line::Validation(_) => None,
    };
    let rewards: Vec<_> = folder.history()?.into_iter().filter_map(reward).collect();
    let n_answers = rewards.len() * options.prompts * options.samples;
    Ok(Learnt { expert, rewards, seconds: state.seconds, n_answers })
}

impl fmt::Display for Learnt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rewards: Vec<f32> = self.rewards.iter().map(|&reward| reward as f32).collect();
        let curve = spark::line(&spark::resample(&rewards), 1.0);
        let ends = [self.rewards.first(), self.rewards.last()].map(|reward| reward.copied().unwrap_or(0.0));
        writeln!(
            f,
            "reward  {curve}  {:.2} to {:.2} in {} steps, {} answers, {:.0} s",
            ends[0],
            ends[1],
            self.rewards.len(),
            self.n_answers,
            self.seconds
        )
    }
}
