//! How pass 1 is done.

use super::nearest;
use crate::error::{Error, Result};
use crate::expert::ExpertSet;

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The base model.
    Prompt,
    /// An expert that was trained to name the skill of a question.
    Classifier,
    /// Nobody is asked: the questions in the experts' files are compared with the new one.
    Nearest,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Prompt, Self::Classifier, Self::Nearest];

    /// `prompt`, `classifier` or `nearest`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Classifier => "classifier",
            Self::Nearest => "nearest",
        }
    }

    /// The strategy of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.name() == name)
    }

    /// The strategies that can choose among `experts`, of which one may be the `classifier`.
    pub fn possible(experts: &ExpertSet, classifier: &str) -> Vec<Self> {
        let mut answering = experts.iter().filter(|expert| expert.name != classifier).peekable();
        if answering.peek().is_none() {
            return Vec::new();
        }
        let has_states = answering.any(|expert| nearest::states(expert).is_some());
        let is_possible = |strategy: &Self| match strategy {
            Self::Prompt => true,
            Self::Classifier => experts.get(classifier).is_ok(),
            Self::Nearest => has_states,
        };
        Self::ALL.into_iter().filter(is_possible).collect()
    }
}

/// How the answer of pass 1 is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// From the probabilities of the labels; nothing is written.
    Labels,
    /// From what the model writes, a line of at most 16 tokens.
    Text,
}

/// Name of the classifier where no other is given.
pub const CLASSIFIER: &str = "cls";

/// How pass 1 is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who decides.
    pub strategy: Strategy,
    /// Name of the expert that decides with [`Strategy::Classifier`]; it is never chosen to answer.
    pub classifier: String,
    /// How the answer is read.
    pub reading: Reading,
    /// From 0 to 1; a choice that is less sure is given to the base model.
    pub threshold: f64,
    /// Whether all experts answer together, each as much as it is likely, in the place of the likeliest alone.
    pub blend: bool,
}

impl Default for Options {
    /// The base model chooses, by the probabilities of the labels, however sure it is.
    fn default() -> Self {
        Self {
            strategy: Strategy::Prompt,
            classifier: CLASSIFIER.into(),
            reading: Reading::Labels,
            threshold: 0.0,
            blend: false,
        }
    }
}

/// Whether `threshold` is a probability.
pub(super) fn check_threshold(threshold: f64) -> Result<()> {
    match (0.0..=1.0).contains(&threshold) {
        true => Ok(()),
        false => Err(Error::expected("a probability between 0 and 1", threshold).setting("threshold")),
    }
}
