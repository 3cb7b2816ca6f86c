//! Slots and sequences: a batch of sequences with different mixtures gives each what it gives alone, and
//! contexts, models and threads do not disturb each other.

use std::path::PathBuf;
use std::sync::Arc;

use crate::models::{exact, logits, tokens, use_expert, Adapted, RandomModel};
use llama_svf::decompose::{RankPolicy, Selection};
use llama_svf::engine::Form;
use llama_svf::engine::{AdapterOptions, GraphOp, Input, Model, Session, SessionOptions};
use llama_svf::error::ErrorKind;
use llama_svf::expert::Mixture;
use llama_svf::ffi::gguf::GgufHeader;
use llama_svf::ffi::tensor_type::TensorType;
use rand::seq::SliceRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const N_SEQ: u32 = 8;

/// One token of llama.cpp's own products, computed alone or among others, differs in the order of f32 sums
/// only. A sum of n terms is off by at most n·2⁻²⁴ of its magnitude; over the two layers of the test model
/// with n ≤ 96 and logits of order 1 this bounds the difference by about 1e-4; the largest seen is 2e-6.
const TOLERANCE: f32 = 2e-5;

fn tiny() -> Adapted {
    Adapted::random(&RandomModel::tiny(), Selection::parse("all").unwrap(), RankPolicy::Full, TensorType::F32)
}

/// A session whose slots 1…8 hold the mixtures of eight random experts, and sequence i uses slot i + 1.
fn eight(adapted: &Adapted, form: Form, op: GraphOp, options: &SessionOptions) -> Session {
    let adapter = AdapterOptions { form, op, n_slots: N_SEQ + 1 };
    let mut session = Session::adapted(&adapted.adapted, options, &adapter).unwrap();
    for i in 0..N_SEQ {
        let name = format!("e{i}");
        session.experts_mut().unwrap().insert(adapted.expert(&name, u64::from(i), 0.5)).unwrap();
    }
    for i in 0..N_SEQ {
        // A mixture of two, different for each sequence.
        let mixture = Mixture::parse(&format!("e{i}=0.75,e{}=0.5", (i + 1) % N_SEQ)).unwrap();
        session.set_mixture(i + 1, &mixture).unwrap();
        session.assign(i, i + 1).unwrap();
    }
    session
}

fn assert_close(name: &str, alone: &[f32], together: &[f32]) -> f32 {
    let mut worst = 0f32;
    for (a, b) in alone.iter().zip(together) {
        assert!(a.is_finite() && b.is_finite(), "{name}: {a} {b}");
        worst = worst.max((a - b).abs());
    }
    assert!(worst <= TOLERANCE, "{name}: {worst:e}");
    worst
}

#[test]
fn a_mixed_batch_gives_each_sequence_what_it_gives_alone() {
    let seed = 4;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let adapted = tiny();
    let mut worst = 0f32;
    for form in [Form::Residual, Form::Factored] {
        for op in [GraphOp::Fused, GraphOp::Composed] {
            // The second and third split the batch into ubatches, the third unevenly.
            for n_ubatch in [512, 32, 7] {
                let options = SessionOptions { n_ubatch, ..exact(N_SEQ) };
                let mut session = eight(&adapted, form, op, &options);
                let prompts: Vec<_> = (0..N_SEQ).map(|i| tokens(u64::from(i) + 50, 5 + i as usize)).collect();
                let mut alone: Vec<_> =
                    (0..N_SEQ).map(|i| logits(&mut session, i, &prompts[i as usize])).collect();

                for round in 0..3 {
                    if round == 2 {
                        // Slots are rewritten mid-way: sequence 3 trades its mixture for the base, 5 for e0.
                        session.clear(3).unwrap();
                        session.set_mixture(4, &Mixture::base()).unwrap();
                        session.clear(5).unwrap();
                        session.set_mixture(6, &Mixture::single("e0")).unwrap();
                        for i in [3, 5] {
                            let before = &alone[i as usize];
                            let after = logits(&mut session, i, &prompts[i as usize]);
                            assert_ne!(before, &after);
                            alone[i as usize] = after;
                        }
                    }
                    // All sequences in one batch, their tokens interleaved at random, some with output.
                    for seq in 0..N_SEQ {
                        session.clear(seq).unwrap();
                    }
                    let mut order: Vec<u32> =
                        (0..N_SEQ).flat_map(|i| vec![i; prompts[i as usize].len()]).collect();
                    order.shuffle(&mut rng);
                    let mut next = [0; N_SEQ as usize];
                    let mut batch = Vec::new();
                    let mut wanted = Vec::new();
                    for seq in order {
                        let position = next[seq as usize];
                        next[seq as usize] += 1;
                        let output = round == 0 || (position + seq as usize).is_multiple_of(3);
                        batch.push(Input { seq, token: prompts[seq as usize][position], output });
                        if output {
                            wanted.push((seq as usize, position));
                        }
                    }
                    session.decode(&batch).unwrap();
                    for (i, &(seq, position)) in wanted.iter().enumerate() {
                        let name = format!("{form:?} {op:?} ubatch {n_ubatch} round {round} sequence {seq}");
                        worst = worst.max(assert_close(&name, &alone[seq][position], session.logits(i)));
                    }
                    // One more token for every sequence: the decode shape.
                    let step: Vec<_> = (0..N_SEQ).map(|seq| Input { seq, token: 70, output: true }).collect();
                    session.decode(&step).unwrap();
                    let together: Vec<_> = (0..N_SEQ as usize).map(|i| session.logits(i).to_vec()).collect();
                    for seq in 0..N_SEQ {
                        let mut longer = prompts[seq as usize].clone();
                        longer.push(70);
                        let alone = logits(&mut session, seq, &longer);
                        worst = worst.max(assert_close(
                            "decode",
                            &alone[longer.len() - 1],
                            &together[seq as usize],
                        ));
                    }
                }
            }
        }
    }
    println!("largest difference {worst:e} (tolerance {TOLERANCE:e})");
}

