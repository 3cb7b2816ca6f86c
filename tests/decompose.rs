//! Whole conversions: what the sidecar holds, that its bytes depend on nothing but model and options, and
//! what happens to bad input, interrupts and full disks.

#[path = "common/random_model.rs"]
mod random_model;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;

use faer::Mat;
use llama_svf::decompose::{decompose, DecomposeOptions, RankPolicy, Report, Selection};
use llama_svf::error::{exit, Result};
use llama_svf::ffi::gguf::{GgufFile, GgufHeader, TensorInfo};
use llama_svf::ffi::tensor_type::TensorType;
use llama_svf::progress::{Interrupt, Progress, Silent};
use llama_svf::sidecar::Sidecar;
use random_model::RandomModel;
use tempfile::TempDir;

/// A folder with a tiny model in it, which goes away with the value.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn empty() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    fn with_model(ty: TensorType) -> Self {
        let bench = Self::empty();
        RandomModel { ty, ..RandomModel::tiny() }.write(&bench.path("model.gguf")).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn options(&self) -> DecomposeOptions {
        DecomposeOptions {
            model: self.path("model.gguf"),
            output: self.path("out.svf.gguf"),
            tensors: Selection::Ffn,
            rank: RankPolicy::Full,
            ty: TensorType::F32,
            threads: 2,
            resume: false,
            force: false,
        }
    }

    /// File names, sorted, without the model.
    fn files(&self) -> Vec<String> {
        let names = fs::read_dir(self.folder.path()).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<_> =
            names.map(|n| n.into_string().unwrap()).filter(|n| n != "model.gguf").collect();
        names.sort();
        names
    }
}

fn convert(options: &DecomposeOptions) -> Result<Report> {
    decompose(options, &Silent, &Interrupt::new())
}

/// Converts until `after` weights are done, and expects to be told of the interrupt.
fn convert_interrupted(options: &DecomposeOptions, after: u64) {
    struct RaiseAfter<'a>(AtomicU64, &'a Interrupt);
    impl Progress for RaiseAfter<'_> {
        fn advance(&self, _units: u64) {
            if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.1.raise();
            }
        }
    }
    let interrupt = Interrupt::new();
    let error = decompose(options, &RaiseAfter(after.into(), &interrupt), &interrupt).unwrap_err();
    assert_eq!(error.exit_code(), exit::INTERRUPTED, "{error}");
    assert!(error.to_string().contains("`resume`"), "{error}");
}

