//! Small files for tests, described as data so that a test can spoil exactly one thing.

use std::path::{Path, PathBuf};

use half::f16;
use llama_svf::ffi::gguf::{GgufFile, GgufHeader};
use llama_svf::ffi::tensor_type::TensorType;
use llama_svf::sidecar::{seal, Fingerprint};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A metadata value.
#[derive(Clone)]
pub enum Value {
    Str(String),
    U32(u32),
    U64(u64),
    F32(f32),
    Bool(bool),
    Strs(Vec<String>),
}

/// A tensor with its data.
#[derive(Clone)]
pub struct Tensor {
    pub name: String,
    pub ne: Vec<usize>,
    pub ty: TensorType,
    pub bytes: Vec<u8>,
}

/// A GGUF file to be.
#[derive(Clone, Default)]
pub struct Draft {
    pub metadata: Vec<(String, Value)>,
    pub tensors: Vec<Tensor>,
}

impl Draft {
    pub fn set(&mut self, key: &str, value: Value) {
        self.remove(key);
        self.metadata.push((key.into(), value));
    }

    pub fn set_str(&mut self, key: &str, value: &str) {
        self.set(key, Value::Str(value.into()));
    }

    pub fn remove(&mut self, key: &str) {
        self.metadata.retain(|(found, _)| found != key);
    }

    pub fn add(&mut self, name: &str, ne: &[usize], ty: TensorType, values: &[f32]) {
        let mut bytes = Vec::new();
        ty.quantize(values, ne[0], &mut bytes).unwrap();
        self.tensors.push(Tensor { name: name.into(), ne: ne.into(), ty, bytes });
    }

    pub fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    pub fn header(&self) -> GgufHeader {
        let mut header = GgufHeader::new();
        for (key, value) in &self.metadata {
            match value {
                Value::Str(value) => header.set_str(key, value),
                Value::U32(value) => header.set_u32(key, *value),
                Value::U64(value) => header.set_u64(key, *value),
                Value::F32(value) => header.set_f32(key, *value),
                Value::Bool(value) => header.set_bool(key, *value),
                Value::Strs(values) => header.set_strs(key, values),
            }
            .unwrap();
        }
        for tensor in &self.tensors {
            header.add_tensor(&tensor.name, &tensor.ne, tensor.ty).unwrap();
        }
        header
    }

    /// The file as bytes, sealed as sidecars and experts are.
    pub fn sealed(&self) -> Vec<u8> {
        let mut header = self.header();
        let sums: Vec<_> = self.tensors.iter().map(|tensor| blake3::hash(&tensor.bytes)).collect();
        let encoded = seal::encode(&mut header, &sums).unwrap();
        self.with_data(&header, encoded)
    }

    /// The file as bytes, as any GGUF is.
    pub fn plain(&self) -> Vec<u8> {
        let header = self.header();
        let encoded = header.encode();
        self.with_data(&header, encoded)
    }

    fn with_data(&self, header: &GgufHeader, mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.resize(header.total_size(), 0);
        for tensor in &self.tensors {
            let at = header.data_offset(&tensor.name).unwrap();
            bytes[at..at + tensor.bytes.len()].copy_from_slice(&tensor.bytes);
        }
        bytes
    }
}

