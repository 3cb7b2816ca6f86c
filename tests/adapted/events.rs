//! What a host hears of a request besides its text: how much is read, what was drawn from, which text ended it, what the
//! sequences do.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::models::{exact, tokens, Adapted, RandomModel};
use crate::scheduler::assert_idle;
use llama_svf::decompose::{RankPolicy, Selection};
use llama_svf::engine::scheduler::{Ended, Event, Generate, Reading, Work, QUEUE};
use llama_svf::engine::{Request, SamplerOptions, Scheduler, Session, SessionOptions};
use llama_svf::expert::Mixture;
use llama_svf::ffi::tensor_type::TensorType;

fn adapted() -> Adapted {
    Adapted::random(&RandomModel::tiny(), Selection::parse("all").unwrap(), RankPolicy::Full, TensorType::F32)
}

/// The base model with `n_seq` sequences, which reads at most 16 tokens at once.
fn scheduler(adapted: &Adapted, n_seq: u32) -> Scheduler {
    Scheduler::new(vec![Session::new(adapted.model(), &options(n_seq)).unwrap()], QUEUE).unwrap()
}

fn options(n_seq: u32) -> SessionOptions {
    SessionOptions {
        n_ctx: 256 * n_seq,
        n_batch: 16,
        n_ubatch: 16,
        n_threads: 1,
        kv_unified: false,
        ..exact(n_seq)
    }
}

fn request(n_prompt: usize, how: Generate) -> Request {
    Request::generate(tokens(7, n_prompt), Mixture::base(), how)
}

#[test]
fn reading_is_told_from_what_was_known_to_the_whole_prompt() {
    let adapted = adapted();
    let scheduler = scheduler(&adapted, 1);
    let how = Generate { progress: true, ..Generate::greedy(4) };
    let readings = |request: Request| {
        let mut ticket = scheduler.submit(request).unwrap();
        let mut readings: Vec<Reading> = Vec::new();
        let mut n_pieces = 0;
        while let Some(event) = ticket.next_event() {
            match event.unwrap() {
                Event::Reading(reading) => {
                    assert_eq!(n_pieces, 0, "nothing is written before all is read");
                    readings.push(reading);
                }
                Event::Piece(_) => n_pieces += 1,
                Event::Done(_) => {}
            }
        }
        assert!(readings.windows(2).all(|pair| pair[0].time <= pair[1].time));
        readings.iter().map(|it| (it.n_cached, it.n_read, it.n_prompt)).collect::<Vec<_>>()
    };
    let first = readings(request(40, how.clone()));
    assert_eq!(first, [(0, 0, 40), (0, 16, 40), (0, 32, 40), (0, 40, 40)]);
    // The last token is read again, for what follows it.
    assert_eq!(readings(request(40, how.clone())), [(39, 39, 40), (39, 40, 40)]);
    assert_eq!(readings(request(40, Generate { progress: false, ..how })), []);
    assert_idle(&scheduler);
}

#[test]
fn drawn_probabilities_are_those_after_temperature_and_cuts() {
    let adapted = adapted();
    let scheduler = scheduler(&adapted, 1);
    let sampler =
        SamplerOptions { temperature: 0.7, top_k: 5, top_p: 1.0, min_p: 0.0, ..SamplerOptions::default() };
    let how = Generate { sampler, max_tokens: Some(20), log_probs: true, n_top: 8, ..Generate::default() };
    let own = scheduler.submit(request(10, how.clone())).unwrap().completion().unwrap();
    let drawn = Generate { sampled_probs: true, ..how };
    let drawn = scheduler.submit(request(10, drawn)).unwrap().completion().unwrap();
    assert_eq!(own.tokens, drawn.tokens, "what is told changes nothing");
    for at in 0..own.tokens.len() {
        // The oracle: the five most likely tokens of the model's own distribution, sharpened.
        let weight = |p: f32| (f64::from(p) / 0.7).exp();
        let sum: f64 = own.top[at][..5].iter().map(|(_, p)| weight(*p)).sum();
        assert_eq!(drawn.top[at].len(), 5, "five are left of which one is drawn");
        for (&(token, p), &(expected, q)) in drawn.top[at].iter().zip(&own.top[at]) {
            assert_eq!(token, expected);
            let expected = (weight(q) / sum).ln();
            assert!((f64::from(p) - expected).abs() < 1e-4, "{p} {expected}");
        }
        let of_it = drawn.top[at].iter().find(|(token, _)| *token == drawn.tokens[at]).unwrap();
        assert_eq!(of_it.1, drawn.log_probs[at]);
    }
    // Who always takes the likeliest draws from nothing else.
    let greedy = Generate { sampled_probs: true, log_probs: true, n_top: 3, ..Generate::greedy(3) };
    let greedy = scheduler.submit(request(10, greedy)).unwrap().completion().unwrap();
    assert_eq!(greedy.log_probs, [0.0; 3]);
    assert!(greedy.top.iter().zip(&greedy.tokens).all(|(top, &token)| *top == [(token, 0.0)]));
}