/// Keeps what it is told.
#[derive(Default)]
struct Listener {
    notes: Mutex<Vec<String>>,
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress for Listener {
    fn start(&self, total: u64, done: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(done, Ordering::Relaxed);
    }
    fn advance(&self, units: u64) {
        self.done.fetch_add(units, Ordering::Relaxed);
    }
    fn note(&self, line: &str) {
        self.notes.lock().unwrap().push(line.to_owned());
    }
}

fn matrix(file: &GgufFile, tensor: &TensorInfo) -> Mat<f64> {
    let values = file.to_f32(tensor).unwrap();
    let columns = tensor.ne[0];
    Mat::from_fn(tensor.ne[1], columns, |i, j| f64::from(values[i * columns + j]))
}

/// ‖W − U·diag(σ)·Vᵀ‖ / ‖W‖ of every weight, from the files alone and in f64.
fn errors_from_files(model: &Path, sidecar: &Path) -> Vec<f64> {
    let model = GgufFile::open(model).unwrap();
    let sidecar = Sidecar::open(sidecar).unwrap();
    sidecar.check_model(&model).unwrap();
    sidecar.verify(&Silent).unwrap();
    let error = |weight: &llama_svf::sidecar::AdaptedWeight| {
        let w = matrix(&model, model.tensor(&weight.name).unwrap());
        let u = matrix(sidecar.file(), &weight.u);
        let vt = matrix(sidecar.file(), &weight.vt);
        let scaled = Mat::from_fn(weight.rank, weight.n_in, |k, j| f64::from(weight.sigma[k]) * vt[(k, j)]);
        (&w - &u * &scaled).norm_l2() / w.norm_l2()
    };
    sidecar.weights.iter().map(error).collect()
}

/// Converts, and checks the report against the files. Returns the relative errors.
fn convert_and_check(options: &DecomposeOptions) -> Vec<f64> {
    let report = convert(options).unwrap();
    let errors = errors_from_files(&options.model, &options.output);
    assert_eq!(report.weights.len(), errors.len());
    assert_eq!(report.bytes, fs::metadata(&options.output).unwrap().len());
    for (weight, error) in report.weights.iter().zip(&errors) {
        // The report multiplies in f32: each entry is off by less than eps·(r + 2), relative to W about
        // eps·√r; ten times that is allowed.
        let tolerance = 10.0 * f64::from(f32::EPSILON) * (weight.rank as f64).sqrt();
        let off = (weight.relative_error - error).abs();
        assert!(off <= tolerance, "{}: reported {}, found {error}", weight.name, weight.relative_error);
        // What was cut off is what is missing, up to the rounding of the stored factors.
        let missing = (1.0 - weight.energy_kept).max(0.0).sqrt();
        assert!((missing - error).abs() < 0.02, "{}: missing {missing}, error {error}", weight.name);
        assert!(!weight.resumed);
    }
    errors
}

#[test]
fn full_rank_f32_rebuilds_every_weight() {
    for ty in [TensorType::F32, TensorType::F16, TensorType::Q8_0, TensorType::Q4_0, TensorType::Q4_K] {
        let bench = Bench::with_model(ty);
        let errors = convert_and_check(&bench.options());
        assert_eq!(errors.len(), 6, "{ty}: three matrices in each of two blocks");
        // Backward error of a Householder SVD: a small constant times eps·√max(m, n).
        let tolerance = 2.0 * f64::from(f32::EPSILON) * 96f64.sqrt();
        assert!(errors.iter().all(|&e| e <= tolerance), "{ty}: {errors:?}");
        assert_eq!(bench.files(), ["out.svf.gguf"], "{ty}: nothing else is left");
        let sidecar = Sidecar::open(bench.options().output).unwrap();
        assert!(sidecar.is_full_rank());
    }
}

#[test]
fn rounded_factors_cost_what_their_types_cost() {
    // Relative rounding of one entry is at most 2⁻¹¹ in F16, and about 1/254 of a block's largest entry
    // (some 3 deviations) in Q8_0; two factors, and errors that add up as squares, stay below these.
    let bench = Bench::with_model(TensorType::F32);
    for (ty, limit) in [(TensorType::F16, 5e-4), (TensorType::Q8_0, 1.5e-2)] {
        let errors = convert_and_check(&DecomposeOptions { ty, force: true, ..bench.options() });
        assert!(errors.iter().all(|&e| e > 1e-6 && e < limit), "{ty}: {errors:?}");
    }
}

#[test]
fn a_lower_rank_leaves_out_the_smallest_values() {
    let bench = Bench::with_model(TensorType::F32);
    let mut last = 1.0;
    for rank in ["1", "7", "32", "63", "1000"] {
        let rank = RankPolicy::parse(rank).unwrap();
        let options = DecomposeOptions { rank, force: true, ..bench.options() };
        let errors = convert_and_check(&options);
        assert!(errors[0] < last, "{rank}: {errors:?}");
        last = errors[0];
        let sidecar = Sidecar::open(&options.output).unwrap();
        assert_eq!(sidecar.weights[0].rank, rank.of(96, 64));
        assert_eq!(sidecar.is_full_rank(), rank.of(96, 64) == 64);
    }
}

#[test]
fn what_blocks_cannot_hold_is_stored_as_f16_and_said() {
    let bench = Bench::with_model(TensorType::F32);
    let listener = Listener::default();
    let rank = RankPolicy::parse("20").unwrap();
    let options = DecomposeOptions { ty: TensorType::Q8_0, rank, ..bench.options() };
    let report = decompose(&options, &listener, &Interrupt::new()).unwrap();
    assert!(report.weights.iter().all(|w| w.u_type == "f16" && w.vt_type == "q8_0"));
    let notes = listener.notes.into_inner().unwrap();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("U of 6 weights") && notes[0].contains("rows of 20"), "{notes:?}");
    assert_eq!(listener.done.into_inner(), listener.total.into_inner(), "progress ends at its total");
    errors_from_files(&options.model, &options.output);
}

