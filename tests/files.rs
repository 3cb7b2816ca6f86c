//! Sidecars, experts and plain GGUF files: good ones beside bad ones, and thousands of damaged ones.
//!
//! An abort inside ggml would end this test program, so "no crash" is checked by its running to the end.

#[path = "support/drafts.rs"]
mod drafts;

use std::path::{Path, PathBuf};

use drafts::{base_model, expert, f16_bytes, f32_bytes, random, sidecar, Bench, Draft, Value, WEIGHTS};
use half::f16;
use llama_svf::error::{Error, Result};
use llama_svf::expert::profile::{Rows, States};
use llama_svf::expert::{Expert, ExpertSet, Mixture, Profile, Training};
use llama_svf::ffi::gguf::{GgufFile, GgufHeader};
use llama_svf::ffi::tensor_type::{self, TensorType};
use llama_svf::progress::Silent;
use llama_svf::sidecar::{About, Fingerprint, Sidecar, SidecarHeader};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Fails unless `outcome` is an error in one line that ends a command with exit code 2 and holds `fragments`.
#[track_caller]
fn assert_refused<T>(case: &str, outcome: Result<T>, fragments: &[&str]) -> Error {
    let Err(error) = outcome else { panic!("{case}: accepted") };
    let text = error.to_string();
    assert_eq!(text.lines().count(), 1, "{case}: {text}");
    assert_eq!(error.exit_code(), 2, "{case}: {text}");
    for fragment in fragments {
        assert!(text.contains(fragment), "{case}: no '{fragment}' in: {text}");
    }
    error
}

// ---- GGUF ----

/// GGUF bytes written by hand from the format's description, independent of ggml's writer.
struct Raw(Vec<u8>);

impl Raw {
    fn new(n_tensors: u64, n_kv: u64) -> Self {
        let mut raw = Self(b"GGUF".to_vec());
        raw.0.extend(3u32.to_le_bytes());
        raw.0.extend(n_tensors.to_le_bytes());
        raw.0.extend(n_kv.to_le_bytes());
        raw
    }
    fn str(mut self, text: &str) -> Self {
        self.0.extend((text.len() as u64).to_le_bytes());
        self.0.extend(text.as_bytes());
        self
    }
    fn u32(mut self, n: u32) -> Self {
        self.0.extend(n.to_le_bytes());
        self
    }
    fn u64(mut self, n: u64) -> Self {
        self.0.extend(n.to_le_bytes());
        self
    }
    fn tensor(self, name: &str, ne: &[u64], ty: u32, offset: u64) -> Self {
        let raw = self.str(name).u32(ne.len() as u32);
        ne.iter().fold(raw, |raw, &n| raw.u64(n)).u32(ty).u64(offset)
    }
    fn data(mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.resize(self.0.len().next_multiple_of(32), 0);
        self.0.extend(bytes);
        self.0
    }
}

#[test]
fn headers_are_written_as_the_format_describes() {
    let mut header = GgufHeader::new();
    header.set_str("general.name", "tiny").unwrap();
    header.set_u32("a.u32", 7).unwrap();
    header.set_strs("a.strs", &["x", "yz"]).unwrap();
    header.add_tensor("m", &[3, 2], TensorType::F32).unwrap();
    header.add_tensor("v", &[64], TensorType::Q8_0).unwrap();
    let by_hand = Raw::new(2, 3)
        .str("general.name")
        .u32(8)
        .str("tiny")
        .str("a.u32")
        .u32(4)
        .u32(7)
        .str("a.strs")
        .u32(9)
        .u32(8)
        .u64(2)
        .str("x")
        .str("yz")
        .tensor("m", &[3, 2], 0, 0)
        .tensor("v", &[64], 8, 32)
        .data(&[]);
    assert_eq!(header.encode(), by_hand);
    assert_eq!(header.data_offset("v"), Some(by_hand.len() + 32));
    assert_eq!(header.total_size(), by_hand.len() + 32 + 96);
    assert_eq!(header.data_offset("w"), None);
}

#[test]
fn what_is_written_is_read() {
    let bench = Bench::new();
    let model = &bench.model;
    assert_eq!(model.require_str("general.name").unwrap(), "tiny");
    assert_eq!(model.require_u32("llama.block_count").unwrap(), 2);
    assert_eq!(model.u64("test.u64").unwrap(), Some(u64::MAX));
    assert_eq!(model.f32("test.f32").unwrap(), Some(0.25));
    assert_eq!(model.bool("test.bool").unwrap(), Some(true));
    assert_eq!(model.require_strs("tokenizer.ggml.tokens").unwrap()[5], "ü");
    assert_eq!(model.u32("absent").unwrap(), None);
    let tokens = model.metadata().into_iter().find(|(key, _)| key == "tokenizer.ggml.tokens");
    assert_eq!(tokens.unwrap().1, "6 × str: a, b, c, d, …");

    let draft = base_model();
    assert_eq!(model.tensors().len(), draft.tensors.len());
    for (found, tensor) in model.tensors().iter().zip(&draft.tensors) {
        assert_eq!((&found.name, found.ty), (&tensor.name, tensor.ty));
        assert_eq!(found.ne[..found.n_dims], tensor.ne[..]);
        assert_eq!(model.bytes(found), tensor.bytes);
    }
    let norm = model.tensor("output_norm.weight").unwrap();
    assert_eq!(f32_bytes(&model.to_f32(norm).unwrap()), draft.tensors.last().unwrap().bytes);

    let mut header = GgufHeader::new();
    header.copy_metadata(model);
    let copy = GgufFile::open(bench.write("copy.gguf", &header.encode())).unwrap();
    assert_eq!(copy.metadata(), model.metadata());
}

#[test]
fn a_key_of_another_type_is_an_error() {
    let bench = Bench::new();
    let model = &bench.model;
    assert_refused("u32", model.u32("general.name"), &["tiny.gguf: general.name: expected u32, found str"]);
    assert_refused("str", model.str("test.bool"), &["test.bool: expected str, found bool"]);
    assert_refused("strs", model.strs("general.name"), &["expected arr, found str"]);
    assert_refused("missing", model.require_str("absent"), &["absent: expected a str, found no such key"]);
}

#[test]
fn what_ggml_would_abort_on_cannot_be_written() {
    let mut header = GgufHeader::new();
    assert_refused("empty key", header.set_str("", "x"), &["cannot be set"]);
    assert_refused("alignment", header.set_u64("general.alignment", 7), &["cannot be set"]);
    assert_refused("NUL", header.set_str("a", "x\0y"), &["a: the text contains a NUL byte"]);
    header.add_tensor("a", &[4], TensorType::F32).unwrap();
    let long = "x".repeat(64);
    for (name, ne, fragment) in [
        ("a", vec![4], "tensor a: appears twice"),
        ("", vec![4], "expected a name of 1 to 63 bytes"),
        (&long, vec![4], "found 64 bytes"),
        ("b", vec![], "positive dimensions"),
        ("b", vec![4, 0], "positive dimensions"),
        ("b", vec![1; 5], "positive dimensions"),
        ("b", vec![usize::MAX, 2], "too large"),
        ("b", vec![1 << 61], "too large"),
    ] {
        assert_refused(name, header.add_tensor(name, &ne, TensorType::F32), &[fragment]);
    }
    assert_refused(
        "block",
        header.add_tensor("b", &[172, 2], TensorType::Q8_0),
        &["tensor b: expected rows of a multiple of 32 elements for q8_0, found 172"],
    );
}

