//! One transformer block, forwards and backwards:
//! x → x + norm(Wₒ·attention(norm(x))) → + norm(W_down·gated(norm(·))), where the outer norms are those of gemma3 only.
//!
//! Activations have one column per row of the batch, and threads take blocks of rows. A weight is `[n_in, n_out]` in
//! column-major order, as it lies in a GGUF file, so that y = Wᵀ·x.

use faer::Accum;
use rayon::prelude::*;

use super::attention::{attend, attend_back, Heads, Qkv, View};
use super::columns::{view, view_mut, Columns};
use super::packing::Rows;
use super::pointwise::{add_bias, rms_norm, rms_norm_back, Activation};
use super::product;
use super::rope::Table;
use super::weights::Matrix;
use crate::error::Result;

/// The matrices that a block may have, in the order in which they are used.
pub(super) const N_PLACES: usize = 9;
/// [`Q`], [`K`] and [`V`] in one, row by row.
pub(super) const QKV: usize = 0;
pub(super) const Q: usize = 1;
pub(super) const K: usize = 2;
pub(super) const V: usize = 3;
pub(super) const OUTPUT: usize = 4;
/// [`GATE`] and [`UP`] in one, row by row.
pub(super) const GATE_UP: usize = 5;
pub(super) const GATE: usize = 6;
pub(super) const UP: usize = 7;
pub(super) const DOWN: usize = 8;

