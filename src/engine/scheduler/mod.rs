//! Requests with mixtures go in, events come out, one batch serves all: the only code that decodes and samples.
//!
//! ```text
//! Request ──► Inbox ──► Worker, one thread for each Session ──► Event, at the Ticket
//!                       ├─ slots    which slot holds which mixture
//!                       ├─ cache    what sequences have read, for whom it serves
//!                       ├─ plan     which tokens are decoded next
//!                       └─ running  a request at work: sampler, stream
//! ```
//!
//! *Continuous batching*: each decode holds the next token of every completion and as much of new prompts as there is
//! room for; a sequence whose request ends takes the next one at once. A request begins only when the KV cache has room
//! for all that it may write, so that none fails half-way.
//!
//! *What was read is not read again*: the longest beginning that a sequence has read with the same mixture is used, also
//! while it is at work. Of requests with one prompt the first reads it, and the others take its memory and its logits.
//!
//! *Each for itself*: what is wrong with a request ends that request. A decode that fails is tried again without the
//! newest request before any other is ended.
//!
//! What a request becomes depends on the request alone, up to rounding: llama.cpp adds in another order in batches of
//! another shape, which can turn the choice between two tokens whose logits are equal but for that.

mod cache;
mod inbox;
mod plan;
mod request;
mod running;
mod slots;
mod stream;
mod ticket;
mod worker;

use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{channel, RecvTimeoutError};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use inbox::{Inbox, Job, Sink};
use request::Limits;
use worker::Worker;

#[cfg(test)]
pub(crate) use cache::PLANTED;
pub use inbox::{Load, Progress};
pub use request::{Generate, Pool, Probe, Request, Work};
pub use ticket::{Completion, Ended, Event, Handle, Outcome, Piece, Pooled, Reading, Scores, Ticket, Usage};

use crate::engine::{Lora, Model, Placement, Session, SessionOptions};
use crate::error::{Error, Result};
use crate::expert::{Expert, ExpertSet, Mixture, ResolvedMixture};
use crate::progress::Interrupt;

/// Requests that may wait for room where nobody says otherwise.
pub const QUEUE: usize = 1024;

/// Works on requests with one or more sessions, each in a thread of its own.
pub struct Scheduler {
    inbox: Arc<Inbox>,
    limits: Limits,
    /// `None` for the base model alone.
    experts: Option<RwLock<ExpertSet>>,
    placements: Vec<Placement>,
    n_submitted: AtomicU64,
    threads: Vec<JoinHandle<()>>,
}

impl Scheduler {
    /// Runs the base model of `model`, with `n_sessions` sessions.
    ///
    /// # Errors
    /// Those of [`Session::new`].
    pub fn base(model: &Arc<Model>, n_sessions: u32, options: &SessionOptions) -> Result<Self> {
        Self::with_loras(model, n_sessions, options, &[])
    }

    /// The same with llama.cpp's own LoRA adapters, with their scales, applied to all requests.
    ///
    /// # Errors
    /// Those of [`Session::new`] and of [`Session::set_loras`].
    pub fn with_loras(
        model: &Arc<Model>,
        n_sessions: u32,
        options: &SessionOptions,
        loras: &[(Arc<Lora>, f32)],
    ) -> Result<Self> {
        let session = |_| {
            let mut session = Session::new(model, options)?;
            session.set_loras(loras)?;
            Ok(session)
        };
        Self::new((0..n_sessions).map(session).collect::<Result<_>>()?, QUEUE)
    }

    /// Takes over `sessions`, which must be alike, with the experts that the first one has. At most `queue` requests wait.
    ///
    /// How many sessions are best depends on the model. Of a large one most time goes into reading weights, so
    /// one session with all threads is best. In a small one threads wait for each other after each of a graph's
    /// many short steps; a session of one thread on each core avoids that (see [`sessions_for`]).
    ///
    /// # Errors
    /// No sessions.
    pub fn new(sessions: Vec<Session>, queue: usize) -> Result<Self> {
        Self::keeping(sessions, queue, 0)
    }

