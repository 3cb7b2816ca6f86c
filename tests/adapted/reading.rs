//! The KV cache belongs to tokens and mixture: what was read with one mixture is never used with another, also when
//! conversations take turns.

use crate::models::{exact, logits, tokens, Adapted, RandomModel};
use llama_svf::decompose::{RankPolicy, Selection};
use llama_svf::engine::scheduler::{Probe, Scores, QUEUE};
use llama_svf::engine::{log_probs, Form, GraphOp, Request, Scheduler, Session, SessionOptions, Token};
use llama_svf::expert::Mixture;
use llama_svf::ffi::tensor_type::TensorType;
use llama_svf::progress::Interrupt;

/// As in `slots`: the same sums in another order.
const TOLERANCE: f32 = 2e-5;

fn tiny() -> Adapted {
    Adapted::random(&RandomModel::tiny(), Selection::parse("all").unwrap(), RankPolicy::Full, TensorType::F32)
}

/// Two experts that differ in everything, in slots 1 and 2.
fn two_experts(adapted: &Adapted, options: &SessionOptions) -> Session {
    let adapter = llama_svf::engine::AdapterOptions { form: Form::Residual, op: GraphOp::Auto, n_slots: 3 };
    let mut session = Session::adapted(&adapted.adapted, options, &adapter).unwrap();
    for slot in 1..3 {
        let expert = adapted.expert(&format!("e{slot}"), u64::from(slot), 0.5);
        let mixture = Mixture::single(&expert.name);
        session.experts_mut().unwrap().insert(expert).unwrap();
        session.set_mixture(slot, &mixture).unwrap();
    }
    session
}

fn mixture(slot: u32) -> Mixture {
    match slot {
        0 => Mixture::base(),
        slot => Mixture::single(format!("e{slot}")),
    }
}

/// ln p of all tokens after `tokens`, with the mixture of `slot`.
fn ask(adapted: &Adapted, slot: u32, tokens: &[Token]) -> Request {
    let all = (0..adapted.model().n_vocab() as Token).collect();
    Request::score(tokens.to_vec(), mixture(slot), vec![Probe { after: tokens.len(), tokens: all }])
}

fn read(scheduler: &Scheduler, adapted: &Adapted, slot: u32, tokens: &[Token]) -> Scores {
    scheduler.submit(ask(adapted, slot, tokens)).unwrap().scores().unwrap()
}

/// ln p of all tokens after the last one, read in one go in a session of its own.
fn fresh(adapted: &Adapted, slot: u32, tokens: &[Token]) -> Vec<f32> {
    let mut session = two_experts(adapted, &exact(1));
    session.assign(0, slot).unwrap();
    session.prompt(0, tokens).unwrap();
    let all: Vec<_> = (0..adapted.model().n_vocab() as Token).collect();
    log_probs(session.logits(0), &all)
}

fn gap(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().chain(b).all(|x| x.is_finite()));
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn two_conversations_that_take_turns_never_influence_each_other() {
    let adapted = tiny();
    for kv_unified in [true, false] {
        let options = SessionOptions { n_ctx: 3 * 512, kv_unified, ..exact(3) };
        let scheduler = Scheduler::new(vec![two_experts(&adapted, &options)], QUEUE).unwrap();
        // They begin alike, which a shared prefix would show, and use mixtures 1, 2 and the base model.
        let mut talks: Vec<Vec<Token>> = vec![tokens(3, 20); 3];
        let slots = [1, 2, 0];
        let mut worst = 0f32;
        for turn in 0..6 {
            for (i, talk) in talks.iter_mut().enumerate() {
                let Scores { log_probs, usage } = read(&scheduler, &adapted, slots[i], talk);
                assert_eq!(usage.n_computed(), if turn == 0 { 20 } else { 5 }, "only what is new is read");
                let found = log_probs.concat();
                let expected = fresh(&adapted, slots[i], talk);
                worst = worst.max(gap(&found, &expected));
                for other in slots.iter().filter(|&&slot| slot != slots[i]) {
                    let far = gap(&found, &fresh(&adapted, *other, talk));
                    assert!(
                        far > 1000.0 * TOLERANCE,
                        "turn {turn}: mixtures {i} and {other} differ by {far:e}"
                    );
                }
                talk.extend(tokens(100 * turn + i as u64, 5));
            }
        }
        println!("largest difference {worst:e}");
        assert!(worst <= TOLERANCE, "{worst:e}");
    }
}