/// Names in GGUF of the matrices that a block has.
pub(super) type Places = [Option<&'static str>; N_PLACES];
/// Every matrix by itself.
pub(super) const SINGLE: Places = [
    None,
    Some("attn_q"),
    Some("attn_k"),
    Some("attn_v"),
    Some("attn_output"),
    None,
    Some("ffn_gate"),
    Some("ffn_up"),
    Some("ffn_down"),
];
/// Those with the same input in one (phi3).
pub(super) const JOINED: Places =
    [Some("attn_qkv"), None, None, None, Some("attn_output"), Some("ffn_up"), None, None, Some("ffn_down")];

/// The matrices that there are: places and names.
pub(super) fn named(places: &Places) -> impl Iterator<Item = (usize, &'static str)> + '_ {
    places.iter().enumerate().filter_map(|(place, name)| Some((place, (*name)?)))
}

/// The weights of a block at some parameters.
pub(super) struct Layer {
    pub attn_norm: Vec<f32>,
    /// Of the heads of queries and of keys (qwen3).
    pub head_norms: Option<[Vec<f32>; 2]>,
    pub ffn_norm: Vec<f32>,
    /// Of what attention and the feed-forward layer give (gemma3).
    pub post_norms: Option<[Vec<f32>; 2]>,
    pub matrices: [Option<Matrix>; N_PLACES],
    pub biases: [Option<Vec<f32>>; N_PLACES],
    /// Whether activations are rounded as llama.cpp does.
    pub is_rounded: bool,
}

/// How a block computes, beside its weights, and what rows.
pub(super) struct Shape<'a> {
    pub view: View,
    pub eps: f32,
    /// Length of the feed-forward hidden layer.
    pub ffn: usize,
    pub activation: Activation,
    /// What turns queries and keys, if something does.
    pub rope: Option<&'a Table<'a>>,
    pub rows: Rows<'a>,
}

/// What the way back needs of the way there.
pub(super) struct Saved {
    /// Queries and keys before their norms, where they have some.
    raw: Option<[Columns; 2]>,
    /// As they meet.
    qkv: Qkv,
    attended: Columns,
    /// After attention.
    middle: Columns,
    gate: Columns,
    up: Columns,
    /// What attention and the feed-forward layer gave, where it is normed before it is added.
    given: Option<[Columns; 2]>,
}

/// What a gradient is wanted of.
pub(super) struct Wanted {
    /// Which matrices, by place.
    pub matrices: [bool; N_PLACES],
    /// The input of the block.
    pub input: bool,
}

/// Is given each wanted matrix, by its place, with what went into it `[n_in, rows]` and the gradient of
/// what came out `[n_out, rows]`.
pub(super) type Take<'a> = dyn FnMut(usize, &Columns, &Columns) -> Result<()> + 'a;

impl Wanted {
    /// Whether something is wanted of what comes before the matrix `place`.
    fn before(&self, place: usize) -> bool {
        self.input || self.matrices[..place].contains(&true)
    }
}

impl Layer {
    /// What the block makes of `x` `[width, rows]`.
    pub(super) fn forward(&self, shape: &Shape, x: &Columns) -> (Columns, Saved) {
        let (rows, n) = (&shape.rows, shape.rows.block);
        let Heads { n: n_heads, n_kv, size, .. } = shape.view.heads;
        let [mut q, mut k, mut v] = [n_heads, n_kv, n_kv].map(|n| Columns::zeros(n * size, x.rows()));
        let blocks = (x.blocks(n), q.blocks_mut(n), k.blocks_mut(n), v.blocks_mut(n));
        blocks.into_par_iter().for_each(|(x, q, k, v)| {
            let normed = normed(x, &self.attn_norm, shape.eps);
            self.apply_all(QKV, [Q, K, V], &normed, [q, k, v]);
        });
        let raw = self.head_norms.as_ref().map(|_| [q.clone(), k.clone()]);
        let blocks = (q.blocks_mut(n), k.blocks_mut(n), rows.positions.par_chunks(n));
        blocks.into_par_iter().for_each(|(q, k, positions)| {
            for (x, norm) in [(q, 0), (k, 1)] {
                if let Some(norms) = &self.head_norms {
                    let normed = normed(x, &norms[norm], shape.eps);
                    x.copy_from_slice(&normed);
                }
                if let Some(rope) = shape.rope {
                    rope.rotate(x, shape.view.heads.size, positions);
                }
            }
        });
        let qkv = Qkv { q, k, v };
        let attended = attend(shape.view, rows, &qkv);

        let (mut middle, mut out) = (x.clone(), Columns::zeros(x.n(), x.rows()));
        let [mut gate, mut up] = [(); 2].map(|()| Columns::zeros(shape.ffn, x.rows()));
        // Without outer norms nothing is kept of what is added.
        let mut given = [(); 2].map(|()| self.post_norms.as_ref().map(|_| Columns::zeros(x.n(), x.rows())));
        let [of_attention, of_ffn] = given.each_mut().map(|given| match given {
            Some(given) => given.blocks_mut(n).map(Some).collect::<Vec<_>>(),
            None => x.blocks(n).map(|_| None).collect(),
        });
        let blocks = (
            attended.blocks(n),
            middle.blocks_mut(n),
            gate.blocks_mut(n),
            up.blocks_mut(n),
            out.blocks_mut(n),
            of_attention,
            of_ffn,
        );
        blocks.into_par_iter().for_each(|(attended, middle, gate, up, out, of_attention, of_ffn)| {
            self.apply_and_add(OUTPUT, attended, shape.eps, of_attention, middle);
            let normed = normed(middle, &self.ffn_norm, shape.eps);
            self.apply_all(GATE_UP, [GATE, UP], &normed, [&mut *gate, &mut *up]);
            let mut act = vec![0.0; gate.len()];
            shape.activation.apply(gate, up, &mut act);
            out.copy_from_slice(middle);
            self.apply_and_add(DOWN, &act, shape.eps, of_ffn, out);
        });
        let [of_attention, of_ffn] = given;
        let given = of_attention.zip(of_ffn).map(|(attention, ffn)| [attention, ffn]);
        (out, Saved { raw, qkv, attended, middle, gate, up, given })
    }

    /// The gradient of `x`, if it is wanted, for the gradient `dout` of what [`Self::forward`] returned with `saved`;
    /// `take` gets the matrices.
    ///
    /// # Errors
    /// Those of `take`.
    pub(super) fn backward(
        &self,
        shape: &Shape,
        x: &Columns,
        saved: Saved,
        dout: Columns,
        wanted: &Wanted,
        take: &mut Take,
    ) -> Result<Option<Columns>> {
        let (rows, n, eps) = (&shape.rows, shape.rows.block, shape.eps);
        let Saved { raw, qkv, attended, middle, mut gate, mut up, given } = saved;
        let mut take = |which: usize, x: &Columns, dy: &Columns| {
            if wanted.matrices[which] {
                take(which, x, dy)?;
            }
            Ok(())
        };
        // Of what is added, before its norm.
        let before_norm = |which: usize, d: &Columns| {
            let (norms, given) = (self.post_norms.as_ref()?, given.as_ref()?);
            let mut before = Columns::zeros(d.n(), d.rows());
            (given[which].blocks(n), d.blocks(n), before.blocks_mut(n))
                .into_par_iter()
                .for_each(|(given, d, before)| rms_norm_back(given, &norms[which], eps, d, before));
            Some(before)
        };
        let d_ffn = before_norm(1, &dout);
        if wanted.matrices[DOWN] {
            let mut act = Columns::zeros(gate.n(), gate.rows());
            let blocks = (gate.blocks(n), up.blocks(n), act.blocks_mut(n));
            blocks.into_par_iter().for_each(|(gate, up, act)| shape.activation.apply(gate, up, act));
            take(DOWN, &act, d_ffn.as_ref().unwrap_or(&dout))?;
        }
        if !wanted.before(DOWN) {
            return Ok(None);
        }
        let blocks = (gate.blocks_mut(n), up.blocks_mut(n), d_ffn.as_ref().unwrap_or(&dout).blocks(n));
        blocks.into_par_iter().for_each(|(gate, up, d_ffn)| {
            let mut d_act = vec![0.0; gate.len()];
            self.back(DOWN, d_ffn, &mut d_act);
            shape.activation.back(gate, up, &d_act);
        });
        drop(d_ffn);
        let (d_gate, d_up) = (gate, up);
        if wanted.matrices[GATE_UP..DOWN].contains(&true) {
            let normed = all_normed(&middle, &self.ffn_norm, eps, n);
            take_all(&mut take, wanted, GATE_UP, [GATE, UP], &normed, [&d_gate, &d_up])?;
        }
        if !wanted.before(GATE_UP) {
            return Ok(None);
        }
        let mut d_middle = dout;
        let blocks = (middle.blocks(n), d_gate.blocks(n), d_up.blocks(n), d_middle.blocks_mut(n));
        blocks.into_par_iter().for_each(|(middle, d_gate, d_up, d_middle)| {
            let mut d_normed = vec![0.0; middle.len()];
            self.back_all(GATE_UP, [GATE, UP], [d_gate, d_up], &mut d_normed);
            rms_norm_back(middle, &self.ffn_norm, eps, &d_normed, d_middle);
        });
        drop((middle, d_gate, d_up));

        let d_output = before_norm(0, &d_middle);
        let d_output = d_output.as_ref().unwrap_or(&d_middle);
        take(OUTPUT, &attended, d_output)?;
        if !wanted.before(OUTPUT) {
            return Ok(None);
        }
        let mut d_attended = Columns::zeros(attended.n(), attended.rows());
        (d_output.blocks(n), d_attended.blocks_mut(n))
            .into_par_iter()
            .for_each(|(d_output, d_attended)| self.back(OUTPUT, d_output, d_attended));
        let mut d = attend_back(shape.view, rows, &qkv, &d_attended);
        drop((attended, d_attended, qkv));
        for (i, d) in [&mut d.q, &mut d.k].into_iter().enumerate() {
            if let Some(rope) = shape.rope {
                (d.blocks_mut(n), rows.positions.par_chunks(n))
                    .into_par_iter()
                    .for_each(|(d, positions)| rope.rotate_back(d, shape.view.heads.size, positions));
            }
            if let (Some(norms), Some(raw)) = (&self.head_norms, &raw) {
                (raw[i].blocks(n), d.blocks_mut(n)).into_par_iter().for_each(|(raw, d)| {
                    let dy = d.to_vec();
                    d.fill(0.0);
                    rms_norm_back(raw, &norms[i], eps, &dy, d);
                });
            }
        }
        if wanted.matrices[..OUTPUT].contains(&true) {
            let normed = all_normed(x, &self.attn_norm, eps, n);
            take_all(&mut take, wanted, QKV, [Q, K, V], &normed, [&d.q, &d.k, &d.v])?;
        }
        if !wanted.input {
            return Ok(None);
        }
        let mut dx = d_middle;
        let blocks = (x.blocks(n), d.q.blocks(n), d.k.blocks(n), d.v.blocks(n), dx.blocks_mut(n));
        blocks.into_par_iter().for_each(|(x, dq, dk, dv, dx)| {
            let mut d_normed = vec![0.0; x.len()];
            self.back_all(QKV, [Q, K, V], [dq, dk, dv], &mut d_normed);
            rms_norm_back(x, &self.attn_norm, eps, &d_normed, dx);
        });
        Ok(Some(dx))
    }

    /// y = Wᵀ·x + bias for each of `places`, which have one input, or for `joined`, which has all of them in one.
    fn apply_all<const N: usize>(
        &self,
        joined: usize,
        places: [usize; N],
        x: &[f32],
        mut ys: [&mut [f32]; N],
    ) {
        let Some(w) = &self.matrices[joined] else {
            places.into_iter().zip(ys).for_each(|(place, y)| self.apply(place, x, Accum::Replace, y));
            return;
        };
        let n_rows = x.len() / w.n_in;
        let mut all = vec![0.0; n_rows * w.n_out];
        self.apply(joined, x, Accum::Replace, &mut all);
        for (row, mut all) in all.chunks_exact(w.n_out).enumerate() {
            for y in &mut ys {
                let n = y.len() / n_rows;
                let (part, rest) = all.split_at(n);
                y[row * n..][..n].copy_from_slice(part);
                all = rest;
            }
        }
    }

    /// dx += Σ W·dy, for the same.
    fn back_all<const N: usize>(&self, joined: usize, places: [usize; N], dys: [&[f32]; N], dx: &mut [f32]) {
        match &self.matrices[joined] {
            None => places.into_iter().zip(dys).for_each(|(place, dy)| self.back(place, dy, dx)),
            Some(w) => self.back(joined, &in_one(dys, dx.len() / w.n_in), dx),
        }
    }

    /// y (+)= Wᵀ·x + bias.
    fn apply(&self, which: usize, x: &[f32], accumulate: Accum, y: &mut [f32]) {
        let Some(w) = &self.matrices[which] else { return };
        let mut rounded = Vec::new();
        let x = match self.is_rounded {
            true => {
                rounded.extend_from_slice(x);
                w.rounding.apply(&mut rounded);
                &rounded
            }
            false => x,
        };
        product(view_mut(y, w.n_out), accumulate, w.view().transpose(), view(x, w.n_in));
        if let Some(bias) = &self.biases[which] {
            add_bias(y, bias);
        }
    }

    /// y += Wᵀ·x + bias, which is normed before where `given`, which then has it without its norm, is there.
    fn apply_and_add(&self, which: usize, x: &[f32], eps: f32, given: Option<&mut [f32]>, y: &mut [f32]) {
        let (Some(norms), Some(given)) = (&self.post_norms, given) else {
            return self.apply(which, x, Accum::Add, y);
        };
        self.apply(which, x, Accum::Replace, given);
        let normed = normed(given, &norms[usize::from(which == DOWN)], eps);
        y.iter_mut().zip(normed).for_each(|(y, normed)| *y += normed);
    }

    /// dx += W·dy.
    fn back(&self, which: usize, dy: &[f32], dx: &mut [f32]) {
        let Some(w) = &self.matrices[which] else { return };
        product(view_mut(dx, w.n_in), Accum::Add, w.view(), view(dy, w.n_out));
    }
}

/// Hands out the matrices with input `x`, whose outputs have the gradients `dys`: each of `places`, or `joined`.
fn take_all<const N: usize>(
    take: &mut impl FnMut(usize, &Columns, &Columns) -> Result<()>,
    wanted: &Wanted,
    joined: usize,
    places: [usize; N],
    x: &Columns,
    dys: [&Columns; N],
) -> Result<()> {
    if wanted.matrices[joined] {
        let values = in_one(dys.map(Columns::values), x.rows());
        return take(joined, x, &Columns::of(values, x.rows()));
    }
    places.into_iter().zip(dys).try_for_each(|(place, dy)| take(place, x, dy))
}

/// The rows of `parts`, each with those of the next part behind it.
fn in_one<const N: usize>(parts: [&[f32]; N], n_rows: usize) -> Vec<f32> {
    let row = |row: usize| {
        parts.iter().flat_map(move |part| {
            let n = part.len() / n_rows;
            &part[row * n..][..n]
        })
    };
    (0..n_rows).flat_map(row).copied().collect()
}

fn normed(x: &[f32], w: &[f32], eps: f32) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    rms_norm(x, w, eps, &mut y);
    y
}

/// The same of all rows, `block` at a time.
fn all_normed(x: &Columns, w: &[f32], eps: f32, block: usize) -> Columns {
    let mut y = Columns::zeros(x.n(), x.rows());
    (x.blocks(block), y.blocks_mut(block)).into_par_iter().for_each(|(x, y)| rms_norm(x, w, eps, y));
    y
}
