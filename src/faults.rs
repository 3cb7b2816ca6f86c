//! Faults that only the inside can plant, and that must be seen or survived: a cache that mixes up mixtures, and decodes
//! that fail. A room of tests alone, above those that it looks into.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use crate::decompose::{decompose, DecomposeOptions};
use crate::embedded;
use crate::engine::scheduler::{Completion, Generate, Probe, PLANTED, QUEUE};
use crate::engine::{
    log_probs, AdaptedModel, Form, GraphOp, KvType, Model, ModelWithExperts, Refuses, Request, Scheduler,
    Session, SessionOptions, Ticket, Token,
};
use crate::error::Result;
use crate::expert::{Expert, Mixture};
use crate::progress::{Interrupt, Silent};
use crate::sidecar::Sidecar;

/// The embedded model with two experts.
struct Bench {
    _file: embedded::Temporary,
    joined: ModelWithExperts,
}

impl Bench {
    fn new() -> Self {
        let file = embedded::Temporary::new().unwrap();
        let options = DecomposeOptions::embedded(&file, 2);
        decompose(&options, &Silent, &Interrupt::new()).unwrap();
        let model = Model::load(file.path(), 0).unwrap();
        let adapted = AdaptedModel::new(&model, Sidecar::open(&options.output).unwrap()).unwrap();
        let expert = |name: &str, by: f32| {
            let mut expert = Expert::identity(name, adapted.sidecar());
            expert.multipliers.values_mut().flatten().for_each(|m| *m = by);
            expert
        };
        let experts = vec![expert("more", 1.3), expert("less", 0.7)];
        Self {
            joined: ModelWithExperts::new(Arc::clone(&adapted), experts, Form::Residual, GraphOp::Auto),
            _file: file,
        }
    }

    fn session(&self, n_seq: u32, kv_unified: bool) -> Session {
        let options = SessionOptions {
            n_ctx: 256 * n_seq,
            n_seq,
            n_threads: 1,
            kv_unified,
            kv: KvType::F32,
            flash_attention: false,
            ..SessionOptions::default()
        };
        // Slots for both mixtures, so that no slot's change makes a sequence forget.
        self.joined.session(&options, n_seq + 2).unwrap()
    }

    fn tokens(&self, text: &str) -> Vec<Token> {
        self.joined.model().tokenize(text, true, false).unwrap()
    }
}

const TEXT: &str = "Mia has 12 pens. Mia finds 4. Mia sells 6. How many pens does Mia have?";

/// Whether requests of two mixtures about texts that begin alike get what they would get alone. `n_seq` 1 makes them take
/// over a sequence, more of them copy one.
fn are_kept_apart(bench: &Bench, scope: u64, n_seq: u32, kv_unified: bool) -> bool {
    let scheduler = Scheduler::new(vec![bench.session(n_seq, kv_unified)], QUEUE).unwrap();
    let all: Vec<_> = (0..bench.joined.model().n_vocab() as Token).collect();
    let ask = |mixture: &str, tokens: &[Token]| -> Result<Vec<f32>> {
        let probe = Probe { after: tokens.len(), tokens: all.clone() };
        let request = Request::score(tokens.to_vec(), Mixture::single(mixture), vec![probe]);
        Ok(scheduler.submit(Request { scope, ..request })?.scores()?.log_probs.concat())
    };
    let alone = |mixture: &str, tokens: &[Token]| {
        let mut session = bench.session(1, true);
        session.set_mixture(1, &Mixture::single(mixture)).unwrap();
        session.assign(0, 1).unwrap();
        session.prompt(0, tokens).unwrap();
        log_probs(session.logits(0), &all)
    };
    let text = bench.tokens(TEXT);
    // The second uses less than half of what the first has read.
    let texts = [text.clone(), [&text[..10], &bench.tokens("Tom")].concat(), text];
    ["more", "less", "more"].iter().zip(&texts).all(|(mixture, text)| {
        let expected = alone(mixture, text);
        let is_near = |found: Vec<f32>| found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3);
        ask(mixture, text).is_ok_and(is_near)
    })
}

#[test]
fn the_reading_of_one_mixture_is_never_used_for_another_and_a_cache_that_does_is_seen() {
    let bench = Bench::new();
    for kv_unified in [true, false] {
        for n_seq in [1, 3] {
            assert!(are_kept_apart(&bench, 0, n_seq, kv_unified), "{n_seq} sequences");
            assert!(!are_kept_apart(&bench, PLANTED, n_seq, kv_unified), "{n_seq} sequences: not seen");
        }
    }
}

/// What four requests become while `refuses` decides which decodes fail, and how many were tried.
fn with_failures(bench: &Bench, refuses: Refuses) -> Vec<Result<Completion>> {
    let mut session = bench.session(4, false);
    session.refuses = Some(refuses);
    let scheduler = Scheduler::new(vec![session], QUEUE).unwrap();
    let request = |i: usize| {
        let prompt = bench.tokens(&format!("{} of {TEXT}", ["One", "Two", "Six", "Ten"][i]));
        Request::generate(
            prompt,
            Mixture::single("more").strength(i as f32 * 0.1).unwrap(),
            Generate::greedy(12),
        )
    };
    let tickets: Vec<_> = (0..4).map(|i| scheduler.submit(request(i)).unwrap()).collect();
    let results: Vec<_> = tickets.into_iter().map(Ticket::completion).collect();
    // The last event of a request is sent before its thread has counted again.
    while scheduler.load().n_running > 0 {
        std::thread::yield_now();
    }
    results
}

#[test]
fn a_decode_that_fails_ends_none_but_the_request_that_makes_it_fail() {
    let bench = Bench::new();
    let texts = |results: Vec<Result<Completion>>| {
        results.into_iter().map(|result| result.map(|it| it.text).ok()).collect::<Vec<_>>()
    };
    let expected = texts(with_failures(&bench, Box::new(|_| false)));
    assert!(expected.iter().all(Option::is_some));
    // Once in a while, whoever takes part: the next try goes well, and nobody is ended.
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let now_and_then = move |batch: &[crate::engine::Input]| {
        let is_shared = batch.iter().any(|input| input.seq != batch[0].seq);
        counted.fetch_add(1, Ordering::Relaxed) % 3 == 2 && is_shared
    };
    assert_eq!(texts(with_failures(&bench, Box::new(now_and_then))), expected);
    assert!(tries.load(Ordering::Relaxed) > 12);
    // Whenever sequence 2 takes part: its request is ended, and the others are not.
    let found = texts(with_failures(&bench, Box::new(|batch| batch.iter().any(|input| input.seq == 2))));
    for i in 0..4 {
        let is_ended = found[i].is_none();
        assert!(is_ended || found[i] == expected[i], "request {i}");
    }
    assert_eq!(found.iter().filter(|text| text.is_none()).count(), 1, "{found:?}");
    // Always: all end with the error.
    for result in with_failures(&bench, Box::new(|_| true)) {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("a planted failure"), "{error}");
    }
}
