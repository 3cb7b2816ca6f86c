//! The op against its definition: fused, composed and the plain loops against a float64 computation over
//! a grid of shapes, types, threads and slots; on the CPU closely, and on every device there is.

use llama_svf::ffi::device::{backends, Device};
use llama_svf::ffi::op::{Arguments, Kernel, OpGraph};
use llama_svf::ffi::tensor_type::TensorType;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[path = "support/op_cases.rs"]
mod op_cases;
use op_cases::{arguments, error, nmse, nmse_bound, oracle, tolerance, Shape, EPS, ROUNDING_16, ROUNDING_8};

fn run(arguments: &Arguments, kernel: Kernel, n_threads: usize) -> Vec<f32> {
    let mut graph = OpGraph::new(arguments, kernel, n_threads, 1).expect("valid arguments");
    graph.compute().expect("the op computes");
    graph.output()
}

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

/// Backends that have a fused kernel, by ggml's names (`MTL` is Metal), and the types that each must take.
const FUSED: [(&str, &[TensorType]); 3] = [
    ("CPU", &[TensorType::F32, TensorType::F16, TensorType::Q8_0]),
    ("CUDA", &[TensorType::F32, TensorType::F16, TensorType::Q8_0]),
    ("MTL", &[TensorType::F32, TensorType::F16, TensorType::Q8_0]),
];

/// Backends that llama-svf can be built with.
const BACKENDS: [&str; 4] = ["CPU", "CUDA", "MTL", "Vulkan"];

/// Relative standard deviation of the products of an activation that is rounded to `bits` of mantissa.
fn rounded_to(bits: i32) -> f64 {
    2f64.powi(-bits - 1) / 3f64.sqrt()
}

/// Standard deviation of an error relative to `op_cases::spread`, where rounding errors are independent (Higham and
/// Mary, A new approach to probabilistic rounding error analysis, 2019): sums grow with the root of their lengths.
fn relative_error(device: Device, kernel: Kernel, shape: &Shape, arguments: &Arguments) -> f64 {
    // What a backend's own products round activations to, by the type of the factor. Of 8 or 16 bits for all numbers
    // of a block, numbers of half the largest have a bit less, and so on.
    let of_type = |ty: TensorType| match ty {
        TensorType::Q8_0 => rounded_to(5),
        TensorType::BF16 => rounded_to(8),
        // GPUs may multiply F32 in TF32, which has the mantissa of F16, and cut both numbers off.
        TensorType::F32 if device.is_cpu() => 0.0,
        TensorType::F32 => rounded_to(10),
        _ => rounded_to(11),
    };
    let own_products = of_type(arguments.vt.0).max(of_type(arguments.u.0));
    let rounding = match (kernel, device.backend().as_str()) {
        (Kernel::Composed, _) => own_products,
        (_, "CPU") if arguments.vt.0 == TensorType::Q8_0 || arguments.u.0 == TensorType::Q8_0 => {
            rounded_to(13)
        }
        // The CUDA backend multiplies more than a few tokens with its own products.
        (_, "CUDA") if arguments.ids.len() > 16 => own_products,
        _ => 0.0,
    };
    rounding + ((shape.n_in + shape.rank) as f64).sqrt() * EPS
}

#[test]
fn every_device_agrees_with_float64() {
    let seed = 20251126;
    println!("seed {seed}");
    let devices = Device::all();
    let built_in = backends();
    for backend in BACKENDS {
        if !built_in.iter().any(|name| name == backend) {
            println!("{backend}: not in this build");
        } else if !devices.iter().any(|device| device.backend() == backend) {
            println!("{backend}: no device");
        }
    }
    for device in devices {
        agrees_with_float64(device, &mut ChaCha8Rng::seed_from_u64(seed));
    }
}

fn agrees_with_float64(device: Device, rng: &mut ChaCha8Rng) {
    let name = format!("{} ({})", device.name(), device.backend());
    let shapes = [(64, 172, 64), (172, 64, 64), (96, 65, 7), (128, 128, 33), (320, 200, 150), (1200, 96, 64)];
    let types = [TensorType::F32, TensorType::F16, TensorType::BF16, TensorType::Q8_0];
    let lengths: Vec<usize> = (1..=17).chain([32, 33, 512]).collect();
    for kernel in [Kernel::Fused, Kernel::Composed] {
        for ty in types {
            let (mut n_cases, mut unsupported, mut worst) = (0, 0, 0f64);
            for (i, (&n_tokens, residual)) in lengths.iter().flat_map(|n| [(n, true), (n, false)]).enumerate()
            {
                let (n_in, n_out, rank) = shapes[i / 2 % shapes.len()];
                let n_slots = [1, 2, 9, 64][rng.random_range(0..4)];
                let shape = Shape { n_in, n_out, rank, n_tokens, n_slots };
                let mut arguments = arguments(rng, &shape, ty, residual);
                if let Some(base) = &mut arguments.base {
                    // Only a copy keeps it.
                    base[0] = -0.0;
                    arguments.ids[0] = 0;
                }
                let case = format!(
                    "{name} {kernel:?} {n_in}x{n_out} r{rank} T{n_tokens} slots {n_slots} {ty} residual {residual}"
                );
                let graph = OpGraph::on(device, &arguments, kernel, 2, 1).expect("valid arguments");
                let Some(mut graph) = graph else {
                    unsupported += 1;
                    continue;
                };
                graph.compute().expect("the op computes");
                let y = graph.output();
                let oracle = oracle(&arguments);
                let relative = relative_error(device, kernel, &shape, &arguments);
                let (nmse, bound) = (nmse(&case, &y, &oracle), nmse_bound(relative, &arguments, &oracle));
                assert!(nmse <= bound, "{case}: NMSE {nmse:e} > {bound:e}");
                worst = worst.max(nmse / bound);
                n_cases += 1;
                if let (Some(base), Kernel::Fused) = (&arguments.base, kernel) {
                    for (token, _) in arguments.ids.iter().enumerate().filter(|(_, &slot)| slot == 0) {
                        let row = token * n_out..(token + 1) * n_out;
                        let bits = |values: &[f32]| values.iter().map(|y| y.to_bits()).collect::<Vec<_>>();
                        assert_eq!(
                            bits(&y[row.clone()]),
                            bits(&base[row]),
                            "{case}: token {token} of slot 0"
                        );
                    }
                }
            }
            println!(
                "{name} {kernel:?} {ty}: {n_cases} cases agree, the worst at {worst:.3} of its bound; {unsupported} \
                 not supported"
            );
            let backend = device.backend();
            if kernel == Kernel::Fused && FUSED.iter().any(|(b, types)| *b == backend && types.contains(&ty))
            {
                assert_eq!(unsupported, 0, "{name} has a fused kernel for {ty}");
            }
        }
    }
}
