//! How the work on a gradient is divided, so that it fits the memory that it may use.
//!
//! Rows go through all layers in batches. A batch needs memory for the inputs of its layers, and for what the way back
//! needs of the way there: of the last `kept` layers it is kept, of the others it is computed again. A smaller batch
//! keeps more, but every batch reads and composes the weights anew. All divisions that fit are compared, and the one
//! with the fewest operations is taken.

use super::packing;
use super::project::is_direct;
use super::Group;
use crate::error::{Error, Result};

/// A division of the work. What is computed does not depend on it, but for rounding; nor at all on `kept`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Most rows (tokens that the model reads) that go through the layers at once; a longer sequence goes alone.
    pub rows: usize,
    /// Last layers of which everything is kept for the way back. The others are computed twice.
    pub kept: usize,
    /// Rows that a thread takes at a time.
    pub block: usize,
    /// Queries whose attention a thread computes at a time.
    pub queries: usize,
    /// Rows whose logits are held at a time.
    pub head_rows: usize,
    /// Tokens whose output vectors are held at a time.
    pub tile: usize,
    /// Bytes it needs.
    pub bytes: usize,
    /// Floating-point operations it takes, about.
    pub operations: f64,
}

impl Default for Plan {
    /// Sizes at which nothing is gained from larger ones, for work that needs no bound.
    fn default() -> Self {
        Self {
            rows: usize::MAX,
            kept: usize::MAX,
            block: 256,
            queries: 256,
            head_rows: 512,
            tile: 4096,
            bytes: 0,
            operations: 0.0,
        }
    }
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// That may be used.
    pub all: usize,
    /// Of these, what is taken: by the model, the sidecar and their contexts.
    pub taken: usize,
}

impl Default for Budget {
    /// 2 GiB for a gradient, where nothing else is said.
    fn default() -> Self {
        Self { all: 2 << 30, taken: 0 }
    }
}

impl Budget {
    /// What is left for a gradient.
    pub fn free(&self) -> usize {
        self.all.saturating_sub(self.taken)
    }
}

/// What memory and time depend on.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    pub n_layers: usize,
    /// Layers that the way back goes through.
    pub n_back: usize,
    pub width: usize,
    pub ffn: usize,
    /// Components of all queries, and of all keys.
    pub q: usize,
    pub kv: usize,
    pub has_head_norms: bool,
    pub has_post_norms: bool,
    /// Whether queries, keys and values, and gates and what they gate, come from one matrix each.
    pub is_joined: bool,
    pub n_vocab: usize,
    /// Rank, n_in and n_out of the adapted matrices of each layer.
    pub adapted: Vec<Vec<[usize; 3]>>,
    /// Whether the gradient is that of the factors themselves.
    pub is_lora: bool,
    pub n_threads: usize,
}

/// Bytes of a number.
const FLOAT: usize = size_of::<f32>();
/// What reading a weight and writing it as F32 costs, in operations; measured at about 1 ns.
const READ_OPERATIONS: f64 = 64.0;
/// Bytes that tokens, angles and the allocator take beside what is counted; measured at 27 to 46 MB for 150 to 2400 MB.
const SPARE: usize = 32 << 20;
/// A batch of fewer rows is not worth it: composing weights costs as much as using them.
const FEW_ROWS: usize = 256;

impl Plan {
    /// The division that takes the fewest operations of those that fit what `budget` leaves. Where `has_kl`, every
    /// token is compared with the base model.
    ///
    /// # Errors
    /// None fits: the error says how many bytes the smallest needs.
    pub(super) fn new(sizes: &Sizes, groups: &[Group], has_kl: bool, budget: Budget) -> Result<Self> {
        let free = budget.free();
        let (all, longest) = packing::count_rows(groups);
        let (all, longest) = (all.max(1), longest.max(1));
        let logits_of_row = sizes.n_vocab * FLOAT * if has_kl { 2 } else { 1 };
        let mut best: Option<Self> = None;
        let mut smallest = usize::MAX;
        let mut n_batches = 1;
        loop {
            let rows = all.div_ceil(n_batches).max(longest);
            let (n_packed, all_packed) = packing::count_batches(groups, rows);
            let plan = Self {
                rows,
                kept: 0,
                block: rows.div_ceil(16).next_multiple_of(32).clamp(96, 256),
                head_rows: (free / 8 / logits_of_row).clamp(16, 512),
                tile: (1 << 22) / sizes.width.max(1).next_power_of_two().min(1 << 14),
                ..Self::default()
            };
            let least = sizes.bytes(&plan, has_kl);
            smallest = smallest.min(least);
            let kept =
                |kept: usize| Self { kept, bytes: sizes.bytes(&Self { kept, ..plan }, has_kl), ..plan };
            let most = (0..=sizes.n_back).rev().map(kept).find(|plan| plan.bytes <= free);
            if let Some(mut plan) = most {
                plan.operations = sizes.operations(&plan, n_packed, all_packed, has_kl);
                if best.is_none_or(|best| plan.operations < best.operations) {
                    best = Some(plan);
                }
            }
            if rows <= longest.max(FEW_ROWS.min(all)) && smallest <= free || rows == longest {
                break;
            }
            n_batches += 1 + n_batches / 8;
        }
        best.ok_or_else(|| {
            let mib = |bytes: usize| bytes.div_ceil(1 << 20);
            Error::too_large(format!(
                "training needs at least {} MiB, {} of these for the model, the sidecar and what they run in; found {} MiB",
                mib(budget.taken + smallest),
                mib(budget.taken),
                budget.all >> 20
            ))
            .setting("memory")
            .hint("give it more `memory`, or shorter prompts and answers (`max_tokens`)")
        })
    }

