//! The exact gradient against float64 central differences.

use std::collections::HashMap;
use std::sync::Arc;

use crate::models::{
    exact, logits, rewrite, rewrite_edited, rms, stories, tokens, use_expert, Adapted, RandomModel,
};
use crate::oracle::Oracle;
use llama_svf::decompose::{RankPolicy, Selection};
use llama_svf::engine::{AdaptedModel, AdapterOptions, Form, GraphOp, LoraModel, Session};
use llama_svf::expert::Multipliers;
use llama_svf::export::lora::{write_pairs, About, Pair};
use llama_svf::ffi::gguf::{GgufFile, GgufHeader};
use llama_svf::ffi::tensor_type::TensorType;
use llama_svf::gradient::{Budget, Gradient, Group, Plan, PolicyGradient, Rollout};
use llama_svf::progress::Interrupt;
use llama_svf::sidecar::Sidecar;
use llama_svf::train::EstimatorName;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SEED: u64 = 5;

fn tiny(arch: &str) -> RandomModel {
    RandomModel {
        arch: arch.into(),
        width: 32,
        ffn: 64,
        heads: 4,
        kv_heads: 2,
        vocab: 260,
        ..RandomModel::tiny()
    }
}

/// Two prompts with answers of different lengths, from nothing but an end to a dozen tokens.
fn groups() -> Vec<Group> {
    let rollout = |seed, n, advantage| Rollout { tokens: tokens(seed, n), advantage };
    vec![
        Group {
            prompt: tokens(1, 7),
            rollouts: vec![rollout(2, 5, 0.75), rollout(3, 1, -0.5), rollout(4, 12, -0.25)],
        },
        Group { prompt: tokens(6, 3), rollouts: vec![rollout(7, 9, 1.0), rollout(8, 4, -1.0)] },
    ]
}

fn multipliers(adapted: &Adapted) -> Multipliers {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let weights = &adapted.adapted.sidecar().weights;
    let mut of_rank = |rank: usize| (0..rank).map(|_| rng.random_range(0.5..1.5)).collect::<Vec<f32>>();
    weights.iter().map(|weight| of_rank(weight.rank)).collect()
}

fn wide(m: &Multipliers) -> Vec<Vec<f64>> {
    m.iter().map(|m| m.iter().map(|&m| f64::from(m)).collect()).collect()
}

/// ‖a - b‖ / ‖b‖ and the cosine of both; panics on NaN.
fn compare(a: &Multipliers, b: &[Vec<f64>]) -> (f64, f64) {
    let (mut aa, mut ab, mut bb) = (0.0, 0.0, 0.0);
    assert!(a.ranks().eq(b.iter().map(Vec::len)));
    for (&a, &b) in a.flat().iter().zip(b.iter().flatten()) {
        let a = f64::from(a);
        assert!(a.is_finite() && b.is_finite(), "{a} {b}");
        (aa, ab, bb) = (aa + a * a, ab + a * b, bb + b * b);
    }
    ((aa - 2.0 * ab + bb).max(0.0).sqrt() / bb.sqrt(), ab / (aa * bb).sqrt())
}

fn gradient(adapted: &Adapted, form: Form, n_threads: usize) -> PolicyGradient {
    PolicyGradient::new(&adapted.adapted, form, n_threads).unwrap()
}

fn estimate(adapted: &Adapted, form: Form, m: &Multipliers, kl: f32) -> Gradient {
    gradient(adapted, form, 2).estimate(m, &groups(), kl, &Interrupt::new()).unwrap()
}

