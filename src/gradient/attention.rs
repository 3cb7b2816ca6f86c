//! Causal attention of packed rows. Each group and head of keys is work of its own; probabilities are not kept but
//! computed again on the way back, so that memory does not grow with the square of a sequence.

use std::ops::Range;

use faer::{Accum, Mat, MatMut, MatRef};
use rayon::prelude::*;

use super::columns::Columns;
use super::packing::{Piece, Rows};
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

/// Queries, keys and values `[heads · size, rows]`, turned by their positions; or their gradients.
pub(super) struct Qkv {
    pub q: Columns,
    pub k: Columns,
    pub v: Columns,
}

/// A group as one head of keys sees it: its first row, its pieces, and what its rows ask and hold.
struct Part<'a> {
    first: usize,
    pieces: &'a [Piece],
    scale: f32,
    /// Components per head.
    size: usize,
    /// `[heads that share the keys · size, rows of the group]`.
    q: MatRef<'a, f32>,
    /// `[size, rows of the group]`.
    k: MatRef<'a, f32>,
    v: MatRef<'a, f32>,
}

impl Heads {
    /// Query heads per head of keys.
    fn sharing(self) -> usize {
        self.n / self.n_kv
    }

    /// The groups of `rows`, for each head of keys in turn.
    fn parts<'a>(self, rows: &Rows<'a>, x: &'a Qkv) -> Vec<Part<'a>> {
        let Self { n_kv, size, .. } = self;
        let n_q = self.sharing() * size;
        let of_group = |group: &'a super::packing::GroupRows| {
            (0..n_kv).map(move |head| {
                let part = |x: &'a Columns, n: usize| {
                    x.view().submatrix(head * n, group.rows.start, n, group.rows.len())
                };
                Part {
                    first: group.rows.start,
                    pieces: &group.pieces,
                    scale: 1.0 / (size as f32).sqrt(),
                    size,
                    q: part(&x.q, n_q),
                    k: part(&x.k, size),
                    v: part(&x.v, size),
                }
            })
        };
        rows.groups.iter().flat_map(of_group).collect()
    }

    /// `x`, taken apart as [`Self::parts`] are.
    fn apart<'a>(self, rows: &Rows, x: &'a mut Columns) -> Vec<MatMut<'a, f32>> {
        x.apart(rows.groups.iter().map(|group| group.rows.clone()), self.n_kv)
    }
}

/// softmax(qᵀk/√size)·v of all rows `[heads · size, rows]`.
pub(super) fn attend(heads: Heads, rows: &Rows, x: &Qkv) -> Columns {
    let mut out = Columns::zeros(x.q.n(), x.q.rows());
    let outs = heads.apart(rows, &mut out);
    heads.parts(rows, x).into_par_iter().zip(outs).for_each(|(part, mut out)| {
        part.each_head(|piece, head| {
            let p = part.probabilities(piece, head.clone());
            piece.each(|keys, queries, top, columns| {
                let v = part.of(part.v, 0..part.size, keys);
                let p = p.submatrix(top, columns, keys.len(), queries.len());
                product(part.of_mut(&mut out, head.clone(), queries), Accum::Add, v, p);
            });
        });
    });
    out
}

