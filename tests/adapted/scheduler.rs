//! Many requests with mixtures of their own over few sequences: each gets what it gets alone, whatever happens to the
//! others, and nothing is left behind.

use std::time::{Duration, Instant};

use crate::batch::alone;
use crate::models::{exact, tokens, Adapted, RandomModel};
use llama_svf::decompose::{RankPolicy, Selection};
use llama_svf::engine::scheduler::{
    Completion, Ended, Event, Generate, Load, Pool, Probe, Scheduler, Work, QUEUE,
};
use llama_svf::engine::{
    AdapterOptions, Form, GraphOp, Request, SamplerOptions, Session, SessionOptions, Ticket, Token,
};
use llama_svf::error::ErrorKind;
use llama_svf::expert::{Expert, Mixture};
use llama_svf::ffi::tensor_type::TensorType;
use llama_svf::progress::Interrupt;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// As in `batch`: where greedy answers part, the two best logits are this close.
const TIE: f32 = 3e-3;

fn tiny() -> Adapted {
    Adapted::random(&RandomModel::tiny(), Selection::parse("all").unwrap(), RankPolicy::Full, TensorType::F32)
}

/// A session that knows the experts `e1`, `e2` and `nan`, which makes the model compute NaN.
fn session(adapted: &Adapted, options: &SessionOptions, n_slots: u32) -> Session {
    let adapter = AdapterOptions { form: Form::Residual, op: GraphOp::Auto, n_slots };
    let mut session = Session::adapted(&adapted.adapted, options, &adapter).unwrap();
    let mut nan = Expert::identity("nan", adapted.adapted.sidecar());
    // Finite, and too much for the sums of the second layer.
    nan.multipliers.values_mut().flatten().for_each(|m| *m = 1e30);
    for expert in [adapted.expert("e1", 1, 0.5), adapted.expert("e2", 2, 0.5), nan] {
        session.experts_mut().unwrap().insert(expert).unwrap();
    }
    session
}

fn options(n_seq: u32, kv_unified: bool) -> SessionOptions {
    SessionOptions { n_ctx: 256 * n_seq, n_threads: 1, kv_unified, ..exact(n_seq) }
}

fn scheduler(adapted: &Adapted, n_seq: u32, kv_unified: bool) -> Scheduler {
    let session = session(adapted, &options(n_seq, kv_unified), n_seq + 1);
    Scheduler::new(vec![session], QUEUE).unwrap()
}

/// What no character is, in a grammar.
const NOTHING: &str = "[^\\x00-\\UFFFFFFFF]";

/// The mixture number `i`; all differ.
fn mixture(i: usize) -> Mixture {
    Mixture::parse(&format!("e1={},e2={}", 0.1 * (i % 8) as f32, 0.1 * (i / 8 % 8) as f32)).unwrap()
}

fn request(prompt: Vec<Token>, mixture: Mixture, n: usize) -> Request {
    Request::generate(prompt, mixture, Generate::greedy(n))
}

