//! Random draws that are the same on every machine: integers only, taken from ChaCha8 in a fixed order.

use rand_chacha::rand_core::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of draws that is a function of what it was named.
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// The stream of item `index` in the world `domain` under `seed`.
    pub fn new(domain: &str, seed: u64, index: u64) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(&seed.to_le_bytes()).update(&index.to_le_bytes()).update(domain.as_bytes());
        Self(ChaCha8Rng::from_seed(*hash.finalize().as_bytes()))
    }

    /// A whole number from 0 to `n` - 1, for `n` > 0. Its bias is below n/2³².
    pub fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(n)) >> 32) as u32
    }

    /// A whole number from `low` to `high`, both included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + i64::from(self.below((high - low + 1) as u32))
    }

    /// True in `percent` of 100 draws.
    pub fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u32) as usize]
    }

    /// `k` different ones of `choices`, in random order.
    pub fn several<T: Copy>(&mut self, choices: &[T], k: usize) -> Vec<T> {
        let mut pool = choices.to_vec();
        self.shuffle(&mut pool);
        pool.truncate(k);
        pool
    }

    /// Puts `items` into random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u32 + 1) as usize);
        }
    }
}
