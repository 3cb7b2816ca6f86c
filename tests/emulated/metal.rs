//! The Metal kernels: as the host's code encodes them, against float64; and broken ones, which must be caught.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use llama_svf::ffi::op::Arguments;
use llama_svf::ffi::tensor_type::TensorType;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use regex::Regex;

use crate::cases;
use crate::compiler::{clang, edited, folder, here, with_shared_arrays, Clang, Program};
use crate::op_cases::{arguments, error, oracle, tolerance, Shape};

/// ggml with our patches in it.
fn ggml() -> PathBuf {
    Path::new(env!("LLAMA_SVF_LLAMA")).join("build/svf/llama.cpp/ggml")
}

/// The kernels as ggml-metal compiles them, with the host's header inside.
fn kernels() -> String {
    let path = ggml().join("src/ggml-metal/kernels/svf_mul_mat.metal");
    std::fs::read_to_string(path).expect("inject.cmake puts it there")
}

/// Made ready to run: attributes of arguments become their types, kernels are registered by their host names.
fn runnable(kernels: &str) -> String {
    let host_name =
        Regex::new(r#"template\s*\[\[host_name\("(\w+)"\)\]\]\s*kernel\s+\w+\s+([^;]+);"#).expect("valid");
    let attribute = Regex::new(r"\w+\s+(\w+)\s*\[\[(\w+)\]\]").expect("valid");
    let kernels = host_name.replace_all(
        kernels,
        r#"[[maybe_unused]] static const bool has_$1 = ::emulated::register_kernel("$1", $2);"#,
    );
    with_shared_arrays(&attribute.replace_all(&kernels, "$2 $1"), "threadgroup")
}

/// Made ready for a look at address spaces only, behind what ggml-metal puts before every kernel.
fn with_address_spaces(kernels: &str) -> String {
    let attribute = Regex::new(r"\[\[[^\]]*\]\]").expect("valid");
    let array = Regex::new(r"\bthreadgroup(\s+\w+\s+\w+\[)").expect("valid");
    let kernels = attribute.replace_all(kernels, "");
    let kernels = array.replace_all(&kernels, "static threadgroup$1");
    format!("#include <metal_stdlib>\n#include \"common.h\"\n{kernels}")
}

fn check_address_spaces(clang: &Clang, folder: &Path, kernels: &str) -> Result<(), String> {
    let source = folder.join("spaces.cpp");
    std::fs::write(&source, with_address_spaces(kernels)).expect("a writable folder");
    let metal = ggml().join("src/ggml-metal");
    let folders = [here().join("metal"), metal.join("kernels"), metal].map(|folder| text(&folder));
    let mut flags = vec!["-DEMULATED_ADDRESS_SPACES"];
    flags.extend(folders.iter().flat_map(|folder| ["-I", folder]));
    clang.check(&source, &flags)
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn compile(clang: &Clang, folder: &Path, kernels: &str, optimisation: &str) -> Program {
    std::fs::write(folder.join("kernel.metal"), runnable(kernels)).expect("a writable folder");
    let source = folder.join("run.cpp");
    std::fs::copy(here().join("metal/run.cpp"), &source).expect("a readable source");
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let folders =
        [folder.into(), here().join("metal"), ours, ggml().join("include"), ggml().join("src/ggml-metal")];
    let folders = folders.map(|folder: PathBuf| text(&folder));
    let mut flags: Vec<&str> = folders.iter().flat_map(|folder| ["-I", folder]).collect();
    flags.push(optimisation);
    clang.compile(&source, &flags).unwrap_or_else(|words| panic!("{words}"))
}

/// The kernels as they are.
fn sound(clang: &Clang) -> &'static Program {
    static SOUND: OnceLock<Program> = OnceLock::new();
    SOUND.get_or_init(|| compile(clang, &folder("metal"), &kernels(), "-O1"))
}

/// Exit code and words of `program`, and its results where it ended well.
fn run(program: &Program, folder: &Path, cases: &[Arguments]) -> (i32, String, Vec<Vec<f32>>) {
    let (input, output) = (folder.join("cases"), folder.join("results"));
    cases::write(&input, cases);
    let ended = program.run(&[&text(&input), &text(&output)]);
    let code = ended.status.code().unwrap_or(-1);
    let results = if code == 0 { cases::read_results(&output, cases) } else { Vec::new() };
    (code, String::from_utf8_lossy(&ended.stderr).into_owned(), results)
}

fn grid(rng: &mut ChaCha8Rng) -> Vec<Arguments> {
    let shapes = [(64, 72, 64), (96, 65, 7), (45, 33, 32), (320, 130, 40), (1100, 17, 3), (32, 40, 150)];
    let types = [TensorType::F32, TensorType::F16, TensorType::BF16, TensorType::Q8_0];
    let mut cases = Vec::new();
    for (i, n_tokens) in [1, 2, 3, 5, 7, 8, 9, 16, 17, 33].into_iter().enumerate() {
        for (j, ty) in types.into_iter().enumerate() {
            let (n_in, n_out, rank) = shapes[(i + j) % shapes.len()];
            let shape = Shape { n_in, n_out, rank, n_tokens, n_slots: [1, 2, 5][rng.random_range(0..3)] };
            cases.push(arguments(rng, &shape, ty, (i + j) % 3 > 0));
        }
    }
    cases
}

#[test]
fn kernels_agree_with_float64_in_every_order_of_threads() {
    let Some(clang) = clang("metal") else { return };
    let seed = 20251126;
    println!("seed {seed}");
    let folder = folder("metal-grid");
    let program = sound(clang);
    let cases = grid(&mut ChaCha8Rng::seed_from_u64(seed));
    let (code, words, results) = run(program, &folder, &cases);
    assert_eq!(code, 0, "{words}");
    let mut worst = 0f64;
    for (case, y) in cases.iter().zip(&results) {
        let Arguments { n_in, n_out, rank, .. } = *case;
        let shape = Shape { n_in, n_out, rank, n_tokens: case.ids.len(), n_slots: 1 };
        let name = format!("{n_in}x{n_out} r{rank} T{} {} {}", shape.n_tokens, case.vt.0, case.u.0);
        let error = error(&name, y, &oracle(case));
        let allowed = tolerance(&shape);
        assert!(error <= allowed, "{name}: {error:e}");
        worst = worst.max(error / allowed);
    }
    println!("{} cases, the worst at {worst:.3} of its tolerance", cases.len());
}

#[test]
fn a_token_that_nothing_scales_keeps_the_bits_of_its_base() {
    let Some(clang) = clang("metal base") else { return };
    let folder = folder("metal-base");
    let program = sound(clang);
    let seed = 5;
    println!("seed {seed}");
    let rng = &mut ChaCha8Rng::seed_from_u64(seed);
    let mut cases = Vec::new();
    for n_tokens in [1, 5, 11] {
        let shape = Shape { n_in: 100, n_out: 40, rank: 33, n_tokens, n_slots: 3 };
        let mut case = arguments(rng, &shape, TensorType::F16, true);
        // Zeros of either sign in the row of slot 0, and in part of another; what no product survives in x.
        case.s[5] = -0.0;
        case.s[33..50].fill(0.0);
        case.ids[n_tokens - 1] = 0;
        case.x[(n_tokens - 1) * 100 + 7] = f32::INFINITY;
        case.x[(n_tokens - 1) * 100 + 8] = f32::NAN;
        let base = case.base.as_mut().expect("residual");
        base[(n_tokens - 1) * 40] = -0.0;
        base[(n_tokens - 1) * 40 + 1] = f32::from_bits(0x7fc0_1234);
        base[(n_tokens - 1) * 40 + 2] = f32::MIN_POSITIVE / 8.0;
        cases.push(case);
    }
    // The same for a token that something scales: it may not look healthy.
    let mut poisoned = cases[1].clone();
    poisoned.ids.fill(1);
    cases.push(poisoned);
    let (code, words, results) = run(program, &folder, &cases);
    assert_eq!(code, 0, "{words}");
    for (case, y) in cases[..3].iter().zip(&results) {
        let base = case.base.as_ref().expect("residual");
        for (at, (y, base)) in y.iter().zip(base).enumerate() {
            let slot = case.ids[at / 40];
            assert_eq!(slot == 0, y.to_bits() == base.to_bits(), "output {at} slot {slot}");
        }
    }
    let (healthy, poisoned) = results[3].split_at(4 * 40);
    assert!(healthy.iter().all(|y| y.is_finite()));
    assert!(poisoned.iter().all(|y| !y.is_finite()));
}

#[test]
fn broken_kernels_are_caught() {
    let Some(clang) = clang("metal broken") else { return };
    // One type and two numbers of tokens are enough, and compiled sooner; so is what is not optimised.
    let others =
        Regex::new(r#"(?m)^template .*kernel_svf_(\w+_(f32|bf16|q8_0)_|\w+_[24]\").*$"#).expect("valid");
    let kernels = kernels();
    let kernels = others.replace_all(&kernels, "");
    let seed = 3;
    println!("seed {seed}");
    let mut cases = grid(&mut ChaCha8Rng::seed_from_u64(seed));
    cases.retain(|case| {
        let types = [case.vt.0, case.u.0];
        types == [TensorType::F16, TensorType::F16] && !(2..=4).contains(&case.ids.len())
    });
    let barrier = "threadgroup_barrier(mem_flags::mem_threadgroup);";
    let some_lanes = format!("if (lane > 0) {barrier}");
    for (mistake, old, new, code, said) in [
        ("no-barrier", barrier, "", 4, "depends on the order"),
        ("divergent-barrier", barrier, some_lanes.as_str(), 3, "divergence"),
        (
            "divergent-lanes",
            "if (needed) {\n        for (int row",
            "if (needed && lane < 30) {\n        for (int row",
            3,
            "divergence",
        ),
        ("rows-beyond-the-last", "if (row < n_rows) {", "if (row >= 0) {", 1, "heap-buffer-overflow"),
        ("no-tails", "i + SVF_METAL_CHUNK <= n", "i < n", 1, "heap-buffer-overflow"),
    ] {
        let folder = folder(&format!("metal-{mistake}"));
        let program = compile(clang, &folder, &edited(&kernels, old, new), "-O0");
        let (ended, words, _) = run(&program, &folder, &cases);
        assert_eq!(ended, code, "{mistake}: {words}");
        assert!(words.contains(said), "{mistake}: {words}");
    }
}

#[test]
fn address_spaces_are_kept_apart() {
    let Some(clang) = clang("metal address spaces") else { return };
    let kernels = kernels();
    let folder = folder("metal-spaces");
    check_address_spaces(clang, &folder, &kernels).unwrap_or_else(|words| panic!("{words}"));
    for (old, new) in [
        // The threadgroup's memory as the device's, and the other way round.
        ("value += partial[i][thread_index];", "device float * p = partial[i]; value += p[thread_index];"),
        (
            "device const float * scales = s + (ulong) ids[first_token + token] * r + first_row;",
            "threadgroup const float * scales = s + (ulong) ids[first_token + token] * r + first_row;",
        ),
    ] {
        let words = check_address_spaces(clang, &folder, &edited(&kernels, old, new)).expect_err(new);
        assert!(words.contains("cannot initialize a variable of type"), "{words}");
    }
}

#[test]
fn the_patched_files_of_ggml_metal_are_correct_cpp() {
    let Some(clang) = clang("metal host") else { return };
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let metal = ggml().join("src/ggml-metal");
    let folders =
        [ours, ggml().join("include"), ggml().join("src"), metal.clone()].map(|folder| text(&folder));
    // Theirs are written for another system's standard library and integers. The one in Objective-C needs that system.
    let mut flags = vec!["-w", "-include", "memory"];
    flags.extend(folders.iter().flat_map(|folder| ["-I", folder]));
    for file in ["ggml-metal.cpp", "ggml-metal-ops.cpp"] {
        clang.check(&metal.join(file), &flags).unwrap_or_else(|words| panic!("{words}"));
    }
}
