//! Arguments of svf_mul_mat, their result in float64, and how far a kernel may lie from it: shared by the tests
//! that run the op and those that emulate it.

use half::f16;
use llama_svf::ffi::op::Arguments;
use llama_svf::ffi::tensor_type::TensorType;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Unit roundoff of f32.
pub const EPS: f64 = f32::EPSILON as f64 / 2.0;

pub struct Shape {
    pub n_in: usize,
    pub n_out: usize,
    pub rank: usize,
    pub n_tokens: usize,
    pub n_slots: usize,
}

pub fn random(rng: &mut ChaCha8Rng, n: usize, scale: f32) -> Vec<f32> {
    (0..n).map(|_| scale * rng.random_range(-1.0..1.0f32)).collect()
}

pub fn factor(rng: &mut ChaCha8Rng, ty: TensorType, rows: usize, row_len: usize) -> (TensorType, Vec<u8>) {
    let ty = if row_len.is_multiple_of(ty.block_len()) { ty } else { TensorType::F16 };
    let values = random(rng, rows * row_len, (row_len as f32).sqrt().recip());
    let mut bytes = Vec::new();
    ty.quantize(&values, row_len, &mut bytes).expect("finite values");
    (ty, bytes)
}

/// What a stored factor means, decoded here and not by ggml.
pub fn decode((ty, bytes): &(TensorType, Vec<u8>)) -> Vec<f64> {
    let half = |raw: &[u8]| f64::from(f16::from_le_bytes([raw[0], raw[1]]).to_f32());
    match *ty {
        TensorType::F32 => bytes
            .chunks_exact(4)
            .map(|raw| f64::from(f32::from_le_bytes(raw.try_into().expect("four bytes"))))
            .collect(),
        TensorType::F16 => bytes.chunks_exact(2).map(half).collect(),
        TensorType::BF16 => bytes
            .chunks_exact(2)
            .map(|raw| f64::from(f32::from_bits(u32::from(u16::from_le_bytes([raw[0], raw[1]])) << 16)))
            .collect(),
        TensorType::Q8_0 => bytes
            .chunks_exact(34)
            .flat_map(|block| {
                block[2..].iter().map(|&q| half(block) * f64::from(q as i8)).collect::<Vec<_>>()
            })
            .collect(),
        other => panic!("no decoder for {other}"),
    }
}

/// The definition in float64, and for each result the sum of magnitudes that rounding errors scale with.
pub fn oracle(arguments: &Arguments) -> (Vec<f64>, Vec<f64>) {
    let Arguments { n_in, n_out, rank, .. } = *arguments;
    let (vt, u) = (decode(&arguments.vt), decode(&arguments.u));
    let (mut y, mut magnitude) = (Vec::new(), Vec::new());
    for (token, &slot) in arguments.ids.iter().enumerate() {
        let x = &arguments.x[token * n_in..][..n_in];
        let s = &arguments.s[slot as usize * rank..][..rank];
        let (mut t, mut t_magnitude) = (vec![0.0; rank], vec![0.0; rank]);
        for k in 0..rank {
            for (v, &x) in vt[k * n_in..][..n_in].iter().zip(x) {
                t[k] += v * f64::from(x);
                t_magnitude[k] += (v * f64::from(x)).abs();
            }
            t[k] *= f64::from(s[k]);
            t_magnitude[k] *= f64::from(s[k]).abs();
        }
        for o in 0..n_out {
            let base = arguments.base.as_ref().map_or(0.0, |base| f64::from(base[token * n_out + o]));
            let row = &u[o * rank..][..rank];
            y.push(base + row.iter().zip(&t).map(|(u, t)| u * t).sum::<f64>());
            magnitude
                .push(base.abs() + row.iter().zip(&t_magnitude).map(|(u, t)| (u * t).abs()).sum::<f64>());
        }
    }
    (y, magnitude)
}

/// Largest |result − oracle| in units of its magnitude; panics on NaN.
pub fn error(name: &str, result: &[f32], oracle: &(Vec<f64>, Vec<f64>)) -> f64 {
    assert_eq!(result.len(), oracle.0.len(), "{name}");
    let mut largest = 0f64;
    for ((&y, &expected), &magnitude) in result.iter().zip(&oracle.0).zip(&oracle.1) {
        assert!(y.is_finite(), "{name}: {y}");
        largest = largest.max((f64::from(y) - expected).abs() / magnitude.max(f64::MIN_POSITIVE));
    }
    largest
}

