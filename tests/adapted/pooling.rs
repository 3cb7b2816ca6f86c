//! Means of hidden states are those of a float64 oracle, whatever else is in the batch, and in the right sequence.

use crate::models::{exact, tokens, Adapted, RandomModel};
use crate::oracle::Oracle;
use llama_svf::decompose::{RankPolicy, Selection};
use llama_svf::engine::scheduler::{Generate, Pool, QUEUE};
use llama_svf::engine::{AdapterOptions, Form, GraphOp, Request, Scheduler, Session, SessionOptions, Token};
use llama_svf::expert::{Expert, Mixture};
use llama_svf::ffi::tensor_type::TensorType;

fn shape() -> RandomModel {
    RandomModel { layers: 4, ..RandomModel::tiny() }
}

fn adapted() -> Adapted {
    Adapted::random(&shape(), Selection::Ffn, RankPolicy::Full, TensorType::F32)
}

fn scheduler(adapted: &Adapted, n_seq: u32, kv_unified: bool, n_ubatch: u32) -> Scheduler {
    let adapter = AdapterOptions { form: Form::Residual, op: GraphOp::Auto, n_slots: 3 };
    let options = SessionOptions { n_ctx: 128 * n_seq, n_batch: 64, n_ubatch, kv_unified, ..exact(n_seq) };
    let mut session = Session::adapted(&adapted.adapted, &options, &adapter).unwrap();
    let mut expert = Expert::identity("e", adapted.adapted.sidecar());
    expert.multipliers.values_mut().flatten().for_each(|m| *m = 1.3);
    session.experts_mut().unwrap().insert(expert).unwrap();
    Scheduler::new(vec![session], QUEUE).unwrap()
}

/// The mean of rows, in float64.
fn mean(rows: &[Vec<f64>]) -> Vec<f64> {
    (0..rows[0].len()).map(|k| rows.iter().map(|row| row[k]).sum::<f64>() / rows.len() as f64).collect()
}

fn assert_near(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    let size = expected.iter().map(|x| x * x).sum::<f64>().sqrt();
    let gap = found.iter().zip(expected).map(|(&a, b)| (f64::from(a) - b).powi(2)).sum::<f64>().sqrt();
    assert!(gap <= 1e-5 * size, "{gap} of {size}");
}

fn pool(prompt: &[Token], layer: u32, tokens: std::ops::Range<usize>) -> Request {
    Request::pool(prompt.to_vec(), Mixture::base(), Pool { layer, tokens })
}

#[test]
fn means_are_those_of_the_oracle_alone_and_among_others() {
    let adapted = adapted();
    let oracle = Oracle::new(&shape(), &adapted.adapted, Form::Residual);
    let prompts: Vec<_> = (0..6).map(|i| tokens(40 + i, 20 + 13 * i as usize)).collect();
    let wanted: Vec<_> = (0..6)
        .map(|i| {
            let n = prompts[i].len();
            let range = [0..n, n - 1..n, n - 5..n, 3..9, 0..1, n / 2..n][i].clone();
            ((i % 3) as u32, range)
        })
        .collect();
    // Streams and one memory, and graphs that cut the prompts into pieces.
    for (kv_unified, n_ubatch) in [(false, 64), (true, 64), (true, 7)] {
        let scheduler = scheduler(&adapted, 4, kv_unified, n_ubatch);
        for round in 0..2 {
            // Others write meanwhile, with an expert.
            let writing: Vec<_> = (0..2)
                .map(|i| {
                    let how = Generate::greedy(20);
                    scheduler.submit(Request::generate(tokens(90 + i, 9), Mixture::single("e"), how)).unwrap()
                })
                .collect();
            let tickets: Vec<_> = prompts
                .iter()
                .zip(&wanted)
                .map(|(prompt, (layer, range))| {
                    scheduler.submit(pool(prompt, *layer, range.clone())).unwrap()
                })
                .collect();
            for ((ticket, prompt), (layer, range)) in tickets.into_iter().zip(&prompts).zip(&wanted) {
                let found = ticket.outcome().unwrap().pooled().unwrap();
                assert_near(&found.mean, &mean(&oracle.hidden(*layer as usize, prompt)[range.clone()]));
                // What comes before the wanted tokens may be known, they themselves are computed.
                assert!(found.usage.n_cached <= range.start, "{round}: {:?}", found.usage);
            }
            writing.into_iter().for_each(|ticket| _ = ticket.completion().unwrap());
        }
    }
}

#[test]
fn what_was_read_to_be_averaged_need_not_be_read_again() {
    let adapted = adapted();
    let scheduler = scheduler(&adapted, 2, false, 64);
    let prompt = tokens(3, 50);
    let alone = || Request::generate(prompt.clone(), Mixture::base(), Generate::greedy(8));
    let before = scheduler.submit(alone()).unwrap().completion().unwrap();
    scheduler.submit(pool(&prompt, 1, 45..50)).unwrap().outcome().unwrap().pooled().unwrap();
    let after = scheduler.submit(alone()).unwrap().completion().unwrap();
    assert_eq!((after.tokens, after.usage.n_cached), (before.tokens, 49));
}

#[test]
fn what_cannot_be_averaged_is_refused() {
    let adapted = adapted();
    let scheduler = scheduler(&adapted, 1, false, 64);
    let prompt = tokens(1, 8);
    for (layer, range) in [(0, 0..0), (0, 3..9), (3, 0..8), (99, 0..8)] {
        let error = scheduler.submit(pool(&prompt, layer, range.clone())).err().unwrap().to_string();
        assert!(error.contains("pool"), "{layer} {range:?}: {error}");
    }
    // Without a sidecar nothing looks into the graph.
    let base = Scheduler::base(adapted.model(), 1, &exact(1)).unwrap();
    assert!(base.submit(pool(&prompt, 0, 0..8)).is_err());
}
