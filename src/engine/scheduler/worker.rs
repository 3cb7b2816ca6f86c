//! The loop of one session: take in what arrives, give requests to free sequences, decode, hand out what came of it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::cache::{self, Held, Key, Place, Source};
use super::inbox::{Inbox, Job, Load, Progress};
use super::plan::{plan, Need};
use super::request::Pool;
use super::running::{stop_waiting, Running};
use super::slots::{Found, Slots, Use};
use super::ticket::Ended;
use crate::engine::{Input, Session};
use crate::error::{Error, Result};
use crate::expert::Contents;

/// So many tokens less to read are worth a decode's time of waiting for another to read them.
const MIN_WAIT: usize = 16;

/// A session at work.
pub(super) struct Worker {
    session: Session,
    number: usize,
    inbox: Arc<Inbox>,
    seats: Vec<Seat>,
    slots: Slots,
    waiting: VecDeque<Job>,
    n_admitted: u64,
    n_computed: usize,
    n_cached: usize,
    n_decodes: usize,
    n_busy: usize,
    /// Whether the last decode failed.
    has_failed: bool,
    /// Requests that ended.
    n_left: u64,
    /// Sequences that any request may take; the others are for those that are to be kept.
    n_open: usize,
    /// Beginnings shorter than this are read rather than copied.
    min_copied: usize,
    /// Whether all sequences share one memory.
    is_shared: bool,
    /// Whether a sequence is moved in less time than a graph of its own takes.
    is_moving_cheap: bool,
}

/// One sequence of the session.
enum Seat {
    /// Nobody works here; what was read is still there.
    Free(Option<Held>),
    Busy(Box<Running>),
    /// Its memory holds what is no number, which must not come near anything else.
    Spoilt,
}

impl Worker {
    /// Thread `number` of those that share `inbox`, with `n_kept` sequences for requests that are to be kept.
    pub fn new(session: Session, number: usize, inbox: Arc<Inbox>, n_kept: u32) -> Self {
        // Every sequence needs room for a token in each decode.
        let n_seats = session.n_seq().min(session.n_batch());
        let Copying { min_copied, is_moving_cheap } = Copying::of(&session);
        Self {
            seats: (0..n_seats).map(|_| Seat::Free(None)).collect(),
            n_open: n_seats.saturating_sub(n_kept).max(1) as usize,
            slots: Slots::new(session.n_slots() as usize),
            min_copied,
            is_moving_cheap,
            is_shared: is_shared(&session),
            session,
            number,
            inbox,
            waiting: VecDeque::new(),
            n_admitted: 0,
            n_computed: 0,
            n_cached: 0,
            n_decodes: 0,
            n_busy: 0,
            n_left: 0,
            has_failed: false,
        }
    }

    /// Works until the inbox is closed.
    pub fn run(mut self) {
        while let Some(arrived) = self.inbox.take(self.number, self.load(), self.sequences()) {
            self.waiting.extend(arrived);
            self.expire();
            self.admit();
            self.settle();
            self.compact();
            self.step();
        }
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Running)> {
        self.seats.iter().enumerate().filter_map(|(seat, place)| match place {
            Seat::Busy(running) => Some((seat, &**running)),
            _ => None,
        })
    }

    fn at(&mut self, seat: usize) -> Option<&mut Running> {
        match &mut self.seats[seat] {
            Seat::Busy(running) => Some(running),
            _ => None,
        }
    }

    fn load(&self) -> Load {
        let contents = self.running().map(|(_, running)| running.key().contents);
        let contents: HashSet<_> = contents.filter(|&it| it != Contents::BASE).collect();
        Load {
            n_waiting: self.waiting.len(),
            n_running: self.running().count(),
            n_slots: contents.len(),
            n_cells: self.n_reserved(),
            n_computed: self.n_computed,
            n_cached: self.n_cached,
            n_decodes: self.n_decodes,
            n_busy: self.n_busy,
        }
    }

    fn sequences(&self) -> Vec<Option<Progress>> {
        let of_seat = |seat: &Seat| match seat {
            Seat::Busy(running) => Some(running.progress()),
            _ => None,
        };
        self.seats.iter().map(of_seat).collect()
    }

    fn n_reserved(&self) -> usize {
        let n_ctx = self.session.n_ctx_seq() as usize;
        self.running().map(|(_, running)| running.job.request.n_cells(n_ctx)).sum()
    }