#[test]
fn selections_pick_what_they_say() {
    let bench = Bench::with_model(TensorType::F32);
    let names = |tensors: &str| {
        let tensors = Selection::parse(tensors).unwrap();
        let listener = Listener::default();
        let options = DecomposeOptions { tensors, force: true, ..bench.options() };
        let report = decompose(&options, &listener, &Interrupt::new()).unwrap();
        let names: Vec<_> = report.weights.into_iter().map(|w| w.name).collect();
        (names, listener.notes.into_inner().unwrap())
    };
    assert_eq!(names("ffn").0.len(), 6);
    assert_eq!(names("attn").0.len(), 8);
    assert_eq!(names("all").0.len(), 14);
    assert_eq!(names(r"blk\.1\.ffn_(up|down)").0, ["blk.1.ffn_up.weight", "blk.1.ffn_down.weight"]);
    assert_eq!(names("^output.weight$").0, ["output.weight"]);
    let (everything, notes) = names(".");
    assert_eq!(everything.len(), 15, "the matrices of the blocks and the output head: {everything:?}");
    assert!(notes.iter().any(|n| n.contains("token_embd")), "{notes:?}");
}

#[test]
fn threads_and_interruptions_leave_no_trace_in_the_file() {
    leave_no_trace(RandomModel { ty: TensorType::Q8_0, ..RandomModel::tiny() }, "40");
    // Large enough for an iteration to find so few terms.
    leave_no_trace(RandomModel { ty: TensorType::Q8_0, width: 640, ffn: 800, ..RandomModel::tiny() }, "8");
}

fn leave_no_trace(model: RandomModel, rank: &str) {
    let bench = Bench::empty();
    model.write(&bench.path("model.gguf")).unwrap();
    let rank = RankPolicy::parse(rank).unwrap();
    let options = DecomposeOptions { tensors: Selection::All, rank, ty: TensorType::F16, ..bench.options() };
    convert(&DecomposeOptions { threads: 1, ..options.clone() }).unwrap();
    let expected = fs::read(&options.output).unwrap();
    for threads in [2, 3, 0] {
        convert(&DecomposeOptions { threads, force: true, ..options.clone() }).unwrap();
        assert!(fs::read(&options.output).unwrap() == expected, "{threads} threads");
    }
    for after in [1, 4, 13] {
        fs::remove_file(&options.output).unwrap();
        let options = DecomposeOptions { threads: 1, ..options.clone() };
        convert_interrupted(&options, after);
        assert_eq!(bench.files(), ["out.svf.gguf.part", "out.svf.gguf.part.journal"]);
        let listener = Listener::default();
        let resumed = DecomposeOptions { resume: true, threads: 2, ..options };
        let report = decompose(&resumed, &listener, &Interrupt::new()).unwrap();
        assert_eq!(report.weights.iter().filter(|w| w.resumed).count() as u64, after);
        assert!(fs::read(&resumed.output).unwrap() == expected, "interrupted after {after}");
        assert_eq!(bench.files(), ["out.svf.gguf"]);
        assert!(listener.notes.into_inner().unwrap().iter().any(|n| n.contains(&format!("{after} of 14"))));
    }
}

