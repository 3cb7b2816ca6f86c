//! The leading terms of A = U·diag(σ)·Vᵀ without the others, by block Krylov iteration.
//!
//! A random block V₁ grows to the space of V₁, AᵀA·V₁, (AᵀA)²·V₁, …, which holds the leading right singular vectors
//! ever more exactly (Musco & Musco 2015, "Randomized Block Krylov Methods for Stronger and Faster Approximate
//! Singular Value Decomposition", algorithm 2). Both sides are made orthonormal block by block (Golub, Luk & Overton
//! 1981, "A Block Lanczos Method for Computing the Singular Values and Corresponding Singular Vectors of a Matrix"),
//!
//! A·V = U·B and Aᵀ·U = V·Bᵀ + V₊·(0 S),
//!
//! so that the small matrix B has the singular values wanted, and S tells the residuals before anything of the size of A
//! is touched. Spectra of weights are flat: the space becomes many times larger than `rank`, and is kept whole, without
//! restarts, because products with A cost the most.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::householder::Qr;
use super::{complete, Leading};
use crate::error::Result;

/// The largest residual of a term, ‖Aᵀ·u − σ·v‖ or ‖A·v − σ·u‖, relative to the smallest σ kept: half a unit in the last
/// place of f16. Singular values are far more exact, because their error is of the order of the residual's square.
pub const TOLERANCE: f32 = 1.0 / 2048.0;

/// The share of [`TOLERANCE`] at which a residual told by B is small enough. The rest is for rounding.
const SAFE: f32 = 0.9;

/// How often what the right basis holds is removed from a new block. One pass leaves the rounding of what it removes, which
/// grows over the blocks until values turn up that A does not have.
const RIGHT_PASSES: usize = 2;

/// For the left basis one is enough, which inherits the right one's orthonormality (Simon & Zha 2000, "Low-Rank Matrix
/// Approximation Using the Lanczos Bidiagonalization Process with Applications").
const LEFT_PASSES: usize = 1;

/// Blocks that search the rest of A for missed values.
const PROBE_BLOCKS: usize = 3;

/// A value above those found by more than this share is a missed one. Below it are the improvements that any further
/// block brings.
const MISSED: f32 = 1e-4;

/// Columns of a block. Fewer need fewer products with A in all, more make each product faster, which matters where A has
/// to come from memory; measured.
fn block(n: usize) -> usize {
    if n < 1536 {
        16
    } else {
        32
    }
}

/// The size of the space in which `rank` terms of a random matrix converge, fitted to short sides from 576 to 4096 and
/// ranks from 16 to 128. Trained matrices need less. The first few terms come no sooner than the eighth.
fn expected_size(n: usize, rank: usize) -> usize {
    (1.6 * ((n * rank.max(8)) as f64).sqrt()) as usize + 6 * block(n)
}

/// How long it takes, as the operations of a matrix product that takes as long, where the space has the expected size:
/// the products with A (in small blocks slower), the orthogonalisation of both sides and the decompositions of B.
pub(super) fn operations(m: usize, n: usize, rank: usize) -> u64 {
    let (size, block) = (expected_size(n, rank) as f64, block(n));
    let columns = size + (PROBE_BLOCKS * block + 2 * rank) as f64;
    let product = if block < 32 { 6.4 } else { 4.0 };
    let (m, n) = (m as f64, n as f64);
    (product * m * n * columns + (2.0 * m + 4.0 * n) * size.powi(2) + 60.0 * size.powi(3)) as u64
}

/// Whether it is expected to take less time than the complete decomposition.
pub(super) fn pays(m: usize, n: usize, rank: usize) -> bool {
    operations(m, n, rank) < complete::operations(m, n, rank)
}