    /// Ends what was cancelled or is late.
    fn expire(&mut self) {
        let now = Instant::now();
        if self.waiting.iter().any(|job| job.is_over(now).is_some()) {
            for job in std::mem::take(&mut self.waiting) {
                match job.is_over(now) {
                    Some(over) => {
                        self.inbox.left(&job);
                        stop_waiting(job, over);
                    }
                    None => self.waiting.push_back(job),
                }
            }
        }
        for seat in 0..self.seats.len() {
            let Some(running) = self.at(seat) else { continue };
            let Some(over) = running.job.is_over(now) else { continue };
            // Of an expert that computes NaN nobody knows before the first logits.
            let is_unknown =
                running.is_at_prompt() && running.n_past > 0 && running.key().contents != Contents::BASE;
            if let Some(running) = self.leave(seat) {
                running.stop(over);
            }
            if is_unknown && !self.is_shared {
                self.clear(seat);
                self.seats[seat] = Seat::Spoilt;
                self.heal();
            }
        }
    }

    /// Gives waiting requests to free sequences, in the order of their arrival, as far as there is room.
    fn admit(&mut self) {
        if self.running().next().is_none() && self.seats.iter().any(|seat| matches!(seat, Seat::Spoilt)) {
            self.wipe();
        }
        while let Some(mut job) = self.waiting.pop_front() {
            if std::mem::take(&mut job.is_fresh) && self.running().next().is_none() {
                self.forget_all();
            }
            let Some((seat, slot)) = self.room_for(&job) else {
                self.waiting.push_front(job);
                return;
            };
            self.inbox.left(&job);
            self.seat(job, seat, slot);
        }
    }

    /// A sequence and a slot for `job`, and room in the KV cache for all that it may write.
    fn room_for(&mut self, job: &Job) -> Option<(usize, Found)> {
        let key = Key { contents: job.mixture.contents(), scope: job.request.scope };
        let prompt = &job.request.prompt;
        let source = cache::known(places(&self.seats), key, prompt, job.request.n_reusable(), None);
        let seat = cache::seat_for(places(&self.seats), source, self.n_open, job.request.is_kept)?;
        // What the sequence holds of another mixture is forgotten anyway.
        let used_by = |contents| use_of(&self.seats, contents, seat);
        let slot = self.slots.find(key.contents, used_by)?;
        let n_ctx = self.session.n_ctx() as usize;
        let wanted = self.n_reserved() + job.request.n_cells(self.session.n_ctx_seq() as usize);
        if wanted > n_ctx {
            return None;
        }
        if let Found::Idle(slot) = slot {
            let old = self.slots.contents(slot);
            self.forget(|held| Some(held.key.contents) == old);
        }
        let seat = self.beside(seat, source);
        // What is only remembered makes room, what was used longest ago first.
        while wanted + self.n_remembered(seat) > n_ctx {
            let oldest = (0..self.seats.len())
                .filter(|&other| other != seat)
                .filter_map(|other| self.held(other).map(|held| (other >= self.n_open, held.used, other)))
                .min()?;
            self.clear(oldest.2);
        }
        Some((seat, slot))
    }

    /// A free sequence among those at work or next to them, in the place of `seat`: llama.cpp computes neighbours together.
    /// What it remembers moves to `seat`, if that is worth it; else `seat` itself.
    fn beside(&mut self, seat: usize, source: Option<Source>) -> usize {
        let is_source = source.is_some_and(|source| source.seat == seat);
        if !self.is_moving_cheap || is_source || seat >= self.n_open {
            return seat;
        }
        let at_work: Vec<_> = self.running().map(|(seat, _)| seat).filter(|&it| it < self.n_open).collect();
        let (Some(&first), Some(&last)) = (at_work.first(), at_work.last()) else { return seat };
        let mut near = (first..=last).chain([last + 1]).chain(first.checked_sub(1));
        let place = near.find(|&it| it < self.n_open && matches!(self.seats[it], Seat::Free(_)));
        let Some(place) = place.filter(|&place| place != seat) else { return seat };
        // What `seat` remembers had to go in any case.
        self.clear(seat);
        if let Some(held) = self.held(place).filter(|held| !held.is_disposable).cloned() {
            let n = held.tokens.len();
            match self.copy(place, seat, n) {
                Ok(n_copied) if n_copied == n => self.seats[seat] = Seat::Free(Some(held)),
                _ => self.clear(seat),
            }
        }
        self.clear(place);
        place
    }