pub fn arguments(rng: &mut ChaCha8Rng, shape: &Shape, ty: TensorType, residual: bool) -> Arguments {
    let &Shape { n_in, n_out, rank, n_tokens, n_slots } = shape;
    let mut s = random(rng, rank * n_slots, 2.0);
    // Slot 0 is the base model, as in a real residual session.
    if residual {
        s[..rank].fill(0.0);
    }
    Arguments {
        n_in,
        n_out,
        rank,
        x: random(rng, n_in * n_tokens, 1.0),
        base: residual.then(|| random(rng, n_out * n_tokens, 1.0)),
        vt: factor(rng, ty, rank, n_in),
        u: factor(rng, ty, n_out, rank),
        s,
        ids: (0..n_tokens).map(|_| rng.random_range(0..n_slots) as i32).collect(),
    }
}

/// Errors of a sum of n products in floating point stay below (n + 2)·eps per unit of magnitude (Higham,
/// Accuracy and Stability, section 3.1), for each of the two products in turn.
pub fn tolerance(shape: &Shape) -> f64 {
    (shape.n_in + shape.rank + 6) as f64 * EPS
}

/// Activations rounded to 8 bits: half a unit of 1/127 of the largest of 32 values, once for Vᵀ·x and once for
/// U·t; the largest is some times the mean that the magnitude is made of.
pub const ROUNDING_8: f64 = 0.05;
/// The same for the 16 bits that the fused op rounds whole columns to where factors are Q8_0.
pub const ROUNDING_16: f64 = ROUNDING_8 * 127.0 / 32767.0;

/// Squared errors over squared results, summed over all; panics on NaN.
pub fn nmse(name: &str, result: &[f32], oracle: &(Vec<f64>, Vec<f64>)) -> f64 {
    assert_eq!(result.len(), oracle.0.len(), "{name}");
    let (mut errors, mut squares) = (0.0, 0.0);
    for (&y, &expected) in result.iter().zip(&oracle.0) {
        assert!(y.is_finite(), "{name}: {y}");
        errors += (f64::from(y) - expected).powi(2);
        squares += expected.powi(2);
    }
    if errors == 0.0 {
        return 0.0;
    }
    errors / squares
}

/// For each result, the standard deviation of its error where each of the products that it is a sum of, in both
/// steps, is off by an independent error of relative standard deviation 1.
pub fn spread(arguments: &Arguments) -> Vec<f64> {
    let Arguments { n_in, n_out, rank, .. } = *arguments;
    let (vt, u) = (decode(&arguments.vt), decode(&arguments.u));
    let mut spread = Vec::new();
    for (token, &slot) in arguments.ids.iter().enumerate() {
        let x = &arguments.x[token * n_in..][..n_in];
        let s = &arguments.s[slot as usize * rank..][..rank];
        // Variance of t, and what the second product adds to it.
        let variances: Vec<f64> = (0..rank)
            .map(|k| {
                let products = vt[k * n_in..][..n_in].iter().zip(x).map(|(v, &x)| v * f64::from(x));
                let (sum, squares) =
                    products.fold((0.0, 0.0), |(sum, squares), p| (sum + p, squares + p * p));
                f64::from(s[k]).powi(2) * (squares + sum * sum)
            })
            .collect();
        for o in 0..n_out {
            let row = &u[o * rank..][..rank];
            let base = arguments.base.as_ref().map_or(0.0, |base| f64::from(base[token * n_out + o]));
            let variance: f64 = row.iter().zip(&variances).map(|(u, variance)| u * u * variance).sum();
            spread.push((variance + base * base).sqrt());
        }
    }
    spread
}

/// What [`nmse`] may be where the error of each result has a standard deviation of `relative` times its spread:
/// the sum over hundreds of results exceeds four times its root mean square never.
pub fn nmse_bound(relative: f64, arguments: &Arguments, oracle: &(Vec<f64>, Vec<f64>)) -> f64 {
    let sum = |values: &[f64]| values.iter().map(|value| value.powi(2)).sum::<f64>();
    (4.0 * relative).powi(2) * sum(&spread(arguments)) / sum(&oracle.0)
}
