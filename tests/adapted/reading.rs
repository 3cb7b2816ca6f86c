//! The KV cache belongs to tokens and mixture: what was read with one mixture is never used with another, also when
//! conversations take turns.

use crate::models::{exact, logits, tokens, Adapted, RandomModel};
use llama_svf::decompose::{RankPolicy, Selection};
use llama_svf::engine::{prefill, Form, GraphOp, Prompt, Reader, Session, SessionOptions, Token};
use llama_svf::expert::Mixture;
use llama_svf::ffi::tensor_type::TensorType;
use llama_svf::progress::Interrupt;

/// As in `slots`: the same sums in another order.
const TOLERANCE: f32 = 2e-5;

fn tiny() -> Adapted {
    Adapted::random(&RandomModel::tiny(), Selection::parse("all").unwrap(), RankPolicy::Full, TensorType::F32)
}

/// Slots 1 and 2 hold two experts that differ in everything.
fn two_experts(adapted: &Adapted, n_seq: u32) -> Session {
    let mut session = adapted.session(Form::Residual, GraphOp::Auto, n_seq, 3);
    for slot in 1..3 {
        let expert = adapted.expert(&format!("e{slot}"), u64::from(slot), 0.5);
        let mixture = Mixture::single(&expert.name);
        session.experts_mut().unwrap().insert(expert).unwrap();
        session.set_mixture(slot, &mixture).unwrap();
    }
    session
}

/// The logits after the last token, read in one go in a session of its own.
fn fresh(adapted: &Adapted, slot: u32, tokens: &[Token]) -> Vec<f32> {
    let mut session = two_experts(adapted, 1);
    session.assign(0, slot).unwrap();
    session.prompt(0, tokens).unwrap();
    session.logits(0).to_vec()
}