#[test]
fn it_is_that_of_central_differences() {
    let cut_off = RankPolicy::parse("9").unwrap();
    let cases = [
        (Form::Residual, RankPolicy::Full, 0.3),
        (Form::Factored, RankPolicy::Full, 0.3),
        (Form::Residual, cut_off, 0.0),
    ];
    // Of four layers of smollm3 one is not turned; windows of gemma3 are shorter than the sequences.
    for (arch, layers) in
        [("llama", 2), ("qwen2", 2), ("qwen3", 2), ("smollm3", 4), ("gemma3", 2), ("phi3", 2)]
    {
        for (form, rank, kl) in cases {
            let shape = RandomModel { layers, ..tiny(arch) };
            let adapted = Adapted::random(&shape, Selection::All, rank, TensorType::F32);
            let oracle = Oracle::new(&shape, &adapted.adapted, form);
            let m = multipliers(&adapted);
            let expected = oracle.gradient(&wide(&m), &groups(), kl);
            let [_, entropy, divergence] = oracle.objective(&wide(&m), &groups(), kl);
            let found = estimate(&adapted, form, &m, kl as f32);
            let (error, cosine) = compare(&found.of_parameters, &expected);
            println!("{arch}, {form:?}, rank {rank}, λ {kl}: relative L2 {error:.1e}, cosine {cosine:.9}, seed {SEED}");
            assert!(error <= 5e-6, "{error:e}");
            assert!((found.entropy / entropy - 1.0).abs() < 1e-5, "{} {entropy}", found.entropy);
            if kl > 0.0 {
                assert!((found.kl / divergence - 1.0).abs() < 1e-4, "{} {divergence}", found.kl);
            }
        }
    }
}

/// A LoRA of `rank` beside the weights that `adapted` adapts, and random numbers for it.
fn lora(adapted: &Adapted, rank: usize) -> (LoraModel, Multipliers) {
    let lora = LoraModel::new(adapted.model(), adapted.adapted.sidecar(), rank, |_| true).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let parameters =
        lora.lengths().map(|n| (0..n).map(|_| rng.random_range(-0.2..0.2)).collect::<Vec<f32>>());
    let parameters = parameters.collect();
    (lora, parameters)
}

#[test]
fn that_of_a_lora_is_that_of_central_differences() {
    for (arch, selection, rank, kl) in [
        ("llama", "all", 2, 0.3),
        ("qwen3", "attn_k|attn_output|ffn_up", 3, 0.0),
        ("gemma3", "attn_v|ffn_down", 2, 0.0),
        ("phi3", "attn_qkv|ffn_up", 1, 0.3),
    ] {
        let shape = tiny(arch);
        let tensors = Selection::parse(selection).unwrap();
        let adapted = Adapted::random(&shape, tensors, RankPolicy::parse("4").unwrap(), TensorType::F32);
        let (lora, parameters) = lora(&adapted, rank);
        let oracle = Oracle::of_lora(&shape, &lora);
        let expected = oracle.gradient(&wide(&parameters), &groups(), kl);
        let [_, entropy, divergence] = oracle.objective(&wide(&parameters), &groups(), kl);
        let gradient = PolicyGradient::of_lora(&lora, 2).unwrap();
        let found = gradient.estimate(&parameters, &groups(), kl as f32, &Interrupt::new()).unwrap();
        let (error, cosine) = compare(&found.of_parameters, &expected);
        println!(
            "{arch}, LoRA of rank {rank}, λ {kl}: relative L2 {error:.1e}, cosine {cosine:.9}, seed {SEED}"
        );
        assert!(error <= 5e-6, "{error:e}");
        assert!((found.entropy / entropy - 1.0).abs() < 1e-5, "{} {entropy}", found.entropy);
        if kl > 0.0 {
            assert!((found.kl / divergence - 1.0).abs() < 1e-4, "{} {divergence}", found.kl);
        }
    }
}

