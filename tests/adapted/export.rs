//! What is exported computes what the expert computes, in stock llama.cpp code and by definition in float64, and what is cut or
//! rounded away is what was announced.

use std::collections::BTreeMap;
use std::fs;

use crate::models::{exact, logits, rms, tokens, use_expert, Adapted, RandomModel};
use llama_svf::decompose::{RankPolicy, Selection};
use llama_svf::engine::{Form, GraphOp, Model, Session};
use llama_svf::expert::{Expert, ExpertSet, Mixture};
use llama_svf::export::lora::{self, About, Storage};
use llama_svf::export::{merged, peft, Change, Cut};
use llama_svf::ffi::gguf::GgufFile;
use llama_svf::ffi::tensor_type::{self, TensorType};
use llama_svf::progress::{Interrupt, Silent};
use safetensors::SafeTensors;

fn tiny(rank: RankPolicy, ty: TensorType) -> Adapted {
    Adapted::random(&RandomModel::tiny(), Selection::All, rank, ty)
}

fn change(adapted: &Adapted, experts: Vec<Expert>, mixture: &Mixture, cut: Cut) -> Change {
    let sidecar = adapted.adapted.sidecar();
    let mut set = ExpertSet::new(sidecar);
    experts.into_iter().for_each(|expert| set.insert(expert).unwrap());
    Change::new(sidecar, &set.resolve(mixture).unwrap(), cut).unwrap()
}

/// U·diag(c)·Vᵀ of the weight `name` in float64, `[n_out][n_in]`, for `mixture` of `experts`.
fn product(adapted: &Adapted, experts: &[(&Expert, f64)], name: &str) -> Vec<f64> {
    let sidecar = adapted.adapted.sidecar();
    let weight = sidecar.weight(name).unwrap();
    let (u, vt) = (sidecar.file().to_f32(&weight.u).unwrap(), sidecar.file().to_f32(&weight.vt).unwrap());
    let mut sum = vec![0.0; weight.n_in * weight.n_out];
    for k in 0..weight.rank {
        let change =
            experts.iter().map(|(expert, alpha)| alpha * (f64::from(expert.multipliers[name][k]) - 1.0));
        let c = f64::from(weight.sigma[k]) * change.sum::<f64>();
        for o in 0..weight.n_out {
            let scale = c * f64::from(u[o * weight.rank + k]);
            for i in 0..weight.n_in {
                sum[o * weight.n_in + i] += scale * f64::from(vt[k * weight.n_in + i]);
            }
        }
    }
    sum
}

/// B·A in float64, `[n_out][n_in]`.
fn multiplied(a: &[f32], b: &[f32], rank: usize) -> Vec<f64> {
    let n_in = a.len() / rank;
    let mut sum = vec![0.0; b.len() / rank * n_in];
    for (row, b) in sum.chunks_exact_mut(n_in).zip(b.chunks_exact(rank)) {
        for (k, b) in b.iter().enumerate() {
            row.iter_mut().zip(&a[k * n_in..]).for_each(|(sum, a)| *sum += f64::from(*b) * f64::from(*a));
        }
    }
    sum
}

fn norm(a: &[f64]) -> f64 {
    a.iter().map(|a| a * a).sum::<f64>().sqrt()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    norm(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>())
}

#[test]
fn a_lora_computes_what_the_expert_computes() {
    let prompt = tokens(3, 40);
    println!("seeds 1, 2, 3");
    for (rank, factors) in [("full", TensorType::F32), ("16", TensorType::Q8_0)] {
        let adapted = tiny(RankPolicy::parse(rank).unwrap(), factors);
        let experts = [adapted.expert("a", 1, 0.3), adapted.expert("b", 2, 0.3)];
        for mixture in ["a=1", "a=0.5", "a=0.7,b=0.4"] {
            let mixture = Mixture::parse(mixture).unwrap();
            let mut session = adapted.session(Form::Residual, GraphOp::Composed, 1, 2);
            experts.iter().for_each(|it| session.experts_mut().unwrap().insert(it.clone()).unwrap());
            session.set_mixture(1, &mixture).unwrap();
            session.assign(0, 1).unwrap();
            let expected = logits(&mut session, 0, &prompt);
            let base = logits(&mut adapted.base(), 0, &prompt);
            let effect = rms(&expected, &base);
            // Eight ways through two layers round sums of F32; types keep 11 and 8 bits, of which errors of all entries add up
            // like noise.
            for (storage, bound) in [
                (Storage::As(TensorType::F32), 1e-4),
                (Storage::As(TensorType::F16), 2e-3),
                (Storage::As(TensorType::BF16), 1.6e-2),
                (Storage::As(TensorType::Q8_0), 2e-2),
                (Storage::Kept, 2e-2),
            ] {
                let change = change(&adapted, experts.to_vec(), &mixture, Cut::Nothing);
                let path = adapted.path("a.lora.gguf");
                let about = About { name: "a".into(), description: "b".into() };
                lora::write(&path, adapted.adapted.sidecar(), &change, storage, &about).unwrap();
                let loaded = adapted.model().load_lora(&path).unwrap();
                let mut session = Session::new(adapted.model(), &exact(1)).unwrap();
                session.set_loras(&[(loaded, 1.0)]).unwrap();
                let error = rms(&logits(&mut session, 0, &prompt), &expected) / effect;
                // Products with factors in Q8_0 round x to it, too.
                let bound = if factors == TensorType::Q8_0 { bound + 1e-2 } else { bound };
                assert!(error < bound, "{mixture}, rank {rank}, {storage:?}: {error} of {effect}");
            }
        }
    }
}