#[test]
fn files_that_are_no_sound_gguf_are_refused() {
    let bench = Bench::new();
    let good = || Raw::new(1, 0).tensor("a", &[4], 0, 0).data(&[0; 16]);
    let file = GgufFile::open(bench.write("good.gguf", &good())).unwrap();
    assert_eq!(file.tensors()[0].n_bytes, 16);

    let longer = "x".repeat(64);
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("empty", vec![], &["magic: expected a GGUF file", "found an empty file"]),
        ("text", b"{\"a\": 1}".to_vec(), &["magic: ", "found '{\\\"a\\\"'", "(hint: give a .gguf file)"]),
        ("header only half", good()[..20].to_vec(), &["header: expected 24 bytes, found 20", "hint"]),
        ("cut in the table", good()[..40].to_vec(), &["header: ", "failed to read tensor info", "hint"]),
        (
            "cut in the data",
            good()[..75].to_vec(),
            &["tensor 0 'a': expected 16 bytes of data", "ends after 75"],
        ),
        (
            "version",
            {
                let mut b = good();
                b[4] = 9;
                b
            },
            &["header: ", "version 9", "hint"],
        ),
        (
            "tensor count",
            Raw::new(1 << 40, 0).data(&[]),
            &["number of tensors: expected at most 65536", "hint"],
        ),
        ("key count", Raw::new(0, u64::MAX).data(&[]), &["number of metadata entries: expected at most"]),
        ("string length", Raw::new(0, 1).u64(u64::MAX).data(&[]), &["header: string length", "hint"]),
        ("array length", Raw::new(0, 1).str("a").u32(9).u32(4).u64(1 << 62).data(&[]), &["header: ", "hint"]),
        (
            "array of arrays",
            Raw::new(0, 1).str("a").u32(9).u32(9).u64(1).data(&[]),
            &["header: key 'a' has invalid"],
        ),
        (
            "value type",
            Raw::new(0, 1).str("a").u32(77).data(&[]),
            &["header: key 'a' has invalid GGUF type 77"],
        ),
        ("empty key", Raw::new(0, 1).str("").u32(4).u32(1).data(&[]), &["header: key 0 is empty"]),
        ("NUL key", Raw::new(0, 1).str("\0a").u32(4).u32(1).data(&[]), &["metadata key 0: expected a name"]),
        (
            "same key after NUL",
            Raw::new(0, 2).str("a\0b").u32(4).u32(1).str("a\0c").u32(4).u32(1).data(&[]),
            &["metadata key a: appears twice"],
        ),
        ("alignment 0", Raw::new(0, 1).str("general.alignment").u32(4).u32(0).data(&[]), &["alignment 0"]),
        (
            "alignment str",
            Raw::new(0, 1).str("general.alignment").u32(8).str("x").data(&[]),
            &["must be of type u32"],
        ),
        (
            "alignment 4",
            Raw::new(0, 1).str("general.alignment").u32(4).u32(4).data(&[]),
            &["general.alignment: expected a multiple of 8, found 4"],
        ),
        (
            "long name",
            Raw::new(1, 0).tensor(&longer, &[4], 0, 0).data(&[0; 16]),
            &["tensor name 0 is too long"],
        ),
        ("no name", Raw::new(1, 0).tensor("", &[4], 0, 0).data(&[0; 16]), &["its name is empty"]),
        (
            "same name after NUL",
            Raw::new(2, 0).tensor("a\0b", &[8], 0, 0).tensor("a\0c", &[8], 0, 32).data(&[0; 64]),
            &["tensor a: appears twice"],
        ),
        (
            "5 dims",
            Raw::new(1, 0).tensor("a", &[1; 5], 0, 0).data(&[0; 16]),
            &["invalid number of dimensions"],
        ),
        (
            "zero dim",
            Raw::new(1, 0).tensor("a", &[4, 0], 0, 0).data(&[0; 16]),
            &["tensor 0 'a': expected positive dimensions"],
        ),
        (
            "negative dim",
            Raw::new(1, 0).tensor("a", &[1 << 63], 0, 0).data(&[0; 16]),
            &["invalid number of elements"],
        ),
        ("overflow", Raw::new(1, 0).tensor("a", &[1 << 40, 1 << 40], 0, 0).data(&[0; 16]), &["overflow"]),
        (
            "huge",
            Raw::new(1, 0).tensor("a", &[1 << 60], 0, 0).data(&[0; 16]),
            &["tensor 0 'a': expected", "a file that ends"],
        ),
        ("retired type", Raw::new(1, 0).tensor("a", &[4], 4, 0).data(&[0; 16]), &["header: ", "type 4"]),
        ("unknown type", Raw::new(1, 0).tensor("a", &[4], 999, 0).data(&[0; 16]), &["invalid ggml type 999"]),
        ("block", Raw::new(1, 0).tensor("a", &[33], 8, 0).data(&[0; 64]), &["not a multiple of block size"]),
        ("offset", Raw::new(1, 0).tensor("a", &[4], 0, 8).data(&[0; 64]), &["has offset 8, expected 0"]),
    ];
    for (case, bytes, fragments) in cases {
        let path = bench.write("bad.gguf", &bytes);
        let error = assert_refused(case, GgufFile::open(&path), fragments);
        assert!(error.to_string().starts_with(path.to_str().unwrap()), "{case}: {error}");
    }
    let open = |path: &Path| GgufFile::open(path);
    assert_refused("absent", open(&bench.path("absent.gguf")), &["absent.gguf: cannot open", "hint"]);
    assert_refused("directory", open(bench.directory()), &["expected a GGUF file, found a directory"]);
    #[cfg(unix)]
    assert_refused("device", open(Path::new("/dev/zero")), &["found a directory or device"]);
}

#[test]
fn a_sparse_file_with_a_huge_array_is_refused_at_once() {
    let bench = Bench::new();
    let n = 1u64 << 30;
    let path = bench.write("sparse.gguf", &Raw::new(0, 1).str("a").u32(9).u32(8).u64(n).0);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(8 * n + 100).unwrap();
    assert_refused("sparse", GgufFile::open(&path), &["header is larger than 64 MiB"]);
}

// ---- tensor types ----

#[test]
fn conversions_agree_with_the_formats() {
    let seed = 11;
    println!("seed {seed}");
    let values = random(&mut ChaCha8Rng::seed_from_u64(seed), 256 * 4);
    let convert = |ty: TensorType| {
        let mut bytes = Vec::new();
        ty.quantize(&values, 256, &mut bytes).unwrap();
        let mut back = vec![f32::NAN; values.len()];
        ty.dequantize(&bytes, &mut back).unwrap();
        // At an odd address too.
        let mut shifted = vec![0];
        shifted.extend(&bytes);
        let mut again = vec![f32::NAN; values.len()];
        ty.dequantize(&shifted[1..], &mut again).unwrap();
        assert_eq!(f32_bytes(&back), f32_bytes(&again), "{ty}");
        (bytes, back)
    };
    assert_eq!(convert(TensorType::F32).1, values);
    let halves: Vec<f32> = values.iter().map(|&x| f16::from_f32(x).to_f32()).collect();
    assert_eq!(convert(TensorType::F16).1, halves);

    let (bytes, back) = convert(TensorType::Q8_0);
    for (i, block) in bytes.chunks(34).enumerate() {
        let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
        for (j, &q) in block[2..].iter().enumerate() {
            assert_eq!(back[32 * i + j], scale * f32::from(q as i8));
            // Half a step of rounding, and the rounding of the scale itself (2⁻¹¹ of 127 steps).
            let bound = scale * (0.5 + 127.0 / 2048.0);
            assert!((back[32 * i + j] - values[32 * i + j]).abs() <= bound, "element {}", 32 * i + j);
        }
    }
    for name in ["bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q2_K", "q3_K", "q4_K", "Q5_k", "q6_K"] {
        let ty = tensor_type::parse(name).unwrap();
        let (_, back) = convert(ty);
        // Two bits per value resolve [−1, 1] to about a third; this only catches garbage.
        let worst = values.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 0.6 && back.iter().all(|x| x.is_finite()), "{name}: {worst}");
    }
}

