//! dJ/dm of one weight, from what went into it and the gradient of what came out:
//! dJ/dm_k = σ_k · Σ_t (Uᵀ·dy_t)_k · (Vᵀ·x_t)_k, over the rows t of a batch.
//!
//! At a low rank that is a fraction of the operations of dW = Σ_t x_t·dy_tᵀ, and needs no matrix of the weight's shape;
//! at full rank dW is the shorter way. Either is a sum of parts with a fixed size in a fixed order, so that threads do
//! not change its bits.

use faer::{Accum, Mat};
use rayon::prelude::*;

use super::columns::{view, Columns};
use super::product;
use super::weights::Factors;

/// Outputs of a weight whose part of dW is held at a time.
const TILE: usize = 64;

/// Whether x and dy are taken to the factors one by one: fewer operations per row than x·dyᵀ.
pub(super) fn is_direct(rank: usize, n_in: usize, n_out: usize) -> bool {
    rank * (n_in + n_out) < n_in * n_out
}

/// Σ_t (Uᵀ·dy_t) ⊙ (Vᵀ·x_t) `[rank]`, without σ, for inputs `x` `[n_in, rows]` and gradients `dy` `[n_out, rows]`;
/// `block` rows at a time.
pub(super) fn project(factors: &Factors, x: &Columns, dy: &Columns, block: usize) -> Vec<f64> {
    let parts: Vec<Vec<f64>> = if is_direct(factors.rank(), x.n(), dy.n()) {
        x.blocks(block).zip(dy.blocks(block)).map(|(x, dy)| direct(factors, x, dy)).collect()
    } else {
        (0..dy.n().div_ceil(TILE)).into_par_iter().map(|tile| dense(factors, x, dy, tile * TILE)).collect()
    };
    let mut total = vec![0.0; factors.rank()];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
    }
    total
}

/// The part of some rows.
fn direct(factors: &Factors, x: &[f32], dy: &[f32]) -> Vec<f64> {
    let (u, v) = (factors.u.view(), factors.v.view());
    let (x, dy) = (view(x, v.nrows()), view(dy, u.ncols()));
    let along = |n_rows: usize| Mat::<f32>::zeros(factors.rank(), n_rows);
    let (mut of_x, mut of_dy) = (along(x.ncols()), along(x.ncols()));
    product(of_x.as_mut(), Accum::Replace, v.transpose(), x);
    product(of_dy.as_mut(), Accum::Replace, u, dy);
    summed(&of_x, (0..x.ncols()).map(|row| of_dy.col_as_slice(row)))
}

/// The part of some outputs, from `first` on.
fn dense(factors: &Factors, x: &Columns, dy: &Columns, first: usize) -> Vec<f64> {
    let (v, n) = (factors.v.view(), TILE.min(dy.n() - first));
    let mut dw = Mat::zeros(x.n(), n);
    product(dw.as_mut(), Accum::Replace, x.view(), dy.view().subrows(first, n).transpose());
    let mut along = Mat::zeros(factors.rank(), n);
    product(along.as_mut(), Accum::Replace, v.transpose(), dw.as_ref());
    summed(&along, (first..first + n).map(|output| factors.u.output(output)))
}

/// Sums of the products of `a` with the columns `b`.
fn summed<'a>(a: &Mat<f32>, b: impl Iterator<Item = &'a [f32]>) -> Vec<f64> {
    let mut sums = vec![0.0; a.nrows()];
    for (j, b) in (0..a.ncols()).zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a.col_as_slice(j)).zip(b) {
            *sum += f64::from(a * b);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::super::weights::Matrix;
    use super::*;

    /// Numbers that look random and are the same everywhere.
    fn numbers(seed: u32, n: usize) -> Vec<f32> {
        let hash = |i: usize| (i as u32 ^ seed).wrapping_mul(2_654_435_761).rotate_left(13);
        (0..n).map(|i| f64::from(hash(i).wrapping_mul(0x9E37_79B9)) as f32 / 4_294_967_296.0 - 0.5).collect()
    }

    #[test]
    fn both_ways_give_the_sum_in_float64() {
        let (n_in, n_out, rows) = (40, 150, 75);
        for rank in [3, 40] {
            let u = Matrix::of(rank, numbers(1, rank * n_out));
            let v = Matrix::of(n_in, numbers(2, n_in * rank));
            let factors = Factors { u, v };
            let columns = |seed, n: usize| {
                let mut columns = Columns::zeros(n, rows);
                let values = numbers(seed, n * rows);
                (0..rows).for_each(|row| columns.row_mut(row).copy_from_slice(&values[row * n..][..n]));
                columns
            };
            let (x, dy) = (columns(3, n_in), columns(4, n_out));
            let wide = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let expected: Vec<f64> = (0..rank)
                .map(|k| {
                    let u: Vec<f32> = (0..n_out).map(|o| factors.u.output(o)[k]).collect();
                    let of = |row| wide(&u, dy.row(row)) * wide(factors.v.output(k), x.row(row));
                    (0..rows).map(of).sum()
                })
                .collect();
            let length = expected.iter().map(|e| e * e).sum::<f64>().sqrt();
            for block in [1, 16, 100] {
                let found = project(&factors, &x, &dy, block);
                let error = found.iter().zip(&expected).map(|(f, e)| (f - e).powi(2)).sum::<f64>().sqrt();
                println!("rank {rank}, {block} rows at a time: relative error {:.1e}", error / length);
                assert!(error < 1e-6 * length, "{error} of {length}");
            }
        }
    }
}