#[test]
fn what_is_cut_is_what_was_announced() {
    let adapted = tiny(RankPolicy::Full, TensorType::F32);
    let sidecar = adapted.adapted.sidecar();
    let mut expert = adapted.expert("a", 5, 0.3);
    // One weight does not change, and of another only a few components do.
    let names: Vec<_> = expert.multipliers.keys().cloned().collect();
    expert.multipliers.get_mut(&names[0]).unwrap().fill(1.0);
    expert.multipliers.get_mut(&names[1]).unwrap()[3..].fill(1.0);
    let cuts = [Cut::Nothing, Cut::Rank(5.try_into().unwrap()), Cut::Tolerance(0.2), Cut::Tolerance(0.0)];
    for cut in cuts {
        let change = change(&adapted, vec![expert.clone()], &Mixture::single("a"), cut);
        assert!(change.weights.iter().all(|part| sidecar.weights[part.index].name != names[0]));
        let path = adapted.path("cut.lora.gguf");
        lora::write(&path, sidecar, &change, Storage::As(TensorType::F32), &About::default()).unwrap();
        let file = GgufFile::open(&path).unwrap();
        let (mut left, mut whole) = (0.0, 0.0);
        for part in &change.weights {
            let name = &sidecar.weights[part.index].name;
            let expected = product(&adapted, &[(&expert, 1.0)], name);
            let read = |suffix: &str| {
                file.tensor(&format!("{name}.{suffix}")).map(|tensor| file.to_f32(tensor).unwrap())
            };
            let found = match (read("lora_a"), read("lora_b")) {
                (Some(a), Some(b)) => multiplied(&a, &b, part.rank()),
                _ => vec![0.0; expected.len()],
            };
            let error = distance(&found, &expected) / norm(&expected);
            assert!((error - part.relative_error()).abs() < 1e-4, "{cut:?}, {name}: {error}");
            left += distance(&found, &expected).powi(2);
            whole += norm(&expected).powi(2);
            match cut {
                Cut::Rank(n) => assert_eq!(part.rank(), n.get().min(part.rank())),
                _ if *name == names[1] => assert!(part.rank() <= 3),
                _ => {}
            }
        }
        let error = (left / whole).sqrt();
        assert!((error - change.relative_error()).abs() < 1e-4, "{cut:?}: {error}");
        if let Cut::Tolerance(tolerance) = cut {
            assert!(error <= tolerance + 1e-5, "{error}");
            // One more component would be too many to leave out.
            assert!(tolerance == 0.0 || error > 0.8 * tolerance, "{error}");
        }
    }
    // What changes nothing is an adapter that does nothing.
    let nothing = change(&adapted, vec![expert], &Mixture::parse("a=0").unwrap(), Cut::Nothing);
    assert!(nothing.is_nothing());
    let path = adapted.path("nothing.lora.gguf");
    lora::write(&path, sidecar, &nothing, Storage::As(TensorType::F16), &About::default()).unwrap();
    let mut session = Session::new(adapted.model(), &exact(1)).unwrap();
    session.set_loras(&[(adapted.model().load_lora(&path).unwrap(), 1.0)]).unwrap();
    let prompt = tokens(6, 20);
    assert_eq!(logits(&mut session, 0, &prompt), logits(&mut adapted.base(), 0, &prompt));
}

