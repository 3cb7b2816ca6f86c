//! The op against its definition: fused, composed and the plain loops against a float64 computation over
//! a grid of shapes, types, threads and slots.

use half::f16;
use llama_svf::ffi::op::{Arguments, Kernel, OpGraph};
use llama_svf::ffi::tensor_type::TensorType;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Unit roundoff of f32.
const EPS: f64 = f32::EPSILON as f64 / 2.0;

struct Shape {
    n_in: usize,
    n_out: usize,
    rank: usize,
    n_tokens: usize,
    n_slots: usize,
}

fn random(rng: &mut ChaCha8Rng, n: usize, scale: f32) -> Vec<f32> {
    (0..n).map(|_| scale * rng.random_range(-1.0..1.0f32)).collect()
}

fn factor(rng: &mut ChaCha8Rng, ty: TensorType, rows: usize, row_len: usize) -> (TensorType, Vec<u8>) {
    let ty = if row_len.is_multiple_of(ty.block_len()) { ty } else { TensorType::F16 };
    let values = random(rng, rows * row_len, (row_len as f32).sqrt().recip());
    let mut bytes = Vec::new();
    ty.quantize(&values, row_len, &mut bytes).expect("finite values");
    (ty, bytes)
}

/// What a stored factor means, decoded here and not by ggml.
fn decode((ty, bytes): &(TensorType, Vec<u8>)) -> Vec<f64> {
    let half = |raw: &[u8]| f64::from(f16::from_le_bytes([raw[0], raw[1]]).to_f32());
    match *ty {
        TensorType::F32 => bytes
            .chunks_exact(4)
            .map(|raw| f64::from(f32::from_le_bytes(raw.try_into().expect("four bytes"))))
            .collect(),
        TensorType::F16 => bytes.chunks_exact(2).map(half).collect(),
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
fn oracle(arguments: &Arguments) -> (Vec<f64>, Vec<f64>) {
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

fn run(arguments: &Arguments, kernel: Kernel, n_threads: usize) -> Vec<f32> {
    let mut graph = OpGraph::new(arguments, kernel, n_threads, 1).expect("valid arguments");
    graph.compute().expect("the op computes");
    graph.output()
}

/// Largest |result − oracle| in units of its magnitude; panics on NaN.
fn error(name: &str, result: &[f32], oracle: &(Vec<f64>, Vec<f64>)) -> f64 {
    assert_eq!(result.len(), oracle.0.len(), "{name}");
    let mut largest = 0f64;
    for ((&y, &expected), &magnitude) in result.iter().zip(&oracle.0).zip(&oracle.1) {
        assert!(y.is_finite(), "{name}: {y}");
        largest = largest.max((f64::from(y) - expected).abs() / magnitude.max(f64::MIN_POSITIVE));
    }
    largest
}

fn arguments(rng: &mut ChaCha8Rng, shape: &Shape, ty: TensorType, residual: bool) -> Arguments {
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
fn tolerance(shape: &Shape) -> f64 {
    (shape.n_in + shape.rank + 6) as f64 * EPS
}

/// Activations rounded to 8 bits: half a unit of 1/127 of the largest of 32 values, once for Vᵀ·x and once for
/// U·t; the largest is some times the mean that the magnitude is made of.
const ROUNDING_8: f64 = 0.05;
/// The same for the 16 bits that the fused op rounds whole columns to where factors are Q8_0.
const ROUNDING_16: f64 = ROUNDING_8 * 127.0 / 32767.0;

#[test]
fn fused_and_composed_agree_with_float64_over_the_grid() {
    let seed = 20250112;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let shapes = [
        (64, 172, 64),
        (172, 64, 64),
        (256, 96, 1),
        (96, 65, 7),
        (128, 128, 33),
        (320, 200, 150),
        (1200, 96, 64),
    ];
    let mut worst = [0f64; 3];
    for (n_in, n_out, rank) in shapes {
        for n_tokens in [1, 2, 5, 8, 15, 16, 33, 64, 97, 200, 512] {
            let n_slots = [1, 2, 9, 64][rng.random_range(0..4)];
            let shape = Shape { n_in, n_out, rank, n_tokens, n_slots };
            for ty in [TensorType::F32, TensorType::F16, TensorType::Q8_0] {
                for residual in [true, false] {
                    let arguments = arguments(&mut rng, &shape, ty, residual);
                    let oracle = oracle(&arguments);
                    let name = format!(
                        "{n_in}x{n_out} r{rank} T{n_tokens} slots {n_slots} {ty} residual {residual}"
                    );
                    let eight_bits = arguments.vt.0 == TensorType::Q8_0 || arguments.u.0 == TensorType::Q8_0;
                    let allowed = tolerance(&shape) + if eight_bits { ROUNDING_16 } else { 0.0 };
                    for n_threads in [1, 2, 3, 7] {
                        let fused = error(&name, &run(&arguments, Kernel::Fused, n_threads), &oracle);
                        assert!(fused <= allowed, "{name} threads {n_threads}: fused {fused:e}");
                        worst[0] = worst[0].max(fused / allowed);
                    }
                    let reference = error(&name, &run(&arguments, Kernel::Reference, 2), &oracle);
                    assert!(reference <= 4.0 * EPS, "{name}: reference {reference:e}");
                    worst[1] = worst[1].max(reference / EPS);
                    // ggml's own mul_mat rounds activations to the factor's companion type (F16 or Q8_0).
                    let composed = error(&name, &run(&arguments, Kernel::Composed, 2), &oracle);
                    let rounding = match ty {
                        TensorType::F32 => 0.0,
                        _ if eight_bits => ROUNDING_8,
                        _ => 2f64.powi(-10),
                    };
                    assert!(composed <= tolerance(&shape) + rounding, "{name}: composed {composed:e}");
                    worst[2] = worst[2].max(composed / (tolerance(&shape) + rounding));
                }
            }
        }
    }
    println!(
        "fused: {:.3} of its tolerance; reference: {:.2} eps; composed: {:.3} of its tolerance",
        worst[0], worst[1], worst[2]
    );
}

#[test]
fn a_token_of_the_base_slot_keeps_the_bits_of_base() {
    let seed = 7;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for (n_tokens, ty) in
        [1, 4, 31, 80, 300].into_iter().flat_map(|n| [(n, TensorType::F16), (n, TensorType::Q8_0)])
    {
        let shape = Shape { n_in: 96, n_out: 72, rank: 64, n_tokens, n_slots: 3 };
        let mut arguments = arguments(&mut rng, &shape, ty, true);
        let base = arguments.base.as_mut().expect("residual");
        base[0] = -0.0;
        arguments.ids[0] = 0;
        let base = base.clone();
        let y = run(&arguments, Kernel::Fused, 2);
        for (token, &slot) in arguments.ids.iter().enumerate() {
            for o in 0..shape.n_out {
                let at = token * shape.n_out + o;
                assert_eq!(
                    slot == 0,
                    y[at].to_bits() == base[at].to_bits(),
                    "token {token} output {o} slot {slot}"
                );
            }
        }
    }
}

#[test]
fn a_token_does_not_depend_on_its_neighbours() {
    let seed = 11;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for (rank, ty) in [(37, TensorType::F32), (64, TensorType::Q8_0)] {
        token_by_token(&mut rng, rank, ty);
    }
}

fn token_by_token(rng: &mut ChaCha8Rng, rank: usize, ty: TensorType) {
    let shape = Shape { n_in: 160, n_out: 130, rank, n_tokens: 70, n_slots: 5 };
    let together = arguments(rng, &shape, ty, true);
    let y = run(&together, Kernel::Fused, 2);
    let oracle = oracle(&together);
    for token in 0..shape.n_tokens {
        let alone = Arguments {
            x: together.x[token * shape.n_in..][..shape.n_in].to_vec(),
            base: together.base.as_ref().map(|base| base[token * shape.n_out..][..shape.n_out].to_vec()),
            ids: vec![together.ids[token]],
            ..together.clone()
        };
        for (o, alone) in run(&alone, Kernel::Fused, 2).into_iter().enumerate() {
            let at = token * shape.n_out + o;
            let difference = (f64::from(alone) - f64::from(y[at])).abs();
            // The two differ in the order of summation, which may round an element of t the other way.
            let rounding = if ty == TensorType::Q8_0 { ROUNDING_16 } else { 0.0 };
            assert!(
                difference <= (2.0 * tolerance(&shape) + rounding) * oracle.1[at],
                "token {token} output {o}: {difference:e}"
            );
        }
    }
}

#[test]
fn nan_and_infinity_are_not_rounded_away() {
    let shape = Shape { n_in: 96, n_out: 72, rank: 64, n_tokens: 5, n_slots: 3 };
    let seed = 13;
    println!("seed {seed}");
    for poison in [f32::NAN, f32::INFINITY] {
        for n_tokens in [1, 5] {
            let shape = Shape { n_tokens, ..shape };
            let mut arguments =
                arguments(&mut ChaCha8Rng::seed_from_u64(seed), &shape, TensorType::Q8_0, true);
            arguments.ids.fill(1);
            arguments.x[(n_tokens - 1) * shape.n_in + 37] = poison;
            let y = run(&arguments, Kernel::Fused, 2);
            let (healthy, poisoned) = y.split_at((n_tokens - 1) * shape.n_out);
            assert!(healthy.iter().all(|y| y.is_finite()), "{n_tokens} tokens, {poison}");
            assert!(poisoned.iter().all(|y| !y.is_finite()), "{n_tokens} tokens, {poison}");
        }
    }
}