/// The gradients of q, k and v for the gradient `dout` of what [`attend`] returned.
pub(super) fn attend_back(heads: Heads, rows: &Rows, x: &Qkv, dout: &Columns) -> Qkv {
    let zeros = |x: &Columns| Columns::zeros(x.n(), x.rows());
    let mut d = Qkv { q: zeros(&x.q), k: zeros(&x.k), v: zeros(&x.v) };
    let (dqs, dks, dvs) =
        (heads.apart(rows, &mut d.q), heads.apart(rows, &mut d.k), heads.apart(rows, &mut d.v));
    let parts: Vec<_> = heads.parts(rows, x).into_iter().zip(dqs).zip(dks).zip(dvs).collect();
    let n_q = heads.sharing() * heads.size;
    parts.into_par_iter().enumerate().for_each(|(i, (((part, mut dq), mut dk), mut dv))| {
        let n_rows = part.q.ncols();
        let dout = dout.view().submatrix(i % heads.n_kv * n_q, part.first, n_q, n_rows);
        part.each_head(|piece, head| {
            let p = part.probabilities(piece, head.clone());
            let mut dp = piece.scores();
            piece.each(|keys, queries, top, columns| {
                let dout = part.of(dout, head.clone(), queries);
                let v = part.of(part.v, 0..part.size, keys);
                let to = dp.as_mut().submatrix_mut(top, columns, keys.len(), queries.len());
                product(to, Accum::Replace, v.transpose(), dout);
                let p = p.submatrix(top, columns, keys.len(), queries.len());
                product(part.of_mut(&mut dv, 0..part.size, keys), Accum::Add, dout, p.transpose());
            });
            softmax_back(&p, part.scale, &mut dp);
            piece.each(|keys, queries, top, columns| {
                let (k, q) = (part.of(part.k, 0..part.size, keys), part.of(part.q, head.clone(), queries));
                let ds = dp.submatrix(top, columns, keys.len(), queries.len());
                product(part.of_mut(&mut dq, head.clone(), queries), Accum::Add, k, ds);
                product(part.of_mut(&mut dk, 0..part.size, keys), Accum::Add, q, ds.transpose());
            });
        });
    });
    d
}

impl Part<'_> {
    /// Calls `work` with each piece and the components of each query head.
    fn each_head(&self, mut work: impl FnMut(&Piece, Range<usize>)) {
        for piece in self.pieces {
            for first in (0..self.q.nrows()).step_by(self.size) {
                work(piece, first..first + self.size);
            }
        }
    }

    /// What each query of a piece gives to each key `[seen, then own rows; queries]`.
    fn probabilities(&self, piece: &Piece, head: Range<usize>) -> Mat<f32> {
        let mut p = piece.scores();
        piece.each(|keys, queries, top, columns| {
            let (k, q) = (self.of(self.k, 0..self.size, keys), self.of(self.q, head.clone(), queries));
            let to = p.as_mut().submatrix_mut(top, columns, keys.len(), queries.len());
            product(to, Accum::Replace, k.transpose(), q);
        });
        softmax(&mut p, self.scale, |j| piece.n_seen(j));
        p
    }

    /// The `components` of the `rows` of the batch.
    fn of<'a>(&self, x: MatRef<'a, f32>, components: Range<usize>, rows: &Range<usize>) -> MatRef<'a, f32> {
        x.submatrix(components.start, rows.start - self.first, components.len(), rows.len())
    }

    fn of_mut<'a>(
        &self,
        x: &'a mut MatMut<'_, f32>,
        components: Range<usize>,
        rows: &Range<usize>,
    ) -> MatMut<'a, f32> {
        let (first, n) = (rows.start - self.first, rows.len());
        x.as_mut().submatrix_mut(components.start, first, components.len(), n)
    }
}

impl Piece {
    fn scores(&self) -> Mat<f32> {
        let longest = self.own.iter().map(Range::len).max().unwrap_or(0);
        Mat::zeros(self.n_before() + longest, self.queries.len())
    }

    /// Rows that all its queries see.
    fn n_before(&self) -> usize {
        self.seen.iter().map(Range::len).sum()
    }

    /// Calls `work` with each pair of keys and queries that meet, and where their scores begin.
    fn each(&self, mut work: impl FnMut(&Range<usize>, &Range<usize>, usize, usize)) {
        let mut top = 0;
        for keys in self.seen.iter().filter(|keys| !keys.is_empty()) {
            work(keys, &self.queries, top, 0);
            top += keys.len();
        }
        for own in &self.own {
            work(own, own, top, own.start - self.queries.start);
        }
    }

    /// How many keys the query in column `j` sees: those all see, those before it, and itself.
    fn n_seen(&self, j: usize) -> usize {
        let row = self.queries.start + j;
        let own = self.own.partition_point(|own| own.end <= row);
        self.n_before() + row - self.own[own].start + 1
    }
}
