//! The numbers of a report, from its cells: what `report.json` holds.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::cells::{Answers, Candidate, Pass1};
use super::plan::{Kind, Plan, Target};
use super::Folder;
use crate::dispatch::Strategy;
use crate::error::{Error, Result};
use crate::eval::{scores, Choice, Reliability};
use crate::expert::Mixture;
use crate::sidecar::Fingerprint;

/// Seed of the bootstrap and of sign flips.
const SEED: u64 = 0;

/// All numbers.
#[derive(Serialize)]
pub struct Results {
    /// `llama-svf/report/1`.
    pub schema: &'static str,
    /// The model.
    pub model: ModelInfo,
    /// The targets.
    pub tasks: Vec<TaskInfo>,
    /// The experts.
    pub experts: Vec<ExpertInfo>,
    /// The base model and each expert alone, on each task.
    pub experts_by_task: Vec<Measured>,
    /// Each strategy on each target.
    pub strategies_by_task: Vec<Measured>,
    /// What pass 1 chose.
    pub dispatch: Vec<Dispatch>,
    /// Whether the strategies that choose are right as often as they say, over all tasks whose own expert is known.
    pub reliability: BTreeMap<String, Reliability>,
    /// What few-shot adaptation found.
    pub mixtures: Vec<Found>,
    /// What the passes took.
    pub passes: Vec<Passes>,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// How it was made.
    pub settings: Value,
}

/// Which model.
#[derive(Serialize)]
pub struct ModelInfo {
    /// What it is called.
    pub name: String,
    /// Which weights.
    pub fingerprint: String,
}

/// A target.
#[derive(Serialize)]
pub struct TaskInfo {
    /// Its name.
    pub name: String,
    /// `seen`, `stream` or `unseen`.
    pub kind: &'static str,
    /// Items.
    pub n: usize,
    /// The expert that is for it, where that is known.
    pub own_expert: Option<String>,
}

/// An expert.
#[derive(Serialize)]
pub struct ExpertInfo {
    /// Its name.
    pub name: String,
    /// What it is good at.
    pub description: String,
    /// The task it was trained on, if it was.
    pub trained_on: Option<String>,
    /// Whether it names skills and does not answer.
    pub is_classifier: bool,
}

/// One entry of a table.
#[derive(Serialize)]
pub struct Measured {
    /// `base`, an expert, or a strategy.
    pub name: String,
    /// The target.
    pub task: String,
    /// What answered, as `eval` calls it.
    pub configuration: String,
    /// Items.
    pub n: usize,
    /// Mean score.
    pub accuracy: f64,
    /// Its 95 % interval.
    pub ci95: (f64, f64),
    /// Answers that were cut off at the task's limit.
    pub n_cut: usize,
    /// Against the base model on the same items; `None` for itself.
    pub against_base: Option<Against>,
    /// Whether none is better on this target, and some are worse; an oracle does not compete.
    pub best: bool,
}

/// A paired comparison.
#[derive(Serialize)]
pub struct Against {
    /// Difference of the accuracies.
    pub delta: f64,
    /// Its 95 % interval.
    pub delta_ci95: (f64, f64),
    /// Two-sided.
    pub p_value: f64,
    /// The test.
    pub test: &'static str,
}

/// What a strategy chose for a target.
#[derive(Serialize)]
pub struct Dispatch {
    /// `prompt`, `classifier` or `nearest`.
    pub strategy: String,
    /// The target.
    pub task: String,
    /// Items.
    pub n: usize,
    /// Task, then label, then how often; a single task has one row.
    pub labels: BTreeMap<String, BTreeMap<String, usize>>,
    /// Share of items for which the label is their task's own expert, where that is known.
    pub accuracy: Option<f64>,
    /// Mean confidence.
    pub confidence: f64,
    /// Choices that the threshold gave to the base model.
    pub n_fallback: usize,
}

/// What few-shot adaptation found for a target.
#[derive(Serialize)]
pub struct Found {
    /// The target.
    pub task: String,
    /// Weights by expert, as in a mixture file; a list where layers have groups.
    pub mixture: Value,
    /// The weights' means over groups, and what the base model is left.
    pub weights: BTreeMap<String, f64>,
    /// Share of the shots that it answers.
    pub shots_accuracy: f64,
    /// Ids of the shots.
    pub shots: Vec<String>,
    /// The expert that does best alone on the same shots.
    pub best_single: String,
    /// Its share.
    pub best_single_accuracy: f64,
    /// What was searched, with different groups of layers.
    pub candidates: Vec<Candidate>,
    /// Which of these it is.
    pub chosen: usize,
    /// Time of the search, in milliseconds.
    pub ms: f64,
}