#[test]
fn damage_between_two_runs_is_noticed_and_repaired() {
    let bench = Bench::with_model(TensorType::F32);
    let options = bench.options();
    convert(&options).unwrap();
    let expected = fs::read(&options.output).unwrap();
    let resume = DecomposeOptions { resume: true, ..options.clone() };
    let part = bench.path("out.svf.gguf.part");
    let journal = bench.path("out.svf.gguf.part.journal");
    let interrupted = || {
        fs::remove_file(&options.output).unwrap();
        convert_interrupted(&DecomposeOptions { threads: 1, ..options.clone() }, 3);
    };

    // Half a journal line, as a crash leaves it.
    interrupted();
    let text = fs::read(&journal).unwrap();
    fs::write(&journal, &text[..text.len() - 30]).unwrap();
    let report = convert(&resume).unwrap();
    assert_eq!(report.weights.iter().filter(|w| w.resumed).count(), 2);
    assert!(fs::read(&options.output).unwrap() == expected);

    // Every byte of the data section flipped.
    interrupted();
    let damaged: Vec<u8> = fs::read(&part).unwrap().iter().map(|byte| !byte).collect();
    fs::write(&part, damaged).unwrap();
    // Padding is nobody's factor: it is written as zeros only once.
    let report = convert(&resume).unwrap();
    assert_eq!(report.weights.iter().filter(|w| w.resumed).count(), 0);
    errors_from_files(&options.model, &options.output);

    // A data file that lost its end.
    interrupted();
    fs::OpenOptions::new().write(true).open(&part).unwrap().set_len(100).unwrap();
    convert(&resume).unwrap();
    assert!(fs::read(&options.output).unwrap() == expected);
}

#[test]
fn an_unfinished_conversion_is_continued_only_as_it_was_begun() {
    let bench = Bench::with_model(TensorType::F32);
    let options = bench.options();
    convert_interrupted(&DecomposeOptions { threads: 1, ..options.clone() }, 2);
    let says = |options: DecomposeOptions, needles: &[&str]| {
        let error = convert(&options).unwrap_err();
        assert_eq!(error.exit_code(), exit::ERROR);
        let error = error.to_string();
        assert!(needles.iter().all(|needle| error.contains(needle)), "{error} should say {needles:?}");
    };
    says(options.clone(), &["out.svf.gguf.part", "`resume`", "`force`"]);
    let resume = DecomposeOptions { resume: true, ..options.clone() };
    let rank = RankPolicy::parse("8").unwrap();
    says(DecomposeOptions { rank, ..resume.clone() }, &["rank", "full", "8", "`force`"]);
    says(DecomposeOptions { ty: TensorType::F16, ..resume.clone() }, &["type", "f32", "f16"]);
    says(DecomposeOptions { tensors: Selection::All, ..resume.clone() }, &["tensors", "ffn", "all"]);
    RandomModel { seed: 2, ..RandomModel::tiny() }.write(&options.model).unwrap();
    says(resume.clone(), &["model"]);
    // As a version that decomposed otherwise left it.
    let journal = fs::read_to_string(bench.path("out.svf.gguf.part.journal")).unwrap();
    let (first, rest) = journal.split_once('\n').unwrap();
    let mut older: serde_json::Value = serde_json::from_str(first).unwrap();
    older["settings"].as_object_mut().unwrap().remove("svd");
    older["hash"] = blake3::hash(older["settings"].to_string().as_bytes()).to_string().into();
    fs::write(bench.path("out.svf.gguf.part.journal"), format!("{older}\n{rest}")).unwrap();
    RandomModel::tiny().write(&options.model).unwrap();
    says(resume.clone(), &["svd", "nothing", "Krylov", "`force`"]);
    fs::write(bench.path("out.svf.gguf.part.journal"), "not json\n").unwrap();
    says(resume.clone(), &["journal", "line 1"]);
    fs::write(bench.path("out.svf.gguf.part.journal"), "").unwrap();
    says(resume.clone(), &["journal", "line 1"]);
    fs::remove_file(bench.path("out.svf.gguf.part.journal")).unwrap();
    says(resume, &["journal", "`force`"]);
    convert(&DecomposeOptions { force: true, ..options.clone() }).unwrap();
    errors_from_files(&options.model, &options.output);
}

