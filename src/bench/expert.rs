//! Random experts, equal for equal seeds.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use crate::expert::Expert;
use crate::sidecar::Sidecar;

/// Standard deviation of m around 1; trained experts are of this order.
const DEVIATION: f32 = 0.1;

/// m = 1 + 0.1·N(0, 1) for every weight of `sidecar`; `stream` tells the experts of one seed apart.
pub(super) fn random(name: &str, sidecar: &Sidecar, seed: u64, stream: u32) -> Expert {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(stream));
    let normal = Normal::new(1.0, DEVIATION).expect("the deviation is a positive constant");
    let mut expert = Expert::identity(name, sidecar);
    "random, to measure speed".clone_into(&mut expert.description);
    for m in expert.multipliers.values_mut().flatten() {
        *m = normal.sample(&mut rng);
    }
    expert
}