pub fn assert_idle(scheduler: &Scheduler) -> Load {
    // The last event of a request is sent before its thread has counted again.
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let load = scheduler.load();
        if (load.n_waiting, load.n_running, load.n_slots, load.n_cells) == (0, 0, 0, 0) {
            return load;
        }
        assert!(Instant::now() < until, "{load:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Compares `completion` with what the request gets alone, up to a near tie; whether it is equal.
fn is_as_alone(session: &mut Session, request: &Request, completion: &Completion) -> bool {
    let alone = alone(session, request);
    let parts = (0..alone.len()).find(|&at| completion.tokens.get(at) != Some(&alone[at].0));
    if let Some(at) = parts {
        let gap = alone[at].2;
        assert!(gap <= TIE, "parts at token {at}, where the gap is {gap:e}");
        return false;
    }
    assert_eq!(completion.tokens.len(), alone.len());
    true
}

#[test]
fn sixty_four_mixtures_over_eight_sequences_each_answer_as_alone() {
    let seed = 5;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let adapted = tiny();
    for kv_unified in [false, true] {
        let scheduler = scheduler(&adapted, 8, kv_unified);
        let requests: Vec<_> =
            (0..64).map(|i| request(tokens(i as u64 / 4, 5 + i % 40), mixture(i), 4 + i % 23)).collect();
        let mut tickets: Vec<Option<Ticket>> = Vec::new();
        for (i, request) in requests.iter().enumerate() {
            if rng.random_bool(0.3) {
                std::thread::sleep(Duration::from_millis(rng.random_range(0..15)));
            }
            // Some are spoilt on the way: by an expert, by a grammar, by who asked for them.
            let mut spoilt = request.clone();
            match i % 16 {
                3 => spoilt.mixture = Mixture::single("nan"),
                9 => how(&mut spoilt).sampler.grammar = Some(format!("root ::= {NOTHING}").into()),
                _ => {}
            }
            tickets.push(Some(scheduler.submit(spoilt).unwrap()));
            if i % 16 == 5 {
                drop(tickets[i / 2].take());
            }
        }
        let mut session = session(&adapted, &options(1, true), 2);
        let (mut n_equal, mut n_answers) = (0, 0);
        for (i, ticket) in tickets.into_iter().enumerate() {
            let Some(ticket) = ticket else { continue };
            match (i % 16, ticket.completion()) {
                (3, result) => {
                    let error = result.expect_err("NaN").to_string();
                    assert!(error.contains("NaN"), "{error}");
                }
                (9, result) => {
                    let error = result.expect_err("no text is possible").to_string();
                    assert!(error.contains("grammar"), "{error}");
                }
                (_, result) => {
                    n_answers += 1;
                    n_equal += usize::from(is_as_alone(&mut session, &requests[i], &result.unwrap()));
                }
            }
        }
        println!("unified {kv_unified}: {n_equal} of {n_answers} equal");
        assert!(n_answers >= 50 && n_equal * 10 >= n_answers * 9);
        assert_idle(&scheduler);
    }
}

fn how(request: &mut Request) -> &mut Generate {
    match &mut request.work {
        Work::Generate(how) => how,
        Work::Score(_) | Work::Pool(_) => panic!("a request that writes nothing"),
    }
}

#[test]
fn an_expert_that_computes_nan_spoils_nobody_else_not_even_later() {
    let adapted = tiny();
    let mut session = session(&adapted, &options(1, true), 2);
    for kv_unified in [false, true] {
        // With llama.cpp's defaults too: its fused attention is another one.
        for flash_attention in [false, true] {
            let options = SessionOptions { flash_attention, ..options(2, kv_unified) };
            let scheduler = Scheduler::new(vec![self::session(&adapted, &options, 3)], QUEUE).unwrap();
            println!("unified {kv_unified}, fused attention {flash_attention}");
            for round in 0..6 {
                let good = request(tokens(round, 20), mixture(9 + round as usize), 30);
                let going = scheduler.submit(good.clone()).unwrap();
                for _ in 0..2 {
                    let bad = request(tokens(round, 30), Mixture::single("nan"), 10);
                    let error = scheduler.submit(bad).unwrap().completion().unwrap_err();
                    assert!(error.to_string().contains("NaN"), "{error}");
                }
                is_as_alone(&mut session, &good, &going.completion().unwrap());
                let after = request(tokens(round + 50, 40), mixture(round as usize), 8);
                let completion = scheduler.submit(after.clone()).unwrap().completion().unwrap();
                is_as_alone(&mut session, &after, &completion);
            }
            assert_idle(&scheduler);
        }
    }
}

#[test]
fn a_sequence_that_nan_has_spoilt_serves_again_while_others_are_at_work() {
    let adapted = tiny();
    let options = SessionOptions { n_ctx: 2 * 8192, n_batch: 16, n_ubatch: 16, ..options(2, false) };
    let scheduler = Scheduler::new(vec![session(&adapted, &options, 3)], QUEUE).unwrap();
    let mut session = session(&adapted, &self::options(1, true), 2);
    let mut endless = request(tokens(1, 20), mixture(9), 8000);
    // Nothing else ends it.
    let ends = adapted.model().end_tokens();
    how(&mut endless).sampler.logit_bias = ends.into_iter().map(|it| (it, f32::NEG_INFINITY)).collect();
    let going = scheduler.submit(endless).unwrap();
    for round in 0..5 {
        let bad = request(tokens(round, 30), Mixture::single("nan"), 10);
        let ticket = scheduler.submit(bad.clone()).unwrap();
        match round % 2 {
            0 => assert!(ticket.completion().unwrap_err().to_string().contains("NaN")),
            // It goes away perhaps before anybody knows.
            _ => drop(ticket),
        }
        let good = request(tokens(round + 50, 40), mixture(round as usize), 8);
        let completion = scheduler.submit(good.clone()).unwrap().completion().unwrap();
        is_as_alone(&mut session, &good, &completion);
    }
    assert_eq!(scheduler.load().n_running, 1, "the first one goes on all the time");
    drop(going);
    assert_idle(&scheduler);
}

#[test]
fn what_is_wrong_with_a_request_is_its_own_error_and_says_its_kind() {
    let adapted = tiny();
    let scheduler = scheduler(&adapted, 2, false);
    let good = || request(tokens(1, 5), mixture(3), 6);
    let with = |change: &dyn Fn(&mut Request)| {
        let mut request = good();
        change(&mut request);
        request
    };
    let refused = |request: Request, kind: ErrorKind, fragment: &str| {
        let error = scheduler.submit(request).err().unwrap_or_else(|| panic!("{fragment}"));
        assert!(error.to_string().contains(fragment) && error.kind() == kind, "{error}: {:?}", error.kind());
    };
    use ErrorKind::{BadInput, NotFound, TooLarge};
    refused(with(&|it| it.prompt = tokens(1, 257)), TooLarge, "at most 256 tokens");
    refused(with(&|it| how(it).max_tokens = Some(253)), TooLarge, "5 of the prompt and 253 to write");
    refused(with(&|it| how(it).max_tokens = Some(usize::MAX)), TooLarge, "at most 256 tokens");
    refused(with(&|it| it.prompt.clear()), BadInput, "empty");
    refused(with(&|it| it.mixture = Mixture::single("unknown")), NotFound, "unknown");
    refused(with(&|it| how(it).sampler.grammar = Some("root ::= (".into())), BadInput, "grammar");
    refused(with(&|it| how(it).sampler.grammar = Some("a\0b".into())), BadInput, "grammar");
    refused(with(&|it| how(it).sampler.top_p = 2.0), BadInput, "top_p");
    refused(with(&|it| how(it).sampler.logit_bias = vec![(1 << 20, 1.0)]), BadInput, "logit_bias");
    // A grammar that leads nowhere after the first letter.
    let stuck = with(&|it| {
        how(it).sampler.grammar = Some(format!("root ::= [a-z] never\nnever ::= {NOTHING}").into());
    });
    let ticket = scheduler.submit(stuck).unwrap();
    let going = scheduler.submit(good()).unwrap();
    let error = ticket.completion().unwrap_err().to_string();
    assert!(error.contains("grammar"), "{error}");
    assert_eq!(going.completion().unwrap().tokens.len(), 6);

    let past = with(&|it| it.deadline = Some(Instant::now()));
    let error = scheduler.submit(past).unwrap().completion().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let soon = with(&|it| {
        how(it).max_tokens = None;
        // Nothing ends the text but the context, which takes longer than this.
        how(it).sampler.logit_bias = vec![(2, f32::NEG_INFINITY)];
        it.deadline = Some(Instant::now() + Duration::from_millis(2));
    });
    let result = scheduler.submit(soon).unwrap().completion();
    assert!(result.is_err_and(|error| error.kind() == ErrorKind::Unavailable));
    assert_idle(&scheduler);
}

#[test]
fn a_full_queue_refuses_and_what_waits_keeps_its_place() {
    let adapted = tiny();
    let scheduler = Scheduler::new(vec![session(&adapted, &options(1, true), 2)], 3).unwrap();
    let long = || request(tokens(1, 20), mixture(1), 200);
    let running = scheduler.submit(long()).unwrap();
    while scheduler.load().n_running == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let waiting: Vec<_> = (0..3).map(|_| scheduler.submit(long()).unwrap()).collect();
    let error = scheduler.submit(long()).err().expect("the queue is full");
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert_eq!(scheduler.load().n_waiting, 3);
    // Who goes away makes room.
    drop(running);
    let mut waiting = waiting.into_iter();
    drop(waiting.next());
    let mut last = loop {
        match scheduler.submit(long()) {
            Ok(ticket) => break ticket,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    for ticket in waiting {
        assert_eq!(ticket.completion().unwrap().tokens.len(), 200);
    }
    // Cancelled on the way: what was written comes, and then the end.
    let mut n_pieces = 0;
    let completion = loop {
        match last.next_event().unwrap().unwrap() {
            Event::Piece(piece) => {
                n_pieces += usize::from(piece.token.is_some());
                if n_pieces == 5 {
                    last.cancel();
                }
            }
            Event::Reading(reading) => panic!("{reading:?} was not asked for"),
            Event::Done(outcome) => break outcome.completion().unwrap(),
        }
    };
    assert_eq!(completion.ended, Ended::Cancelled);
    assert!(completion.tokens.len() == n_pieces && (5..200).contains(&n_pieces), "{n_pieces}");
    assert!(last.next_event().is_none());
    assert_idle(&scheduler);
}

#[test]
fn a_prompt_that_several_share_is_read_once() {
    let adapted = tiny();
    for kv_unified in [false, true] {
        let scheduler = scheduler(&adapted, 8, kv_unified);
        let mut session = session(&adapted, &options(1, true), 2);
        let complete = |requests: &[Request]| {
            let before = assert_idle(&scheduler);
            let mut completions = vec![None; requests.len()];
            let done = |i: usize, outcome: llama_svf::engine::scheduler::Outcome| {
                completions[i] = Some(outcome.completion()?);
                Ok(())
            };
            scheduler.complete(requests.to_vec(), &Interrupt::new(), done).unwrap();
            let after = assert_idle(&scheduler);
            (completions.into_iter().flatten().collect::<Vec<_>>(), after.n_computed - before.n_computed)
        };
        // Four prompts of 100 tokens with eight answers each, of two mixtures.
        let requests: Vec<_> =
            (0..32).map(|i| request(tokens(i / 8, 100), mixture(1 + i as usize / 16), 5)).collect();
        let (completions, n_computed) = complete(&requests);
        assert_eq!(completions.len(), 32);
        for (request, completion) in requests.iter().zip(&completions) {
            is_as_alone(&mut session, request, completion);
        }
        // All prompts once, and four tokens of each answer; a place that was free late reads the last one again.
        println!("unified {kv_unified}: {n_computed} tokens computed");
        assert!(n_computed <= 4 * 100 + 32 * 4 + 32, "{n_computed}");
        // Prompts that part after 100 tokens.
        let requests: Vec<_> =
            (0..16).map(|i| request([tokens(7, 100), tokens(100 + i, 10)].concat(), mixture(2), 3)).collect();
        let (completions, n_computed) = complete(&requests);
        for (request, completion) in requests.iter().zip(&completions) {
            is_as_alone(&mut session, request, completion);
        }
        println!("unified {kv_unified}: {n_computed} tokens computed");
        assert!(n_computed <= 100 + 16 * (10 + 2), "{n_computed}");
        // Another mixture reads for itself.
        let other = [request(tokens(7, 100), mixture(2), 1), request(tokens(7, 100), mixture(3), 1)];
        assert_eq!(complete(&other).1, 200);
    }
}

#[test]
fn samples_of_one_prompt_are_those_of_each_alone() {
    let adapted = tiny();
    let sample = |seed| {
        let how = Generate {
            sampler: SamplerOptions::plain(1.0, seed),
            log_probs: true,
            n_top: 3,
            ..Generate::greedy(12)
        };
        Request::generate(tokens(4, 60), mixture(5), how)
    };
    let together = scheduler(&adapted, 8, false);
    let single = scheduler(&adapted, 1, false);
    let tickets: Vec<_> = (0..8).map(|seed| together.submit(sample(seed)).unwrap()).collect();
    let mut texts = std::collections::HashSet::new();
    for (seed, ticket) in (0..8).zip(tickets) {
        let found = ticket.completion().unwrap();
        let alone = single.submit(sample(seed)).unwrap().completion().unwrap();
        assert_eq!(found.tokens, alone.tokens, "seed {seed}");
        for ((token, log_prob), top) in found.tokens.iter().zip(&found.log_probs).zip(&found.top) {
            assert_eq!(top.len(), 3);
            assert!(top.windows(2).all(|pair| pair[0].1 >= pair[1].1) && *log_prob <= top[0].1);
            if let Some((_, p)) = top.iter().find(|(other, _)| other == token) {
                assert_eq!(p, log_prob);
            }
        }
        texts.insert(found.tokens);
    }
    assert!(texts.len() > 1, "all samples are equal");
}

#[test]
fn samplers_do_what_they_are_called_after() {
    let adapted = tiny();
    let scheduler = scheduler(&adapted, 1, true);
    let write = |sampler: SamplerOptions| {
        let how = Generate { sampler, ..Generate::greedy(30) };
        let request = Request::generate(tokens(8, 10), Mixture::base(), how);
        scheduler.submit(request).unwrap().completion().unwrap()
    };
    let greedy = write(SamplerOptions::greedy());
    let first = greedy.tokens[0];
    let mut without = SamplerOptions::greedy();
    without.logit_bias = vec![(first, f32::NEG_INFINITY)];
    assert!(!write(without).tokens.contains(&first));
    let mut only = SamplerOptions::greedy();
    only.logit_bias = vec![(7, 1e6)];
    assert!(write(only).tokens.iter().all(|&token| token == 7));
    let digits = SamplerOptions { grammar: Some("root ::= [0-9]+".into()), ..SamplerOptions::plain(1.0, 3) };
    let text = write(digits).text;
    assert!(!text.is_empty() && text.chars().all(|c| c.is_ascii_digit()), "{text:?}");
    let word =
        SamplerOptions { grammar: Some("root ::= \"yes\" | \"no\"".into()), ..SamplerOptions::greedy() };
    let word = write(word);
    assert!(["yes", "no"].contains(&word.text.as_str()) && word.ended == Ended::End, "{word:?}");
    // A penalty that forbids what was there.
    let mut fresh = SamplerOptions::greedy();
    fresh.penalties.presence = 1e6;
    let tokens = write(fresh).tokens;
    assert!((1..tokens.len()).all(|i| !tokens[..i].contains(&tokens[i])), "{tokens:?}");
    // Equal seeds, equal texts, whatever is in the chain.
    use llama_svf::engine::{Dry, Mirostat, Xtc};
    let base = SamplerOptions { temperature: 1.2, seed: 9, ..SamplerOptions::default() };
    for options in [
        SamplerOptions { typical_p: 0.5, ..base.clone() },
        SamplerOptions { top_n_sigma: 1.0, ..base.clone() },
        SamplerOptions { dry: Dry { multiplier: 0.8, ..Dry::default() }, ..base.clone() },
        SamplerOptions { xtc: Xtc { probability: 0.5, threshold: 0.01 }, ..base.clone() },
        SamplerOptions { mirostat: Some(Mirostat { version: 1, tau: 3.0, eta: 0.1 }), ..base.clone() },
        SamplerOptions { mirostat: Some(Mirostat { version: 2, tau: 3.0, eta: 0.1 }), ..base.clone() },
    ] {
        let text = write(options.clone()).tokens;
        assert_eq!(text, write(options.clone()).tokens, "{options:?}");
    }
}

#[test]
fn a_long_prompt_and_a_text_do_not_hold_each_other_up() {
    let adapted = tiny();
    // Pieces of 16 tokens beside a text, so that the prompt takes about 15 decodes.
    let options = SessionOptions { n_batch: 64, n_ubatch: 16, ..options(2, false) };
    let scheduler = Scheduler::new(vec![session(&adapted, &options, 3)], QUEUE).unwrap();
    let mut text = scheduler.submit(request(tokens(1, 5), mixture(1), 150)).unwrap();
    assert!(matches!(text.next_event(), Some(Ok(Event::Piece(_)))));
    let long = scheduler.submit(request(tokens(2, 240), mixture(2), 1)).unwrap();
    let long = long.completion().unwrap();
    let mut n_meanwhile = 0;
    while let Ok(Some(Event::Piece(_))) = text.poll(Duration::ZERO) {
        n_meanwhile += 1;
    }
    println!("{n_meanwhile} tokens were written while 240 were read");
    assert!((10..150).contains(&n_meanwhile), "{n_meanwhile}");
    assert_eq!(long.tokens.len(), 1);
    assert_eq!(text.completion().unwrap().tokens.len(), 150);
}

#[test]
fn ten_thousand_short_requests_leave_nothing_behind() {
    let adapted = tiny();
    let scheduler = scheduler(&adapted, 8, false);
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4
    };
    let mut before = 0;
    for round in 0..10 {
        let requests: Vec<_> = (0..1000)
            .map(|i| match i % 5 {
                0 => {
                    let probe = Probe { after: 3, tokens: vec![1, 2] };
                    Request::score(tokens(i, 3), mixture(i as usize), vec![probe])
                }
                _ => request(tokens(i, 3), mixture(i as usize), 2),
            })
            .collect();
        let mut n = 0;
        scheduler
            .complete(requests, &Interrupt::new(), |_, _| {
                n += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(n, 1000);
        assert_idle(&scheduler);
        if round == 1 {
            before = resident();
        }
    }
    let grown = resident().saturating_sub(before);
    println!("{grown} KiB more after 8000 requests");
    // Other tests run in this process; a request that leaves its prompt and tokens would leave 8 MB.
    assert!(before == 0 || grown < 200_000, "{grown} KiB");
}

/// What a random schedule does next.
fn random_schedule(adapted: &Adapted, session: &mut Session, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let n_seq = rng.random_range(1..6);
    let kv_unified = rng.random_bool(0.5);
    let n_slots = rng.random_range(2..n_seq + 3);
    let options = SessionOptions {
        n_batch: [8, 32, 512][rng.random_range(0..3)],
        n_ubatch: [4, 16, 512][rng.random_range(0..3)],
        ..options(n_seq, kv_unified)
    };
    let n_workers = rng.random_range(1..3);
    let sessions = (0..n_workers).map(|_| self::session(adapted, &options, n_slots)).collect();
    let scheduler = Scheduler::new(sessions, 16).unwrap();
    let mut open: Vec<(Request, Ticket)> = Vec::new();
    let mut finish = |(request, ticket): (Request, Ticket)| match &request.work {
        Work::Generate(_) => {
            let completion = ticket.completion().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            is_as_alone(session, &request, &completion);
        }
        Work::Score(probes) => {
            let scores = ticket.scores().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let n: Vec<_> = scores.log_probs.iter().map(Vec::len).collect();
            assert_eq!(n, probes.iter().map(|probe| probe.tokens.len()).collect::<Vec<_>>());
            assert!(scores.log_probs.concat().iter().all(|p| p.is_finite() && *p <= 0.0), "seed {seed}");
        }
        Work::Pool(_) => {
            let pooled = ticket.outcome().unwrap_or_else(|error| panic!("seed {seed}: {error}")).pooled();
            assert!(pooled.unwrap().mean.iter().any(|x| *x != 0.0), "seed {seed}");
        }
    };
    for _ in 0..40 {
        match rng.random_range(0..10) {
            0 if !open.is_empty() => drop(open.swap_remove(rng.random_range(0..open.len()))),
            1 | 2 if !open.is_empty() => finish(open.swap_remove(rng.random_range(0..open.len()))),
            _ => {
                // Few beginnings and mixtures, so that much is shared.
                let mut prompt = tokens(rng.random_range(0..3), rng.random_range(1..60));
                if rng.random_bool(0.5) {
                    prompt.extend(tokens(rng.random_range(50..90), rng.random_range(0..40)));
                }
                let mixture = mixture(rng.random_range(0..4));
                let request = match rng.random_range(0..10) {
                    // The tiny model has two blocks, and shows the first.
                    0 => {
                        let first = rng.random_range(0..prompt.len());
                        let tokens = first..rng.random_range(first + 1..=prompt.len());
                        Request::pool(prompt, mixture, Pool { layer: 0, tokens })
                    }
                    1 | 2 => {
                        let after = rng.random_range(1..=prompt.len());
                        Request::score(prompt, mixture, vec![Probe { after, tokens: vec![3, 4] }])
                    }
                    _ => request(prompt, mixture, rng.random_range(1..20)),
                };
                if let Ok(ticket) = scheduler.submit(request.clone()) {
                    open.push((request, ticket));
                }
            }
        }
    }
    open.into_iter().for_each(finish);
    assert_idle(&scheduler);
}

#[test]
fn random_schedules_end_well() {
    let adapted = tiny();
    let mut session = session(&adapted, &options(1, true), 2);
    for seed in 0..25 {
        println!("seed {seed}");
        random_schedule(&adapted, &mut session, seed);
    }
}