    fn held(&self, seat: usize) -> Option<&Held> {
        match &self.seats[seat] {
            Seat::Free(held) => held.as_ref(),
            _ => None,
        }
    }

    /// Tokens that free sequences other than `seat` hold.
    fn n_remembered(&self, seat: usize) -> usize {
        let others = (0..self.seats.len()).filter(|&other| other != seat);
        others.filter_map(|other| self.held(other)).map(|held| held.tokens.len()).sum()
    }

    fn forget_all(&mut self) {
        self.forget(|_| true);
    }

    fn forget(&mut self, which: impl Fn(&Held) -> bool) {
        for seat in 0..self.seats.len() {
            if self.held(seat).is_some_and(&which) {
                self.clear(seat);
            }
        }
    }

    /// Empties a free sequence. One that cannot be emptied is not used until all are.
    fn clear(&mut self, seat: usize) {
        self.seats[seat] = match self.session.clear(seat as u32) {
            Ok(()) => Seat::Free(None),
            Err(_) => Seat::Spoilt,
        };
    }

    /// Puts `job` into the free sequence `seat`, with its mixture in `slot`; if that fails, the job has failed.
    fn seat(&mut self, job: Job, seat: usize, slot: Found) {
        let mut running = Running::new(job, self.n_admitted);
        let limit = running.job.request.n_reusable();
        let own = std::iter::once(Place::Free(self.held(seat)));
        let kept =
            cache::known(own, running.key(), running.prompt(), limit, None).map_or(0, |source| source.n);
        let begun = self.begin(seat, kept, slot, &running);
        match begun {
            Ok(n_past) => {
                running.n_past = n_past;
                running.n_cached = n_past;
                self.n_admitted += 1;
                self.seats[seat] = Seat::Busy(Box::new(running));
            }
            Err(error) => {
                self.clear(seat);
                running.job.sink.end(Err(error));
            }
        }
    }

    /// Leaves the first `kept` tokens in sequence `seat` and gives it its mixture; how many could be left.
    fn begin(&mut self, seat: usize, kept: usize, slot: Found, running: &Running) -> Result<usize> {
        let seq = seat as u32;
        let n_past = self.session.truncate(seq, kept as u32)?;
        let contents = running.key().contents;
        let slot = match slot {
            Found::There(slot) => slot,
            Found::Free(slot) | Found::Idle(slot) => {
                // Should the mixture not be one, the slot holds nothing that is known.
                self.slots.take(slot, None);
                self.session.write(slot, &running.job.mixture)?;
                slot
            }
        };
        self.slots.take(slot, Some(contents));
        self.session.assign(seq, slot)?;
        if let Some(Pool { layer, tokens }) = running.pool() {
            self.session.pool(seq, *layer, tokens.start as u32..tokens.end as u32)?;
        }
        Ok(n_past as usize)
    }

    /// Lets new requests begin, with what others have read of the same, unless these are about to read more of it.
    fn settle(&mut self) {
        let mut new: Vec<_> = self
            .running()
            .filter(|(_, running)| running.is_new)
            .map(|(seat, running)| (running.order, seat))
            .collect();
        new.sort_unstable();
        for (order, seat) in new {
            let Some((_, running)) = self.running().find(|(other, _)| *other == seat) else { continue };
            let (key, limit, n_past) = (running.key(), running.job.request.n_reusable(), running.n_past);
            let prompt = running.prompt();
            let source = cache::known(places(&self.seats), key, prompt, limit, Some(seat))
                .filter(|source| source.n >= (n_past + 1).max(self.min_copied));
            let promised = cache::promised(places(&self.seats), key, prompt, limit, order);
            let n_known = source.map_or(n_past, |source| source.n);
            if promised >= (n_known + MIN_WAIT).max(self.min_copied) {
                continue;
            }
            let mut begun = Ok(n_past);
            if let Some(source) = source {
                begun = self.copy(source.seat, seat, source.n);
            }
            match (begun, self.at(seat)) {
                (Ok(n_past), Some(running)) => {
                    running.n_past = n_past;
                    running.n_cached = n_past;
                    running.is_new = false;
                    running.tell();
                }
                (Err(error), _) => self.fail(seat, error),
                (Ok(_), None) => {}
            }
        }
    }

    /// Gives sequence `to` the first `n` tokens of sequence `from`; how many it has then.
    fn copy(&mut self, from: usize, to: usize, n: usize) -> Result<usize> {
        self.session.clear(to as u32)?;
        self.session.copy(from as u32, to as u32)?;
        Ok(self.session.truncate(to as u32, n as u32)? as usize)
    }