/// Any number of threads, and any division that computes layers again, gives the same bits; at B = 0 only B has a gradient.
#[test]
fn that_of_a_lora_does_not_depend_on_how_the_work_is_divided() {
    let groups = many_groups();
    let adapted =
        Adapted::random(&tiny("qwen3"), Selection::All, RankPolicy::parse("4").unwrap(), TensorType::F32);
    let (lora, mut parameters) = lora(&adapted, 5);
    let run = |parameters: &Multipliers, n_threads, plan: &Plan| {
        let gradient = PolicyGradient::of_lora(&lora, n_threads).unwrap();
        gradient.estimate_by(plan, parameters, &groups, 0.1, &Interrupt::new()).unwrap().of_parameters
    };
    let whole = Plan::default();
    let one = run(&parameters, 1, &whole);
    one.check_finite("the gradient").unwrap();
    assert_eq!(one, run(&parameters, 2, &whole));
    assert_eq!(one, run(&parameters, 3, &Plan { kept: 0, ..whole }));
    let (error, _) = compare(&run(&parameters, 2, &Plan { rows: 200, block: 7, ..whole }), &wide(&one));
    println!("in small divisions: relative L2 {error:.1e}, seed {SEED}");
    assert!(error < 5e-6, "{error:e}");

    for (weight, parameters) in lora.weights().iter().zip(parameters.iter_mut()) {
        parameters[weight.rank * weight.n_in..].fill(0.0);
    }
    let at_start = run(&parameters, 2, &whole);
    for (weight, gradient) in lora.weights().iter().zip(at_start.iter()) {
        let (of_a, of_b) = gradient.split_at(weight.rank * weight.n_in);
        assert!(of_a.iter().all(|&g| g == 0.0) && of_b.iter().any(|&g| g != 0.0), "{}", weight.name);
    }
}

/// Logits at a random LoRA are llama.cpp's, in our op and in its own; the weights of the model may be quantized.
#[test]
fn a_lora_is_computed_as_llama_cpp_does() {
    for (arch, ty) in [("llama", TensorType::F32), ("phi3", TensorType::F32), ("qwen2", TensorType::Q8_0)] {
        let shape = RandomModel { ty, ..tiny(arch) };
        let adapted =
            Adapted::random(&shape, Selection::All, RankPolicy::parse("4").unwrap(), TensorType::F32);
        let (lora, parameters) = lora(&adapted, 4);
        let gradient = PolicyGradient::of_lora(&lora, 2).unwrap();
        let distance = gradient.distance_from_llama_cpp(lora.adapted()).unwrap();
        println!("{arch}, {ty}: {distance:?}");
        assert!(distance.is_explained(), "{arch}, {ty}: {distance:?}");

        // What is written is what is computed with from then on, and what llama.cpp's own adapter computes.
        let prompt = tokens(3, 40);
        let options = AdapterOptions { form: Form::Residual, op: GraphOp::Auto, n_slots: 2 };
        let mut session = Session::adapted(lora.adapted(), &exact(1), &options).unwrap();
        use_expert(&mut session, lora.expert("lora"), 1, 0);
        lora.write(&parameters);
        let ours = logits(&mut session, 0, &prompt);
        let path = adapted.path("a.lora.gguf");
        let pairs = lora.weights().iter().enumerate().map(|(index, weight)| {
            let [a, b] = lora.pair(index, &parameters).map(Into::into);
            Ok(Pair { weight: &weight.name, rank: weight.rank, a, b, types: [TensorType::F32; 2] })
        });
        write_pairs(&path, adapted.adapted.sidecar(), pairs, &About::default()).unwrap();
        let mut stock = adapted.base();
        let base = logits(&mut stock, 0, &prompt);
        stock.clear(0).unwrap();
        stock.set_loras(&[(adapted.model().load_lora(&path).unwrap(), 1.0)]).unwrap();
        let theirs = logits(&mut stock, 0, &prompt);
        let (error, effect) = (rms(&ours, &theirs), rms(&theirs, &base));
        println!("{arch}, {ty}: {error:.1e} apart, of an effect of {effect:.1e}");
        assert!(effect > 1e-2 && error < 1e-4 * effect, "{error:e} of {effect:e}");
    }
}

#[test]
fn a_lora_that_does_not_fit_is_refused() {
    let adapted = Adapted::random(&tiny("llama"), Selection::All, RankPolicy::Full, TensorType::F32);
    let new = |rank| LoraModel::new(adapted.model(), adapted.adapted.sidecar(), rank, |_| true).err();
    // Keys and values have 16 components.
    assert!(new(16).is_none());
    for rank in [0, 17] {
        let error = new(rank).unwrap().to_string();
        assert!(error.contains("a rank from 1 to 16"), "{error}");
    }
    let error = LoraModel::new(adapted.model(), adapted.adapted.sidecar(), 2, |_| false).err().unwrap();
    assert!(error.to_string().contains("a weight to put a LoRA beside"), "{error}");
}

