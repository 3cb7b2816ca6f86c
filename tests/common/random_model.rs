//! Random models that llama.cpp loads: the architecture and tokenizer are real, the weights are noise.
//!
//! Shared by the tests (in process) and by `examples/random_model.rs` (for benchmarks). Every weight is a
//! function of the seed, the tensor's name and its position, made of integers and one multiplication, so
//! a seed gives the same file on every machine. Files are streamed: memory stays at one slab of rows.
//!
//! Noise is scaled so that activations keep their size through the layers: linear weights have standard
//! deviation 1/√n_in, embeddings 1, and norms lie around 1.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use llama_svf::error::{Error, Result};
use llama_svf::ffi::gguf::GgufHeader;
use llama_svf::ffi::tensor_type::{self, TensorType};
use rayon::prelude::*;

/// The shape of a model, the type of its matrices, and the seed of their values.
#[derive(Clone, Debug)]
pub struct RandomModel {
    /// One of [`ARCHITECTURES`]; `spark2_5` and `gemma3` have a [`SLIDING_WINDOW`] in every other block.
    pub arch: String,
    /// Transformer blocks.
    pub layers: usize,
    /// Length of the residual stream.
    pub width: usize,
    /// Length of the feed-forward hidden layer.
    pub ffn: usize,
    /// Attention heads; divides `width`.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Tokens; at least [`MIN_VOCAB`].
    pub vocab: usize,
    /// Type of every matrix whose rows it fits; see [`RandomModel::type_for`].
    pub ty: TensorType,
    /// Chooses the values.
    pub seed: u64,
}

/// Unknown, begin, end, the 256 bytes and the space: less cannot tokenize every text.
pub const MIN_VOCAB: usize = 260;

/// What can be written.
pub const ARCHITECTURES: [&str; 7] = ["llama", "qwen2", "qwen3", "smollm3", "gemma3", "phi3", "spark2_5"];

/// Tokens that a token of `spark2_5` or `gemma3` attends to where its attention has a window.
pub const SLIDING_WINDOW: u32 = 8;

/// The rotary base of the blocks of `gemma3` that have a window; others have 10000.
pub const WINDOW_BASE: f32 = 500.0;

const CONTEXT: u32 = 2048;

impl RandomModel {
    /// A model for tests: a fraction of a second to make, to decompose and to run.
    pub fn tiny() -> Self {
        Self {
            arch: "llama".into(),
            layers: 2,
            width: 64,
            ffn: 96,
            heads: 4,
            kv_heads: 2,
            vocab: 320,
            ty: TensorType::F32,
            seed: 1,
        }
    }

