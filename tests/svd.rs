//! The singular value decomposition against faer's own in f64, over shapes, ranks and hard matrices, complete and by
//! iteration.

use faer::Mat;
use llama_svf::svd::{energy_kept, relative_error, Svd, TOLERANCE};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const EPS: f64 = f32::EPSILON as f64;

/// Shapes on both sides of every branch: square, long by less and by more than the QR ratio, vectors.
const SHAPES: [(usize, usize); 12] = [
    (1, 1),
    (1, 7),
    (7, 1),
    (2, 3),
    (33, 33),
    (64, 96),
    (96, 64),
    (172, 64),
    (64, 172),
    (300, 150),
    (160, 500),
    (500, 160),
];

fn random(rng: &mut ChaCha8Rng, n_out: usize, n_in: usize) -> Vec<f32> {
    (0..n_out * n_in).map(|_| rng.random_range(-1f32..1.0)).collect()
}

fn seeded() -> ChaCha8Rng {
    let seed = 20_250_106;
    println!("seed {seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

/// Rounding errors of orthogonal transformations add up like a random walk, to a small multiple of
/// eps·√max(m, n).
fn tolerance(n_out: usize, n_in: usize) -> f64 {
    4.0 * EPS * (n_out.max(n_in) as f64).sqrt().max(4.0)
}

/// Everything that must hold of any decomposition, by f64 arithmetic.
fn check(w: &[f32], n_out: usize, n_in: usize, rank: usize) -> Svd {
    let svd = Svd::new(w, n_out, n_in, rank).unwrap_or_else(|e| panic!("{n_out}x{n_in} rank {rank}: {e}"));
    let label = format!("{n_out}x{n_in} rank {rank}");
    let tolerance = tolerance(n_out, n_in);
    assert_eq!((svd.u.len(), svd.sigma.len(), svd.vt.len()), (n_out * rank, rank, rank * n_in), "{label}");

    let w64 = Mat::from_fn(n_out, n_in, |i, j| f64::from(w[i * n_in + j]));
    let u = Mat::from_fn(n_out, rank, |i, k| f64::from(svd.u[i * rank + k]));
    let v = Mat::from_fn(n_in, rank, |j, k| f64::from(svd.vt[k * n_in + j]));
    let oracle = w64.svd().expect("the f64 oracle converges");
    let oracle: Vec<f64> = oracle.S().column_vector().iter().copied().collect();

    // Weyl: every singular value moves by no more than the backward error, c·eps·‖W‖₂.
    for (k, (&s, &expected)) in svd.sigma.iter().zip(&oracle).enumerate() {
        let off = (f64::from(s) - expected).abs();
        assert!(off <= tolerance * oracle[0], "{label}: sigma {k} is {s}, the oracle says {expected}");
    }
    assert!(
        svd.sigma.windows(2).all(|p| p[0] >= p[1]) && svd.sigma.iter().all(|&s| s >= 0.0),
        "{label}: order"
    );

    for (name, q) in [("u", &u), ("v", &v)] {
        let gram = q.transpose() * q;
        for i in 0..rank {
            for j in 0..rank {
                let off = (gram[(i, j)] - f64::from(u8::from(i == j))).abs();
                assert!(off <= tolerance, "{label}: {name} rows {i}, {j} are off by {off:e}");
            }
        }
    }

    // Eckart-Young: the distance to W is exactly the energy of the terms left out.
    let scaled = Mat::from_fn(n_out, rank, |i, k| u[(i, k)] * f64::from(svd.sigma[k]));
    let distance = (&w64 - &scaled * v.transpose()).norm_l2();
    let left_out = oracle[rank..].iter().map(|s| s * s).sum::<f64>().sqrt();
    let off = (distance - left_out).abs();
    assert!(off <= tolerance * w64.norm_l2(), "{label}: distance {distance}, left out {left_out}");

    for row in svd.vt.chunks_exact(n_in) {
        let largest = row.iter().fold(0f32, |a, &x| if x.abs() > a.abs() { x } else { a });
        assert!(largest > 0.0, "{label}: sign of a row of Vt");
    }

    // The two figures users see, against the same quantities in f64.
    let norm = w64.norm_l2();
    if norm > 0.0 {
        let error = relative_error(w, &svd.u, &svd.sigma, &svd.vt);
        assert!((error - distance / norm).abs() <= tolerance, "{label}: relative_error {error}");
        let kept = oracle[..rank].iter().map(|s| s * s).sum::<f64>() / (norm * norm);
        assert!((energy_kept(w, &svd.sigma) - kept).abs() <= 2.0 * tolerance, "{label}: energy_kept");
    }
    svd
}

#[test]
fn random_matrices_of_every_shape_and_rank() {
    let mut rng = seeded();
    for (n_out, n_in) in SHAPES {
        let w = random(&mut rng, n_out, n_in);
        let full = n_out.min(n_in);
        for rank in [1, 2, 17, full / 2, full - 1, full] {
            if (1..=full).contains(&rank) {
                check(&w, n_out, n_in, rank);
            }
        }
    }
}

#[test]
fn matrices_of_low_rank_and_with_equal_rows() {
    let mut rng = seeded();
    for (n_out, n_in) in [(64, 172), (172, 64), (50, 50)] {
        let a = random(&mut rng, n_out, 3);
        let b = random(&mut rng, 3, n_in);
        let w: Vec<f32> = (0..n_out * n_in)
            .map(|at| (0..3).map(|k| a[at / n_in * 3 + k] * b[k * n_in + at % n_in]).sum())
            .collect();
        check(&w, n_out, n_in, 3);
        check(&w, n_out, n_in, 50);
        check(&vec![0.25; n_out * n_in], n_out, n_in, 50);
    }
}

#[test]
fn a_zero_matrix_has_orthonormal_vectors_and_no_error() {
    for (n_out, n_in) in [(5, 40), (40, 5), (8, 8), (1, 1)] {
        let w = vec![0f32; n_out * n_in];
        let svd = check(&w, n_out, n_in, n_out.min(n_in));
        assert_eq!(relative_error(&w, &svd.u, &svd.sigma, &svd.vt), 0.0);
        assert_eq!(energy_kept(&w, &svd.sigma), 1.0);
    }
}

#[test]
fn a_known_spectrum_from_a_millionth_to_one() {
    // Columns of a Hadamard matrix are orthogonal, so scaling them sets the singular values exactly.
    let n = 64usize;
    let hadamard = |i: usize, j: usize| if (i & j).count_ones().is_multiple_of(2) { 1f32 } else { -1.0 };
    let value = |j: usize| 10f32.powf(-6.0 * j as f32 / 63.0);
    let w: Vec<f32> = (0..n * n).map(|at| hadamard(at / n, at % n) * value(at % n) / 8.0).collect();
    let svd = check(&w, n, n, n);
    for (k, s) in svd.sigma.iter().enumerate() {
        assert!((s - value(k)).abs() <= tolerance(n, n) as f32, "sigma {k}: {s} against {}", value(k));
    }
}

#[test]
fn very_large_and_very_small_entries_keep_their_accuracy() {
    let mut rng = seeded();
    let w = random(&mut rng, 96, 30);
    let reference = Svd::new(&w, 96, 30, 30).unwrap();
    for exponent in [-120, -60, 60, 120] {
        let scale = 2f32.powi(exponent);
        let scaled: Vec<f32> = w.iter().map(|x| x * scale).collect();
        let svd = Svd::new(&scaled, 96, 30, 30).unwrap();
        assert_eq!(svd.u, reference.u, "a power of two changes no vector (2^{exponent})");
        let sigma: Vec<f32> = reference.sigma.iter().map(|s| s * scale).collect();
        assert_eq!(svd.sigma, sigma, "2^{exponent}");
    }
    // The same by iteration.
    let w = random(&mut rng, 640, 600);
    let reference = Svd::new(&w, 640, 600, 4).unwrap();
    for exponent in [-100, 100] {
        let scale = 2f32.powi(exponent);
        let scaled: Vec<f32> = w.iter().map(|x| x * scale).collect();
        let svd = Svd::new(&scaled, 640, 600, 4).unwrap();
        assert_eq!((svd.u, svd.vt), (reference.u.clone(), reference.vt.clone()), "2^{exponent}");
        assert_eq!(svd.sigma, reference.sigma.iter().map(|s| s * scale).collect::<Vec<_>>(), "2^{exponent}");
    }
    let error = Svd::new(&[f32::MAX; 16], 4, 4, 4).unwrap_err().to_string();
    assert!(error.contains("range of f32"), "{error}");
    let subnormal = Svd::new(&[1e-40; 16], 4, 4, 4).unwrap();
    assert!((subnormal.sigma[0] / 4e-40 - 1.0).abs() < 1e-4, "{}", subnormal.sigma[0]);
}

#[test]
fn equal_input_gives_equal_bits() {
    let mut rng = seeded();
    for (n_out, n_in, rank) in [(200, 90, 40), (90, 200, 40), (100, 100, 40), (1300, 700, 8), (700, 1300, 8)]
    {
        let w = random(&mut rng, n_out, n_in);
        let with_threads = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Svd::new(&w, n_out, n_in, rank).unwrap())
        };
        let expected = with_threads(1);
        for threads in [1, 2, 3] {
            assert_eq!(with_threads(threads), expected, "{n_out}x{n_in} on {threads} threads");
        }
    }
}