/// The factors' rounding turns it by next to nothing: compared with the same weights decomposed into F32.
#[test]
fn factors_of_fewer_bits_give_nearly_the_same() {
    let shape = tiny("llama");
    let with = |ty| Adapted::random(&shape, Selection::All, RankPolicy::Full, ty);
    let precise = with(TensorType::F32);
    let m = multipliers(&precise);
    for form in [Form::Residual, Form::Factored] {
        let expected = Oracle::new(&shape, &precise.adapted, form).gradient(&wide(&m), &groups(), 0.3);
        for ty in [TensorType::F16, TensorType::Q8_0] {
            let (error, cosine) = compare(&estimate(&with(ty), form, &m, 0.3).of_parameters, &expected);
            println!("{ty}, {form:?}: relative L2 {error:.1e}, cosine {cosine:.6}, seed {SEED}");
            assert!(cosine >= 0.999, "{ty} {form:?}: {cosine}");
        }
    }
}

/// Every division of the work, forced small: batches of one answer, layers computed again, blocks of rows, queries and
/// tiles that do not fit the sizes.
#[test]
fn small_divisions_give_that_of_central_differences() {
    let shape = tiny("qwen3");
    let adapted = Adapted::random(&shape, Selection::All, RankPolicy::Full, TensorType::F32);
    let m = multipliers(&adapted);
    let expected = Oracle::new(&shape, &adapted.adapted, Form::Residual).gradient(&wide(&m), &groups(), 0.3);
    let gradient = gradient(&adapted, Form::Residual, 2);
    let whole = Plan::default();
    let plans = [
        ("whole", whole),
        ("nothing kept", Plan { kept: 0, ..whole }),
        ("one layer kept", Plan { kept: 1, ..whole }),
        ("an answer at a time", Plan { rows: 1, ..whole }),
        ("some rows at a time", Plan { rows: 16, kept: 1, ..whole }),
        ("small blocks", Plan { block: 3, ..whole }),
        ("small pieces", Plan { queries: 4, ..whole }),
        ("small tiles", Plan { tile: 7, head_rows: 3, ..whole }),
        ("all of it", Plan { rows: 9, kept: 1, block: 2, queries: 3, head_rows: 2, tile: 100, ..whole }),
    ];
    let run = |plan: &Plan| gradient.estimate_by(plan, &m, &groups(), 0.3, &Interrupt::new()).unwrap();
    let first = run(&whole);
    for (name, plan) in &plans {
        let found = run(plan);
        let (error, cosine) = compare(&found.of_parameters, &expected);
        println!("{name}: relative L2 {error:.1e}, cosine {cosine:.9}, seed {SEED}");
        assert!(error <= 5e-6, "{name}: {error:e}");
        assert!(
            (found.kl / first.kl - 1.0).abs() < 1e-4 && (found.entropy / first.entropy - 1.0).abs() < 1e-5
        );
        if name.ends_with("kept") {
            assert_eq!(found.of_parameters, first.of_parameters, "{name}");
        }
    }
}

#[test]
fn log_probs_are_those_of_float64() {
    let shape = tiny("llama");
    let adapted = Adapted::random(&shape, Selection::All, RankPolicy::Full, TensorType::F32);
    let (m, gradient) = (multipliers(&adapted), gradient(&adapted, Form::Residual, 2));
    let oracle = Oracle::new(&shape, &adapted.adapted, Form::Residual);
    // Of one token each, so that the objective is its ln p.
    let mut expected = Vec::new();
    for Group { prompt, rollouts } in groups() {
        for Rollout { tokens, .. } in rollouts {
            for (i, &token) in tokens.iter().enumerate() {
                let rollouts = vec![Rollout { tokens: vec![token], advantage: 1.0 }];
                let group = Group { prompt: [&prompt[..], &tokens[..i]].concat(), rollouts };
                expected.push(oracle.objective(&wide(&m), &[group], 0.0)[0]);
            }
        }
    }
    let small = Plan { rows: 9, block: 2, queries: 3, head_rows: 2, tile: 100, ..Plan::default() };
    for plan in [Plan::default(), small] {
        let alone = gradient.log_probs(&plan, &m, &groups(), &Interrupt::new()).unwrap();
        let beside = gradient.estimate_by(&plan, &m, &groups(), 0.1, &Interrupt::new()).unwrap().log_probs;
        for (found, how) in [(alone, "alone"), (beside, "beside a gradient")] {
            assert_eq!(found.len(), expected.len());
            let error = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            println!("{} rows at a time, {how}: off by at most {error:.1e} nats, seed {SEED}", plan.rows);
            assert!(error < 1e-4 && found.iter().all(|p| p.is_finite()), "{error:e}");
        }
    }
}