#[test]
fn every_sequence_of_a_mixed_batch_is_really_different() {
    let adapted = tiny();
    let mut session = eight(&adapted, Form::Residual, GraphOp::Fused, &exact(N_SEQ));
    let batch: Vec<_> = (0..N_SEQ).map(|seq| Input { seq, token: 70, output: true }).collect();
    session.decode(&batch).unwrap();
    for a in 0..N_SEQ as usize {
        for b in 0..a {
            let gap = session
                .logits(a)
                .iter()
                .zip(session.logits(b))
                .map(|(a, b)| (a - b).abs())
                .fold(0f32, f32::max);
            assert!(gap > 1000.0 * TOLERANCE, "sequences {a} and {b} differ by {gap:e}");
        }
    }
}

#[test]
fn contexts_models_and_threads_do_not_disturb_each_other() {
    let a = tiny();
    let model = RandomModel { arch: "qwen3".into(), seed: 9, ..RandomModel::tiny() };
    let b = Adapted::random(&model, Selection::Ffn, RankPolicy::parse("12").unwrap(), TensorType::F16);
    let prompt = tokens(8, 20);
    let open = |adapted: &Adapted, seed: Option<u64>, op| {
        let mut session = adapted.session(Form::Residual, op, 1, 2);
        if let Some(seed) = seed {
            use_expert(&mut session, adapted.expert("expert", seed, 0.5), 1, 0);
        }
        session
    };
    let cases = [
        (&a, Some(1), GraphOp::Fused),
        (&a, Some(2), GraphOp::Composed),
        (&a, None, GraphOp::Fused),
        (&b, Some(3), GraphOp::Fused),
        (&b, None, GraphOp::Composed),
    ];
    let alone: Vec<_> =
        cases.iter().map(|&(adapted, seed, op)| logits(&mut open(adapted, seed, op), 0, &prompt)).collect();

    // All alive at once, decoding in turn, one of them closed on the way.
    let mut sessions: Vec<_> = cases.iter().map(|&(adapted, seed, op)| open(adapted, seed, op)).collect();
    for round in 0..2 {
        for (session, alone) in sessions.iter_mut().zip(&alone).rev() {
            assert_eq!(&logits(session, 0, &prompt), alone, "round {round}");
        }
        sessions.truncate(4);
    }

    // And from several threads.
    std::thread::scope(|scope| {
        for (mut session, alone) in sessions.into_iter().zip(&alone) {
            let prompt = &prompt;
            scope.spawn(move || {
                for _ in 0..3 {
                    assert_eq!(&logits(&mut session, 0, prompt), alone);
                }
            });
        }
    });
}

#[test]
fn experts_can_be_replaced_and_unloaded_while_a_slot_uses_them() {
    let adapted = tiny();
    let prompt = tokens(8, 12);
    let mut session = adapted.session(Form::Residual, GraphOp::Auto, 1, 2);
    use_expert(&mut session, adapted.expert("expert", 1, 0.5), 1, 0);
    let first = logits(&mut session, 0, &prompt);
    session.experts_mut().unwrap().replace(adapted.expert("expert", 2, 0.5)).unwrap();
    assert_eq!(logits(&mut session, 0, &prompt), first, "a slot keeps what was written to it");
    session.clear(0).unwrap();
    session.set_mixture(1, &Mixture::single("expert")).unwrap();
    let second = logits(&mut session, 0, &prompt);
    assert_ne!(first, second);
    session.experts_mut().unwrap().remove("expert").unwrap();
    assert!(session.experts().unwrap().names().is_empty());
    assert_eq!(logits(&mut session, 0, &prompt), second);
}

