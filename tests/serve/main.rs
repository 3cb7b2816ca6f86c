//! `llama-svf serve` under bad treatment: clients that all want something else at once, go away, send what cannot be or
//! nothing at all, and a server that is ended, killed and started again. Each test starts the program itself.
//!
//! `LLAMA_SVF_SEED` gives another seed to what is random.

mod access;
mod answers;
mod bodies;
mod far;
mod harness;
mod http;
mod leaving;
mod loading;
#[allow(dead_code)]
#[path = "../support/machines.rs"]
mod machines;
mod mixtures;
mod nearest;
mod process;
mod random;
