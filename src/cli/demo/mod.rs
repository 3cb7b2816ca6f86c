//! `llama-svf demo`: everything there is to see, on the embedded model.

mod adapting;
mod answers;
mod training;

use std::sync::Arc;
use std::time::Instant;

use answers::{evaluate, json_samples, row, show_samples};
use serde_json::{json, Value};

use super::{ctrl_c, printer, runtime_args};
use crate::decompose::{decompose, DecomposeOptions};
use crate::embedded;
use crate::engine::{AdaptedModel, Model, ModelWithExperts};
use crate::error::{exit, Error, Result};
use crate::eval::Questions;
use crate::sidecar::Sidecar;
use crate::task::{LoadOptions, Part, Task, SKILLS};

/// See it work on the embedded model, in under two minutes
///
/// A small model that comes with the program is decomposed and answers questions of its three skills, of their
/// unseen variants, and which skill a question is about. Then an expert for one skill learns before your eyes. At last
/// the model adapts itself: for each question it chooses one of the experts that come with it. Nothing is left behind.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  llama-svf demo\n  llama-svf demo -n 100 --json")]
pub struct Args {
    /// Questions per task
    #[arg(short = 'n', long = "items", value_name = "N", default_value_t = 300)]
    n_items: usize,
    /// Steps of training
    #[arg(long, value_name = "N", default_value_t = 10)]
    steps: u64,
    /// Threads [default: all]
    #[arg(short, long, value_name = "N")]
    threads: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Tasks of which questions are shown.
const SHOWN: usize = 3;
/// The task that an expert learns.
const LEARNT: &str = "math";

pub fn main(args: &Args) -> Result<u8> {
    if args.n_items == 0 {
        return Err(Error::expected("1 or more", 0).field("-n"));
    }
    if args.steps == 0 {
        return Err(Error::expected("1 or more", 0).field("--steps"));
    }
    let n_threads = runtime_args::n_threads(args.threads)?;
    let began = Instant::now();
    let temporary = embedded::Temporary::new()?;
    let options = DecomposeOptions::embedded(&temporary, n_threads as usize);
    let report = decompose(&options, &printer::Bar::new("decomposing"), &ctrl_c::INTERRUPT)?;
    let n_components: usize = report.weights.iter().map(|weight| weight.rank).sum();
    let decompose_seconds = report.seconds;
    let model = Model::load(temporary.path(), 0)?;
    let adapted = AdaptedModel::new(&model, Sidecar::open(&options.output)?)?;
    if !args.json {
        printer::print(&format!(
            "The embedded model ({:.1} MB) was decomposed in {decompose_seconds:.1} s: {} weights, {n_components} \
             singular values.\nAn expert is one multiplier for each of them. Without one, the model answers:\n\n",
            embedded::bytes().len() as f64 / 1e6,
            report.weights.len(),
        ))?;
        printer::print(&format!("{:<18}  {:>8}  {:>17}\n", "task", "accuracy", "95 % interval"))?;
    }

    let mut tasks = Vec::new();
    let mut samples = String::new();
    for (i, name) in SKILLS.iter().enumerate() {
        let task = Task::load(name, &LoadOptions::default())?;
        let items = task.items(Part::Test);
        let questions = Questions::new(&model, &task, &items[..args.n_items.min(items.len())])?;
        let evaluation = evaluate(&adapted, &questions, None, n_threads)?;
        let summary = evaluation.summary(0);
        if !args.json {
            printer::print(&row(name, &evaluation, 0))?;
        }
        tasks.push(json!({
            "task": name,
            "n": evaluation.items.len(),
            "accuracy": summary.accuracy,
            "ci95": summary.ci95,
            "tokens_per_second": evaluation.n_tokens as f64 / evaluation.seconds,
            "samples": if i < SHOWN { json_samples(&evaluation) } else { Value::Null },
        }));
        if i < SHOWN {
            show_samples(&mut samples, name, &evaluation);
        }
    }
    if !args.json {
        printer::print(&format!(
            "\n{samples}Now an expert for {LEARNT} learns, from nothing but whether its answers are right:\n\n"
        ))?;
    }
    let task = Task::load(LEARNT, &LoadOptions::default())?;
    let learnt = training::learn(&adapted, &task, args.steps, n_threads, temporary.folder())?;
    let items = task.items(Part::Test);
    let questions = Questions::new(&model, &task, &items[..args.n_items.min(items.len())])?;
    let evaluation = evaluate(&adapted, &questions, Some(&learnt.expert), n_threads)?;
    let comparison = evaluation.compare(1, 0);
    let joined = ModelWithExperts::residual(Arc::clone(&adapted), temporary.experts()?);
    if !args.json {
        printer::print(&format!(
            "{learnt}\n{}{}\ndifference {:+.1} points, p = {:.1e} ({} test questions)\n\n\
             Such an expert for each skill comes with the program, and one that was trained to name skills. Now the \
             model\nadapts itself: pass 1 names the skill of a question, pass 2 answers with the expert for it.\n\n",
            row("base", &evaluation, 0),
            row("expert", &evaluation, 1),
            100.0 * comparison.delta,
            comparison.p_value,
            evaluation.items.len(),
        ))?;
    }
    let adapted = adapting::adapt(&model, &joined, args.n_items, n_threads)?;
    let seconds = began.elapsed().as_secs_f64();
    if args.json {
        return printer::print_json(&json!({
            "schema": "llama-svf/demo/1",
            "decompose_seconds": decompose_seconds,
            "weights": report.weights.len(),
            "components": n_components,
            "tasks": tasks,
            "training": {
                "task": LEARNT,
                "rewards": learnt.rewards,
                "seconds": learnt.seconds,
                "accuracy_before": evaluation.summary(0).accuracy,
                "accuracy_after": evaluation.summary(1).accuracy,
                "p_value": comparison.p_value,
            },
            "adaptation": adapted.json,
            "seconds": seconds,
        }))
        .map(|()| exit::DONE);
    }
    printer::print(&format!(
        "{}\nDone in {seconds:.0} s. The same on a task of yours: llama-svf eval, train, adapt and run --help\n",
        adapted.text
    ))?;
    Ok(exit::DONE)
}
