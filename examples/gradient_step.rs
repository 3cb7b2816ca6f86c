//! Times optimisation steps on a given batch, for `scripts/compare_training.py`:
//!
//! `gradient_step --model M --svf S --batch batch.json --steps 5 --gradient g.f32`
//!
//! The batch is `[{"prompt": [...], "rollouts": [{"tokens": [...], "advantage": x}]}]`. Prints a line of JSON: the
//! seconds of each step, those of its parts (base, forward, head, backward), and the peak of resident memory before the
//! first step and after the last, and how the work was divided. Writes the first step's gradient as little-endian f32.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use llama_svf::atomic;
use llama_svf::engine::{AdaptedModel, Form, Model};
use llama_svf::expert::Multipliers;
use llama_svf::gradient::{Budget, Group, PolicyGradient, Rollout, Seconds};
use llama_svf::optimiser::{clip, AdamW, AdamWOptions};
use llama_svf::progress::Interrupt;
use llama_svf::sidecar::Sidecar;
use nix::sys::resource::{getrusage, UsageWho};
use serde::Deserialize;

#[derive(Parser)]
struct Args {
    #[arg(long)]
    model: PathBuf,
    #[arg(long)]
    svf: PathBuf,
    #[arg(long)]
    batch: PathBuf,
    #[arg(long, default_value_t = 5)]
    steps: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long, default_value_t = 0.0)]
    kl: f32,
    /// Residual, as training runs by default, in place of factored.
    #[arg(long)]
    residual: bool,
    /// MiB that a gradient may use.
    #[arg(long, default_value_t = 2048)]
    memory: usize,
    #[arg(long)]
    gradient: PathBuf,
}

#[derive(Deserialize)]
struct GroupLine {
    prompt: Vec<i32>,
    rollouts: Vec<RolloutLine>,
}

#[derive(Deserialize)]
struct RolloutLine {
    tokens: Vec<i32>,
    advantage: f32,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let lines: Vec<GroupLine> = serde_json::from_slice(&std::fs::read(&args.batch)?)?;
    let rollout = |line: RolloutLine| Rollout { tokens: line.tokens, advantage: line.advantage };
    let group = |line: GroupLine| Group {
        prompt: line.prompt,
        rollouts: line.rollouts.into_iter().map(rollout).collect(),
    };
    let groups: Vec<_> = lines.into_iter().map(group).collect();

    let adapted = AdaptedModel::new(&Model::load(&args.model, 0)?, Sidecar::open(&args.svf)?)?;
    let gradient = PolicyGradient::new(
        &adapted,
        if args.residual { Form::Residual } else { Form::Factored },
        args.threads,
    )?;
    let plan = gradient.plan(&groups, args.kl, Budget { all: args.memory << 20, taken: 0 })?;
    let initial = Multipliers::identity(adapted.sidecar());
    let mut m = initial.clone();
    let mut adam = AdamW::new(m.flat().len(), AdamWOptions::default());
    let (mut seconds, mut parts) = (Vec::new(), Vec::new());
    let before = peak_bytes()?;
    for step in 0..args.steps {
        let began = Instant::now();
        let found = gradient.estimate_by(&plan, &m, &groups, args.kl, &Interrupt::new())?;
        let mut of_m = found.of_parameters;
        if step == 0 {
            let bytes: Vec<u8> = of_m.flat().iter().flat_map(|g| g.to_le_bytes()).collect();
            atomic::write(&args.gradient, |out| out.write_all(&bytes))?;
        }
        clip(of_m.flat_mut(), 1.0);
        adam.step(m.flat_mut(), initial.flat(), of_m.flat(), 1e-3);
        seconds.push(began.elapsed().as_secs_f64());
        let Seconds { base, forward, head, backward } = found.seconds;
        parts.push([base, forward, head, backward]);
    }
    let peak = peak_bytes()?;
    println!(
        "{}",
        serde_json::json!({ "seconds": seconds, "parts": parts, "before": before, "peak": peak,
        "rows": plan.rows, "kept": plan.kept, "planned": plan.bytes })
    );
    Ok(())
}

/// Most resident memory until now. Linux counts in KiB, macOS in bytes.
fn peak_bytes() -> Result<i64> {
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    Ok(getrusage(UsageWho::RUSAGE_SELF)?.max_rss() * unit)
}