#[test]
fn a_copied_sequence_goes_on_as_the_original_does() {
    let adapted = tiny();
    let (prompt, ending) = (tokens(8, 20), tokens(9, 4));
    // Each of the tokens by itself, as sampling decodes them.
    let go_on = |session: &mut Session, seq: u32| -> Vec<Vec<f32>> {
        let step = |&token| {
            session.decode(&[Input { seq, token, output: true }]).unwrap();
            session.logits(0).to_vec()
        };
        ending.iter().map(step).collect()
    };
    for kv_unified in [true, false] {
        // Fused attention skips other sequences' cells; plain sums run over their zeros, in another order.
        let options = SessionOptions { kv_unified, flash_attention: true, ..exact(3) };
        let adapter = AdapterOptions { form: Form::Residual, op: GraphOp::Auto, n_slots: 2 };
        let mut session = Session::adapted(&adapted.adapted, &options, &adapter).unwrap();
        use_expert(&mut session, adapted.expert("expert", 1, 0.5), 1, 0);
        logits(&mut session, 0, &prompt);
        session.copy(0, 2).unwrap();
        session.copy(2, 1).unwrap();
        let from_20 = go_on(&mut session, 0);
        for seq in [1, 2] {
            assert_eq!(session.n_past(seq).unwrap(), 20);
            assert_eq!(session.slot(seq).unwrap(), 1);
        }
        assert_eq!(session.truncate(0, 12).unwrap(), 12);
        let from_12 = go_on(&mut session, 0);
        // The original goes while its copies stay.
        session.clear(0).unwrap();
        assert!(go_on(&mut session, 2) == from_20, "unified: {kv_unified}");
        assert_eq!(session.truncate(2, 12).unwrap(), 12);
        assert!(go_on(&mut session, 2) == from_12, "unified: {kv_unified}");
        assert!(go_on(&mut session, 1) == from_20, "unified: {kv_unified}");

        for (from, to, fragment) in [
            (1, 2, "sequence 2: it holds 16 tokens"),
            (1, 1, "another sequence than the copied one, found 1"),
            (3, 0, "expected a sequence below 3, found 3"),
            (1, 3, "expected a sequence below 3, found 3"),
        ] {
            let error = session.copy(from, to).unwrap_err().to_string();
            assert!(error.contains(fragment), "{error}");
        }
        assert_eq!(session.n_past(2).unwrap(), 16);
    }
}

#[test]
fn truncating_to_what_a_sliding_window_has_left_forgets_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    RandomModel { arch: "spark2_5".into(), ..RandomModel::tiny() }.write(&path).unwrap();
    // Fused attention does not mind in which cells the tokens lie.
    let options = SessionOptions { flash_attention: true, ..exact(2) };
    let mut session = Session::new(&Model::load(&path, 0).unwrap(), &options).unwrap();
    let prompt = tokens(8, 340);
    let begun = logits(&mut session, 0, &prompt[..15]);
    assert_eq!(session.truncate(0, 10).unwrap(), 10);
    // The sequence goes on behind another one, and when that is gone first in its cells, then in its own that its
    // window has left.
    session.prompt(1, &tokens(9, 300)).unwrap();
    session.prompt(0, &prompt[10..20]).unwrap();
    session.clear(1).unwrap();
    session.prompt(0, &prompt[20..]).unwrap();
    assert_eq!(session.truncate(0, 335).unwrap(), 335);
    assert_eq!(session.truncate(0, 15).unwrap(), 0);
    assert_eq!(session.n_past(0).unwrap(), 0);
    assert!(logits(&mut session, 0, &prompt[..15]) == begun);
}

#[test]
fn lora_adapters_cannot_change_under_a_sequence_that_holds_tokens() {
    let adapted = tiny();
    let prompt = tokens(8, 6);
    let lora = adapted.model().load_lora(&lora(&adapted)).unwrap();
    let mut session = Session::new(adapted.model(), &exact(2)).unwrap();
    let base = logits(&mut session, 1, &prompt);
    let error = session.set_loras(&[(Arc::clone(&lora), 1.0)]).unwrap_err().to_string();
    assert!(error.contains("sequence 1: it holds 6 tokens computed with other LoRA adapters"), "{error}");
    assert!(logits(&mut session, 0, &prompt) == base, "a refused adapter is not applied");
    session.clear(0).unwrap();
    session.clear(1).unwrap();
    session.set_loras(&[(lora, 1.0)]).unwrap();
    assert!(logits(&mut session, 1, &prompt) != base);
    assert!(session.set_loras(&[]).is_err());
    session.clear(1).unwrap();
    session.set_loras(&[]).unwrap();
    assert!(logits(&mut session, 1, &prompt) == base);
}

