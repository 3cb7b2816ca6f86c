//! The page around the pictures.

use std::fmt::Write as _;

use serde_json::Value;

use super::chart::{smooth, Chart, Series};
use super::{escape, heat, Report};
use crate::train::log::{Line, StepLine, ValidationLine};
use crate::train::state::mean;
use crate::train::validation::{interval, p_value};

const STYLE: &str = "\
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2330; background: #fff; max-width: 1100px; \
margin: 32px auto; padding: 0 20px }
h1 { font-size: 26px; margin: 0 } h2 { font-size: 18px; margin: 34px 0 10px }
p.sub { color: #5b6577; margin: 4px 0 22px }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px }
.tile { border: 1px solid #e3e7ee; border-radius: 8px; padding: 10px 14px }
.tile b { display: block; font-size: 22px } .tile span { color: #5b6577; font-size: 13px }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 14px }
.charts svg { border: 1px solid #e3e7ee; border-radius: 8px }
svg { width: 100%; height: auto; background: #fff }
svg text { font-family: system-ui, sans-serif } .title { font-size: 13px; font-weight: 600; fill: #1c2330 }
.tick { font-size: 11px; fill: #5b6577 } .grid { stroke: #e8ebf1; stroke-width: 1 }
table { border-collapse: collapse; font-size: 14px } td { padding: 3px 22px 3px 0; border-bottom: 1px solid #eef0f4 }
td:first-child { color: #5b6577 } code { font-size: 13px }";

const BLUE: &str = "#2563a8";
const ORANGE: &str = "#c2570c";

pub fn html(report: &Report) -> String {
    let title = format!("{} — trained on {}", report.name, report.task);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{0}</title>\n<style>\n{STYLE}\n</style>\
         </head><body>\n<h1>{0}</h1>\n<p class=\"sub\">{1}</p>\n{2}\n<h2>Learning</h2>\n\
         <div class=\"charts\">\n{3}</div>\n<h2>The expert</h2>\n{4}\n<h2>Settings</h2>\n{5}\n</body></html>\n",
        escape(&title),
        escape(&subtitle(report)),
        tiles(report),
        charts(report),
        heat::svg(report.weights, report.m),
        settings(report.settings),
    )
}

fn subtitle(report: &Report) -> String {
    let state = report.state;
    let best = state.best.as_ref().map_or(0, |best| best.step);
    format!(
        "{} steps ({}), {:.0} s of work, {} tokens written; the expert is that of step {best}",
        state.step,
        report.ended.word(),
        state.seconds,
        state.tokens
    )
}

fn tiles(report: &Report) -> String {
    let state = report.state;
    let seed = report.settings.pointer("/options/seed").and_then(Value::as_u64).unwrap_or(0);
    let mut tiles = String::new();
    let mut tile = |value: String, label: String| {
        // Writing to a string cannot fail.
        let _ = write!(
            tiles,
            "<div class=\"tile\"><b>{}</b><span>{}</span></div>",
            escape(&value),
            escape(&label)
        );
    };
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
    format!("<div class=\"tiles\">{tiles}</div>")
}

fn steps<'a>(report: &'a Report) -> Vec<&'a StepLine> {
    let step = |line: &'a Line| if let Line::Step(line) = line { Some(line) } else { None };
    report.history.iter().filter_map(step).collect()
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
    let charts = [
        Chart {
            title: "Train reward (mean score)",
            series: pair(curve(|line| Some(line.reward)), "trend"),
            is_share: true,
        },
        Chart { title: "Validation accuracy", series: vec![validation], is_share: true },
        Chart {
            title: "KL to the base model (nats/token)",
            series: pair(curve(|line| line.kl), "trend"),
            is_share: false,
        },
        Chart {
            title: "Entropy (nats/token)",
            series: pair(curve(|line| line.entropy), "trend"),
            is_share: false,
        },
        Chart {
            title: "Mean |m − 1|",
            series: pair(curve(|line| Some(line.moved)), "trend"),
            is_share: false,
        },
        Chart {
            title: "Informative prompts (share)",
            series: pair(curve(|line| Some(line.informative)), "trend"),
            is_share: true,
        },
    ];
    charts.iter().map(Chart::svg).collect()
}

/// A table of all settings, nested ones with their path.
fn settings(settings: &Value) -> String {
    fn rows(value: &Value, name: &str, table: &mut String) {
        if let Value::Object(object) = value {
            for (key, value) in object {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                rows(value, &name, table);
            }
            return;
        }
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Null => "none".to_owned(),
            other => other.to_string(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(table, "<tr><td>{}</td><td><code>{}</code></td></tr>", escape(name), escape(&text));
    }
    let mut table = String::new();
    rows(settings, "", &mut table);
    format!("<table>\n{table}</table>")
}
