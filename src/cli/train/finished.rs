//! What is told about a run that ended.

use std::fmt::Write as _;

use serde_json::{json, Value};

use super::Args;
use crate::cli::printer;
use crate::error::{exit, Error, Result};
use crate::eval::scores::MANY_CUT;
use crate::train::{mean, validation, Ended, Trained};

/// Tells what came of a run whose files are written, and says how the command ends.
pub fn tell(args: &Args, trained: Trained) -> Result<u8> {
    let finished = Finished { args, trained: &trained };
    if trained.ended.is_success() || matches!(trained.ended, Ended::Interrupted) {
        if args.json {
            printer::print_json(&finished.json())?;
        } else {
            printer::print(&finished.table())?;
        }
    }
    let step = trained.state.step;
    let kept = format!("the state after step {step} is in {}", trained.folder.path().display());
    match trained.ended {
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
        .field(format!("task {}", trained.task.name()))
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

/// What is printed.
struct Finished<'a> {
    args: &'a Args,
    trained: &'a Trained<'a>,
}

impl Finished<'_> {
    fn json(&self) -> Value {
        let Self { args, trained } = self;
        let Trained { ended, state, folder, options, settings, task, .. } = trained;
        let seed = options.seed;
        let scores = state.best.as_ref().map_or(&state.before, |best| &best.scores);
        json!({
            "schema": "llama-svf/train/1",
            "model": args.files.model.as_ref().map_or("embedded".into(), |model| model.display().to_string()),
            "task": task.name(),
            "output": trained.is_kept().then(|| folder.output()),
            "folder": folder.path(),
            "ended": ended.word(),
            "steps": state.step,
            "best_step": state.best.as_ref().map_or(0, |best| best.step),
            "adapter": if trained.is_lora() { "lora" } else { "svf" },
            "objective": options.objective,
            "estimator": settings["estimator"],
            "reward": settings["reward"],
            "validation": {
                "n": scores.len(),
                "before": mean(&state.before),
                "before_ci95": validation::interval(&state.before, seed),
                "after": mean(scores),
                "after_ci95": validation::interval(scores, seed),
                "p_value": validation::p_value(scores, &state.before, seed),
            },
            "tokens": state.tokens,
            "cut": trained.share_cut(),
            "seconds": state.seconds,
        })
    }

    fn table(&self) -> String {
        let Trained { ended, state, folder, task, .. } = self.trained;
        let mut text = String::new();
        if !state.before.is_empty() {
            self.compare(&mut text);
        }
        if let Some(cut) = self.trained.share_cut().filter(|&cut| cut > 0.0) {
            let limit = task.generation().max_tokens;
            let hint = if cut >= MANY_CUT { " (hint: raise it with --max-tokens)" } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{:.1} % of the train answers were cut off at {limit} tokens{hint}",
                100.0 * cut
            );
        }
        let why = match ended {
            Ended::Patience => " (validation got no better)",
            Ended::Mastered => " (all answers got the same reward)",
            _ => "",
        };
        let what = if self.trained.is_lora() { "LoRA" } else { "expert" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{}: {} steps{why} in {:.0} s; {what} {}, report {}",
            task.name(),
            state.step,
            state.seconds,
            if self.trained.is_kept() { folder.output().display().to_string() } else { "not yet".into() },
            folder.report().display()
        );
        text
    }

    /// Validation before and after.
    fn compare(&self, text: &mut String) {
        let Trained { state, options, task, .. } = self.trained;
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
                let what = if self.trained.is_lora() { "LoRA" } else { "expert" };
                let _ = writeln!(text, "No step did better than none: the {what} is the start of the run.");
            }
        }
    }
}