/// What is adapted decides where the way back ends, and what of a layer it needs.
#[test]
fn layers_that_are_not_trained_have_no_gradient() {
    for (selection, form) in [
        ("attn", Form::Residual),
        ("ffn", Form::Residual),
        ("ffn_down", Form::Residual),
        ("attn_q|ffn_up", Form::Residual),
        ("all", Form::Factored),
    ] {
        let shape = RandomModel { layers: 3, ..tiny("llama") };
        let tensors = Selection::parse(selection).unwrap();
        let adapted = Adapted::random(&shape, tensors, RankPolicy::Full, TensorType::F32);
        let m = multipliers(&adapted);
        let whole = estimate(&adapted, form, &m, 0.1).of_parameters;
        let weights = &adapted.adapted.sidecar().weights;
        for layers in [0..1, 1..2, 1..3, 2..3] {
            let part = gradient(&adapted, form, 2).with_layers(layers.clone()).unwrap();
            let part = part.estimate(&m, &groups(), 0.1, &Interrupt::new()).unwrap().of_parameters;
            for ((weight, part), whole) in weights.iter().zip(part.iter()).zip(whole.iter()) {
                let is_trained =
                    layers.clone().any(|layer| weight.name.starts_with(&format!("blk.{layer}.")));
                if is_trained {
                    assert_eq!(part, whole, "{selection}, {layers:?}, {}", weight.name);
                } else {
                    assert!(part.iter().all(|&g| g == 0.0), "{selection}, {layers:?}, {}", weight.name);
                }
            }
        }
        let error = gradient(&adapted, form, 1).with_layers(3..9).err().unwrap().to_string();
        assert!(error.contains("from 0 to 2"), "{error}");
    }
}

/// Threads and batches divide the same sums; any number of threads gives equal bits.
#[test]
fn it_does_not_depend_on_how_the_work_is_divided() {
    let groups = many_groups();
    // A weight of low rank is projected in blocks of rows, one of full rank in tiles.
    for rank in [RankPolicy::Full, RankPolicy::parse("4").unwrap()] {
        let adapted = Adapted::random(&tiny("qwen3"), Selection::All, rank, TensorType::F32);
        let m = multipliers(&adapted);
        let run = |n_threads| {
            let gradient = gradient(&adapted, Form::Residual, n_threads);
            gradient.estimate(&m, &groups, 0.1, &Interrupt::new()).unwrap()
        };
        let [one, two, three] = [1, 2, 3].map(run);
        assert_eq!((&one.of_parameters, one.kl, one.entropy), (&two.of_parameters, two.kl, two.entropy));
        assert_eq!(one.of_parameters, three.of_parameters);
        // The mean over answers, taken group by group.
        let mut sum: Vec<Vec<f64>> = m.ranks().map(|rank| vec![0.0; rank]).collect();
        let apart = gradient(&adapted, Form::Residual, 1);
        for group in &groups {
            let one = apart.estimate(&m, std::slice::from_ref(group), 0.1, &Interrupt::new()).unwrap();
            for (sum, g) in sum.iter_mut().flatten().zip(one.of_parameters.flat()) {
                *sum += f64::from(*g) / groups.len() as f64;
            }
        }
        let (error, _) = compare(&two.of_parameters, &sum);
        println!("rank {rank}, together and group by group: relative L2 {error:.1e}");
        assert!(error < 5e-6, "{error:e}");
    }
}

