//! How much memory a run may use: what it was given, or what the machine can spare.

use std::fs;

use crate::error::{Error, Result};
use crate::gradient::Budget;

/// Of what the machine can spare, a run takes so much.
const SHARE: f64 = 0.75;
/// What a gradient may use where the machine does not tell what it can spare.
const UNKNOWN: usize = 2 << 30;
/// Logits that contexts make room for once they write, read again and describe: so many for each token of the vocabulary.
const LOGITS: usize = 4 * 512;
/// A gradient's share is a multiple of this, so that chance does not change it.
const STEP: usize = 16 << 20;

/// Bytes from a text such as `512M`, `1.5G` or `2GiB`.
///
/// # Errors
/// Another text, or none at all.
pub fn parse(text: &str) -> Result<usize> {
    let wrong = || Error::expected("a size such as 512M or 2G", format!("'{text}'")).setting("memory");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u32 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let bytes = number * f64::from(unit).exp2();
    if !(bytes >= 1.0 && bytes < (1_u64 << 52) as f64) {
        return Err(wrong());
    }
    Ok(bytes as usize)
}

/// How often the parameters are in memory in the course of a step, at most: in the state and its copy, with both averages and
/// the best so far, as a gradient, as steps of several lengths, and on the way to the checkpoint.
const COPIES: usize = 20;

/// What a gradient may use beside what this process has now, needs to write with a vocabulary of `n_vocab` tokens, and holds
/// of `n_parameters`: of `given`, or of what the machine can spare.
pub fn budget(given: Option<usize>, n_vocab: usize, n_parameters: usize) -> Budget {
    let logits = n_vocab.saturating_mul(LOGITS * size_of::<f32>());
    let writing = logits.saturating_add(n_parameters.saturating_mul(COPIES * size_of::<f32>()));
    let taken = resident().unwrap_or(0).saturating_add(writing);
    let free = match given {
        Some(all) => all.saturating_sub(taken),
        None => spare().map_or(UNKNOWN, |spare| (spare.saturating_sub(writing) as f64 * SHARE) as usize),
    };
    let free = free / STEP * STEP;
    let all = given.unwrap_or(taken + free);
    Budget { all, taken: taken.max(all - free) }
}

/// Bytes of this process in memory, where the system tells.
fn resident() -> Option<usize> {
    kibibytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Bytes that can be used without pushing anything out, of the machine or of the group that this process belongs to.
fn spare() -> Option<usize> {
    let of_machine = kibibytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    let of_group = || -> Option<usize> {
        let limit: usize = fs::read_to_string("/sys/fs/cgroup/memory.max").ok()?.trim().parse().ok()?;
        let statistics = fs::read_to_string("/sys/fs/cgroup/memory.stat").ok()?;
        let anonymous = statistics.lines().find_map(|line| line.strip_prefix("anon "))?;
        Some(limit.saturating_sub(anonymous.trim().parse().ok()?))
    };
    Some(of_group().map_or(of_machine, |of_group| of_machine.min(of_group)))
}

/// The number of KiB after `name` at the beginning of a line, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit() {
        for (text, bytes) in [("512M", 512 << 20), ("2G", 2 << 30), ("1.5GiB", 3 << 29), ("1t", 1 << 40)] {
            assert_eq!(parse(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "2", "G", "-1G", "0G", "nanG", "infG", "1e30T", "2 G", "2K", "2Gx"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("512M"), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_given_is_not_exceeded() {
        let budget = budget(Some(1 << 40), 260, 0);
        assert!(budget.all == 1 << 40 && budget.taken > 0 && budget.free().is_multiple_of(STEP));
        let little = super::budget(Some(1), 260, 0);
        assert!(little.free() == 0 && little.taken > 1 << 20);
        assert!(super::budget(Some(1), 260, 1 << 20).taken >= little.taken / 2 + (80 << 20));
        assert!(super::budget(None, 260, 0).free() > 0);
        assert_eq!(kibibytes("VmHWM:\t  12 kB\nVmRSS:\t    345 kB\n", "VmRSS:"), Some(345 << 10));
        assert_eq!(kibibytes("VmRSS: many", "VmRSS:"), None);
    }
}
