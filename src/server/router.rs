//! Which route does what.

use std::sync::{Arc, OnceLock};

use axum::extract::State as Extract;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use super::error::{ApiError, ApiResult};
use super::state::{Settings, State};
use super::{chat, completion, experts, guard, metrics, models, page, slots, text};

/// The server from its first moment on.
pub struct App {
    pub settings: Arc<Settings>,
    /// There once the model is loaded.
    state: OnceLock<Arc<State>>,
}

impl App {
    pub fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), state: OnceLock::new() }
    }

    /// Begins to answer.
    pub fn set(&self, state: State) {
        // It is set once.
        let _ = self.state.set(Arc::new(state));
    }

    /// What answers.
    pub fn state(&self) -> ApiResult<Arc<State>> {
        self.state.get().cloned().ok_or_else(|| ApiError::unavailable("Loading model"))
    }
}

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new()
        .route("/health", get(health))
        .route("/v1/health", get(health))
        .route("/models", get(models::list))
        .route("/v1/models", get(models::list))
        .route("/props", get(models::props))
        .route("/slots", get(slots::list))
        .route("/metrics", get(metrics::show))
        .route("/completion", post(completion::native))
        .route("/completions", post(completion::native))
        .route("/v1/completions", post(completion::openai))
        .route("/chat/completions", post(chat::openai))
        .route("/v1/chat/completions", post(chat::openai))
        .route("/chat/completions/input_tokens", post(chat::openai_count))
        .route("/v1/chat/completions/input_tokens", post(chat::openai_count))
        .route("/responses", post(chat::responses))
        .route("/v1/responses", post(chat::responses))
        .route("/responses/input_tokens", post(chat::responses_count))
        .route("/v1/responses/input_tokens", post(chat::responses_count))
        .route("/v1/messages", post(chat::anthropic))
        .route("/v1/messages/count_tokens", post(chat::anthropic_count))
        .route("/tokenize", post(text::tokenize))
        .route("/detokenize", post(text::detokenize))
        .route("/apply-template", post(text::apply_template))
        .route("/lora-adapters", get(experts::list_loras).post(experts::set_loras))
        .route("/v1/experts", get(experts::list))
        .route("/v1/load_lora_adapter", post(experts::load))
        .route("/v1/unload_lora_adapter", post(experts::unload));
    if app.settings.has_page {
        for path in page::PATHS {
            router = router.route(path, get(page::file));
        }
    }
    router
        .fallback(|| async { ApiError::not_found("File Not Found") })
        .method_not_allowed_fallback(|| async { ApiError::wrong_method() })
        .layer(from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
}

async fn health(Extract(app): Extract<Arc<App>>) -> ApiResult<Response> {
    app.state()?;
    Ok(Json(json!({ "status": "ok" })).into_response())
}