/// Shapes and ranks that are found by iteration; unit tests of the iteration see to that.
const LARGE: [(usize, usize, usize); 4] = [(1200, 800, 16), (800, 1200, 16), (900, 900, 32), (1000, 700, 1)];

/// Everything that must hold of leading terms, whichever way they were found, by f64 arithmetic. Returns the sine of the
/// largest angle between the right vectors' space and the true one.
fn check_leading(w: &[f32], n_out: usize, n_in: usize, rank: usize) -> f64 {
    let svd = Svd::new(w, n_out, n_in, rank).unwrap();
    let label = format!("{n_out}x{n_in} rank {rank}");
    let w64 = Mat::from_fn(n_out, n_in, |i, j| f64::from(w[i * n_in + j]));
    let u = Mat::from_fn(n_out, rank, |i, k| f64::from(svd.u[i * rank + k]));
    let v = Mat::from_fn(n_in, rank, |j, k| f64::from(svd.vt[k * n_in + j]));
    let oracle = w64.thin_svd().expect("the f64 oracle converges");
    let expected: Vec<f64> = oracle.S().column_vector().iter().copied().collect();
    assert!(svd.sigma.windows(2).all(|pair| pair[0] >= pair[1]), "{label}: order");
    for (k, (&s, expected)) in svd.sigma.iter().zip(&expected).enumerate() {
        let off = (f64::from(s) / expected - 1.0).abs();
        assert!(off <= 1e-4, "{label}: sigma {k} is {s}, the oracle says {expected}");
    }
    for (name, q) in [("u", &u), ("v", &v)] {
        let off = (q.transpose() * q - Mat::<f64>::identity(rank, rank)).norm_max();
        assert!(off <= tolerance(n_out, n_in), "{label}: {name} is off orthonormal by {off:e}");
    }
    let scaled = |q: &Mat<f64>| Mat::from_fn(q.nrows(), rank, |i, k| q[(i, k)] * f64::from(svd.sigma[k]));
    let smallest = f64::from(svd.sigma[rank - 1]);
    for (name, residual) in [("W v", &w64 * &v - scaled(&u)), ("Wt u", w64.transpose() * &u - scaled(&v))] {
        let worst = residual.col_iter().map(|column| column.norm_l2()).fold(0.0, f64::max) / smallest;
        assert!(worst <= f64::from(TOLERANCE) * 1.01, "{label}: the residual of {name} is {worst:e}");
    }
    for row in svd.vt.chunks_exact(n_in) {
        let largest = row.iter().fold(0f32, |a, &x| if x.abs() > a.abs() { x } else { a });
        assert!(largest > 0.0, "{label}: sign of a row of Vt");
    }
    let true_v = oracle.V().subcols(0, rank);
    let angle = (&v - true_v * (true_v.transpose() * &v)).singular_values().expect("converges")[0];
    println!(
        "{label}: sine of the largest angle {angle:e}, gap {:e}",
        1.0 - expected[rank] / expected[rank - 1]
    );
    // Wedin: residuals over the gap; both sides of `rank` columns count.
    let gap = 1.0 - expected[rank] / expected[rank - 1];
    let most = f64::from(TOLERANCE) * (2.0 * rank as f64).sqrt() / gap;
    assert!(angle <= most, "{label}: the space is off by {angle:e}, {most:e} are allowed");
    angle
}

