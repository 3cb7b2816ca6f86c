//! `llama-svf demo`: everything there is to see, on the embedded model.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{json, Value};

use super::eval::one_line;
use super::{ctrl_c, printer};
use crate::decompose::{decompose, DecomposeOptions, RankPolicy, Selection};
use crate::embedded;
use crate::engine::{
    sessions_for, AdaptedModel, AdapterOptions, Form, GraphOp, Model, SamplerOptions, Session, SessionOptions,
};
use crate::error::{exit, Error, Result};
use crate::eval::{Configuration, EvalOptions, Evaluation, Questions};
use crate::ffi::tensor_type::TensorType;
use crate::sidecar::Sidecar;
use crate::task::{LoadOptions, Part, Task, SKILLS};

/// See it work on the embedded model, in under two minutes
///
/// A small model that comes with the program is decomposed and answers questions of its three skills, of their
/// unseen variants, and which skill a question is about. Nothing is left behind.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  llama-svf demo\n  llama-svf demo -n 100 --json")]
pub struct Args {
    /// Questions per task
    #[arg(short = 'n', long = "items", value_name = "N", default_value_t = 300)]
    n_items: usize,
    /// Threads [default: all]
    #[arg(short, long, value_name = "N")]
    threads: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Tasks of which questions are shown, with this many each.
const SHOWN: usize = 3;
const SAMPLES: usize = 2;
/// Answers generated at once.
const BATCH: u32 = 32;

pub fn main(args: &Args) -> Result<u8> {
    if args.n_items == 0 {
        return Err(Error::expected("1 or more", 0).field("-n"));
    }
    let n_threads = args.threads.unwrap_or(SessionOptions::default().n_threads);
    if n_threads == 0 {
        return Err(Error::expected("1 or more", 0).field("threads"));
    }
    let began = Instant::now();
    let temporary = embedded::Temporary::new()?;
    let options = DecomposeOptions {
        model: temporary.path().to_path_buf(),
        output: temporary.folder().join("embedded.svf.gguf"),
        tensors: Selection::parse("all")?,
        rank: RankPolicy::Full,
        ty: TensorType::F16,
        threads: n_threads as usize,
        resume: false,
        force: false,
    };
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
        let evaluation = evaluate(&adapted, &questions, n_threads)?;
        if evaluation.is_partial() {
            return Err(Error::interrupted("interrupted"));
        }
        let summary = evaluation.summary(0);
        let (low, high) = summary.ci95;
        if !args.json {
            let interval = format!("{:.1} … {:.1} %", 100.0 * low, 100.0 * high);
            printer::print(&format!("{name:<18}  {:>6.1} %  {interval:>17}\n", 100.0 * summary.accuracy))?;
        }
        tasks.push(json!({
            "task": name,
            "n": evaluation.items.len(),
            "accuracy": summary.accuracy,
            "ci95": [low, high],
            "tokens_per_second": evaluation.n_tokens as f64 / evaluation.seconds,
            "samples": if i < SHOWN { json_samples(&evaluation) } else { Value::Null },
        }));
        if i < SHOWN {
            show_samples(&mut samples, name, &evaluation);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    if args.json {
        printer::print_json(&json!({
            "schema": "llama-svf/demo/1",
            "decompose_seconds": decompose_seconds,
            "weights": report.weights.len(),
            "components": n_components,
            "tasks": tasks,
            "seconds": seconds,
        }))?;
    } else {
        printer::print(&format!(
            "\n{samples}Done in {seconds:.0} s. The same on a task of yours: llama-svf eval --help\n"
        ))?;
    }
    Ok(exit::DONE)
}

/// Greedy answers of the base model, run through the adapted layers as it will be with experts.
fn evaluate<'a>(
    adapted: &Arc<AdaptedModel>,
    questions: &Questions<'a>,
    n_threads: u32,
) -> Result<Evaluation<'a>> {
    let model = adapted.model();
    let (n_sessions, options) = sessions_for(model, BATCH, questions.n_ctx_seq(), n_threads);
    let adapter = AdapterOptions { form: Form::Residual, op: GraphOp::Auto, n_slots: 1 };
    let session = |_| Session::adapted(adapted, &options, &adapter);
    let mut sessions = (0..n_sessions).map(session).collect::<Result<Vec<_>>>()?;
    let greedy = SamplerOptions { temperature: 0.0, ..SamplerOptions::default() };
    questions.evaluate(
        &mut sessions,
        &[Configuration { name: "base".into(), slot: 0 }],
        &EvalOptions { samples: 1, sampler: greedy },
        None,
        &printer::Bar::new("answering"),
        &ctrl_c::INTERRUPT,
    )
}

/// The first right and the first wrong answer, or the first two of a kind where there is only one.
fn pick(evaluation: &Evaluation) -> Vec<usize> {
    let is_right = |&i: &usize| evaluation.items[i].score(0) >= 1.0;
    let (right, wrong): (Vec<_>, Vec<_>) = (0..evaluation.items.len()).partition(is_right);
    let mut picked: Vec<_> = right.iter().take(1).chain(wrong.iter().take(1)).copied().collect();
    picked.extend(
        right
            .iter()
            .chain(&wrong)
            .filter(|i| !picked.contains(i))
            .take(SAMPLES - picked.len().min(SAMPLES))
            .copied()
            .collect::<Vec<_>>(),
    );
    picked
}

fn show_samples(text: &mut String, name: &str, evaluation: &Evaluation) {
    for i in pick(evaluation) {
        let item = &evaluation.items[i];
        let answer = &item.answers[0][0];
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}\n  Q  {}", item.item.prompt.trim().replace('\n', "\n     "));
        let _ = writeln!(text, "  A  {}", answer.completion.trim().replace('\n', "\n     "));
        match answer.score >= 1.0 {
            true => text.push_str("  ✓  right\n\n"),
            false => {
                let _ = writeln!(text, "  ✗  {}\n", one_line(&answer.reason, 100));
            }
        }
    }
}

fn json_samples(evaluation: &Evaluation) -> Value {
    let sample = |i: usize| {
        let item = &evaluation.items[i];
        let answer = &item.answers[0][0];
        json!({
            "id": item.item.id,
            "prompt": item.item.prompt,
            "gold": item.item.gold,
            "completion": answer.completion,
            "score": answer.score,
            "reason": answer.reason,
        })
    };
    pick(evaluation).into_iter().map(sample).collect()
}