#[test]
fn a_beginning_is_kept_for_the_same_mixture_only_also_when_an_expert_is_replaced() {
    let adapted = tiny();
    let scheduler = Scheduler::new(vec![two_experts(&adapted, &exact(1))], QUEUE).unwrap();
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
        (1, &talk, 30),
    ] {
        let Scores { log_probs, usage } = read(&scheduler, &adapted, slot, tokens);
        assert_eq!(usage.n_computed(), n, "slot {slot}");
        let difference = gap(&log_probs.concat(), &fresh(&adapted, slot, tokens));
        assert!(difference <= TOLERANCE, "slot {slot}: {difference:e}");
    }
    // The first expert becomes the second: nothing that the old one has read is used.
    let mut second = adapted.expert("e2", 2, 0.5);
    second.name = "e1".into();
    scheduler.replace_expert(second).unwrap();
    let Scores { log_probs, usage } = read(&scheduler, &adapted, 1, &talk);
    assert_eq!(usage.n_computed(), 30);
    assert!(gap(&log_probs.concat(), &fresh(&adapted, 2, &talk)) <= TOLERANCE);
    // Another name for the same is the same.
    assert_eq!(read(&scheduler, &adapted, 2, &talk).usage.n_computed(), 1);
    // Who is gone cannot be asked for any more.
    scheduler.change_experts(|experts| experts.remove("e1").map(drop)).unwrap();
    let error = scheduler.submit(ask(&adapted, 1, &talk)).err().unwrap();
    assert!(error.to_string().contains("e1"), "{error}");
}

#[test]
fn a_request_keeps_the_expert_that_it_began_with() {
    let adapted = tiny();
    let options = SessionOptions { n_batch: 8, ..exact(1) };
    let scheduler = Scheduler::new(vec![two_experts(&adapted, &options)], QUEUE).unwrap();
    let talks: Vec<_> = (0..4).map(|i| tokens(20 + i, 60)).collect();
    let tickets: Vec<_> =
        talks.iter().map(|talk| scheduler.submit(ask(&adapted, 1, talk)).unwrap()).collect();
    // Three of them have not begun: there is one sequence.
    scheduler.replace_expert(adapted.expert("e1", 99, 0.5)).unwrap();
    for (talk, ticket) in talks.iter().zip(tickets) {
        let found = ticket.scores().unwrap().log_probs.concat();
        assert!(gap(&found, &fresh(&adapted, 1, talk)) <= TOLERANCE);
    }
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
    let all: Vec<_> = (0..adapted.model().n_vocab() as Token).collect();
    let prompts: Vec<_> = (0..40)
        .map(|i| {
            let tokens = tokens(i, 1 + (i as usize * 7) % 60);
            let n_outputs = tokens.len().min(1 + i as usize % 4);
            (tokens, (i % 3) as u32, n_outputs)
        })
        .collect();
    let requests: Vec<_> = prompts
        .iter()
        .map(|(tokens, slot, n_outputs)| {
            let first = tokens.len() - n_outputs + 1;
            let probe = |after| Probe { after, tokens: all.clone() };
            Request::score(tokens.clone(), mixture(*slot), (first..=tokens.len()).map(probe).collect())
        })
        .collect();
    for (n_sessions, n_batch) in [(1, 2048), (2, 64), (1, 16)] {
        let options = SessionOptions { n_ctx: 1024, n_batch, kv_unified: false, n_threads: 1, ..exact(4) };
        let sessions = (0..n_sessions).map(|_| two_experts(&adapted, &options)).collect();
        let scheduler = Scheduler::new(sessions, QUEUE).unwrap();
        let mut found = vec![Vec::new(); prompts.len()];
        let complete = |requests: &[Request], found: &mut Vec<Vec<Vec<f32>>>| {
            scheduler.complete(requests.to_vec(), &Interrupt::new(), |i, outcome| {
                found[i] = outcome.scores()?.log_probs;
                Ok(())
            })
        };
        complete(&requests, &mut found).unwrap();
        for (i, ((tokens, slot, n_outputs), found)) in prompts.iter().zip(&found).enumerate() {
            assert_eq!(found.len(), *n_outputs, "prompt {i}");
            for (after, found) in (0..*n_outputs).rev().zip(found) {
                let read = &tokens[..tokens.len() - after];
                let difference = gap(found, &fresh(&adapted, *slot, read));
                assert!(difference <= TOLERANCE, "{n_sessions} x {n_batch}, prompt {i}: {difference:e}");
            }
        }
        let probe = |after| Probe { after, tokens: vec![1] };
        for (tokens, slot, probes, fragment) in [
            (vec![], 0, vec![probe(1)], "empty"),
            (tokens(1, 300), 0, vec![probe(300)], "at most 256 tokens"),
            (tokens(1, 3), 3, vec![probe(3)], "e3"),
            (tokens(1, 3), 2, vec![], "1 probe or more"),
            (tokens(1, 3), 2, vec![probe(4)], "probe"),
            (tokens(1, 3), 2, vec![probe(0)], "probe"),
            (tokens(1, 3), 2, vec![probe(2), probe(2)], "probe"),
            (tokens(1, 3), 2, vec![Probe { after: 3, tokens: vec![-1] }], "a token below"),
            (vec![1_000_000], 2, vec![probe(1)], "a token below"),
        ] {
            let bad = Request::score(tokens, mixture(slot), probes);
            let good = ask(&adapted, 0, &[5]);
            let error = scheduler.complete(vec![good, bad], &Interrupt::new(), |_, _| panic!("nothing runs"));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(fragment), "{error}");
        }
        let interrupt = Interrupt::new();
        interrupt.raise();
        let result = scheduler.complete(requests.clone(), &interrupt, |_, _| Ok(()));
        assert!(result.unwrap_err().is_interrupted());
        crate::scheduler::assert_idle(&scheduler);
    }
}