/// The `rank` leading terms of A `[m, n]`, m ≥ n; nothing where the complete decomposition is the better way.
///
/// # Errors
/// Not enough memory, or no convergence of the small decomposition.
pub(super) fn leading(a: MatRef<'_, f32>, rank: usize) -> Result<Option<Leading>> {
    let (m, n) = a.shape();
    if !pays(m, n, rank) {
        return Ok(None);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let Some(found) = converged(a, rank, &mut rng)? else { return Ok(None) };
    let holds = is_orthonormal(found.left.as_ref())
        && is_orthonormal(found.right.as_ref())
        && worst_residual(a, &found) <= TOLERANCE
        && misses_nothing(a, &found, &mut rng)?;
    Ok(holds.then_some(found))
}

/// Lets the space grow until the residuals that it tells of are small.
fn converged(a: MatRef<'_, f32>, rank: usize, rng: &mut ChaCha8Rng) -> Result<Option<Leading>> {
    let (n, block) = (a.ncols(), block(a.ncols()));
    // Beyond it the complete decomposition would have been the better way.
    let largest = (expected_size(n, rank) * 3 / 2).min(n - block);
    let Some(mut space) = Space::new(a, None, rng)? else { return Ok(None) };
    let mut last: Option<(usize, f32)> = None;
    let mut check_at = (3 * rank).max(4 * block);
    while space.size() + block <= largest {
        if !space.grow()? {
            return Ok(None);
        }
        let size = space.size();
        if size < check_at {
            continue;
        }
        let small = complete::squarish(space.b.as_ref(), rank)?;
        let residual = space.residual(&small);
        if residual <= SAFE * TOLERANCE {
            return Ok(Some(space.vectors(small)));
        }
        check_at = next_check(last, (size, residual));
        last = Some((size, residual));
    }
    Ok(None)
}

/// The size at which to decompose B again, which is too dear to be done after every block: where the residual is expected
/// to be small enough, if it goes on to fall exponentially, or somewhat before, because it falls faster and faster.
fn next_check(last: Option<(usize, f32)>, (size, residual): (usize, f32)) -> usize {
    const MOST_GROWTH: f64 = 1.25;
    const SOMEWHAT_BEFORE: f64 = 0.75;
    let most = MOST_GROWTH * size as f64;
    let expected = last.map_or(most, |(last_size, last_residual)| {
        let slope = f64::from(last_residual / residual).ln() / (size - last_size) as f64;
        let expected = size as f64 + SOMEWHAT_BEFORE * f64::from(residual / TOLERANCE).ln() / slope;
        // No slope, no expectation.
        if expected > size as f64 {
            expected
        } else {
            most
        }
    });
    expected.min(most) as usize
}

/// Whether the columns are orthonormal, up to the rounding of f32.
fn is_orthonormal(columns: MatRef<'_, f32>) -> bool {
    // Rounding adds up like a random walk over the length of a column.
    let most = 4.0 * f32::EPSILON * (columns.nrows() as f32).sqrt();
    let gram = product(columns.transpose(), columns);
    let off = |i: usize, j: usize| (gram[(i, j)] - f32::from(u8::from(i == j))).abs();
    (0..gram.nrows()).all(|i| (0..gram.ncols()).all(|j| off(i, j) <= most))
}

/// The largest of ‖Aᵀ·u − σ·v‖ and ‖A·v − σ·u‖ over the smallest σ.
fn worst_residual(a: MatRef<'_, f32>, Leading { left, sigma, right }: &Leading) -> f32 {
    let side = |products: Mat<f32>, others: &Mat<f32>| {
        let residual = |k: usize| {
            let square =
                |i: usize| (f64::from(products[(k, i)]) - f64::from(sigma[k] * others[(i, k)])).powi(2);
            (0..others.nrows()).map(square).sum::<f64>().sqrt() as f32
        };
        (0..sigma.len()).map(residual).fold(0.0, f32::max)
    };
    let worst =
        side(product(left.transpose(), a), right).max(side(product(right.transpose(), a.transpose()), left));
    worst / sigma[sigma.len() - 1]
}

/// Whether a second space, which begins with a new random block beside the vectors found, holds no value that is missing.
/// It matters where many values are equal: one random block reaches no more of them than it has columns. The space is
/// small, and so sees what stands out from the values not wanted, by some percent in a flat spectrum.
fn misses_nothing(a: MatRef<'_, f32>, found: &Leading, rng: &mut ChaCha8Rng) -> Result<bool> {
    let Some(mut space) = Space::new(a, Some(found), rng)? else { return Ok(true) };
    for _ in 0..PROBE_BLOCKS {
        if !space.grow()? {
            break;
        }
    }
    let sigma = complete::squarish(space.b.as_ref(), found.sigma.len())?.sigma;
    Ok(sigma.iter().zip(&found.sigma).all(|(now, before)| *now <= before * (1.0 + MISSED)))
}

/// U, V and B of A·V = U·B. V is a block ahead.
struct Space<'a> {
    a: MatRef<'a, f32>,
    left: Basis,
    right: Basis,
    /// `[size, size]`, upper triangular: UᵀA·V.
    b: Mat<f32>,
    /// S `[block, block]` of the newest block.
    s: Mat<f32>,
}