#[test]
fn the_stop_text_that_ended_a_completion_is_told() {
    let adapted = adapted();
    let scheduler = scheduler(&adapted, 1);
    // Nothing else is to end it.
    let logit_bias = adapted.model().end_tokens().into_iter().map(|it| (it, f32::NEG_INFINITY)).collect();
    let sampler = SamplerOptions { logit_bias, ..SamplerOptions::greedy() };
    let how = Generate { sampler, ..Generate::greedy(30) };
    let free = scheduler.submit(request(10, how.clone())).unwrap().completion().unwrap();
    assert_eq!((free.ended, &free.stopped_by), (Ended::Length, &None));
    // Random tokens are not always characters.
    let pieces: Vec<_> = free.tokens.iter().map(|&token| adapted.model().piece(token)).collect();
    let middle = pieces[3..]
        .iter()
        .find_map(|piece| String::from_utf8(piece.clone()).ok().filter(|it| !it.is_empty()));
    let middle = middle.unwrap();
    let stop = vec!["not in any text".to_owned(), middle.clone()];
    let stopped = Generate { stop, ..how };
    let stopped = scheduler.submit(request(10, stopped)).unwrap().completion().unwrap();
    assert_eq!((stopped.ended, stopped.stopped_by.as_deref()), (Ended::Stop, Some(middle.as_str())));
    let (before, _) = free.text.split_once(&middle).unwrap();
    assert_eq!(stopped.text, before);
}

#[test]
fn events_go_to_whoever_takes_them_and_dropping_the_handle_cancels() {
    let adapted = adapted();
    let scheduler = scheduler(&adapted, 2);
    let (sender, events) = channel();
    let handle =
        scheduler.submit_to(request(10, Generate::greedy(5)), move |event| sender.send(event).unwrap());
    let handle = handle.unwrap();
    let events: Vec<_> = events.into_iter().map(Result::unwrap).collect();
    assert_eq!(events.len(), 6, "five tokens and the end, after which the sender is gone");
    assert!(matches!(&events[5], Event::Done(_)));
    drop(handle);
    let (sender, ends) = channel();
    let mut long = request(10, Generate::default());
    if let Work::Generate(how) = &mut long.work {
        // Nothing ends it but the context.
        how.sampler.logit_bias =
            adapted.model().end_tokens().into_iter().map(|it| (it, f32::NEG_INFINITY)).collect();
    }
    let handle = scheduler.submit_to(long, move |event| {
        if let Event::Done(outcome) = event.unwrap() {
            sender.send(outcome.completion().unwrap().ended).unwrap();
        }
    });
    let handle = handle.unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while scheduler.sequences().iter().flatten().all(|it| it.n_written < 2) {
        assert!(Instant::now() < until, "it never began");
    }
    let at_work: Vec<_> = scheduler.sequences().into_iter().flatten().collect();
    assert_eq!(at_work.len(), 1);
    assert_eq!((at_work[0].id, at_work[0].n_prompt, at_work[0].n_read), (handle.id(), 10, 10));
    drop(handle);
    assert_eq!(ends.recv_timeout(Duration::from_secs(10)).unwrap(), Ended::Cancelled);
    // Who hears of the end may look at once.
    assert_eq!(scheduler.sequences(), [None, None]);
    assert_idle(&scheduler);
}

#[test]
fn what_is_to_be_kept_stays_while_others_come_and_go() {
    let adapted = adapted();
    let session = Session::new(adapted.model(), &options(3)).unwrap();
    let scheduler = Scheduler::keeping(vec![session], QUEUE, 1).unwrap();
    let kept = |n_prompt| Request { scope: 1, is_kept: true, ..request(n_prompt, Generate::greedy(1)) };
    let n_cached = |request: Request| scheduler.submit(request).unwrap().completion().unwrap().usage.n_cached;
    assert_eq!(n_cached(kept(60)), 0);
    for seed in 0..8 {
        let other = Request::generate(tokens(100 + seed, 30), Mixture::base(), Generate::greedy(3));
        let others = [other.clone(), Request { prompt: tokens(200 + seed, 30), ..other }];
        let tickets: Vec<_> = others.into_iter().map(|it| scheduler.submit(it).unwrap()).collect();
        tickets.into_iter().for_each(|ticket| drop(ticket.completion().unwrap()));
    }
    assert_eq!(n_cached(kept(60)), 59, "nobody took its place");
    // What is not to be kept is gone by then.
    let plain = |n_prompt| Request { scope: 2, ..request(n_prompt, Generate::greedy(1)) };
    assert_eq!(n_cached(plain(60)), 0);
    for seed in 0..4 {
        let other = Request::generate(tokens(300 + seed, 30), Mixture::base(), Generate::greedy(3));
        scheduler.submit(other).unwrap().completion().unwrap();
    }
    assert_eq!(n_cached(plain(60)), 0);
    assert_idle(&scheduler);
}
