//! `llama-svf bench`: what experts cost on this machine.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{json, Value};

use super::experts::FormFlag;
use super::runtime_args::DeviceArgs;
use super::{ctrl_c, printer};
use crate::bench::{self, BenchOptions, Bounds, Comparison, Report};
use crate::engine::Placement;
use crate::error::{exit, Result};
use crate::sidecar::Sidecar;

/// Measure base model, experts and LoRA side by side
///
/// Decoding at batch 1, a prompt of 512 tokens, 8 sequences with one and with 8 experts, and switching. LoRA is
/// llama.cpp's own, at the same rank on the same weights. The experts are random; their numbers make no
/// difference to the speed.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    llama-svf bench -m model.gguf --svf model.svf.gguf\n  \
    llama-svf bench -m model.gguf --svf model.svf.gguf -t 4 --rounds 50 --json\n  \
    llama-svf bench -m model.gguf --svf full.svf.gguf --form factored\n\n\
    A temporary LoRA adapter as large as the sidecar's factors in f16 is written to the folder for temporary \
    files.")]
pub struct Args {
    /// The model, a GGUF file
    #[arg(short, long, value_name = "FILE")]
    model: PathBuf,
    /// Its sidecar
    #[arg(long, value_name = "FILE")]
    svf: PathBuf,
    /// How adapted layers run: beside the base weight, or in its place (full-rank sidecars)
    #[arg(long, value_enum, default_value = "residual")]
    form: FormFlag,
    /// Turns per variant; prompts take a third as many
    #[arg(long, value_name = "N", default_value_t = 25)]
    rounds: usize,
    #[command(flatten)]
    device: DeviceArgs,
    /// Seed of the random experts
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args) -> Result<u8> {
    let sidecar = Sidecar::open(&args.svf)?;
    let about = sidecar.about.clone();
    let model = args.device.load(&args.model)?;
    let n_threads = args.device.n_threads()?;
    let form = args.form.form();
    let options = BenchOptions { rounds: args.rounds, n_threads, form, seed: args.seed };
    let report = bench::run(&model, sidecar, &options, &printer::Bar::new("measuring"), &ctrl_c::INTERRUPT)?;
    if let Some(line) = Placement::line(&report.placements) {
        printer::note(line);
    }
    let n_fused: usize = report.placements.iter().map(|placement| placement.fused).sum();
    if n_fused < report.n_weights {
        printer::note(format_args!(
            "note: only {n_fused} of {} weights lie on a device with the fused kernel",
            report.n_weights
        ));
    }
    if args.json {
        let mut value = json(&report);
        value["model"] = json!(args.model.display().to_string());
        value["sidecar"] = json!({
            "path": args.svf.display().to_string(),
            "weights": report.n_weights,
            "rank": about.rank.map_or("full".into(), |rank| rank.to_string()),
            "type": about.factor_type.name(),
        });
        value["form"] = json!(form.name());
        value["threads"] = json!(n_threads);
        value["seed"] = json!(args.seed);
        printer::print_json(&value)?;
    } else {
        let rank = about.rank.map_or("full".into(), |rank| rank.to_string());
        let ty = about.factor_type.name();
        printer::print(&format!(
            "{} weights, rank {rank}, {ty} factors, {} form; {n_threads} threads; {}\n\n{}",
            report.n_weights,
            form.name(),
            cpu_features().join(" "),
            table(&report, ty)
        ))?;
    }
    Ok(exit::DONE)
}

fn json(report: &Report) -> Value {
    let Report { bounds, batch8, switching, agreement, .. } = report;
    json!({
        "schema": "llama-svf/bench/1",
        "cpu_features": cpu_features(),
        "placements": report.placements,
        "base_bytes_per_token": bounds.base_bytes,
        "factor_bytes_per_token": bounds.factor_bytes,
        "replaced_bytes_per_token": bounds.replaced_bytes,
        "decode": comparison_json(&report.decode, bounds),
        "prefill": comparison_json(&report.prefill, bounds),
        "batch8": {
            "rounds": batch8.rounds,
            "base_tok_s": batch8.base_tok_s,
            "same_tok_s": batch8.same_tok_s,
            "mixed_tok_s": batch8.mixed_tok_s,
            "mixed_to_same": batch8.mixed_tok_s / batch8.same_tok_s,
            "composed_mixed_tok_s": batch8.composed_mixed_tok_s,
            "lora_same_tok_s": batch8.lora_same_tok_s,
            "lora_mixed_tok_s": batch8.lora_mixed_tok_s,
        },
        "switch_ms": switching.switch_ms,
        "switch": {
            "rounds": switching.rounds,
            "write_ms": switching.write_ms,
            "lora_ms": switching.lora_switch_ms,
        },
        "agreement": {
            "expert_effect": agreement.expert_effect,
            "composed": agreement.composed,
            "lora": agreement.lora,
        },
    })
}