/// Some three thousand rows.
fn many_groups() -> Vec<Group> {
    let rollout = |seed, advantage| Rollout { tokens: tokens(seed, 20 + seed as usize % 30), advantage };
    let group = |seed| Group {
        prompt: tokens(seed, 10 + seed as usize % 20),
        rollouts: vec![rollout(seed + 1, 0.5), rollout(seed + 2, -0.5)],
    };
    (0..30).map(|i| group(10 * i)).collect()
}

/// A smaller budget is kept to by keeping less, and gives the same gradient; one too small says what is needed.
#[test]
fn a_plan_fits_its_budget() {
    let adapted = Adapted::random(&tiny("llama"), Selection::All, RankPolicy::Full, TensorType::F32);
    let (m, groups) = (multipliers(&adapted), many_groups());
    let gradient = gradient(&adapted, Form::Residual, 2);
    let run =
        |plan: &Plan| gradient.estimate_by(plan, &m, &groups, 0.0, &Interrupt::new()).unwrap().of_parameters;
    let plan = |free: usize| gradient.plan(&groups, 0.0, Budget { all: free + 1000, taken: 1000 });
    let ample = plan(1 << 30).unwrap();
    let expected = run(&ample);
    let mut free = ample.bytes;
    let mut seen = Vec::new();
    while let Ok(plan) = plan(free) {
        assert!(plan.bytes <= free, "{plan:?} in {free}");
        seen.push((plan.rows, plan.kept));
        let (error, _) = compare(&run(&plan), &wide(&expected));
        assert!(error < 5e-6, "{error:e}");
        free -= ample.bytes / 40;
    }
    println!("rows and kept layers: {seen:?}");
    seen.dedup();
    assert!(seen.len() > 3);
    let error = plan(free).unwrap_err();
    println!("{error}");
    assert!(error.to_string().contains("training needs at least"), "{error}");
}

#[test]
fn what_is_not_described_is_refused() {
    let refusal = |adapted: &Adapted| PolicyGradient::new(&adapted.adapted, Form::Residual, 1).err().unwrap();
    // An output matrix is no matrix of a block.
    let head = Selection::parse("^output.weight$").unwrap();
    let adapted = Adapted::random(&tiny("llama"), head, RankPolicy::Full, TensorType::F32);
    let error = refusal(&adapted).to_string();
    assert!(error.contains("weight output.weight") && error.contains("`Evolution`"), "{error}");

    let adapted = Adapted::random(&tiny("llama"), Selection::Ffn, RankPolicy::Full, TensorType::F32);
    let gradient = gradient(&adapted, Form::Residual, 1);
    let m = multipliers(&adapted);
    let with = |m: &Multipliers, prompt: &[i32], n: i32| {
        let rollouts = vec![Rollout { tokens: vec![n], advantage: 1.0 }];
        gradient.estimate(m, &[Group { prompt: prompt.to_vec(), rollouts }], 0.0, &Interrupt::new())
    };
    assert!(with(&m, &[5], 6).is_ok());
    let short = m.iter().skip(1).collect();
    for (m, prompt, n) in [(&short, &[5][..], 6), (&m, &[], 6), (&m, &[-1], 6), (&m, &[5], 260)] {
        println!("{}", with(m, prompt, n).unwrap_err());
    }
    let interrupt = Interrupt::new();
    interrupt.raise();
    assert!(gradient.estimate(&m, &groups(), 0.0, &interrupt).unwrap_err().is_interrupted());
    // Nothing to learn from is no gradient.
    let nothing = gradient.estimate(&m, &[], 0.5, &Interrupt::new()).unwrap();
    assert!(nothing.of_parameters.flat().iter().all(|&g| g == 0.0));
}