/// What a strategy took for all items of a target.
#[derive(Serialize)]
pub struct Passes {
    /// The strategy.
    pub strategy: String,
    /// The target.
    pub task: String,
    /// Once for the target, before any question: the few-shot search, in milliseconds.
    pub once_ms: Option<f64>,
    /// Tokens that pass 1 computed.
    pub pass1_tokens: usize,
    /// Its time, in milliseconds.
    pub pass1_ms: f64,
    /// Tokens of questions that pass 2 read.
    pub pass2_tokens_read: usize,
    /// Tokens that it wrote.
    pub pass2_tokens_written: usize,
    /// Its time, in milliseconds.
    pub pass2_ms: f64,
    /// Pass 1's part of the time of both.
    pub pass1_share: f64,
    /// Pass 1's time as a share of pass 2's, as the paper gives it.
    pub pass1_over_pass2: f64,
}

/// Names of the strategies in their order.
pub(super) const BASE: &str = "base";
pub(super) const FEW_SHOT: &str = "few-shot";
pub(super) const SINGLE: &str = "best single";
pub(super) const ORACLE: &str = "oracle";

impl Results {
    /// The numbers of what `folder` holds for `plan`.
    ///
    /// # Errors
    /// A cell is missing or damaged.
    pub fn new(plan: &Plan, folder: &Folder) -> Result<Self> {
        let targets = &plan.targets.targets;
        let mut results = Self {
            schema: "llama-svf/report/1",
            model: ModelInfo {
                name: plan.model_name.to_owned(),
                fingerprint: Fingerprint::of_model(plan.runner.model.file())?.as_str().to_owned(),
            },
            tasks: targets.iter().map(|target| task_info(plan, target)).collect(),
            experts: experts(plan)?,
            experts_by_task: Vec::new(),
            strategies_by_task: Vec::new(),
            dispatch: Vec::new(),
            reliability: BTreeMap::new(),
            mixtures: Vec::new(),
            passes: Vec::new(),
            notes: notes(plan),
            settings: plan.settings()?,
        };
        let mut choices: BTreeMap<String, Vec<(f64, bool)>> = BTreeMap::new();
        for target in targets {
            let of = |configuration: &str| answers(folder, target, configuration);
            if target.kind != Kind::Stream {
                let singles = plan.singles().into_iter().map(|mixture| {
                    let name = mixture.weights().next().map_or(BASE, |(name, _)| name).to_owned();
                    Ok((name, of(&named(&mixture))?))
                });
                results.experts_by_task.extend(compared(&singles.collect::<Result<Vec<_>>>()?));
            }
            let mut strategies = vec![(BASE.to_owned(), of(BASE)?)];
            for dispatcher in plan.choosing(target) {
                let name = dispatcher.options().strategy.name();
                let cell = of(&Choice::Adapted.name(Some(dispatcher)))?;
                if let Some(pass1) = &cell.pass1 {
                    results.dispatch.push(dispatch(plan, name, cell, pass1));
                    if target.kind != Kind::Stream {
                        let judged = |(source, label, confidence): &(String, String, f64)| {
                            Some((*confidence, plan.own(source)? == label))
                        };
                        choices
                            .entry(name.to_owned())
                            .or_default()
                            .extend(pass1.choices.iter().filter_map(judged));
                    }
                }
                strategies.push((name.to_owned(), cell));
            }
            let search = folder.search(target.name()).filter(|_| plan.is_searched(target));
            if let Some(search) = search {
                let mixture = search.mixture()?;
                strategies.push((FEW_SHOT.into(), of(&named(&mixture))?));
                strategies.push((SINGLE.into(), of(&named(&Mixture::single(search.single.as_str())))?));
                let mut weights: BTreeMap<_, _> =
                    mixture.weights().map(|(name, weight)| (name.to_owned(), f64::from(weight))).collect();
                let rest = 1.0 - weights.values().sum::<f64>();
                if plan.search.with_base {
                    weights.insert(BASE.into(), rest);
                }
                let taken = search.taken()?;
                results.mixtures.push(Found {
                    task: target.name().to_owned(),
                    mixture: taken.mixture.clone(),
                    weights,
                    shots_accuracy: taken.shots_accuracy,
                    shots: search.shots.clone(),
                    best_single: search.single.clone(),
                    best_single_accuracy: search.single_accuracy,
                    candidates: search.candidates.clone(),
                    chosen: search.chosen,
                    ms: search.ms,
                });
            }
            if plan.has_oracle(target) {
                let own = plan.own(target.name()).filter(|_| target.kind != Kind::Stream);
                let configuration = own.map_or(ORACLE.to_owned(), |own| named(&Mixture::single(own)));
                strategies.push((ORACLE.into(), of(&configuration)?));
            }
            for (name, cell) in &strategies {
                let once_ms = search.filter(|_| name == FEW_SHOT).map(|search| search.ms);
                results.passes.push(passes(name, cell, once_ms));
            }
            results.strategies_by_task.extend(compared(&strategies));
        }
        let measured = choices.into_iter().filter_map(|(name, of)| Some((name, Reliability::new(&of)?)));
        results.reliability = measured.collect();
        Ok(results)
    }
}

/// What a mixture is called as a configuration.
fn named(mixture: &Mixture) -> String {
    Choice::Fixed(mixture.clone()).name(None)
}

