//! Tasks and rewards: unit tables, public data, the sandbox, broken files.

mod any_text;
mod base;
mod blocks;
mod check;
mod choice;
mod command;
mod data;
mod files;
mod generation;
mod json;
mod latex;
mod numeric;
mod pycompat;
mod rows;
mod sandbox;
mod text;
mod thinking;

use std::path::{Path, PathBuf};

use llama_svf::task::{Item, LoadOptions, Part, Task};

/// The data of others beside the repository, if it is there.
pub fn shared(file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(file);
    if !path.is_file() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

pub fn options(data: &[PathBuf]) -> LoadOptions {
    LoadOptions {
        data: data.to_vec(),
        allow_exec: true,
        sandbox: Some(PathBuf::from(env!("CARGO_BIN_EXE_llama-svf"))),
        ..LoadOptions::default()
    }
}

/// All items of all parts.
pub fn all(task: &Task) -> Vec<&Item> {
    Part::ALL.iter().flat_map(|&part| task.items(part)).collect()
}

/// The score as a number; NaN fails.
pub fn value(task: &Task, item: &Item, completion: &str) -> f64 {
    let score = task.score(item, completion).unwrap();
    assert!((0.0..=1.0).contains(&score.value), "{}: {}", item.id, score.value);
    assert!(!score.reason.is_empty() && !score.reason.contains('\n'), "{}: {}", item.id, score.reason);
    score.value
}
