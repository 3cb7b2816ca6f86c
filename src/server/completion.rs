//! `POST /completion`, `POST /v1/completions`: a prompt is continued.

use std::sync::Arc;

use axum::extract::State as Extract;
use axum::response::Response;
use serde_json::Value;

use super::body::ObjectBody;
use super::choose::Choice;
use super::error::{ApiError, ApiResult};
use super::fields::Fields;
use super::formats::completions::Completions;
use super::formats::native::Native;
use super::prompt;
use super::reply::{reply, Job};
use super::router::App;
use super::state::{aside, State};
use super::wishes::Wishes;
use crate::engine::{json_schema_grammar, Grammar};

/// llama.cpp's own form.
pub async fn native(Extract(app): Extract<Arc<App>>, body: ObjectBody) -> ApiResult<Response> {
    let state = app.state()?;
    let job = job(&state, body).await?;
    let format = Native { state: Arc::clone(&state), wishes: Arc::clone(&job.wishes) };
    reply(state, job, format).await
}

/// OpenAI's form.
pub async fn openai(Extract(app): Extract<Arc<App>>, body: ObjectBody) -> ApiResult<Response> {
    let state = app.state()?;
    let job = job(&state, body).await?;
    let format =
        Completions { id: state.id("cmpl-"), state: Arc::clone(&state), wishes: Arc::clone(&job.wishes) };
    reply(state, job, format).await
}

async fn job(state: &Arc<State>, body: ObjectBody) -> ApiResult<Job> {
    let state = Arc::clone(state);
    aside(move || {
        let fields = body.fields();
        let n_probs = ["n_probs", "logprobs"].into_iter().find(|name| fields.value(name).is_some());
        let n_probs = match n_probs {
            Some(name) => fields.count(name)?.unwrap_or(0) as usize,
            None => 0,
        };
        let missing = || ApiError::field("prompt", "expected a text or tokens, found nothing");
        let prompts = prompt::read(fields.value("prompt").ok_or_else(missing)?, state.model())?;
        let mut wishes = Wishes::read(fields, &state, n_probs)?;
        wishes.sampler.grammar = grammar(fields)?;
        Ok(Job {
            prompts,
            wishes: Arc::new(wishes),
            choice: Choice::read(fields, &state)?,
            stop: Vec::new(),
            shown: Vec::new(),
            parser: None,
        })
    })
    .await
}

/// What may be written, in GBNF or as a JSON schema.
fn grammar(fields: Fields) -> ApiResult<Option<Grammar>> {
    if let Some(text) = fields.text("grammar")?.filter(|text| !text.is_empty()) {
        return Ok(Some(text.into()));
    }
    let Some(schema) = fields.value("json_schema") else { return Ok(None) };
    // An empty one stands for any object.
    let schema = match schema {
        Value::Object(object) if object.is_empty() => r#"{"type": "object"}"#.to_owned(),
        schema => schema.to_string(),
    };
    Ok(Some(json_schema_grammar(&schema)?.into()))
}