#[test]
fn impossible_conversions_are_errors() {
    let mut out = Vec::new();
    let q8 = TensorType::Q8_0;
    assert_refused("row", q8.quantize(&[0.0; 64], 33, &mut out), &["multiple of 32 elements"]);
    assert_refused("rows", q8.quantize(&[0.0; 65], 64, &mut out), &["65 elements in rows of 64"]);
    assert_refused("zero", q8.quantize(&[], 0, &mut out), &["rows of 0"]);
    assert_refused("NaN", q8.quantize(&[f32::NAN; 32], 32, &mut out), &["found NaN at element 0"]);
    assert_refused("big", TensorType::F16.quantize(&[1e6], 1, &mut out), &["values within ±6.5504e4"]);
    assert_refused("room", q8.dequantize(&[0; 33], &mut [0.0; 32]), &["expected", "32 elements"]);
    assert_refused("name", tensor_type::parse("q9_9"), &["'q9_9'"]);
    for id in 0..64 {
        let Some(ty) = TensorType::from_id(id) else { continue };
        assert_eq!(ty.row_bytes(ty.block_len()), Some(ty.block_bytes()));
        assert_eq!(
            ty.row_bytes(usize::MAX - usize::MAX % ty.block_len()).is_some(),
            ty.block_bytes() <= ty.block_len()
        );
        // Whatever the type, either it works or it is an error.
        let zeros = vec![0.0; ty.block_len()];
        let mut bytes = Vec::new();
        let _ = ty.quantize(&zeros, ty.block_len(), &mut bytes);
        let _ = ty.dequantize(&vec![0; ty.block_bytes()], &mut vec![0.0; ty.block_len()]);
    }
    assert_eq!(TensorType::from_id(4), None);
    assert_eq!(TensorType::from_id(u32::MAX), None);
}

// ---- fingerprint ----

#[test]
fn a_fingerprint_sees_every_weight_and_nothing_else() {
    let bench = Bench::new();
    let of = |draft: &Draft| {
        let file = GgufFile::open(bench.write("other.gguf", &draft.plain())).unwrap();
        Fingerprint::of_model(&file).unwrap()
    };
    let mut same = base_model();
    same.set_str("general.name", "renamed");
    same.tensors.reverse();
    assert_eq!(of(&same), bench.fingerprint);
    assert_eq!(Fingerprint::parse(bench.fingerprint.as_str()).unwrap(), bench.fingerprint);

    for i in 0..base_model().tensors.len() {
        // Fine-tuned: every element moved by a thousandth.
        let mut tuned = base_model();
        let tensor = &mut tuned.tensors[i];
        let mut values = vec![0.0; tensor.ne.iter().product()];
        tensor.ty.dequantize(&tensor.bytes, &mut values).unwrap();
        values.iter_mut().for_each(|x| *x *= 1.001);
        tensor.bytes.clear();
        tensor.ty.quantize(&values, tensor.ne[0], &mut tensor.bytes).unwrap();
        assert_ne!(of(&tuned), bench.fingerprint, "tensor {i}");
        let mut renamed = base_model();
        renamed.tensors[i].name += "x";
        assert_ne!(of(&renamed), bench.fingerprint, "tensor {i}");
    }
    let mut reshaped = base_model();
    reshaped.tensors[0].ne = vec![128, 150];
    assert_ne!(of(&reshaped), bench.fingerprint);
    for text in ["", "xyz", &bench.fingerprint.as_str().to_uppercase()] {
        assert_refused(text, Fingerprint::parse(text), &["64 lower-case hexadecimal digits"]);
    }
}

#[test]
fn a_fingerprint_is_computed_as_described() {
    let mut described = base_model().tensors;
    described.sort_by(|a, b| a.name.cmp(&b.name));
    let mut input = Vec::new();
    for tensor in &described {
        let mut numbers = [tensor.name.len() as u64, u64::from(tensor.ty.id()), 1, 1, 1, 1];
        tensor.ne.iter().zip(&mut numbers[2..]).for_each(|(&n, number)| *number = n as u64);
        input.extend(numbers[0].to_le_bytes());
        input.extend(tensor.name.as_bytes());
        numbers[1..].iter().for_each(|n| input.extend(n.to_le_bytes()));
        let bytes = &tensor.bytes;
        if bytes.len() <= 16384 {
            input.extend(bytes);
        } else {
            let last = bytes.len() - 4096;
            for start in [0, last / 3, last / 3 * 2, last] {
                input.extend(&bytes[start..start + 4096]);
            }
        }
    }
    // One tensor of each size, or the test would not see one of the two cases.
    assert!(
        described.iter().any(|t| t.bytes.len() > 16384) && described.iter().any(|t| t.bytes.len() <= 16384)
    );
    assert_eq!(Bench::new().fingerprint.as_str(), blake3::hash(&input).to_hex().as_str());
}

#[test]
fn only_complete_models_have_a_fingerprint() {
    let bench = Bench::new();
    let adapter = GgufFile::open(bench.write("a.gguf", &sidecar(&bench.fingerprint).sealed())).unwrap();
    assert_refused("adapter", Fingerprint::of_model(&adapter), &["a.gguf", "found an adapter", "hint"]);
    let empty = GgufFile::open(bench.write("e.gguf", &Raw::new(0, 0).data(&[]))).unwrap();
    assert_refused("empty", Fingerprint::of_model(&empty), &["without tensors"]);
    let split = Raw::new(1, 1).str("split.count").u32(2).data(&[]);
    // The u16 value, then one tensor, without the padding that `data` puts between.
    let mut raw = Raw(split[..24 + 8 + 11 + 4].to_vec());
    raw.0.extend(3u16.to_le_bytes());
    let split = GgufFile::open(bench.write("s.gguf", &raw.tensor("a", &[4], 0, 0).data(&[0; 16]))).unwrap();
    assert_refused("split", Fingerprint::of_model(&split), &["one part of a split model", "--merge"]);
}

#[test]
fn the_real_model_is_read() {
    let Some(path) = shared("models/stories260K-f32.gguf") else { return };
    let model = GgufFile::open(&path).unwrap();
    assert_eq!(model.tensor("blk.0.ffn_down.weight").unwrap().ne, [172, 64, 1, 1]);
    let fingerprint = Fingerprint::of_model(&model).unwrap();
    assert_eq!(Fingerprint::of_model(&GgufFile::open(&path).unwrap()).unwrap(), fingerprint);
    for tensor in model.tensors() {
        assert!(model.to_f32(tensor).unwrap().iter().all(|x| x.is_finite()), "{}", tensor.name);
    }
}

fn shared(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("LLAMA_SVF_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")), PathBuf::from);
    let path = root.join(name);
    if !path.is_file() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

// ---- sidecar ----

#[test]
fn a_sidecar_says_what_was_written() {
    let bench = Bench::new();
    let path = bench.write("a.svf.gguf", &sidecar(&bench.fingerprint).sealed());
    let sidecar = Sidecar::open(&path).unwrap();
    assert_eq!(sidecar.about.rank, Some(64));
    assert_eq!(sidecar.weights.len(), WEIGHTS.len());
    for (weight, (name, n_in, n_out, rank, u, vt)) in sidecar.weights.iter().zip(WEIGHTS) {
        assert_eq!((&*weight.name, weight.n_in, weight.n_out, weight.rank), (name, n_in, n_out, rank));
        assert_eq!((weight.u.ty, weight.vt.ty), (u, vt));
        assert_eq!(weight.is_full_rank(), rank == 64);
        assert_eq!(sidecar.weight(name).unwrap().sigma, weight.sigma);
    }
    assert!(!sidecar.is_full_rank());
    sidecar.check_model(&bench.model).unwrap();
    sidecar.verify(&Silent).unwrap();
}

