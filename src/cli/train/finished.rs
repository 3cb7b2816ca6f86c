//! What comes of a run: the expert, the report, and what is told about them.

use std::fmt::Write as _;

use serde_json::{json, Value};

use super::Args;
use crate::cli::printer;
use crate::error::{exit, Error, Result};
use crate::eval::scores::MANY_CUT;
use crate::expert::{Expert, Training};
use crate::sidecar::Sidecar;
use crate::task::Task;
use crate::train::log::{share_cut, Line};
use crate::train::report::Report;
use crate::train::{mean, validation, Ended, Folder, Options, State};

/// Whether an expert is written. Of a run that stopped half-way, one which is no better than the base model is of
/// no use to anybody.
fn is_saved(state: &State, ended: &Ended) -> bool {
    ended.is_success() || state.best.as_ref().is_some_and(|best| best.step > 0)
}

/// A run that ended, one way or another.
pub struct Finished<'a> {
    pub args: &'a Args,
    pub task: &'a Task,
    pub sidecar: &'a Sidecar,
    pub options: &'a Options,
    pub folder: Folder,
    pub ended: Ended,
    pub state: State,
    pub settings: Value,
    pub about: (String, String),
}

/// The share of train answers that the limit cut off, if the log knows it.
fn cut(history: &[Line]) -> Option<f64> {
    share_cut(history.iter().filter_map(|line| if let Line::Step(step) = line { Some(step) } else { None }))
}

impl Finished<'_> {
    /// Writes the expert and the report, tells what came of it, and says how the command ends.
    pub fn finish(self) -> Result<u8> {
        let is_learnt = self.ended.is_success();
        if is_saved(&self.state, &self.ended) {
            self.expert().save(self.folder.output())?;
        }
        let weights: Vec<_> = self.sidecar.weights.iter().map(|weight| weight.name.clone()).collect();
        let base: Vec<_> = self.sidecar.weights.iter().map(|weight| vec![1.0; weight.rank]).collect();
        let history = self.folder.history()?;
        let report = Report {
            name: &self.about.0,
            task: self.task.name(),
            ended: &self.ended,
            state: &self.state,
            history: &history,
            settings: &self.settings,
            weights: &weights,
            m: self.state.best.as_ref().map_or(&base, |best| &best.m),
        };
        report.save(&self.folder.report())?;
        if is_learnt || matches!(self.ended, Ended::Interrupted) {
            if self.args.json {
                printer::print_json(&self.json(cut(&history)))?;
            } else {
                printer::print(&self.table(cut(&history)))?;
            }
        }
        let step = self.state.step;
        let kept = format!("the state after step {step} is in {}", self.folder.path().display());
        match self.ended {
            Ended::Done | Ended::Patience | Ended::Mastered => Ok(exit::DONE),
            Ended::Interrupted => {
                printer::note(format_args!("interrupted: {kept} (hint: --resume goes on from here)"));
                Ok(exit::INTERRUPTED)
            }
            Ended::Flat(reward) => Err(Error::invalid(format!(
                "{} in {step} steps, so nothing can be learnt",
                match reward {
                    0.0 | 1.0 => format!("all rewards were {reward}"),
                    _ => "all answers to a question had the same reward".into(),
                }
            ))
            .field(format!("task {}", self.task.name()))
            .hint(match reward > 0.0 {
                true => "the model masters it already, or the reward does not look at the answer",
                false => {
                    "look at answers with `llama-svf eval --part train --samples 8 --trace FILE`: is the answer \
                     written as the reward wants it, and within max_tokens? is the task too hard?"
                }
            })),
            Ended::Failed(error) => {
                printer::note(format_args!("note: {kept}"));
                Err(error)
            }
        }
    }

    fn expert(&self) -> Expert {
        let (name, description) = &self.about;
        let mut expert = Expert::identity(name, self.sidecar);
        if let Some(best) = &self.state.best {
            expert = Expert::of_multipliers(name, self.sidecar, &best.m);
            expert.training = Some(Training {
                task: self.task.name().to_owned(),
                steps: best.step,
                validation_before: mean(&self.state.before) as f32,
                validation_after: best.accuracy() as f32,
                seed: self.options.seed,
            });
        }
        Expert { description: description.clone(), ..expert }
    }

    fn json(&self, cut: Option<f64>) -> Value {
        let Self { args, task, state, options, .. } = self;
        let seed = options.seed;
        let scores = state.best.as_ref().map_or(&state.before, |best| &best.scores);
        json!({
            "schema": "llama-svf/train/1",
            "model": args.model.as_ref().map_or("embedded".into(), |model| model.display().to_string()),
            "task": task.name(),
            "output": is_saved(state, &self.ended).then(|| self.folder.output()),
            "folder": self.folder.path(),
            "ended": self.ended.word(),
            "steps": state.step,
            "best_step": state.best.as_ref().map_or(0, |best| best.step),
            "estimator": self.settings["estimator"],
            "reward": self.settings["reward"],
            "validation": {
                "n": scores.len(),
                "before": mean(&state.before),
                "before_ci95": validation::interval(&state.before, seed),
                "after": mean(scores),
                "after_ci95": validation::interval(scores, seed),
                "p_value": validation::p_value(scores, &state.before, seed),
            },
            "tokens": state.tokens,
            "cut": cut,
            "seconds": state.seconds,
        })
    }

    fn table(&self, cut: Option<f64>) -> String {
        let Self { task, state, .. } = self;
        let mut text = String::new();
        if !state.before.is_empty() {
            self.compare(&mut text);
        }
        if let Some(cut) = cut.filter(|&cut| cut > 0.0) {
            let limit = task.generation().max_tokens;
            let hint = if cut >= MANY_CUT { " (hint: raise it with --max-tokens)" } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:.1} % of the train answers were cut off at {limit} tokens{hint}",
                100.0 * cut
            );
        }
        let ended = match self.ended {
            Ended::Patience => " (validation got no better)",
            Ended::Mastered => " (all answers got the same reward)",
            _ => "",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{}: {} steps{ended} in {:.0} s; expert {}, report {}",
            task.name(),
            state.step,
            state.seconds,
            if is_saved(state, &self.ended) {
                self.folder.output().display().to_string()
            } else {
                "not yet".into()
            },
            self.folder.report().display()
        );
        text
    }

    /// Validation before and after.
    fn compare(&self, text: &mut String) {
        let Self { task, state, options, .. } = self;
        let seed = options.seed;
        let _ = writeln!(text, "{}: validation, greedy, {} items\n", task.name(), state.before.len());
        let mut row = |name: &str, scores: &[f32]| {
            let (low, high) = validation::interval(scores, seed);
            let interval = format!("{:.1} … {:.1} %", 100.0 * low, 100.0 * high);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<10}  {:>6.1} %  {interval:>17}", 100.0 * mean(scores));
        };
        row("before", &state.before);
        if let Some(best) = &state.best {
            row(&format!("step {}", best.step), &best.scores);
            let _ = writeln!(
                text,
                "\ndifference {:+.1} points, p = {:.2e} on the items that chose the best step; test it with eval",
                100.0 * (best.accuracy() - mean(&state.before)),
                validation::p_value(&best.scores, &state.before, seed)
            );
            if best.step == 0 {
                text.push_str("No step did better than none: the expert is the start of the run.\n");
            }
        }
    }
}