#[test]
fn a_merged_model_is_the_model_but_for_what_changed() {
    for ty in ["f32", "f16", "bf16", "q8_0", "q4_0", "q4_k", "q6_k"] {
        let ty = tensor_type::parse(ty).unwrap();
        // Blocks of k-quants have 256 entries.
        let model = RandomModel { width: 256, ffn: 512, ty, ..RandomModel::tiny() };
        let rank = RankPolicy::parse("24").unwrap();
        let adapted = Adapted::random(&model, Selection::Ffn, rank, TensorType::F32);
        let sidecar = adapted.adapted.sidecar();
        let original = GgufFile::open(&adapted.model_path).unwrap();
        let (a, b) = (adapted.expert("a", 7, 0.5), adapted.expert("b", 8, 0.5));
        let mixture = Mixture::parse("a=0.7,b=-0.4").unwrap();
        let change = change(&adapted, vec![a.clone(), b.clone()], &mixture, Cut::Nothing);
        let path = adapted.path("merged.gguf");
        for storage in [merged::Storage::Kept, merged::Storage::As(TensorType::F32)] {
            let write = || {
                let interrupt = Interrupt::new();
                merged::write(&path, &original, sidecar, &change, storage, &Silent, &interrupt).unwrap()
            };
            let weights = write();
            assert_eq!(weights.len(), sidecar.weights.len());
            let file = GgufFile::open(&path).unwrap();
            if storage == merged::Storage::Kept {
                // All but the adapted weights is the model's, byte for byte.
                let mut bytes = fs::read(&path).unwrap();
                for weight in &weights {
                    let tensor = original.tensor(&weight.name).unwrap();
                    bytes[tensor.offset..][..tensor.n_bytes].copy_from_slice(original.bytes(tensor));
                }
                assert!(bytes == fs::read(&adapted.model_path).unwrap(), "{ty}");
            }
            for tensor in original.tensors() {
                let found = file.tensor(&tensor.name).unwrap();
                let Some(weight) = weights.iter().find(|weight| weight.name == tensor.name) else {
                    assert!(found.ty == tensor.ty && file.bytes(found) == original.bytes(tensor));
                    continue;
                };
                let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
                let base = wide(original.to_f32(tensor).unwrap());
                let added = product(&adapted, &[(&a, 0.7), (&b, -0.4)], &tensor.name);
                let expected: Vec<f64> = base.iter().zip(&added).map(|(w, c)| w + c).collect();
                let rounding = distance(&wide(file.to_f32(found).unwrap()), &expected);
                // What is told of rounding is what it is; F32 has little.
                let slack = 1e-6 * norm(&expected);
                assert!(
                    (rounding - weight.rounding).abs() < 1e-3 * weight.rounding + slack,
                    "{ty}: {rounding}"
                );
                assert!((norm(&added) - weight.change).abs() < 1e-4 * norm(&added), "{ty}");
                assert!((norm(&base) - weight.norm).abs() < 1e-6 * norm(&base), "{ty}");
                let n_bits = if found.ty == TensorType::F32 { 1e-6 } else { 0.2 };
                assert!(rounding < n_bits * norm(&expected), "{ty}: {rounding}");
            }
            let mut session = Session::new(&Model::load(&path, 0).unwrap(), &exact(1)).unwrap();
            let prompt = tokens(9, 16);
            let found = logits(&mut session, 0, &prompt);
            assert!(found.iter().flatten().all(|x| x.is_finite()));
        }
    }
}

#[test]
fn a_merged_model_answers_as_the_expert_does() {
    let adapted = tiny(RankPolicy::Full, TensorType::F32);
    let expert = adapted.expert("a", 10, 0.3);
    let mut session = adapted.session(Form::Residual, GraphOp::Fused, 1, 2);
    use_expert(&mut session, expert.clone(), 1, 0);
    let prompt = tokens(11, 40);
    let expected = logits(&mut session, 0, &prompt);
    let change = change(&adapted, vec![expert], &Mixture::single("a"), Cut::Nothing);
    let path = adapted.path("merged.gguf");
    let file = adapted.model().file();
    let (storage, interrupt) = (merged::Storage::Kept, Interrupt::new());
    merged::write(&path, file, adapted.adapted.sidecar(), &change, storage, &Silent, &interrupt).unwrap();
    let mut session = Session::new(&Model::load(&path, 0).unwrap(), &exact(1)).unwrap();
    let effect = rms(&expected, &logits(&mut adapted.base(), 0, &prompt));
    let error = rms(&logits(&mut session, 0, &prompt), &expected) / effect;
    assert!(error < 1e-4, "{error} of {effect}");
    // A raised interrupt leaves nothing new.
    let interrupted = adapted.path("no.gguf");
    interrupt.raise();
    let result =
        merged::write(&interrupted, file, adapted.adapted.sidecar(), &change, storage, &Silent, &interrupt);
    assert!(result.is_err() && !interrupted.exists());
}

