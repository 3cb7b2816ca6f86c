//! The tables of Transformer² (arXiv 2501.06252, section 4) for any model, experts and tasks: experts by tasks, strategies
//! by tasks, what pass 1 chose, the mixtures found by few-shot adaptation, and what the passes took.
//!
//! ```text
//!  Plan ── measure ──► Folder (cells.jsonl: what was measured, kept cell by cell)
//!                         │
//!                      Results (report.json) ── document ──► report.md, report.html, pictures
//! ```
//!
//! Every cell is measured alone, as `llama-svf eval` would: one configuration, greedily, on test items. Shots are training
//! items, so that no strategy has seen what it is measured on.

mod cells;
mod document;
mod folder;
mod measure;
mod plan;
mod results;

pub use folder::Folder;
pub use plan::{Kind, Plan, Target, Targets};
pub use results::Results;
