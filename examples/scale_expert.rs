//! Writes an expert by hand, to see what experts do while there is none that was trained:
//!
//! `cargo run --release --example scale_expert -- model.svf.gguf --first 8 --by 1.3 -o loud.expert.gguf`

use std::path::PathBuf;

use clap::Parser;
use llama_svf::expert::Expert;
use llama_svf::sidecar::Sidecar;

/// Write an expert that scales the largest singular values of every weight and leaves the others alone.
#[derive(Parser)]
struct Args {
    /// The sidecar that the expert is for.
    sidecar: PathBuf,
    /// How many of the largest singular values of each weight to scale.
    #[arg(long, default_value_t = 8)]
    first: usize,
    /// The factor; 1 changes nothing.
    #[arg(long, default_value_t = 1.2, allow_negative_numbers = true)]
    by: f32,
    /// The expert's name.
    #[arg(long, default_value = "scaled")]
    name: String,
    /// What it is good at, in a line [default: what it scales]
    #[arg(long)]
    description: Option<String>,
    /// File to write.
    #[arg(short, long)]
    output: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut expert = Expert::identity(&args.name, &Sidecar::open(&args.sidecar)?);
    let scales = || format!("scales the first {} singular values by {}", args.first, args.by);
    expert.description = args.description.unwrap_or_else(scales);
    for m in expert.multipliers.values_mut() {
        m.iter_mut().take(args.first).for_each(|m| *m = args.by);
    }
    expert.save(&args.output)?;
    Ok(())
}