/// Of a prompt, `byte_bound` is what reading the factors once adds; `flop_bound` what computing with them does.
fn comparison_json(comparison: &Comparison, bounds: &Bounds) -> Value {
    let overhead = |ms: f64| overhead(ms, comparison.base_ms);
    json!({
        "rounds": comparison.rounds,
        "base_ms": comparison.base_ms,
        "composed_ms": comparison.composed_ms,
        "fused_ms": comparison.fused_ms,
        "lora_ms": comparison.lora_ms,
        "lora_same_type_ms": comparison.lora_same_type_ms,
        "composed_overhead": overhead(comparison.composed_ms),
        "fused_overhead": overhead(comparison.fused_ms),
        "lora_overhead": overhead(comparison.lora_ms),
        "lora_same_type_overhead": comparison.lora_same_type_ms.map(overhead),
        "byte_bound": bounds.byte_bound(),
        "lora_byte_bound": bounds.lora_f16_byte_bound(),
        "flop_bound": bounds.flop_bound(),
        "fused_overhead_to_byte_bound": overhead(comparison.fused_ms) / (bounds.byte_bound() - 1.0),
        "fused_to_byte_bound": comparison.fused_ms / comparison.base_ms / bounds.byte_bound(),
    })
}

/// 0.1 is 10 % more time than the base model.
fn overhead(ms: f64, base_ms: f64) -> f64 {
    ms / base_ms - 1.0
}

fn table(report: &Report, ty: &str) -> String {
    let Report { bounds, decode, prefill, batch8, switching, agreement, .. } = report;
    let mut text =
        format!("{:<22}  {:>22}  {:>7}  {:>24}\n", "", "decode, ms per token", "GB/s", "prompt of 512, ms");
    let lora_same_type = format!("LoRA {ty}");
    let adapted_bytes = bounds.adapted_bytes();
    let lora_bytes = bounds.base_bytes + bounds.lora_f16_bytes;
    let lora_same_type_bytes = bounds.base_bytes + bounds.factor_bytes;
    let rows = [
        ("base model", bounds.base_bytes, Some(decode.base_ms), Some(prefill.base_ms)),
        ("experts, composed", adapted_bytes, Some(decode.composed_ms), Some(prefill.composed_ms)),
        ("experts, fused", adapted_bytes, Some(decode.fused_ms), Some(prefill.fused_ms)),
        ("LoRA f16", lora_bytes, Some(decode.lora_ms), Some(prefill.lora_ms)),
        (&lora_same_type, lora_same_type_bytes, decode.lora_same_type_ms, prefill.lora_same_type_ms),
    ];
    for (name, bytes, decode_ms, prefill_ms) in rows {
        let (Some(decode_ms), Some(prefill_ms)) = (decode_ms, prefill_ms) else { continue };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{name:<22}  {decode_ms:>11.3}  {:>+7.1} %  {:>7.1}  {prefill_ms:>13.1}  {:>+7.1} %",
            100.0 * overhead(decode_ms, decode.base_ms),
            bytes as f64 / decode_ms / 1e6,
            100.0 * overhead(prefill_ms, prefill.base_ms)
        );
    }
    let _ = writeln!(
        text,
        "{:<22}  {:>11}  {:>+7.1} %  {:>7}  {:>13}  {:>+7.1} %",
        "lower bound, experts",
        "bytes",
        100.0 * (bounds.byte_bound() - 1.0),
        "",
        "arithmetic",
        100.0 * (bounds.flop_bound() - 1.0)
    );
    let _ = writeln!(
        text,
        "{:<22}  {:>11}  {:>+7.1} %\n",
        "lower bound, LoRA f16",
        "bytes",
        100.0 * (bounds.lora_f16_byte_bound() - 1.0)
    );
    let _ = writeln!(text, "{:<22}  {:>22}", "8 sequences together", "tokens/s");
    for (name, tok_s) in [
        ("base model", batch8.base_tok_s),
        ("1 expert, fused", batch8.same_tok_s),
        ("8 experts, fused", batch8.mixed_tok_s),
        ("8 experts, composed", batch8.composed_mixed_tok_s),
        ("1 LoRA f16", batch8.lora_same_tok_s),
        ("8 LoRA f16, in turn", batch8.lora_mixed_tok_s),
    ] {
        let _ = writeln!(text, "{name:<22}  {tok_s:>11.1}");
    }
    let _ = writeln!(
        text,
        "\nswitching, ms beyond an ordinary token: expert {:.3} (of which writing the slot {:.3}), LoRA {:.3}",
        switching.switch_ms, switching.write_ms, switching.lora_switch_ms
    );
    let _ = writeln!(
        text,
        "same function: composed and LoRA f16 differ from fused by {:.1e} and {:.1e} of what the expert changes (a \
         quantized base model adds rounding of its own)",
        agreement.composed, agreement.lora
    );
    let _ = writeln!(
        text,
        "medians of {} rounds (prompts: {}, switching: {}), variants taking turns",
        decode.rounds, prefill.rounds, switching.rounds
    );
    text
}

/// Instruction sets that matter here and that this processor has; those this build does not use are in brackets.
fn cpu_features() -> Vec<String> {
    let mut features = Vec::new();
    macro_rules! look_for {
        ($detected:ident: $($name:tt)*) => {$(
            if std::arch::$detected!($name) {
                features.push(if cfg!(target_feature = $name) { $name.into() } else { format!("({})", $name) });
            }
        )*};
    }
    #[cfg(target_arch = "x86_64")]
    look_for!(is_x86_feature_detected: "avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512vl" "avx512vnni" "avxvnni");
    #[cfg(target_arch = "aarch64")]
    look_for!(is_aarch64_feature_detected: "neon" "dotprod" "fp16" "i8mm" "sve");
    features
}
