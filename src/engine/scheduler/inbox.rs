//! Where requests wait for the threads that work on them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use super::request::Request;
use super::ticket::{Event, Outcome};
use crate::engine::sampler::Sampler;
use crate::error::{Error, Result};
use crate::expert::ResolvedMixture;

/// A request on its way.
pub(super) struct Job {
    /// Its number among all that were submitted.
    pub id: u64,
    pub request: Request,
    pub mixture: Arc<ResolvedMixture>,
    /// Of a request to generate.
    pub sampler: Option<Sampler>,
    pub sink: Sink,
    pub is_cancelled: Arc<AtomicBool>,
    pub arrived: Instant,
    /// Whether it counts against the bound of the queue.
    pub is_bounded: bool,
    /// Whether it begins with empty caches: the first of requests whose results must not depend on those before.
    pub is_fresh: bool,
}

/// Where the events of a request go.
pub(super) enum Sink {
    /// All of them, to whoever submitted it.
    Each(Box<dyn FnMut(Result<Event>) + Send>),
    /// The last one, to whoever has many: with the number of the request.
    Many(usize, Sender<(usize, Result<Outcome>)>),
}

impl Sink {
    pub fn event(&mut self, event: impl FnOnce() -> Event) {
        if let Self::Each(deliver) = self {
            deliver(Ok(event()));
        }
    }

    pub fn end(self, outcome: Result<Outcome>) {
        match self {
            Self::Each(mut deliver) => deliver(outcome.map(Event::Done)),
            // A receiver that went away has no use for it.
            Self::Many(index, sender) => drop(sender.send((index, outcome))),
        }
    }
}

impl Job {
    /// Why it must not go on, if it must not.
    pub fn is_over(&self, now: Instant) -> Option<Over> {
        if self.is_cancelled.load(Ordering::Relaxed) {
            return Some(Over::Cancelled);
        }
        self.request.deadline.is_some_and(|deadline| now >= deadline).then_some(Over::Late)
    }
}

/// Why a request ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Cancelled,
    Late,
}

/// A request that has a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Its number; see [`super::Handle::id`].
    pub id: u64,
    /// Tokens of its prompt.
    pub n_prompt: usize,
    /// Of these, tokens that were known already.
    pub n_cached: usize,
    /// Tokens of the prompt that are known now.
    pub n_read: usize,
    /// Tokens that were written.
    pub n_written: usize,
}

/// How much is at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that wait for room.
    pub n_waiting: usize,
    /// Requests that are read or written.
    pub n_running: usize,
    /// Slots of mixtures that running requests use.
    pub n_slots: usize,
    /// Cells of KV cache that running requests may fill.
    pub n_cells: usize,
    /// Tokens that were read or written, since the beginning.
    pub n_computed: usize,
    /// Tokens that were not, because they were known.
    pub n_cached: usize,
    /// Calls of llama.cpp, since the beginning.
    pub n_decodes: usize,
    /// Sequences at work in these, all together.
    pub n_busy: usize,
}

/// What the threads share.
pub(super) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
    /// Most requests that wait.
    bound: usize,
}

struct State {
    queues: Vec<VecDeque<Job>>,
    loads: Vec<Load>,
    /// What the sequences do, by thread.
    sequences: Vec<Vec<Option<Progress>>>,
    /// Requests that count against the bound.
    n_bounded: usize,
    /// Whether someone may have been cancelled since a thread looked last, by thread.
    is_woken: Vec<bool>,
    is_closed: bool,
}

impl Inbox {
    pub fn new(n_workers: usize, bound: usize) -> Self {
        let state = State {
            queues: (0..n_workers).map(|_| VecDeque::new()).collect(),
            loads: vec![Load::default(); n_workers],
            sequences: vec![Vec::new(); n_workers],
            n_bounded: 0,
            is_woken: vec![false; n_workers],
            is_closed: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), bound }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Gives `job` to the thread with the least to do.
    pub fn push(&self, job: Job) -> Result<()> {
        let mut state = self.lock();
        if state.n_bounded >= self.bound {
            return Err(Error::full(format!("{} requests wait already", self.bound)).hint("try again later"));
        }
        state.n_bounded += 1;
        let busy = |i: &usize| state.queues[*i].len() + state.loads[*i].n_waiting + state.loads[*i].n_running;
        let worker = (0..state.queues.len()).min_by_key(busy).unwrap_or(0);
        state.queues[worker].push_back(job);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Gives all `jobs` to the threads in turn, at once, so that which ones share a batch depends on nothing else.
    pub fn push_all(&self, jobs: Vec<Job>) {
        let mut state = self.lock();
        let n = state.queues.len();
        for (i, job) in jobs.into_iter().enumerate() {
            state.queues[i % n].push_back(job);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Lets the threads look whether requests were cancelled.
    pub fn wake(&self) {
        self.lock().is_woken.fill(true);
        self.changed.notify_all();
    }

    /// What arrived for thread `worker`, whose load is `load` and whose sequences do `sequences`. If it has nothing else to
    /// do, waits for something; `None` when nothing comes any more.
    pub fn take(&self, worker: usize, load: Load, sequences: Vec<Option<Progress>>) -> Option<VecDeque<Job>> {
        self.tell(worker, load, sequences);
        let mut state = self.lock();
        let is_idle = load.n_running == 0 && load.n_waiting == 0;
        loop {
            if state.is_closed {
                return None;
            }
            let arrived = std::mem::take(&mut state.queues[worker]);
            let is_woken = std::mem::take(&mut state.is_woken[worker]);
            if !arrived.is_empty() || !is_idle || is_woken {
                // They count as waiting until the thread says otherwise.
                state.loads[worker].n_waiting += arrived.len();
                return Some(arrived);
            }
            state = self.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// The load of thread `worker` is `load` now, and its sequences do `sequences`.
    pub fn tell(&self, worker: usize, load: Load, sequences: Vec<Option<Progress>>) {
        let mut state = self.lock();
        state.loads[worker] = load;
        state.sequences[worker] = sequences;
    }

    /// A request left the queue.
    pub fn left(&self, job: &Job) {
        if job.is_bounded {
            self.lock().n_bounded -= 1;
        }
    }

    /// All requests and their use.
    pub fn load(&self) -> Load {
        let state = self.lock();
        let mut sum = Load { n_waiting: state.queues.iter().map(VecDeque::len).sum(), ..Load::default() };
        for load in &state.loads {
            sum.n_waiting += load.n_waiting;
            sum.n_running += load.n_running;
            sum.n_slots += load.n_slots;
            sum.n_cells += load.n_cells;
            sum.n_computed += load.n_computed;
            sum.n_cached += load.n_cached;
            sum.n_decodes += load.n_decodes;
            sum.n_busy += load.n_busy;
        }
        sum
    }

    /// What each sequence does; `None` for nothing.
    pub fn sequences(&self) -> Vec<Option<Progress>> {
        self.lock().sequences.concat()
    }

    /// Ends the threads.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }
}