    /// Rows of the output head that a thread takes at a time.
    pub(super) fn head_block(&self) -> usize {
        self.block.min(64)
    }
}

impl Sizes {
    /// What [`super::block::Saved`] holds for each row.
    fn saved(&self) -> usize {
        let raw = if self.has_head_norms { self.q + self.kv } else { 0 };
        let given = if self.has_post_norms { 2 * self.width } else { 0 };
        2 * self.q + 2 * self.kv + self.width + 2 * self.ffn + raw + given
    }

    /// Numbers of the matrices of a layer.
    fn layer(&self) -> usize {
        2 * self.width * (self.q + self.kv) + 3 * self.width * self.ffn
    }

    fn bytes(&self, plan: &Plan, has_kl: bool) -> usize {
        let Self { width, ffn, q, kv, n_vocab, n_threads, .. } = *self;
        let rows = plan.rows;
        let inputs = rows * width * self.n_back;
        let kept = plan.kept.min(self.n_back) * rows * self.saved();
        // While a layer is computed again and goes back, its own; those of `kept` are gone by then.
        let one = if plan.kept == 0 { rows * self.saved() } else { 0 };
        let factors = |layer: &Vec<[usize; 3]>| -> usize {
            // Of the largest matrix, while weights are composed or the gradient is projected, for each matrix at once.
            layer.iter().map(|[rank, n_in, n_out]| rank * (n_in + n_out)).sum()
        };
        let factors = self.adapted.iter().map(factors).max().unwrap_or(0);
        let joined = if self.is_joined { (2 * ffn).max(q + 2 * kv) } else { 0 };
        let on_the_way = rows * (4 * width + joined + ffn.max(2 * q + 2 * kv));
        let of_threads = n_threads * plan.block * (2 * width + joined + 2 * ffn);
        let layer_phase = one + self.layer() + factors + on_the_way + of_threads;
        let n_logits = if has_kl { 2 } else { 1 };
        let head_rows = plan.head_rows.min(rows);
        let head_phase =
            head_rows * (n_logits * n_vocab + 4 * width) + plan.tile.min(n_vocab) * width + rows * 3 * width;
        // Sums in float64; those by multipliers are too few to count.
        let parameters = self.adapted.iter().flatten().map(|[rank, n_in, n_out]| rank * (n_in + n_out));
        let sums = if self.is_lora { 2 * parameters.sum::<usize>() } else { 0 };
        let bytes = (inputs + kept + sums + layer_phase.max(head_phase)) * FLOAT;
        bytes + bytes / 16 + SPARE
    }

    fn operations(&self, plan: &Plan, n_batches: usize, rows: usize, has_kl: bool) -> f64 {
        let [n_layers, n_back, layer] = [self.n_layers, self.n_back, self.layer()].map(|n| n as f64);
        let again = self.n_back.saturating_sub(plan.kept) as f64;
        let base = if has_kl { n_layers } else { n_layers / 16.0 };
        let mut of_row = 2.0 * layer * (n_layers + base + again + n_back);
        let mut of_batch = READ_OPERATIONS * layer * (n_layers + base + n_back);
        for &[rank, n_in, n_out] in self.adapted.iter().flatten() {
            let is_direct = self.is_lora || is_direct(rank, n_in, n_out);
            let (rank, n_in, n_out) = (rank as f64, n_in as f64, n_out as f64);
            let times = if self.is_lora { 4.0 } else { 2.0 };
            of_row += times * if is_direct { rank * (n_in + n_out) } else { n_in * n_out };
            of_batch += 2.0 * rank * n_in * n_out * if is_direct { 2.0 } else { 3.0 };
        }
        let head = 4.0 * (self.width * self.n_vocab) as f64 * if has_kl { 1.5 } else { 1.0 };
        rows as f64 * (of_row + head) + n_batches as f64 * of_batch
    }
}
