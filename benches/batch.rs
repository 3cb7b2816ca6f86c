//! Greedy answers one by one against 32 at once, side by side: `cargo bench --bench batch`.
//!
//! Both answer the same questions of the embedded model's skills with two threads, in turn. *decode* begins
//! with a prompt of one token, so that it is the speed of writing alone; *evaluate* reads the questions too,
//! which batches cannot speed up as much: even one prompt is a batch of tokens. The table shows medians.

use std::sync::Arc;
use std::time::Instant;

use llama_svf::embedded;
use llama_svf::engine::{complete, sessions_for, ChatMessage, Model, Request, SamplerOptions, Session};
use llama_svf::error::Result;
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
        let mut both = [sessions(&model, 1)?, sessions(&model, 32)?];
        let mut speeds = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for (sessions, speeds) in both.iter_mut().zip(&mut speeds) {
                let speed = tokens_per_second(sessions, &requests)?;
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

fn sessions(model: &Arc<Model>, n_seq: u32) -> Result<Vec<Session>> {
    let (n_sessions, options) = sessions_for(model, n_seq, 256, THREADS);
    (0..n_sessions).map(|_| Session::new(model, &options)).collect()
}

fn request(model: &Model, i: u64, decode_only: bool) -> Result<Request> {
    let content = question(Skill::ALL[i as usize % 3], false, 1, i).prompt;
    let prompt = model.chat_prompt(&[ChatMessage { role: "user", content }])?;
    let mut prompt = model.tokenize(&prompt, true, true)?;
    if decode_only {
        prompt.truncate(1);
    }
    let sampler = SamplerOptions { temperature: 0.0, ..SamplerOptions::default() };
    Ok(Request { prompt, slot: 0, sampler, max_tokens: 64, stop: Vec::new(), log_probs: false })
}

fn tokens_per_second(sessions: &mut [Session], requests: &[Request]) -> Result<f64> {
    let mut n_tokens = 0;
    let began = Instant::now();
    complete(sessions, requests, &Interrupt::new(), |_, completion| {
        n_tokens += completion.tokens.len();
        Ok(())
    })?;
    Ok(n_tokens as f64 / began.elapsed().as_secs_f64())
}
