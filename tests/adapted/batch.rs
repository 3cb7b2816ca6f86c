//! Many completions at once are what each request gets alone.
//!
//! In another batch llama.cpp adds in another order, so greedy answers may part where two tokens are equally
//! good but for rounding. Wherever they do, the gap between the two best logits must be one that rounding
//! explains.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::models::{self, stories, tokens, Adapted, RandomModel};
use llama_svf::decompose::{RankPolicy, Selection};
use llama_svf::embedded;
use llama_svf::engine::scheduler::{Completion, Ended, Generate, Work, QUEUE};
use llama_svf::engine::{
    AdapterOptions, ChatMessage, Form, GraphOp, Input, Model, Request, SamplerOptions, Scheduler, Session,
    SessionOptions, Token,
};
use llama_svf::error::{Error, Result};
use llama_svf::expert::Mixture;
use llama_svf::ffi::gguf::GgufFile;
use llama_svf::ffi::tensor_type::TensorType;
use llama_svf::progress::Interrupt;
use llama_svf::skills::{question, Skill};

/// Logits of these models are of order 10 and pass at most 5 layers of sums of at most 512 terms, each off
/// by at most n·2⁻²⁴ of its size (Higham, section 3.1): 5·512·6e-8·10 = 1.5e-3, twice that for a gap.
const EXACT: f32 = 3e-3;
/// With llama.cpp's defaults, attention keeps K, V and its sums over V in F16: 2⁻¹¹ of the logits' size per
/// layer, 5·2⁻¹¹·10 = 2.5e-2, twice that for a gap.
const DEFAULT: f32 = 5e-2;

fn request(prompt: Vec<Token>, max_tokens: usize) -> Request {
    Request::generate(prompt, Mixture::base(), Generate::greedy(max_tokens))
}

/// `request` with another way to generate.
fn with(request: Request, change: impl FnOnce(&mut Generate)) -> Request {
    let mut request = request;
    change(how(&mut request));
    request
}

fn how(request: &mut Request) -> &mut Generate {
    match &mut request.work {
        Work::Generate(how) => how,
        Work::Score(_) | Work::Pool(_) => panic!("a request that writes nothing"),
    }
}

fn complete_all(scheduler: &Scheduler, requests: &[Request]) -> Vec<Completion> {
    let mut completions = vec![None; requests.len()];
    let done = |index: usize, outcome: llama_svf::engine::scheduler::Outcome| {
        assert!(completions[index].is_none(), "request {index} ended twice");
        completions[index] = Some(outcome.completion()?);
        Ok(())
    };
    scheduler.complete(requests.to_vec(), &Interrupt::new(), done).unwrap();
    completions.into_iter().map(|completion| completion.expect("every request ends")).collect()
}

/// What one request gets alone, by plain calls of the session: tokens, ln p of each, and how far the second
/// best token was behind.
pub fn alone(session: &mut Session, request: &Request) -> Vec<(Token, f32, f32)> {
    session.clear(0).unwrap();
    let is_base = request.mixture.is_base();
    session.assign(0, 0).unwrap();
    if !is_base {
        session.set_mixture(1, &request.mixture).unwrap();
    }
    session.assign(0, u32::from(!is_base)).unwrap();
    let max_tokens = how(&mut request.clone()).max_tokens.unwrap();
    session.prompt(0, &request.prompt).unwrap();
    let mut chosen = Vec::new();
    loop {
        let mut order: Vec<_> = session.logits(0).iter().copied().zip(0..).collect();
        assert!(order.iter().all(|(logit, _)| logit.is_finite()));
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (best, token) = order[0];
        let sum: f64 = order.iter().map(|(logit, _)| f64::from(logit - best).exp()).sum();
        chosen.push((token, -sum.ln() as f32, best - order[1].0));
        if chosen.len() == max_tokens || session.model().is_end(token) {
            return chosen;
        }
        session.decode(&[Input { seq: 0, token, output: true }]).unwrap();
    }
}

