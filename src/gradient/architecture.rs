//! What a GGUF file says about its transformer, or why its gradient is not described here.

use super::attention::Heads;
use super::block::{self, Places};
use super::pointwise::Activation;
use super::rope::{Pairs, Rope, Scaling, Yarn};
use crate::error::{Error, Result};
use crate::ffi::gguf::{GgufFile, Value};

/// Blocks of RMS norm, grouped-query attention with rotary positions, and a gated feed-forward layer: llama, mistral (which
/// GGUF calls llama too), qwen2, qwen3, smollm3, gemma3 and phi3. Biases and norms of heads are there where the file has them.
pub(super) struct Architecture {
    pub n_layers: usize,
    /// How each of them attends.
    pub attention: Vec<Attention>,
    /// Length of the residual stream.
    pub width: usize,
    /// Length of the feed-forward hidden layer.
    pub ffn: usize,
    pub heads: Heads,
    /// The matrices of a block.
    pub places: Places,
    /// Whether heads of queries and keys are normed (qwen3, gemma3).
    pub has_head_norms: bool,
    /// Whether what attention and the feed-forward layer give is normed before it is added (gemma3).
    pub has_post_norms: bool,
    /// Of the feed-forward gate.
    pub activation: Activation,
    /// What embeddings are multiplied with.
    pub embedding_scale: f32,
    /// Of the norms.
    pub eps: f32,
    /// The rotations that layers choose from.
    pub ropes: Vec<Rope>,
}

/// How one layer attends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attention {
    /// Which of [`Architecture::ropes`] turns queries and keys; `None` leaves them as they are.
    pub rope: Option<usize>,
    /// The tokens, itself among them, that a token sees at most; `None` for all before it.
    pub window: Option<usize>,
}

/// What an architecture's name says that its file does not.
struct Kind {
    pairs: Pairs,
    places: Places,
    activation: Activation,
    has_post_norms: bool,
    /// Whether embeddings are multiplied with √width.
    scales_embeddings: bool,
    /// Every so many layers one has no rotation.
    unturned: Option<usize>,
    /// Every so many layers one sees all tokens, where the others have a window, unless the file says another number.
    unbounded: Option<usize>,
}

impl Kind {
    const PLAIN: Self = Self {
        pairs: Pairs::Neighbours,
        places: block::SINGLE,
        activation: Activation::Silu,
        has_post_norms: false,
        scales_embeddings: false,
        unturned: None,
        unbounded: None,
    };

    fn of(name: &str) -> Option<Self> {
        match name {
            "llama" => Some(Self::PLAIN),
            "smollm3" => Some(Self { unturned: Some(4), ..Self::PLAIN }),
            "qwen2" | "qwen3" => Some(Self { pairs: Pairs::Halves, ..Self::PLAIN }),
            "phi3" => Some(Self { pairs: Pairs::Halves, places: block::JOINED, ..Self::PLAIN }),
            "gemma3" => Some(Self {
                pairs: Pairs::Halves,
                activation: Activation::Gelu,
                has_post_norms: true,
                scales_embeddings: true,
                unbounded: Some(6),
                ..Self::PLAIN
            }),
            _ => None,
        }
    }
}

/// The names that [`Kind::of`] knows.
const NAMES: &str = "llama, qwen2, qwen3, smollm3, gemma3 or phi3";
/// What turns the queries and keys of layers with a window, where the file says nothing (gemma3).
const WINDOW_BASE: f64 = 10_000.0;

