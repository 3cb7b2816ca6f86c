//! What a conversion will do, settled before any work: which weights, which ranks, which types, and with
//! them where every byte of the output lies.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use crate::error::{Error, Result};
use crate::ffi::gguf::{GgufFile, TensorInfo};
use crate::ffi::tensor_type::TensorType;
use crate::resume::Digest;
use crate::sidecar::{About, Fingerprint, SidecarHeader, FACTOR_TYPES};
use crate::svd::operations;

/// Which weights of a model to decompose.
#[derive(Clone, Debug)]
pub enum Selection {
    /// The feed-forward matrices: `ffn_up`, `ffn_gate`, `ffn_down`.
    Ffn,
    /// The attention matrices: `attn_q`, `attn_k`, `attn_v`, `attn_qkv`, `attn_output`.
    Attn,
    /// Both.
    All,
    /// Every matrix whose name the expression matches somewhere.
    Matching(Regex),
}

/// Expert matrices are matched too, so that they are refused instead of left out in silence.
static FFN: LazyLock<Regex> =
    LazyLock::new(|| fixed(r"^blk\.\d+\.ffn_(up|gate|down|gate_up)(_exps|_chexps|_shexp)?\.weight$"));
static ATTN: LazyLock<Regex> = LazyLock::new(|| fixed(r"^blk\.\d+\.attn_(q|k|v|qkv|output)\.weight$"));
/// Tables from which rows are looked up: nothing is multiplied by them.
static LOOKED_UP: LazyLock<Regex> =
    LazyLock::new(|| fixed(r"^(token_embd|per_layer_token_embd|position_embd|token_types)\."));

/// What tensors of one layer begin with.
static LAYER: LazyLock<Regex> = LazyLock::new(|| fixed(r"^blk\.\d+\."));

fn fixed(expression: &str) -> Regex {
    Regex::new(expression).expect("a constant expression is valid")
}

impl Selection {
    /// `ffn`, `attn`, `all`, or else a regular expression on tensor names.
    ///
    /// # Errors
    /// The text is no regular expression.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "ffn" => Ok(Self::Ffn),
            "attn" => Ok(Self::Attn),
            "all" => Ok(Self::All),
            _ => Regex::new(text).map(Self::Matching).map_err(|_| {
                Error::expected("ffn, attn, all or a regular expression on tensor names", format!("'{text}'"))
                    .field("tensors")
            }),
        }
    }

    /// Whether the weight `name` is selected.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Ffn => FFN.is_match(name),
            Self::Attn => ATTN.is_match(name),
            Self::All => FFN.is_match(name) || ATTN.is_match(name),
            Self::Matching(expression) => expression.is_match(name),
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ffn => "ffn",
            Self::Attn => "attn",
            Self::All => "all",
            Self::Matching(expression) => expression.as_str(),
        })
    }
}

/// How many singular values to keep per weight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RankPolicy {
    /// All of them.
    Full,
    /// The largest N, or all where a weight has fewer.
    AtMost(NonZeroUsize),
}

impl RankPolicy {
    /// `full` or a number from 1.
    ///
    /// # Errors
    /// Anything else, 0 included.
    pub fn parse(text: &str) -> Result<Self> {
        if text == "full" {
            return Ok(Self::Full);
        }
        text.parse()
            .map(Self::AtMost)
            .map_err(|_| Error::expected("full or a number from 1", format!("'{text}'")).field("rank"))
    }

    fn limit(self) -> Option<usize> {
        match self {
            Self::Full => None,
            Self::AtMost(n) => Some(n.get()),
        }
    }

    /// The rank for a weight of this shape.
    pub fn of(self, n_out: usize, n_in: usize) -> usize {
        let full = n_out.min(n_in);
        self.limit().map_or(full, |limit| full.min(limit))
    }
}

impl fmt::Display for RankPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::AtMost(n) => n.fmt(f),
        }
    }
}

/// One tensor of the output.
#[derive(Clone, Default, Debug)]
pub(super) struct Factor {
    pub name: String,
    /// Where its bytes lie.
    pub place: Range<usize>,
}