/// Compares batched answers with those that each request got alone; the share of equal ones.
fn compare(
    name: &str,
    alone: &[Vec<(Token, f32, f32)>],
    scheduler: &Scheduler,
    requests: &[Request],
    tolerance: f32,
) -> f64 {
    let completions = complete_all(scheduler, requests);
    let mut equal = 0;
    for (i, ((request, alone), completion)) in requests.iter().zip(alone).zip(&completions).enumerate() {
        let parts = (0..alone.len()).find(|&at| completion.tokens.get(at) != Some(&alone[at].0));
        if let Some(at) = parts {
            let gap = alone[at].2;
            println!("{name}: request {i} parts at token {at}, where the gap is {gap:.1e}");
            assert!(gap <= tolerance, "{name}: {gap:e} > {tolerance:e}");
        } else {
            assert_eq!(completion.tokens.len(), alone.len(), "{name}, request {i}");
            equal += 1;
        }
        if how(&mut request.clone()).log_probs {
            assert_eq!(completion.log_probs.len(), completion.tokens.len());
            let same = alone.iter().take(parts.unwrap_or(alone.len()));
            for (log_prob, (_, alone, _)) in completion.log_probs.iter().zip(same) {
                assert!((log_prob - alone).abs() <= tolerance, "{name}: {log_prob} {alone}");
            }
        }
    }
    println!("{name}: {equal} of {} answers equal", requests.len());
    equal as f64 / requests.len() as f64
}

fn all_alone(mut session: Session, requests: &[Request]) -> Vec<Vec<(Token, f32, f32)>> {
    requests.iter().map(|request| alone(&mut session, request)).collect()
}

/// As [`models::exact`], in one thread: tests run beside each other.
fn exact(n_seq: u32) -> SessionOptions {
    SessionOptions { n_threads: 1, ..models::exact(n_seq) }
}

/// Requests of various lengths for a model that writes stories.
fn story_requests(model: &Model) -> Vec<Request> {
    let heroes = ["Tim", "Lily", "the cat", "a big dog", "Mom and Dad"];
    let places = ["in the park", "at home", "by the sea when it was raining", "under a tree"];
    (0..40)
        .map(|i| {
            let prompt = format!("Once upon a time, {} was {}", heroes[i % 5], places[i % 4]);
            let prompt = model.tokenize(&prompt[..prompt.len() - i % 3], true, false).unwrap();
            with(request(prompt, 8 + i * 7 % 60), |how| how.log_probs = i % 2 == 0)
        })
        .collect()
}

fn scheduler(model: &Arc<Model>, n: u32, options: &SessionOptions) -> Scheduler {
    Scheduler::base(model, n, options).unwrap()
}

#[test]
fn batched_greedy_answers_are_those_of_one_by_one() {
    let Some(path) = stories() else { return };
    let model = Model::load(&path, 0).unwrap();
    let requests = story_requests(&model);
    let exact = |n_seq| SessionOptions { n_ctx: 256 * n_seq, n_batch: 64, ..exact(n_seq) };
    let default =
        |n_seq| SessionOptions { n_ctx: 256 * n_seq, n_threads: 1, n_seq, ..SessionOptions::default() };
    let exact_alone = all_alone(Session::new(&model, &exact(1)).unwrap(), &requests);
    let default_alone = all_alone(Session::new(&model, &default(1)).unwrap(), &requests);
    for (n_sessions, n_seq, kv_unified) in [(1, 32, false), (1, 32, true), (2, 5, false), (1, 1, true)] {
        let name = format!("{n_sessions} x {n_seq} sequences, unified {kv_unified}");
        let batch = scheduler(&model, n_sessions, &SessionOptions { kv_unified, ..exact(n_seq) });
        let share = compare(&format!("exact, {name}"), &exact_alone, &batch, &requests, EXACT);
        assert!(share >= 0.9, "{name}: only {share} equal");
        let batch = scheduler(&model, n_sessions, &SessionOptions { kv_unified, ..default(n_seq) });
        compare(&format!("defaults, {name}"), &default_alone, &batch, &requests, DEFAULT);
    }
}

