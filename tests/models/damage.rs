//! Bits flipped, and ends cut off.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::harness::{model, try_all, Case, Expect};

#[test]
fn damaged_models_end_no_process() {
    let Some(model) = model() else { return };
    let seed = 62;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let whole = model.encode();
    let header = model.header().len();
    let mut cases = Vec::new();
    for i in 0..1000 {
        // Most bytes are data: aim at the header, mostly with a single flip.
        let within = if i % 5 == 0 { whole.len() } else { header };
        let n_flips = if i % 3 == 0 { rng.random_range(2..5) } else { 1 };
        let flips: Vec<_> =
            (0..n_flips).map(|_| (rng.random_range(0..within), rng.random_range(0..8))).collect();
        let whole = &whole;
        cases.push(Case::new(format!("flipped (byte, bit) {flips:?}"), move || {
            let mut bytes = whole.clone();
            flips.iter().for_each(|&(at, bit)| bytes[at] ^= 1 << bit);
            bytes
        }));
    }
    for i in 0..100 {
        let length = if i % 2 == 0 { rng.random_range(0..header) } else { rng.random_range(0..whole.len()) };
        cases.push(Case::new(format!("cut to {length} bytes"), {
            let whole = &whole;
            move || whole[..length].to_vec()
        }));
    }
    try_all(&cases, &Expect { answered: 0.1, refused: 0.1, assertions: false });
}
