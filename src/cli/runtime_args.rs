//! The flags that say on what a model runs, shared by the commands that run one.

use std::path::Path;
use std::sync::Arc;

use crate::engine::{Model, SessionOptions};
use crate::error::{Error, Result};

#[derive(clap::Args)]
pub struct DeviceArgs {
    /// Threads [default: all]
    #[arg(short, long, value_name = "N")]
    threads: Option<u32>,
    /// Layers to keep on a GPU, in builds for one (also -ngl)
    #[arg(long, value_name = "N", default_value_t = 99)]
    n_gpu_layers: u32,
}

impl DeviceArgs {
    /// The threads that `-t` asks for, or all.
    pub fn n_threads(&self) -> Result<u32> {
        n_threads(self.threads)
    }

    pub fn load(&self, path: &Path) -> Result<Arc<Model>> {
        Model::load(path, self.n_gpu_layers)
    }
}

/// Of commands that answer many questions.
#[derive(clap::Args)]
pub struct BatchArgs {
    /// Answers generated at once
    #[arg(short, long, value_name = "N", default_value_t = 32)]
    batch: u32,
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl BatchArgs {
    /// The answers that `-b` asks for.
    pub fn n_answers(&self) -> Result<u32> {
        match self.batch {
            0 => Err(Error::expected("1 or more", 0).field("--batch")),
            n => Ok(n),
        }
    }
}

/// `threads`, or all there are.
pub fn n_threads(threads: Option<u32>) -> Result<u32> {
    match threads.unwrap_or(SessionOptions::default().n_threads) {
        0 => Err(Error::expected("1 or more", 0).field("--threads")),
        n => Ok(n),
    }
}
