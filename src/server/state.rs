//! What all requests share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::{ApiError, ApiResult};
use super::experts::Experts;
use super::guard::Origins;
use super::metrics::Metrics;
use super::slots::Running;
use crate::engine::scheduler::Scheduler;
use crate::engine::{ChatSettings, Model, SamplerOptions};

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses to listen at.
    pub hosts: Vec<String>,
    /// Port to listen at; 0 takes a free one.
    pub port: u16,
    /// Names of the model; the first one is its id.
    pub aliases: Vec<String>,
    /// What clients may filter models by.
    pub tags: Vec<String>,
    /// Keys of which a client needs one; none where everybody may ask.
    pub api_keys: Vec<String>,
    /// Which pages may ask in a browser.
    pub origins: Origins,
    /// Whether there is a page to chat on.
    pub has_page: bool,
    /// Whether `/metrics` answers.
    pub has_metrics: bool,
    /// Whether `/slots` answers.
    pub has_slots: bool,
    /// Whether answers tell how they came about.
    pub is_verbose: bool,
    /// How tokens are chosen where a request does not say.
    pub sampler: SamplerOptions,
    /// Whether a new seed is taken where a request gives none.
    pub has_random_seed: bool,
    /// Most tokens of an answer where a request does not say; `None` for as many as the context has room for.
    pub n_predict: Option<usize>,
    /// Requests at work at once.
    pub n_parallel: usize,
    /// How conversations become prompts.
    pub chat: ChatSettings,
    /// Time without a byte after which a connection is given up.
    pub timeout: Duration,
    /// Silence of a stream after which it shows that it is alive.
    pub ping: Duration,
    /// Largest body, in bytes.
    pub max_body: usize,
    /// How long running requests may take to end when the server stops.
    pub grace: Duration,
    /// Threads that talk to clients.
    pub n_threads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hosts: vec!["127.0.0.1".into()],
            port: 8080,
            aliases: Vec::new(),
            tags: Vec::new(),
            api_keys: Vec::new(),
            origins: Origins::Any,
            has_page: true,
            has_metrics: false,
            has_slots: true,
            is_verbose: false,
            sampler: SamplerOptions::default(),
            has_random_seed: true,
            n_predict: None,
            n_parallel: 4,
            chat: ChatSettings::default(),
            timeout: Duration::from_secs(120),
            ping: Duration::from_secs(15),
            max_body: 32 << 20,
            grace: Duration::from_secs(5),
            n_threads: 2,
        }
    }
}

/// What answers.
pub struct Engine {
    /// Works on the requests.
    pub scheduler: Scheduler,
    /// The experts that it knows, and how one is chosen.
    pub experts: Experts,
    /// Tokens of context of each request.
    pub n_ctx: usize,
}

/// Everything, once the model is loaded.
pub struct State {
    pub settings: Arc<Settings>,
    pub scheduler: Scheduler,
    pub experts: Experts,
    pub metrics: Metrics,
    pub running: Running,
    pub n_ctx: usize,
    /// Id of the base model.
    pub alias: String,
    pub started: u64,
    n_ids: AtomicU64,
    seed: u64,
}

impl State {
    pub fn new(settings: Arc<Settings>, engine: Engine) -> Self {
        let Engine { scheduler, experts, n_ctx } = engine;
        let path = scheduler.model().file().path().to_path_buf();
        let started = now();
        Self {
            alias: settings.aliases.first().cloned().unwrap_or_else(|| file_name(path)),
            metrics: Metrics::new(),
            running: Running::default(),
            n_ids: AtomicU64::new(0),
            seed: random(),
            n_ctx: n_ctx.min(scheduler.n_ctx_seq()),
            scheduler,
            experts,
            settings,
            started,
        }
    }

    pub fn model(&self) -> &Arc<Model> {
        self.scheduler.model()
    }

    /// A name that no other answer has, beginning with `prefix`.
    pub fn id(&self, prefix: &str) -> String {
        let n = self.n_ids.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::hash(&[self.seed.to_le_bytes(), n.to_le_bytes()].concat()).to_hex();
        format!("{prefix}{}", &hash[..32])
    }

    /// A new seed.
    pub fn random_seed(&self) -> u32 {
        let n = self.n_ids.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::hash(&[n.to_le_bytes(), self.seed.to_le_bytes()].concat());
        let bytes = hash.as_bytes();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// The standard library seeds its hash maps from the system's random source.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

fn file_name(path: PathBuf) -> String {
    path.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
}

/// Does work that would hold up others, in a thread for such work.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> ApiResult<T> + Send + 'static) -> ApiResult<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(ApiError::internal(format!("the work was not done: {error}"))))
}
