//! The two passes: the model names the skill of each question, and answers with the expert for it.

use std::fmt::Write as _;

use serde_json::{json, Value};

use super::answers::{row, BATCH};
use crate::cli::{ctrl_c, dispatched, printer};
use crate::dispatch::{AdaptPrompt, Dispatcher, Options, Reading, Strategy, CLASSIFIER};
use crate::engine::{Model, ModelWithExperts};
use crate::error::{Error, Result};
use crate::eval::{Choice, Dispatched, Evaluation, Questions, Runner};
use crate::expert::Mixture;
use crate::task::{LoadOptions, Part, Task};

/// The three skills as one stream.
const STREAM: &str = "math,code,reasoning";

/// What came of it.
pub struct Adapted {
    /// For people.
    pub text: String,
    /// For `--json`.
    pub json: Value,
}

/// Answers `n_items` questions of each skill, in random order: adapted, as the base model, and with an oracle.
pub fn adapt(
    model: &std::sync::Arc<Model>,
    joined: &ModelWithExperts,
    n_items: usize,
    n_threads: u32,
) -> Result<Adapted> {
    let task = Task::load(STREAM, &LoadOptions::default())?;
    let items = task.items(Part::Test);
    let n_items = n_items.saturating_mul(STREAM.split(',').count()).min(items.len());
    let questions = Questions::new(model, &task, &items[..n_items])?;
    let experts = joined.expert_set()?;
    let options = Options {
        strategy: Strategy::Classifier,
        classifier: CLASSIFIER.into(),
        reading: Reading::Labels,
        threshold: 0.0,
        blend: false,
    };
    let dispatcher = Dispatcher::new(&experts, AdaptPrompt::embedded(), options)?;
    let runner = Runner {
        model,
        joined: Some(joined),
        dispatcher: Some(&dispatcher),
        strength: 1.0,
        lora: None,
        batch: BATCH,
        n_threads,
    };
    let choices = [Choice::Adapted, Choice::Fixed(Mixture::base()), Choice::Oracle];
    let bar = printer::Bar::new("answering");
    let measured = runner.measure(&questions, &choices, &bar, &ctrl_c::INTERRUPT)?;
    let evaluation = &measured.evaluation;
    let dispatched = measured.dispatched.as_ref().ok_or_else(|| Error::engine("pass 1 decided nothing"))?;
    Ok(Adapted { text: text(&task, evaluation, dispatched), json: json(evaluation, dispatched) })
}

fn text(task: &Task, evaluation: &Evaluation, dispatched: &Dispatched) -> String {
    let mut text = String::new();
    for skill in STREAM.split(',') {
        // One that the expert makes right, if there is one; else any.
        let of_skill = |&i: &usize| task.source(evaluation.items[i].item) == skill;
        let gained = |&i: &usize| evaluation.items[i].score(0) > evaluation.items[i].score(1);
        let mut indices = (0..evaluation.items.len()).filter(of_skill);
        let first = indices.clone().next();
        let Some(i) = indices.find(gained).or(first) else { continue };
        let decision = &dispatched.decisions()[i];
        let item = &evaluation.items[i];
        // Writing to a string cannot fail.
        let _ = writeln!(text, "Q  {}", item.item.prompt.trim().replace('\n', "\n   "));
        let _ = writeln!(text, "→  {}, {:.1} % sure", decision.label, 100.0 * decision.confidence);
        for (name, configuration) in [("base", 1), (decision.label.as_str(), 0)] {
            let answer = &item.answers[configuration][0];
            let mark = if answer.score >= 1.0 { '✓' } else { '✗' };
            let completion = answer.completion.trim().replace('\n', "\n   ");
            let _ = writeln!(text, "{mark}  {name}: {completion}");
        }
        text.push('\n');
    }
    let comparison = evaluation.compare(0, 1);
    let _ = writeln!(text, "{:<18}  {:>8}  {:>17}", "", "accuracy", "95 % interval");
    for (name, configuration) in [("base", 1), ("adapted", 0), ("oracle", 2)] {
        text += &row(name, evaluation, configuration);
    }
    let n = evaluation.items.len();
    let _ = writeln!(
        text,
        "difference {:+.1} points, p = {:.1e} ({n} questions); {:.1} % went to the expert of their skill\n\
         pass 1 took {:.1} ms a question",
        100.0 * comparison.delta,
        comparison.p_value,
        100.0 * dispatched.accuracy().unwrap_or(f64::NAN),
        dispatched.cost().ms / n as f64,
    );
    text
}

fn json(evaluation: &Evaluation, dispatched: &Dispatched) -> Value {
    let comparison = evaluation.compare(0, 1);
    json!({
        "tasks": STREAM,
        "n": evaluation.items.len(),
        "accuracy_base": evaluation.summary(1).accuracy,
        "accuracy_adapted": evaluation.summary(0).accuracy,
        "accuracy_oracle": evaluation.summary(2).accuracy,
        "p_value": comparison.p_value,
        "dispatch": dispatched::json(dispatched, None),
    })
}
