//! LoRA adapters as Hugging Face's `peft` reads them: a folder with `adapter_config.json` and `adapter_model.safetensors`.
//!
//! A and B are those of [`super::lora`], under the names that `transformers` has for the same weights. Models of the architecture
//! `llama` come into GGUF with the rows of `attn_q` and `attn_k` in another order (llama.cpp's rotary embedding turns neighbours,
//! `transformers` halves): the rows of B are put back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{json, Value};

use super::lora::{a_of, b_of, About, Adapter, AdapterWeight};
use super::Change;
use crate::atomic;
use crate::error::{Error, Result};
use crate::ffi::gguf::GgufFile;
use crate::ffi::tensor_type::TensorType;
use crate::sidecar::Sidecar;

/// Architectures whose weights have known names.
pub const ARCHITECTURES: [&str; 4] = ["llama", "qwen2", "qwen3", "gemma3"];
/// Names in GGUF, and in `transformers`, of the matrices of a layer.
const MATRICES: [(&str, &str); 7] = [
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];
const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";
/// More is no adapter of an expert.
const MAX_BYTES: u64 = 1 << 30;

/// Writes `change` of the weights of `sidecar`, whose model is `model`, into `folder`, which is made. Files of the same names are
/// replaced, each as a whole or not at all.
///
/// # Errors
/// An architecture that is none of [`ARCHITECTURES`], a weight that has no name there, a sidecar of another model, a type that
/// is none of f32, f16 and bf16, or files that cannot be written.
pub fn write(
    folder: impl AsRef<Path>,
    model: &GgufFile,
    sidecar: &Sidecar,
    change: &Change,
    ty: TensorType,
    about: &About,
) -> Result<()> {
    let folder = folder.as_ref();
    sidecar.check_model(model)?;
    let dtype = dtype(ty)?;
    let architecture = sidecar.about.architecture.as_str();
    if !ARCHITECTURES.contains(&architecture) {
        return Err(Error::expected(format!("a model of {}", ARCHITECTURES.join(", ")), architecture)
            .field("general.architecture")
            .hint("export it as LoRA for llama.cpp: `export lora`"));
    }
    let mut tensors = Vec::new();
    let (mut ranks, mut targets) = (BTreeMap::new(), Vec::new());
    for part in change.weights.iter().filter(|part| part.rank() > 0) {
        let weight = &sidecar.weights[part.index];
        let module = module(&weight.name)?;
        let a = a_of(sidecar, weight, part)?;
        let mut b = b_of(sidecar, weight, part)?;
        if let Some(n_heads) = turned_heads(architecture, model, &weight.name)? {
            b = as_transformers(&b, part.rank(), n_heads)
                .ok_or_else(|| Error::invalid("its rows are no whole heads").field(weight.name.as_str()))?;
        }
        for (values, suffix, shape) in
            [(a, "lora_A", vec![part.rank(), weight.n_in]), (b, "lora_B", vec![weight.n_out, part.rank()])]
        {
            let name = format!("base_model.model.{module}.{suffix}.weight");
            tensors.push((name, to_bytes(&values, ty), shape));
        }
        targets.push(module.rsplit('.').next().unwrap_or(&module).to_owned());
        ranks.insert(module, part.rank());
    }
    targets.sort_unstable();
    targets.dedup();
    let most = ranks.values().copied().max().unwrap_or(1);
    let config = json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": sidecar.about.base_name,
        "inference_mode": true,
        "bias": "none",
        "lora_dropout": 0.0,
        "fan_in_fan_out": false,
        "target_modules": targets,
        // B·A counts as it is: alpha is the rank everywhere.
        "r": most,
        "lora_alpha": most,
        "rank_pattern": ranks,
        "alpha_pattern": ranks,
    });
    let views = tensors.iter().map(|(name, bytes, shape)| {
        let view = TensorView::new(dtype, shape.clone(), bytes);
        view.map(|view| (name.as_str(), view)).map_err(|error| wrong(&error))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    let notes =
        [("format", "pt"), ("name", about.name.as_str()), ("description", about.description.as_str())];
    let notes = notes.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let bytes = safetensors::serialize(views, Some(notes.into())).map_err(|error| wrong(&error))?;

    let config = format!("{config:#}\n");
    let is_new = !folder.exists();
    fs::create_dir_all(folder).map_err(|error| Error::io("cannot make the folder", folder, error))?;
    let written = atomic::write(folder.join(WEIGHTS), |out| out.write_all(&bytes))
        .and_then(|()| atomic::write(folder.join(CONFIG), |out| out.write_all(config.as_bytes())));
    if is_new && written.is_err() {
        // What is wrong with the files is told; this is as far as it can be undone.
        _ = fs::remove_dir_all(folder);
    }
    written
}

/// Describes an adapter of peft's format, whoever made it.
///
/// # Errors
/// Files that are missing, damaged or of more than 1 GiB, or an A without its B.
pub fn read(folder: &Path) -> Result<Adapter> {
    let config: Value = serde_json::from_slice(&read_file(&folder.join(CONFIG))?)
        .map_err(|error| Error::invalid(format!("no JSON: {error}")).file(folder.join(CONFIG)))?;
    let path = folder.join(WEIGHTS);
    let bytes = read_file(&path)?;
    let damaged = |error: safetensors::SafeTensorError| wrong(&error).file(&path);
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let mut weights = Vec::new();
    for (name, a) in tensors.iter() {
        let Some(module) = name.strip_suffix(".lora_A.weight") else { continue };
        let b = tensors.tensor(&format!("{module}.lora_B.weight")).map_err(damaged)?;
        let ([rank, n_in], [n_out, other]) = (a.shape(), b.shape()) else {
            return Err(Error::expected("matrices", "others").file(&path).field(module));
        };
        if rank != other {
            return Err(Error::expected(format!("rank {rank} of its B"), other).file(&path).field(module));
        }
        weights.push(AdapterWeight {
            name: module.trim_start_matches("base_model.model.").to_owned(),
            n_in: *n_in,
            n_out: *n_out,
            rank: *rank,
            ty: format!("{:?}", a.dtype()).to_lowercase(),
        });
    }
    weights.sort_by(|a, b| a.name.cmp(&b.name));
    let note = |key: &str| {
        metadata.metadata().as_ref().and_then(|notes| notes.get(key)).cloned().unwrap_or_default()
    };
    Ok(Adapter {
        name: note("name"),
        description: note("description"),
        base: config["base_model_name_or_path"].as_str().unwrap_or_default().to_owned(),
        fingerprint: None,
        alpha: None,
        weights,
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let cannot_read = |source| Error::io("cannot read", path, source);
    let found = fs::metadata(path).map_err(cannot_read)?;
    if !found.is_file() || found.len() > MAX_BYTES {
        return Err(Error::expected(format!("a file of at most {MAX_BYTES} bytes"), "another").file(path));
    }
    fs::read(path).map_err(cannot_read)
}

fn wrong(error: &safetensors::SafeTensorError) -> Error {
    Error::engine(format!("safetensors: {error}"))
}

fn dtype(ty: TensorType) -> Result<Dtype> {
    match ty {
        TensorType::F32 => Ok(Dtype::F32),
        TensorType::F16 => Ok(Dtype::F16),
        TensorType::BF16 => Ok(Dtype::BF16),
        _ => Err(Error::expected("f32, f16 or bf16", ty).setting("type")),
    }
}

fn to_bytes(values: &[f32], ty: TensorType) -> Vec<u8> {
    match ty {
        TensorType::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        TensorType::BF16 => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

/// The name in `transformers` of the weight `name`.
fn module(name: &str) -> Result<String> {
    let known = || {
        if name == "output.weight" {
            return Some("lm_head".to_owned());
        }
        let (layer, part) = name.strip_prefix("blk.")?.strip_suffix(".weight")?.split_once('.')?;
        let (_, module) = MATRICES.iter().find(|(gguf, _)| *gguf == part)?;
        Some(format!("model.layers.{layer}.{module}"))
    };
    known().ok_or_else(|| Error::invalid("its name in transformers is not known").field(name))
}

/// How many heads the rows of the weight `name` are for, if GGUF has them in another order than `transformers`.
fn turned_heads(architecture: &str, model: &GgufFile, name: &str) -> Result<Option<usize>> {
    let key = match name.rsplit('.').nth(1) {
        Some("attn_q") if architecture == "llama" => "head_count",
        Some("attn_k") if architecture == "llama" => "head_count_kv",
        _ => return Ok(None),
    };
    let n_heads = model.u32(&format!("{architecture}.attention.{key}"))?;
    let n_heads = match n_heads {
        Some(n) => n,
        None => model.require_u32(&format!("{architecture}.attention.head_count"))?,
    };
    Ok(Some(n_heads as usize))
}

/// `rows`, each of `rank` numbers, of which a head has the halves of the rotary embedding in turn, as `transformers` has them: one
/// half after the other.
fn as_transformers(rows: &[f32], rank: usize, n_heads: usize) -> Option<Vec<f32>> {
    let n_rows = rows.len() / rank;
    let per_head = n_rows.checked_div(n_heads)?;
    if per_head * n_heads != n_rows || !per_head.is_multiple_of(2) {
        return None;
    }
    let mut turned = Vec::with_capacity(rows.len());
    for head in 0..n_heads {
        for place in 0..per_head {
            let (half, pair) = (place / (per_head / 2), place % (per_head / 2));
            let from = head * per_head + 2 * pair + half;
            turned.extend_from_slice(&rows[from * rank..][..rank]);
        }
    }
    Some(turned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_heads_go_back_to_where_the_conversion_took_them_from() {
        // As the conversion from transformers does it: of each head the two halves in turn.
        let (n_heads, per_head, rank) = (3, 8, 2);
        let original: Vec<f32> = (0..n_heads * per_head * rank).map(|i| i as f32).collect();
        let mut converted = Vec::new();
        for head in original.chunks(per_head * rank) {
            let (first, second) = head.split_at(per_head / 2 * rank);
            for (a, b) in first.chunks(rank).zip(second.chunks(rank)) {
                converted.extend_from_slice(a);
                converted.extend_from_slice(b);
            }
        }
        assert_ne!(converted, original);
        assert_eq!(as_transformers(&converted, rank, n_heads).unwrap(), original);
        assert_eq!(as_transformers(&converted, rank, 5), None);
    }

    #[test]
    fn weights_have_their_names_in_transformers() {
        assert_eq!(module("blk.12.ffn_down.weight").unwrap(), "model.layers.12.mlp.down_proj");
        assert_eq!(module("blk.0.attn_output.weight").unwrap(), "model.layers.0.self_attn.o_proj");
        assert_eq!(module("output.weight").unwrap(), "lm_head");
        for unknown in ["blk.0.attn_qkv.weight", "token_embd.weight", "blk.0.ffn_down.bias"] {
            assert!(module(unknown).unwrap_err().to_string().contains(unknown));
        }
    }
}