#[test]
fn an_existing_file_is_replaced_only_on_demand() {
    let bench = Bench::with_model(TensorType::F32);
    let options = bench.options();
    fs::write(&options.output, "precious").unwrap();
    let error = convert(&options).unwrap_err().to_string();
    assert!(error.contains("out.svf.gguf") && error.contains("`force`"), "{error}");
    assert_eq!(fs::read(&options.output).unwrap(), b"precious");
    // Until the new one is complete, the old one stays.
    convert_interrupted(&DecomposeOptions { force: true, threads: 1, ..options.clone() }, 1);
    assert_eq!(fs::read(&options.output).unwrap(), b"precious");
    convert(&DecomposeOptions { force: true, resume: true, ..options.clone() }).unwrap();
    errors_from_files(&options.model, &options.output);

    let onto_the_model = DecomposeOptions { output: options.model.clone(), force: true, ..options.clone() };
    let error = convert(&onto_the_model).unwrap_err().to_string();
    assert!(error.contains("would replace the model"), "{error}");
    let into_nowhere = DecomposeOptions { output: bench.path("no/such/folder/out.gguf"), ..options.clone() };
    let error = convert(&into_nowhere).unwrap_err().to_string();
    assert!(error.contains("no/such/folder"), "{error}");
    let onto_a_folder = DecomposeOptions { output: bench.folder.path().to_owned(), force: true, ..options };
    let error = convert(&onto_a_folder).unwrap_err().to_string();
    assert!(error.contains("folder"), "{error}");
}

#[test]
fn resume_without_anything_to_resume_begins() {
    let bench = Bench::with_model(TensorType::F32);
    convert_and_check(&DecomposeOptions { resume: true, ..bench.options() });
}

/// A GGUF file of F32 tensors that hold small numbers, except where `value` says otherwise.
fn write_gguf(path: &Path, tensors: &[(&str, &[usize])], value: impl Fn(&str, usize) -> f32) {
    let mut header = GgufHeader::new();
    header.set_str("general.architecture", "llama").unwrap();
    for (name, ne) in tensors {
        header.add_tensor(name, ne, TensorType::F32).unwrap();
    }
    let mut bytes = header.encode();
    for (name, ne) in tensors {
        bytes.resize(header.data_offset(name).unwrap(), 0);
        let len: usize = ne.iter().product();
        bytes.extend((0..len).flat_map(|at| value(name, at).to_le_bytes()));
    }
    bytes.resize(header.total_size(), 0);
    fs::write(path, bytes).unwrap();
}

