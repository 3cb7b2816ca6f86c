//! One transformer block, forwards and backwards:
//! x → x + Wₒ·attention(norm(x)) → + W_down·swiglu(norm(·)).
//!
//! Activations have one column per row of the batch, and threads take blocks of rows. A weight is `[n_in, n_out]` in
//! column-major order, as it lies in a GGUF file, so that y = Wᵀ·x.

use faer::Accum;
use rayon::prelude::*;

use super::attention::{attend, attend_back, Heads, Qkv};
use super::columns::{view, view_mut, Columns};
use super::packing::Rows;
use super::pointwise::{add_bias, rms_norm, rms_norm_back, swiglu, swiglu_back};
use super::product;
use super::rope::Table;
use super::weights::Matrix;
use crate::error::Result;

/// The matrices of a block, by their names in GGUF.
pub(super) const MATRICES: [&str; 7] =
    ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];
const Q: usize = 0;
const K: usize = 1;
const V: usize = 2;
const OUTPUT: usize = 3;
const GATE: usize = 4;
const UP: usize = 5;
const DOWN: usize = 6;

/// The weights of a block at some m.
pub(super) struct Layer {
    pub attn_norm: Vec<f32>,
    /// Of the heads of queries and of keys (qwen3).
    pub head_norms: Option<[Vec<f32>; 2]>,
    pub ffn_norm: Vec<f32>,
    pub matrices: [Matrix; 7],
    pub biases: [Option<Vec<f32>>; 7],
    /// Whether activations are rounded as llama.cpp does.
    pub is_rounded: bool,
}

/// What all blocks of a model have in common, for some rows.
pub(super) struct Shape<'a> {
    pub heads: Heads,
    pub eps: f32,
    pub rope: Table<'a>,
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
}

/// What a gradient is wanted of.
pub(super) struct Wanted {
    /// Which of [`MATRICES`].
    pub matrices: [bool; 7],
    /// The input of the block.
    pub input: bool,
}

