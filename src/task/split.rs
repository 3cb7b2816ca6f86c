//! Splits: which items train, which validate, which test.
//!
//! Items are ordered by a hash of the seed and their prompt, so that an item's place does not depend on
//! where it stands in a file, and then cut into parts. Nothing is drawn twice, because no prompt occurs twice.

use super::file::Split;
use super::{Item, Parts};
use crate::error::{Error, Result};

/// Names the place of a key of the task file in an error.
type Blame<'a> = &'a dyn Fn(&str, Error) -> Error;

/// Cuts `items`, whose prompts all differ, into parts.
///
/// # Errors
/// The shares are not numbers that fit the items, or a part that was asked for would be empty; the error
/// names the key below `split`.
pub fn split(mut items: Vec<Item>, shares: &Split, blame: Blame) -> Result<Parts> {
    items.sort_by_cached_key(|item| key(shares.seed, &item.prompt));
    let total = items.len();
    let n_train = count(shares.train, total, "train", blame)?;
    let n_validation = count(shares.validation, total, "validation", blame)?;
    let rest = total.saturating_sub(n_train + n_validation);
    let n_test = match shares.test {
        Some(share) => count(share, total, "test", blame)?,
        None => rest,
    };
    if n_train + n_validation + n_test > total {
        let expected = format!("shares of at most {total} items together");
        return Err(blame("split", Error::expected(expected, n_train + n_validation + n_test)));
    }
    if shares.test.is_none() && n_test == 0 {
        return Err(blame("split", empty("test", total)));
    }
    items.truncate(n_train + n_validation + n_test);
    let test = items.split_off(n_train + n_validation);
    let validation = items.split_off(n_train);
    Ok(Parts { train: items, validation, test })
}

fn key(seed: u64, prompt: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(prompt.as_bytes());
    *hasher.finalize().as_bytes()
}

/// The items of a share: below 1 a fraction, rounded, from 1 on a count.
pub fn count(share: f64, total: usize, part: &str, blame: Blame) -> Result<usize> {
    let blame = |error| blame(&format!("split.{part}"), error);
    if !share.is_finite() || share < 0.0 || share >= 1.0 && share.fract() != 0.0 {
        return Err(blame(Error::expected("a fraction below 1 or a whole number", share)));
    }
    let count = if share < 1.0 { (share * total as f64).round() as usize } else { share as usize };
    if count > total {
        return Err(blame(Error::expected(format!("at most {total} items"), count)));
    }
    if count == 0 && share > 0.0 {
        return Err(blame(empty(part, total)));
    }
    Ok(count)
}

fn empty(part: &str, total: usize) -> Error {
    Error::invalid(format!("empty split: no item of {total} is left for {part}"))
        .hint("give other shares, or more data")
}
