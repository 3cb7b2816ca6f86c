//! An adapted model computes what its definition says: the base model where m = 1, and a model with the
//! weights W′ = U·diag(σ⊙m)·Vᵀ, computed apart in float64 and run by stock llama.cpp code, where not.
//!
//! Tolerances come from the model itself. The logits answer to a small change of the weights in proportion
//! to its size, so a stock model whose weights carry random noise of relative size ε shows what an error of
//! that size does; the adapted model may differ by no more than that, ε being the error its factors or its
//! sums are known to have.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::models::{
    exact, logits, rewrite, rms, stories, tokens, use_expert, with_weights, Adapted, RandomModel,
};
use llama_svf::decompose::{RankPolicy, Selection};
use llama_svf::engine::Form;
use llama_svf::engine::{GraphOp, Input, Model, Placement, Session, SessionOptions};
use llama_svf::expert::Expert;
use llama_svf::ffi::gguf::GgufFile;
use llama_svf::ffi::tensor_type::TensorType;
use llama_svf::sidecar::Sidecar;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

const OPS: [GraphOp; 2] = [GraphOp::Fused, GraphOp::Composed];

/// The factors of a weight in float64: U [n_out][r], Vᵀ [r][n_in].
fn factors(sidecar: &Sidecar, name: &str) -> (Vec<f64>, Vec<f64>) {
    let weight = sidecar.weight(name).unwrap();
    let wide = |tensor| sidecar.file().to_f32(tensor).unwrap().into_iter().map(f64::from).collect();
    (wide(&weight.u), wide(&weight.vt))
}

/// Σ_k u_k·c_k·v_k over the components of a weight, in float64, added to `start`.
fn compose(sidecar: &Sidecar, name: &str, c: &[f64], start: Option<Vec<f32>>) -> Vec<f32> {
    let weight = sidecar.weight(name).unwrap();
    let (n_in, n_out, rank) = (weight.n_in, weight.n_out, weight.rank);
    let (u, vt) = factors(sidecar, name);
    let mut w: Vec<f64> =
        start.map_or(vec![0.0; n_in * n_out], |start| start.into_iter().map(f64::from).collect());
    for o in 0..n_out {
        for k in 0..rank {
            let scale = u[o * rank + k] * c[k];
            for (w, v) in w[o * n_in..][..n_in].iter_mut().zip(&vt[k * n_in..][..n_in]) {
                *w += scale * v;
            }
        }
    }
    w.into_iter().map(|w| w as f32).collect()
}

/// W′ of every adapted weight for `expert`, by the definition of the form.
fn merged(adapted: &Adapted, form: Form, expert: &Expert) -> HashMap<String, Vec<f32>> {
    let sidecar = adapted.adapted.sidecar();
    let file = adapted.model().file();
    let merge = |weight: &llama_svf::sidecar::AdaptedWeight| {
        let sigma = weight.sigma.iter().map(|&sigma| f64::from(sigma));
        let m = expert.multipliers[&weight.name].iter().map(|&m| f64::from(m));
        let w = match form {
            Form::Factored => compose(
                sidecar,
                &weight.name,
                &sigma.zip(m).map(|(sigma, m)| sigma * m).collect::<Vec<_>>(),
                None,
            ),
            Form::Residual => compose(
                sidecar,
                &weight.name,
                &sigma.zip(m).map(|(sigma, m)| sigma * (m - 1.0)).collect::<Vec<_>>(),
                Some(file.to_f32(file.tensor(&weight.name).unwrap()).unwrap()),
            ),
        };
        (weight.name.clone(), w)
    };
    sidecar.weights.iter().map(merge).collect()
}

/// `weights` with noise of relative size `epsilon` (Frobenius) on each.
fn noisy(weights: &HashMap<String, Vec<f32>>, epsilon: f64, seed: u64) -> HashMap<String, Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut names: Vec<_> = weights.keys().collect();
    names.sort();
    let add_noise = |name: &String| {
        let w = &weights[name];
        let rms = (w.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>() / w.len() as f64).sqrt();
        // A uniform variable on ±√3 has variance 1.
        let scale = epsilon * rms * 3f64.sqrt();
        let noisy = w.iter().map(|&w| (f64::from(w) + scale * rng.random_range(-1.0..1.0)) as f32);
        (name.clone(), noisy.collect())
    };
    names.into_iter().map(add_noise).collect()
}

/// The adapted weights of the base model.
fn base_weights(adapted: &Adapted) -> HashMap<String, Vec<f32>> {
    let file = adapted.model().file();
    let read = |weight: &llama_svf::sidecar::AdaptedWeight| {
        (weight.name.clone(), file.to_f32(file.tensor(&weight.name).unwrap()).unwrap())
    };
    adapted.adapted.sidecar().weights.iter().map(read).collect()
}