/// Norms of what attention and the feed-forward layer give.
pub(super) const POST_NORMS: [&str; 2] = ["post_attention_norm", "post_ffw_norm"];
/// What frequencies of positions are divided by: in any context, and in one as long as a model was trained for.
const FACTORS: [&str; 2] = ["rope_freqs.weight", "rope_factors_short.weight"];
/// Tensors outside the blocks.
const OUTSIDE: [&str; 6] = [
    "token_embd.weight",
    "output_norm.weight",
    "output.weight",
    FACTORS[0],
    FACTORS[1],
    "rope_factors_long.weight",
];

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
        let kind = Kind::of(name).ok_or_else(|| {
            Error::expected(NAMES, format!("'{name}'"))
                .field("general.architecture")
                .hint("there is no exact gradient for it; `Evolution` needs none")
        })?;
        let key = |suffix: &str| format!("{name}.{suffix}");
        let number = |suffix: &str| file.require_u32(&key(suffix)).map(|n| n as usize);
        let or = |suffix: &str, default: usize| -> Result<usize> {
            Ok(file.u32(&key(suffix))?.map_or(default, |n| n as usize))
        };
        let (n_layers, width) = (number("block_count")?, number("embedding_length")?);
        let n = number("attention.head_count")?;
        let n_kv = same_in_all_layers(file, &key("attention.head_count_kv"))?.unwrap_or(n);
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
        if file.f32(&key("final_logit_softcapping"))?.is_some_and(|limit| limit != 0.0) {
            return Err(Error::invalid("the exact gradient does not know capped logits")
                .field(key("final_logit_softcapping"))
                .hint("`Evolution` needs no gradient"));
        }
        let base = file.f32(&key("rope.freq_base"))?.map_or(10_000.0, f64::from);
        let scaling = scaling(file, name)?;
        let mut ropes = vec![Rope::new(kind.pairs, n_rotated, base, &scaling)];
        let windows = windows(file, name, &kind, n_layers)?;
        if windows.iter().any(Option::is_some) {
            let base = file.f32(&key("rope.freq_base_swa"))?.map_or(WINDOW_BASE, f64::from);
            ropes.push(Rope::new(kind.pairs, n_rotated, base, &Scaling::NONE));
        }
        let attention = |(layer, window): (usize, Option<usize>)| {
            let is_turned = kind.unturned.is_none_or(|every| !(layer + 1).is_multiple_of(every));
            Attention { rope: is_turned.then_some(usize::from(window.is_some())), window }
        };
        let attention = windows.into_iter().enumerate().map(attention).collect();
        let ffn = file.require_tensor("blk.0.ffn_down.weight")?.ne[0];
        let has_head_norms = file.tensor("blk.0.attn_q_norm.weight").is_some();
        // As llama.cpp has it: the largest gemma3 divides by the width of a head as if heads made up the whole width.
        let scale = if name == "gemma3" && n_layers == 62 { width / n } else { size };
        let heads = Heads { n, n_kv, size, scale: 1.0 / (scale as f32).sqrt() };
        let this = Self {
            n_layers,
            attention,
            width,
            ffn,
            heads,
            places: kind.places,
            has_head_norms,
            has_post_norms: kind.has_post_norms,
            activation: kind.activation,
            embedding_scale: if kind.scales_embeddings { (width as f32).sqrt() } else { 1.0 },
            eps,
            ropes,
        };
        check_tensors(file, &this)?;
        Ok(this)
    }
}

impl Architecture {
    /// n_in and n_out of a matrix of a block, by its place.
    pub(super) fn shape(&self, place: usize) -> [usize; 2] {
        let Self { width, ffn, heads: Heads { n, n_kv, size, .. }, .. } = *self;
        let (q, kv) = (n * size, n_kv * size);
        match place {
            block::QKV => [width, q + 2 * kv],
            block::Q => [width, q],
            block::K | block::V => [width, kv],
            block::OUTPUT => [q, width],
            block::GATE_UP => [width, 2 * ffn],
            block::GATE | block::UP => [width, ffn],
            _ => [ffn, width],
        }
    }

    /// Whether `part`, such as `attn_q.bias`, belongs to a block.
    fn knows(&self, part: &str) -> bool {
        let is_matrix = |name: &str| self.places.contains(&Some(name));
        match part.rsplit_once('.') {
            Some((name, "weight")) => {
                is_matrix(name)
                    || ["attn_norm", "ffn_norm", "attn_q_norm", "attn_k_norm"].contains(&name)
                    || self.has_post_norms && POST_NORMS.contains(&name)
            }
            Some((name, "bias")) => is_matrix(name),
            _ => false,
        }
    }
}

/// A number that a file may give once or for each layer.
fn same_in_all_layers(file: &GgufFile, key: &str) -> Result<Option<usize>> {
    let Some(numbers) = numbers(file, key) else { return Ok(file.u32(key)?.map(|n| n as usize)) };
    let first = numbers.first().copied();
    match numbers.into_iter().find(|&n| Some(n) != first) {
        Some(other) => {
            let found = format!("{} and {other}", first.unwrap_or(0.0));
            Err(Error::expected("one number for all layers", found)
                .field(key)
                .hint("there is no exact gradient for it; `Evolution` needs none"))
        }
        None => Ok(first.map(|n| n as usize)),
    }
}