#[test]
fn models_that_cannot_be_decomposed_are_refused_before_anything_is_written() {
    let long_name = format!("blk.0.{}.weight", "x".repeat(50));
    let good: (&str, &[usize]) = ("blk.0.ffn_up.weight", &[8, 6]);
    type Table<'a> = &'a [(&'a str, &'a [usize])];
    let cases: [(&str, Table, &[&str]); 6] = [
        (
            "ffn",
            &[good, ("blk.0.ffn_up_exps.weight", &[8, 6, 4])],
            &["blk.0.ffn_up_exps.weight", "experts", "`tensors`"],
        ),
        ("exps", &[("blk.0.ffn_down_exps.weight", &[8, 6, 4])], &["blk.0.ffn_down_exps.weight", "experts"]),
        ("ffn", &[good, ("blk.0.ffn_up.scale", &[1])], &["blk.0.ffn_up.weight", ".scale"]),
        ("attn", &[good], &["tensors", "attn", "`GgufFile::tensors`"]),
        ("norm", &[good, ("blk.0.attn_norm.weight", &[8])], &["norm", "`GgufFile::tensors`"]),
        ("xxx", &[(&long_name, &[8, 6])], &[&long_name, "63"]),
    ];
    for (tensors, table, needles) in cases {
        let bench = Bench::empty();
        write_gguf(&bench.path("model.gguf"), table, |_, at| at as f32);
        let options = DecomposeOptions { tensors: Selection::parse(tensors).unwrap(), ..bench.options() };
        let error = convert(&options).unwrap_err();
        assert_eq!(error.exit_code(), exit::ERROR);
        let error = error.to_string();
        assert!(error.contains("model.gguf"), "{error}");
        assert!(needles.iter().all(|needle| error.contains(needle)), "{error} should say {needles:?}");
        assert!(bench.files().is_empty(), "{error}: {:?}", bench.files());
    }

    let bench = Bench::with_model(TensorType::F32);
    let error =
        convert(&DecomposeOptions { ty: TensorType::Q4_0, ..bench.options() }).unwrap_err().to_string();
    assert!(error.contains("type") && error.contains("q4_0"), "{error}");
    convert(&bench.options()).unwrap();
    let a_sidecar = DecomposeOptions {
        model: bench.options().output,
        output: bench.path("again.svf.gguf"),
        ..bench.options()
    };
    let error = convert(&a_sidecar).unwrap_err().to_string();
    assert!(error.contains("adapter"), "{error}");
    fs::write(bench.path("model.gguf"), "GGUF, but not really").unwrap();
    assert!(convert(&DecomposeOptions { force: true, ..bench.options() }).is_err());
}

#[test]
fn a_weight_that_is_not_a_number_is_named() {
    for bad in [f32::NAN, f32::INFINITY] {
        let bench = Bench::empty();
        let table: [(&str, &[usize]); 2] =
            [("blk.0.ffn_up.weight", &[8, 6]), ("blk.1.ffn_up.weight", &[8, 6])];
        write_gguf(&bench.path("model.gguf"), &table, |name, at| {
            if (name, at) == ("blk.1.ffn_up.weight", 13) {
                bad
            } else {
                at as f32
            }
        });
        let error = convert(&bench.options()).unwrap_err().to_string();
        for needle in ["model.gguf", "blk.1.ffn_up.weight", "entry 13", "finite"] {
            assert!(error.contains(needle), "{error} should say {needle}");
        }
        assert!(!bench.options().output.exists());
    }
}

#[test]
fn odd_matrices_convert() {
    let bench = Bench::empty();
    let table: [(&str, &[usize]); 3] = [
        ("blk.0.ffn_up.weight", &[1, 5]),
        ("blk.0.ffn_gate.weight", &[5, 5]),
        ("blk.0.ffn_down.weight", &[70, 2]),
    ];
    write_gguf(
        &bench.path("model.gguf"),
        &table,
        |name, at| if name.contains("gate") { 0.0 } else { at as f32 },
    );
    let report = convert(&DecomposeOptions { ty: TensorType::Q8_0, ..bench.options() }).unwrap();
    assert_eq!(report.weights.len(), 3);
    assert_eq!(report.weights[1].relative_error, 0.0, "a zero matrix is rebuilt exactly");
    assert!(report.weights.iter().all(|w| w.relative_error < 1e-3 && w.energy_kept > 0.999), "{report:?}");
    Sidecar::open(bench.options().output).unwrap().verify(&Silent).unwrap();
}

#[test]
fn the_parsers_of_options_say_what_they_want() {
    for text in ["full", "1", "64"] {
        assert_eq!(RankPolicy::parse(text).unwrap().to_string(), text);
    }
    for text in ["", "0", "-1", "Full", "1.5", "99999999999999999999999"] {
        let error = RankPolicy::parse(text).unwrap_err().to_string();
        assert!(error.contains("full or a number from 1"), "{error}");
    }
    for text in ["ffn", "attn", "all", r"blk\.[0-3]\."] {
        assert_eq!(Selection::parse(text).unwrap().to_string(), text);
    }
    let error = Selection::parse("blk.(").unwrap_err().to_string();
    assert!(error.contains("regular expression") && !error.contains('\n'), "{error}");
}

