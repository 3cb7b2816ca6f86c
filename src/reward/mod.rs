//! Scores of one completion against one gold answer.

/// A score and why.
#[derive(Clone, Debug)]
pub struct Score {
    /// From 0 (wrong) to 1 (right).
    pub value: f64,
    /// One line.
    pub reason: String,
}
