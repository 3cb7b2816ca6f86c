//! `GET /v1/models`, `GET /props`: what answers here.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State as Extract;
use axum::Json;
use serde_json::{json, Value};

use super::error::ApiResult;
use super::formats::fingerprint;
use super::router::App;
use super::{experts, sampling};

/// The base model, each expert, and the one that stands for the choice among them.
pub async fn list(Extract(app): Extract<Arc<App>>) -> ApiResult<Json<Value>> {
    let state = app.state()?;
    let info = state.model().info();
    let aliases: BTreeSet<_> = state.settings.aliases.iter().collect();
    let mut data = vec![json!({
        "id": state.alias,
        "aliases": aliases,
        "tags": state.settings.tags,
        "object": "model",
        "created": state.started,
        "owned_by": "llamacpp",
        "meta": {
            "vocab_type": info.vocab_type,
            "n_vocab": info.n_vocab,
            "n_ctx": state.n_ctx,
            "n_ctx_train": info.n_ctx_train,
            "n_embd": info.n_embd,
            "n_params": info.n_params,
            "size": info.size,
        },
    })];
    data.extend(experts::as_models(&state));
    if !state.experts.strategies().is_empty() {
        data.push(json!({
            "id": "auto",
            "object": "model",
            "created": state.started,
            "owned_by": "llamacpp",
            "parent": state.alias,
            "description": "the model chooses the expert for each question",
        }));
    }
    let name = |model: &Value| {
        let id = &model["id"];
        json!({
            "name": id, "model": id, "type": "model", "description": model["description"],
            "capabilities": ["completion"],
        })
    };
    let models: Vec<_> = data.iter().map(name).collect();
    Ok(Json(json!({ "object": "list", "data": data, "models": models })))
}

/// Everything about model and server.
pub async fn props(Extract(app): Extract<Arc<App>>) -> ApiResult<Json<Value>> {
    let state = app.state()?;
    let settings = &state.settings;
    let info = state.model().info();
    let mut params = sampling::describe(&settings.sampler);
    params["n_predict"] = settings.n_predict.map_or(json!(-1), |n| json!(n));
    Ok(Json(json!({
        "default_generation_settings": { "params": params, "n_ctx": state.n_ctx },
        "total_slots": settings.n_parallel,
        "model_alias": state.alias,
        "model_path": state.model().file().path().to_string_lossy(),
        "model_description": info.description,
        "modalities": { "vision": false, "audio": false },
        "endpoint_slots": settings.has_slots,
        "endpoint_props": false,
        "endpoint_metrics": settings.has_metrics,
        "ui": settings.has_page,
        "chat_template": state.model().chat_template().unwrap_or_default(),
        "bos_token": info.bos_token,
        "eos_token": info.eos_token,
        "build_info": fingerprint(),
        "is_sleeping": false,
        "svf": experts::describe(&state),
    })))
}