#[test]
fn a_sidecar_written_piece_by_piece_is_the_same_file() {
    let bench = Bench::new();
    let draft = sidecar(&bench.fingerprint);
    let about = About {
        base_name: "tiny".into(),
        architecture: "llama".into(),
        rank: Some(64),
        selection: "ffn".into(),
        factor_type: TensorType::Q8_0,
    };
    let mut header = SidecarHeader::new(&bench.fingerprint, &about).unwrap();
    for (name, n_in, n_out, rank, u, vt) in WEIGHTS {
        header.add_weight(name, [n_in, n_out], rank, u, vt).unwrap();
    }
    let mut bytes = vec![0; header.total_size()];
    let mut sums = std::collections::HashMap::new();
    // In another order than the table's, as threads finish.
    for tensor in draft.tensors.iter().rev() {
        let at = header.data_offset(&tensor.name).unwrap();
        bytes[at..at + tensor.bytes.len()].copy_from_slice(&tensor.bytes);
        assert_refused("unfinished", Sidecar::open(bench.write("part.gguf", &bytes)), &["magic"]);
        assert_refused("no sums", header.encode(&sums), &["has no checksum"]);
        sums.insert(tensor.name.clone(), blake3::hash(&tensor.bytes));
    }
    let encoded = header.encode(&sums).unwrap();
    bytes[..encoded.len()].copy_from_slice(&encoded);
    let sidecar = Sidecar::open(bench.write("whole.svf.gguf", &bytes)).unwrap();
    sidecar.verify(&Silent).unwrap();
    assert_eq!(sidecar.about, about);
    assert_eq!(header.tensors().len(), 9);

    let long = "x".repeat(58);
    let mut add = |name, rank, ty| header.add_weight(name, [64, 96], rank, ty, ty);
    assert_refused("name", add(&long, 4, TensorType::F16), &["1 to 63 bytes", "found 64"]);
    assert_refused("rank", add("a", 65, TensorType::F16), &["weight a: expected at most 64 components"]);
    assert_refused("type", add("a", 32, TensorType::Q4_0), &["weight a: expected type f32, f16 or q8_0"]);
    assert_refused("rows", add("a", 5, TensorType::Q8_0), &["multiple of 32", "found 5"]);
}

const UP: &str = "blk.0.ffn_up.weight";

#[test]
fn sidecars_that_do_not_hold_what_they_promise_are_refused() {
    let bench = Bench::new();
    type Spoil = fn(&mut Draft);
    let cases: &[(&str, Spoil, &[&str])] = &[
        ("good", |_| {}, &[]),
        ("good: full", |d| d.set_str("svf.rank", "full"), &[]),
        ("good: extra key", |d| d.set("extra", Value::Bool(true)), &[]),
        ("good: zeros in σ", |d| d.tensor("blk.0.ffn_up.weight.svf_s").bytes.fill(0), &[]),
        (
            "model",
            |d| {
                d.remove("general.type");
                d.remove("adapter.type")
            },
            &["adapter.type: expected 'svf' (a sidecar), found none", "hint"],
        ),
        (
            "LoRA",
            |d| d.set_str("adapter.type", "lora"),
            &["adapter.type: expected 'svf' (a sidecar), found 'lora'"],
        ),
        ("expert", |d| d.set_str("adapter.type", "svf-expert"), &["adapter.type: expected 'svf'"]),
        (
            "kind of another type",
            |d| d.set("adapter.type", Value::U32(1)),
            &["adapter.type: expected str, found u32"],
        ),
        (
            "version 2",
            |d| d.set("svf.version", Value::U32(2)),
            &["svf.version: expected version 1, found 2", "update"],
        ),
        (
            "no version",
            |d| d.remove("svf.version"),
            &["svf.version: expected a u32, found no such key", "hint"],
        ),
        ("no fingerprint", |d| d.remove("svf.base.fingerprint"), &["svf.base.fingerprint: expected a str"]),
        (
            "fingerprint",
            |d| d.set_str("svf.base.fingerprint", "abc"),
            &["svf.base.fingerprint: expected a fingerprint of 64"],
        ),
        (
            "rank 0",
            |d| d.set_str("svf.rank", "0"),
            &["svf.rank: expected 'full' or a positive number, found '0'"],
        ),
        ("rank -3", |d| d.set_str("svf.rank", "-3"), &["svf.rank: "]),
        ("type", |d| d.set_str("svf.type", "f99"), &["svf.type: expected a tensor type"]),
        ("no selection", |d| d.remove("svf.tensors"), &["svf.tensors: expected a str"]),
        ("no name", |d| d.remove("svf.base.name"), &["svf.base.name: expected a str"]),
        ("no architecture", |d| d.remove("general.architecture"), &["general.architecture: expected a str"]),
        ("no tensors", |d| d.tensors.clear(), &["tensors: expected at least one adapted weight, found none"]),
        (
            "no u",
            |d| d.tensors.retain(|t| t.name != "blk.0.ffn_up.weight.svf_u"),
            &["tensor blk.0.ffn_up.weight.svf_u: expected a tensor of this name, found none", "decompose"],
        ),
        (
            "no s",
            |d| d.tensors.retain(|t| t.name != "blk.0.ffn_up.weight.svf_s"),
            &["tensor blk.0.ffn_up.weight.svf_s: expected a tensor"],
        ),
        (
            "no vt",
            |d| d.tensors.retain(|t| t.name != "blk.0.ffn_up.weight.svf_vt"),
            &["tensor blk.0.ffn_up.weight.svf_vt: expected a tensor"],
        ),
        (
            "stray",
            |d| d.add("stray", &[4], TensorType::F32, &[0.0; 4]),
            &["tensor stray: expected names that end in .svf_u, .svf_s or .svf_vt"],
        ),
        (
            "σ as f16",
            |d| {
                let t = d.tensor("blk.0.ffn_up.weight.svf_s");
                t.ty = TensorType::F16;
                t.bytes.truncate(64)
            },
            &["svf_s: expected type f32, found f16"],
        ),
        (
            "u as q4_0",
            |d| {
                let t = d.tensor("blk.0.ffn_up.weight.svf_u");
                t.ty = TensorType::Q4_0;
                t.bytes.truncate(96 * 18)
            },
            &["svf_u: expected type f32, f16 or q8_0, found q4_0"],
        ),
        (
            "rank of u",
            |d| {
                let t = d.tensor("blk.1.ffn_up.weight.svf_u");
                t.ne = vec![32, 192]
            },
            &["svf_u: expected shape [64, 192] (rank 64), found [32, 192, 1, 1]"],
        ),
        (
            "rank of vt",
            |d| {
                let t = d.tensor("blk.1.ffn_up.weight.svf_vt");
                t.ne = vec![128, 32]
            },
            &["svf_vt: expected shape [128, 64]"],
        ),
        (
            "3-D",
            |d| {
                let t = d.tensor("blk.1.ffn_up.weight.svf_u");
                t.ne = vec![64, 48, 2]
            },
            &["svf_u: expected shape [64, 48]"],
        ),
        (
            "σ 2-D",
            |d| {
                let t = d.tensor("blk.0.ffn_up.weight.svf_s");
                t.ne = vec![16, 2]
            },
            &["svf_s: expected shape [16, 1]"],
        ),
        (
            "rank > n_in",
            |d| {
                d.tensors.retain(|t| !t.name.starts_with("blk.1"));
                d.add("blk.1.a.svf_u", &[5, 9], TensorType::F32, &[0.0; 45]);
                d.add("blk.1.a.svf_s", &[5], TensorType::F32, &[0.0; 5]);
                d.add("blk.1.a.svf_vt", &[4, 5], TensorType::F32, &[0.0; 20]);
            },
            &["blk.1.a.svf_s: expected at most 4 components, found 5"],
        ),
        (
            "NaN in σ",
            |d| d.tensor("blk.0.ffn_up.weight.svf_s").bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes()),
            &["svf_s: expected finite, non-negative, descending values, found NaN at component 0"],
        ),
        (
            "∞ in σ",
            |d| {
                d.tensor("blk.0.ffn_up.weight.svf_s").bytes[..4].copy_from_slice(&f32::INFINITY.to_le_bytes())
            },
            &["found inf at component 0"],
        ),
        (
            "negative σ",
            |d| d.tensor("blk.0.ffn_up.weight.svf_s").bytes[124..].copy_from_slice(&(-1f32).to_le_bytes()),
            &["found -1 at component 31"],
        ),
        (
            "ascending σ",
            |d| d.tensor("blk.0.ffn_up.weight.svf_s").bytes[4..8].copy_from_slice(&99f32.to_le_bytes()),
            &["found 99 at component 1"],
        ),
    ];
    for (case, spoil, fragments) in cases {
        let mut draft = sidecar(&bench.fingerprint);
        spoil(&mut draft);
        let path = bench.write("case.svf.gguf", &draft.sealed());
        let outcome = Sidecar::open(&path);
        if fragments.is_empty() {
            outcome.unwrap_or_else(|error| panic!("{case}: {error}"));
            continue;
        }
        let error = assert_refused(case, outcome, fragments).to_string();
        assert!(error.starts_with(path.to_str().unwrap()) && error.contains("(hint: "), "{case}: {error}");
    }
    let unsealed = bench.write("unsealed.svf.gguf", &sidecar(&bench.fingerprint).plain());
    assert_refused("unsealed", Sidecar::open(unsealed), &["svf.seal: expected a str, found no such key"]);
}