    /// Moves requests into free sequences before them: llama.cpp computes neighbours together, and others in graphs of
    /// their own. Only where nobody waits for these sequences, and what they hold serves nobody later. What is being averaged
    /// belongs to a sequence: such requests stay.
    fn compact(&mut self) {
        if !self.is_moving_cheap || !self.waiting.is_empty() {
            return;
        }
        loop {
            let is_hole = |seat: &Seat| match seat {
                Seat::Free(held) => held.as_ref().is_none_or(|held| held.is_disposable),
                _ => false,
            };
            let hole = self.seats.iter().position(is_hole);
            let is_moved = |running: &Running| !running.is_new && running.pool().is_none();
            let last = self.running().filter(|(_, running)| is_moved(running)).map(|(seat, _)| seat).last();
            let (Some(hole), Some(last)) = (hole, last) else { return };
            if hole > last {
                return;
            }
            let n_past = self.at(last).map_or(0, |running| running.n_past);
            match self.copy(last, hole, n_past) {
                Ok(n) => {
                    self.seats.swap(hole, last);
                    self.clear(last);
                    if let Some(running) = self.at(hole) {
                        running.n_past = n;
                    }
                }
                Err(error) => return self.fail(last, error),
            }
        }
    }

    /// One decode.
    fn step(&mut self) {
        let need = |(seat, running): (usize, &Running)| Need {
            seat,
            n_unread: running.n_unread(),
            writes: running.writes(),
            order: running.order,
        };
        let ready = |(_, running): &(usize, &Running)| !running.is_new;
        let mut needs: Vec<_> =
            self.running().filter(ready).filter(|(_, it)| !it.is_suspect).map(need).collect();
        let suspect = self.running().find(|(_, running)| running.is_suspect).map(need);
        if let Some(suspect) = suspect.filter(|_| !self.has_failed || needs.is_empty()) {
            needs = vec![suspect];
        }
        let (n_batch, n_ubatch) = (self.session.n_batch() as usize, self.session.n_ubatch() as usize);
        let chosen = plan(&needs, n_batch, n_ubatch);
        if chosen.is_empty() {
            return;
        }
        let mut inputs = Vec::new();
        let mut outputs = Vec::new();
        // Tokens that each sequence has in the batch already.
        let mut taken = vec![0; self.seats.len()];
        for &(seat, n) in &chosen {
            let Seat::Busy(running) = &self.seats[seat] else { continue };
            for (token, output) in running.next(taken[seat], n) {
                inputs.push(Input { seq: seat as u32, token, output });
                if output {
                    outputs.push(seat);
                }
            }
            taken[seat] += n;
        }
        let chosen: Vec<_> = (0..taken.len()).filter(|&seat| taken[seat] > 0).collect();
        let result = self.session.decode(&inputs);
        self.has_failed = result.is_err();
        for &seat in &chosen {
            // After a failure it may be less than before.
            let n_past = self.session.n_past(seat as u32).unwrap_or(0) as usize;
            if let Some(running) = self.at(seat) {
                running.n_past = n_past;
                running.is_suspect &= result.is_err() || running.n_unread() > 0;
                running.tell();
            }
        }
        match result {
            Ok(()) => {
                self.n_computed += inputs.len();
                self.n_decodes += 1;
                self.n_busy += chosen.len();
                if !self.is_contaminated(&chosen, &outputs) {
                    self.deliver(&outputs);
                }
            }
            Err(error) => self.suspect(&chosen, error),
        }
    }

    /// After a failed decode of `chosen`: the newest of them is suspected, and ended where it was alone.
    fn suspect(&mut self, chosen: &[usize], error: Error) {
        if let [seat] = *chosen {
            self.fail(seat, error);
            return;
        }
        let newest = self
            .running()
            .filter(|(seat, _)| chosen.contains(seat))
            .max_by_key(|(_, running)| running.order)
            .map(|(seat, _)| seat);
        if let Some(running) = newest.and_then(|seat| self.at(seat)) {
            running.is_suspect = true;
        }
    }

