//! Greedy answers one by one against 32 at once, side by side: `cargo bench --bench batch`.
//!
//! Both answer the same questions of the embedded model's skills with two threads, in turn. *decode* begins
//! with a prompt of one token, so that it is the speed of writing alone; *evaluate* reads the questions too,
//! which batches cannot speed up as much: even one prompt is a batch of tokens. The table shows medians.

use std::sync::Arc;
use std::time::Instant;

use llama_svf::embedded;
use llama_svf::engine::scheduler::{sessions_for, Generate};
use llama_svf::engine::{ChatMessage, Model, Request, Scheduler};
use llama_svf::error::Result;
use llama_svf::expert::Mixture;
use llama_svf::progress::Interrupt;
use llama_svf::skills::{question, Skill};

const ROUNDS: usize = 5;
const THREADS: u32 = 2;
const REQUESTS: u64 = 128;

fn main() -> Result<()> {
    let file = embedded::Temporary::new()?;
    let model = Model::load(file.path(), 0)?;
    println!("{:>10}  {:>12}  {:>12}  {:>6}", "tokens/s", "one by one", "32 at once", "ratio");
    for name in ["decode", "evaluate"] {
        let requests =
            (0..REQUESTS).map(|i| request(&model, i, name == "decode")).collect::<Result<Vec<_>>>()?;
        let both = [scheduler(&model, 1)?, scheduler(&model, 32)?];
        let mut speeds = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for (scheduler, speeds) in both.iter().zip(&mut speeds) {
                let speed = tokens_per_second(scheduler, &requests)?;
                // The first round warms up.
                if round > 0 {
                    speeds.push(speed);
                }
            }
        }
        let [single, batch] = speeds.map(|mut speeds| {
            speeds.sort_by(f64::total_cmp);
            speeds[speeds.len() / 2]
        });
        println!("{name:>10}  {single:>12.0}  {batch:>12.0}  {:>6.2}", batch / single);
    }
    Ok(())
}

fn scheduler(model: &Arc<Model>, n_seq: u32) -> Result<Scheduler> {
    let (n_sessions, options) = sessions_for(model, n_seq, 256, THREADS);
    Scheduler::base(model, n_sessions, &options)
}

fn request(model: &Model, i: u64, decode_only: bool) -> Result<Request> {
    let content = question(Skill::ALL[i as usize % 3], false, 1, i).prompt;
    let mut prompt = model.chat_prompt(&[ChatMessage::user(content)])?.tokens;
    if decode_only {
        prompt.truncate(1);
    }
    Ok(Request::generate(prompt, Mixture::base(), Generate::greedy(64)))
}

fn tokens_per_second(scheduler: &Scheduler, requests: &[Request]) -> Result<f64> {
    let mut n_tokens = 0;
    let began = Instant::now();
    scheduler.complete(requests.to_vec(), &Interrupt::new(), |_, outcome| {
        n_tokens += outcome.completion()?.tokens.len();
        Ok(())
    })?;
    Ok(n_tokens as f64 / began.elapsed().as_secs_f64())
}
