//! Causal attention of packed rows, head by head, with the probabilities kept for the way back.

use std::ops::Range;

use faer::{Accum, Mat, MatMut, MatRef};

use super::packing::Piece;
use super::pointwise::{softmax, softmax_back};
use super::product;

/// How columns divide into heads. Several query heads may share one head of keys and values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    pub n: usize,
    pub n_kv: usize,
    /// Components per head.
    pub size: usize,
}

impl Heads {
    fn scale(self) -> f32 {
        1.0 / (self.size as f32).sqrt()
    }

    /// Components of query head `h`, and of the keys and values it uses.
    fn rows(self, h: usize) -> (Range<usize>, Range<usize>) {
        let kv = h * self.n_kv / self.n;
        (h * self.size..(h + 1) * self.size, kv * self.size..(kv + 1) * self.size)
    }
}

/// Queries, keys and values `[heads · size, rows]`, turned by their positions; or their gradients.
pub(super) struct Qkv {
    pub q: Mat<f32>,
    pub k: Mat<f32>,
    pub v: Mat<f32>,
}

/// softmax(qᵀk/√size)·v of all rows `[heads · size, rows]`, and the probabilities
/// `[prefix, then own rows; queries]` of each piece and head in turn.
pub(super) fn attend(heads: Heads, pieces: &[Piece], x: &Qkv) -> (Mat<f32>, Vec<Mat<f32>>) {
    let mut out = Mat::zeros(x.q.nrows(), x.q.ncols());
    let mut kept = Vec::with_capacity(pieces.len() * heads.n);
    for piece in pieces {
        for h in 0..heads.n {
            let (own_head, kv_head) = heads.rows(h);
            let mut p = piece.scores();
            // Scores of all that a query may see, then what it gives to each.
            piece.each(|keys, queries, top, columns| {
                let k = part(&x.k, &kv_head, keys);
                let q = part(&x.q, &own_head, queries);
                product(
                    p.as_mut().submatrix_mut(top, columns, k.ncols(), q.ncols()),
                    Accum::Replace,
                    k.transpose(),
                    q,
                );
            });
            softmax(&mut p, heads.scale(), |j| piece.n_seen(j));
            piece.each(|keys, queries, top, columns| {
                let v = part(&x.v, &kv_head, keys);
                let to = part_mut(&mut out, &own_head, queries);
                let p = p.submatrix(top, columns, v.ncols(), queries.len());
                product(to, Accum::Add, v, p);
            });
            kept.push(p);
        }
    }
    (out, kept)
}

/// The gradients of q, k and v for the gradient `dout` of what [`attend`] returned with `kept`.
pub(super) fn attend_back(
    heads: Heads,
    pieces: &[Piece],
    x: &Qkv,
    kept: &[Mat<f32>],
    dout: &Mat<f32>,
) -> Qkv {
    let zeros = |x: &Mat<f32>| Mat::zeros(x.nrows(), x.ncols());
    let mut d = Qkv { q: zeros(&x.q), k: zeros(&x.k), v: zeros(&x.v) };
    let mut kept = kept.iter();
    for piece in pieces {
        for (h, p) in (0..heads.n).zip(&mut kept) {
            let (own_head, kv_head) = heads.rows(h);
            let mut dp = piece.scores();
            piece.each(|keys, queries, top, columns| {
                let dout = part(dout, &own_head, queries);
                let v = part(&x.v, &kv_head, keys);
                let size = (v.ncols(), dout.ncols());
                product(
                    dp.as_mut().submatrix_mut(top, columns, size.0, size.1),
                    Accum::Replace,
                    v.transpose(),
                    dout,
                );
                let p = p.submatrix(top, columns, size.0, size.1);
                product(part_mut(&mut d.v, &kv_head, keys), Accum::Add, dout, p.transpose());
            });
            softmax_back(p, heads.scale(), &mut dp);
            piece.each(|keys, queries, top, columns| {
                let (k, q) = (part(&x.k, &kv_head, keys), part(&x.q, &own_head, queries));
                let ds = dp.submatrix(top, columns, k.ncols(), q.ncols());
                product(part_mut(&mut d.q, &own_head, queries), Accum::Add, k, ds);
                product(part_mut(&mut d.k, &kv_head, keys), Accum::Add, q, ds.transpose());
            });
        }
    }
    d
}

impl Piece {
    fn scores(&self) -> Mat<f32> {
        let longest = self.own.iter().map(Range::len).max().unwrap_or(0);
        Mat::zeros(self.prefix.len() + longest, self.queries.len())
    }

    /// Calls `work` with each pair of keys and queries that meet, and where their scores begin.
    fn each(&self, mut work: impl FnMut(&Range<usize>, &Range<usize>, usize, usize)) {
        if !self.prefix.is_empty() {
            work(&self.prefix, &self.queries, 0, 0);
        }
        for own in &self.own {
            work(own, own, self.prefix.len(), own.start - self.queries.start);
        }
    }

    /// How many keys the query in column `j` sees: the prefix, those before it, and itself.
    fn n_seen(&self, j: usize) -> usize {
        let row = self.queries.start + j;
        let own = self.own.partition_point(|own| own.end <= row);
        self.prefix.len() + row - self.own[own].start + 1
    }
}

fn part<'a>(x: &'a Mat<f32>, rows: &Range<usize>, columns: &Range<usize>) -> MatRef<'a, f32> {
    x.submatrix(rows.start, columns.start, rows.len(), columns.len())
}

fn part_mut<'a>(x: &'a mut Mat<f32>, rows: &Range<usize>, columns: &Range<usize>) -> MatMut<'a, f32> {
    x.submatrix_mut(rows.start, columns.start, rows.len(), columns.len())
}
