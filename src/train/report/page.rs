//! The page around the pictures.

use serde_json::Value;

use super::{Report, Shown};
use crate::eval::scores::MANY_CUT;
use crate::page::chart::{smooth, Chart, Series};
use crate::page::{self, heat};
use crate::train::log::{share_cut, Line, StepLine, ValidationLine};
use crate::train::state::mean;
use crate::train::validation::{interval, p_value};

const BLUE: &str = "#2563a8";
const ORANGE: &str = "#c2570c";

pub fn html(report: &Report) -> String {
    let body = format!(
        "{}\n<h2>Learning</h2>\n<div class=\"charts\">\n{}</div>\n<h2>The {}</h2>\n{}\n<h2>Settings</h2>\n{}",
        tiles(report),
        charts(report),
        report.change.what(),
        picture(report),
        page::settings(report.settings),
    );
    page::frame(&format!("{} — trained on {}", report.name, report.task), &subtitle(report), &body)
}

impl Shown<'_> {
    /// A word for it.
    fn what(&self) -> &'static str {
        match self {
            Self::Multipliers(_) => "expert",
            Self::Components(_) => "LoRA",
        }
    }
}

fn picture(report: &Report) -> String {
    let (title, rows) = match &report.change {
        Shown::Multipliers(m) => {
            let title = "m − 1 by weight (rows) and component (columns, σ falling from left to right)";
            let changes = m.iter().map(|m| m.iter().map(|m| m - 1.0).collect()).collect::<Vec<Vec<f32>>>();
            (title, changes)
        }
        Shown::Components(lengths) => {
            let title = "|b|·|a| of the components of B·A, by weight (rows), the longest on the left";
            (title, lengths.iter().map(<[f32]>::to_vec).collect())
        }
    };
    heat::svg(title, report.weights, &rows)
}

fn subtitle(report: &Report) -> String {
    let state = report.state;
    let best = state.best.as_ref().map_or(0, |best| best.step);
    format!(
        "{} steps ({}), {:.0} s of work, {} tokens {}; the {} is that of step {best}",
        state.step,
        report.ended.word(),
        state.seconds,
        state.tokens,
        if is_of_gold(report) { "of gold answers" } else { "written" },
        report.change.what()
    )
}

fn tiles(report: &Report) -> String {
    let state = report.state;
    let seed = report.settings.pointer("/options/seed").and_then(Value::as_u64).unwrap_or(0);
    let mut tiles = Vec::new();
    let mut tile = |value: String, label: String| tiles.push((value, label));
    let mut accuracy = |scores: &[f32], when: &str| {
        let (low, high) = interval(scores, seed);
        tile(
            format!("{:.1} %", 100.0 * mean(scores)),
            format!("validation {when} ({:.1} … {:.1} %, {} items)", 100.0 * low, 100.0 * high, scores.len()),
        );
    };
    if !state.before.is_empty() {
        accuracy(&state.before, "before");
    }
    if let Some(best) = &state.best {
        accuracy(&best.scores, "after, the best");
        tile(
            format!("{:+.1} points", 100.0 * (best.accuracy() - mean(&state.before))),
            format!(
                "p = {:.1e}, on the items that chose the best",
                p_value(&best.scores, &state.before, seed)
            ),
        );
    }
    let steps = steps(report);
    let total: f64 = steps.iter().map(|line| line.seconds).sum();
    let part =
        |of: fn(&StepLine) -> f64| 100.0 * steps.iter().map(|line| of(line)).sum::<f64>() / total.max(1e-9);
    if !steps.is_empty() {
        tile(
            format!("{:.2} s per step", total / steps.len() as f64),
            format!(
                "answers {:.0} %, scoring {:.0} %, gradient {:.0} %",
                part(|line| line.writing),
                part(|line| line.scoring),
                part(|line| line.gradient)
            ),
        );
    }
    if let Some(cut) = share_cut(steps.iter().copied()) {
        let hint = if cut >= MANY_CUT { ": raise max_tokens" } else { "" };
        tile(
            format!("{:.1} %", 100.0 * cut),
            format!("of train answers cut off by the limit of tokens{hint}"),
        );
    }
    page::tiles(&tiles)
}

fn steps<'a>(report: &'a Report) -> Vec<&'a StepLine> {
    let step = |line: &'a Line| if let Line::Step(line) = line { Some(line) } else { None };
    report.history.iter().filter_map(step).collect()
}

/// Whether gold answers were learnt from.
fn is_of_gold(report: &Report) -> bool {
    steps(report).iter().any(|line| line.loss.is_some())
}

fn charts(report: &Report) -> String {
    let steps = steps(report);
    let curve = |of: fn(&StepLine) -> Option<f64>| -> Vec<(f64, f64)> {
        steps.iter().filter_map(|line| Some((line.step as f64, of(line)?))).collect()
    };
    // A trend over a tenth of the run, behind it the values themselves.
    let window = (steps.len() / 10).clamp(3, 51);
    let pair = |points: Vec<(f64, f64)>, name| {
        let series =
            |points, name, is_faint| Series { name, colour: BLUE, points, intervals: Vec::new(), is_faint };
        let trend = smooth(&points, window);
        vec![series(points, "each step", true), series(trend, name, false)]
    };
    let trend = |title: &'static str, of: fn(&StepLine) -> Option<f64>, is_share: bool| Chart {
        title,
        series: pair(curve(of), "trend"),
        is_share,
    };
    let validations: Vec<&ValidationLine> = report
        .history
        .iter()
        .filter_map(|line| if let Line::Validation(line) = line { Some(line) } else { None })
        .collect();
    let validation = Series {
        name: "greedy, 95 % interval",
        colour: ORANGE,
        points: validations.iter().map(|line| (line.step as f64, line.accuracy)).collect(),
        intervals: validations.iter().map(|line| line.ci95).collect(),
        is_faint: false,
    };
    let is_of_gold = is_of_gold(report);
    let learnt_from = match is_of_gold {
        true => trend("Train loss (nats/token of gold answers)", |line| line.loss, false),
        false => trend("Train reward (mean score)", |line| line.reward, true),
    };
    let moved = match report.change {
        Shown::Multipliers(_) => "Mean |m − 1|",
        Shown::Components(_) => "Mean change of A and B",
    };
    let mut charts = vec![
        learnt_from,
        Chart { title: "Validation accuracy", series: vec![validation], is_share: true },
        trend("KL to the base model (nats/token)", |line| line.kl, false),
        trend("Entropy (nats/token)", |line| line.entropy, false),
        trend(moved, |line| Some(line.moved), false),
    ];
    if !is_of_gold {
        charts.extend([
            trend("Answers cut off (share)", |line| line.cut, true),
            trend("Informative prompts (share)", |line| line.informative, true),
        ]);
    }
    charts.iter().map(Chart::svg).collect()
}