/// Ways of stretching positions that files name, or leave to be guessed; llama.cpp computes them by itself.
#[test]
fn positions_are_stretched_as_llama_cpp_does() {
    type Edit = fn(&mut GgufHeader);
    let cases: [(&str, &str, Edit); 7] = [
        ("llama", "linear", |header| {
            header.set_str("llama.rope.scaling.type", "linear").unwrap();
            header.set_f32("llama.rope.scaling.factor", 4.0).unwrap();
        }),
        ("llama", "linear, unnamed", |header| header.set_f32("llama.rope.scaling.factor", 4.0).unwrap()),
        ("qwen2", "linear, as old files call it", |header| {
            header.set_f32("qwen2.rope.scale_linear", 4.0).unwrap()
        }),
        ("llama", "none, whatever the factor", |header| {
            header.set_str("llama.rope.scaling.type", "none").unwrap();
            header.set_f32("llama.rope.scaling.factor", 4.0).unwrap();
        }),
        ("qwen2", "yarn", |header| {
            header.set_str("qwen2.rope.scaling.type", "yarn").unwrap();
            header.set_f32("qwen2.rope.scaling.factor", 4.0).unwrap();
            header.set_u32("qwen2.rope.scaling.original_context_length", 64).unwrap();
        }),
        ("phi3", "longrope", |header| {
            header.set_str("phi3.rope.scaling.type", "longrope").unwrap();
            header.set_f32("phi3.rope.scaling.attn_factor", 1.2).unwrap();
        }),
        ("llama", "heads by layer", |header| {
            header.set_i32s("llama.attention.head_count_kv", &[2, 2]).unwrap()
        }),
    ];
    for (arch, name, edit) in cases {
        let folder = tempfile::tempdir().unwrap();
        let [plain, path] = ["plain.gguf", "model.gguf"].map(|name| folder.path().join(name));
        tiny(arch).write(&plain).unwrap();
        rewrite_edited(&GgufFile::open(&plain).unwrap(), &path, &HashMap::new(), edit);
        let adapted = Adapted::real(&path, Selection::Ffn, RankPolicy::Full, TensorType::F32);
        let gradient = gradient(&adapted, Form::Residual, 2);
        let found = gradient.distance_from_llama_cpp(&adapted.adapted).unwrap().found;
        println!("{arch}, {name}: {found:.1e}");
        assert!(found < 1e-5, "{arch}, {name}: {found}");
    }
}

/// In contexts that are longer than what the file calls the original one, llama.cpp turns by other factors.
#[test]
fn a_model_that_llama_cpp_computes_otherwise_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [plain, path] = ["plain.gguf", "model.gguf"].map(|name| folder.path().join(name));
    tiny("phi3").write(&plain).unwrap();
    let edit =
        |header: &mut GgufHeader| header.set_u32("phi3.rope.scaling.original_context_length", 8).unwrap();
    rewrite_edited(&GgufFile::open(&plain).unwrap(), &path, &HashMap::new(), edit);
    let adapted = Adapted::real(&path, Selection::Ffn, RankPolicy::Full, TensorType::F32);
    let error = PolicyGradient::new(&adapted.adapted, Form::Residual, 1).err().unwrap().to_string();
    println!("{error}");
    assert!(error.contains("away from llama.cpp's"), "{error}");
    // So it trains no LoRA, whichever estimator is asked for.
    let lora = LoraModel::new(adapted.model(), adapted.adapted.sidecar(), 2, |_| true).unwrap();
    for (name, reason) in [
        (EstimatorName::Auto, "away from llama.cpp's"),
        (EstimatorName::Exact, "away from llama.cpp's"),
        (EstimatorName::Evolution, "too many parameters"),
    ] {
        let error = name.open_for_lora(&lora, 1).err().unwrap().to_string();
        println!("{error}");
        assert!(error.contains("a LoRA ") && error.contains(reason), "{error}");
    }
}

/// On real weights, in the types that people have.
#[test]
fn real_models_are_computed_as_llama_cpp_does() {
    let embedded = llama_svf::embedded::Temporary::new().unwrap();
    let stories = stories();
    for path in std::iter::once(embedded.path()).chain(stories.as_deref()) {
        let full = GgufFile::open(path).unwrap();
        for base in [TensorType::F32, TensorType::Q8_0, TensorType::Q4_0] {
            let folder = tempfile::tempdir().unwrap();
            let quantized = folder.path().join("model.gguf");
            let matrices =
                full.tensors().iter().filter(|t| t.n_dims == 2 && base.row_bytes(t.ne[0]).is_some());
            let replace = matrices.map(|t| (t.name.clone(), (base, full.to_f32(t).unwrap()))).collect();
            rewrite(&full, &quantized, &replace);
            for ty in [TensorType::F32, TensorType::Q8_0] {
                let adapted = Adapted::real(&quantized, Selection::All, RankPolicy::Full, ty);
                let gradient = gradient(&adapted, Form::Residual, 2);
                let distance = gradient.distance_from_llama_cpp(&adapted.adapted).unwrap();
                println!("{}, weights {base}, factors {ty}: {distance:?}", path.display());
                assert!(distance.is_explained(), "{distance:?}");
            }
        }
    }
}