/// One weight to decompose.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The weight W `[n_out, n_in]` in the model.
    pub weight: TensorInfo,
    pub n_in: usize,
    pub n_out: usize,
    /// Singular values kept, 1 ≤ rank ≤ min(n_out, n_in).
    pub rank: usize,
    /// Stored type of U; its rows are `rank` long.
    pub u_type: TensorType,
    /// Stored type of Vᵀ; its rows are `n_in` long.
    pub vt_type: TensorType,
    /// U, σ and Vᵀ in the output.
    pub factors: [Factor; 3],
}

impl Item {
    /// Work, by which progress is counted and the order chosen; see [`operations`].
    pub fn cost(&self) -> u64 {
        operations(self.n_out, self.n_in, self.rank)
    }
}

/// Everything that is decided before the first matrix.
pub(super) struct Plan {
    pub items: Vec<Item>,
    pub header: SidecarHeader,
    pub fingerprint: Fingerprint,
    /// Fallbacks and omissions worth telling.
    pub notes: Vec<String>,
}

impl Plan {
    pub fn new(model: &GgufFile, tensors: &Selection, rank: RankPolicy, ty: TensorType) -> Result<Self> {
        if !FACTOR_TYPES.contains(&ty) {
            return Err(Error::expected("f32, f16 or q8_0", ty).field("type"));
        }
        // First of all, because it refuses what is a GGUF file but not a whole model.
        let fingerprint = Fingerprint::of_model(model)?;
        let mut notes = Vec::new();
        let mut items = Vec::new();
        for weight in model.tensors() {
            if weight.n_dims < 2 || !weight.name.ends_with(".weight") || !tensors.matches(&weight.name) {
                continue;
            }
            if LOOKED_UP.is_match(&weight.name) {
                notes.push(format!("{}: left out, because rows are looked up in it", weight.name));
                continue;
            }
            check_is_plain_matrix(model, weight).map_err(|e| e.field(&weight.name).file(model.path()))?;
            let [n_in, n_out, ..] = weight.ne;
            let rank = rank.of(n_out, n_in);
            items.push(Item {
                weight: weight.clone(),
                n_in,
                n_out,
                rank,
                u_type: type_for_rows(ty, rank),
                vt_type: type_for_rows(ty, n_in),
                factors: Default::default(),
            });
        }
        if items.is_empty() {
            return Err(nothing_selected(model, tensors));
        }
        notes.extend(fallback_notes(&items, ty));
        let about = About {
            base_name: model.str("general.name")?.unwrap_or("unnamed").to_owned(),
            architecture: model.require_str("general.architecture")?.to_owned(),
            rank: rank.limit(),
            selection: tensors.to_string(),
            factor_type: ty,
        };
        let mut header = SidecarHeader::new(&fingerprint, &about)?;
        lay_out(&mut header, &mut items).map_err(|e| e.file(model.path()))?;
        Ok(Self { items, header, fingerprint, notes })
    }

    /// Changes with every name, shape, type and position in the output.
    pub fn layout_digest(&self) -> String {
        let mut digest = Digest::new();
        for item in &self.items {
            let Item { weight, n_in, n_out, rank, u_type, vt_type, factors } = item;
            digest.text("weight", &weight.name);
            digest.number("n_in", *n_in).number("n_out", *n_out).number("rank", *rank);
            digest.text("u_type", u_type.name()).text("vt_type", vt_type.name());
            for Factor { name, place } in factors {
                digest.text("factor", name).number("start", place.start).number("end", place.end);
            }
        }
        digest.finish()
    }
}