#[test]
fn the_embedded_model_answers_in_batches_as_it_does_alone() {
    let file = embedded::Temporary::new().unwrap();
    let model = Model::load(file.path(), 0).unwrap();
    let ask = |i: u64| {
        let skill = Skill::ALL[i as usize % 3];
        let message = ChatMessage::user(question(skill, i.is_multiple_of(2), 1, i).prompt);
        request(model.chat_prompt(&[message]).unwrap().tokens, 60)
    };
    let requests: Vec<_> = (0..60).map(ask).collect();
    let options = |n_seq| SessionOptions { n_ctx: 256 * n_seq, kv_unified: false, ..exact(n_seq) };
    let alone = all_alone(Session::new(&model, &options(1)).unwrap(), &requests);
    let batch = scheduler(&model, 2, &options(16));
    let share = compare("embedded, exact", &alone, &batch, &requests, EXACT);
    assert!(share >= 0.9, "only {share} equal");
}

#[test]
fn a_batch_that_mixes_base_and_experts_gives_each_what_it_gets_alone() {
    let mut models = vec![Adapted::random(
        &RandomModel::tiny(),
        Selection::parse("all").unwrap(),
        RankPolicy::Full,
        TensorType::F32,
    )];
    models.extend(
        stories().map(|path| Adapted::real(&path, Selection::Ffn, RankPolicy::Full, TensorType::F32)),
    );
    for adapted in &models {
        for op in [GraphOp::Fused, GraphOp::Composed] {
            let open = |n_seq: u32, kv_unified| {
                let options = SessionOptions { n_ctx: 256 * n_seq, kv_unified, ..exact(n_seq) };
                let adapter = AdapterOptions { form: Form::Residual, op, n_slots: 4 };
                let mut session = Session::adapted(&adapted.adapted, &options, &adapter).unwrap();
                for slot in 1..4u32 {
                    let expert = adapted.expert(&format!("e{slot}"), u64::from(slot), 0.4);
                    session.experts_mut().unwrap().insert(expert).unwrap();
                }
                session
            };
            let requests: Vec<_> = (0..24u32)
                .map(|i| Request {
                    mixture: match i % 4 {
                        0 => Mixture::base(),
                        expert => Mixture::single(format!("e{expert}")),
                    },
                    // The same prompt for each of the four mixtures.
                    ..request(tokens(u64::from(i / 4), 6 + i as usize / 4), 12 + i as usize % 5)
                })
                .collect();
            let alone = all_alone(open(1, true), &requests);
            for kv_unified in [false, true] {
                let batch = Scheduler::new(vec![open(7, kv_unified)], QUEUE).unwrap();
                let name = format!("{op:?}, unified {kv_unified}");
                let share = compare(&name, &alone, &batch, &requests, EXACT);
                assert!(share >= 0.9, "{name}: only {share} equal");
                let answers = complete_all(&batch, &requests);
                let differ =
                    answers.chunks(4).filter(|four| four[0].tokens[..12] != four[1].tokens[..12]).count();
                assert!(differ > 0, "the experts change nothing");
                // A second pass over used sequences.
                let again = complete_all(&batch, &requests);
                for (a, b) in answers.iter().zip(&again) {
                    assert_eq!(a.tokens, b.tokens, "{name}: a used session differs from a new one");
                }
            }
        }
    }
}

#[test]
fn a_stop_string_ends_the_text_before_it_also_across_tokens() {
    let Some(path) = stories() else { return };
    let model = Model::load(&path, 0).unwrap();
    let batch = scheduler(&model, 1, &exact(4));
    let prompt = model.tokenize("Once upon a time", true, false).unwrap();
    let whole = complete_all(&batch, &[request(prompt.clone(), 60)]).remove(0);
    assert_eq!((whole.ended, whole.tokens.len()), (Ended::Length, 60));
    let pieces: Vec<_> = whole.tokens.iter().map(|&token| model.piece(token)).collect();
    // Every text that begins in the middle of one piece and ends in the middle of a later one.
    let mut requests = Vec::new();
    for span in [1, 2, 4] {
        for first in 3..20 {
            let at: usize = pieces[..first].iter().map(Vec::len).sum::<usize>() + pieces[first].len() / 2;
            let end: usize = pieces[..first + span].iter().map(Vec::len).sum::<usize>() + 1;
            let stop = whole.text[at..end].to_owned();
            let stop = vec!["never written".into(), stop];
            requests.push(with(request(prompt.clone(), 60), |how| how.stop = stop));
        }
    }
    for (request, completion) in requests.iter().zip(complete_all(&batch, &requests)) {
        let stop = &how(&mut request.clone()).stop[1].clone();
        let at = whole.text.find(stop).unwrap();
        assert_eq!(
            (completion.ended, completion.text.as_str()),
            (Ended::Stop, &whole.text[..at]),
            "{stop:?}"
        );
        assert_eq!(completion.tokens, whole.tokens[..completion.tokens.len()]);
        let said: usize = pieces[..completion.tokens.len()].iter().map(Vec::len).sum();
        assert!(
            said >= at + stop.len() && said - pieces[completion.tokens.len() - 1].len() < at + stop.len()
        );
    }
}

