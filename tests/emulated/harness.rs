//! The harness catches what it is there for.

use crate::compiler::{clang, folder, here};

/// Exit code of a program whose result depends on the order of threads, see `selftest.cpp`.
const DEPENDS_ON_ORDER: i32 = 4;

#[test]
fn each_mistake_is_caught_and_none_is_invented() {
    let Some(clang) = clang("harness") else { return };
    let source = folder("harness").join("selftest.cpp");
    std::fs::copy(here().join("selftest.cpp"), &source).expect("a readable source");
    let program = clang.compile(&source, &[]).expect("it compiles");
    for (mistake, code, said) in [
        ("none", 0, ""),
        ("no barrier", DEPENDS_ON_ORDER, ""),
        ("divergent barrier", 3, "divergence"),
        ("divergent lanes", 3, "divergence"),
        ("ended", 3, "has ended"),
        ("out of bounds", 1, "out of bounds"),
        ("out of dynamic bounds", 1, "heap-buffer-overflow"),
    ] {
        let output = program.run(&[mistake]);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{mistake}: {words}");
        assert!(words.contains(said), "{mistake}: {words}");
    }
}
