//! The CUDA kernels' logic against float64, and broken copies of them that must be caught.

use std::path::{Path, PathBuf};

use crate::compiler::{clang, edited, folder, here, with_shared_arrays, Clang, Program};

/// Exit codes of `cuda_op.cpp`, of the sanitizers, and of the harness.
const DEPENDS_ON_ORDER: i32 = 4;
const WRONG: i32 = 5;
const SANITIZER: i32 = 1;
const DIVERGENCE: i32 = 3;

/// One change of a kernel's text: in file, from, to.
type Edit<'a> = (&'a str, &'a str, &'a str);

/// Writes the kernels for the harness, and the driver, into the folder of `test`.
fn prepare(test: &str, edits: &[Edit<'_>]) -> PathBuf {
    let folder = folder(test);
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/cuda");
    std::fs::create_dir(folder.join("cuda")).expect("a writable folder");
    // The driver chooses between one row at a time and several. Unrolled loops compile slowly and do the same.
    let threshold =
        ("few_tokens.cuh", "constexpr int64_t FULL_GPU = 1 << 16;", "const int64_t FULL_GPU = full_gpu;");
    let unroll =
        regex::Regex::new(r"(?m)^(#pragma unroll|    constexpr int UNROLL).*$").expect("a valid expression");
    for file in ["factor.cuh", "few_tokens.cuh", "many_tokens.cuh"] {
        let mut text = std::fs::read_to_string(kernels.join(file)).expect("a readable kernel");
        for (_, from, to) in edits.iter().chain([&threshold]).filter(|edit| edit.0 == file) {
            text = edited(&text, from, to);
        }
        let text = with_shared_arrays(&unroll.replace_all(&text, ""), "__shared__");
        std::fs::write(folder.join("cuda").join(file), text).expect("a writable folder");
    }
    std::fs::write(folder.join("cuda/launch.cuh"), "#include \"cuda_shim.h\"\n").expect("a writable folder");
    let driver = folder.join("cuda_op.cpp");
    std::fs::copy(here().join("cuda_op.cpp"), &driver).expect("a readable driver");
    driver
}

fn compile(clang: &Clang, driver: &Path, flags: &[&str]) -> Program {
    let include = format!("-I{}", driver.parent().expect("a file in a folder").display());
    let flags = [flags, &[include.as_str()]].concat();
    clang.compile(driver, &flags).unwrap_or_else(|words| panic!("it does not compile:\n{words}"))
}

/// Blocks for eight tokens only, which compiles sooner.
const ONE_SIZE: Edit<'_> = (
    "few_tokens.cuh",
    "    if (n_tokens == 1) {",
    "    if constexpr (true) {\n        with_tokens(constant<TOKENS>());\n    } else if (n_tokens == 1) {",
);
/// Several rows at a time only.
const SEVERAL_ROWS: Edit<'_> = ("few_tokens.cuh", "if (g.several_rows) {", "if constexpr (sizeof(g) > 0) {");

fn assert_right(test: &str, edits: &[Edit<'_>], flags: &[&str]) {
    let Some(clang) = clang(test) else { return };
    let output = compile(clang, &prepare(test, edits), flags).run(&[]);
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn f16_agrees_with_float64_in_every_order_of_threads_and_size_of_block() {
    assert_right("cuda-f16", &[], &["-DF16_ONLY"]);
}

#[test]
fn other_types_agree_with_float64_in_every_order_of_threads() {
    assert_right("cuda-types", &[ONE_SIZE], &[]);
}

#[test]
fn broken_kernels_are_caught() {
    let Some(clang) = clang("broken cuda kernels") else { return };
    let mistakes: [(&str, i32, Edit<'_>); 6] = [
        (
            "no barrier before partial sums are added",
            WRONG,
            ("few_tokens.cuh", "        }\n    }\n    __syncthreads();\n}", "        }\n    }\n}"),
        ),
        (
            "no barrier before the flags are read",
            DEPENDS_ON_ORDER,
            (
                "few_tokens.cuh",
                "    __syncthreads();\n    if (thread == 0) {\n        *active",
                "    if (thread == 0) {\n        *active",
            ),
        ),
        (
            "a barrier that part of a block skips",
            DIVERGENCE,
            ("few_tokens.cuh", "if (mask != 0) {", "if (mask != 0 && threadIdx.y == 0) {"),
        ),
        ("rows beyond the last", SANITIZER, ("few_tokens.cuh", "min(row0 + i, w.n_rows - 1)", "(row0 + i)")),
        (
            "loads of 16 bytes from any address",
            SANITIZER,
            ("few_tokens.cuh", "if (w.aligned && x.aligned) {", "if (w.n > 0) {"),
        ),
        (
            "elements after the last whole group left out",
            WRONG,
            ("few_tokens.cuh", "int k = n_groups * GROUP + threadIdx.x;", "int k = n;"),
        ),
    ];
    for (mistake, code, edit) in mistakes {
        let driver = prepare("cuda-broken", &[edit, ONE_SIZE, SEVERAL_ROWS]);
        let output = compile(clang, &driver, &["-DF16_ONLY", "-O0"]).run(&[]);
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{mistake}: {words}");
    }
}
