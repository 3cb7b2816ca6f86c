//! What the model answers: greedy, base and expert on the same questions.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{json, Value};

use crate::cli::eval::one_line;
use crate::cli::{ctrl_c, printer};
use crate::engine::{sessions_for, AdaptedModel, AdapterOptions, Form, GraphOp, SamplerOptions, Session};
use crate::error::{Error, Result};
use crate::eval::{Configuration, EvalOptions, Evaluation, Questions};
use crate::expert::{Expert, Mixture};

/// Samples shown per task.
const SAMPLES: usize = 2;
/// Answers generated at once.
pub const BATCH: u32 = 32;

/// Greedy answers of the base model, run through the adapted layers, and of `expert` where there is one.
pub fn evaluate<'a>(
    adapted: &Arc<AdaptedModel>,
    questions: &Questions<'a>,
    expert: Option<&Expert>,
    n_threads: u32,
) -> Result<Evaluation<'a>> {
    let model = adapted.model();
    let (n_sessions, options) = sessions_for(model, BATCH, questions.n_ctx_seq(), n_threads);
    let n_slots = 1 + u32::from(expert.is_some());
    let adapter = AdapterOptions { form: Form::Residual, op: GraphOp::Auto, n_slots };
    let session = |_| Session::adapted(adapted, &options, &adapter);
    let mut sessions = (0..n_sessions).map(session).collect::<Result<Vec<_>>>()?;
    let mut configurations = vec![Configuration { name: "base".into(), slot: 0 }];
    if let Some(expert) = expert {
        for session in &mut sessions {
            session.experts_mut()?.insert(expert.clone())?;
            session.set_mixture(1, &Mixture::single(&expert.name))?;
        }
        configurations.push(Configuration { name: expert.name.clone(), slot: 1 });
    }
    let greedy = SamplerOptions { temperature: 0.0, ..SamplerOptions::default() };
    let evaluation = questions.evaluate(
        &mut sessions,
        &configurations,
        &EvalOptions { samples: 1, sampler: greedy },
        None,
        &printer::Bar::new("answering"),
        &ctrl_c::INTERRUPT,
    )?;
    match evaluation.is_partial() {
        true => Err(Error::interrupted("interrupted")),
        false => Ok(evaluation),
    }
}

/// The row of a table: accuracy and its interval.
pub fn row(name: &str, evaluation: &Evaluation, configuration: usize) -> String {
    let summary = evaluation.summary(configuration);
    let (low, high) = summary.ci95;
    let interval = format!("{:.1} … {:.1} %", 100.0 * low, 100.0 * high);
    format!("{name:<18}  {:>6.1} %  {interval:>17}\n", 100.0 * summary.accuracy)
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

pub fn show_samples(text: &mut String, name: &str, evaluation: &Evaluation) {
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

pub fn json_samples(evaluation: &Evaluation) -> Value {
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
