//! `llama-svf serve`: answer over HTTP as llama-server does, each request with its own experts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::adapt_args::AdaptArgs;
use super::experts::{Adapter, ExpertArgs};
use super::inputs::ModelFile;
use super::runtime_args::ChatModelArgs;
use super::sampler_args::SamplerArgs;
use super::{ctrl_c, printer};
use crate::dispatch::Strategy;
use crate::engine::scheduler::{sessions_for, QUEUE};
use crate::engine::{ChatSettings, Model, ReasoningFormat, Scheduler, Session, SessionOptions};
use crate::error::{exit, Error, Result};
use crate::expert::Mixture;
use crate::server::{
    serve, Adaptation, Bound, DefaultChoice, Engine, Experts, NamedExpert, Origins, Settings,
};

/// Answer over HTTP, as llama-server does, each request with its own experts
///
/// The routes, fields and errors are those of llama-server: OpenAI's /v1/chat/completions, /v1/completions, /v1/responses,
/// Anthropic's /v1/messages, llama.cpp's own /completion and the rest. What is new is the field `svf` of a request:
/// {"mix": {"math": 0.7, "code": 0.3}} names the experts that answer, {"adapt": "prompt"} lets the model choose one.
/// Every request of a batch has its own, at no cost. `model` names an expert, too, and the answer says which one it was.
///
/// On the page at http://127.0.0.1:8080 one can chat, choose and mix experts, and see who answered and why.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    llama-svf serve                                              the embedded model, which chooses its experts itself\n  \
    llama-svf serve -m model.gguf --svf model.svf.gguf --expert maths.expert.gguf --expert code.expert.gguf\n  \
    llama-svf serve -m model.gguf --svf model.svf.gguf --experts-dir experts --adapt prompt -np 8 -c 32768\n\n  \
    curl http://127.0.0.1:8080/v1/chat/completions -d '{\"messages\": [{\"role\": \"user\", \"content\": \"What is 3 * 4?\"}], \\\n    \
    \"svf\": {\"mix\": {\"maths\": 1}}}'")]
pub struct Args {
    /// The model, a GGUF file [default: the embedded model, which knows the questions of its skills only]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,

    #[command(flatten)]
    experts: ExpertArgs,
    /// Load all experts (*.gguf) of this folder; more can be loaded from it while the server runs
    #[arg(long, value_name = "FOLDER", help_heading = "Experts")]
    experts_dir: Option<PathBuf>,
    #[command(flatten)]
    adapt: AdaptArgs,

    #[command(flatten)]
    network: NetworkArgs,

    /// Requests at work at once (also -np)
    #[arg(long, value_name = "N", default_value_t = 4)]
    parallel: u32,
    /// Requests that may wait; more are refused
    #[arg(long, value_name = "N", default_value_t = QUEUE)]
    queue: usize,
    /// Tokens of context, for all requests at work together; 0 for as many as the model was trained with, for each
    /// [default: that, at most 4096, for each]
    #[arg(short, long, value_name = "N")]
    ctx_size: Option<u32>,
    /// Most tokens of an answer where a request does not say; -1 for as many as there is room for
    #[arg(short = 'n', long = "predict", alias = "n-predict", value_name = "N", default_value_t = -1)]
    #[arg(allow_negative_numbers = true)]
    n_predict: i64,
    /// Most tokens per call of llama.cpp; what arrives meanwhile waits for so many of a long prompt
    #[arg(short, long, value_name = "N", default_value_t = 512)]
    batch_size: u32,
    /// Most tokens computed at once (also -ub)
    #[arg(long, value_name = "N", default_value_t = 512)]
    ubatch_size: u32,
    /// Let all requests share one memory, so that one may use more of it while others use less
    #[arg(long)]
    kv_unified: bool,
    #[command(flatten)]
    device: ChatModelArgs,
    /// Where a model's thinking goes: into the content, or into a field of its own
    #[arg(long, value_enum, default_value_t = ReasoningFlag::Deepseek, value_name = "FORMAT")]
    reasoning_format: ReasoningFlag,
    /// Whether the model thinks before it answers, where its template has a say in it
    #[arg(long, value_enum, default_value_t = ThinkFlag::Auto, value_name = "WHEN")]
    reasoning: ThinkFlag,
    /// Read chat templates as Jinja, as is usual
    #[arg(long, overrides_with = "no_jinja")]
    jinja: bool,
    /// Know only the few chat formats that llama.cpp knew before it could read Jinja; without tools
    #[arg(long)]
    no_jinja: bool,
    /// Answer a last message of the assistant, instead of continuing it
    #[arg(long)]
    no_prefill_assistant: bool,