fn gap(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().chain(b).all(|x| x.is_finite()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn two_conversations_that_take_turns_never_influence_each_other() {
    let adapted = tiny();
    let mut session = two_experts(&adapted, 3);
    // They begin alike, which a shared prefix would show, and use mixtures 1, 2 and the base model.
    let mut talks: Vec<Vec<Token>> = vec![tokens(3, 20); 3];
    let mut readers: Vec<_> = (0..3).map(Reader::new).collect();
    let slots = [1, 2, 0];
    let mut worst = 0f32;
    for turn in 0..6 {
        for (i, (talk, reader)) in talks.iter_mut().zip(&mut readers).enumerate() {
            let before = reader.tokens().len();
            let n = reader.read(&mut session, slots[i], talk).unwrap();
            assert_eq!(n, talk.len() - before, "only what is new is read");
            let found = session.logits(0).to_vec();
            let expected = fresh(&adapted, slots[i], talk);
            worst = worst.max(gap(&found, &expected));
            for other in slots.iter().filter(|&&slot| slot != slots[i]) {
                let far = gap(&found, &fresh(&adapted, *other, talk));
                assert!(far > 1000.0 * TOLERANCE, "turn {turn}: mixtures {i} and {other} differ by {far:e}");
            }
            talk.extend(tokens(100 * turn + i as u64, 5));
        }
    }
    println!("largest difference {worst:e}");
    assert!(worst <= TOLERANCE, "{worst:e}");
}

#[test]
fn a_beginning_is_kept_for_the_same_mixture_only() {
    let adapted = tiny();
    let mut session = two_experts(&adapted, 2);
    let mut reader = Reader::new(0);
    let talk = tokens(5, 30);
    let mut branch = talk[..18].to_vec();
    branch.extend(tokens(6, 7));
    // Slot, tokens, how many of them are computed.
    for (slot, tokens, n) in [
        (0, &talk, 30),
        (0, &branch, 7),
        (0, &branch, 1),
        (1, &branch, 25),
        (1, &talk, 12),
        (2, &talk, 30),
        (0, &talk, 30),
    ] {
        assert_eq!(reader.read(&mut session, slot, tokens).unwrap(), n, "slot {slot}");
        let difference = gap(session.logits(0), &fresh(&adapted, slot, tokens));
        assert!(difference <= TOLERANCE, "slot {slot}: {difference:e}");
    }
    assert!(reader.read(&mut session, 0, &[]).unwrap_err().to_string().contains("empty"));
    assert!(reader.read(&mut session, 9, &talk).unwrap_err().to_string().contains("slot"));
    // A slot that gets another mixture while nobody holds tokens of it.
    reader.read(&mut session, 1, &talk).unwrap();
    assert!(
        session.set_mixture(1, &Mixture::single("e2")).is_err(),
        "the reader's tokens are of the old one"
    );
    reader.clear(&mut session).unwrap();
    session.set_mixture(1, &Mixture::single("e2")).unwrap();
    assert_eq!(reader.read(&mut session, 1, &talk).unwrap(), 30);
    assert!(gap(session.logits(0), &fresh(&adapted, 2, &talk)) <= TOLERANCE);
}

#[test]
fn the_base_model_is_itself_to_the_bit_right_after_an_expert() {
    let adapted = tiny();
    let talk = tokens(9, 25);
    let base = logits(&mut adapted.base(), 0, &talk);
    for op in [GraphOp::Fused, GraphOp::Composed] {
        let mut session = adapted.session(Form::Residual, op, 2, 2);
        session.experts_mut().unwrap().insert(adapted.expert("e", 1, 0.5)).unwrap();
        session.set_mixture(1, &Mixture::single("e")).unwrap();
        session.assign(0, 1).unwrap();
        assert_ne!(logits(&mut session, 0, &talk), base, "the expert does something");
        // The fallback: slot 0 by name.
        session.clear(0).unwrap();
        session.assign(0, 0).unwrap();
        assert_eq!(logits(&mut session, 0, &talk), base, "{op:?}");
        // Strength 0 in the slot that the expert had.
        session.clear(0).unwrap();
        session.set_mixture(1, &Mixture::single("e").strength(0.0).unwrap()).unwrap();
        session.assign(0, 1).unwrap();
        assert_eq!(logits(&mut session, 0, &talk), base, "{op:?}");
    }
}

#[test]
fn many_prompts_are_read_as_each_alone() {
    let adapted = tiny();
    let prompts: Vec<_> = (0..40)
        .map(|i| {
            let tokens = tokens(i, 1 + (i as usize * 7) % 60);
            let n_outputs = tokens.len().min(1 + i as usize % 4);
            Prompt { tokens, slot: (i % 3) as u32, n_outputs }
        })
        .collect();
    let options =
        |n_batch| SessionOptions { n_ctx: 1024, n_batch, kv_unified: false, n_threads: 1, ..exact(4) };
    for (n_sessions, n_batch) in [(1, 2048), (2, 64), (1, 16)] {
        let mut sessions: Vec<_> = (0..n_sessions)
            .map(|_| {
                let adapter =
                    llama_svf::engine::AdapterOptions { form: Form::Residual, op: GraphOp::Auto, n_slots: 3 };
                let mut session = Session::adapted(&adapted.adapted, &options(n_batch), &adapter).unwrap();
                for slot in 1..3 {
                    let expert = adapted.expert(&format!("e{slot}"), u64::from(slot), 0.5);
                    session.experts_mut().unwrap().insert(expert).unwrap();
                    session.set_mixture(slot, &Mixture::single(format!("e{slot}"))).unwrap();
                }
                session
            })
            .collect();
        let mut found = vec![Vec::new(); prompts.len()];
        prefill(&mut sessions, &prompts, &Interrupt::new(), |i, logits| {
            found[i].push(logits.to_vec());
            Ok(())
        })
        .unwrap();
        for (i, (prompt, found)) in prompts.iter().zip(&found).enumerate() {
            assert_eq!(found.len(), prompt.n_outputs, "prompt {i}");
            for (after, found) in (0..prompt.n_outputs).rev().zip(found) {
                let read = &prompt.tokens[..prompt.tokens.len() - after];
                let difference = gap(found, &fresh(&adapted, prompt.slot, read));
                assert!(difference <= TOLERANCE, "{n_sessions} x {n_batch}, prompt {i}: {difference:e}");
            }
        }
        for (tokens, slot, n_outputs, fragment) in [
            (vec![], 0, 1, "empty"),
            (tokens(1, 300), 0, 1, "at most 256 tokens"),
            (tokens(1, 3), 3, 1, "slot below 3"),
            (tokens(1, 3), 2, 0, "1 to 3 outputs"),
            (tokens(1, 3), 2, 4, "1 to 3 outputs"),
        ] {
            let bad = [Prompt { tokens: vec![5], slot: 0, n_outputs: 1 }, Prompt { tokens, slot, n_outputs }];
            let error = prefill(&mut sessions, &bad, &Interrupt::new(), |_, _| panic!("nothing runs"));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(fragment), "{error}");
        }
        let interrupt = Interrupt::new();
        interrupt.raise();
        assert!(prefill(&mut sessions, &prompts, &interrupt, |_, _| Ok(())).unwrap_err().is_interrupted());
        assert!(sessions.iter().all(|session| (0..4).all(|seq| session.n_past(seq).unwrap() == 0)));
    }
}