#[test]
fn a_sidecar_refuses_another_model() {
    let bench = Bench::new();
    let mut other = base_model();
    other.tensors[0].bytes[0] ^= 1;
    let other = GgufFile::open(bench.write("other.gguf", &other.plain())).unwrap();
    let sidecar_file =
        Sidecar::open(bench.write("a.svf.gguf", &sidecar(&bench.fingerprint).sealed())).unwrap();
    assert_refused(
        "fingerprint",
        sidecar_file.check_model(&other),
        &[
            "a.svf.gguf: svf.base.fingerprint: expected base model",
            "('tiny'), found",
            "other.gguf",
            "made for another model; run `decompose`",
        ],
    );
    let mut draft = sidecar(&bench.fingerprint);
    for suffix in ["svf_u", "svf_s", "svf_vt"] {
        draft.tensor(&format!("{UP}.{suffix}")).name = format!("blk.7.x.{suffix}");
    }
    let missing = Sidecar::open(bench.write("b.svf.gguf", &draft.sealed())).unwrap();
    assert_refused(
        "missing",
        missing.check_model(&bench.model),
        &["weight blk.7.x: expected shape [64, 96, 1, 1] in the model, found no such tensor"],
    );
}

#[test]
fn verify_finds_factors_that_are_not_finite() {
    let bench = Bench::new();
    let cases: &[(&str, &str, usize, [u8; 2])] = &[
        ("f16 ∞", "blk.0.ffn_down.weight.svf_u", 10, f16_bytes(f32::INFINITY)),
        ("f16 NaN", "blk.1.ffn_up.weight.svf_vt", 0, f16_bytes(f32::NAN)),
        ("q8_0 scale ∞", "blk.0.ffn_up.weight.svf_u", 34, f16_bytes(f32::INFINITY)),
        ("q8_0 scale NaN", "blk.0.ffn_down.weight.svf_vt", 68, f16_bytes(f32::NAN)),
        ("f32 ∞", "blk.1.ffn_up.weight.svf_u", 6, [0x80, 0x7f]),
    ];
    for (case, name, at, bytes) in cases {
        let mut draft = sidecar(&bench.fingerprint);
        let tensor = draft.tensor(name);
        tensor.bytes[*at..at + 2].copy_from_slice(bytes);
        if *case == "f32 ∞" {
            tensor.bytes[4..6].fill(0);
        }
        let sidecar = Sidecar::open(bench.write("case.svf.gguf", &draft.sealed())).unwrap();
        assert_refused(
            case,
            sidecar.verify(&Silent),
            &["case.svf.gguf", name, "expected finite values", "hint"],
        );
    }
}

// ---- damage ----

/// Bytes of `file` that belong to a tensor, by position in the file.
fn tensor_at(file: &GgufFile, at: usize) -> Option<&str> {
    let holds = |t: &&llama_svf::ffi::gguf::TensorInfo| (t.offset..t.offset + t.n_bytes).contains(&at);
    file.tensors().iter().find(holds).map(|tensor| tensor.name.as_str())
}

/// Every length below the whole, and thousands of single flipped bits.
fn damage(seed: u64, good: &[u8], n_flips: usize, mut check: impl FnMut(&str, &[u8], Option<usize>)) {
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for length in 0..good.len() {
        // All of the header, then a sample: data positions are alike.
        if length < 8000 || rng.random_ratio(1, 40) {
            check(&format!("cut to {length} bytes"), &good[..length], None);
        }
    }
    for _ in 0..n_flips {
        let (at, bit) = (rng.random_range(0..good.len()), rng.random_range(0..8));
        let mut bytes = good.to_vec();
        bytes[at] ^= 1 << bit;
        check(&format!("bit {bit} of byte {at} flipped"), &bytes, Some(at));
    }
}

#[test]
fn a_damaged_sidecar_is_noticed_or_harmless() {
    let bench = Bench::new();
    let good = sidecar(&bench.fingerprint).sealed();
    let whole = Sidecar::open(bench.write("good.svf.gguf", &good)).unwrap();
    let end = whole.file().tensors().iter().map(|t| t.offset + t.n_bytes).max().unwrap();
    let (mut refused, mut verify_found, mut harmless) = (0, 0, 0);
    damage(21, &good, 6000, |case, bytes, flipped| {
        let path = bench.write("bad.svf.gguf", bytes);
        let damaged = flipped.map_or(bytes.len() < end, |at| at < whole.file().data_offset());
        let tensor = flipped.and_then(|at| tensor_at(whole.file(), at));
        match Sidecar::open(&path) {
            Err(error) => {
                assert!(damaged || tensor.is_some_and(|name| name.ends_with(".svf_s")), "{case}: {error}");
                assert_refused::<()>(case, Err(error), &["bad.svf.gguf: ", "(hint: "]);
                refused += 1;
            }
            Ok(sidecar) => {
                assert!(!damaged, "{case}: accepted");
                let verdict = sidecar.verify(&Silent);
                assert_eq!(verdict.is_err(), tensor.is_some(), "{case}");
                if let Err(error) = verdict {
                    assert_refused::<()>(case, Err(error), &[tensor.unwrap(), "checksum", "(hint: "]);
                    verify_found += 1;
                } else {
                    harmless += 1;
                }
            }
        }
    });
    println!(
        "sidecar of {} bytes: {refused} refused, {verify_found} found by verify, {harmless} in padding",
        good.len()
    );
    assert!(refused > 1000 && verify_found > 1000);
}

