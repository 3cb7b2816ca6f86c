//! Files that claim to be models of every other architecture.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::gguf_edit::{Value, BOOL, F32, U32};
use crate::harness::{model, try_all, Case, Expect};
use crate::keys::{ARCHITECTURES, KEYS};

#[test]
fn architectures_of_other_models_end_no_process() {
    let Some(model) = model() else { return };
    let seed = 61;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut cases = Vec::new();
    for architecture in ARCHITECTURES {
        let mut renamed = model.with("general.architecture", Value::str(architecture));
        for (key, _) in &mut renamed.metadata {
            if let Some(rest) = key.strip_prefix("llama.") {
                *key = format!("{architecture}.{rest}");
            }
        }
        cases.push(Case::new(architecture.into(), {
            let file = renamed.clone();
            move || file.encode()
        }));
        for i in 0..2 {
            let mut file = renamed.clone();
            for (key, ty) in KEYS {
                let value = match ty {
                    // The first time around all is small and sound.
                    U32 if i == 0 => Value::u32(2),
                    U32 => Value::u32([0, 1, 2, 3, 4, 5, 8, 16, 64, 100_000][rng.random_range(0..10)]),
                    F32 if i == 0 => Value::f32(1.0),
                    F32 => Value::f32([0.0, 1.0, -1.0, 1e-6, 1e6][rng.random_range(0..5)]),
                    BOOL => Value::bool(rng.random()),
                    _ => unreachable!("type {ty}"),
                };
                if i < 1 || rng.random_ratio(2, 3) {
                    file = file.with(&format!("{architecture}.{key}"), value);
                }
            }
            cases.push(Case::new(format!("{architecture}, all keys, {i}"), move || file.encode()));
        }
    }
    try_all(&cases, &Expect { answered: 0.0, refused: 0.5, assertions: true });
}
