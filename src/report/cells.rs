//! What is measured once and kept: a *cell* is one configuration's answers to one target, or one search for a mixture.
//! A search is also kept while it goes on, after each generation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::few_shot::State;

/// A line of `cells.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cell", rename_all = "snake_case")]
pub enum Cell {
    /// Answers and their scores.
    Answers(Answers),
    /// A mixture that was found.
    Search(Search),
    /// A search as far as it has come; a later one for the same target counts.
    Searching(Searching),
}

/// One configuration's greedy answers to all items of a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// The target's name.
    pub target: String,
    /// `base`, a mixture, `adapt prompt`, `adapt classifier`, `adapt nearest` or `oracle`.
    pub configuration: String,
    /// By item, from 0 to 1.
    pub scores: Vec<f64>,
    /// Answers that were cut off at the task's limit.
    pub n_cut: usize,
    /// What choosing took, where the model chose.
    pub pass1: Option<Pass1>,
    /// Tokens of the questions.
    pub tokens_read: usize,
    /// Tokens of the answers.
    pub tokens_written: usize,
    /// Time of reading questions and writing answers, in milliseconds.
    pub ms: f64,
}

/// The model's choices for all items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pass1 {
    /// Task, then the label that was chosen, then how often.
    pub labels: BTreeMap<String, BTreeMap<String, usize>>,
    /// By item: its task, the label that was chosen, and how sure that was.
    #[serde(default)]
    pub choices: Vec<(String, String, f64)>,
    /// Mean confidence.
    pub confidence: f64,
    /// Choices that the threshold gave to the base model.
    pub n_fallback: usize,
    /// Tokens that were computed.
    pub tokens: usize,
    /// Time, in milliseconds.
    pub ms: f64,
}

/// Few-shot adaptation to a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// The target's name.
    pub target: String,
    /// The ids of the shots.
    pub shots: Vec<String>,
    /// The expert that does best alone on them.
    pub single: String,
    /// Its share of the shots.
    pub single_accuracy: f64,
    /// One for each number of groups of layers.
    pub candidates: Vec<Candidate>,
    /// The one that was taken.
    pub chosen: usize,
    /// Time of everything, in milliseconds.
    pub ms: f64,
}

/// A search that goes on from here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Searching {
    /// The target's name.
    pub target: String,
    /// The searches begun, the last of which is at work.
    pub states: Vec<State>,
    /// Time so far, in milliseconds.
    pub ms: f64,
}

/// What a search with so many groups found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Groups of layers.
    pub groups: usize,
    /// The mixture, as in a mixture file.
    pub mixture: Value,
    /// Its share of the shots.
    pub shots_accuracy: f64,
    /// Its accuracy on validation items, where there were several searches.
    pub selection_accuracy: Option<f64>,
}
