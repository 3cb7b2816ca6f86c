//! How what pass 1 decided is printed.

use std::fmt::Write as _;

use serde_json::{json, Value};

use crate::dispatch::Cost;
use crate::eval::Dispatched;

/// For `--json`; `pass2_seconds` where pass 2 was timed alone.
pub fn json(dispatched: &Dispatched, pass2_seconds: Option<f64>) -> Value {
    let Cost { n_tokens, ms } = dispatched.cost();
    let reliability = dispatched.reliability();
    json!({
        "strategy": dispatched.strategy(),
        "threshold": dispatched.threshold(),
        "accuracy": dispatched.accuracy(),
        "confusion": dispatched.confusion(),
        "confidence": dispatched.confidence(),
        "calibration_error": reliability.as_ref().map(|reliability| reliability.error),
        "best_threshold": reliability.as_ref().map(|reliability| reliability.threshold),
        "n_fallback": dispatched.n_fallback(),
        "pass1_tokens": n_tokens,
        "pass1_ms": ms,
        "pass2_ms": pass2_seconds.map(|seconds| 1e3 * seconds),
        "pass1_over_pass2": pass2_seconds.map(|seconds| ms / (1e3 * seconds)),
    })
}

/// The same as text.
pub fn table(dispatched: &Dispatched, pass2_seconds: Option<f64>) -> String {
    let confusion = dispatched.confusion();
    let mut columns: Vec<&str> = confusion.values().flat_map(|row| row.keys().copied()).collect();
    columns.sort_unstable();
    columns.dedup();
    let width = confusion.keys().map(|source| source.len()).max().unwrap_or(0).max(8);
    let mut text = format!("\nchosen by {}:\n{:width$}", dispatched.strategy(), "");
    // Writing to a string cannot fail.
    for column in &columns {
        let _ = write!(text, "  {column:>8}");
    }
    text.push('\n');
    for (source, row) in &confusion {
        let _ = write!(text, "{source:width$}");
        for column in &columns {
            let _ = write!(text, "  {:>w$}", row.get(column).unwrap_or(&0), w = column.len().max(8));
        }
        text.push('\n');
    }
    if let Some(accuracy) = dispatched.accuracy() {
        let error = dispatched.reliability().map_or(0.0, |reliability| reliability.error);
        let _ = writeln!(
            text,
            "{:.1} % by the expert of their task; {:.1} % sure on average, calibration error {:.1} %",
            100.0 * accuracy,
            100.0 * dispatched.confidence(),
            100.0 * error
        );
    }
    let Cost { n_tokens, ms } = dispatched.cost();
    let _ = write!(text, "pass 1: {n_tokens} tokens in {:.2} s", ms / 1e3);
    match pass2_seconds {
        Some(seconds) => {
            let _ = writeln!(text, ", {:.1} % of pass 2's {seconds:.2} s", ms / 10.0 / seconds);
        }
        None => text.push('\n'),
    }
    text
}
