//! Parametrisations and the optimiser against float64.

use llama_svf::expert::Multipliers;
use llama_svf::optimiser::{AdamW, AdamWOptions};
use llama_svf::train::{Parametrisation, Weight};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SEED: u64 = 17;

/// mᵢ = sᵢ·Σσ/Σ(σs), s = sigmoid(z), as the released code has it, in f64.
fn reference(z: &[f64], sigma: &[f64]) -> Vec<f64> {
    let s: Vec<_> = z.iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect();
    let total: f64 = sigma.iter().sum();
    let scaled: f64 = sigma.iter().zip(&s).map(|(sigma, s)| sigma * s).sum();
    s.iter().map(|s| s * total / scaled).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

/// Weights with these σ.
fn beside(sigma: impl IntoIterator<Item = Vec<f32>>) -> Vec<Weight> {
    sigma.into_iter().map(|sigma| Weight { n_in: sigma.len(), n_out: sigma.len(), sigma }).collect()
}

/// Two weights, z, and some dJ/dm.
fn case() -> (Vec<Weight>, Multipliers, Multipliers) {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    println!("seed {SEED}");
    let mut draw = |low: f32, high: f32| -> Vec<Vec<f32>> {
        [5, 12].iter().map(|&n| (0..n).map(|_| rng.random_range(low..high)).collect()).collect()
    };
    (beside(draw(0.1, 9.0)), draw(-2.0, 2.0).iter().collect(), draw(-1.0, 1.0).iter().collect())
}

#[test]
fn the_chain_rule_agrees_with_central_differences() {
    let (weights, z, g) = case();
    let chained = Parametrisation::Reference.chain(&z, &weights, &g);
    let m = Parametrisation::Reference.parameters(&z, &weights);
    for (w, weight) in weights.iter().enumerate() {
        let (z, g, sigma) = (wide(z.weight(w)), wide(g.weight(w)), wide(&weight.sigma));
        for (found, expected) in m.weight(w).iter().zip(reference(&z, &sigma)) {
            assert!((f64::from(*found) - expected).abs() <= 1e-6 * expected.abs(), "{found} {expected}");
        }
        let j = |z: &[f64]| reference(z, &sigma).iter().zip(&g).map(|(m, g)| m * g).sum::<f64>();
        let h = 1e-5;
        let (mut difference, mut size) = (0.0, 0.0);
        for i in 0..z.len() {
            let (mut up, mut down) = (z.clone(), z.clone());
            up[i] += h;
            down[i] -= h;
            let expected = (j(&up) - j(&down)) / (2.0 * h);
            difference += (f64::from(chained.weight(w)[i]) - expected).powi(2);
            size += expected.powi(2);
        }
        // Rounding to f32, and h² of the difference quotient.
        assert!((difference / size).sqrt() <= 1e-6, "weight {w}: {}", (difference / size).sqrt());
    }
    assert_eq!(Parametrisation::Multiplier.chain(&z, &weights, &g), g);
    assert_eq!(Parametrisation::Multiplier.parameters(&z, &weights), z);
}

#[test]
fn the_reference_keeps_the_sum_of_singular_values() {
    let (weights, z, _) = case();
    let m = Parametrisation::Reference.parameters(&z, &weights);
    for (m, weight) in m.iter().zip(&weights) {
        let sum = |m: &[f64]| wide(&weight.sigma).iter().zip(m).map(|(sigma, m)| sigma * m).sum::<f64>();
        let expected = sum(&vec![1.0; weight.sigma.len()]);
        assert!((sum(&wide(m)) / expected - 1.0).abs() <= 1e-6);
    }
    // A constant z of any value changes nothing.
    for value in [-7.0, 0.1, 30.0] {
        let m = Parametrisation::Reference.parameters(&Multipliers::filled([5, 12], value), &weights);
        assert!(m.flat().iter().all(|m| (m - 1.0).abs() <= 1e-6), "{value}: {m:?}");
    }
    // A weight of zeros has no direction to go in, and stays finite.
    let zeros = beside([vec![0.0; 3]]);
    let z: Multipliers = [[0.5f32, 0.1, -0.2]].iter().collect();
    Parametrisation::Reference.parameters(&z, &zeros).check_finite("m").unwrap();
    Parametrisation::Reference.chain(&z, &zeros, &z).check_finite("the gradient").unwrap();
}

#[test]
fn beginnings_are_those_of_the_released_code() {
    let weights = beside([vec![1.0; 4000], vec![1.0; 6000]]);
    let first = Parametrisation::Reference.initial(&weights, SEED);
    let z = first.flat();
    let mean = wide(z).iter().sum::<f64>() / z.len() as f64;
    let deviation = (wide(z).iter().map(|z| (z - mean).powi(2)).sum::<f64>() / z.len() as f64).sqrt();
    // Four standard errors of 10000 draws.
    assert!((mean - 0.1).abs() <= 4.0 * 0.01 / 100.0, "seed {SEED}: {mean}");
    assert!((deviation - 0.01).abs() <= 4.0 * 0.01 / 20_000f64.sqrt(), "seed {SEED}: {deviation}");
    assert_eq!(Parametrisation::Reference.initial(&weights, SEED), first, "a seed gives one beginning");
    assert!(Parametrisation::Multiplier.initial(&weights, SEED).flat().iter().all(|&m| m == 1.0));
}

/// A as peft draws it, B of zeros, so that the LoRA begins as the base model.
#[test]
fn a_lora_begins_as_the_base_model() {
    println!("seed {SEED}");
    let lora = Parametrisation::Lora { rank: 8 };
    let weights = [(400, 100), (25, 900)].map(|(n_in, n_out)| Weight {
        n_in,
        n_out,
        sigma: vec![1.0; n_in.min(n_out)],
    });
    let first = lora.initial(&weights, SEED);
    assert_eq!(lora.lengths(&weights), first.ranks().collect::<Vec<_>>());
    for (parameters, Weight { n_in, n_out, .. }) in first.iter().zip(&weights) {
        let (a, b) = parameters.split_at(8 * n_in);
        assert!(b.len() == 8 * n_out && b.iter().all(|&b| b == 0.0));
        let bound = 1.0 / (*n_in as f64).sqrt();
        let square = wide(a).iter().map(|a| a * a).sum::<f64>() / a.len() as f64;
        assert!(wide(a).iter().all(|a| a.abs() <= bound * 1.000_001), "{bound}");
        // That of a uniform distribution, within four standard errors of these draws.
        let expected = bound * bound / 3.0;
        assert!((square / expected - 1.0).abs() < 4.0 * (0.8 / a.len() as f64).sqrt(), "{square} {expected}");
    }
    assert_eq!(lora.initial(&weights, SEED), first, "a seed gives one beginning");
    assert_ne!(lora.initial(&weights, SEED + 1), first);
    assert_eq!(lora.moved(&first, &first), 0.0);
    // What is trained is what the model computes with.
    assert_eq!(lora.parameters(&first, &weights), first);
    assert_eq!(lora.chain(&first, &weights, &first), first);
}

#[test]
fn adamw_follows_its_formulas() {
    println!("seed {SEED}");
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let n = 7;
    let mut random = || (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<_>>();
    let initial = random();
    let options = AdamWOptions { decay: 0.05, ..AdamWOptions::default() };
    let mut adam = AdamW::new(n, options);
    let mut x = initial.clone();
    let (mut exact, mut first, mut second) = (wide(&initial), vec![0.0; n], vec![0.0; n]);
    for t in 1..=60 {
        let (gradient, rate) = (random(), 0.01 / f64::from(t));
        adam.step(&mut x, &initial, &gradient, rate);
        for i in 0..n {
            let g = f64::from(gradient[i]);
            first[i] = 0.9 * first[i] + 0.1 * g;
            second[i] = 0.999 * second[i] + 0.001 * g * g;
            let (a, v) = (first[i] / (1.0 - 0.9f64.powi(t)), second[i] / (1.0 - 0.999f64.powi(t)));
            exact[i] += rate * (a / (v.sqrt() + 1e-8) - 0.05 * (exact[i] - f64::from(initial[i])));
        }
    }
    for (found, expected) in x.iter().zip(&exact) {
        // The state is kept in f32: 60 roundings.
        assert!((f64::from(*found) - expected).abs() <= 60.0 * 1.2e-7, "{found} {expected}");
    }
}