    /// Writes the model as a GGUF file.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.check()?;
        let tensors = self.tensors();
        let mut header = self.metadata()?;
        for tensor in &tensors {
            header.add_tensor(&tensor.name, &tensor.ne, self.type_for(tensor)?)?;
        }
        let failed = |e| Error::io("cannot write", path, e);
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
        out.write_all(&header.encode()).map_err(failed)?;
        let mut written = header.encode().len();
        for tensor in &tensors {
            let offset = header
                .data_offset(&tensor.name)
                .ok_or_else(|| Error::invalid("not in the header").field(&tensor.name))?;
            out.write_all(&vec![0; offset - written]).map_err(failed)?;
            written = offset;
            self.generate(tensor, |bytes| {
                written += bytes.len();
                out.write_all(bytes).map_err(failed)
            })?;
        }
        out.write_all(&vec![0; header.total_size() - written]).map_err(failed)?;
        out.flush().map_err(failed)
    }

    fn check(&self) -> Result<()> {
        let positive = [self.layers, self.width, self.ffn, self.heads, self.kv_heads].iter().all(|&n| n > 0);
        if !positive
            || !self.width.is_multiple_of(2 * self.heads)
            || !self.heads.is_multiple_of(self.kv_heads)
        {
            return Err(Error::invalid(format!(
                "no model has {} layers, width {}, ffn {}, {} heads and {} key-value heads",
                self.layers, self.width, self.ffn, self.heads, self.kv_heads
            ))
            .hint("the width must be an even multiple of the heads, the heads one of the key-value heads"));
        }
        if self.vocab < MIN_VOCAB {
            return Err(Error::expected(format!("a vocabulary of at least {MIN_VOCAB}"), self.vocab));
        }
        if !ARCHITECTURES.contains(&self.arch.as_str()) {
            return Err(Error::expected(ARCHITECTURES.join(", "), format!("'{}'", self.arch)).field("arch"));
        }
        Ok(())
    }

    fn head_dim(&self) -> usize {
        self.width / self.heads
    }

    fn metadata(&self) -> Result<GgufHeader> {
        let mut header = GgufHeader::new();
        header.set_str("general.architecture", &self.arch)?;
        header.set_str("general.name", &format!("random {} (seed {})", self.arch, self.seed))?;
        let key = |name: &str| format!("{}.{name}", self.arch);
        header.set_u32(&key("context_length"), CONTEXT)?;
        header.set_u32(&key("embedding_length"), self.width as u32)?;
        header.set_u32(&key("block_count"), self.layers as u32)?;
        header.set_u32(&key("feed_forward_length"), self.ffn as u32)?;
        header.set_u32(&key("attention.head_count"), self.heads as u32)?;
        header.set_u32(&key("attention.head_count_kv"), self.kv_heads as u32)?;
        header.set_u32(&key("attention.key_length"), self.head_dim() as u32)?;
        header.set_u32(&key("attention.value_length"), self.head_dim() as u32)?;
        header.set_f32(&key("attention.layer_norm_rms_epsilon"), 1e-5)?;
        header.set_u32(&key("rope.dimension_count"), self.head_dim() as u32)?;
        header.set_f32(&key("rope.freq_base"), 10000.0)?;
        header.set_u32(&key("vocab_size"), self.vocab as u32)?;
        let has_window: Vec<_> = (0..self.layers).map(|block| i32::from(block % 2 == 0)).collect();
        if ["spark2_5", "gemma3"].contains(&self.arch.as_str()) {
            header.set_u32(&key("attention.sliding_window"), SLIDING_WINDOW)?;
        }
        if self.arch == "gemma3" {
            header.set_u32(&key("attention.sliding_window_pattern"), 2)?;
            header.set_f32(&key("rope.freq_base_swa"), WINDOW_BASE)?;
        }
        if self.arch == "spark2_5" {
            header.set_i32s(&key("attention.sliding_window_pattern"), &has_window)?;
        }

        let vocabulary =
            vocabulary(self.vocab, if self.arch == "phi3" { Some("<|endoftext|>") } else { None });
        let tokens: Vec<&str> = vocabulary.iter().map(|t| t.text.as_str()).collect();
        let scores: Vec<f32> = (0..vocabulary.len()).map(|rank| -(rank as f32)).collect();
        let kinds: Vec<i32> = vocabulary.iter().map(|t| t.kind as i32).collect();
        header.set_str("tokenizer.ggml.model", "llama")?;
        header.set_strs("tokenizer.ggml.tokens", &tokens)?;
        header.set_f32s("tokenizer.ggml.scores", &scores)?;
        header.set_i32s("tokenizer.ggml.token_type", &kinds)?;
        header.set_u32("tokenizer.ggml.unknown_token_id", 0)?;
        header.set_u32("tokenizer.ggml.bos_token_id", 1)?;
        header.set_u32("tokenizer.ggml.eos_token_id", 2)?;
        header.set_bool("tokenizer.ggml.add_bos_token", true)?;
        Ok(header)
    }

    fn tensors(&self) -> Vec<RandomTensor> {
        let kv = self.kv_heads * self.head_dim();
        let mut list = vec![
            RandomTensor::matrix("token_embd", self.width, self.vocab).with_deviation(1.0),
            RandomTensor::norm("output_norm", self.width),
            RandomTensor::matrix("output", self.width, self.vocab),
        ];
        if self.arch == "phi3" {
            for context in ["short", "long"] {
                list.push(RandomTensor::norm(&format!("rope_factors_{context}"), self.head_dim() / 2));
            }
        }
        for block in 0..self.layers {
            let name = |part: &str| format!("blk.{block}.{part}");
            list.push(RandomTensor::norm(&name("attn_norm"), self.width));
            let apart = [("attn_q", self.width), ("attn_k", kv), ("attn_v", kv)];
            let joined = [("attn_qkv", self.width + 2 * kv)];
            let is_joined = self.arch == "phi3";
            for &(part, rows) in if is_joined { &joined[..] } else { &apart } {
                list.push(RandomTensor::matrix(&name(part), self.width, rows));
                if self.arch == "qwen2" {
                    list.push(RandomTensor::bias(&name(part), rows));
                }
            }
            if ["qwen3", "gemma3"].contains(&self.arch.as_str()) {
                list.push(RandomTensor::norm(&name("attn_q_norm"), self.head_dim()));
                list.push(RandomTensor::norm(&name("attn_k_norm"), self.head_dim()));
            }
            if self.arch == "spark2_5" {
                list.push(RandomTensor::matrix(&name("attn_gate"), self.width, self.heads));
            }
            list.push(RandomTensor::matrix(&name("attn_output"), self.width, self.width));
            list.push(RandomTensor::norm(&name("ffn_norm"), self.width));
            if self.arch == "gemma3" {
                list.push(RandomTensor::norm(&name("post_attention_norm"), self.width));
                list.push(RandomTensor::norm(&name("post_ffw_norm"), self.width));
            }
            if is_joined {
                list.push(RandomTensor::matrix(&name("ffn_up"), self.width, 2 * self.ffn));
            } else {
                list.push(RandomTensor::matrix(&name("ffn_gate"), self.width, self.ffn));
                list.push(RandomTensor::matrix(&name("ffn_up"), self.width, self.ffn));
            }
            list.push(RandomTensor::matrix(&name("ffn_down"), self.ffn, self.width));
        }
        list
    }

    /// F32 for vectors; for matrices the model's type, or the next one that fits the row length: K-quants
    /// fall back as llama-quantize lets them, all others to F16.
    fn type_for(&self, tensor: &RandomTensor) -> Result<TensorType> {
        if tensor.ne.len() == 1 {
            return Ok(TensorType::F32);
        }
        let mut candidates = vec![self.ty];
        if self.ty == TensorType::Q4_K {
            candidates.push(tensor_type::parse("q5_0")?);
        }
        let fits = candidates.into_iter().find(|ty| ty.row_bytes(tensor.ne[0]).is_some());
        Ok(fits.unwrap_or(TensorType::F16))
    }

    /// Hands out the tensor's bytes, slab by slab, in order.
    fn generate(&self, tensor: &RandomTensor, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        const SLAB_VALUES: usize = 1 << 18;
        let ty = self.type_for(tensor)?;
        let row_len = tensor.ne[0];
        let rows = tensor.ne.get(1).copied().unwrap_or(1);
        let rows_per_slab = (SLAB_VALUES / row_len).max(1);
        let slabs: Vec<usize> = (0..rows).step_by(rows_per_slab).collect();
        for group in slabs.chunks(2 * rayon::current_num_threads()) {
            let encoded: Vec<Vec<u8>> = group
                .par_iter()
                .map(|&first| {
                    let count = rows_per_slab.min(rows - first) * row_len;
                    let values = tensor.values(self.seed, first * row_len, count);
                    let mut bytes = Vec::new();
                    ty.quantize(&values, row_len, &mut bytes).map(|()| bytes)
                })
                .collect::<Result<_>>()?;
            encoded.iter().try_for_each(|bytes| sink(bytes))?;
        }
        Ok(())
    }
}

