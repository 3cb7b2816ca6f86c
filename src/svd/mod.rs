//! The `rank` leading terms of a matrix's singular value decomposition, W = U·diag(σ)·Vᵀ, in f32.
//!
//! There are two ways to them. The complete decomposition has no tolerance, and is the way to many of the terms. Where
//! a small part of them is wanted, a block Krylov iteration takes a fraction of the time. It stops at a residual below
//! [`TOLERANCE`], which is then measured on W itself, as is the vectors' orthonormality, and the rest of W is searched
//! for values that were missed. Where something does not hold, as in a matrix of low rank, the complete decomposition
//! is the result. Shape, rank and values decide.
//!
//! One call uses one core (run several calls side by side); threads of the rayon pool that have nothing else to do help with
//! the iteration's products. It is deterministic: equal input on an equal machine gives equal bits, whatever the threads.
//! The random start of the iteration has a fixed seed.

mod complete;
mod householder;
mod krylov;
mod quality;

pub use krylov::TOLERANCE;
pub use quality::{energy_kept, relative_error};

use std::borrow::Cow;

use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::{Mat, MatMut, MatRef};

use crate::error::{Error, Result};

/// The leading `rank` terms of W = U·diag(σ)·Vᵀ for W `[n_out, n_in]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Svd {
    /// Number of terms kept, 1 ≤ `rank` ≤ min(`n_out`, `n_in`).
    pub rank: usize,
    /// U `[n_out, rank]`, row-major: ggml's ne = [rank, n_out]. Orthonormal columns.
    pub u: Vec<f32>,
    /// σ `[rank]`, descending, finite, ≥ 0.
    pub sigma: Vec<f32>,
    /// Vᵀ `[rank, n_in]`, row-major: ggml's ne = [n_in, rank]. Orthonormal rows; in each row the entry of
    /// largest magnitude (the first of them on ties) is positive, which fixes the sign of the term.
    pub vt: Vec<f32>,
}

/// What the numbers depend on besides the matrix; another name whenever equal input gives other bits.
pub const METHOD: &str = "complete or block Krylov 1";

/// How long [`Svd::new`] takes, as the operations of a matrix product that takes as long.
pub fn operations(n_out: usize, n_in: usize, rank: usize) -> u64 {
    let (m, n) = (n_out.max(n_in), n_out.min(n_in));
    if krylov::pays(m, n, rank) {
        krylov::operations(m, n, rank)
    } else {
        complete::operations(m, n, rank)
    }
}

/// The leading terms of A = U·diag(σ)·Vᵀ, A being W or Wᵀ `[m, n]` with m ≥ n.
struct Leading {
    /// `[m, rank]`
    left: Mat<f32>,
    /// Descending.
    sigma: Vec<f32>,
    /// `[n, rank]`
    right: Mat<f32>,
}

impl Svd {
    /// Decomposes `w` `[n_out, n_in]`, row-major, and keeps the `rank` largest singular values.
    ///
    /// # Errors
    /// Empty matrix, wrong length, `rank` outside 1..=min(`n_out`, `n_in`), a NaN or infinite entry, not
    /// enough memory, no convergence, or singular values beyond f32.
    pub fn new(w: &[f32], n_out: usize, n_in: usize, rank: usize) -> Result<Self> {
        if n_out == 0 || n_in == 0 || n_out.checked_mul(n_in) != Some(w.len()) {
            return Err(Error::expected(
                format!("a matrix of {n_out} x {n_in} entries"),
                format!("{} entries", w.len()),
            ));
        }
        if rank == 0 || rank > n_out.min(n_in) {
            return Err(Error::expected(format!("a rank of 1 to {}", n_out.min(n_in)), rank));
        }
        // Squares of very large or small entries leave f32: a power of two brings the largest near 1.
        let exponent = scale_exponent(largest_magnitude(w)?);
        let scale = 2f32.powi(-exponent);
        let scaled: Cow<[f32]> =
            if exponent == 0 { w.into() } else { w.iter().map(|x| x * scale).collect::<Vec<_>>().into() };

        let whole = MatRef::from_row_major_slice(&scaled, n_out, n_in);
        let tall = n_out >= n_in;
        let a = if tall { whole } else { whole.transpose() };
        let Leading { left, mut sigma, right } = match krylov::leading(a, rank)? {
            Some(leading) => leading,
            None => {
                let mut columns = rows(a.transpose());
                complete::leading(
                    MatMut::from_column_major_slice_mut(&mut columns, a.nrows(), a.ncols()),
                    rank,
                )?
            }
        };

        for s in &mut sigma {
            *s *= 2f32.powi(exponent);
        }
        let (u, v) = if tall { (left, right) } else { (right, left) };
        let mut u = rows(u.as_ref());
        let mut vt = rows(v.transpose());
        fix_signs(&mut u, &mut vt, rank);
        let finite = [&u, &sigma, &vt].into_iter().flatten().all(|x| x.is_finite());
        if !finite || sigma.iter().any(|&s| s < 0.0) {
            return Err(Error::invalid("the decomposition leaves the range of f32"));
        }
        Ok(Self { rank, u, sigma, vt })
    }
}