pub fn random(rng: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Weights of the base model that the sidecar adapts: name, n_in, n_out, rank, types of U and Vᵀ.
pub const WEIGHTS: [(&str, usize, usize, usize, TensorType, TensorType); 3] = [
    ("blk.0.ffn_up.weight", 64, 96, 32, TensorType::Q8_0, TensorType::Q8_0),
    ("blk.0.ffn_down.weight", 96, 64, 5, TensorType::F16, TensorType::Q8_0),
    ("blk.1.ffn_up.weight", 64, 96, 64, TensorType::F32, TensorType::F16),
];

/// A base model in name and shape only; random weights in several types.
pub fn base_model() -> Draft {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut draft = Draft::default();
    draft.set_str("general.architecture", "llama");
    draft.set_str("general.name", "tiny");
    draft.set("llama.block_count", Value::U32(2));
    draft.set("test.u64", Value::U64(u64::MAX));
    draft.set("test.f32", Value::F32(0.25));
    draft.set("test.bool", Value::Bool(true));
    draft.set("tokenizer.ggml.tokens", Value::Strs(["a", "b", "c", "d", "e", "ü"].map(String::from).into()));
    draft.add("token_embd.weight", &[64, 300], TensorType::F32, &random(&mut rng, 64 * 300));
    for (name, n_in, n_out, ..) in WEIGHTS {
        draft.add(name, &[n_in, n_out], TensorType::F16, &random(&mut rng, n_in * n_out));
    }
    draft.add("output_norm.weight", &[64], TensorType::F32, &random(&mut rng, 64));
    draft
}

/// A sidecar for the model of this fingerprint; the factors are random, which no check can notice.
pub fn sidecar(fingerprint: &Fingerprint) -> Draft {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut draft = Draft::default();
    draft.set_str("general.type", "adapter");
    draft.set_str("adapter.type", "svf");
    draft.set_str("general.architecture", "llama");
    draft.set("svf.version", Value::U32(1));
    draft.set_str("svf.base.fingerprint", fingerprint.as_str());
    draft.set_str("svf.base.name", "tiny");
    draft.set_str("svf.rank", "64");
    draft.set_str("svf.tensors", "ffn");
    draft.set_str("svf.type", "q8_0");
    for (name, n_in, n_out, rank, u, vt) in WEIGHTS {
        draft.add(&format!("{name}.svf_u"), &[rank, n_out], u, &random(&mut rng, rank * n_out));
        let mut sigma: Vec<f32> = (0..rank).map(|_| rng.random_range(0.0..9.0)).collect();
        sigma.sort_by(|a, b| b.total_cmp(a));
        draft.add(&format!("{name}.svf_s"), &[rank], TensorType::F32, &sigma);
        draft.add(&format!("{name}.svf_vt"), &[n_in, rank], vt, &random(&mut rng, rank * n_in));
    }
    draft
}

/// An expert for the sidecar above.
pub fn expert(fingerprint: &Fingerprint) -> Draft {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut draft = Draft::default();
    draft.set_str("general.type", "adapter");
    draft.set_str("adapter.type", "svf-expert");
    draft.set("svf.version", Value::U32(1));
    draft.set_str("svf.base.fingerprint", fingerprint.as_str());
    draft.set_str("general.name", "maths");
    draft.set_str("general.description", "grade-school arithmetic");
    draft.set_str("svf.training.task", "gsm8k");
    draft.set("svf.training.steps", Value::U64(100));
    draft.set("svf.training.validation_before", Value::F32(0.25));
    draft.set("svf.training.validation_after", Value::F32(0.5));
    draft.set("svf.training.seed", Value::U64(7));
    for (name, _, _, rank, ..) in WEIGHTS {
        draft.add(name, &[rank], TensorType::F32, &random(&mut rng, rank));
    }
    draft
}

/// f32 values as little-endian bytes.
pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// An f16 bit pattern as little-endian bytes.
pub fn f16_bytes(value: f32) -> [u8; 2] {
    f16::from_f32(value).to_le_bytes()
}

/// A directory with a base model, its fingerprint, and a place for files.
pub struct Bench {
    directory: tempfile::TempDir,
    pub model: GgufFile,
    pub fingerprint: Fingerprint,
}

impl Bench {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tiny.gguf");
        std::fs::write(&path, base_model().plain()).unwrap();
        let model = GgufFile::open(&path).unwrap();
        let fingerprint = Fingerprint::of_model(&model).unwrap();
        Self { directory, model, fingerprint }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        // A new file each time: an old one may still be mapped.
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}