    /// Whether the decode of `chosen` left what is no number in memory that all sequences share: attention looks at the
    /// memory of others too, if with a weight of 0. It is then wiped, and all begin to read again, those who are perhaps to
    /// blame each alone.
    fn is_contaminated(&mut self, chosen: &[usize], outputs: &[usize]) -> bool {
        if !self.is_shared || chosen.len() < 2 {
            return false;
        }
        let spoilt = |&(i, _): &(usize, &usize)| has_nan(self.session.logits(i));
        let spoilt: Vec<_> = outputs.iter().enumerate().filter(spoilt).map(|(_, &seat)| seat).collect();
        if spoilt.is_empty() {
            return false;
        }
        self.wipe();
        for seat in spoilt {
            if let Some(running) = self.at(seat) {
                running.is_suspect = true;
            }
        }
        true
    }

    /// Forgets everything, also what requests at work have read: they read it again.
    fn wipe(&mut self) {
        self.session.reset();
        for seat in &mut self.seats {
            match seat {
                Seat::Busy(running) => running.n_past = 0,
                _ => *seat = Seat::Free(None),
            }
        }
    }

    /// Hands the logits of the last decode to the sequences `outputs`, in their order.
    fn deliver(&mut self, outputs: &[usize]) {
        for (i, &seat) in outputs.iter().enumerate() {
            let followers = self.followers(seat);
            if !followers.is_empty() {
                let logits = self.session.logits(i).to_vec();
                followers.into_iter().for_each(|follower| self.share(seat, follower, &logits));
            }
            let Seat::Busy(running) = &mut self.seats[seat] else { continue };
            let result = match running.pool() {
                Some(pool) => take_mean(pool.layer, seat, running, &self.session),
                None => take(running, self.session.logits(i), &self.session),
            };
            self.end(seat, result);
        }
        self.heal();
    }

    /// Overwrites the memory of spoilt sequences with that of one that is known to hold numbers, as far as there is one.
    fn heal(&mut self) {
        if self.is_shared {
            return;
        }
        let is_sound = |seat: &Seat| match seat {
            Seat::Free(_) => true,
            // Whoever wrote something had logits that were numbers.
            Seat::Busy(running) => !running.is_at_prompt(),
            Seat::Spoilt => false,
        };
        for seat in 0..self.seats.len() {
            let sound =
                self.seats.iter().position(is_sound).filter(|_| matches!(self.seats[seat], Seat::Spoilt));
            let Some(sound) = sound else { continue };
            if self.session.copy(sound as u32, seat as u32).is_ok() {
                self.clear(seat);
            }
        }
    }

    /// Those who wait for what `seat` has just read wholly: they can have its logits too.
    fn followers(&self, seat: usize) -> Vec<usize> {
        let Seat::Busy(leader) = &self.seats[seat] else { return Vec::new() };
        if !leader.is_at_prompt() {
            return Vec::new();
        }
        let follows = |(_, running): &(usize, &Running)| running.is_new && running.is_like(leader);
        self.running().filter(follows).map(|(seat, _)| seat).collect()
    }

    /// Gives `follower` what `leader` has read, and the `logits` after it.
    fn share(&mut self, leader: usize, follower: usize, logits: &[f32]) {
        let n = self.at(leader).map_or(0, |running| running.n_past);
        let n_past = match self.copy(leader, follower, n) {
            Ok(n_past) => n_past,
            Err(error) => return self.fail(follower, error),
        };
        let Seat::Busy(running) = &mut self.seats[follower] else { return };
        running.n_past = n_past;
        // Otherwise it reads for itself.
        if n_past == n {
            running.is_new = false;
            running.n_cached = n;
            let result = take(running, logits, &self.session);
            self.end(follower, result);
        }
    }

    /// Ends the request in `seat` if `result` says so.
    fn end(&mut self, seat: usize, result: std::result::Result<Option<Ended>, Trouble>) {
        match result {
            Ok(None) => {}
            Ok(Some(ended)) => {
                if let Some(running) = self.leave(seat) {
                    running.finish(ended);
                }
            }
            Err(Trouble::Own(error)) => self.fail(seat, error),
            Err(Trouble::Numbers(error)) => {
                self.fail(seat, error);
                self.clear(seat);
                self.seats[seat] = Seat::Spoilt;
                if self.is_shared {
                    self.wipe();
                }
            }
        }
    }

    fn fail(&mut self, seat: usize, error: Error) {
        if let Some(running) = self.leave(seat) {
            let path = self.session.model().file().path();
            running.job.sink.end(Err(error.file(path)));
        }
    }

