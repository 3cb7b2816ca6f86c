//! How well U·diag(σ)·Vᵀ stands for W.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// Rows of W rebuilt at a time: enough for a fast product, little enough to stay in cache.
const BLOCK_ROWS: usize = 128;

/// ‖W − U·diag(σ)·Vᵀ‖ / ‖W‖ in the Frobenius norm; 0 for W = 0 rebuilt as 0.
///
/// `w` `[n_out, n_in]`, `u` `[n_out, rank]` and `vt` `[rank, n_in]` are row-major, rank = `sigma.len()`.
/// Every entry is compared. Products are f32, as at inference, and sums of squares f64, so that a perfect
/// factorisation shows the rounding of f32 (about 1e-7·√rank) instead of 0.
///
/// # Panics
/// Where the lengths do not fit together.
pub fn relative_error(w: &[f32], u: &[f32], sigma: &[f32], vt: &[f32]) -> f64 {
    let rank = sigma.len();
    let n_in = vt.len() / rank;
    let scaled: Vec<f32> =
        vt.chunks_exact(n_in).zip(sigma).flat_map(|(row, s)| row.iter().map(move |v| v * s)).collect();
    let scaled = MatRef::from_row_major_slice(&scaled, rank, n_in);
    let mut rebuilt = vec![0f32; BLOCK_ROWS * n_in];
    let mut difference = 0f64;
    for (w, u) in w.chunks(BLOCK_ROWS * n_in).zip(u.chunks(BLOCK_ROWS * rank)) {
        let rows = u.len() / rank;
        let rebuilt = &mut rebuilt[..rows * n_in];
        matmul(
            MatMut::from_row_major_slice_mut(rebuilt, rows, n_in),
            Accum::Replace,
            MatRef::from_row_major_slice(u, rows, rank),
            scaled,
            1.0,
            Par::Seq,
        );
        for (r, w) in rebuilt.iter_mut().zip(w) {
            *r -= w;
        }
        difference += sum_of_squares(rebuilt);
    }
    let whole = sum_of_squares(w);
    if difference == 0.0 {
        return 0.0;
    }
    (difference / whole).sqrt()
}

/// Σσᵢ² / ‖W‖², the share of W's squared Frobenius norm that the terms hold; 1 for W = 0.
pub fn energy_kept(w: &[f32], sigma: &[f32]) -> f64 {
    let whole = sum_of_squares(w);
    if whole == 0.0 {
        return 1.0;
    }
    // Rounding can push a full-rank sum past 1.
    (sum_of_squares(sigma) / whole).min(1.0)
}

/// Σx² in f64, in independent lanes so that the additions need not wait for each other.
fn sum_of_squares(values: &[f32]) -> f64 {
    let mut lanes = [0f64; 16];
    let chunks = values.chunks_exact(lanes.len());
    let rest: f64 = chunks.remainder().iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(x) * f64::from(x);
        }
    }
    lanes.iter().sum::<f64>() + rest
}