#[test]
fn the_end_token_ends_a_completion_and_is_not_text() {
    let file = embedded::Temporary::new().unwrap();
    let model = Model::load(file.path(), 0).unwrap();
    let batch = scheduler(&model, 1, &exact(1));
    let message = ChatMessage::user(question(Skill::Math, false, 1, 1).prompt);
    let prompt = model.chat_prompt(&[message]).unwrap().tokens;
    let completion = complete_all(&batch, &[request(prompt, 200)]).remove(0);
    let (last, before) = completion.tokens.split_last().unwrap();
    assert_eq!(completion.ended, Ended::End, "{}", completion.text);
    assert!(model.is_end(*last) && before.iter().all(|&token| !model.is_end(token)));
    let said: Vec<u8> = before.iter().flat_map(|&token| model.piece(token)).collect();
    assert_eq!(completion.text.as_bytes(), said);
}

#[test]
fn samples_follow_their_seeds_and_the_distribution() {
    let seed = 11;
    println!("seed {seed}");
    let adapted = Adapted::random(&RandomModel::tiny(), Selection::Ffn, RankPolicy::Full, TensorType::F32);
    let batch =
        scheduler(adapted.model(), 2, &SessionOptions { n_ctx: 8 * 256, kv_unified: false, ..exact(8) });
    let prompt = tokens(3, 9);
    // A low temperature, so that a few tokens carry the probability.
    let temperature = 0.3;
    let sample = |i: u32| {
        let sampler = SamplerOptions::plain(temperature, seed + i);
        with(request(prompt.clone(), 1), |how| how.sampler = sampler)
    };
    let requests: Vec<_> = (0..2000).map(sample).collect();
    let first = complete_all(&batch, &requests);
    let again = complete_all(&batch, &requests);
    assert!(first.iter().zip(&again).all(|(a, b)| a.tokens == b.tokens), "equal calls, equal results");

    let mut single = Session::new(adapted.model(), &exact(1)).unwrap();
    single.prompt(0, &prompt).unwrap();
    let logits = single.logits(0);
    let max = logits.iter().copied().fold(f32::MIN, f32::max);
    let weights: Vec<_> = logits.iter().map(|logit| f64::from((logit - max) / temperature).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let best = weights.iter().position(|&weight| weight == 1.0).unwrap();
    let p = 1.0 / sum;
    let share =
        first.iter().filter(|completion| completion.tokens[0] == best as Token).count() as f64 / 2000.0;
    let error = 4.0 * (p * (1.0 - p) / 2000.0).sqrt();
    println!("most likely token: {share} of samples, p = {p} (tolerance {error})");
    assert!(p > 0.02 && p < 0.98, "{p} tests nothing");
    assert!((share - p).abs() <= error, "{share} {p}");
}

#[test]
fn requests_wait_for_room_in_a_shared_cache() {
    let adapted = Adapted::random(&RandomModel::tiny(), Selection::Ffn, RankPolicy::Full, TensorType::F32);
    // Room for two requests at a time, though there are eight sequences.
    let batch = scheduler(adapted.model(), 1, &SessionOptions { n_ctx: 512, ..exact(8) });
    let requests: Vec<_> = (0..9).map(|i| request(tokens(i, 180), 40)).collect();
    let alone = all_alone(Session::new(adapted.model(), &exact(1)).unwrap(), &requests);
    compare("a full cache", &alone, &batch, &requests, EXACT);
}

#[test]
fn what_cannot_be_served_is_an_error_before_anything_runs() {
    let adapted = Adapted::random(&RandomModel::tiny(), Selection::Ffn, RankPolicy::Full, TensorType::F32);
    let batch =
        scheduler(adapted.model(), 2, &SessionOptions { n_ctx: 4 * 256, kv_unified: false, ..exact(4) });
    let good = || request(tokens(1, 5), 4);
    let nan = SamplerOptions { temperature: f32::NAN, ..SamplerOptions::greedy() };
    for (bad, fragments) in [
        (request(vec![], 4), ["prompt", "empty"]),
        (request(tokens(1, 5), 0), ["max_tokens", "1 or more"]),
        (request(tokens(1, 250), 8), ["256", "250 of the prompt and 8"]),
        (request(tokens(1, 300), 1), ["256", "300 of the prompt"]),
        (with(good(), |how| how.stop = vec![String::new()]), ["stop", "empty"]),
        (with(good(), |how| how.sampler = nan), ["temperature", "NaN"]),
        (Request { mixture: Mixture::single("e"), ..good() }, ["without adapted layers", "sidecar"]),
    ] {
        let mut n_done = 0;
        let error = batch.complete(vec![good(), bad], &Interrupt::new(), |_, _| {
            n_done += 1;
            Ok(())
        });
        let error = error.expect_err(fragments[1]);
        assert!(fragments.iter().all(|fragment| error.to_string().contains(fragment)), "{error}");
        assert_eq!((error.exit_code(), n_done), (2, 0), "{error}");
    }
    // Exactly as long as the context: the last token is not decoded.
    let longest = request(tokens(1, 250), 7);
    assert!(complete_all(&batch, &[longest]).len() == 1);
    assert!(complete_all(&batch, &[]).is_empty());
}

/// The tiny model with a NaN in a weight.
fn with_nan(folder: &Path) -> PathBuf {
    let path = folder.join("nan.gguf");
    RandomModel::tiny().write(&path).unwrap();
    let at = GgufFile::open(&path).unwrap().tensor("blk.1.ffn_up.weight").unwrap().offset + 40;
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn errors_and_interrupts_stop_every_session_and_leave_them_usable() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::load(&with_nan(folder.path()), 0).unwrap();
    let options = SessionOptions { n_ctx: 4 * 256, kv_unified: false, ..exact(4) };
    let requests: Vec<_> = (0..40).map(|i| request(tokens(i, 5), 20)).collect();
    let batch = scheduler(&model, 2, &options);
    for sampler in [SamplerOptions::greedy(), SamplerOptions::default()] {
        let request = with(requests[0].clone(), |how| how.sampler = sampler);
        let error = batch.complete(vec![request], &Interrupt::new(), |_, _| Ok(())).expect_err("NaN");
        assert!(error.to_string().contains("NaN") && error.exit_code() == 2, "{error}");
    }

    let adapted = Adapted::random(&RandomModel::tiny(), Selection::Ffn, RankPolicy::Full, TensorType::F32);
    let batch = scheduler(adapted.model(), 2, &options);
    let interrupt = Interrupt::new();
    let stop_after_five = |stop: &(dyn Fn() -> Result<()> + Sync)| {
        let mut n_done = 0;
        let result = batch.complete(requests.clone(), &interrupt, |_, _| {
            n_done += 1;
            match n_done {
                5 => stop(),
                _ => Ok(()),
            }
        });
        (result.expect_err("stopped"), n_done)
    };
    let (error, n_done) = stop_after_five(&|| Err(Error::invalid("of the caller")));
    assert!(error.to_string() == "of the caller" && n_done < 20, "{error}, {n_done}");
    let (error, n_done) = stop_after_five(&|| {
        interrupt.raise();
        Ok(())
    });
    assert!(error.is_interrupted() && (5..20).contains(&n_done), "{error}, {n_done}");

    crate::scheduler::assert_idle(&batch);
    assert_eq!(complete_all(&batch, &requests).len(), 40);
}
