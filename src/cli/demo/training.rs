//! An expert that learns live.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::answers::BATCH;
use crate::cli::inspect::spark;
use crate::cli::{ctrl_c, printer};
use crate::engine::AdaptedModel;
use crate::error::{Error, Result};
use crate::expert::Expert;
use crate::optimiser::Schedule;
use crate::resume::Earlier;
use crate::task::Task;
use crate::train::{Ended, Options, Training, TrainingOptions};

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
    let options = TrainingOptions { batch: BATCH, n_threads, ..TrainingOptions::new(options) };
    let output = folder.join("demo.expert.gguf");
    let training = Training::open(adapted, task, &output, Earlier::Refuse, options)?;
    let trained = training.run(&printer::Bar::new("training"), &ctrl_c::INTERRUPT)?;
    let expert = trained.expert("expert", "")?;
    let rewards: Vec<_> = trained.steps().filter_map(|step| step.reward).collect();
    let n_answers = rewards.len() * trained.options.prompts * trained.options.samples;
    match trained.ended {
        Ended::Interrupted => return Err(Error::interrupted("interrupted")),
        Ended::Failed(error) => return Err(error),
        Ended::Done | Ended::Patience | Ended::Mastered | Ended::Flat(_) => {}
    }
    Ok(Learnt { expert, rewards, seconds: trained.state.seconds, n_answers })
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