    #[command(flatten)]
    sampler: SamplerArgs,
    /// Taken for llama-server's sake; they change nothing here
    #[command(flatten)]
    ignored: IgnoredArgs,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Network")]
struct NetworkArgs {
    /// Address to listen at; several with commas between. 0.0.0.0 lets other machines in: use --api-key then
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1", value_delimiter = ',')]
    host: Vec<String>,
    /// Port to listen at; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8080)]
    port: u16,
    /// Name of the model for clients; several with commas between [default: the file's name]
    #[arg(short, long, value_name = "NAME", value_delimiter = ',')]
    alias: Vec<String>,
    /// Words that clients may filter models by, with commas between
    #[arg(long, value_name = "WORD", value_delimiter = ',')]
    tags: Vec<String>,
    /// Answer only clients with one of these keys, with commas between [env: LLAMA_API_KEY]
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    api_key: Vec<String>,
    /// The same from a file, a key in each line
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Which pages may ask in a browser: *, localhost, or origins with commas between
    #[arg(long, value_name = "ORIGINS", default_value = "*")]
    cors_origins: String,
    /// No page to chat on
    #[arg(long, alias = "no-webui")]
    no_ui: bool,
    /// Answer GET /metrics
    #[arg(long)]
    metrics: bool,
    /// Answer GET /slots, as is usual
    #[arg(long, overrides_with = "no_slots")]
    slots: bool,
    /// Do not answer GET /slots
    #[arg(long)]
    no_slots: bool,
    /// Seconds without a byte after which a connection is given up
    #[arg(long, value_name = "S", default_value_t = 120)]
    timeout: u64,
    /// Seconds of silence after which a stream shows that it is alive
    #[arg(long, value_name = "S", default_value_t = 15)]
    sse_ping_interval: u64,
    /// Largest request, in MiB
    #[arg(long, value_name = "N", default_value_t = 32)]
    max_body: usize,
    /// Threads that talk to clients
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads_http: usize,
    /// Let every answer tell how it came about
    #[arg(short, long)]
    verbose: bool,
}

#[derive(clap::Args)]
struct IgnoredArgs {
    #[arg(long, hide = true)]
    cont_batching: bool,
    #[arg(long, hide = true)]
    no_cont_batching: bool,
    #[arg(long, hide = true)]
    offline: bool,
    #[arg(long, hide = true)]
    swa_full: bool,
    #[arg(long, hide = true)]
    no_mmproj: bool,
    #[arg(long, hide = true, value_name = "N")]
    cache_ram: Option<i64>,
    #[arg(long, hide = true)]
    no_cache_idle_slots: bool,
    #[arg(long, hide = true, alias = "backend_sampling")]
    backend_sampling: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ReasoningFlag {
    None,
    Deepseek,
    DeepseekLegacy,
    Auto,
}

#[derive(Clone, Copy, ValueEnum)]
enum ThinkFlag {
    On,
    Off,
    Auto,
}

/// Context that an unasked user gets at most, for each request.
const DEFAULT_CONTEXT: u32 = 4096;

pub fn main(args: Args) -> Result<u8> {
    let began = Instant::now();
    let file = ModelFile::new(args.model.as_deref())?;
    let checked = args.check(&file)?;
    let settings = args.settings()?;
    let has_key = !settings.api_keys.is_empty();
    let has_page = settings.has_page;
    let is_open =
        settings.hosts.iter().any(|host| !matches!(host.as_str(), "127.0.0.1" | "localhost" | "::1"));
    if is_open && !has_key {
        printer::note("note: other machines may ask, and no key is needed (hint: --api-key)");
    }
    let bound = Bound::new(settings)?;
    let addresses = bound.addresses();
    let ready = move || {
        let seconds = began.elapsed().as_secs_f64();
        for address in addresses {
            let page = if has_page { ", with a page to chat on" } else { "" };
            printer::note(format_args!(
                "listening at http://{address}{page}, {seconds:.1} s after the start"
            ));
        }
    };
    serve(bound, move || args.load(&file, checked), ready, &ctrl_c::INTERRUPT)?;
    Ok(exit::DONE)
}

/// What the flags name, checked.
struct Checked {
    mixture: Mixture,
    adapter: Option<Adapter>,
    named: Vec<NamedExpert>,
}

impl Args {
    /// What can be wrong with the flags is found before a model of many gigabytes is loaded.
    fn check(&self, file: &ModelFile) -> Result<Checked> {
        if self.parallel == 0 {
            return Err(Error::expected("1 or more", 0).field("--parallel"));
        }
        let is_own = matches!(file, ModelFile::Embedded(_));
        let mixture = self.experts.chosen.mixture(true)?;
        let are_wanted = is_own || self.adapt.is_on() || self.experts_dir.is_some();
        let mut adapter = self.experts.open(file, are_wanted, self.device.n_threads()?)?;
        let mut named = Vec::new();
        if let Some(adapter) = &mut adapter {
            if let Some(folder) = &self.experts_dir {
                adapter.add_folder(folder)?;
            }
            let known = |(name, path): (&str, Option<&Path>)| NamedExpert {
                name: name.to_owned(),
                // As clients can give it back.
                path: path.map(|path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf())),
            };
            named.extend(adapter.named().map(known));
        }
        self.adapt.prompt()?;
        Ok(Checked { mixture, adapter, named })
    }

