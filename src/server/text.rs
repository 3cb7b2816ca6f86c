//! `POST /tokenize`, `/detokenize`, `/apply-template`: between text, tokens and conversations.

use std::sync::Arc;

use axum::extract::State as Extract;
use axum::Json;
use serde_json::{json, Value};

use super::body::ObjectBody;
use super::error::{ApiError, ApiResult};
use super::router::App;
use super::state::aside;
use super::{chat, prompt};

pub async fn tokenize(Extract(app): Extract<Arc<App>>, body: ObjectBody) -> ApiResult<Json<Value>> {
    let state = app.state()?;
    aside(move || {
        let fields = body.fields();
        let add_special = fields.bool("add_special")?.unwrap_or(false);
        let parse_special = fields.bool("parse_special")?.unwrap_or(true);
        let with_pieces = fields.bool("with_pieces")?.unwrap_or(false);
        let model = state.model();
        let parts = match fields.value("content") {
            None => &[],
            Some(Value::Array(parts)) => parts.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        let mut tokens = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            match part {
                Value::String(text) => {
                    tokens.extend(model.tokenize(text, add_special && i == 0, parse_special)?);
                }
                Value::Number(_) => tokens.push(prompt::token(part, model)?),
                _ => {
                    return Err(ApiError::field("content", "expected a text, or a list of texts and tokens"))
                }
            }
        }
        let piece = |&token: &i32| {
            let bytes = model.spelling(token);
            let piece = String::from_utf8(bytes).map_or_else(|error| json!(error.into_bytes()), Value::from);
            json!({ "id": token, "piece": piece })
        };
        let tokens = match with_pieces {
            true => tokens.iter().map(piece).collect(),
            false => json!(tokens),
        };
        Ok(Json(json!({ "tokens": tokens })))
    })
    .await
}

pub async fn detokenize(Extract(app): Extract<Arc<App>>, body: ObjectBody) -> ApiResult<Json<Value>> {
    let state = app.state()?;
    aside(move || {
        let tokens = body.fields().array("tokens")?.unwrap_or_default();
        let tokens =
            tokens.iter().map(|token| prompt::token(token, state.model())).collect::<ApiResult<Vec<_>>>()?;
        Ok(Json(json!({ "content": prompt::text(state.model(), &tokens) })))
    })
    .await
}

pub async fn apply_template(Extract(app): Extract<Arc<App>>, body: ObjectBody) -> ApiResult<Json<Value>> {
    let state = app.state()?;
    aside(move || Ok(Json(json!({ "prompt": chat::turn(&state, &Value::Object(body.0))?.prompt.text }))))
        .await
}