#[test]
fn leading_terms_of_large_random_matrices() {
    let mut rng = seeded();
    for (n_out, n_in, rank) in LARGE {
        let w = random(&mut rng, n_out, n_in);
        check_leading(&w, n_out, n_in, rank);
    }
}

/// U·diag(sigma)·Vᵀ with random U and V.
fn with_spectrum(rng: &mut ChaCha8Rng, n_out: usize, n_in: usize, sigma: &[f64]) -> Vec<f32> {
    let mut orthonormal = |rows: usize| {
        let random = random(rng, rows, sigma.len());
        Mat::from_fn(rows, sigma.len(), |i, j| f64::from(random[i * sigma.len() + j])).qr().compute_thin_Q()
    };
    let (u, v) = (orthonormal(n_out), orthonormal(n_in));
    let scaled = Mat::from_fn(n_out, sigma.len(), |i, k| u[(i, k)] * sigma[k]);
    let w = scaled * v.transpose();
    (0..n_out * n_in).map(|at| w[(at / n_in, at % n_in)] as f32).collect()
}

#[test]
fn leading_terms_before_a_gap_span_the_true_space() {
    let mut rng = seeded();
    let n = 700;
    // A few strong directions over a flat rest, as in trained weights.
    let sigma: Vec<f64> =
        (0..n).map(|k| if k < 16 { 30.0 / (1.0 + k as f64) } else { 1.5 - k as f64 / 1000.0 }).collect();
    let w = with_spectrum(&mut rng, 900, n, &sigma);
    let angle = check_leading(&w, 900, n, 16);
    assert!(angle <= 1e-3, "{angle:e}");
}