    fn settings(&self) -> Result<Settings> {
        let NetworkArgs { host, port, alias, tags, timeout, sse_ping_interval, .. } = &self.network;
        let mut aliases: Vec<_> = alias.iter().map(|name| name.trim().to_owned()).collect();
        // llama-server takes the first in the order of the alphabet for the id.
        aliases.sort();
        let sampler = self.sampler.options()?;
        Ok(Settings {
            hosts: host.clone(),
            port: *port,
            aliases,
            tags: tags.clone(),
            api_keys: self.network.keys()?,
            origins: Origins::parse(&self.network.cors_origins),
            has_page: !self.network.no_ui,
            has_metrics: self.network.metrics,
            has_slots: !self.network.no_slots,
            is_verbose: self.network.verbose,
            has_random_seed: !self.sampler.has_seed(),
            sampler,
            n_predict: usize::try_from(self.n_predict).ok(),
            n_parallel: self.parallel as usize,
            chat: ChatSettings {
                reasoning_format: match self.reasoning_format {
                    ReasoningFlag::None => ReasoningFormat::None,
                    ReasoningFlag::Deepseek => ReasoningFormat::Deepseek,
                    ReasoningFlag::DeepseekLegacy => ReasoningFormat::DeepseekLegacy,
                    ReasoningFlag::Auto => ReasoningFormat::Auto,
                },
                thinks: match self.reasoning {
                    ThinkFlag::On => Some(true),
                    ThinkFlag::Off => Some(false),
                    ThinkFlag::Auto => None,
                },
                prefills: !self.no_prefill_assistant,
                chatml: true,
                jinja: !self.no_jinja,
            },
            timeout: Duration::from_secs((*timeout).max(1)),
            ping: Duration::from_secs((*sse_ping_interval).max(1)),
            max_body: self.network.max_body.max(1) << 20,
            n_threads: self.network.threads_http,
            ..Settings::default()
        })
    }

