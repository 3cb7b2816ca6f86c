//! The flags that say on what a model runs, shared by the commands that run one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::{Model, Offload, RpcServer, SessionOptions};
use crate::error::{Error, Result};

#[derive(clap::Args)]
pub struct DeviceArgs {
    /// Threads [default: all]
    #[arg(short, long, value_name = "N")]
    threads: Option<u32>,
    /// Layers to keep on a GPU, in builds for one (also -ngl)
    #[arg(long, value_name = "N", default_value_t = 99)]
    n_gpu_layers: u32,
    /// Keep layers on other machines, where `llama-svf rpc-server` or llama.cpp's rpc-server runs; several with commas between
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    rpc: Vec<String>,
}

impl DeviceArgs {
    /// The threads that `-t` asks for, or all.
    pub fn n_threads(&self) -> Result<u32> {
        n_threads(self.threads)
    }

    pub fn load(&self, path: &Path) -> Result<Arc<Model>> {
        Model::load_with(path, &self.offload()?, None)
    }

    fn offload(&self) -> Result<Offload> {
        let mut servers: Vec<Arc<RpcServer>> = Vec::new();
        for endpoint in self.rpc.iter().map(|endpoint| endpoint.trim()) {
            if servers.iter().any(|server| server.endpoint() == endpoint) {
                return Err(Error::invalid(format!("{endpoint} is given twice")).setting("rpc"));
            }
            servers.push(Arc::new(RpcServer::connect(endpoint)?));
        }
        Ok(Offload { n_gpu_layers: self.n_gpu_layers, servers })
    }
}

/// The form in which a model is asked.
#[derive(clap::Args)]
pub struct TemplateArgs {
    /// Chat template in place of the model's own: Jinja, or the name of one of llama.cpp's, such as chatml
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "chat_template_file")]
    chat_template: Option<String>,
    /// Chat template in place of the model's own, in a file
    #[arg(long, value_name = "FILE")]
    chat_template_file: Option<PathBuf>,
}

impl TemplateArgs {
    /// The template that is given, if one is.
    pub fn read(&self) -> Result<Option<String>> {
        let (text, flag) = match (&self.chat_template, &self.chat_template_file) {
            (Some(text), _) => (text.clone(), "--chat-template"),
            (None, Some(path)) => {
                let read = std::fs::read_to_string(path);
                let text = read.map_err(|error| Error::io("cannot read", path, error));
                (text.map_err(|error| error.field("--chat-template-file"))?, "--chat-template-file")
            }
            (None, None) => return Ok(None),
        };
        if text.trim().is_empty() {
            return Err(Error::invalid("the template is empty").field(flag));
        }
        Ok(Some(text))
    }
}

/// Of commands that ask a model in the form of its chat template.
#[derive(clap::Args)]
pub struct ChatModelArgs {
    #[command(flatten)]
    template: TemplateArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

impl ChatModelArgs {
    /// The threads that `-t` asks for, or all.
    pub fn n_threads(&self) -> Result<u32> {
        self.device.n_threads()
    }

    pub fn load(&self, path: &Path) -> Result<Arc<Model>> {
        Model::load_with(path, &self.device.offload()?, self.template.read()?)
    }
}

/// Of commands that answer many questions.
#[derive(clap::Args)]
pub struct BatchArgs {
    /// Answers generated at once
    #[arg(short, long, value_name = "N", default_value_t = 32)]
    batch: u32,
    #[command(flatten)]
    pub model: ChatModelArgs,
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
