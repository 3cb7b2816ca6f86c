//! What the model answers: greedy, base and expert on the same questions.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{json, Value};

use crate::cli::eval::one_line;
use crate::cli::{ctrl_c, printer};
use crate::engine::{AdaptedModel, ModelWithExperts};
use crate::error::Result;
use crate::eval::{Choice, Evaluation, Questions, Runner};
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
    let experts: Vec<_> = expert.cloned().into_iter().collect();
    let mixtures = [Mixture::base()].into_iter().chain(expert.map(|expert| Mixture::single(&expert.name)));
    let choices: Vec<_> = mixtures.map(Choice::Fixed).collect();
    let joined = ModelWithExperts::residual(Arc::clone(adapted), experts);
    let runner = Runner::new(adapted.model(), Some(&joined), BATCH, n_threads);
    let bar = printer::Bar::new("answering");
    Ok(runner.measure(questions, &choices, &bar, &ctrl_c::INTERRUPT)?.evaluation)
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
