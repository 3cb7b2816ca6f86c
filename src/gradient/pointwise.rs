//! What is done to single columns and numbers: RMS norm, softmax, SwiGLU, and their derivatives.
//!
//! Matrices have one column per token. Loops are written for the compiler to vectorise, and run with the widest
//! instructions that the machine has.

use std::f32::consts::LOG2_E;

use faer::Mat;
use pulp::Arch;

/// Independent partial sums, as many as two registers of the widest kind hold.
const LANES: usize = 32;

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(x, y)| x * y).sum();
    for (a, b) in a.zip(b) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[inline(always)]
fn sum(x: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let x = x.chunks_exact(LANES);
    let rest: f32 = x.remainder().iter().sum();
    for x in x {
        for i in 0..LANES {
            sums[i] += x[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// eˣ to 2 units in the last place for -87 ≤ x ≤ 88, and the value at the nearer end beyond.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding this leaves the nearest whole number in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = (p * r) * r + r + 1.0;
    p * f32::from_bits(rounded.to_bits().wrapping_add(127) << 23)
}

/// y = w ⊙ x / rms(x), for each part of `w.len()` entries of each column.
pub(super) fn rms_norm(x: &Mat<f32>, w: &[f32], eps: f32) -> Mat<f32> {
    let mut y = Mat::zeros(x.nrows(), x.ncols());
    Arch::new().dispatch(|| {
        for j in 0..x.ncols() {
            let parts = x.col_as_slice(j).chunks_exact(w.len());
            for (x, y) in parts.zip(y.col_as_slice_mut(j).chunks_exact_mut(w.len())) {
                let scale = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
                for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                    *y = x * scale * w;
                }
            }
        }
    });
    y
}

/// Adds to `dx` what dy becomes on its way back through [`rms_norm`] at `x`.
pub(super) fn rms_norm_back(x: &Mat<f32>, w: &[f32], eps: f32, dy: &Mat<f32>, dx: &mut Mat<f32>) {
    let mut g = vec![0.0; w.len()];
    Arch::new().dispatch(|| {
        for j in 0..x.ncols() {
            let parts = x.col_as_slice(j).chunks_exact(w.len()).zip(dy.col_as_slice(j).chunks_exact(w.len()));
            for ((x, dy), dx) in parts.zip(dx.col_as_slice_mut(j).chunks_exact_mut(w.len())) {
                let scale = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
                for ((g, dy), w) in g.iter_mut().zip(dy).zip(w) {
                    *g = dy * w;
                }
                let along = dot(&g, x) * scale * scale / x.len() as f32;
                for ((dx, g), x) in dx.iter_mut().zip(&g).zip(x) {
                    *dx += scale * (g - x * along);
                }
            }
        }
    });
}

/// Turns x into exp(`scale` · (x - max x)), and returns the maximum and the sum.
#[inline(always)]
fn exponentials(x: &mut [f32], scale: f32) -> (f32, f32) {
    let most = x.iter().fold(f32::NEG_INFINITY, |most, &x| if x > most { x } else { most });
    x.iter_mut().for_each(|x| *x = exp((*x - most) * scale));
    (most, sum(x))
}

/// Softmax of `scale` · the first entries of each column, as many as `n_valid` says for it; 0 for the others.
pub(super) fn softmax(scores: &mut Mat<f32>, scale: f32, n_valid: impl Fn(usize) -> usize) {
    Arch::new().dispatch(|| {
        for j in 0..scores.ncols() {
            let (valid, rest) = scores.col_as_slice_mut(j).split_at_mut(n_valid(j));
            let (_, whole) = exponentials(valid, scale);
            let share = 1.0 / whole;
            valid.iter_mut().for_each(|x| *x *= share);
            rest.fill(0.0);
        }
    });
}

/// Turns dp into ds for p = softmax(`scale` · s), column by column.
pub(super) fn softmax_back(p: &Mat<f32>, scale: f32, dp: &mut Mat<f32>) {
    Arch::new().dispatch(|| {
        for j in 0..p.ncols() {
            let (p, dp) = (p.col_as_slice(j), dp.col_as_slice_mut(j));
            let mean = dot(p, dp);
            for (dp, p) in dp.iter_mut().zip(p) {
                *dp = scale * p * (*dp - mean);
            }
        }
    });
}

/// silu(gate) ⊙ up.
pub(super) fn swiglu(gate: &Mat<f32>, up: &Mat<f32>) -> Mat<f32> {
    let mut y = Mat::zeros(gate.nrows(), gate.ncols());
    Arch::new().dispatch(|| {
        for j in 0..y.ncols() {
            let (gate, up) = (gate.col_as_slice(j), up.col_as_slice(j));
            for ((y, g), u) in y.col_as_slice_mut(j).iter_mut().zip(gate).zip(up) {
                *y = g / (1.0 + exp(-g)) * u;
            }
        }
    });
    y
}

/// Turns (gate, up) into (dgate, dup) for y = [`swiglu`].
pub(super) fn swiglu_back(gate: &mut Mat<f32>, up: &mut Mat<f32>, dy: &Mat<f32>) {
    Arch::new().dispatch(|| {
        for j in 0..dy.ncols() {
            let (gate, up) = (gate.col_as_slice_mut(j), up.col_as_slice_mut(j));
            for ((g, u), dy) in gate.iter_mut().zip(up).zip(dy.col_as_slice(j)) {
                let sigmoid = 1.0 / (1.0 + exp(-*g));
                let silu = *g * sigmoid;
                *g = dy * *u * (sigmoid + silu * (1.0 - sigmoid));
                *u = dy * silu;
            }
        }
    });
}

/// Adds `bias` to every column.
pub(super) fn add_bias(x: &mut Mat<f32>, bias: &[f32]) {
    for j in 0..x.ncols() {
        x.col_as_slice_mut(j).iter_mut().zip(bias).for_each(|(x, b)| *x += b);
    }
}

/// Turns logits l into p = softmax(l), and returns ln Σ exp l.
pub(super) fn log_softmax_sum(logits: &mut [f32]) -> f32 {
    Arch::new().dispatch(|| {
        let (most, whole) = exponentials(logits, 1.0);
        logits.iter_mut().for_each(|x| *x /= whole);
        most + whole.ln()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_that_of_the_standard_library() {
        let mut worst = 0.0_f64;
        for i in -870_000..880_000 {
            let x = i as f32 * 1e-4;
            worst = worst.max((f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs());
        }
        println!("largest relative error {worst:e}");
        assert!(worst < 2.5e-7, "{worst:e}");
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1000.0) < 1e-37 && exp(1000.0).is_finite());
    }
}
