//! Everything random in a run: each draw is a function of the run's seed and of what it is for, so that an
//! interrupted run goes on with the numbers it would have had.

use rand::seq::SliceRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A seed for `purpose`; seeds of different purposes or numbers have nothing to do with each other.
pub fn seed(run: u64, purpose: &str, numbers: &[u64]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&run.to_le_bytes()).update(purpose.as_bytes());
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The items of step `step`, counted from 0: `n` of `n_items` (all, if there are fewer), in an order that is
/// drawn anew for each pass over the items. No pass has an item twice; what is left of a pass that is less
/// than `n` is not used.
pub fn batch(run: u64, step: u64, n_items: usize, n: usize) -> Vec<usize> {
    let n = n.min(n_items).max(1);
    let per_pass = (n_items / n).max(1) as u64;
    let mut order: Vec<usize> = (0..n_items).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed(run, "order", &[step / per_pass])));
    order.into_iter().skip((step % per_pass) as usize * n).take(n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_has_no_item_twice_and_the_next_has_another_order() {
        let pass = |first: u64| (first..first + 3).flat_map(|step| batch(7, step, 10, 3)).collect::<Vec<_>>();
        let (one, two) = (pass(0), pass(3));
        for pass in [&one, &two] {
            let mut sorted = pass.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 9);
        }
        assert_ne!(one, two);
        assert_eq!(batch(7, 4, 10, 3), batch(7, 4, 10, 3));
        assert_ne!(batch(7, 0, 10, 3), batch(8, 0, 10, 3));
        let mut all = batch(7, 5, 4, 32);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    }

    #[test]
    fn seeds_depend_on_everything() {
        let seeds = [seed(1, "a", &[1]), seed(2, "a", &[1]), seed(1, "b", &[1]), seed(1, "a", &[2])];
        for (i, one) in seeds.iter().enumerate() {
            assert!(seeds[i + 1..].iter().all(|other| other != one), "{seeds:?}");
        }
    }
}