impl<'a> Space<'a> {
    /// Begins with what was found, if anything, and a random block; nothing where the block finds no room beside it.
    fn new(a: MatRef<'a, f32>, found: Option<&Leading>, rng: &mut ChaCha8Rng) -> Result<Option<Self>> {
        let (m, n) = a.shape();
        let mut space = Self {
            a,
            left: Basis { dimension: m, columns: Vec::new() },
            right: Basis { dimension: n, columns: Vec::new() },
            b: Mat::new(),
            s: Mat::new(),
        };
        if let Some(Leading { left, sigma, right }) = found {
            space.left.extend(left.as_ref());
            space.right.extend(right.as_ref());
            space.b = Mat::from_fn(sigma.len(), sigma.len(), |i, j| if i == j { sigma[i] } else { 0.0 });
        }
        let random = Mat::from_fn(block(n), n, |_, _| rng.sample(StandardNormal));
        let Some(Added { q, .. }) = space.right.orthonormal(random, RIGHT_PASSES)? else { return Ok(None) };
        space.right.extend(q.as_ref());
        Ok(Some(space))
    }

    /// Columns of U.
    fn size(&self) -> usize {
        self.left.len()
    }

    /// Adds a block to each side; false where there is none, because the space is closed under AᵀA.
    fn grow(&mut self) -> Result<bool> {
        let (size, block) = (self.size(), block(self.a.ncols()));
        let newest = self.right.matrix().subcols(size, block);
        let Some(Added { q, r, along }) =
            self.left.orthonormal(product(newest.transpose(), self.a.transpose()), LEFT_PASSES)?
        else {
            return Ok(false);
        };
        self.b.resize_with(size + block, size + block, |_, _| 0.0);
        self.b.as_mut().submatrix_mut(0, size, size, block).copy_from(along.transpose());
        self.b.as_mut().submatrix_mut(size, size, block, block).copy_from(&r);
        let image = product(q.transpose(), self.a);
        self.left.extend(q.as_ref());
        let Some(Added { q, r, .. }) = self.right.orthonormal(image, RIGHT_PASSES)? else { return Ok(false) };
        self.right.extend(q.as_ref());
        self.s = r;
        Ok(true)
    }

    /// The largest ‖Aᵀ·u − σ·v‖ over the smallest σ, for terms of B. What the newest block does not hold is what the
    /// next one adds: S times the newest rows of U.
    fn residual(&self, Leading { left, sigma, .. }: &Leading) -> f32 {
        let block = self.s.nrows();
        let rest = product(self.s.as_ref(), left.as_ref().subrows(self.size() - block, block));
        let worst = rest.col_iter().map(|column| column.norm_l2()).fold(0.0, f32::max);
        worst / sigma[sigma.len() - 1]
    }

    /// Terms of B as terms of A.
    fn vectors(&self, Leading { left, sigma, right }: Leading) -> Leading {
        let of = |basis: &Basis, small: &Mat<f32>| {
            let columns = basis.matrix().subcols(0, self.size());
            product(small.transpose(), columns.transpose()).transpose().to_owned()
        };
        Leading { left: of(&self.left, &left), right: of(&self.right, &right), sigma }
    }
}

/// Orthonormal columns, one after the other.
struct Basis {
    dimension: usize,
    columns: Vec<f32>,
}

/// A block Yᵀ as a basis sees it: Y = basis·alongᵀ + Q·R, where Q is orthonormal to the basis.
struct Added {
    /// `[dimension, block]`
    q: Mat<f32>,
    /// `[block, block]`
    r: Mat<f32>,
    /// `[block, size]`
    along: Mat<f32>,
}

impl Basis {
    fn len(&self) -> usize {
        self.columns.len() / self.dimension
    }

    fn matrix(&self) -> MatRef<'_, f32> {
        MatRef::from_column_major_slice(&self.columns, self.dimension, self.len())
    }

    fn extend(&mut self, block: MatRef<'_, f32>) {
        for column in block.col_iter() {
            self.columns.extend(column.iter());
        }
    }

    /// Splits the rows of `block` `[rows, dimension]` into what the basis holds and what is new; nothing where part of it
    /// is not new, up to rounding.
    fn orthonormal(&self, mut block: Mat<f32>, passes: usize) -> Result<Option<Added>> {
        /// What is left of a row may be so much smaller than the rows that two passes still make it orthogonal.
        const LEAST_NEW: f32 = 1e-4;
        let rows = block.nrows();
        let norm = block.norm_l2() / (rows as f32).sqrt();
        let mut along = Mat::zeros(rows, self.len());
        for _ in 0..passes {
            let part = product(block.as_ref(), self.matrix());
            block -= product(part.as_ref(), self.matrix().transpose());
            along += part;
        }
        let mut columns = block.transpose().to_owned();
        let qr = Qr::new(columns.as_mut())?;
        let r = qr.r();
        let is_new = |i: usize| r[(i, i)].abs() > LEAST_NEW * norm;
        if !(0..rows).all(is_new) {
            return Ok(None);
        }
        Ok(Some(Added { q: qr.q()?, r, along }))
    }
}

