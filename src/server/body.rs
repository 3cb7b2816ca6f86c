//! A request's body: read whole, within its bounds, as a JSON object.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use futures_util::StreamExt;
use serde_json::{Map, Value};

use super::error::{ApiError, ApiResult};
use super::fields::Fields;
use super::router::App;
use super::state::aside;

/// A JSON value that a client sent.
pub struct JsonBody(pub Value);

/// A JSON object that a client sent.
pub struct ObjectBody(pub Map<String, Value>);

impl ObjectBody {
    pub fn fields(&self) -> Fields<'_> {
        Fields(&self.0)
    }
}

/// Bytes that are parsed in less time than it takes to hand them to another thread.
const LONG: usize = 1 << 16;

fn parse(bytes: &[u8]) -> ApiResult<Value> {
    // The parser itself bounds how deep values may be nested.
    serde_json::from_slice(bytes).map_err(|error| ApiError::invalid(format!("no JSON: {error}")))
}

impl FromRequest<Arc<App>> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> ApiResult<Self> {
        let bytes = read(request.into_body(), app).await?;
        match bytes.len() {
            0..=LONG => parse(&bytes),
            _ => aside(move || parse(&bytes)).await,
        }
        .map(Self)
    }
}

impl FromRequest<Arc<App>> for ObjectBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> ApiResult<Self> {
        match JsonBody::from_request(request, app).await?.0 {
            Value::Object(object) => Ok(Self(object)),
            _ => Err(ApiError::invalid("expected a JSON object")),
        }
    }
}

async fn read(body: Body, app: &App) -> ApiResult<Vec<u8>> {
    let limit = app.settings.max_body;
    // Who says beforehand that it is too much need not send it.
    if body.size_hint().lower() > limit as u64 {
        return Err(ApiError::too_large(limit));
    }
    let mut bytes = Vec::new();
    let mut chunks = body.into_data_stream();
    loop {
        let chunk = tokio::time::timeout(app.settings.timeout, chunks.next()).await;
        let Some(chunk) = chunk.map_err(|_| ApiError::timeout())? else { return Ok(bytes) };
        let chunk = chunk.map_err(|error| ApiError::invalid(format!("the body cannot be read: {error}")))?;
        if bytes.len() + chunk.len() > limit {
            return Err(ApiError::too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
}