    /// The same, and the last `n_kept` sequences of each session are for requests that are [to be kept](Request::is_kept):
    /// what these have read stays while others come and go.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn keeping(sessions: Vec<Session>, queue: usize, n_kept: u32) -> Result<Self> {
        let first = sessions.first().ok_or_else(|| Error::expected("1 session or more", 0))?;
        let limits = Limits::new(first);
        let placements = first.placements();
        let experts = first.experts().ok().cloned().map(RwLock::new);
        let inbox = Arc::new(Inbox::new(sessions.len(), queue));
        let start = |(number, session): (usize, Session)| {
            let inbox = Arc::clone(&inbox);
            let work = move || {
                let worker = Worker::new(session, number, Arc::clone(&inbox), n_kept);
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| worker.run())) {
                    // Nobody may wait for this thread any more.
                    inbox.close();
                    resume_unwind(panic);
                }
            };
            std::thread::Builder::new()
                .name(format!("scheduler {number}"))
                .spawn(work)
                .map_err(|error| Error::engine(format!("cannot start a thread: {error}")))
        };
        let threads = sessions.into_iter().enumerate().map(start).collect::<Result<_>>();
        if threads.is_err() {
            inbox.close();
        }
        Ok(Self { inbox, limits, experts, placements, n_submitted: AtomicU64::new(0), threads: threads? })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.limits.model
    }

    /// Most tokens that a sequence can hold.
    pub fn n_ctx_seq(&self) -> usize {
        self.limits.n_ctx_seq
    }

    /// The experts as they are now.
    ///
    /// # Errors
    /// There is no sidecar.
    pub fn experts(&self) -> Result<ExpertSet> {
        let experts = self.experts.as_ref().ok_or_else(no_sidecar)?;
        Ok(experts.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Changes the experts. Requests that were submitted before keep those that they began with.
    ///
    /// # Errors
    /// There is no sidecar, or those of `change`; then nothing changes.
    pub fn change_experts<T>(&self, change: impl FnOnce(&mut ExpertSet) -> Result<T>) -> Result<T> {
        let experts = self.experts.as_ref().ok_or_else(no_sidecar)?;
        let mut experts = experts.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = experts.clone();
        let result = change(&mut changed)?;
        *experts = changed;
        Ok(result)
    }

    /// Loads `expert`, in the place of one of the same name.
    ///
    /// # Errors
    /// There is no sidecar, or the expert does not fit it.
    pub fn replace_expert(&self, expert: Expert) -> Result<()> {
        self.change_experts(|experts| experts.replace(expert).map(drop))
    }

    /// Where the adapted layers run, and how; nothing without a sidecar.
    pub fn placements(&self) -> &[Placement] {
        &self.placements
    }

    /// Whether `request` can be.
    ///
    /// # Errors
    /// Those of [`Self::submit`], but for requests that wait.
    pub fn check(&self, request: &Request) -> Result<()> {
        request.check(&self.limits)?;
        self.resolve(&request.mixture).map(drop)
    }

    /// Begins `request` as soon as there is room.
    ///
    /// # Errors
    /// A request that cannot be: an empty prompt, an unknown expert, a value out of range, more tokens than the context of
    /// a sequence holds; or too many requests that wait.
    pub fn submit(&self, request: Request) -> Result<Ticket> {
        let (sender, events) = channel();
        // A ticket that went away has cancelled the request.
        let handle = self.submit_to(request, move |event| drop(sender.send(event)))?;
        Ok(Ticket { events, handle, is_over: false })
    }

    /// The same, but events go to `deliver`, in the thread that works on the request: it must not wait for anything. It is
    /// dropped after the last one.
    ///
    /// # Errors
    /// Those of [`Self::submit`].
    pub fn submit_to(
        &self,
        request: Request,
        deliver: impl FnMut(Result<Event>) + Send + 'static,
    ) -> Result<Handle> {
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let mut job = self.job(request, Sink::Each(Box::new(deliver)), Arc::clone(&is_cancelled))?;
        job.is_bounded = true;
        let id = job.id;
        self.inbox.push(job)?;
        Ok(Handle { id, is_cancelled, inbox: Arc::clone(&self.inbox) })
    }

    /// Works on all `requests` and returns when all have ended. `done` gets the number of each and what it became, in the
    /// order in which they end; meanwhile the others go on. Which ones share a batch depends on their numbers alone, and
    /// nothing that was read before is used, so that equal calls have equal results as long as nobody else submits.
    ///
    /// # Errors
    /// A request that cannot be (then nothing runs), the first that fails, an error of `done`, or an interrupt; the
    /// others are then ended.
    pub fn complete(
        &self,
        requests: Vec<Request>,
        interrupt: &Interrupt,
        mut done: impl FnMut(usize, Outcome) -> Result<()>,
    ) -> Result<()> {
        let n = requests.len();
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let (sender, results) = channel();
        let job = |(i, request): (usize, Request)| {
            let sink = Sink::Many(i, sender.clone());
            let mut job = self
                .job(request, sink, Arc::clone(&is_cancelled))
                .map_err(|error| error.field(format!("request {i}")))?;
            // Each thread gets one of these first.
            job.is_fresh = i < self.threads.len();
            Ok(job)
        };
        let jobs = requests.into_iter().enumerate().map(job).collect::<Result<Vec<_>>>()?;
        drop(sender);
        self.inbox.push_all(jobs);
        let mut result = Ok(());
        let mut n_ended = 0;
        while n_ended < n {
            if result.is_ok() {
                result = interrupt.check();
            }
            if result.is_err() && !is_cancelled.swap(true, Ordering::Relaxed) {
                self.inbox.wake();
            }
            match results.recv_timeout(POLL) {
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => {
                    return result.and(Err(Error::engine("the scheduler was shut down")));
                }
                Ok((i, outcome)) => {
                    n_ended += 1;
                    if result.is_ok() {
                        result = outcome.and_then(|outcome| done(i, outcome));
                    }
                }
            }
        }
        result
    }

    /// How much is at work.
    pub fn load(&self) -> Load {
        self.inbox.load()
    }

    /// What each sequence does; `None` for nothing.
    pub fn sequences(&self) -> Vec<Option<Progress>> {
        self.inbox.sequences()
    }

    fn job(&self, request: Request, sink: Sink, is_cancelled: Arc<AtomicBool>) -> Result<Job> {
        let sampler = request.check(&self.limits)?;
        let mixture = Arc::new(self.resolve(&request.mixture)?);
        Ok(Job {
            id: self.n_submitted.fetch_add(1, Ordering::Relaxed),
            request,
            mixture,
            sampler,
            sink,
            is_cancelled,
            arrived: Instant::now(),
            is_bounded: false,
            is_fresh: false,
        })
    }

    fn resolve(&self, mixture: &Mixture) -> Result<ResolvedMixture> {
        match &self.experts {
            Some(experts) => experts.read().unwrap_or_else(PoisonError::into_inner).resolve(mixture),
            None if mixture.weights().next().is_none() => Ok(ResolvedMixture::base()),
            None => Err(no_sidecar()),
        }
    }
}

/// How long an interrupt may go unnoticed.
const POLL: Duration = Duration::from_millis(20);

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.inbox.close();
        for thread in self.threads.drain(..) {
            // What a thread panicked with was reported where it did.
            let _ = thread.join();
        }
    }
}

fn no_sidecar() -> Error {
    Error::invalid("this model runs without adapted layers").hint("load a sidecar")
}

/// Size of a model file up to which one session per thread is taken: such weights stay in the caches, so that
/// reading them once per session costs little. Measured at 3 MB only.
const SMALL_MODEL_BYTES: usize = 16 << 20;

/// How many sessions, and with which options each, serve a scheduler best with `n_seq` sequences of
/// `n_ctx_seq` tokens and `n_threads` threads over all sessions.
pub fn sessions_for(model: &Model, n_seq: u32, n_ctx_seq: u32, n_threads: u32) -> (u32, SessionOptions) {
    let is_small = model.file().mmap().len() <= SMALL_MODEL_BYTES;
    let n_sessions = if is_small { n_threads.min(n_seq).max(1) } else { 1 };
    let n_seq = n_seq.div_ceil(n_sessions);
    let options = SessionOptions {
        n_ctx: n_seq.saturating_mul(n_ctx_seq),
        n_threads: n_threads / n_sessions,
        n_seq,
        kv_unified: false,
        ..SessionOptions::default()
    };
    (n_sessions, options)
}