/// A tensor of noise around `mean`.
struct RandomTensor {
    name: String,
    ne: Vec<usize>,
    mean: f32,
    deviation: f32,
}

impl RandomTensor {
    fn matrix(name: &str, n_in: usize, n_out: usize) -> Self {
        let deviation = 1.0 / (n_in as f32).sqrt();
        Self { name: format!("{name}.weight"), ne: vec![n_in, n_out], mean: 0.0, deviation }
    }

    fn norm(name: &str, len: usize) -> Self {
        Self { name: format!("{name}.weight"), ne: vec![len], mean: 1.0, deviation: 0.1 }
    }

    fn bias(name: &str, len: usize) -> Self {
        Self { name: format!("{name}.bias"), ne: vec![len], mean: 0.0, deviation: 0.1 }
    }

    fn with_deviation(self, deviation: f32) -> Self {
        Self { deviation, ..self }
    }

    /// Elements `first..first + count`, near enough normal: the sum of four uniform 16-bit numbers.
    fn values(&self, seed: u64, first: usize, count: usize) -> Vec<f32> {
        const BYTES_PER_VALUE: usize = 8;
        let mut hash = blake3::Hasher::new();
        hash.update(&seed.to_le_bytes()).update(self.name.as_bytes());
        let mut stream = hash.finalize_xof();
        stream.set_position((first * BYTES_PER_VALUE) as u64);
        let mut noise = vec![0; count * BYTES_PER_VALUE];
        stream.fill(&mut noise);

        let mean_of_sum = 4.0 * 65535.0 / 2.0;
        let deviation_of_sum = (4.0 * (65536.0f32 * 65536.0 - 1.0) / 12.0).sqrt();
        let scale = self.deviation / deviation_of_sum;
        noise
            .chunks_exact(BYTES_PER_VALUE)
            .map(|bytes| {
                let sum: u32 =
                    bytes.chunks_exact(2).map(|b| u32::from(u16::from_le_bytes([b[0], b[1]]))).sum();
                self.mean + (sum as f32 - mean_of_sum) * scale
            })
            .collect()
    }
}

