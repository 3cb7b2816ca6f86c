//! `llama-svf score`: scores answers that lie in a file.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{json, Value};

use super::eval::one_line;
use super::inputs::{tell_notes, DataArgs, PartFlag};
use super::{ctrl_c, printer};
use crate::error::{exit, Result};
use crate::eval::rescore::{Answers, Given, Paired, Rescored, Total};
use crate::task::{Overrides, Task};

/// Score answers to a task's questions that lie in a file; no model runs
///
/// The file holds JSON lines, plain or compressed with gzip: an answer each, with the item it answers.
///
/// An item is named by its data file and line, or by the line alone where there is one data file. Folders do not matter
/// while the file's name tells. What `llama-svf eval --trace` writes is such a file, so that old answers can be scored by
/// new rules; each of its configurations is counted by itself.
///
/// With --against, a paired test says what the difference between two of these is worth, or between the answers of two
/// files.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    llama-svf score --task gsm8k --data gsm8k/test.jsonl.gz --answers answers.jsonl\n  \
    llama-svf score --task my-task.toml --answers trace.jsonl   an old trace by new rules\n  \
    llama-svf score --task mbpp --data mbpp.jsonl --answers answers.jsonl --allow-exec\n  \
    llama-svf score --task my-task.toml --answers old.jsonl --answers new.jsonl --against old   a paired test\n\n\
    Lines of the file:\n  \
    {\"id\": \"gsm8k/test.jsonl.gz:7\", \"completion\": \"3 + 4 = 7\\n#### 7\"}\n  \
    {\"line\": 7, \"completion\": \"3 + 4 = 7\\n#### 7\"}\n  \
    {\"line\": 7, \"completion\": \"#### 8\", \"configuration\": \"base\", \"sample\": 1}\n\n\
    Lines of the data file count from 1. Items without an answer do not count.")]
pub struct Args {
    /// A built-in task or a task file; several with commas between are one shuffled stream
    #[arg(long, value_name = "NAME|FILE")]
    task: String,
    #[command(flatten)]
    data: DataArgs,
    /// Count answers to this part of the task's items only [default: all parts]
    #[arg(long, value_enum)]
    part: Option<PartFlag>,
    /// The answers; may be repeated, and each file's are called by its name then, without .jsonl
    #[arg(long, value_name = "FILE", required = true)]
    answers: Vec<PathBuf>,
    /// Compare the others with this one, a configuration or a file's name
    #[arg(long, value_name = "NAME")]
    against: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Wrong answers that the table shows.
const N_SHOWN: usize = 10;

pub fn main(args: &Args) -> Result<u8> {
    let task = args.data.load(&args.task, Overrides::default()).inspect(tell_notes)?;
    let answers = Answers::read(&args.answers, &task, args.part.map(PartFlag::part))?;
    if answers.n_elsewhere > 0 {
        printer::note(format_args!(
            "note: {} answers are to items of other parts and do not count",
            answers.n_elsewhere
        ));
    }
    if answers.n_other_prompt > 0 {
        printer::note(format_args!(
            "note: {} answers were given to another prompt than the task's",
            answers.n_other_prompt
        ));
    }
    let rescored = answers.score(&printer::Bar::new("scoring"), &ctrl_c::INTERRUPT)?;
    let totals = rescored.totals();
    let paired = match &args.against {
        Some(baseline) => rescored.against(baseline)?,
        None => totals.iter().map(|_| None).collect(),
    };
    let results: Vec<_> = totals.into_iter().zip(paired).collect();
    if args.json {
        printer::print_json(&args.as_json(&task, &rescored, &results))?;
    } else {
        printer::print(&args.as_table(&task, &rescored, &results))?;
    }
    Ok(exit::DONE)
}

/// A configuration's result, and what it is beside the one it is compared with.
type Measured = (Total, Option<Paired>);

impl Args {
    fn part_name(&self) -> &'static str {
        self.part.map_or("all", |part| part.part().name())
    }