    /// Loads the model and everything else.
    fn load(&self, file: &ModelFile, checked: Checked) -> Result<Engine> {
        let Checked { mixture, adapter, named } = checked;
        let model = self.device.load(file.path())?;
        let n_ctx = self.n_ctx(&model);
        let (n_sessions, options, n_kept) = self.sessions(&model, n_ctx, adapter.is_some())?;
        let sessions: Result<Vec<_>> = match adapter.map(|adapter| adapter.join(&model)).transpose()? {
            Some(joined) => {
                let n_slots = options.n_seq.saturating_add(1);
                (0..n_sessions).map(|_| joined.session(&options, n_slots)).collect()
            }
            None => (0..n_sessions).map(|_| Session::new(&model, &options)).collect(),
        };
        let scheduler = Scheduler::keeping(sessions?, self.queue, n_kept)?;
        let default = match self.adapt.strategy() {
            Some(strategy) => DefaultChoice::Adapt(strategy),
            // The embedded model shows what it can.
            None if self.model.is_none() && !self.experts.chosen.is_chosen() && !named.is_empty() => {
                DefaultChoice::Adapt(Strategy::Prompt)
            }
            None => DefaultChoice::Fixed(mixture),
        };
        let adaptation = Adaptation { prompt: self.adapt.prompt()?, options: self.adapt.options() };
        let folder = self.experts_dir.as_deref();
        let experts = Experts::new(&scheduler, named, folder, default, adaptation)?;
        Ok(Engine { scheduler, experts, n_ctx: n_ctx as usize })
    }

    /// Tokens of context for each request.
    fn n_ctx(&self, model: &Model) -> u32 {
        let n_ctx_train = model.n_ctx_train();
        let n_ctx = match self.ctx_size {
            None => n_ctx_train.min(DEFAULT_CONTEXT),
            Some(0) => n_ctx_train,
            Some(n) if self.kv_unified => n,
            Some(n) => (n / self.parallel).max(1),
        };
        if n_ctx > n_ctx_train {
            printer::note(format_args!(
                "note: the model was trained with {n_ctx_train} tokens of context; beyond them it may write nonsense"
            ));
        }
        n_ctx
    }

    /// How many sessions, of which kind, and how many sequences each keeps for what pass 1 reads with every question.
    fn sessions(
        &self,
        model: &Arc<Model>,
        n_ctx: u32,
        is_adapted: bool,
    ) -> Result<(u32, SessionOptions, u32)> {
        let n_threads = self.device.n_threads()?;
        let n_kept = u32::from(is_adapted);
        let (n_batch, n_ubatch) = (self.batch_size, self.ubatch_size.min(self.batch_size));
        let (n_sessions, options) = if self.kv_unified {
            let n_ctx = n_ctx.saturating_add(n_kept.saturating_mul(DEFAULT_CONTEXT.min(n_ctx)));
            let n_seq = self.parallel;
            (1, SessionOptions { n_ctx, n_seq, n_threads, kv_unified: true, ..SessionOptions::default() })
        } else {
            let (n_sessions, options) = sessions_for(model, self.parallel, n_ctx, n_threads);
            let n_ctx = options.n_ctx.saturating_add(n_kept.saturating_mul(n_ctx));
            (n_sessions, SessionOptions { n_ctx, ..options })
        };
        let n_seq = options.n_seq + n_kept;
        Ok((n_sessions, SessionOptions { n_batch, n_ubatch, n_seq, ..options }, n_kept))
    }
}

impl NetworkArgs {
    /// All keys that a client may have.
    fn keys(&self) -> Result<Vec<String>> {
        let mut keys = self.api_key.clone();
        if keys.is_empty() {
            let given = std::env::var("LLAMA_API_KEY").unwrap_or_default();
            keys.extend(given.split(',').map(str::to_owned));
        }
        if let Some(path) = &self.api_key_file {
            keys.extend(read(path)?.lines().map(str::to_owned));
        }
        keys.retain_mut(|key| {
            *key = key.trim().to_owned();
            !key.is_empty()
        });
        if keys.is_empty() && (self.api_key_file.is_some() || !self.api_key.is_empty()) {
            return Err(Error::expected("a key", "none").field("--api-key"));
        }
        Ok(keys)
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Error::io("cannot read", path, error).field("--api-key-file"))
}
