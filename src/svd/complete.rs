//! The complete decomposition, of which the leading terms are kept.
//!
//! A matrix much longer than wide is first reduced by a Householder QR to its small triangular factor R; the SVD
//! of R is complete, and Q is then applied to the wanted left vectors only. Nothing is sampled or iterated to a
//! tolerance: the long side is touched for `rank` columns instead of all of them, with the same backward error.

use faer::diag::DiagMut;
use faer::linalg::svd::{svd, svd_scratch, ComputeSvdVectors, SvdParams};
use faer::{Mat, MatMut, MatRef, Par, Spec};

use super::householder::Qr;
use super::{with_scratch, Leading};
use crate::error::{Error, Result};

/// A matrix at least this many times longer than wide goes through QR first. Below it the QR costs more
/// than it saves (the crossover is at 11/6 when all vectors are wanted).
const QR_FIRST_RATIO: f64 = 11.0 / 6.0;

/// faer divides the bidiagonal problem down to this size and solves the pieces by QR sweeps, whose rotations
/// add up rounding. Its default of 128 measured 3 to 10 times the error of LAPACK's divide and conquer
/// (which stops at 25), this value the same error; both take the same time.
const SMALLEST_DIVISION: usize = 16;

/// How long it takes, as the operations of a matrix product that takes as long: the QR of the long side, the SVD of the
/// square factor (measured to take as long as about 16·n³ of them), the kept vectors and a comparison with A.
pub(super) fn operations(m: usize, n: usize, rank: usize) -> u64 {
    let [m, n, rank] = [m, n, rank].map(|x| x as u64);
    2 * m * n * n + 16 * n * n * n + 6 * m * n * rank
}

/// The `rank` leading terms of A `[m, n]`, m ≥ n. Destroys `a`.
///
/// # Errors
/// Not enough memory, or no convergence.
pub(super) fn leading(a: MatMut<'_, f32>, rank: usize) -> Result<Leading> {
    let (m, n) = a.shape();
    if m as f64 <= QR_FIRST_RATIO * n as f64 {
        return squarish(a.as_ref(), rank);
    }
    // A = Q·R, R = U·diag(σ)·Vᵀ, so A = (Q·U)·diag(σ)·Vᵀ.
    let qr = Qr::new(a)?;
    let Leading { left, sigma, right } = squarish(qr.r().as_ref(), rank)?;
    Ok(Leading { left: qr.apply_q(left.as_ref())?, sigma, right })
}

/// The same without QR.
///
/// # Errors
/// Those of [`leading`].
pub(super) fn squarish(a: MatRef<'_, f32>, rank: usize) -> Result<Leading> {
    let (m, n) = a.shape();
    let mut params: Spec<SvdParams, f32> = Default::default();
    params.config.recursion_threshold = SMALLEST_DIVISION;
    let thin = ComputeSvdVectors::Thin;
    let mut all_sigma = vec![0f32; n];
    let mut u = Mat::<f32>::zeros(m, n);
    let mut v = Mat::<f32>::zeros(n, n);
    with_scratch(svd_scratch::<f32>(m, n, thin, thin, Par::Seq, params), |stack| {
        let s = DiagMut::from_slice_mut(&mut all_sigma);
        svd(a, s, Some(u.as_mut()), Some(v.as_mut()), Par::Seq, stack, params)
            .map_err(|_| Error::invalid("the singular value decomposition does not converge"))
    })?;

    // faer leaves values unsorted where the matrix falls apart, as one with equal rows does.
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| all_sigma[j].total_cmp(&all_sigma[i]));
    Ok(Leading {
        left: Mat::from_fn(m, rank, |i, k| u[(i, order[k])]),
        sigma: order[..rank].iter().map(|&from| all_sigma[from]).collect(),
        right: Mat::from_fn(n, rank, |i, k| v[(i, order[k])]),
    })
}