    fn as_json(&self, task: &Task, rescored: &Rescored, results: &[Measured]) -> Value {
        let Rescored { answers, scores } = rescored;
        let answer = |(given, score): (&Given, &crate::reward::Score)| {
            let mut answer = json!({"id": given.id, "score": score.value, "reason": score.reason});
            if !given.configuration.is_empty() {
                answer["configuration"] = json!(given.configuration);
            }
            if given.sample > 0 {
                answer["sample"] = json!(given.sample);
            }
            answer
        };
        let total = |(total, paired): &Measured| {
            let Total { name, n, accuracy, ci95: (low, high) } = total;
            let mut value = json!({"configuration": name, "n": n, "accuracy": accuracy, "ci95": [low, high]});
            if let Some(Paired { n, comparison }) = paired {
                value["against"] = json!({
                    "n": n,
                    "delta": comparison.delta,
                    "delta_ci95": [comparison.delta_ci95.0, comparison.delta_ci95.1],
                    "p_value": comparison.p_value,
                    "test": comparison.test,
                    "n_gained": comparison.gained.len(),
                    "n_lost": comparison.lost.len(),
                });
            }
            value
        };
        let mut value = json!({
            "schema": "llama-svf/score/1",
            "task": task.name(),
            "part": self.part_name(),
            "n_items": answers.n_items,
            "n_elsewhere": answers.n_elsewhere,
            "answers": answers.given.iter().zip(scores).map(answer).collect::<Vec<_>>(),
        });
        // The first configuration is the one that was evaluated; further ones are what it was compared with.
        if let Some((first, _)) = results.first() {
            value["n"] = json!(first.n);
            value["accuracy"] = json!(first.accuracy);
            value["ci95"] = json!([first.ci95.0, first.ci95.1]);
        }
        if results.iter().any(|(total, _)| !total.name.is_empty()) {
            value["configurations"] = results.iter().map(total).collect();
        }
        if let Some(baseline) = &self.against {
            value["baseline"] = json!(baseline);
        }
        value
    }

    fn as_table(&self, task: &Task, rescored: &Rescored, results: &[Measured]) -> String {
        let Rescored { answers, scores } = rescored;
        let mut text = format!(
            "{}: {} answers ({}, {} items)\n\n",
            task.name(),
            answers.given.len(),
            match self.part {
                Some(_) => self.part_name(),
                None => "all parts",
            },
            answers.n_items
        );
        let width = results.iter().map(|(total, _)| total.name.chars().count()).max().unwrap_or(0).max(8);
        // Writing to a string cannot fail.
        let _ = write!(text, "{:width$}  {:>8}  {:>17}  {:>8}", "", "accuracy", "95 % interval", "answered");
        text += match &self.against {
            Some(_) => "  difference  better  worse         p\n",
            None => "\n",
        };
        for (Total { name, n, accuracy, ci95: (low, high) }, paired) in results {
            let interval = format!("{:.1} … {:.1} %", 100.0 * low, 100.0 * high);
            let name = if name.is_empty() { "answers" } else { name };
            let _ = write!(text, "{name:width$}  {:>6.1} %  {interval:>17}  {n:>8}", 100.0 * accuracy);
            if let Some(Paired { n: both, comparison }) = paired {
                let (gained, lost) = (comparison.gained.len(), comparison.lost.len());
                let (delta, p) = (100.0 * comparison.delta, comparison.p_value);
                let _ = write!(text, "  {delta:>+10.1}  {gained:>6}  {lost:>5}  {p:>8.1e}");
                if both != n {
                    let _ = write!(text, "  of {both} that both answered");
                }
            }
            text.push('\n');
        }
        if let Some(baseline) = &self.against {
            let mut tests: Vec<_> =
                results.iter().filter_map(|(_, paired)| Some(paired.as_ref()?.comparison.test)).collect();
            tests.sort_unstable();
            tests.dedup();
            let _ = writeln!(text, "\nitem by item beside {baseline}; p by {}", tests.join(", "));
            return text;
        }
        let wrong: Vec<_> = answers.given.iter().zip(scores).filter(|(_, score)| score.value < 1.0).collect();
        if !wrong.is_empty() {
            text.push('\n');
        }
        for (given, score) in wrong.iter().take(N_SHOWN) {
            let configuration = match given.configuration.is_empty() {
                true => String::new(),
                false => format!(" {}", given.configuration),
            };
            let sample = if given.sample > 0 { format!(" sample {}", given.sample) } else { String::new() };
            let (id, reason) = (one_line(&given.id, 80), one_line(&score.reason, 100));
            let _ = writeln!(text, "  {:.2}  {id}{configuration}{sample}: {reason}", score.value);
        }
        if wrong.len() > N_SHOWN {
            let _ = writeln!(text, "        … and {} more below 1 (--json has all)", wrong.len() - N_SHOWN);
        }
        text
    }
}