/// Is given each wanted matrix, by its place in [`MATRICES`], with what went into it `[n_in, rows]` and the gradient of
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
        let [mut q, mut k, mut v] = [Q, K, V].map(|which| self.room_for(which, x.rows()));
        let blocks = (x.blocks(n), q.blocks_mut(n), k.blocks_mut(n), v.blocks_mut(n));
        blocks.into_par_iter().for_each(|(x, q, k, v)| {
            let normed = normed(x, &self.attn_norm, shape.eps);
            self.apply(Q, &normed, Accum::Replace, q);
            self.apply(K, &normed, Accum::Replace, k);
            self.apply(V, &normed, Accum::Replace, v);
        });
        let raw = self.head_norms.as_ref().map(|_| [q.clone(), k.clone()]);
        let blocks = (q.blocks_mut(n), k.blocks_mut(n), rows.positions.par_chunks(n));
        blocks.into_par_iter().for_each(|(q, k, positions)| {
            for (x, norm) in [(q, 0), (k, 1)] {
                if let Some(norms) = &self.head_norms {
                    let normed = normed(x, &norms[norm], shape.eps);
                    x.copy_from_slice(&normed);
                }
                shape.rope.rotate(x, shape.heads.size, positions);
            }
        });
        let qkv = Qkv { q, k, v };
        let attended = attend(shape.heads, rows, &qkv);

        let (mut middle, mut out) = (x.clone(), Columns::zeros(x.n(), x.rows()));
        let [mut gate, mut up] = [GATE, UP].map(|which| self.room_for(which, x.rows()));
        let blocks = (
            attended.blocks(n),
            middle.blocks_mut(n),
            gate.blocks_mut(n),
            up.blocks_mut(n),
            out.blocks_mut(n),
        );
        blocks.into_par_iter().for_each(|(attended, middle, gate, up, out)| {
            self.apply(OUTPUT, attended, Accum::Add, middle);
            let normed = normed(middle, &self.ffn_norm, shape.eps);
            self.apply(GATE, &normed, Accum::Replace, gate);
            self.apply(UP, &normed, Accum::Replace, up);
            let mut act = vec![0.0; gate.len()];
            swiglu(gate, up, &mut act);
            out.copy_from_slice(middle);
            self.apply(DOWN, &act, Accum::Add, out);
        });
        (out, Saved { raw, qkv, attended, middle, gate, up })
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
        let Saved { raw, qkv, attended, middle, mut gate, mut up } = saved;
        let mut take = |which: usize, x: &Columns, dy: &Columns| {
            if wanted.matrices[which] {
                take(which, x, dy)?;
            }
            Ok(())
        };
        if wanted.matrices[DOWN] {
            let mut act = Columns::zeros(gate.n(), gate.rows());
            let blocks = (gate.blocks(n), up.blocks(n), act.blocks_mut(n));
            blocks.into_par_iter().for_each(|(gate, up, act)| swiglu(gate, up, act));
            take(DOWN, &act, &dout)?;
        }
        if !wanted.before(DOWN) {
            return Ok(None);
        }
        let blocks = (gate.blocks_mut(n), up.blocks_mut(n), dout.blocks(n));
        blocks.into_par_iter().for_each(|(gate, up, dout)| {
            let mut d_act = vec![0.0; gate.len()];
            self.back(DOWN, dout, &mut d_act);
            swiglu_back(gate, up, &d_act);
        });
        let (d_gate, d_up) = (gate, up);
        if wanted.matrices[GATE] || wanted.matrices[UP] {
            let normed = all_normed(&middle, &self.ffn_norm, eps, n);
            take(GATE, &normed, &d_gate)?;
            take(UP, &normed, &d_up)?;
        }
        if !wanted.before(GATE) {
            return Ok(None);
        }
        let mut d_middle = dout;
        let blocks = (middle.blocks(n), d_gate.blocks(n), d_up.blocks(n), d_middle.blocks_mut(n));
        blocks.into_par_iter().for_each(|(middle, d_gate, d_up, d_middle)| {
            let mut d_normed = vec![0.0; middle.len()];
            self.back(GATE, d_gate, &mut d_normed);
            self.back(UP, d_up, &mut d_normed);
            rms_norm_back(middle, &self.ffn_norm, eps, &d_normed, d_middle);
        });
        drop((middle, d_gate, d_up));

        take(OUTPUT, &attended, &d_middle)?;
        if !wanted.before(OUTPUT) {
            return Ok(None);
        }
        let mut d_attended = Columns::zeros(attended.n(), attended.rows());
        (d_middle.blocks(n), d_attended.blocks_mut(n))
            .into_par_iter()
            .for_each(|(d_middle, d_attended)| self.back(OUTPUT, d_middle, d_attended));
        let mut d = attend_back(shape.heads, rows, &qkv, &d_attended);
        drop((attended, d_attended, qkv));
        for (i, d) in [&mut d.q, &mut d.k].into_iter().enumerate() {
            (d.blocks_mut(n), rows.positions.par_chunks(n))
                .into_par_iter()
                .for_each(|(d, positions)| shape.rope.rotate_back(d, shape.heads.size, positions));
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
            take(Q, &normed, &d.q)?;
            take(K, &normed, &d.k)?;
            take(V, &normed, &d.v)?;
        }
        if !wanted.input {
            return Ok(None);
        }
        let mut dx = d_middle;
        let blocks = (x.blocks(n), d.q.blocks(n), d.k.blocks(n), d.v.blocks(n), dx.blocks_mut(n));
        blocks.into_par_iter().for_each(|(x, dq, dk, dv, dx)| {
            let mut d_normed = vec![0.0; x.len()];
            self.back(Q, dq, &mut d_normed);
            self.back(K, dk, &mut d_normed);
            self.back(V, dv, &mut d_normed);
            rms_norm_back(x, &self.attn_norm, eps, &d_normed, dx);
        });
        Ok(Some(dx))
    }

    fn room_for(&self, which: usize, rows: usize) -> Columns {
        Columns::zeros(self.matrices[which].n_out, rows)
    }

    /// y (+)= Wᵀ·x + bias.
    fn apply(&self, which: usize, x: &[f32], accumulate: Accum, y: &mut [f32]) {
        let w = &self.matrices[which];
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

    /// dx += W·dy.
    fn back(&self, which: usize, dy: &[f32], dx: &mut [f32]) {
        let w = &self.matrices[which];
        product(view_mut(dx, w.n_in), Accum::Add, w.view(), view(dy, w.n_out));
    }
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
