//! Conversations are answered: OpenAI's chat completions and responses, Anthropic's messages.

use std::sync::Arc;

use axum::extract::State as Extract;
use axum::response::Response;
use axum::Json;
use serde_json::{json, Map, Value};

use super::body::ObjectBody;
use super::choose::Choice;
use super::compat;
use super::error::{ApiError, ApiResult};
use super::fields::Fields;
use super::formats::anthropic::{AnthropicError, Messages};
use super::formats::chat::Chat;
use super::formats::responses::{echo, Responses};
use super::prompt::Prompt;
use super::reply::{reply, Job};
use super::router::App;
use super::state::{aside, State};
use super::wishes::Wishes;
use crate::engine::{ChatRequest, ChatTurn};

/// OpenAI's chat completions.
pub async fn openai(Extract(app): Extract<Arc<App>>, body: ObjectBody) -> ApiResult<Response> {
    let state = app.state()?;
    let model = model_name(body.fields(), &state);
    let job = job(&state, body.0).await?;
    let format = Chat::new(Arc::clone(&state), Arc::clone(&job.wishes), model);
    reply(state, job, format).await
}

/// OpenAI's responses.
pub async fn responses(Extract(app): Extract<Arc<App>>, body: ObjectBody) -> ApiResult<Response> {
    let state = app.state()?;
    let echo = echo(&body.0);
    let body = compat::responses::to_chat(body.0)?;
    let model = model_name(Fields(&body), &state);
    let job = job(&state, body).await?;
    let format = Responses::new(Arc::clone(&state), Arc::clone(&job.wishes), model, echo);
    reply(state, job, format).await
}

/// Anthropic's messages.
pub async fn anthropic(
    Extract(app): Extract<Arc<App>>,
    body: ApiResult<ObjectBody>,
) -> Result<Response, AnthropicError> {
    let state = app.state()?;
    let body = compat::anthropic::to_chat(body?.0)?;
    let model = model_name(Fields(&body), &state);
    let job = job(&state, body).await?;
    let format = Messages::new(&state, Arc::clone(&job.wishes), model);
    Ok(reply(state, job, format).await?)
}

/// How many tokens OpenAI's chat completions would read.
pub async fn openai_count(Extract(app): Extract<Arc<App>>, body: ObjectBody) -> ApiResult<Json<Value>> {
    let n = count(app.state()?, body.0).await?;
    Ok(Json(json!({ "object": "response.input_tokens", "input_tokens": n })))
}

/// How many tokens OpenAI's responses would read.
pub async fn responses_count(Extract(app): Extract<Arc<App>>, body: ObjectBody) -> ApiResult<Json<Value>> {
    let n = count(app.state()?, compat::responses::to_chat(body.0)?).await?;
    Ok(Json(json!({ "object": "response.input_tokens", "input_tokens": n })))
}

/// How many tokens Anthropic's messages would read.
pub async fn anthropic_count(
    Extract(app): Extract<Arc<App>>,
    body: ApiResult<ObjectBody>,
) -> Result<Json<Value>, AnthropicError> {
    let n = count(app.state()?, compat::anthropic::to_chat(body?.0)?).await?;
    Ok(Json(json!({ "input_tokens": n })))
}

/// The tokens of a conversation in the form of chat completions.
async fn count(state: Arc<State>, body: Map<String, Value>) -> ApiResult<usize> {
    aside(move || Ok(turn(&state, &Value::Object(body))?.prompt.tokens.len())).await
}

/// What the client calls the model: its own word where it names an expert, else the base model's name.
fn model_name(fields: Fields, state: &State) -> String {
    let asked = fields.value("model").and_then(Value::as_str);
    let is_ours = |name: &&str| state.experts.has(name) || name.contains(':') || *name == "auto";
    asked.filter(is_ours).unwrap_or(&state.alias).to_owned()
}

/// What the model reads for a conversation in OpenAI's form.
pub fn turn(state: &State, body: &Value) -> ApiResult<ChatTurn> {
    Ok(state.model().chat(&ChatRequest::new(body, state.settings.chat.clone()))?)
}

/// The job that a body in OpenAI's form describes.
async fn job(state: &Arc<State>, body: Map<String, Value>) -> ApiResult<Job> {
    let state = Arc::clone(state);
    aside(move || {
        let body = Value::Object(body);
        let Some(object) = body.as_object() else { return Err(ApiError::invalid("expected a JSON object")) };
        let fields = Fields(object);
        let mut wishes = Wishes::read(fields, &state, n_probs(fields)?)?;
        let turn = turn(&state, &body)?;
        wishes.sampler.grammar = turn.grammar;
        let prompt = Prompt { tokens: turn.prompt.tokens, question: question(fields) };
        Ok(Job {
            prompts: vec![prompt],
            wishes: Arc::new(wishes),
            choice: Choice::read(fields, &state)?,
            stop: turn.stop,
            shown: turn.shown,
            parser: Some(turn.parser),
        })
    })
    .await
}

/// Of how many tokens probabilities are wanted.
fn n_probs(fields: Fields) -> ApiResult<usize> {
    const USUAL: usize = 20;
    let top = fields.count("top_logprobs")?.map(|n| n as usize);
    match (fields.bool("logprobs")?.unwrap_or(false), top) {
        (true, top) => Ok(top.unwrap_or(USUAL).max(1)),
        (false, Some(n)) if n > 0 => {
            Err(ApiError::invalid("top_logprobs requires logprobs to be set to true"))
        }
        (false, _) => Ok(fields.count("n_probs")?.unwrap_or(0) as usize),
    }
}

/// The last thing that the user said.
fn question(fields: Fields) -> String {
    let messages = fields.value("messages").and_then(Value::as_array);
    let is_user = |message: &&Value| message.get("role").and_then(Value::as_str) == Some("user");
    let last = messages.and_then(|messages| messages.iter().rev().find(is_user).or(messages.last()));
    match last.and_then(|message| message.get("content")) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}