    /// Frees `seat`, which remembers what it has read.
    fn leave(&mut self, seat: usize) -> Option<Box<Running>> {
        match std::mem::replace(&mut self.seats[seat], Seat::Free(None)) {
            Seat::Busy(running) => {
                if let Some(pool) = running.pool() {
                    // It was checked when it came; what ends here would only be added up for nobody.
                    _ = self.session.pool(seat as u32, pool.layer, 0..0);
                }
                self.n_cached += running.n_cached;
                self.n_left += 1;
                let held = Held {
                    key: running.key(),
                    tokens: running.held(),
                    used: self.n_left,
                    is_disposable: !running.job.is_bounded,
                };
                self.seats[seat] = Seat::Free((running.n_past > 0).then_some(held));
                if running.job.is_bounded {
                    // Who hears of the end may look at once.
                    self.inbox.tell(self.number, self.load(), self.sequences());
                }
                Some(running)
            }
            other => {
                self.seats[seat] = other;
                None
            }
        }
    }
}

/// What copying the memory of a sequence is worth.
struct Copying {
    min_copied: usize,
    is_moving_cheap: bool,
}

/// Reading one token takes about the time in which memory of this part of the model's size is copied: on two cores of a
/// Xeon, SmolLM2-135M (145 MB as Q8_0) reads 460 tokens/s, and copies 5 GB/s.
const TOKEN_PART: usize = 16;
/// A graph of few tokens takes about the time in which the model is read once; copying reads and writes.
const GRAPH_PART: usize = 4;

impl Copying {
    fn of(session: &Session) -> Self {
        let model_bytes = session.model().file().mmap().len();
        // Sequences that share their memory share its contents too, and lie in one graph wherever they are.
        let is_shared = is_shared(session);
        let sequence_bytes = if is_shared { 0 } else { session.sequence_bytes() };
        Self {
            min_copied: sequence_bytes.div_ceil((model_bytes / TOKEN_PART).max(1)).max(1),
            is_moving_cheap: !is_shared && sequence_bytes <= model_bytes / GRAPH_PART,
        }
    }
}

fn is_shared(session: &Session) -> bool {
    session.n_ctx_seq() == session.n_ctx()
}

/// Why the logits of a request are of no use.
enum Trouble {
    /// The request's own fault.
    Own(Error),
    /// They are no numbers.
    Numbers(Error),
}

fn take(
    running: &mut Running,
    logits: &[f32],
    session: &Session,
) -> std::result::Result<Option<Ended>, Trouble> {
    if has_nan(logits) {
        let error = match running.key().contents == Contents::BASE {
            true => Error::engine("the model computed NaN"),
            // Whoever asked for the mixture can ask for less.
            false => Error::invalid("the model computed NaN with this mixture"),
        };
        let hint = "check model and sidecar with `Sidecar::verify`, or lower `strength`";
        return Err(Trouble::Numbers(error.hint(hint)));
    }
    running.take(logits, session.model(), session.n_ctx_seq() as usize).map_err(Trouble::Own)
}

fn take_mean(
    layer: u32,
    seat: usize,
    running: &mut Running,
    session: &Session,
) -> std::result::Result<Option<Ended>, Trouble> {
    let (mean, n) = session.pooled(seat as u32, layer).map_err(Trouble::Own)?;
    let has_nan = mean.iter().any(|x| x.is_nan());
    running.take_mean(mean, n as usize).map_err(if has_nan { Trouble::Numbers } else { Trouble::Own })
}

fn has_nan(logits: &[f32]) -> bool {
    logits.iter().any(|logit| logit.is_nan())
}

fn places(seats: &[Seat]) -> impl Iterator<Item = Place<'_>> {
    seats.iter().map(|seat| match seat {
        Seat::Free(held) => Place::Free(held.as_ref()),
        Seat::Busy(running) => {
            let n_read = running.n_past.min(running.prompt().len());
            Place::Busy(running.key(), running.prompt(), n_read, running.order)
        }
        Seat::Spoilt => Place::Closed,
    })
}

/// Who holds tokens of the mixture `contents`, but for the sequence `except`.
fn use_of(seats: &[Seat], contents: Contents, except: usize) -> Use {
    let of_seat = |(seat, place): (usize, &Seat)| match place {
        _ if seat == except => Use::None,
        Seat::Busy(running) if running.key().contents == contents => Use::Busy,
        Seat::Free(Some(held)) if held.key.contents == contents => Use::Idle,
        _ => Use::None,
    };
    seats.iter().enumerate().map(of_seat).max().unwrap_or(Use::None)
}
