//! `GET /slots`: what is at work.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Query, State as Extract};
use axum::Json;
use serde_json::{json, Value};

use super::answers::Answers;
use super::choose::{weights, Chosen};
use super::error::{ApiError, ApiResult};
use super::formats::native::settings_json;
use super::formats::Answer;
use super::router::App;
use super::wishes::Wishes;

/// What is known of the requests at work, by their numbers.
#[derive(Default)]
pub struct Running {
    known: Arc<Mutex<HashMap<u64, Known>>>,
    n_scopes: AtomicU64,
}

struct Known {
    wishes: Arc<Wishes>,
    chosen: Arc<Chosen>,
}

type Table = Mutex<HashMap<u64, Known>>;

/// Requests that are listed as long as this lives.
pub struct Registered {
    known: Arc<Table>,
    ids: Vec<u64>,
}

fn lock(table: &Table) -> MutexGuard<'_, HashMap<u64, Known>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Running {
    /// Lists the requests of `events`.
    pub fn register(&self, events: &Answers, wishes: &Arc<Wishes>, answers: &[Answer]) -> Registered {
        let ids: Vec<_> = events.ids().collect();
        let mut known = lock(&self.known);
        for (&id, answer) in ids.iter().zip(answers) {
            known.insert(id, Known { wishes: Arc::clone(wishes), chosen: Arc::clone(&answer.chosen) });
        }
        drop(known);
        Registered { known: Arc::clone(&self.known), ids }
    }

    /// A scope in which nothing was read yet; the first ones are others'.
    pub fn new_scope(&self) -> u64 {
        const FIRST: u64 = 1 << 32;
        FIRST + self.n_scopes.fetch_add(1, Ordering::Relaxed)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut known = lock(&self.known);
        for id in &self.ids {
            known.remove(id);
        }
    }
}

/// All slots; those that work first.
pub async fn list(
    Extract(app): Extract<Arc<App>>,
    Query(query): Query<HashMap<String, String>>,
) -> ApiResult<Json<Value>> {
    let state = app.state()?;
    let settings = &state.settings;
    if !settings.has_slots {
        return Err(ApiError::not_supported("this server was started without its slots endpoint"));
    }
    let known = lock(&state.running.known);
    let busy: Vec<_> = state.scheduler.sequences().into_iter().flatten().collect();
    if busy.len() >= settings.n_parallel && query.get("fail_on_no_slot").is_some_and(|it| !it.is_empty()) {
        return Err(ApiError::unavailable("no slot available"));
    }
    let slot = |id: usize| {
        let mut slot = json!({
            "id": id,
            "n_ctx": state.n_ctx,
            "speculative": false,
            "is_processing": id < busy.len(),
        });
        let Some(progress) = busy.get(id) else { return slot };
        slot["id_task"] = json!(progress.id);
        slot["n_prompt_tokens"] = json!(progress.n_prompt);
        slot["n_prompt_tokens_processed"] = json!(progress.n_read - progress.n_cached.min(progress.n_read));
        slot["n_prompt_tokens_cache"] = json!(progress.n_cached);
        let Some(Known { wishes, chosen }) = known.get(&progress.id) else { return slot };
        let n_remain = wishes.n_predict.map_or(-1, |n| n as i64 - progress.n_written as i64);
        slot["next_token"] =
            json!([{ "has_next_token": true, "n_remain": n_remain, "n_decoded": progress.n_written }]);
        slot["params"] = settings_json(wishes);
        slot["svf"] = json!({ "mixture": weights(&chosen.mixture) });
        slot
    };
    Ok(Json((0..settings.n_parallel.max(busy.len())).map(slot).collect()))
}