fn answers<'a>(folder: &'a Folder, target: &Target, configuration: &str) -> Result<&'a Answers> {
    let cell =
        folder.answers(target.name(), configuration).filter(|cell| cell.scores.len() == target.items.len());
    cell.ok_or_else(|| {
        Error::invalid("its answers are missing")
            .file(folder.path())
            .field(format!("{}, {configuration}", target.name()))
            .hint("`Earlier::Replace` starts over")
    })
}

fn task_info(plan: &Plan, target: &Target) -> TaskInfo {
    TaskInfo {
        name: target.name().to_owned(),
        kind: target.kind.name(),
        n: target.items.len(),
        own_expert: plan.own(target.name()).map(str::to_owned),
    }
}

fn experts(plan: &Plan) -> Result<Vec<ExpertInfo>> {
    let info = |expert: &crate::expert::Expert| ExpertInfo {
        name: expert.name.clone(),
        description: expert.description.clone(),
        trained_on: expert.training.as_ref().map(|training| training.task.clone()),
        is_classifier: expert.name == plan.classifier,
    };
    plan.names().into_iter().map(|name| plan.experts.get(name).map(info)).collect()
}

/// The first of `cells` is the base model.
fn compared(cells: &[(String, &Answers)]) -> Vec<Measured> {
    let is_binary = |scores: &[f64]| scores.iter().all(|score| [0.0, 1.0].contains(score));
    let base = &cells[0].1.scores;
    let measured = |(i, (name, cell)): (usize, &(String, &Answers))| {
        let n = cell.scores.len();
        let comparison = (i > 0).then(|| {
            let both = is_binary(&cell.scores) && is_binary(base);
            scores::compare(&cell.scores, base, both, SEED)
        });
        Measured {
            name: name.clone(),
            task: cell.target.clone(),
            configuration: cell.configuration.clone(),
            n,
            accuracy: cell.scores.iter().sum::<f64>() / n as f64,
            ci95: scores::interval(&cell.scores, is_binary(&cell.scores), SEED),
            n_cut: cell.n_cut,
            against_base: comparison.map(|it| Against {
                delta: it.delta,
                delta_ci95: it.delta_ci95,
                p_value: it.p_value,
                test: it.test,
            }),
            best: false,
        }
    };
    let mut rows: Vec<_> = cells.iter().enumerate().map(measured).collect();
    let competes = |row: &Measured| row.name != ORACLE;
    let accuracies = || rows.iter().filter(|row| competes(row)).map(|row| row.accuracy);
    let (best, worst) = (accuracies().fold(0.0, f64::max), accuracies().fold(1.0, f64::min));
    rows.iter_mut().for_each(|row| row.best = competes(row) && row.accuracy >= best && best > worst);
    rows
}

fn dispatch(plan: &Plan, strategy: &str, cell: &Answers, pass1: &Pass1) -> Dispatch {
    let n = cell.scores.len();
    let n_right = |(source, row): (&String, &BTreeMap<String, usize>)| {
        Some(row.get(plan.own(source)?).copied().unwrap_or(0))
    };
    let n_right: Option<Vec<_>> = pass1.labels.iter().map(n_right).collect();
    Dispatch {
        strategy: strategy.to_owned(),
        task: cell.target.clone(),
        n,
        labels: pass1.labels.clone(),
        accuracy: n_right.map(|n_right| n_right.into_iter().sum::<usize>() as f64 / n as f64),
        confidence: pass1.confidence,
        n_fallback: pass1.n_fallback,
    }
}

fn passes(strategy: &str, cell: &Answers, once_ms: Option<f64>) -> Passes {
    let (pass1_tokens, pass1_ms) = cell.pass1.as_ref().map_or((0, 0.0), |pass1| (pass1.tokens, pass1.ms));
    Passes {
        strategy: strategy.to_owned(),
        task: cell.target.clone(),
        once_ms,
        pass1_tokens,
        pass1_ms,
        pass2_tokens_read: cell.tokens_read,
        pass2_tokens_written: cell.tokens_written,
        pass2_ms: cell.ms,
        pass1_share: pass1_ms / (pass1_ms + cell.ms),
        pass1_over_pass2: pass1_ms / cell.ms,
    }
}

fn notes(plan: &Plan) -> Vec<String> {
    let mut notes = plan.targets.notes.clone();
    let mut add = |note: String| {
        if !notes.contains(&note) {
            notes.push(note);
        }
    };
    let has = |strategy| plan.dispatchers.iter().any(|it| it.options().strategy == strategy);
    if !has(Strategy::Prompt) {
        add("No prompt and no classifier: there is no expert to choose beside the classifier.".into());
    } else if !has(Strategy::Classifier) {
        add(format!("No classifier: no expert called {} is loaded.", plan.classifier));
    }
    if has(Strategy::Prompt) && !has(Strategy::Nearest) {
        add(
            "No nearest: no expert's file has hidden states to compare with; `llama-svf describe` adds them."
                .into(),
        );
    }
    for target in &plan.targets.targets {
        plan.impossible(target).into_iter().for_each(&mut add);
    }
    for dispatcher in plan.dispatchers {
        dispatcher.notes().iter().for_each(|note| add(format!("Experts with {note}.")));
    }
    notes
}
