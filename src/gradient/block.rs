//! One transformer block, forwards and backwards:
//! x → x + Wₒ·attention(norm(x)) → + W_down·swiglu(norm(·)).
//!
//! Matrices of activations have one column per row of the chunk. A weight is `[n_in, n_out]` in faer's
//! column-major order, as it lies in a GGUF file, so that y = Wᵀ·x.

use faer::{Accum, Mat, MatRef};

use super::attention::{attend, attend_back, Heads, Qkv};
use super::packing::Chunk;
use super::pointwise::{add_bias, rms_norm, rms_norm_back, swiglu, swiglu_back};
use super::product;
use super::rope::Table;

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

/// A matrix of a file: `n_out` columns of `n_in` entries.
pub(super) struct Matrix {
    pub n_in: usize,
    pub n_out: usize,
    pub values: Vec<f32>,
}

impl Matrix {
    pub(super) fn view(&self) -> MatRef<'_, f32> {
        MatRef::from_column_major_slice(&self.values, self.n_in, self.n_out)
    }
}

/// The weights of a block at some m.
pub(super) struct Layer {
    pub attn_norm: Vec<f32>,
    /// Of the heads of queries and of keys (qwen3).
    pub head_norms: Option<[Vec<f32>; 2]>,
    pub ffn_norm: Vec<f32>,
    pub matrices: [Matrix; 7],
    pub biases: [Option<Vec<f32>>; 7],
}

/// What all blocks of a model have in common.
pub(super) struct Shape<'a> {
    pub heads: Heads,
    pub eps: f32,
    pub rope: Table<'a>,
}

/// What the way back needs of the way there.
pub(super) struct Saved {
    /// Queries and keys before their norms, where they have some.
    raw: Option<[Mat<f32>; 2]>,
    /// As they meet.
    qkv: Qkv,
    probabilities: Vec<Mat<f32>>,
    attended: Mat<f32>,
    /// After attention.
    middle: Mat<f32>,
    gate: Mat<f32>,
    up: Mat<f32>,
}

impl Saved {
    /// How much memory it holds.
    pub(super) fn n_bytes(&self) -> usize {
        let Self { raw, qkv, probabilities, attended, middle, gate, up } = self;
        let fixed = [&qkv.q, &qkv.k, &qkv.v, attended, middle, gate, up];
        let all = fixed.into_iter().chain(probabilities).chain(raw.iter().flatten());
        all.map(|x| x.nrows() * x.ncols() * size_of::<f32>()).sum()
    }
}

/// For each of [`MATRICES`] the sum of x·dyᵀ `[n_in, n_out]`, where it is wanted.
pub(super) type Sums = [Option<Mat<f32>>; 7];

impl Layer {
    /// What the block makes of `x` `[width, rows]`.
    pub(super) fn forward(&self, shape: &Shape, chunk: &Chunk, x: &Mat<f32>) -> (Mat<f32>, Saved) {
        let normed = rms_norm(x, &self.attn_norm, shape.eps);
        let mut qkv = Qkv { q: self.apply(Q, &normed), k: self.apply(K, &normed), v: self.apply(V, &normed) };
        let raw = self.head_norms.as_ref().map(|[q_norm, k_norm]| {
            let q = rms_norm(&qkv.q, q_norm, shape.eps);
            let k = rms_norm(&qkv.k, k_norm, shape.eps);
            [std::mem::replace(&mut qkv.q, q), std::mem::replace(&mut qkv.k, k)]
        });
        shape.rope.rotate(&mut qkv.q, shape.heads.size, &chunk.positions);
        shape.rope.rotate(&mut qkv.k, shape.heads.size, &chunk.positions);
        let (attended, probabilities) = attend(shape.heads, &chunk.pieces, &qkv);
        let middle = self.apply(OUTPUT, &attended) + x;

        let normed = rms_norm(&middle, &self.ffn_norm, shape.eps);
        let (gate, up) = (self.apply(GATE, &normed), self.apply(UP, &normed));
        let out = self.apply(DOWN, &swiglu(&gate, &up)) + &middle;
        (out, Saved { raw, qkv, probabilities, attended, middle, gate, up })
    }

    /// The gradient of `x` for the gradient `dout` of what [`Self::forward`] returned with `saved`; `sums` grow
    /// by this chunk's part.
    pub(super) fn backward(
        &self,
        shape: &Shape,
        chunk: &Chunk,
        x: &Mat<f32>,
        saved: Saved,
        dout: Mat<f32>,
        sums: &mut Sums,
    ) -> Mat<f32> {
        let Saved { raw, qkv, probabilities, attended, middle, mut gate, mut up } = saved;
        let mut d_act = Mat::zeros(gate.nrows(), gate.ncols());
        self.back(DOWN, &swiglu(&gate, &up), &dout, &mut d_act, sums);
        swiglu_back(&mut gate, &mut up, &d_act);
        let (d_gate, d_up) = (gate, up);
        let normed = rms_norm(&middle, &self.ffn_norm, shape.eps);
        let mut d_normed = Mat::zeros(x.nrows(), x.ncols());
        self.back(GATE, &normed, &d_gate, &mut d_normed, sums);
        self.back(UP, &normed, &d_up, &mut d_normed, sums);
        let mut d_middle = dout;
        rms_norm_back(&middle, &self.ffn_norm, shape.eps, &d_normed, &mut d_middle);

        let mut d_attended = Mat::zeros(attended.nrows(), attended.ncols());
        self.back(OUTPUT, &attended, &d_middle, &mut d_attended, sums);
        let mut d = attend_back(shape.heads, &chunk.pieces, &qkv, &probabilities, &d_attended);
        shape.rope.rotate_back(&mut d.q, shape.heads.size, &chunk.positions);
        shape.rope.rotate_back(&mut d.k, shape.heads.size, &chunk.positions);
        if let (Some([q_norm, k_norm]), Some([q, k])) = (&self.head_norms, raw) {
            let through = |x: Mat<f32>, norm: &[f32], dy: &mut Mat<f32>| {
                let mut dx = Mat::zeros(x.nrows(), x.ncols());
                rms_norm_back(&x, norm, shape.eps, dy, &mut dx);
                *dy = dx;
            };
            through(q, q_norm, &mut d.q);
            through(k, k_norm, &mut d.k);
        }
        let normed = rms_norm(x, &self.attn_norm, shape.eps);
        d_normed.fill(0.0);
        self.back(Q, &normed, &d.q, &mut d_normed, sums);
        self.back(K, &normed, &d.k, &mut d_normed, sums);
        self.back(V, &normed, &d.v, &mut d_normed, sums);
        let mut dx = d_middle;
        rms_norm_back(x, &self.attn_norm, shape.eps, &d_normed, &mut dx);
        dx
    }

    fn apply(&self, which: usize, x: &Mat<f32>) -> Mat<f32> {
        let w = &self.matrices[which];
        let mut y = Mat::zeros(w.n_out, x.ncols());
        product(y.as_mut(), Accum::Replace, w.view().transpose(), x.as_ref());
        if let Some(bias) = &self.biases[which] {
            add_bias(&mut y, bias);
        }
        y
    }

    /// dx += W·dy, and the sum of x·dyᵀ where it is wanted.
    fn back(&self, which: usize, x: &Mat<f32>, dy: &Mat<f32>, dx: &mut Mat<f32>, sums: &mut Sums) {
        product(dx.as_mut(), Accum::Add, self.matrices[which].view(), dy.as_ref());
        if let Some(sum) = &mut sums[which] {
            product(sum.as_mut(), Accum::Add, x.as_ref(), dy.transpose());
        }
    }
}
