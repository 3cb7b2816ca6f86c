//! dJ/dA and dJ/dB of one weight, y = W·x + B·A·x, from what went into it and the gradient of what came out:
//! dA = Σ_t (Bᵀ·dy_t)·x_tᵀ and dB = Σ_t dy_t·(A·x_t)ᵀ, over the rows t of a batch.
//!
//! Nothing of the weight's shape is formed. Threads share blocks of rows first, then tiles of A and B, each a sum over all
//! rows in one order, so that they do not change its bits.

use faer::{Accum, MatRef};
use rayon::prelude::*;

use super::columns::{view, view_mut, Columns};
use super::product;
use super::weights::Factors;

/// Inputs or outputs of a weight whose part of dA or dB a thread computes at a time.
const TILE: usize = 64;

/// Adds dA `[rank, n_in]` and dB `[n_out, rank]`, row by row and one after the other, to `sums`: of the LoRA whose Vᵀ is A
/// and whose U is B, for inputs `x` `[n_in, rows]` and gradients `dy` `[n_out, rows]`; `block` rows at a time.
pub(super) fn add_gradient(factors: &Factors, x: &Columns, dy: &Columns, block: usize, sums: &mut [f64]) {
    let (a, b, rank) = (factors.v.view().transpose(), factors.u.view(), factors.rank());
    let [mut of_x, mut of_dy] = [(); 2].map(|()| Columns::zeros(rank, x.rows()));
    let blocks = (x.blocks(block), dy.blocks(block), of_x.blocks_mut(block), of_dy.blocks_mut(block));
    blocks.into_par_iter().for_each(|(x, dy, of_x, of_dy)| {
        product(view_mut(of_x, rank), Accum::Replace, a, view(x, a.ncols()));
        product(view_mut(of_dy, rank), Accum::Replace, b, view(dy, b.ncols()));
    });
    let (da, db) = sums.split_at_mut(rank * x.n());
    // A row of A has an entry for each input, a row of B one for each component.
    let of_a: Vec<_> =
        tiles(x.n()).map(|(first, n)| outer(x.view().subrows(first, n), of_dy.view())).collect();
    for (tile, part) in of_a.iter().enumerate() {
        let n = part.len() / rank;
        for (row, part) in part.chunks_exact(n).enumerate() {
            add(&mut da[row * x.n() + tile * TILE..][..n], part);
        }
    }
    let of_b = db.par_chunks_mut(rank * TILE).zip(tiles(dy.n()));
    of_b.for_each(|(db, (first, n))| add(db, &outer(of_x.view(), dy.view().subrows(first, n))));
}

/// First and number of each of `n`, a tile at a time.
fn tiles(n: usize) -> impl IndexedParallelIterator<Item = (usize, usize)> {
    (0..n.div_ceil(TILE)).into_par_iter().map(move |tile| (tile * TILE, TILE.min(n - tile * TILE)))
}

/// `a`·`b`ᵀ, column by column.
fn outer(a: MatRef<'_, f32>, b: MatRef<'_, f32>) -> Vec<f32> {
    let mut values = vec![0.0; a.nrows() * b.nrows()];
    product(view_mut(&mut values, a.nrows()), Accum::Replace, a, b.transpose());
    values
}

fn add(sums: &mut [f64], more: &[f32]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += f64::from(*more));
}