#[test]
fn a_real_model_converts_with_every_type() {
    let shared = std::env::var("LLAMA_SVF_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    let model = Path::new(&shared).join("models/stories260K-f32.gguf");
    if !model.exists() {
        println!("skipped: {} is not there", model.display());
        return;
    }
    let bench = Bench::empty();
    for (ty, limit) in [(TensorType::F32, 1e-5), (TensorType::F16, 5e-4), (TensorType::Q8_0, 1.5e-2)] {
        let options = DecomposeOptions {
            model: model.clone(),
            tensors: Selection::All,
            ty,
            force: true,
            ..bench.options()
        };
        let errors = convert_and_check(&options);
        assert_eq!(errors.len(), 7 * 5);
        assert!(errors.iter().all(|&e| e < limit), "{ty}: {errors:?}");
        let sidecar = Sidecar::open(&options.output).unwrap();
        let down = sidecar.weight("blk.0.ffn_down.weight").unwrap();
        let expected = if ty == TensorType::Q8_0 { TensorType::F16 } else { ty };
        assert_eq!(down.vt.ty, expected, "rows of 172 do not fill blocks of 32");
    }
}

/// Runs this test once more inside a mount namespace of its own, where what is left of a file system of 512 KiB
/// holds less than half of a conversion (of 244 KiB).
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_leaves_no_output() {
    const FOLDER: &str = "LLAMA_SVF_TEST_FULL_DISK";
    if let Some(folder) = std::env::var_os(FOLDER) {
        return convert_on_full_disk(Path::new(&folder));
    }
    let unshare = |arguments: &[&std::ffi::OsStr]| {
        let namespace = ["--user", "--map-root-user", "--mount"];
        Command::new("unshare").args(namespace).args(arguments).output()
    };
    if !unshare(&["true".as_ref()]).is_ok_and(|output| output.status.success()) {
        println!("skipped: no mount namespaces here");
        return;
    }
    let bench = Bench::empty();
    let script = format!(
        "mount -t tmpfs -o size=512k none \"$1\" && head -c 400000 /dev/zero > \"$1/ballast\" && \
         {FOLDER}=\"$1\" exec \"$0\" --exact --nocapture a_full_disk_is_an_error_and_leaves_no_output"
    );
    let program = std::env::current_exe().unwrap();
    let folder = bench.folder.path();
    let arguments = ["sh".as_ref(), "-c".as_ref(), script.as_ref(), program.as_os_str(), folder.as_os_str()];
    let output = unshare(&arguments).unwrap();
    let text = format!("{output:?}");
    assert!(output.status.success() && text.contains("1 passed") && text.contains("error: "), "{text}");
}

#[cfg(target_os = "linux")]
fn convert_on_full_disk(folder: &Path) {
    let bench = Bench::with_model(TensorType::F32);
    let output = folder.join("out.svf.gguf");
    let options = DecomposeOptions { threads: 1, output: output.clone(), ..bench.options() };
    let error = convert(&options).unwrap_err();
    println!("error: {error}");
    assert_eq!(error.exit_code(), exit::ERROR);
    let error = error.to_string();
    assert!(error.contains("out.svf.gguf.part") && error.contains("`resume`"), "{error}");
    assert!(!output.exists());
    // With room made, the rest is done.
    fs::remove_file(folder.join("ballast")).unwrap();
    let report = convert(&DecomposeOptions { resume: true, ..options }).unwrap();
    assert!(report.weights.iter().any(|w| w.resumed) && report.weights.iter().any(|w| !w.resumed));
    errors_from_files(&bench.options().model, &output);
}
