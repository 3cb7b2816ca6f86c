//! Several answers to each of some prompts, with what they share read once or by each: `cargo bench --bench shared`, or
//! with the path of a model after `--`.
//!
//! 16 questions × 8 answers of at most 12 tokens, 32 at once, two threads, as a step of training asks for them. *Apart*
//! forbids sharing. With a memory of its own for each sequence a shared beginning is copied; with one memory for all it
//! is only marked, but attention then looks for each sequence's cells among those of all. The table shows medians of
//! seconds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use llama_svf::embedded;
use llama_svf::engine::scheduler::{sessions_for, Generate};
use llama_svf::engine::{ChatMessage, Model, Request, SamplerOptions, Scheduler, SessionOptions};
use llama_svf::error::Result;
use llama_svf::expert::Mixture;
use llama_svf::progress::Interrupt;
use llama_svf::skills::{question, Skill};

const ROUNDS: usize = 3;
const THREADS: u32 = 2;
const QUESTIONS: u64 = 16;
const ANSWERS: u64 = 8;

fn main() -> Result<()> {
    let file = embedded::Temporary::new()?;
    let path = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).map(PathBuf::from);
    let model = Model::load(path.as_deref().unwrap_or(file.path()), 0)?;
    println!("{:>12}  {:>9}  {:>9}  {:>12}", "memory", "apart", "shared", "apart/shared");
    for (name, kv_unified) in [("of its own", false), ("of all", true)] {
        let scheduler = scheduler(&model, kv_unified)?;
        let mut seconds = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for (is_shared, seconds) in [false, true].into_iter().zip(&mut seconds) {
                let requests = requests(&model, is_shared)?;
                let began = Instant::now();
                scheduler.complete(requests, &Interrupt::new(), |_, _| Ok(()))?;
                // The first round warms up.
                if round > 0 {
                    seconds.push(began.elapsed().as_secs_f64());
                }
            }
        }
        let [apart, shared] = seconds.map(|mut seconds| {
            seconds.sort_by(f64::total_cmp);
            seconds[seconds.len() / 2]
        });
        println!("{name:>12}  {apart:>7.2} s  {shared:>7.2} s  {:>12.2}", apart / shared);
    }
    Ok(())
}

fn scheduler(model: &Arc<Model>, kv_unified: bool) -> Result<Scheduler> {
    let (n_sessions, options) = sessions_for(model, 32, 256, THREADS);
    Scheduler::base(model, n_sessions, &SessionOptions { kv_unified, ..options })
}

fn requests(model: &Model, is_shared: bool) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    for i in 0..QUESTIONS {
        // Several questions in one, so that it is as long as those of real tasks.
        let texts: Vec<_> =
            (0..3).map(|part| question(Skill::ALL[i as usize % 3], false, part, i).prompt).collect();
        let prompt = model.chat_prompt(&[ChatMessage::user(texts.join("\n"))])?.tokens;
        for answer in 0..ANSWERS {
            let number = i * ANSWERS + answer;
            let how = Generate { sampler: SamplerOptions::plain(1.0, number as u32), ..Generate::greedy(12) };
            let request = Request::generate(prompt.clone(), Mixture::base(), how);
            requests.push(Request { scope: if is_shared { 0 } else { number + 1 }, ..request });
        }
    }
    Ok(requests)
}
