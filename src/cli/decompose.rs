//! `llama-svf decompose`: a model becomes a sidecar.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use indicatif::HumanBytes;

use super::{ctrl_c, printer};
use crate::decompose::{decompose, DecomposeOptions, RankPolicy, Report, Selection};
use crate::error::{exit, Result};
use crate::ffi::tensor_type;

/// Decompose weights of a model into a sidecar, once per model
///
/// Each selected weight W becomes U·diag(σ)·Vᵀ. The model itself is not changed. The work can be
/// interrupted with Ctrl-C and continued with --resume.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    llama-svf decompose -m model.gguf --rank 64            the three feed-forward matrices of each layer\n  \
    llama-svf decompose -m model.gguf --tensors all        attention too, every singular value\n  \
    llama-svf decompose -m model.gguf --tensors 'blk\\.(0|1)\\.ffn_up'\n  \
    llama-svf decompose -m model.gguf --rank 64 --resume   go on after an interruption")]
pub struct Args {
    /// The model, a GGUF file in any type
    #[arg(short, long, value_name = "FILE")]
    model: PathBuf,
    /// The sidecar to write [default: MODEL.svf.gguf beside the model]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Which weights: ffn, attn, all, or a regular expression on tensor names
    #[arg(long, value_name = "SELECTION", default_value = "ffn")]
    tensors: String,
    /// How many singular values to keep: full, or a number
    #[arg(long, value_name = "RANK", default_value = "full")]
    rank: String,
    /// Type of the factors: f32, f16 or q8_0
    #[arg(long = "type", value_name = "TYPE", default_value = "q8_0")]
    ty: String,
    /// Matrices to work on at a time, one core each [default: all cores]
    #[arg(short, long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Continue an interrupted conversion
    #[arg(long)]
    resume: bool,
    /// Replace an existing sidecar
    #[arg(long)]
    force: bool,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args) -> Result<u8> {
    let options = DecomposeOptions {
        model: args.model.clone(),
        output: args.output.clone().unwrap_or_else(|| beside(&args.model)),
        tensors: Selection::parse(&args.tensors).map_err(|error| error.field("--tensors"))?,
        rank: RankPolicy::parse(&args.rank).map_err(|error| error.field("--rank"))?,
        ty: tensor_type::parse(&args.ty).map_err(|error| error.field("--type"))?,
        threads: args.threads,
        resume: args.resume,
        force: args.force,
    };
    let report = decompose(&options, &printer::Bar::new("decomposing"), &ctrl_c::INTERRUPT)?;
    if args.json {
        printer::print_json(&Json { schema: "llama-svf/decompose/1", report: &report })?;
    } else {
        printer::print(&table(&report))?;
    }
    printer::note(format_args!(
        "wrote {} ({}, {} weights) in {:.1} s",
        report.output.display(),
        HumanBytes(report.bytes),
        report.weights.len(),
        report.seconds
    ));
    Ok(exit::DONE)
}

/// What `--json` prints.
#[derive(serde::Serialize)]
struct Json<'a> {
    schema: &'static str,
    #[serde(flatten)]
    report: &'a Report,
}

/// `model.gguf` → `model.svf.gguf`, in the same folder.
fn beside(model: &Path) -> PathBuf {
    model.with_extension("svf.gguf")
}

fn table(report: &Report) -> String {
    let width = report.weights.iter().map(|weight| weight.name.len()).max().unwrap_or(0).max("weight".len());
    let mut text =
        format!("{:<width$}  {:>13}  {:>5}  {:>9}  {:>8}\n", "weight", "shape", "rank", "error", "energy");
    for weight in &report.weights {
        let shape = format!("{} x {}", weight.n_out, weight.n_in);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<width$}  {shape:>13}  {:>5}  {:>9.2e}  {:>6.1} %",
            weight.name,
            weight.rank,
            weight.relative_error,
            100.0 * weight.energy_kept
        );
    }
    text +=
        "error = |W - U*diag(s)*Vt| / |W| of the factors as stored; energy = share of |W|^2 that the kept \
             singular values hold\n";
    if report.weights.iter().any(|weight| weight.rank < weight.n_in.min(weight.n_out)) {
        text += "What a lower rank leaves out stays as it is in the base weight, which runs beside the factors.\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sidecar_lies_beside_the_model() {
        assert_eq!(beside(Path::new("a/b.Q8_0.gguf")), Path::new("a/b.Q8_0.svf.gguf"));
    }
}