/// llama.cpp's numbering of token types.
#[derive(Clone, Copy)]
enum Kind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    Byte = 6,
}

struct Token {
    text: String,
    kind: Kind,
}

/// A SentencePiece vocabulary with byte fallback: `<unk>`, `<s>`, `</s>`, 256 bytes, the space, then a, ▁a,
/// b, ▁b, … aa, ▁aa, … Every longer piece is a shorter one and a letter, so merging can reach all of them.
/// llama.cpp wants to find `more` in the vocabularies of some architectures.
fn vocabulary(len: usize, more: Option<&str>) -> Vec<Token> {
    let token = |text: String, kind| Token { text, kind };
    let special = [("<unk>", Kind::Unknown), ("<s>", Kind::Control), ("</s>", Kind::Control)];
    let special = special.into_iter().map(|(text, kind)| token(text.into(), kind));
    let bytes = (0..=255u8).map(|byte| token(format!("<0x{byte:02X}>"), Kind::Byte));
    let space = std::iter::once(token("▁".into(), Kind::Normal));
    let words = (0..).flat_map(|n| [word(n), format!("▁{}", word(n))]).map(|text| token(text, Kind::Normal));
    let more = more.map(|text| token(text.into(), Kind::Control));
    special.chain(bytes).chain(more).chain(space).chain(words).take(len).collect()
}

/// The n-th word over a–z, shortest first: a, b, … z, aa, ab, …
fn word(mut n: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(char::from(b'a' + (n % 26) as u8));
        if n < 26 {
            break;
        }
        n = n / 26 - 1;
    }
    letters.into_iter().rev().collect()
}
