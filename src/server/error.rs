//! Failures as clients see them: `{"error": {"code", "message", "type"}}`, with the words that llama-server uses.

use axum::http::{header, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::Json;
use serde_json::{json, Map, Value};

use crate::error::{Error, ErrorKind};

/// A failed request.
#[derive(Clone, Debug)]
pub struct ApiError {
    status: StatusCode,
    kind: &'static str,
    message: String,
    /// Members beside the usual three.
    more: Map<String, Value>,
}

pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), more: Map::new() }
    }

    /// What the client sent cannot be.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// Field `name` cannot be what it is.
    pub fn field(name: &str, message: impl std::fmt::Display) -> Self {
        Self::invalid(format!("Field '{name}': {message}"))
    }

    /// A prompt of `n_prompt` tokens for a context of `n_ctx`.
    pub fn too_long(n_prompt: usize, n_ctx: usize) -> Self {
        let message = format!(
            "the prompt of {n_prompt} tokens exceeds the available context size of {n_ctx} tokens: shorten it, or start \
             the server with a larger context"
        );
        let mut error = Self::new(StatusCode::BAD_REQUEST, "exceed_context_size_error", message);
        error.more.insert("n_prompt_tokens".into(), n_prompt.into());
        error.more.insert("n_ctx".into(), n_ctx.into());
        error
    }

    /// The same where it is the question of pass 1, with its own words, that is too long.
    pub fn too_long_for_pass_1(n_prompt: usize, n_ctx: usize) -> Self {
        let message = format!(
            "to choose an expert, the model reads {n_prompt} tokens: the question, and what the experts are for. That exceeds the \
             available context size of {n_ctx} tokens: shorten the question, start the server with a larger context, or name the \
             experts ('svf': {{'mix': …}})"
        );
        Self { message, ..Self::too_long(n_prompt, n_ctx) }
    }

    /// No key, or a wrong one.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", "Invalid API Key")
    }

    /// Something that is not allowed, whoever asks.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found_error", message)
    }

    /// This route exists, but not for this method.
    pub fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", "This route knows another method")
    }

    /// The body is larger than is read.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("the body is larger than {} MiB", limit >> 20);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message)
    }

    /// The body did not come.
    pub fn timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", "the body did not arrive in time")
    }

    /// This server was not started for that.
    pub fn not_supported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "not_supported_error", message)
    }

    /// Not yet.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable_error", message)
    }

    /// Our own fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// What stands under `error`.
    pub fn body(&self) -> Value {
        let mut body = self.more.clone();
        body.insert("code".into(), self.status.as_u16().into());
        body.insert("message".into(), self.message.as_str().into());
        body.insert("type".into(), self.kind.into());
        Value::Object(body)
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error.kind() {
            ErrorKind::BadInput => Self::invalid(message),
            ErrorKind::NotFound => Self::not_found(message),
            ErrorKind::TooLarge => Self::new(StatusCode::BAD_REQUEST, "exceed_context_size_error", message),
            ErrorKind::Full => Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message),
            ErrorKind::Unavailable | ErrorKind::Interrupted => Self::unavailable(message),
            ErrorKind::Engine => Self::internal(message),
        }
    }
}

impl ApiError {
    /// The response that tells it by `body`.
    pub fn respond(&self, body: Value) -> Response {
        let mut response = (self.status, Json(body)).into_response();
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.respond(json!({ "error": self.body() }))
    }
}
