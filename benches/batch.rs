//! Greedy completions one by one against 32 at once, side by side: `cargo bench --bench batch`.
//!
//! Both complete the same prompts with the same model and threads, in turn; the table shows the median
//! throughput of each and their ratio.

use std::path::Path;
use std::time::Instant;

use llama_svf::engine::{complete, Model, Request, SamplerOptions, Session, SessionOptions};
use llama_svf::progress::Interrupt;

const ROUNDS: usize = 5;
const THREADS: u32 = 2;
const REQUESTS: usize = 128;

fn main() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models/stories260K-f32.gguf");
    let path = std::env::var("MODEL").unwrap_or(shared.to_str().unwrap().into());
    let model = Model::load(Path::new(&path), 0).unwrap();
    let env = |name: &str, default: u32| std::env::var(name).map_or(default, |v| v.parse().unwrap());
    let n_seq = env("SEQ", 32);
    let requests: Vec<_> = (0..REQUESTS)
        .map(|i| Request {
            prompt: if env("PL", 4) == 0 {
                vec![65]
            } else {
                model.tokenize(
                    &format!(
                        "Once upon a time, there was a {}",
                        "cat "[..env("PL", 4) as usize].repeat(i % 5 + 1)
                    ),
                    true,
                    false,
                )
            },
            slot: 0,
            sampler: SamplerOptions { temperature: 0.0, ..SamplerOptions::default() },
            max_tokens: env("G", 24) as usize + i % 17,
            stop: vec![],
            log_probs: false,
        })
        .collect();
    println!("prompt tokens {:?}", requests.iter().map(|r| r.prompt.len()).take(5).collect::<Vec<_>>());
    for n in [1, n_seq].into_iter().skip(env("SKIP", 0) as usize) {
        let options = SessionOptions {
            n_ctx: n * 256,
            n_seq: n,
            n_threads: env("T", THREADS),
            n_ubatch: env("UB", 512),
            flash_attention: env("FA", 1) == 1,
            kv_unified: env("UNI", 0) == 1,
            kv: if env("F32", 0) == 1 {
                llama_svf::engine::KvType::F32
            } else {
                llama_svf::engine::KvType::F16
            },
            ..SessionOptions::default()
        };
        let workers = if n == 1 { 1 } else { env("W", 1) };
        let options = SessionOptions {
            n_seq: n.div_ceil(workers),
            n_ctx: n.div_ceil(workers) * 256,
            n_threads: options.n_threads.div_ceil(workers),
            ..options
        };
        let mut sessions: Vec<_> = (0..workers).map(|_| Session::new(&model, &options).unwrap()).collect();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let mut tokens = 0;
            complete(&mut sessions, &requests, &Interrupt::new(), |_, c| {
                tokens += c.tokens.len();
                Ok(())
            })
            .unwrap();
            println!(
                "{n:>3}: {:.0} tokens/s, {:.1} items/s",
                tokens as f64 / began.elapsed().as_secs_f64(),
                REQUESTS as f64 / began.elapsed().as_secs_f64()
            );
        }
    }
}