/// Runs `work` with the scratch memory that faer asks for.
fn with_scratch(need: StackReq, work: impl FnOnce(&mut MemStack) -> Result<()>) -> Result<()> {
    let mut buffer = MemBuffer::try_new(need).map_err(|_| {
        Error::unavailable(format!("not enough memory for {} bytes of work space", need.size_bytes()))
            .hint("use fewer `threads`")
    })?;
    work(MemStack::new(&mut buffer))
}

/// max |wᵢ|, or an error at the first NaN or infinity.
fn largest_magnitude(w: &[f32]) -> Result<f32> {
    // NaN and infinity both fail `<`, so one pass without a branch per entry decides the common case.
    let (largest, finite) = w
        .iter()
        .fold((0f32, true), |(most, finite), x| (most.max(x.abs()), finite & (x.abs() < f32::INFINITY)));
    if finite {
        return Ok(largest);
    }
    let at = w.iter().position(|x| !x.is_finite()).unwrap_or(0);
    Err(Error::expected("finite numbers", format!("{} at entry {at}", w[at])))
}

/// e with |x| / 2ᵉ near 1, kept where both 2ᵉ and 2⁻ᵉ are normal f32 numbers; 0 where x and its square are far from
/// the limits of f32, as weights are, because nothing then needs scaling.
fn scale_exponent(x: f32) -> i32 {
    const FAR_FROM_LIMITS: i32 = 32;
    if x == 0.0 {
        return 0;
    }
    let exponent = x.log2().floor() as i32;
    if exponent.abs() <= FAR_FROM_LIMITS {
        return 0;
    }
    exponent.clamp(-126, 126)
}

/// A matrix as its rows, one after the other.
fn rows(matrix: MatRef<'_, f32>) -> Vec<f32> {
    /// Tiles of this side stay in the first-level cache, whichever way they are walked.
    const TILE: usize = 32;
    let (m, n) = matrix.shape();
    let mut rows = vec![0f32; m * n];
    let mut out = MatMut::from_row_major_slice_mut(&mut rows, m, n);
    for i in (0..m).step_by(TILE) {
        for j in (0..n).step_by(TILE) {
            let (height, width) = (TILE.min(m - i), TILE.min(n - j));
            let tile = matrix.submatrix(i, j, height, width);
            out.as_mut().submatrix_mut(i, j, height, width).copy_from(tile);
        }
    }
    rows
}

/// Makes the largest entry of every row of Vᵀ positive.
fn fix_signs(u: &mut [f32], vt: &mut [f32], rank: usize) {
    let n_in = vt.len() / rank;
    let mut sign = vec![1f32; rank];
    for (sign, row) in sign.iter_mut().zip(vt.chunks_exact_mut(n_in)) {
        let mut largest = 0f32;
        for &x in row.iter() {
            if x.abs() > largest.abs() {
                largest = x;
            }
        }
        if largest < 0.0 {
            *sign = -1.0;
            row.iter_mut().for_each(|x| *x = -*x);
        }
    }
    for row in u.chunks_exact_mut(rank) {
        for (x, sign) in row.iter_mut().zip(&sign) {
            *x *= sign;
        }
    }
}