#[test]
fn a_peft_folder_has_the_same_matrices_under_the_names_of_transformers() {
    for arch in ["llama", "qwen2"] {
        let model = RandomModel { arch: arch.into(), ..RandomModel::tiny() };
        let adapted = Adapted::random(&model, Selection::All, RankPolicy::Full, TensorType::F32);
        let sidecar = adapted.adapted.sidecar();
        let expert = adapted.expert("a", 12, 0.3);
        let cut = Cut::Rank(9.try_into().unwrap());
        let change = change(&adapted, vec![expert], &Mixture::single("a"), cut);
        let folder = adapted.path("peft");
        let file = adapted.model().file();
        peft::write(&folder, file, sidecar, &change, TensorType::F32, &About::default()).unwrap();
        let read = fs::read(folder.join("adapter_model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&read).unwrap();
        let values = |name: &str| -> Vec<f32> {
            let bytes = tensors.tensor(name).unwrap().data().to_vec();
            bytes.chunks(4).map(|it| f32::from_le_bytes(it.try_into().unwrap())).collect()
        };
        let config: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.join("adapter_config.json")).unwrap()).unwrap();
        assert_eq!((&config["peft_type"], &config["r"]), (&"LORA".into(), &9.into()));
        assert_eq!(tensors.len(), 2 * change.weights.len());
        let names = BTreeMap::from([
            ("blk.1.attn_q.weight", ("model.layers.1.self_attn.q_proj", 4)),
            ("blk.0.attn_k.weight", ("model.layers.0.self_attn.k_proj", 2)),
            ("blk.1.attn_v.weight", ("model.layers.1.self_attn.v_proj", 0)),
            ("blk.0.ffn_down.weight", ("model.layers.0.mlp.down_proj", 0)),
        ]);
        for (gguf, (module, n_heads)) in names {
            let index = sidecar.weights.iter().position(|weight| weight.name == gguf).unwrap();
            let part = change.weights.iter().find(|part| part.index == index).unwrap();
            let (rank, n_out) = (part.rank(), sidecar.weights[index].n_out);
            assert_eq!(config["rank_pattern"][module], rank);
            assert_eq!(config["alpha_pattern"][module], rank);
            let a = values(&format!("base_model.model.{module}.lora_A.weight"));
            let b = values(&format!("base_model.model.{module}.lora_B.weight"));
            // The rows of the weight as GGUF has them, moved to where transformers have them: of each head the even ones first.
            let expected = {
                let path = adapted.path("same.lora.gguf");
                lora::write(&path, sidecar, &change, Storage::As(TensorType::F32), &About::default())
                    .unwrap();
                let file = GgufFile::open(&path).unwrap();
                let tensor = |suffix: &str| file.tensor(&format!("{gguf}.{suffix}")).unwrap().clone();
                multiplied(
                    &file.to_f32(&tensor("lora_a")).unwrap(),
                    &file.to_f32(&tensor("lora_b")).unwrap(),
                    rank,
                )
            };
            let n_in = expected.len() / n_out;
            let rows: Vec<usize> = match (arch, n_heads) {
                ("llama", n_heads) if n_heads > 0 => {
                    let per_head = n_out / n_heads;
                    let of_head = |head: usize| {
                        let from = head * per_head;
                        (from..from + per_head).step_by(2).chain((from + 1..from + per_head).step_by(2))
                    };
                    (0..n_heads).flat_map(of_head).collect()
                }
                _ => (0..n_out).collect(),
            };
            let expected: Vec<f64> =
                rows.iter().flat_map(|row| expected[row * n_in..][..n_in].to_vec()).collect();
            assert!(
                distance(&multiplied(&a, &b, rank), &expected) < 1e-6 * norm(&expected),
                "{arch}, {gguf}"
            );
        }
    }
    let spark = RandomModel { arch: "spark2_5".into(), ..RandomModel::tiny() };
    let adapted = Adapted::random(&spark, Selection::Ffn, RankPolicy::Full, TensorType::F32);
    let change = change(&adapted, vec![adapted.expert("a", 13, 0.3)], &Mixture::single("a"), Cut::Nothing);
    let (file, sidecar) = (adapted.model().file(), adapted.adapted.sidecar());
    let folder = adapted.path("none");
    let error = peft::write(&folder, file, sidecar, &change, TensorType::F32, &About::default()).unwrap_err();
    assert!(error.to_string().contains("expected a model of llama, qwen2, qwen3, gemma3"), "{error}");
    assert!(!folder.exists());
}