#[test]
fn a_damaged_expert_is_noticed_or_harmless() {
    let bench = Bench::new();
    let good = expert(&bench.fingerprint).sealed();
    let path = bench.write("good.expert.gguf", &good);
    let whole = Expert::open(&path).unwrap();
    let file = GgufFile::open(&path).unwrap();
    let end = file.tensors().iter().map(|t| t.offset + t.n_bytes).max().unwrap();
    let (mut refused, mut harmless) = (0, 0);
    damage(22, &good, 6000, |case, bytes, flipped| {
        let path = bench.write("bad.expert.gguf", bytes);
        let damaged =
            flipped.map_or(bytes.len() < end, |at| at < file.data_offset() || tensor_at(&file, at).is_some());
        match Expert::open(&path) {
            Err(error) => {
                assert!(damaged, "{case}: {error}");
                assert_refused::<()>(case, Err(error), &["bad.expert.gguf: ", "(hint: "]);
                refused += 1;
            }
            Ok(expert) => {
                assert!(!damaged, "{case}: accepted");
                assert_eq!(expert, whole, "{case}");
                harmless += 1;
            }
        }
    });
    println!("expert of {} bytes: {refused} refused, {harmless} in padding", good.len());
    assert!(refused > 2000);
}

#[test]
fn a_damaged_model_never_ends_the_process() {
    let bench = Bench::new();
    let good = base_model().plain();
    let (mut refused, mut read) = (0, 0);
    let mut check = |case: &str, bytes: &[u8], _: Option<usize>| {
        let path = bench.write("bad.gguf", bytes);
        let used = GgufFile::open(&path).and_then(|file| {
            assert!(file.metadata().len() < 1000);
            file.tensors().iter().try_for_each(|tensor| file.to_f32(tensor).map(drop))?;
            Fingerprint::of_model(&file)
        });
        match used {
            Err(error) => {
                assert_refused::<()>(case, Err(error), &["bad.gguf: "]);
                refused += 1;
            }
            Ok(_) => read += 1,
        }
    };
    damage(23, &good, 2000, &mut check);
    // Most bytes are data; aim at the header, several bits at a time.
    let mut rng = ChaCha8Rng::seed_from_u64(24);
    let header = bench.model.data_offset();
    for _ in 0..6000 {
        let mut bytes = good.clone();
        let mut case = String::from("flipped");
        for _ in 0..rng.random_range(1..4) {
            let (at, bit) = (rng.random_range(0..header), rng.random_range(0..8));
            bytes[at] ^= 1 << bit;
            case += &format!(" {at}.{bit}");
        }
        check(&case, &bytes, None);
    }
    println!("model of {} bytes: {refused} refused, {read} read", good.len());
    assert!(refused > 2000 && read > 2000);
}

// ---- experts ----

fn open_sidecar(bench: &Bench) -> Sidecar {
    Sidecar::open(bench.write("a.svf.gguf", &sidecar(&bench.fingerprint).sealed())).unwrap()
}

#[test]
fn an_expert_survives_saving() {
    let bench = Bench::new();
    let sidecar = open_sidecar(&bench);
    let path = bench.path("one.expert.gguf");
    let mut expert = Expert::identity("one", &sidecar);
    for training in [
        None,
        Some(Training {
            task: "gsm8k".into(),
            steps: 9,
            validation_before: 0.5,
            validation_after: 0.75,
            seed: u64::MAX,
            layers: Some("8-15".into()),
        }),
    ] {
        expert.training = training;
        expert.multipliers.values_mut().for_each(|m| m[0] -= 0.1);
        expert.save(&path).unwrap();
        assert_eq!(Expert::open(&path).unwrap(), expert);
        expert.check(&sidecar).unwrap();
    }
    // Byte for byte what the other writer makes of the same content.
    let draft = drafts::expert(&bench.fingerprint);
    let read = Expert::open(bench.write("b.expert.gguf", &draft.sealed())).unwrap();
    read.save(&path).unwrap();
    assert_eq!(Expert::open(&path).unwrap(), read);
    assert_eq!(bench.names(), ["a.svf.gguf", "b.expert.gguf", "one.expert.gguf", "tiny.gguf"]);
}

#[test]
fn a_profile_survives_saving_and_what_is_wrong_with_one_is_said() {
    let bench = Bench::new();
    let sidecar = open_sidecar(&bench);
    let rows = |n: usize, width: usize| -> Vec<Vec<f32>> {
        (0..n).map(|i| (0..width).map(|k| ((i * 7 + k) % 11) as f32 / 11.0 - 0.4).collect()).collect()
    };
    // Rows that fill the blocks of Q8_0, and rows that do not.
    for width in [64, 20] {
        let mut expert = Expert::identity("described", &sidecar);
        let own = Rows::new(width, &rows(5, width)).unwrap();
        let other = Rows::new(width, &rows(3, width)).unwrap();
        expert.profile = Profile {
            questions: vec!["What is 1 + 1?".into(), "Zwei\nund drei?".into()],
            states: Some(States { layer: 2, own, other }),
        };
        let path = bench.path("described.expert.gguf");
        expert.save(&path).unwrap();
        assert_eq!(Expert::open(&path).unwrap(), expert);
        assert_eq!(Expert::open(&path).unwrap().digest(), Expert::identity("x", &sidecar).digest());
        // A flipped bit in a hidden state is noticed.
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 33;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(Expert::open(&path).is_err());
    }
    let refused = |profile: Profile, fragment: &str| {
        let expert = Expert { profile, ..Expert::identity("bad", &sidecar) };
        assert_refused(fragment, expert.save(bench.path("bad.expert.gguf")), &[fragment]);
    };
    let questions = |questions: &[&str]| Profile {
        questions: questions.iter().map(|&it| it.to_owned()).collect(),
        states: None,
    };
    refused(questions(&[" "]), "svf.profile.questions");
    refused(questions(&["a\0b"]), "svf.profile.questions");
    refused(questions(&["long"; 33]), "at most 32 questions");
    let own = Rows::new(20, &rows(1, 20)).unwrap();
    let other = Rows::new(24, &rows(1, 24)).unwrap();
    refused(
        Profile { questions: Vec::new(), states: Some(States { layer: 0, own, other }) },
        "svf.profile.other",
    );
    assert!(Rows::new(20, &rows(1, 21)).is_err());
}