/// RMS change of the logits when `weights` carry noise of relative size `epsilon`.
fn noise_response(
    adapted: &Adapted,
    weights: &HashMap<String, Vec<f32>>,
    epsilon: f64,
    prompt: &[i32],
) -> f64 {
    // Noise below the resolution of f32 would be rounded away: measure where it is not, and scale.
    let measured = epsilon.max(1e-4);
    let clean = logits(&mut with_weights(adapted, "clean.gguf", weights.clone()), 0, prompt);
    let noisy = noisy(weights, measured, 99);
    let changed = logits(&mut with_weights(adapted, "noisy.gguf", noisy), 0, prompt);
    rms(&clean, &changed) * epsilon / measured
}

/// Largest relative Frobenius error of the stored factors, against the float64 product.
fn factor_error(adapted: &Adapted) -> f64 {
    let sidecar = adapted.adapted.sidecar();
    let mut worst = 0f64;
    for (name, w) in base_weights(adapted) {
        let sigma: Vec<_> = sidecar.weight(&name).unwrap().sigma.iter().map(|&s| f64::from(s)).collect();
        let product = compose(sidecar, &name, &sigma, None);
        let square = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
        let error = square(&mut w.iter().zip(&product).map(|(a, b)| f64::from(*a) - f64::from(*b)));
        worst = worst.max((error / square(&mut w.iter().map(|&w| f64::from(w)))).sqrt());
    }
    worst
}

/// Rounding of one product with sums of n terms in f32, relative (Higham, section 3.1).
fn sum_error(adapted: &Adapted) -> f64 {
    let longest = |weight: &llama_svf::sidecar::AdaptedWeight| weight.n_in + weight.rank;
    let n = adapted.adapted.sidecar().weights.iter().map(longest).max().unwrap();
    n as f64 * f64::from(f32::EPSILON) / 2.0
}

/// Relative RMS error of n activations rounded together to integers up to `largest`: uniform on steps of
/// 1/`largest` of the largest value, which is at most √n times their RMS.
fn rounding_error(n: usize, largest: f64) -> f64 {
    (n as f64).sqrt() / largest / 12f64.sqrt()
}

/// What rounding activations adds, once for Vᵀ·x and once for U·t. ggml's own products round them to the
/// companion type of the factors (11 bits for F16, 8 bits in blocks of 32 for Q8_0); the fused op rounds whole
/// columns to 16 bits where factors are Q8_0.
fn activation_error(op: GraphOp, ty: TensorType, adapted: &Adapted) -> f64 {
    let weights = &adapted.adapted.sidecar().weights;
    let longest = weights.iter().map(|weight| weight.n_in.max(weight.rank)).max().unwrap();
    match (op, ty) {
        (GraphOp::Composed, TensorType::F16) => 2.0 * 2f64.powi(-11),
        (GraphOp::Composed, TensorType::Q8_0) => 2.0 * rounding_error(32, 127.0),
        (_, TensorType::Q8_0) => 2.0 * rounding_error(longest, 32767.0),
        _ => 0.0,
    }
}

fn all() -> Selection {
    Selection::parse("all").unwrap()
}

fn greedy(session: &mut Session, prompt: &[i32], n: usize) -> Vec<i32> {
    session.clear(0).unwrap();
    session.prompt(0, prompt).unwrap();
    let mut text = Vec::new();
    for _ in 0..n {
        let (best, _) = session.logits(0).iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap();
        text.push(best as i32);
        session.decode(&[Input { seq: 0, token: best as i32, output: true }]).unwrap();
    }
    text
}

