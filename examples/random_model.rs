//! Writes a model of random weights with a real tokenizer, for benchmarks and trials:
//!
//! `cargo run --release --example random_model -- --preset 0.5b --type q8_0 -o random-0.5b.gguf`

#[path = "../tests/common/random_model.rs"]
mod random_model;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use llama_svf::ffi::tensor_type;
use random_model::RandomModel;

/// Write a random model that llama.cpp loads.
#[derive(Parser)]
struct Args {
    /// Shape to start from.
    #[arg(long, value_enum, default_value = "tiny")]
    preset: Preset,
    /// Architecture: llama, qwen2, qwen3, smollm3, gemma3, phi3 or spark2_5.
    #[arg(long)]
    arch: Option<String>,
    /// Transformer blocks.
    #[arg(long)]
    layers: Option<usize>,
    /// Length of the residual stream.
    #[arg(long)]
    width: Option<usize>,
    /// Length of the feed-forward hidden layer.
    #[arg(long)]
    ffn: Option<usize>,
    /// Attention heads.
    #[arg(long)]
    heads: Option<usize>,
    /// Key and value heads.
    #[arg(long)]
    kv_heads: Option<usize>,
    /// Number of tokens.
    #[arg(long)]
    vocab: Option<usize>,
    /// Type of the matrices: f32, f16, q8_0, q4_0, q4_k, …
    #[arg(long = "type", default_value = "f32")]
    ty: String,
    /// Chooses the values.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// File to write.
    #[arg(short, long)]
    output: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    /// 2 layers, 64 wide.
    Tiny,
    /// 24 layers, 896 wide, the shape of a public 0.5B model.
    #[value(name = "0.5b")]
    HalfBillion,
    /// 32 layers, 4096 wide, the shape of a public 8B model, but for its vocabulary.
    #[value(name = "8b")]
    EightBillion,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let preset = match args.preset {
        Preset::Tiny => RandomModel::tiny(),
        Preset::HalfBillion => RandomModel {
            layers: 24,
            width: 896,
            ffn: 4864,
            heads: 14,
            kv_heads: 2,
            vocab: 32000,
            ..RandomModel::tiny()
        },
        Preset::EightBillion => RandomModel {
            layers: 32,
            width: 4096,
            ffn: 14336,
            heads: 32,
            kv_heads: 8,
            vocab: 32000,
            ..RandomModel::tiny()
        },
    };
    let model = RandomModel {
        arch: args.arch.unwrap_or(preset.arch),
        layers: args.layers.unwrap_or(preset.layers),
        width: args.width.unwrap_or(preset.width),
        ffn: args.ffn.unwrap_or(preset.ffn),
        heads: args.heads.unwrap_or(preset.heads),
        kv_heads: args.kv_heads.unwrap_or(preset.kv_heads),
        vocab: args.vocab.unwrap_or(preset.vocab),
        ty: tensor_type::parse(&args.ty)?,
        seed: args.seed,
    };
    model.write(&args.output)?;
    Ok(())
}