#[test]
fn an_expert_that_cannot_be_saved_leaves_the_old_file() {
    let bench = Bench::new();
    let sidecar = open_sidecar(&bench);
    let path = bench.path("one.expert.gguf");
    let good = Expert::identity("one", &sidecar);
    good.save(&path).unwrap();
    let before = std::fs::read(&path).unwrap();
    let spoiled = |spoil: fn(&mut Expert)| {
        let mut expert = good.clone();
        spoil(&mut expert);
        expert.save(&path)
    };
    assert_refused(
        "NaN",
        spoiled(|e| e.multipliers.get_mut(UP).unwrap()[3] = f32::NAN),
        &["one.expert.gguf: ", "found NaN at component 3"],
    );
    assert_refused("name", spoiled(|e| e.name = "a=b".into()), &["general.name", "found 'a=b'"]);
    assert_refused(
        "description",
        spoiled(|e| e.description = "two\nlines".into()),
        &["general.description", "one line"],
    );
    assert_refused("NUL", spoiled(|e| e.description = "a\0b".into()), &["general.description"]);
    assert_refused("empty", spoiled(|e| e.multipliers.clear()), &["at least one weight"]);
    assert_refused(
        "empty m",
        spoiled(|e| e.multipliers.get_mut(UP).unwrap().clear()),
        &["at least one multiplier"],
    );
    assert_refused(
        "weight name",
        spoiled(|e| drop(e.multipliers.insert("x".repeat(64), vec![1.0]))),
        &["1 to 63 bytes"],
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_refused(
        "directory",
        good.save(bench.path("no/such/x.expert.gguf")),
        &["x.expert.gguf: cannot write"],
    );
    assert_refused("device", good.save("/dev/full"), &["/dev/full", "found a directory or device"]);
    assert_eq!(bench.names(), ["a.svf.gguf", "one.expert.gguf", "tiny.gguf"]);
}

/// The file size limit stands for a full disk: the write fails in the middle, in a process of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_no_broken_expert() {
    const NAME: &str = "a_full_disk_leaves_no_broken_expert";
    if let Some(path) = std::env::var_os("FILES_TEST_SAVE_TO") {
        let multipliers = std::collections::BTreeMap::from([("a".to_owned(), vec![0.5; 100_000])]);
        let fingerprint = Fingerprint::parse(&"0".repeat(64)).unwrap();
        let expert = Expert {
            name: "big".into(),
            description: String::new(),
            fingerprint,
            multipliers,
            training: None,
            profile: Profile::default(),
        };
        assert_refused("limit", expert.save(path), &["big.expert.gguf: cannot write: "]);
        return;
    }
    let bench = Bench::new();
    // Ignoring the signal turns it into an error of the write, as a full disk gives.
    let script = format!("trap '' XFSZ; ulimit -f 100; exec \"$0\" --exact {NAME}");
    let status = std::process::Command::new("sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env("FILES_TEST_SAVE_TO", bench.path("big.expert.gguf"))
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(bench.names(), ["tiny.gguf"]);
}

#[test]
fn experts_that_do_not_hold_what_they_promise_are_refused() {
    let bench = Bench::new();
    type Spoil = fn(&mut Draft);
    let cases: &[(&str, Spoil, &[&str])] = &[
        ("good", |_| {}, &[]),
        ("good: untrained", |d| d.metadata.retain(|(key, _)| !key.starts_with("svf.training")), &[]),
        ("good: fewer weights", |d| drop(d.tensors.pop()), &[]),
        (
            "sidecar",
            |d| d.set_str("adapter.type", "svf"),
            &["adapter.type: expected 'svf-expert' (an expert), found 'svf'"],
        ),
        (
            "model",
            |d| d.remove("adapter.type"),
            &["adapter.type: expected 'svf-expert' (an expert), found none"],
        ),
        ("version", |d| d.set("svf.version", Value::U32(7)), &["svf.version: expected version 1, found 7"]),
        (
            "fingerprint",
            |d| d.set_str("svf.base.fingerprint", &"g".repeat(64)),
            &["svf.base.fingerprint: expected a fingerprint"],
        ),
        ("no name", |d| d.remove("general.name"), &["general.name: expected a str"]),
        (
            "name",
            |d| d.set_str("general.name", "a,b"),
            &["general.name: expected an expert name", "found 'a,b'"],
        ),
        ("empty name", |d| d.set_str("general.name", ""), &["general.name: expected an expert name"]),
        ("no description", |d| d.remove("general.description"), &["general.description: expected a str"]),
        (
            "escape",
            |d| d.set_str("general.description", "\x1b[2J"),
            &["general.description: expected one line"],
        ),
        ("half trained", |d| d.remove("svf.training.seed"), &["svf.training.seed: expected a value"]),
        (
            "NaN score",
            |d| d.set("svf.training.validation_after", Value::F32(f32::NAN)),
            &["validation_after: expected a finite number, found NaN"],
        ),
        (
            "steps type",
            |d| d.set("svf.training.steps", Value::U32(1)),
            &["svf.training.steps: expected u64, found u32"],
        ),
        ("no tensors", |d| d.tensors.clear(), &["tensors: expected multipliers for at least one weight"]),
        (
            "f16",
            |d| {
                let t = d.tensor(UP);
                t.ty = TensorType::F16;
                t.bytes.truncate(64)
            },
            &["tensor blk.0.ffn_up.weight: expected an f32 vector, found f16 [32]"],
        ),
        ("2-D", |d| d.tensor(UP).ne = vec![16, 2], &["expected an f32 vector, found f32 [16, 2]"]),
        (
            "NaN",
            |d| d.tensor(UP).bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes()),
            &["tensor blk.0.ffn_up.weight: expected finite multipliers, found NaN at component 1"],
        ),
        (
            "∞",
            |d| d.tensor(UP).bytes[4..8].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes()),
            &["found -inf at component 1"],
        ),
    ];
    for (case, spoil, fragments) in cases {
        let mut draft = expert(&bench.fingerprint);
        spoil(&mut draft);
        let path = bench.write("case.expert.gguf", &draft.sealed());
        let outcome = Expert::open(&path);
        if fragments.is_empty() {
            let expert = outcome.unwrap_or_else(|error| panic!("{case}: {error}"));
            expert.check(&open_sidecar(&bench)).unwrap();
            continue;
        }
        let error = assert_refused(case, outcome, fragments).to_string();
        assert!(error.starts_with(path.to_str().unwrap()) && error.contains("(hint: "), "{case}: {error}");
    }
}

#[test]
fn an_expert_set_holds_only_experts_that_fit() {
    let bench = Bench::new();
    let sidecar = open_sidecar(&bench);
    let mut set = ExpertSet::new(&sidecar);
    assert_refused("none", set.get("maths"), &["expert maths: unknown expert; no expert is loaded", "hint"]);
    let maths = Expert::open(bench.write("m.expert.gguf", &expert(&bench.fingerprint).sealed())).unwrap();
    set.insert(maths.clone()).unwrap();
    assert_refused(
        "taken",
        set.insert(maths.clone()),
        &["expert maths: an expert of this name is loaded already"],
    );
    assert_eq!(set.replace(maths.clone()).unwrap(), Some(maths.clone().into()));
    set.insert(Expert::identity("code", &sidecar)).unwrap();
    assert_eq!(set.names(), ["code", "maths"]);
    assert_refused("unknown", set.get("music"), &["expert music: unknown expert; loaded: code, maths"]);

    let spoiled = |spoil: &dyn Fn(&mut Expert)| {
        let mut expert = maths.clone();
        expert.name = "new".into();
        spoil(&mut expert);
        expert
    };
    let other = Fingerprint::parse(&"0".repeat(64)).unwrap();
    for (case, expert, fragment) in [
        ("model", spoiled(&|e| e.fingerprint = other.clone()), "this expert was trained for another model"),
        (
            "length",
            spoiled(&|e| e.multipliers.get_mut(UP).unwrap().truncate(31)),
            "expert new: expected 32 multipliers for blk.0.ffn_up.weight, found 31",
        ),
        (
            "stray",
            spoiled(&|e| drop(e.multipliers.insert("blk.9.x".into(), vec![1.0]))),
            "weight blk.9.x is not in the sidecar",
        ),
        ("NaN", spoiled(&|e| e.multipliers.get_mut(UP).unwrap()[0] = f32::NAN), "found NaN at component 0"),
        ("name", spoiled(&|e| e.name = "a b".into()), "an expert name of 1 to 64"),
    ] {
        assert_refused(case, set.insert(expert.clone()), &[fragment]);
        assert_refused(case, set.replace(expert), &[fragment]);
    }
    assert_eq!(*set.remove("maths").unwrap(), maths);
    assert_refused("gone", set.remove("maths"), &["loaded: code"]);
    assert_eq!(set.iter().count(), 1);
}