/// Says why `tensors` selects nothing, and what there is to select.
fn nothing_selected(model: &GgufFile, tensors: &Selection) -> Error {
    const OUTPUT: &str = "output.weight";
    let names = || model.tensors().iter().map(|tensor| tensor.name.as_str());
    let matched: Vec<_> = names().filter(|name| tensors.matches(name)).collect();
    let reason = if tensors.matches(OUTPUT) && model.tensor(OUTPUT).is_none() {
        format!("this model has no {OUTPUT}: it uses token_embd.weight for the output (tied embeddings)")
    } else if let Some(first) = matched.first() {
        let more = if matched.len() > 1 { format!(" and {} more", matched.len() - 1) } else { String::new() };
        let (is, a) = if matched.len() > 1 { ("are", "matrices") } else { ("is", "a matrix") };
        format!("'{tensors}' matches {first}{more}, which {is} not {a} that something is multiplied by")
    } else {
        format!("'{tensors}' matches no tensor of the model")
    };
    let is_matrix = |tensor: &&TensorInfo| {
        tensor.n_dims == 2 && tensor.name.ends_with(".weight") && !LOOKED_UP.is_match(&tensor.name)
    };
    let kinds: BTreeSet<_> = model
        .tensors()
        .iter()
        .filter(is_matrix)
        .map(|tensor| LAYER.replace(&tensor.name, "blk.N.").into_owned())
        .collect();
    let hint = if kinds.is_empty() {
        "it has no matrices at all; `GgufFile::tensors` lists its tensors".into()
    } else {
        format!(
            "its matrices are {}; `GgufFile::tensors` lists all tensors",
            kinds.into_iter().collect::<Vec<_>>().join(", ")
        )
    };
    Error::invalid(reason).field("tensors").file(model.path()).hint(hint)
}

/// Announces all factors, then notes where they lie.
fn lay_out(header: &mut SidecarHeader, items: &mut [Item]) -> Result<()> {
    for item in &*items {
        let Item { weight, n_in, n_out, rank, u_type, vt_type, .. } = item;
        header.add_weight(&weight.name, [*n_in, *n_out], *rank, *u_type, *vt_type)?;
    }
    let mut names = header.tensors().iter();
    for item in items {
        let u_bytes = item.u_type.row_bytes(item.rank).map(|row| row * item.n_out);
        let sigma_bytes = TensorType::F32.row_bytes(item.rank);
        let vt_bytes = item.vt_type.row_bytes(item.n_in).map(|row| row * item.rank);
        for (factor, bytes) in item.factors.iter_mut().zip([u_bytes, sigma_bytes, vt_bytes]) {
            let name = names.next().cloned().unwrap_or_default();
            let (Some(start), Some(bytes)) = (header.data_offset(&name), bytes) else {
                return Err(Error::invalid("its factors do not fit the table").field(&item.weight.name));
            };
            *factor = Factor { name, place: start..start + bytes };
        }
    }
    Ok(())
}

fn check_is_plain_matrix(model: &GgufFile, weight: &TensorInfo) -> Result<()> {
    if weight.n_dims > 2 {
        return Err(Error::expected(
            "a matrix",
            format!("{} dimensions (mixture of experts)", weight.n_dims),
        )
        .hint("such tensors are not supported; choose other `tensors`, such as attn or an expression"));
    }
    let stem = weight.name.trim_end_matches(".weight");
    if model.tensor(&format!("{stem}.scale")).is_some() {
        return Err(Error::invalid(
            "its values are multiplied by a separate tensor .scale, which is not supported",
        )
        .hint("convert the model to another type first, or choose other `tensors`"));
    }
    Ok(())
}

/// `ty`, or F16 where its blocks do not fill a row.
fn type_for_rows(ty: TensorType, row_len: usize) -> TensorType {
    if ty.row_bytes(row_len).is_some() {
        ty
    } else {
        TensorType::F16
    }
}

/// One line per row length that `ty` cannot hold.
fn fallback_notes(items: &[Item], ty: TensorType) -> Vec<String> {
    let mut counts = BTreeMap::new();
    for item in items {
        for (factor, stored, row_len) in [("U", item.u_type, item.rank), ("Vt", item.vt_type, item.n_in)] {
            if stored != ty {
                *counts.entry((factor, row_len)).or_insert(0) += 1;
            }
        }
    }
    let line = |((factor, row_len), count)| {
        let block = ty.block_len();
        format!(
            "{factor} of {count} weights is stored as f16: its rows of {row_len} are no multiple of {block}"
        )
    };
    counts.into_iter().map(line).collect()
}
