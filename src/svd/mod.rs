//! The `rank` leading terms of a matrix's singular value decomposition, W = U·diag(σ)·Vᵀ, in f32.
//!
//! Feed-forward weights are several times longer than wide, and few of their singular vectors may be
//! wanted. So a long matrix is first reduced by a Householder QR to its small triangular factor R; the
//! SVD of R is complete, and Q is then applied to the wanted left vectors only. Nothing is sampled or
//! iterated to a tolerance: the result is the true leading part of the complete decomposition, with the
//! same backward error, and the long side is touched for `rank` columns instead of all of them.
//!
//! One call uses one core (run several calls side by side) and is deterministic: equal input on an equal
//! machine gives equal bits.

mod quality;

pub use quality::{energy_kept, relative_error};

use faer::diag::DiagMut;
use faer::dyn_stack::{MemBuffer, MemStack, StackReq};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch as apply_q_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj as apply_q,
};
use faer::linalg::qr::no_pivoting::factor::{qr_in_place, qr_in_place_scratch, recommended_block_size};
use faer::linalg::svd::{svd, svd_scratch, ComputeSvdVectors, SvdParams};
use faer::{Conj, Mat, MatMut, MatRef, Par, Spec};

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

/// A matrix at least this many times longer than wide goes through QR first. Below it the QR costs more
/// than it saves (the crossover is at 11/6 when all vectors are wanted).
const QR_FIRST_RATIO: f64 = 11.0 / 6.0;

/// faer divides the bidiagonal problem down to this size and solves the pieces by QR sweeps, whose rotations
/// add up rounding. Its default of 128 measured 3 to 10 times the error of LAPACK's divide and conquer
/// (which stops at 25), this value the same error; both take the same time.
const SMALLEST_DIVISION: usize = 16;

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
        let largest = largest_magnitude(w)?;

        // The long side first: A is W or Wᵀ, m x n with m ≥ n, column-major.
        let tall = n_out >= n_in;
        let (m, n) = if tall { (n_out, n_in) } else { (n_in, n_out) };
        let mut a = if tall { transposed(w, n_in) } else { w.to_vec() };
        // Squares of very large or small entries leave f32: a power of two brings the largest near 1.
        let exponent = scale_exponent(largest);
        let scale = 2f32.powi(-exponent);
        a.iter_mut().for_each(|x| *x *= scale);

        let mut left = vec![0f32; m * rank];
        let mut right = vec![0f32; n * rank];
        let mut sigma = vec![0f32; rank];
        let vectors = Vectors {
            left: MatMut::from_column_major_slice_mut(&mut left, m, rank),
            right: MatMut::from_column_major_slice_mut(&mut right, n, rank),
        };
        let a = MatMut::from_column_major_slice_mut(&mut a, m, n);
        if m as f64 > QR_FIRST_RATIO * n as f64 {
            decompose_long(a, &mut sigma, vectors)?;
        } else {
            decompose_squarish(a.as_ref(), &mut sigma, vectors)?;
        }

        for s in &mut sigma {
            *s *= 2f32.powi(exponent);
        }
        // Column-major `[m, rank]` is row-major `[rank, m]`: one side is Vᵀ as it stands.
        let (u, mut vt) = if tall { (left, right) } else { (right, left) };
        let mut u = transposed(&u, n_out);
        fix_signs(&mut u, &mut vt, rank);
        let finite = [&u, &sigma, &vt].into_iter().flatten().all(|x| x.is_finite());
        if !finite || sigma.iter().any(|&s| s < 0.0) {
            return Err(Error::invalid("the decomposition leaves the range of f32"));
        }
        Ok(Self { rank, u, sigma, vt })
    }
}

/// Where the leading singular vectors of A `[m, n]` go: `left` `[m, rank]`, `right` `[n, rank]`.
struct Vectors<'a> {
    left: MatMut<'a, f32>,
    right: MatMut<'a, f32>,
}

/// A = Q·R, R = U·diag(σ)·Vᵀ, so A = (Q·U)·diag(σ)·Vᵀ. Destroys `a`.
fn decompose_long(mut a: MatMut<'_, f32>, sigma: &mut [f32], vectors: Vectors<'_>) -> Result<()> {
    let (m, n) = a.shape();
    let block = recommended_block_size::<f32>(m, n);
    let mut householder = Mat::<f32>::zeros(block, n);
    with_scratch(qr_in_place_scratch::<f32>(m, n, block, Par::Seq, Default::default()), |stack| {
        qr_in_place(a.as_mut(), householder.as_mut(), Par::Seq, stack, Default::default());
        Ok(())
    })?;
    let mut r = Mat::<f32>::zeros(n, n);
    r.copy_from_triangular_upper(a.as_ref().subrows(0, n));

    let Vectors { mut left, right } = vectors;
    let rank = left.ncols();
    let top = Vectors { left: left.as_mut().subrows_mut(0, n), right };
    decompose_squarish(r.as_ref(), sigma, top)?;

    left.as_mut().subrows_mut(n, m - n).fill(0.0);
    with_scratch(apply_q_scratch::<f32>(m, block, rank), |stack| {
        apply_q(a.as_ref(), householder.as_ref(), Conj::No, left, Par::Seq, stack);
        Ok(())
    })
}

/// The complete SVD of `a`, of which the leading vectors are kept.
fn decompose_squarish(a: MatRef<'_, f32>, sigma: &mut [f32], vectors: Vectors<'_>) -> Result<()> {
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
    let Vectors { mut left, mut right } = vectors;
    for (k, &from) in order.iter().take(sigma.len()).enumerate() {
        sigma[k] = all_sigma[from];
        left.as_mut().col_mut(k).copy_from(u.as_ref().col(from));
        right.as_mut().col_mut(k).copy_from(v.as_ref().col(from));
    }
    Ok(())
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

/// e with |x| / 2ᵉ near 1, kept where both 2ᵉ and 2⁻ᵉ are normal f32 numbers.
fn scale_exponent(x: f32) -> i32 {
    if x == 0.0 {
        return 0;
    }
    (x.log2().floor() as i32).clamp(-126, 126)
}

/// The transpose of a row-major matrix with rows of `row_len`, row-major.
fn transposed(matrix: &[f32], row_len: usize) -> Vec<f32> {
    /// Tiles of this side stay in the first-level cache, whichever way they are walked.
    const TILE: usize = 32;
    let rows = matrix.len() / row_len;
    let mut out = vec![0f32; matrix.len()];
    for first_row in (0..rows).step_by(TILE) {
        let tile_rows = first_row..rows.min(first_row + TILE);
        for first_column in (0..row_len).step_by(TILE) {
            for column in first_column..row_len.min(first_column + TILE) {
                for row in tile_rows.clone() {
                    out[column * rows + row] = matrix[row * row_len + column];
                }
            }
        }
    }
    out
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
