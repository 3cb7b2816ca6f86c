//! An expert: where it comes from and how far its multipliers are from 1.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use super::{name_width, plain, spark, View};
use crate::error::Result;
use crate::expert::Expert;

#[derive(Serialize)]
pub struct ExpertView {
    name: String,
    description: String,
    fingerprint: String,
    n_multipliers: usize,
    training: Option<TrainingView>,
    profile: Option<ProfileView>,
    weights: Vec<WeightView>,
}

#[derive(Serialize)]
struct ProfileView {
    examples: Vec<String>,
    /// Block whose hidden states the file has, and of how many texts.
    layer: Option<u32>,
    n_states: usize,
}

#[derive(Serialize)]
struct TrainingView {
    task: String,
    steps: u64,
    validation_before: f32,
    validation_after: f32,
    seed: u64,
    /// If not all were trained.
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<String>,
}

#[derive(Serialize)]
struct WeightView {
    name: String,
    n: usize,
    min: f32,
    mean: f64,
    max: f32,
    /// Root mean square of m − 1.
    change: f64,
    /// |m − 1|, averaged over neighbouring components.
    curve: Vec<f32>,
}

/// Describes the expert at `path`. Opening one checks all of it, so there is nothing left to verify.
pub fn view(path: &Path) -> Result<(View, Result<()>)> {
    let expert = Expert::open(path)?;
    let view = ExpertView {
        name: expert.name,
        description: expert.description,
        fingerprint: expert.fingerprint.to_string(),
        n_multipliers: expert.multipliers.values().map(Vec::len).sum(),
        training: expert.training.map(|training| TrainingView {
            task: training.task,
            steps: training.steps,
            validation_before: training.validation_before,
            validation_after: training.validation_after,
            seed: training.seed,
            layers: training.layers,
        }),
        profile: (!expert.profile.is_empty()).then(|| ProfileView {
            layer: expert.profile.states.as_ref().map(|states| states.layer),
            n_states: expert.profile.states.as_ref().map_or(0, |states| states.own.len()),
            examples: expert.profile.questions,
        }),
        weights: expert.multipliers.iter().map(|(name, m)| WeightView::new(name, m)).collect(),
    };
    Ok((View::Expert(view), Ok(())))
}

impl WeightView {
    fn new(name: &str, m: &[f32]) -> Self {
        let n = m.len() as f64;
        let distances: Vec<f32> = m.iter().map(|x| (x - 1.0).abs()).collect();
        let squares: f64 = distances.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        Self {
            name: name.to_owned(),
            n: m.len(),
            min: m.iter().copied().fold(f32::INFINITY, f32::min),
            mean: m.iter().map(|&x| f64::from(x)).sum::<f64>() / n,
            max: m.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            change: (squares / n).sqrt(),
            curve: spark::resample(&distances),
        }
    }
}

impl ExpertView {
    pub fn text(&self, path: &Path) -> String {
        let mut text = format!(
            "expert {}: {}\nbase model {}\n{} multipliers for {} weights\n",
            plain(&self.name),
            plain(&self.description),
            self.fingerprint,
            self.n_multipliers,
            self.weights.len()
        );
        // Writing to a string cannot fail.
        let _ = match &self.training {
            Some(training) => writeln!(
                text,
                "trained on {}{} for {} steps (seed {}), validation {} -> {}\n",
                plain(&training.task),
                training
                    .layers
                    .as_ref()
                    .map_or_else(String::new, |layers| format!(" in layers {}", plain(layers))),
                training.steps,
                training.seed,
                training.validation_before,
                training.validation_after
            ),
            None => writeln!(text, "not trained\n"),
        };
        let _ = match &self.profile {
            Some(ProfileView { examples, layer: Some(layer), n_states }) => writeln!(
                text,
                "described by {} examples and {n_states} hidden states of block {layer}\n",
                examples.len()
            ),
            Some(ProfileView { examples, .. }) => {
                writeln!(text, "described by {} examples\n", examples.len())
            }
            None => writeln!(text, "not described: `llama-svf describe` lets models choose it by examples\n"),
        };
        if let Some(profile) = &self.profile {
            for example in &profile.examples {
                let _ = writeln!(
                    text,
                    "  e.g. {}",
                    plain(&example.split_whitespace().collect::<Vec<_>>().join(" "))
                );
            }
            text.push('\n');
        }
        let width = name_width(self.weights.iter().map(|weight| weight.name.as_str()));
        let full = self.weights.iter().flat_map(|weight| &weight.curve).copied().fold(0.0, f32::max);
        let _ = writeln!(
            text,
            "{:<width$}  {:>5}  {:<columns$}  {:>7}  {:>7}  {:>7}  {:>7}",
            "weight",
            "n",
            "distance from 1",
            "min",
            "mean",
            "max",
            "change",
            columns = spark::COLUMNS
        );
        for weight in &self.weights {
            let _ = writeln!(
                text,
                "{:<width$}  {:>5}  {:<columns$}  {:>7.4}  {:>7.4}  {:>7.4}  {:>7.4}",
                plain(&weight.name),
                weight.n,
                spark::line(&weight.curve, full),
                weight.min,
                weight.mean,
                weight.max,
                weight.change,
                columns = spark::COLUMNS
            );
        }
        let _ = writeln!(
            text,
            "\ndistance from 1 = |m - 1| from the largest singular value to the smallest, on one scale for all \
             weights; change = root mean square of m - 1\n\n\
             try it: llama-svf run -m MODEL.gguf --svf SIDECAR --expert {} --use {} -p PROMPT",
            path.display(),
            plain(&self.name)
        );
        text
    }
}