/// The guard tells a model from one that differs in a part of its description, or in its factors.
#[test]
fn planted_errors_are_told_from_rounding() {
    for ty in [TensorType::F32, TensorType::Q8_0, TensorType::Q4_0] {
        let shape = RandomModel { layers: 4, width: 64, ffn: 128, ty, ..tiny("qwen2") };
        let right = Adapted::random(&shape, Selection::All, RankPolicy::Full, TensorType::F32);
        let distance = |of: &Arc<AdaptedModel>| {
            let gradient = PolicyGradient::new(of, Form::Residual, 2).unwrap();
            gradient.distance_from_llama_cpp(&right.adapted).unwrap()
        };
        let of_right = distance(&right.adapted);
        println!("{ty}: {of_right:?}");
        assert!(of_right.is_explained(), "{ty}: {of_right:?}");

        let file = right.model().file();
        let values = |name: &str| file.to_f32(file.require_tensor(name).unwrap()).unwrap();
        let none = HashMap::new;
        let f32s = |pairs: Vec<(&str, Vec<f32>)>| -> HashMap<String, (TensorType, Vec<f32>)> {
            pairs.into_iter().map(|(name, values)| (name.to_owned(), (TensorType::F32, values))).collect()
        };
        let bias = "blk.2.attn_v.bias";
        let [norm, other] = ["blk.1.attn_norm.weight", "blk.1.ffn_norm.weight"];
        type Edit = fn(&mut GgufHeader);
        let nothing: Edit = |_| ();
        let base: Edit = |header| header.set_f32("qwen2.rope.freq_base", 30_000.0).unwrap();
        let scale: Edit = |header| {
            header.set_str("qwen2.rope.scaling.type", "linear").unwrap();
            header.set_f32("qwen2.rope.scaling.factor", 2.0).unwrap();
        };
        let planted = [
            ("a missing bias", f32s(vec![(bias, vec![0.0; values(bias).len()])]), nothing),
            ("swapped norms", f32s(vec![(norm, values(other)), (other, values(norm))]), nothing),
            ("another base of rope", none(), base),
            ("another scale of rope", none(), scale),
        ];
        for (name, replace, edit) in planted {
            let path = right.path("wrong.gguf");
            rewrite_edited(file, &path, &replace, edit);
            let wrong = Adapted::real(&path, Selection::All, RankPolicy::Full, TensorType::F32);
            let found = distance(&wrong.adapted);
            println!("{ty}, {name}: {found:?}, bound {:.1e}", found.bound());
            assert!(!found.is_explained(), "{ty}, {name}: {found:?}");
        }
        let swapped = swapped_components(&right);
        let found = distance(&swapped);
        println!("{ty}, swapped components of U: {found:?}, bound {:.1e}", found.bound());
        assert!(!found.is_explained(), "{ty}: {found:?}");
    }
}

/// The same model with a sidecar in which two components of one U have changed places.
fn swapped_components(of: &Adapted) -> Arc<AdaptedModel> {
    let sidecar = of.adapted.sidecar();
    let weight = sidecar.weights.iter().find(|weight| weight.name == "blk.1.ffn_up.weight").unwrap();
    let mut bytes = std::fs::read(sidecar.file().path()).unwrap();
    let start = weight.u.offset;
    for output in 0..weight.n_out {
        let at = start + 4 * output * weight.rank;
        let (first, second) = bytes[at..at + 8].split_at_mut(4);
        first.swap_with_slice(second);
    }
    let path = of.path("swapped.svf.gguf");
    std::fs::write(&path, bytes).unwrap();
    AdaptedModel::new(of.model(), Sidecar::open(&path).unwrap()).unwrap()
}
