//! What a GGUF file says about its transformer, or why its gradient is not described here.

use super::attention::Heads;
use super::block::MATRICES;
use super::rope::{Pairs, Rope};
use crate::error::{Error, Result};
use crate::ffi::gguf::GgufFile;

/// Blocks of RMS norm, grouped-query attention with rotary positions, and SwiGLU: llama, mistral (which GGUF
/// calls llama too), qwen2 and qwen3. Biases and norms of heads are there where the file has them.
pub(super) struct Architecture {
    pub n_layers: usize,
    /// Length of the residual stream.
    pub width: usize,
    /// Length of the feed-forward hidden layer.
    pub ffn: usize,
    pub heads: Heads,
    /// Whether heads of queries and keys are normed (qwen3).
    pub has_head_norms: bool,
    /// Of the norms.
    pub eps: f32,
    pub rope: Rope,
}

/// Tensors outside the blocks.
const OUTSIDE: [&str; 4] = ["token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight"];

impl Architecture {
    /// Reads it.
    ///
    /// # Errors
    /// Another architecture, or a part of this one that is not described.
    pub(super) fn read(file: &GgufFile) -> Result<Self> {
        Self::read_checked(file).map_err(|error| error.file(file.path()))
    }

    fn read_checked(file: &GgufFile) -> Result<Self> {
        let name = file.require_str("general.architecture")?;
        let pairs = match name {
            "llama" => Pairs::Neighbours,
            "qwen2" | "qwen3" => Pairs::Halves,
            _ => {
                return Err(Error::expected("llama, qwen2 or qwen3", format!("'{name}'"))
                    .field("general.architecture")
                    .hint("there is no exact gradient for it; `Evolution` needs none"))
            }
        };
        let key = |suffix: &str| format!("{name}.{suffix}");
        let number = |suffix: &str| file.require_u32(&key(suffix)).map(|n| n as usize);
        let or = |suffix: &str, default: usize| -> Result<usize> {
            Ok(file.u32(&key(suffix))?.map_or(default, |n| n as usize))
        };
        let (n_layers, width) = (number("block_count")?, number("embedding_length")?);
        let n = number("attention.head_count")?;
        let n_kv = or("attention.head_count_kv", n)?;
        if n == 0 || n_kv == 0 || !n.is_multiple_of(n_kv) {
            let found = format!("{n} and {n_kv}");
            return Err(
                Error::expected("heads that divide into groups", found).field(key("attention.head_count_kv"))
            );
        }
        let size = or("attention.key_length", width / n)?;
        let value_size = or("attention.value_length", size)?;
        if size == 0 || value_size != size {
            let found = format!("{size} and {value_size}");
            return Err(
                Error::expected("keys and values of one length", found).field(key("attention.value_length"))
            );
        }
        let eps = file.f32(&key("attention.layer_norm_rms_epsilon"))?.unwrap_or(1e-5);
        let n_rotated = or("rope.dimension_count", size)?;
        if n_rotated > size || !n_rotated.is_multiple_of(2) {
            let expected = format!("an even number up to {size}");
            return Err(Error::expected(expected, n_rotated).field(key("rope.dimension_count")));
        }
        let base = file.f32(&key("rope.freq_base"))?.map_or(10_000.0, f64::from);
        let scale = rope_scale(file, &key("rope.scaling.type"), &key("rope.scaling.factor"))?;
        let factors = file.tensor("rope_freqs.weight").map(|factors| file.to_f32(factors)).transpose()?;
        let rope = Rope::new(pairs, n_rotated, base, scale, factors.as_deref());
        let ffn = file.require_tensor("blk.0.ffn_up.weight")?.ne[1];
        let has_head_norms = file.tensor("blk.0.attn_q_norm.weight").is_some();
        let heads = Heads { n, n_kv, size };
        let this = Self { n_layers, width, ffn, heads, has_head_norms, eps, rope };
        check_tensors(file, &this)?;
        Ok(this)
    }
}

fn rope_scale(file: &GgufFile, type_key: &str, factor_key: &str) -> Result<f64> {
    match file.str(type_key)? {
        None | Some("none") => Ok(1.0),
        Some("linear") => Ok(1.0 / f64::from(file.f32(factor_key)?.filter(|&f| f > 0.0).unwrap_or(1.0))),
        Some(other) => Err(Error::expected("none or linear", format!("'{other}'"))
            .field(type_key)
            .hint("there is no exact gradient for it; `Evolution` needs none")),
    }
}

/// Every tensor has a part in the description, and has the shape it gives it.
fn check_tensors(file: &GgufFile, this: &Architecture) -> Result<()> {
    let Architecture { n_layers, width, ffn: n_ffn, heads: Heads { n, n_kv, size }, .. } = *this;
    for tensor in file.tensors() {
        let name = &tensor.name;
        let in_block = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        let known = match in_block {
            Some((layer, part)) => layer.parse().is_ok_and(|layer: usize| layer < n_layers) && is_known(part),
            None => OUTSIDE.contains(&name.as_str()),
        };
        if !known {
            return Err(Error::invalid("the exact gradient does not know this tensor")
                .field(format!("tensor {name}"))
                .hint("`Evolution` needs no gradient"));
        }
    }
    let expect = |name: String, ne: [usize; 2]| -> Result<()> {
        let found = file.require_tensor(&name)?.ne;
        if found != [ne[0], ne[1], 1, 1] {
            return Err(Error::expected(format!("shape {ne:?}"), format!("{found:?}"))
                .field(format!("tensor {name}")));
        }
        Ok(())
    };
    for layer in 0..n_layers {
        let shapes = [
            [width, n * size],
            [width, n_kv * size],
            [width, n_kv * size],
            [n * size, width],
            [width, n_ffn],
            [width, n_ffn],
            [n_ffn, width],
        ];
        for (part, [n_in, n_out]) in MATRICES.into_iter().zip(shapes) {
            expect(format!("blk.{layer}.{part}.weight"), [n_in, n_out])?;
            let bias = format!("blk.{layer}.{part}.bias");
            if file.tensor(&bias).is_some() {
                expect(bias, [n_out, 1])?;
            }
        }
        for norm in ["attn_norm", "ffn_norm"] {
            expect(format!("blk.{layer}.{norm}.weight"), [width, 1])?;
        }
        for norm in ["attn_q_norm", "attn_k_norm"].map(|norm| format!("blk.{layer}.{norm}.weight")) {
            if file.tensor(&norm).is_some() {
                expect(norm, [size, 1])?;
            }
        }
    }
    expect("output_norm.weight".into(), [width, 1])?;
    let n_vocab = file.require_tensor("token_embd.weight")?.ne[1];
    expect("token_embd.weight".into(), [width, n_vocab])?;
    match file.tensor("output.weight") {
        Some(_) => expect("output.weight".into(), [width, n_vocab]),
        None => Ok(()),
    }
}

/// Whether `part`, such as `attn_q.bias`, belongs to a block that is described.
fn is_known(part: &str) -> bool {
    match part.rsplit_once('.') {
        Some((name, "weight")) => {
            MATRICES.contains(&name)
                || ["attn_norm", "ffn_norm", "attn_q_norm", "attn_k_norm"].contains(&name)
        }
        Some((name, "bias")) => MATRICES.contains(&name),
        _ => false,
    }
}