#[test]
fn no_equal_value_is_missed() {
    let mut rng = seeded();
    let n = 700;
    // More equal values than a block has columns, over a rest that is small or near.
    for rest in [0.0, 0.5, 0.95] {
        let sigma: Vec<f64> = (0..n).map(|k| if k < 100 { 2.0 } else { 2.0 * rest }).collect();
        let w = with_spectrum(&mut rng, n, 900, &sigma);
        for rank in [8, 40] {
            let svd = Svd::new(&w, n, 900, rank).unwrap();
            assert!(svd.sigma.iter().all(|s| (s / 2.0 - 1.0).abs() < 1e-4), "rest {rest}: {:?}", svd.sigma);
        }
    }
}

#[test]
fn a_large_matrix_of_low_rank_or_zeros_is_decomposed() {
    let mut rng = seeded();
    let w = with_spectrum(&mut rng, 800, 600, &[5.0, 3.0, 1.0]);
    let svd = Svd::new(&w, 800, 600, 8).unwrap();
    let expected = [5.0, 3.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    assert!(
        svd.sigma.iter().zip(expected).all(|(s, e): (&f32, f32)| (s - e).abs() < 1e-4),
        "{:?}",
        svd.sigma
    );
    let svd = Svd::new(&vec![0.0; 800 * 600], 800, 600, 8).unwrap();
    assert_eq!(svd.sigma, [0.0; 8]);
    assert_eq!(relative_error(&vec![0.0; 800 * 600], &svd.u, &svd.sigma, &svd.vt), 0.0);
}

#[test]
fn what_is_not_a_matrix_of_numbers_is_an_error() {
    let ok = [1f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    let with = |at: usize, x: f32| {
        let mut w = ok;
        w[at] = x;
        w
    };
    let cases: [(&[f32], usize, usize, usize, &str); 9] = [
        (&[], 0, 0, 1, "0 x 0"),
        (&[], 0, 6, 1, "0 x 6"),
        (&ok, 2, 2, 1, "2 x 2"),
        (&ok, usize::MAX, 2, 1, "found 6 entries"),
        (&ok, 2, 3, 0, "a rank of 1 to 2"),
        (&ok, 2, 3, 3, "a rank of 1 to 2"),
        (&with(4, f32::NAN), 2, 3, 1, "NaN at entry 4"),
        (&with(0, f32::INFINITY), 2, 3, 1, "inf at entry 0"),
        (&with(5, f32::NEG_INFINITY), 2, 3, 1, "-inf at entry 5"),
    ];
    for (w, n_out, n_in, rank, needle) in cases {
        let error = Svd::new(w, n_out, n_in, rank).expect_err(needle).to_string();
        assert!(error.contains(needle), "{error} should say {needle}");
    }
    assert!(Svd::new(&ok, 2, 3, 2).is_ok(), "the good matrix beside the bad ones");
}
