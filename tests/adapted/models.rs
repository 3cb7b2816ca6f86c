//! Models with sidecars for tests that run them: random or real, in a folder that goes away, and the same
//! model with other weights, written by hand.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_svf::decompose::{decompose, DecomposeOptions, RankPolicy, Selection};
use llama_svf::engine::Form;
use llama_svf::engine::{
    AdaptedModel, AdapterOptions, GraphOp, Input, KvType, Model, Session, SessionOptions, Token,
};
use llama_svf::expert::{Expert, Mixture};
use llama_svf::ffi::gguf::{GgufFile, GgufHeader};
use llama_svf::ffi::tensor_type::TensorType;
use llama_svf::progress::{Interrupt, Silent};
use llama_svf::sidecar::Sidecar;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

pub use crate::random_model::{RandomModel, SLIDING_WINDOW, WINDOW_BASE};

/// The real model `stories260K`; `None`, with a line that says so, where it is absent.
pub fn stories() -> Option<PathBuf> {
    let shared = std::env::var("LLAMA_SVF_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    let path = Path::new(&shared).join("models/stories260K-f32.gguf");
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is absent", path.display());
    None
}

/// A model on disk, its sidecar, and both in memory.
pub struct Adapted {
    folder: TempDir,
    pub model_path: PathBuf,
    pub adapted: Arc<AdaptedModel>,
}

impl Adapted {
    /// A random model with the given shape, decomposed.
    pub fn random(model: &RandomModel, tensors: Selection, rank: RankPolicy, ty: TensorType) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("model.gguf");
        model.write(&path).unwrap();
        Self::of(folder, path, tensors, rank, ty)
    }

    /// The model at `path`, decomposed.
    pub fn real(path: &Path, tensors: Selection, rank: RankPolicy, ty: TensorType) -> Self {
        Self::of(TempDir::new().unwrap(), path.to_path_buf(), tensors, rank, ty)
    }

    fn of(folder: TempDir, model: PathBuf, tensors: Selection, rank: RankPolicy, ty: TensorType) -> Self {
        let output = folder.path().join("model.svf.gguf");
        let options = DecomposeOptions {
            model: model.clone(),
            output: output.clone(),
            tensors,
            rank,
            ty,
            threads: 2,
            resume: false,
            force: false,
        };
        decompose(&options, &Silent, &Interrupt::new()).unwrap();
        let loaded = Model::load(&model, 0).unwrap();
        let adapted = AdaptedModel::new(&loaded, Sidecar::open(&output).unwrap()).unwrap();
        Self { folder, model_path: model, adapted }
    }

    /// A place for another file beside the model.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn model(&self) -> &Arc<Model> {
        self.adapted.model()
    }

    /// A session of the base model.
    pub fn base(&self) -> Session {
        Session::new(self.model(), &exact(1)).unwrap()
    }

    /// A session with adapted layers, `n_seq` sequences and `n_slots` slots.
    pub fn session(&self, form: Form, op: GraphOp, n_seq: u32, n_slots: u32) -> Session {
        Session::adapted(&self.adapted, &exact(n_seq), &AdapterOptions { form, op, n_slots }).unwrap()
    }

    /// An expert with m = 1 + `scale`·N(0,1)-like noise.
    pub fn expert(&self, name: &str, seed: u64, scale: f32) -> Expert {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut expert = Expert::identity(name, self.adapted.sidecar());
        for m in expert.multipliers.values_mut().flatten() {
            *m += scale * rng.random_range(-1.7..1.7f32);
        }
        expert
    }
}

/// Options under which two evaluations of the same function differ by rounding only: a KV cache in F32 and
/// attention from plain ops.
pub fn exact(n_seq: u32) -> SessionOptions {
    SessionOptions {
        n_ctx: 512,
        n_threads: 2,
        n_seq,
        kv: KvType::F32,
        flash_attention: false,
        ..SessionOptions::default()
    }
}

/// Loads `expert` and gives it `slot`, and the slot to sequence `seq`.
pub fn use_expert(session: &mut Session, expert: Expert, slot: u32, seq: u32) {
    let mixture = Mixture::single(&expert.name);
    session.experts_mut().unwrap().insert(expert).unwrap();
    session.set_mixture(slot, &mixture).unwrap();
    session.assign(seq, slot).unwrap();
}

/// Random tokens that every test vocabulary has.
pub fn tokens(seed: u64, n: usize) -> Vec<Token> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(3..259)).collect()
}

/// Logits after every token of `tokens` in sequence `seq`, from one decode.
pub fn logits(session: &mut Session, seq: u32, tokens: &[Token]) -> Vec<Vec<f32>> {
    session.clear(seq).unwrap();
    let batch: Vec<_> = tokens.iter().map(|&token| Input { seq, token, output: true }).collect();
    session.decode(&batch).unwrap();
    (0..tokens.len()).map(|i| session.logits(i).to_vec()).collect()
}

/// Root mean square of a − b over all logits; panics on NaN.
pub fn rms(a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
    assert_eq!(a.len(), b.len());
    let mut sum = 0.0;
    let mut n = 0;
    for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
        assert!(a.is_finite() && b.is_finite(), "{a} {b}");
        sum += (f64::from(*a) - f64::from(*b)).powi(2);
        n += 1;
    }
    (sum / f64::from(n)).sqrt()
}

/// Writes `model` again with some tensors replaced, in a type of choice; the others keep type and bytes.
pub fn rewrite(model: &GgufFile, path: &Path, replace: &HashMap<String, (TensorType, Vec<f32>)>) {
    rewrite_edited(model, path, replace, |_| ());
}

/// The same, with other metadata too.
pub fn rewrite_edited(
    model: &GgufFile,
    path: &Path,
    replace: &HashMap<String, (TensorType, Vec<f32>)>,
    edit: impl FnOnce(&mut GgufHeader),
) {
    let mut header = GgufHeader::new();
    header.copy_metadata(model);
    edit(&mut header);
    for tensor in model.tensors() {
        let ty = replace.get(&tensor.name).map_or(tensor.ty, |(ty, _)| *ty);
        header.add_tensor(&tensor.name, &tensor.ne[..tensor.n_dims], ty).unwrap();
    }
    let mut bytes = header.encode();
    for tensor in model.tensors() {
        bytes.resize(header.data_offset(&tensor.name).unwrap(), 0);
        match replace.get(&tensor.name) {
            Some((ty, values)) => ty.quantize(values, tensor.ne[0], &mut bytes).unwrap(),
            None => bytes.extend_from_slice(model.bytes(tensor)),
        }
    }
    bytes.resize(header.total_size(), 0);
    std::fs::write(path, bytes).unwrap();
}

/// A session of the base model whose weights were replaced by `weights` (F32), run by stock code.
pub fn with_weights(adapted: &Adapted, name: &str, weights: HashMap<String, Vec<f32>>) -> Session {
    let path = adapted.path(name);
    let replace = weights.into_iter().map(|(name, values)| (name, (TensorType::F32, values))).collect();
    rewrite(adapted.model().file(), &path, &replace);
    Session::new(&Model::load(&path, 0).unwrap(), &exact(1)).unwrap()
}