#[test]
fn an_identity_expert_in_residual_form_keeps_every_bit() {
    let prompt = tokens(1, 40);
    let mut models = vec![];
    for arch in ["llama", "qwen2", "qwen3"] {
        let model = RandomModel { arch: arch.into(), ..RandomModel::tiny() };
        models.push(Adapted::random(&model, all(), RankPolicy::Full, TensorType::F16));
        models.push(Adapted::random(
            &model,
            Selection::Ffn,
            RankPolicy::parse("8").unwrap(),
            TensorType::Q8_0,
        ));
    }
    if let Some(path) = stories() {
        models.push(Adapted::real(&path, all(), RankPolicy::Full, TensorType::F32));
        models.push(Adapted::real(&path, all(), RankPolicy::parse("16").unwrap(), TensorType::F16));
    }
    for adapted in &models {
        // Once with exact options, once with llama.cpp's defaults (F16 KV cache, flash attention).
        for options in [exact(1), SessionOptions { n_ctx: 512, n_threads: 2, ..SessionOptions::default() }] {
            let base = logits(&mut Session::new(adapted.model(), &options).unwrap(), 0, &prompt);
            for op in OPS {
                let adapter = llama_svf::engine::AdapterOptions { form: Form::Residual, op, n_slots: 2 };
                let mut session = Session::adapted(&adapted.adapted, &options, &adapter).unwrap();
                let n_weights = adapted.adapted.sidecar().weights.len();
                let (fused, composed) = if op == GraphOp::Fused { (n_weights, 0) } else { (0, n_weights) };
                let cpu = Placement { device: "CPU".into(), is_cpu: true, fused, composed, away: 0 };
                assert_eq!(session.placements(), [cpu]);
                let slot0 = logits(&mut session, 0, &prompt);
                session.clear(0).unwrap();
                let identity = Expert::identity("identity", adapted.adapted.sidecar());
                use_expert(&mut session, identity, 1, 0);
                let slot1 = logits(&mut session, 0, &prompt);
                for other in [slot0, slot1] {
                    for (a, b) in base.iter().flatten().zip(other.iter().flatten()) {
                        assert!(a.is_finite());
                        assert_eq!(a.to_bits(), b.to_bits(), "{:?} {op:?}: {a} {b}", adapted.model_path);
                    }
                }
            }
        }
    }
}

#[test]
fn the_factored_form_of_stories260k_writes_the_same_story() {
    let Some(path) = stories() else { return };
    for ty in [TensorType::F32, TensorType::F16, TensorType::Q8_0] {
        let adapted = Adapted::real(&path, all(), RankPolicy::Full, ty);
        let prompt = adapted.model().tokenize("Once upon a time", true, false).unwrap();
        let story = greedy(&mut adapted.base(), &prompt, 64);
        for op in OPS {
            let epsilon = factor_error(&adapted) + sum_error(&adapted) + activation_error(op, ty, &adapted);
            let tolerance = noise_response(&adapted, &base_weights(&adapted), epsilon, &story);
            let mut session = adapted.session(Form::Factored, op, 1, 1);
            let difference = rms(&logits(&mut adapted.base(), 0, &story), &logits(&mut session, 0, &story));
            println!(
                "stories260K {ty} {op:?}: logits differ by {difference:.2e} (tolerance {tolerance:.2e})"
            );
            assert!(difference <= tolerance, "{ty} {op:?}: {difference:e} > {tolerance:e}");
            if ty == TensorType::F32 {
                assert_eq!(greedy(&mut session, &prompt, 64), story, "{op:?}");
            }
        }
    }
}

/// The model with its matrices in another type, where their rows allow it.
fn requantized(path: &Path, ty: TensorType, folder: &TempDir) -> PathBuf {
    let model = GgufFile::open(path).unwrap();
    let fits =
        model.tensors().iter().filter(|tensor| tensor.n_dims == 2 && ty.row_bytes(tensor.ne[0]).is_some());
    let replace = fits.map(|tensor| (tensor.name.clone(), (ty, model.to_f32(tensor).unwrap()))).collect();
    let output = folder.path().join(format!("{ty}.gguf"));
    rewrite(&model, &output, &replace);
    output
}

#[test]
fn quantized_base_models_keep_their_function_in_factored_form() {
    let folder = TempDir::new().unwrap();
    let mut models = Vec::new();
    if let Some(path) = stories() {
        models.extend([TensorType::Q8_0, TensorType::Q4_0].map(|ty| requantized(&path, ty, &folder)));
    }
    let wide = folder.path().join("wide.gguf");
    let model = RandomModel { width: 256, ffn: 512, ty: TensorType::Q4_K, ..RandomModel::tiny() };
    model.write(&wide).unwrap();
    models.push(wide.clone());
    for path in models {
        for ty in [TensorType::F32, TensorType::F16] {
            let adapted = Adapted::real(&path, all(), RankPolicy::Full, ty);
            let prompt = tokens(5, 48);
            // llama.cpp multiplies a quantized W with activations rounded to 8 bits, in blocks of 256 for
            // Q4_K and of 32 otherwise; the factored form does not.
            let base_rounding = rounding_error(if path == wide { 256 } else { 32 }, 127.0);
            for op in OPS {
                let epsilon = factor_error(&adapted)
                    + sum_error(&adapted)
                    + base_rounding
                    + activation_error(op, ty, &adapted);
                let tolerance = noise_response(&adapted, &base_weights(&adapted), epsilon, &prompt);
                let mut session = adapted.session(Form::Factored, op, 1, 1);
                let difference =
                    rms(&logits(&mut adapted.base(), 0, &prompt), &logits(&mut session, 0, &prompt));
                println!("{path:?} {ty} {op:?}: {difference:.2e} (tolerance {tolerance:.2e})");
                assert!(difference <= tolerance, "{path:?} {ty} {op:?}: {difference:e} > {tolerance:e}");
            }
        }
    }
}

