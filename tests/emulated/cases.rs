//! Cases of svf_mul_mat as a file, for programs that run emulated kernels (`metal/run.cpp` gives the format).

use std::path::Path;

use llama_svf::ffi::op::Arguments;

/// Elements between the rows of x beyond their length, so that kernels must mind the stride.
const GAP: usize = 3;

/// Writes `cases` to `path`.
pub fn write(path: &Path, cases: &[Arguments]) {
    let mut bytes = Vec::new();
    for case in cases {
        let n_slots = case.s.len() / case.rank;
        let n_tokens = case.ids.len();
        let stride = case.n_in + GAP;
        for number in [
            case.n_in,
            case.n_out,
            case.rank,
            n_tokens,
            n_slots,
            case.vt.0.id() as usize,
            case.u.0.id() as usize,
            usize::from(case.base.is_some()),
            stride,
        ] {
            bytes.extend((number as i64).to_le_bytes());
        }
        bytes.extend(&case.vt.1);
        bytes.extend(&case.u.1);
        bytes.extend(case.s.iter().flat_map(|value| value.to_le_bytes()));
        bytes.extend(case.ids.iter().flat_map(|value| value.to_le_bytes()));
        for (token, row) in case.x.chunks_exact(case.n_in).enumerate() {
            bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
            if token + 1 < n_tokens {
                bytes.extend([0xff; GAP * 4]);
            }
        }
        let base = case.base.as_deref().unwrap_or_default();
        bytes.extend(base.iter().flat_map(|value| value.to_le_bytes()));
    }
    std::fs::write(path, bytes).expect("a writable folder");
}

/// Reads the result [n_out, T] of each case.
pub fn read_results(path: &Path, cases: &[Arguments]) -> Vec<Vec<f32>> {
    let bytes = std::fs::read(path).expect("the program wrote its results");
    let mut values = bytes.chunks_exact(4).map(|raw| f32::from_le_bytes(raw.try_into().expect("four bytes")));
    let results: Vec<Vec<f32>> =
        cases.iter().map(|case| values.by_ref().take(case.n_out * case.ids.len()).collect()).collect();
    assert_eq!(values.next(), None, "more results than cases");
    results
}
