//! What is done to single columns and numbers: RMS norm, softmax, gates, and their derivatives.
//!
//! Activations have a column for each row of a batch, one after the other. Loops are written for the compiler to vectorise, and run with the widest
//! instructions that the machine has.

use std::f32::consts::LOG2_E;
use std::ops::Range;

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

/// y = w ⊙ x / rms(x), for each part of `w.len()` entries.
pub(super) fn rms_norm(x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) {
    Arch::new().dispatch(|| {
        for (x, y) in x.chunks_exact(w.len()).zip(y.chunks_exact_mut(w.len())) {
            let scale = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
            for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                *y = x * scale * w;
            }
        }
    });
}

/// Adds to `dx` what dy becomes on its way back through [`rms_norm`] at `x`.
pub(super) fn rms_norm_back(x: &[f32], w: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
    let mut g = vec![0.0; w.len()];
    Arch::new().dispatch(|| {
        let parts = x.chunks_exact(w.len()).zip(dy.chunks_exact(w.len()));
        for ((x, dy), dx) in parts.zip(dx.chunks_exact_mut(w.len())) {
            let scale = 1.0 / (dot(x, x) / x.len() as f32 + eps).sqrt();
            for ((g, dy), w) in g.iter_mut().zip(dy).zip(w) {
                *g = dy * w;
            }
            let along = dot(&g, x) * scale * scale / x.len() as f32;
            for ((dx, g), x) in dx.iter_mut().zip(&g).zip(x) {
                *dx += scale * (g - x * along);
            }
        }
    });
}

#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    x.iter().fold(f32::NEG_INFINITY, |most, &x| if x > most { x } else { most })
}

/// Turns x into exp(`scale` · (x - max x)), and returns the sum.
#[inline(always)]
fn exponentials(x: &mut [f32], scale: f32) -> f32 {
    let most = largest(x);
    x.iter_mut().for_each(|x| *x = exp((*x - most) * scale));
    sum(x)
}

/// Softmax of `scale` · those entries of each column that `valid` says; 0 for the others.
pub(super) fn softmax(scores: &mut Mat<f32>, scale: f32, valid: impl Fn(usize) -> Range<usize>) {
    Arch::new().dispatch(|| {
        for j in 0..scores.ncols() {
            let Range { start, end } = valid(j);
            let (before, from) = scores.col_as_slice_mut(j).split_at_mut(start);
            let (valid, rest) = from.split_at_mut(end - start);
            let whole = exponentials(valid, scale);
            let share = 1.0 / whole;
            valid.iter_mut().for_each(|x| *x *= share);
            before.fill(0.0);
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

/// What a gate does: x·sigmoid(a(x)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    /// a(x) = x (SiLU; Shazeer 2020, SwiGLU).
    Silu,
    /// a(x) = 2·√(2/π)·(x + 0.044715·x³), by tanh in Hendrycks & Gimpel 2016 (GELU).
    Gelu,
}

impl Activation {
    /// y = activation(gate) ⊙ up.
    pub(super) fn apply(self, gate: &[f32], up: &[f32], y: &mut [f32]) {
        match self {
            Self::Silu => gated(silu, gate, up, y),
            Self::Gelu => gated(gelu, gate, up, y),
        }
    }

    /// Turns (gate, up) into (dgate, dup) for y of [`Self::apply`].
    pub(super) fn back(self, gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
        match self {
            Self::Silu => gated_back(silu, gate, up, dy),
            Self::Gelu => gated_back(gelu, gate, up, dy),
        }
    }
}

/// a(x) and its derivative.
#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    (x, 1.0)
}

#[inline(always)]
fn gelu(x: f32) -> (f32, f32) {
    const SLOPE: f32 = 1.595_769;
    const CUBIC: f32 = 0.044_715;
    (SLOPE * x * (1.0 + CUBIC * x * x), SLOPE * (1.0 + 3.0 * CUBIC * x * x))
}

#[inline(always)]
fn gated(a: impl Fn(f32) -> (f32, f32), gate: &[f32], up: &[f32], y: &mut [f32]) {
    Arch::new().dispatch(|| {
        for ((y, &g), u) in y.iter_mut().zip(gate).zip(up) {
            *y = g / (1.0 + exp(-a(g).0)) * u;
        }
    });
}

#[inline(always)]
fn gated_back(a: impl Fn(f32) -> (f32, f32), gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    Arch::new().dispatch(|| {
        for ((g, u), dy) in gate.iter_mut().zip(up).zip(dy) {
            let (inner, slope) = a(*g);
            let sigmoid = 1.0 / (1.0 + exp(-inner));
            let active = *g * sigmoid;
            *g = dy * *u * (sigmoid + active * (1.0 - sigmoid) * slope);
            *u = dy * active;
        }
    });
}

/// Adds `bias` to every part of its length.
pub(super) fn add_bias(x: &mut [f32], bias: &[f32]) {
    for x in x.chunks_exact_mut(bias.len()) {
        x.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
    }
}

/// What softmax(l) has to say of logits l and of numbers d beside them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Softmax {
    /// ln Σ exp l.
    pub log_sum: f64,
    /// ⟨softmax(l), l⟩.
    pub mean_logit: f64,
    /// ⟨softmax(l), d⟩.
    pub mean_beside: f64,
}

/// Sums of products, wide enough for vocabularies.
const WIDE_LANES: usize = 16;

/// Turns logits l into softmax(l); `beside` may be empty.
pub(super) fn softmax_with_means(logits: &mut [f32], beside: &[f32]) -> Softmax {
    Arch::new().dispatch(|| {
        let most = largest(logits);
        let mut sums = [[0.0_f64; WIDE_LANES]; 3];
        let mut gather = |lane: usize, l: &mut f32, d: f32| {
            let above = *l - most;
            *l = exp(above);
            let e = f64::from(*l);
            sums[0][lane] += e;
            sums[1][lane] += e * f64::from(above);
            sums[2][lane] += e * f64::from(d);
        };
        let (parts, rest) = logits.as_chunks_mut::<WIDE_LANES>();
        let (besides, rest_beside) = beside.as_chunks::<WIDE_LANES>();
        let besides = besides.iter().chain(std::iter::repeat(&[0.0; WIDE_LANES]));
        for (part, beside) in parts.iter_mut().zip(besides) {
            for lane in 0..WIDE_LANES {
                gather(lane, &mut part[lane], beside[lane]);
            }
        }
        for (lane, l) in rest.iter_mut().enumerate() {
            gather(lane, l, rest_beside.get(lane).copied().unwrap_or(0.0));
        }
        let [whole, above, beside] = sums.map(|lanes| lanes.iter().sum::<f64>());
        let share = (1.0 / whole) as f32;
        logits.iter_mut().for_each(|x| *x *= share);
        let most = f64::from(most);
        Softmax { log_sum: most + whole.ln(), mean_logit: most + above / whole, mean_beside: beside / whole }
    })
}

/// ln Σ exp l.
pub(super) fn log_sum_exp(logits: &[f32]) -> f64 {
    Arch::new().dispatch(|| {
        let most = largest(logits);
        let mut sums = [0.0_f64; WIDE_LANES];
        let (parts, rest) = logits.as_chunks::<WIDE_LANES>();
        for part in parts {
            for lane in 0..WIDE_LANES {
                sums[lane] += f64::from(exp(part[lane] - most));
            }
        }
        for (sum, l) in sums.iter_mut().zip(rest) {
            *sum += f64::from(exp(l - most));
        }
        f64::from(most) + sums.iter().sum::<f64>().ln()
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