#[test]
fn mixtures_give_the_multipliers_of_the_formula() {
    let bench = Bench::new();
    let sidecar = open_sidecar(&bench);
    let mut set = ExpertSet::new(&sidecar);
    let a = Expert::open(bench.write("m.expert.gguf", &expert(&bench.fingerprint).sealed())).unwrap();
    let mut b = a.clone();
    b.name = "b".into();
    b.multipliers.remove("blk.0.ffn_down.weight");
    b.multipliers.values_mut().flatten().for_each(|m| *m = 3.0 - *m);
    set.insert(a.clone()).unwrap();
    set.insert(b.clone()).unwrap();
    set.insert(Expert::identity("one", &sidecar)).unwrap();
    for weight in &sidecar.weights {
        let m = |text: &str| set.multipliers(&Mixture::parse(text).unwrap(), weight).unwrap();
        let ones = vec![1.0; weight.rank];
        assert_eq!(set.multipliers(&Mixture::base(), weight).unwrap(), ones);
        assert_eq!(m("one=0.3"), ones);
        assert_eq!(m("one=-1e9,maths=0"), ones);
        assert_eq!(m("maths=1"), a.multipliers[&weight.name]);
        let mixed = m("maths=0.75,b=-0.5");
        for i in 0..weight.rank {
            let of = |e: &Expert| e.multipliers.get(&weight.name).map_or(1.0, |m| f64::from(m[i]));
            let expected = 1.0 + 0.75 * (of(&a) - 1.0) - 0.5 * (of(&b) - 1.0);
            assert_eq!(mixed[i], expected as f32, "{} {i}", weight.name);
        }
        let strong = Mixture::single("maths").strength(0.5).unwrap();
        assert_eq!(set.multipliers(&strong, weight).unwrap(), m("maths=0.5"));
    }
    let weight = &sidecar.weights[0];
    let multipliers = |text: &str| set.multipliers(&Mixture::parse(text).unwrap(), weight);
    assert_refused(
        "unknown",
        multipliers("maths=1,x=0"),
        &["expert x: unknown expert; loaded: b, maths, one"],
    );
    assert_refused("overflow", multipliers("maths=3e38"), &["expected finite multipliers", "hint"]);
}

#[test]
fn groups_of_layers_have_weights_of_their_own() {
    let bench = Bench::new();
    let sidecar = open_sidecar(&bench);
    let mut set = ExpertSet::new(&sidecar);
    set.insert(Expert::open(bench.write("m.expert.gguf", &expert(&bench.fingerprint).sealed())).unwrap())
        .unwrap();
    set.insert(Expert::identity("one", &sidecar)).unwrap();
    let path = bench.write("groups.json", b"{\"maths\": [0.5, 2], \"one\": 1}");
    let mixture = Mixture::parse(&format!("@{}", path.display())).unwrap();
    assert_eq!((mixture.n_groups(), mixture.to_string().as_str()), (2, "maths=0.5/2,one=1/1"));
    assert_eq!(mixture.weights().collect::<Vec<_>>(), [("maths", 1.25), ("one", 1.0)]);
    assert_eq!(mixture, Mixture::grouped(&["maths", "one"], &[0.5, 1.0, 2.0, 1.0]).unwrap());
    // What is written is what was read.
    let again = bench.write("again.json", mixture.to_json().to_string().as_bytes());
    assert_eq!(Mixture::parse(&format!("@{}", again.display())).unwrap(), mixture);
    let layer = |name: &str| name.strip_prefix("blk.").map(|rest| rest.split('.').next().unwrap() == "0");
    let n_layers = sidecar.weights.iter().filter(|weight| layer(&weight.name) == Some(false)).count();
    for weight in &sidecar.weights {
        let alpha = if layer(&weight.name) == Some(true) && n_layers > 0 { "maths=0.5" } else { "maths=2" };
        let alpha = if n_layers > 0 { alpha } else { continue };
        let plain = set.multipliers(&Mixture::parse(alpha).unwrap(), weight).unwrap();
        assert_eq!(set.multipliers(&mixture, weight).unwrap(), plain, "{}", weight.name);
    }
    let many = Mixture::grouped(&["maths"], &[1.0; 99]).unwrap();
    assert_refused("groups", set.multipliers(&many, &sidecar.weights[0]), &["groups of layers, found 99"]);
    assert_refused("rest", Mixture::grouped(&["a", "b"], &[1.0; 3]), &["each of 2 experts, found 3"]);
}

#[test]
fn mixtures_are_parsed_strictly() {
    let bench = Bench::new();
    let file = |text: &str| format!("@{}", bench.write("mix.json", text.as_bytes()).display());
    let good = Mixture::parse(" a = 0.7, b-1.x=3e-1 ").unwrap();
    assert_eq!(good.weights().collect::<Vec<_>>(), [("a", 0.7), ("b-1.x", 0.3)]);
    assert_eq!(good.to_string(), "a=0.7,b-1.x=0.3");
    assert_eq!(Mixture::parse(&file("{\"b-1.x\": 0.3,\n \"a\": 0.7}")).unwrap(), good);
    assert!(Mixture::parse("a=0,b=-0").unwrap().is_base() && Mixture::base().is_base() && !good.is_base());
    assert_eq!(Mixture::parse("a=-2").unwrap().strength(0.5).unwrap(), Mixture::parse("a=-1").unwrap());
    assert_eq!(Mixture::base().to_string(), "base");

    for (text, fragment) in [
        ("", "expected NAME=WEIGHT, found ''"),
        ("   ", "expected NAME=WEIGHT, found ''"),
        ("a", "expected NAME=WEIGHT, found 'a'"),
        ("a=", "expected NAME=WEIGHT, found 'a='"),
        ("a=x", "expected NAME=WEIGHT, found 'a=x'"),
        ("a=1,", "expected NAME=WEIGHT, found ''"),
        ("a=1;b=2", "expected NAME=WEIGHT, found 'a=1;b=2'"),
        ("a=1=2", "expected NAME=WEIGHT"),
        ("=1", "expected an expert name"),
        ("a b=1", "expected an expert name"),
        ("a=NaN", "expected a finite weight for 'a', found NaN"),
        ("a=-inf", "expected a finite weight for 'a', found -inf"),
        ("a=1e39", "expected a finite weight for 'a', found inf"),
        ("a=1,b=2,a=3", "expert 'a' appears twice"),
    ] {
        let error = assert_refused(text, Mixture::parse(text), &["mixture: ", fragment]);
        // The example of the syntax, unless the name itself was the problem.
        assert!(error.to_string().contains("such as maths"), "{error}");
    }
    for (json, fragment) in [
        ("", "EOF"),
        ("[1]", "expected an object of expert names and weights"),
        ("{}", "expected at least one expert"),
        ("{\"a\": \"x\"}", "expected a weight for 'a', found \"x\""),
        ("{\"a\": [0.5, null]}", "expected a weight for 'a', found null"),
        ("{\"a\": []}", "expected 1 weights for 'a', one per group, found 0"),
        ("{\"a\": [1, 2], \"b\": [1, 2, 3]}", "expected 3 weights for 'a', one per group, found 2"),
        ("{\"a\": 1e400}", "number out of range"),
        ("{\"a\": 1e39}", "expected a finite weight for 'a', found inf"),
        ("{\"a\": 1, \"a\": 1}", "expert 'a' appears twice"),
        ("{\"a b\": 1}", "expected an expert name"),
        ("{\"a\": 1} x", "trailing characters"),
    ] {
        assert_refused(json, Mixture::parse(&file(json)), &["mix.json: ", fragment, "hint"]);
    }
    assert_refused("absent", Mixture::parse("@/no/such.json"), &["/no/such.json: cannot read", "hint"]);
    #[cfg(unix)]
    assert_refused("device", Mixture::parse("@/dev/zero"), &["expected a JSON file"]);
    let single = Mixture::single("a");
    assert_refused(
        "strength",
        single.clone().strength(f32::NAN),
        &["strength: expected a finite number, found NaN"],
    );
    assert_refused("strength ∞", single.clone().strength(f32::INFINITY), &["found inf"]);
    assert_refused("product", Mixture::parse("a=3e38").unwrap().strength(9.0), &["finite weight for 'a'"]);
}
