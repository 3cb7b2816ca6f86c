//! Values swapped for odd ones, key by key, and two keys at a time.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::harness::{model, try_all, Case, Expect};
use crate::keys::ABSENT;
use crate::values::odd_values;

/// Of the more than eight thousand files with one odd value, as many as take half a minute on two cores.
const ONE_AT_A_TIME: usize = 2200;
const TWO_AT_A_TIME: usize = 400;

#[test]
fn odd_metadata_end_no_process() {
    let Some(model) = model() else { return };
    let seed = 60;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = odd_values();
    let keys: Vec<_> = model.metadata.iter().map(|(key, _)| key.as_str()).chain(ABSENT).collect();
    let mut cases = Vec::new();
    for &key in &keys {
        for (name, value) in &values {
            let make = || model.with(key, value.clone()).encode();
            cases.push(Case::new(format!("{key} = {name}"), make));
        }
    }
    cases.shuffle(&mut rng);
    // All of them: LLAMA_SVF_FUZZ=all cargo test --release --test models
    if std::env::var_os("LLAMA_SVF_FUZZ").is_none() {
        cases.truncate(ONE_AT_A_TIME);
    }
    for &key in &keys {
        cases.push(Case::new(format!("without {key}"), || model.without(key).encode()));
    }
    for _ in 0..TWO_AT_A_TIME {
        let two: Vec<_> = keys.choose_multiple(&mut rng, 2).copied().collect();
        let (first, second) = (values.choose(&mut rng).unwrap(), values.choose(&mut rng).unwrap());
        let name = format!("{} = {}, {} = {}", two[0], first.0, two[1], second.0);
        let model = &model;
        let make = move || model.with(two[0], first.1.clone()).with(two[1], second.1.clone()).encode();
        cases.push(Case::new(name, make));
    }
    assert!(cases.len() >= 2000);
    try_all(&cases, &Expect { answered: 0.1, refused: 0.3, assertions: false });
}