/// X·Y for X of few rows and Y of many columns, the order in which faer's product is fastest with a thin block. Threads
/// of the pool that have nothing else to do help; where Y is cut does not depend on them, and so no bit does.
fn product(x: MatRef<'_, f32>, y: MatRef<'_, f32>) -> Mat<f32> {
    /// Enough columns for a fast product, few enough to be shared.
    const COLUMNS: usize = 512;
    fn write(out: MatMut<'_, f32>, x: MatRef<'_, f32>, y: MatRef<'_, f32>) {
        if y.ncols() <= COLUMNS {
            return matmul(out, Accum::Replace, x, y, 1.0, Par::Seq);
        }
        let middle = (y.ncols() / 2).next_multiple_of(COLUMNS);
        let (out_left, out_right) = out.split_at_col_mut(middle);
        let (y_left, y_right) = y.split_at_col(middle);
        rayon::join(|| write(out_left, x, y_left), || write(out_right, x, y_right));
    }
    let mut out = Mat::zeros(x.nrows(), y.ncols());
    write(out.as_mut(), x, y);
    out
}

#[cfg(test)]
mod tests {
    use faer::Scale;

    use super::*;

    fn random(m: usize, n: usize) -> Mat<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        Mat::from_fn(m, n, |_, _| rng.sample(StandardNormal))
    }

    #[test]
    fn iterates_where_it_pays_and_converges_on_random_matrices() {
        for (m, n, rank) in [(1200, 800, 16), (900, 900, 32), (1000, 700, 1), (1300, 700, 8), (640, 600, 4)] {
            assert!(pays(m, n, rank), "{m} x {n}, rank {rank}");
            assert!(leading(random(m, n).as_ref(), rank).unwrap().is_some(), "{m} x {n}, rank {rank}");
        }
        for (m, n, rank) in [(1, 1, 1), (172, 64, 8), (900, 900, 900), (4096, 4096, 1024)] {
            assert!(!pays(m, n, rank), "{m} x {n}, rank {rank}");
        }
        assert!(pays(14336, 4096, 64) && pays(14336, 4096, 256) && !pays(4864, 896, 64));
    }

    #[test]
    fn what_is_closed_under_products_is_left_to_the_complete_decomposition() {
        let low = random(800, 3) * random(600, 3).transpose();
        assert!(leading(low.as_ref(), 8).unwrap().is_none());
        assert!(leading(Mat::zeros(800, 600).as_ref(), 8).unwrap().is_none());
    }

    #[test]
    fn a_missing_value_is_noticed() {
        // The noise ends near √800 + √600 = 53.
        let mut a = random(800, 600);
        a += Scale(80.0)
            * Qr::new(random(800, 1).as_mut()).unwrap().q().unwrap()
            * random(600, 1).transpose()
            * Scale(1.0 / 600f32.sqrt());
        let full = complete::squarish(a.as_ref(), 9).unwrap();
        let without = |skip: usize| {
            let kept = |x: &Mat<f32>| Mat::from_fn(x.nrows(), 8, |i, k| x[(i, k + usize::from(k >= skip))]);
            let mut sigma = full.sigma.clone();
            sigma.remove(skip);
            Leading { left: kept(&full.left), right: kept(&full.right), sigma }
        };
        let holds =
            |skip| misses_nothing(a.as_ref(), &without(skip), &mut ChaCha8Rng::seed_from_u64(3)).unwrap();
        assert!(holds(8), "the first eight are all there");
        assert!(!holds(0), "the first one is missing");
        assert!(worst_residual(a.as_ref(), &without(0)) < 1e-4, "which the residuals cannot tell");
    }

    #[test]
    fn what_is_not_exact_is_noticed() {
        let a = random(800, 600);
        let exact = complete::squarish(a.as_ref(), 8).unwrap();
        assert!(worst_residual(a.as_ref(), &exact) < 1e-5 && is_orthonormal(exact.right.as_ref()));
        let mut off = complete::squarish(a.as_ref(), 8).unwrap();
        off.right[(5, 3)] += 1e-2;
        assert!(worst_residual(a.as_ref(), &off) > TOLERANCE && !is_orthonormal(off.right.as_ref()));
    }
}