/// The file of a LoRA adapter of one weight, all ones.
fn lora(adapted: &Adapted) -> PathBuf {
    let weight = adapted.model().file().require_tensor("blk.0.ffn_up.weight").unwrap();
    let mut header = GgufHeader::new();
    header.set_str("general.type", "adapter").unwrap();
    header.set_str("adapter.type", "lora").unwrap();
    header.set_str("general.architecture", "llama").unwrap();
    header.add_tensor("blk.0.ffn_up.weight.lora_a", &[weight.ne[0], 1], TensorType::F32).unwrap();
    header.add_tensor("blk.0.ffn_up.weight.lora_b", &[1, weight.ne[1]], TensorType::F32).unwrap();
    let mut bytes = header.encode();
    let n_values = (header.total_size() - bytes.len()) / size_of::<f32>();
    bytes.extend(std::iter::repeat_n(1f32.to_le_bytes(), n_values).flatten());
    let path = adapted.path("lora.gguf");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn misuse_is_an_error_that_names_it_and_changes_nothing() {
    let adapted = tiny();
    let truncated = Adapted::random(
        &RandomModel::tiny(),
        Selection::Ffn,
        RankPolicy::parse("8").unwrap(),
        TensorType::F16,
    );
    let prompt = tokens(8, 6);
    let mut session = adapted.session(Form::Residual, GraphOp::Auto, 2, 3);
    use_expert(&mut session, adapted.expert("expert", 1, 0.5), 1, 0);
    let before = logits(&mut session, 0, &prompt);
    let expert = Mixture::single("expert");

    let cases: Vec<(&str, Option<llama_svf::error::Error>, &str)> = vec![
        ("the slot of a sequence with tokens", session.set_mixture(1, &expert).err(), "holds 6 tokens"),
        ("another slot for a sequence with tokens", session.assign(0, 2).err(), "holds 6 tokens"),
        ("the base slot", session.set_mixture(0, &expert).err(), "slot 0 is the base"),
        ("a slot out of range", session.set_mixture(3, &expert).err(), "expected a slot below 3, found 3"),
        ("a slot out of range", session.assign(1, 7).err(), "expected a slot below 3, found 7"),
        ("a sequence out of range", session.assign(2, 1).err(), "expected a sequence below 2, found 2"),
        ("an unknown expert", session.set_mixture(2, &Mixture::single("none")).err(), "loaded: expert"),
        (
            "a mixture out of range",
            session.set_mixture(2, &Mixture::parse("expert=3e38").unwrap()).err(),
            "finite multipliers",
        ),
        (
            "a token out of range",
            session.decode(&[Input { seq: 1, token: 320, output: true }]).err(),
            "below 320",
        ),
        ("a negative token", session.decode(&[Input { seq: 1, token: -1, output: true }]).err(), "below 320"),
        ("an empty batch", session.decode(&[]).err(), "1 to 512 tokens"),
        (
            "factored with a truncated sidecar",
            Session::adapted(
                &truncated.adapted,
                &exact(1),
                &AdapterOptions { form: Form::Factored, op: GraphOp::Auto, n_slots: 1 },
            )
            .err(),
            "decompose with `RankPolicy::Full`",
        ),
        (
            "a base session",
            Session::new(adapted.model(), &exact(1)).unwrap().set_mixture(1, &expert).err(),
            "`Sidecar::open`",
        ),
        (
            "no threads",
            Session::new(adapted.model(), &SessionOptions { n_threads: 0, ..exact(1) }).err(),
            "n_threads: expected 1 or more",
        ),
    ];
    for (name, error, fragment) in cases {
        let error = error.unwrap_or_else(|| panic!("{name}: accepted"));
        assert!(error.to_string().contains(fragment), "{name}: {error}");
        assert_eq!(error.exit_code(), 2, "{name}");
    }
    session.clear(0).unwrap();
    assert_eq!(logits(&mut session, 0, &prompt), before);

    // Longer than the context: an error, and the session stays usable.
    let long = tokens(1, 600);
    let error = session.prompt(1, &long).unwrap_err();
    assert!(error.to_string().contains("context") && error.kind() == ErrorKind::TooLarge, "{error}");
    assert_eq!(session.n_past(1).unwrap(), 0);
    assert_eq!(logits(&mut session, 0, &prompt), before);
}
