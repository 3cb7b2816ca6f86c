//! Requests at work, as one stream of events that can be awaited. Dropping it cancels them.

use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver};

use crate::engine::scheduler::{Event, Handle, Outcome};
use crate::engine::{Request, Scheduler};
use crate::error::{Error, Result};

/// Several requests, each with a number.
pub struct Answers {
    events: UnboundedReceiver<(usize, Result<Event>)>,
    handles: Vec<Handle>,
    n_open: usize,
}

impl Answers {
    /// Submits `requests`. Of those whose parts are not wanted only the end is told: every event wakes a thread, which a
    /// small machine has better use for.
    ///
    /// # Errors
    /// The first that is refused; the others are then cancelled.
    pub fn submit(scheduler: &Scheduler, requests: Vec<Request>, wants_parts: bool) -> Result<Self> {
        let (sender, events) = unbounded_channel();
        let mut handles = Vec::with_capacity(requests.len());
        for (i, request) in requests.into_iter().enumerate() {
            let sender = sender.clone();
            handles.push(scheduler.submit_to(request, move |event| {
                if wants_parts || matches!(event, Ok(Event::Done(_)) | Err(_)) {
                    // Who went away has cancelled it.
                    let _ = sender.send((i, event));
                }
            })?);
        }
        Ok(Self { n_open: handles.len(), events, handles })
    }

    /// The numbers of the requests among all of the scheduler.
    pub fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.handles.iter().map(Handle::id)
    }

    /// The next event of any request; `None` when all have ended.
    pub async fn next(&mut self) -> Option<(usize, Result<Event>)> {
        if self.n_open == 0 {
            return None;
        }
        let shut_down = || (0, Err(Error::unavailable("the server stops")));
        let event = self.events.recv().await.unwrap_or_else(shut_down);
        match event.1 {
            Ok(Event::Done(_)) => self.n_open -= 1,
            Err(_) => self.n_open = 0,
            Ok(_) => {}
        }
        Some(event)
    }

    /// What all of them become, in their order.
    ///
    /// # Errors
    /// That of the first that fails.
    pub async fn outcomes(mut self) -> Result<Vec<Outcome>> {
        let mut outcomes: Vec<_> = self.handles.iter().map(|_| None).collect();
        while let Some((i, event)) = self.next().await {
            if let Event::Done(outcome) = event? {
                outcomes[i] = Some(outcome);
            }
        }
        let all: Option<Vec<_>> = outcomes.into_iter().collect();
        all.ok_or_else(|| Error::engine("a request ended without an outcome"))
    }
}