/// The array of numbers at `key`, if it is one.
fn numbers(file: &GgufFile, key: &str) -> Option<Vec<f64>> {
    match file.value(key)?.0 {
        Value::Numbers(numbers) => Some(numbers),
        _ => None,
    }
}

/// The window of each layer, where it has one.
fn windows(file: &GgufFile, name: &str, kind: &Kind, n_layers: usize) -> Result<Vec<Option<usize>>> {
    let size = file.u32(&format!("{name}.attention.sliding_window"))?.filter(|&size| size > 0);
    let (Some(every), Some(size)) = (kind.unbounded, size) else { return Ok(vec![None; n_layers]) };
    let key = format!("{name}.attention.sliding_window_pattern");
    let has_window: Vec<bool> = match numbers(file, &key) {
        Some(of_layer) if of_layer.len() == n_layers => of_layer.into_iter().map(|has| has != 0.0).collect(),
        Some(of_layer) => {
            let expected = format!("{n_layers} numbers, one for each layer");
            return Err(Error::expected(expected, of_layer.len()).field(key));
        }
        None => {
            let every = file.u32(&key)?.map_or(every, |every| every as usize);
            (0..n_layers).map(|layer| every == 0 || layer % every + 1 < every).collect()
        }
    };
    Ok(has_window.into_iter().map(|has| has.then_some(size as usize)).collect())
}

/// How positions are stretched. llama.cpp takes a file that names no kind of scaling for one with linear scaling, and older
/// files call the factor `scale_linear`.
fn scaling(file: &GgufFile, name: &str) -> Result<Scaling> {
    let key = |suffix: &str| format!("{name}.rope.{suffix}");
    let number = |suffix: &str| Ok(file.f32(&key(suffix))?.map(f64::from));
    let factor =
        number("scaling.factor")?.map_or_else(|| number("scale_linear"), |factor| Ok(Some(factor)))?;
    let scale = factor.filter(|&factor| factor != 0.0).map_or(1.0, |factor| 1.0 / factor);
    let (scale, is_yarn) = match file.str(&key("scaling.type"))? {
        Some("none") => (1.0, false),
        None | Some("linear" | "longrope") => (scale, false),
        Some("yarn") => (scale, true),
        Some(other) => {
            return Err(Error::expected("none, linear, yarn or longrope", format!("'{other}'"))
                .field(key("scaling.type"))
                .hint("there is no exact gradient for it; `Evolution` needs none"))
        }
    };
    let n_ctx = match file.u32(&key("scaling.original_context_length"))? {
        Some(n_ctx) => n_ctx,
        None => file.u32(&format!("{name}.context_length"))?.unwrap_or(0),
    };
    // Files with two sets of factors have the second for contexts that are longer than any answer here.
    let factors =
        FACTORS.iter().find_map(|name| file.tensor(name)).map(|factors| file.to_f32(factors)).transpose()?;
    let magnitude = number("scaling.attn_factor")?.unwrap_or(1.0);
    Ok(Scaling { scale, factors, magnitude, yarn: is_yarn.then_some(Yarn { n_ctx: f64::from(n_ctx) }) })
}

/// Every tensor has a part in the description, and has the shape it gives it.
fn check_tensors(file: &GgufFile, this: &Architecture) -> Result<()> {
    let Architecture { n_layers, width, heads: Heads { size, .. }, .. } = *this;
    for tensor in file.tensors() {
        let name = &tensor.name;
        let in_block = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        let known = match in_block {
            Some((layer, part)) => {
                layer.parse().is_ok_and(|layer: usize| layer < n_layers) && this.knows(part)
            }
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
        for (place, part) in block::named(&this.places) {
            let [n_in, n_out] = this.shape(place);
            expect(format!("blk.{layer}.{part}.weight"), [n_in, n_out])?;
            let bias = format!("blk.{layer}.{part}.bias");
            if file.tensor(&bias).is_some() {
                expect(bias, [n_out, 1])?;
            }
        }
        let post: &[&str] = if this.has_post_norms { &POST_NORMS } else { &[] };
        for norm in ["attn_norm", "ffn_norm"].iter().chain(post) {
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
