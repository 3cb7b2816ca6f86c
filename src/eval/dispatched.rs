//! What pass 1 decided about many items, and how often it was right.

use std::collections::BTreeMap;

use super::Reliability;
use crate::dispatch::{Cost, Decision, Dispatcher};

/// The decisions about the items of one measurement.
pub struct Dispatched {
    strategy: &'static str,
    threshold: f64,
    decisions: Vec<Decision>,
    cost: Cost,
    /// The task of each item.
    sources: Vec<String>,
    /// Whether the experts are called as the tasks are, so that a choice can be right or wrong.
    is_named: bool,
}

impl Dispatched {
    /// The `decisions` of `dispatcher` about items of the tasks `sources`.
    pub fn new(dispatcher: &Dispatcher, sources: Vec<String>, decisions: Vec<Decision>, cost: Cost) -> Self {
        let labels = dispatcher.candidates().labels();
        Self {
            strategy: dispatcher.options().strategy.name(),
            threshold: dispatcher.options().threshold,
            is_named: sources.iter().all(|source| labels.contains(source)),
            decisions,
            cost,
            sources,
        }
    }

    /// Who decided: `prompt`, `classifier` or `nearest`.
    pub fn strategy(&self) -> &'static str {
        self.strategy
    }

    /// Choices that were less sure went to the base model.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The decisions, by item.
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// What pass 1 took for all items.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Task, then who answers its items (`base` for the base model), then how many.
    pub fn confusion(&self) -> BTreeMap<&str, BTreeMap<&str, usize>> {
        self.count(|decision| decision.expert.as_deref().unwrap_or("base"))
    }

    /// Task, then the label that was chosen, whether or not the threshold overruled it, then how many.
    pub fn labels(&self) -> BTreeMap<&str, BTreeMap<&str, usize>> {
        self.count(|decision| &decision.label)
    }

    fn count<'a>(
        &'a self,
        of: impl Fn(&'a Decision) -> &'a str,
    ) -> BTreeMap<&'a str, BTreeMap<&'a str, usize>> {
        let mut counts: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for (source, decision) in self.sources.iter().zip(&self.decisions) {
            *counts.entry(source).or_default().entry(of(decision)).or_default() += 1;
        }
        counts
    }

    /// The task of each item, the label that was chosen for it, and how sure that was.
    pub fn choices(&self) -> impl Iterator<Item = (&str, &str, f64)> {
        self.sources
            .iter()
            .zip(&self.decisions)
            .map(|(source, decision)| (source.as_str(), decision.label.as_str(), decision.confidence))
    }

    /// Whether confidence means what it says; `None` where experts have other names than the tasks.
    pub fn reliability(&self) -> Option<Reliability> {
        let choices: Vec<_> =
            self.choices().map(|(source, label, confidence)| (confidence, source == label)).collect();
        self.is_named.then(|| Reliability::new(&choices)).flatten()
    }

    /// Share of items that the expert of their task answers; `None` where experts have other names.
    pub fn accuracy(&self) -> Option<f64> {
        let pairs = self.sources.iter().zip(&self.decisions);
        let n_right = pairs.filter(|(source, decision)| decision.expert.as_ref() == Some(source)).count();
        self.is_named.then(|| n_right as f64 / self.sources.len() as f64)
    }

    /// Mean confidence.
    pub fn confidence(&self) -> f64 {
        self.decisions.iter().map(|decision| decision.confidence).sum::<f64>() / self.decisions.len() as f64
    }

    /// Decisions that the threshold overruled.
    pub fn n_fallback(&self) -> usize {
        self.decisions.iter().filter(|decision| decision.is_fallback).count()
    }
}
