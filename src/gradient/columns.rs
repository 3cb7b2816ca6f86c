//! Activations of a batch: a column of numbers for each of its rows, side by side, so that threads can take blocks
//! of rows without meeting.

use std::ops::Range;

use faer::{MatMut, MatRef};
use rayon::prelude::*;
use rayon::slice::{Chunks, ChunksMut};

/// A matrix `[n, rows]` in column-major order.
#[derive(Clone)]
pub(super) struct Columns {
    n: usize,
    values: Vec<f32>,
}

impl Columns {
    pub(super) fn zeros(n: usize, rows: usize) -> Self {
        Self { n, values: vec![0.0; n * rows] }
    }

    /// `values` as `rows` columns.
    pub(super) fn of(values: Vec<f32>, rows: usize) -> Self {
        Self { n: values.len() / rows.max(1), values }
    }

    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// Length of a column.
    pub(super) fn n(&self) -> usize {
        self.n
    }

    pub(super) fn rows(&self) -> usize {
        self.values.len() / self.n
    }

    pub(super) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.n..][..self.n]
    }

    pub(super) fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.values[row * self.n..][..self.n]
    }

    pub(super) fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        self.values.chunks_exact_mut(self.n)
    }

    /// The first `rows` of them.
    pub(super) fn first(&self, rows: usize) -> Self {
        Self { n: self.n, values: self.values[..rows * self.n].to_vec() }
    }

    pub(super) fn view(&self) -> MatRef<'_, f32> {
        view(&self.values, self.n)
    }

    /// Blocks of `rows` rows in turn; the last one may be shorter.
    pub(super) fn blocks(&self, rows: usize) -> Chunks<'_, f32> {
        self.values.par_chunks(self.n * rows)
    }

    pub(super) fn blocks_mut(&mut self, rows: usize) -> ChunksMut<'_, f32> {
        self.values.par_chunks_mut(self.n * rows)
    }

    /// Takes the matrix apart into the `ranges` of rows, which follow upon each other, and each of these into `n_parts`
    /// equal parts of its columns: part 0 of range 0, part 1 of range 0, …
    pub(super) fn apart<'a>(
        &'a mut self,
        ranges: impl Iterator<Item = Range<usize>>,
        n_parts: usize,
    ) -> Vec<MatMut<'a, f32>> {
        let (n, mut rest) = (self.n, self.values.as_mut_slice());
        let mut parts = Vec::new();
        for range in ranges {
            let (own, after) = std::mem::take(&mut rest).split_at_mut(n * range.len());
            rest = after;
            let mut own = view_mut(own, n);
            for _ in 0..n_parts {
                let (part, below) = own.split_at_row_mut(n / n_parts);
                parts.push(part);
                own = below;
            }
        }
        parts
    }
}

/// `values` as columns of `n`.
pub(super) fn view(values: &[f32], n: usize) -> MatRef<'_, f32> {
    MatRef::from_column_major_slice(values, n, values.len() / n)
}

pub(super) fn view_mut(values: &mut [f32], n: usize) -> MatMut<'_, f32> {
    let columns = values.len() / n;
    MatMut::from_column_major_slice_mut(values, n, columns)
}
