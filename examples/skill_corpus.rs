//! Writes what `scripts/pretrain.py` needs, so that questions are made in one place only:
//!
//! `cargo run --release --example skill_corpus -- -o corpus` writes
//! `corpus/pretrain.jsonl` and, for a look at the accuracy while it learns, `corpus/items.jsonl`.

use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use llama_svf::atomic;
use llama_svf::skills::{corpus, naming, question, Question, Skill};
use serde_json::json;

/// Write the embedded model's pretraining text and held-out questions.
#[derive(Parser)]
struct Args {
    /// Texts to pretrain on.
    #[arg(long, default_value_t = 300_000)]
    examples: u64,
    /// Held-out questions of each kind.
    #[arg(long, default_value_t = 500)]
    items: u64,
    /// Chooses both.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder to write to; it is made if need be.
    #[arg(short, long)]
    output: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    std::fs::create_dir_all(&args.output)?;
    atomic::write(args.output.join("pretrain.jsonl"), |out| {
        for index in 0..args.examples {
            let example = corpus::example(args.seed, index);
            let kind = if example.naming { "naming" } else { example.skill.name() };
            let line = json!({ "kind": kind, "prompt": example.prompt, "completion": example.completion });
            writeln!(out, "{line}")?;
        }
        Ok(())
    })?;
    atomic::write(args.output.join("items.jsonl"), |out| {
        for unseen in [false, true] {
            for index in 0..args.items {
                for skill in Skill::ALL {
                    write_item(out, skill.name(), unseen, &question(skill, unseen, args.seed, index))?;
                }
                write_item(out, "skill-name", unseen, &naming(unseen, args.seed, index))?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

fn write_item(out: &mut dyn Write, task: &str, unseen: bool, item: &Question) -> std::io::Result<()> {
    let task = if unseen { format!("{task}-unseen") } else { task.to_owned() };
    let line = json!({ "task": task, "prompt": item.prompt, "answer": item.answer });
    writeln!(out, "{line}")
}