#[test]
fn an_expert_equals_a_model_merged_in_float64() {
    let prompt = tokens(3, 32);
    let mut models = Vec::new();
    for ty in [TensorType::F32, TensorType::F16, TensorType::Q8_0] {
        for arch in ["llama", "qwen2", "qwen3"] {
            let model = RandomModel { arch: arch.into(), ..RandomModel::tiny() };
            models.push((Adapted::random(&model, all(), RankPolicy::Full, ty), ty));
        }
        models.extend(stories().map(|path| (Adapted::real(&path, all(), RankPolicy::Full, ty), ty)));
        let model = RandomModel::tiny();
        models.push((Adapted::random(&model, all(), RankPolicy::parse("20").unwrap(), ty), ty));
    }
    for (adapted, ty) in &models {
        let expert = adapted.expert("expert", 17, 0.3);
        for form in [Form::Residual, Form::Factored] {
            if form == Form::Factored && !adapted.adapted.sidecar().is_full_rank() {
                continue;
            }
            let weights = merged(adapted, form, &expert);
            let expected = logits(&mut with_weights(adapted, "merged.gguf", weights.clone()), 0, &prompt);
            let base = logits(&mut adapted.base(), 0, &prompt);
            for op in OPS {
                let epsilon = sum_error(adapted) + activation_error(op, *ty, adapted);
                let tolerance = noise_response(adapted, &weights, epsilon, &prompt);
                let mut session = adapted.session(form, op, 1, 2);
                use_expert(&mut session, expert.clone(), 1, 0);
                let difference = rms(&expected, &logits(&mut session, 0, &prompt));
                let effect = rms(&expected, &base);
                println!(
                    "{:?} {ty} {form:?} {op:?}: {difference:.2e} (tolerance {tolerance:.2e}, the expert itself {effect:.2e})",
                    adapted.model().file().str("general.architecture").unwrap().unwrap()
                );
                assert!(difference <= tolerance, "{difference:e} > {tolerance:e}");
                assert!(effect > 4.0 * tolerance, "the expert does too little to be seen");
            }
        }
    }
}

/// As a device may want it whose fused operation is for few tokens.
#[test]
fn many_tokens_may_run_composed_and_few_fused() {
    let few = GraphOp::FusedUpTo(4.try_into().unwrap());
    let adapted = Adapted::random(&RandomModel::tiny(), all(), RankPolicy::Full, TensorType::Q8_0);
    for form in [Form::Residual, Form::Factored] {
        let mut sessions = [few, GraphOp::Fused, GraphOp::Composed].map(|op| {
            let mut session = adapted.session(form, op, 1, 2);
            use_expert(&mut session, adapted.expert("expert", 17, 0.3), 1, 0);
            session
        });
        assert_eq!(sessions[0].count_fused(), sessions[1].count_fused());
        // Longer and shorter ones in turn: no graph takes the memory or the place of another.
        for (i, n_tokens) in [40, 1, 5, 4, 400, 3, 33, 1].into_iter().enumerate() {
            let prompt = tokens(30 + i as u64, n_tokens);
            let [of_few, fused, composed] = sessions.each_mut().map(|session| {
                let bits = |logits: Vec<f32>| logits.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                logits(session, 0, &prompt).into_iter().map(bits).collect::<Vec<_>>()
            });
            assert_ne!(fused, composed, "{n_tokens} tokens: nothing tells the two apart");
            assert!(of_few == if n_tokens <= 4 { fused } else { composed }, "{form:?}, {n_tokens} tokens");
        }
    }
}

#[test]
fn the_sidecar_of_another_model_is_refused() {
    let adapted = Adapted::random(&RandomModel::tiny(), Selection::Ffn, RankPolicy::Full, TensorType::F16);
    let other = adapted.path("other.gguf");
    RandomModel { seed: 2, ..RandomModel::tiny() }.write(&other).unwrap();
    let sidecar = Sidecar::open(adapted.path("model.svf.gguf")).unwrap();
    let error = llama_svf::engine::AdaptedModel::new(&Model::load(&other, 0).unwrap(), sidecar)
        .err()
        .expect("another model")
        .to_string();
    assert!(error.contains("model.svf.gguf") && error.contains("hint"), "{error}");
}
