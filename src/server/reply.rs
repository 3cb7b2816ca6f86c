//! From a job to a response: pass 1, the requests, and their events in the form that the client wants.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{header, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::Json;
use futures_util::stream;

use super::answers::Answers;
use super::choose::{Choice, Chosen};
use super::error::{ApiError, ApiResult};
use super::formats::{Answer, Format, Frame};
use super::prompt::Prompt;
use super::slots::Registered;
use super::state::{aside, State};
use super::wishes::Wishes;
use crate::dispatch::Question;
use crate::engine::scheduler::Probe;
use crate::engine::scheduler::{Completion, Event, Generate, Outcome};
use crate::engine::{ChatParser, Request, Token};

/// What is to be answered.
pub struct Job {
    pub prompts: Vec<Prompt>,
    pub wishes: Arc<Wishes>,
    pub choice: Choice,
    /// Texts that end an answer, beside those that the client names.
    pub stop: Vec<String>,
    /// Control tokens that are written out.
    pub shown: Vec<Token>,
    /// What reads the answers of a chat.
    pub parser: Option<ChatParser>,
}

/// Answers `job` in `format`.
pub async fn reply<F: Format>(state: Arc<State>, job: Job, format: F) -> ApiResult<Response> {
    let n_ctx = state.n_ctx;
    if let Some(prompt) = job.prompts.iter().find(|prompt| prompt.tokens.len() >= n_ctx) {
        return Err(ApiError::too_long(prompt.tokens.len(), n_ctx));
    }
    let mut requests = Vec::new();
    let mut answers = Vec::new();
    let mut header = None;
    for prompt in &job.prompts {
        let question = Question { text: &prompt.question, prompt: Some(&prompt.tokens) };
        let chosen = job.choice.choose(&state, question).await?;
        header = header.or_else(|| chosen.header());
        let chosen = Arc::new(chosen);
        for n in 0..job.wishes.n {
            requests.push(request(&job, prompt, &chosen, n, n_ctx, &state));
            let tokens = prompt.tokens.clone();
            let parser = job.parser.as_ref().map(ChatParser::again).transpose()?;
            answers.push(Answer::new(answers.len(), tokens, Arc::clone(&chosen), parser));
        }
    }
    let is_streamed = job.wishes.is_streamed;
    let events = {
        let state = Arc::clone(&state);
        // A grammar may take long to read.
        aside(move || Ok(Answers::submit(&state.scheduler, requests, is_streamed)?)).await?
    };
    let registered = state.running.register(&events, &job.wishes, &answers);
    let talk = Talk { events, answers, format, state, _registered: registered, wishes: job.wishes };
    let mut response = match is_streamed {
        true => talk.streamed().await?,
        false => talk.whole().await?,
    };
    if let Some(header) = header {
        response.headers_mut().insert(HeaderName::from_static("x-svf-mixture"), header);
    }
    Ok(response)
}

/// The `n`-th request for `prompt`.
fn request(job: &Job, prompt: &Prompt, chosen: &Chosen, n: usize, n_ctx: usize, state: &State) -> Request {
    let wishes = &job.wishes;
    let tokens = prompt.tokens.clone();
    let room = n_ctx - tokens.len();
    let max_tokens = wishes.n_predict.map_or(room, |n| n.min(room));
    let mut request = if max_tokens == 0 {
        // It is only read.
        let probe = Probe { after: tokens.len(), tokens: vec![0] };
        Request::score(tokens, chosen.mixture.clone(), vec![probe])
    } else {
        let mut sampler = wishes.sampler.clone();
        // Further answers to the same prompt are other ones.
        sampler.seed = sampler.seed.wrapping_add(n as u32);
        let how = Generate {
            sampler,
            max_tokens: Some(max_tokens),
            stop: wishes.stop.iter().chain(&job.stop).cloned().collect(),
            log_probs: wishes.n_probs > 0,
            n_top: wishes.n_probs,
            sampled_probs: wishes.post_sampling_probs,
            progress: wishes.is_streamed,
            shown: job.shown.clone(),
            thinking: None,
        };
        Request::generate(tokens, chosen.mixture.clone(), how)
    };
    if !wishes.cache_prompt {
        request.scope = state.running.new_scope();
    }
    request
}

/// A response on its way.
struct Talk<F> {
    events: Answers,
    answers: Vec<Answer>,
    format: F,
    state: Arc<State>,
    wishes: Arc<Wishes>,
    _registered: Registered,
}

impl<F: Format> Talk<F> {
    async fn whole(mut self) -> ApiResult<Response> {
        while let Some((i, event)) = self.events.next().await {
            if let Event::Done(outcome) = event? {
                self.end(i, outcome)?;
            }
        }
        let body = self.format.whole(&self.answers);
        Ok(Json(body).into_response())
    }

    /// Takes in how answer `i` ended.
    fn end(&mut self, i: usize, outcome: Outcome) -> ApiResult<()> {
        let usage = outcome.usage();
        let completion = match outcome {
            Outcome::Completion(completion) => completion,
            Outcome::Scores(_) | Outcome::Pooled(_) => Completion::empty(usage),
        };
        let answer = &mut self.answers[i];
        let room = self.state.n_ctx - answer.prompt.len();
        answer.finish(completion, room, &self.wishes, self.state.model())?;
        self.state.metrics.answered(answer.chosen.label(), answer.n_written, &usage);
        Ok(())
    }

    /// Frames for an event.
    fn frames(&mut self, i: usize, event: Event) -> ApiResult<Vec<Frame>> {
        match event {
            Event::Reading(reading) => {
                self.answers[i].read(&reading);
                match self.wishes.return_progress {
                    true => Ok(self.format.progress(&self.answers[i], &reading)),
                    false => Ok(Vec::new()),
                }
            }
            Event::Piece(piece) => {
                let part = self.answers[i].take(piece, self.state.model())?;
                Ok(part.map_or_else(Vec::new, |part| self.format.part(&self.answers[i], part)))
            }
            Event::Done(outcome) => {
                self.end(i, outcome)?;
                let mut frames = Vec::new();
                if let Some(part) = self.answers[i].rest() {
                    frames.extend(self.format.part(&self.answers[i], part));
                }
                frames.extend(self.format.end(&self.answers[i]));
                Ok(frames)
            }
        }
    }

    /// The next frames; `None` when all is said.
    async fn next(&mut self) -> Option<ApiResult<Vec<Frame>>> {
        let (i, event) = self.events.next().await?;
        Some(event.map_err(ApiError::from).and_then(|event| self.frames(i, event)))
    }

    /// What fails before anything is said is an HTTP error, unless that takes so long that the client has to be told that
    /// we are alive.
    async fn streamed(mut self) -> ApiResult<Response> {
        let ping = self.state.settings.ping;
        let mut first = Vec::new();
        let said = tokio::time::timeout(ping, async {
            while first.is_empty() {
                match self.next().await {
                    Some(frames) => first.extend(frames?),
                    None => break,
                }
            }
            Ok::<_, ApiError>(())
        });
        let first = match said.await {
            Ok(result) => result.map(|()| first)?,
            Err(_) => vec![Frame::Ping],
        };
        let stream = stream::unfold(Stage::Saying(self, first), move |stage| stage.next(ping));
        let mut response = Response::new(Body::from_stream(stream));
        *response.status_mut() = StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // nginx would collect the stream otherwise.
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        Ok(response)
    }
}

/// How far a stream is.
enum Stage<F> {
    /// These frames are next.
    Saying(Talk<F>, Vec<Frame>),
    /// Nothing is left.
    Over,
}

impl<F: Format> Stage<F> {
    async fn next(self, ping: Duration) -> Option<(Result<Bytes, std::convert::Infallible>, Self)> {
        let Self::Saying(mut talk, mut frames) = self else { return None };
        while frames.is_empty() {
            frames = match tokio::time::timeout(ping, talk.next()).await {
                Err(_) => vec![Frame::Ping],
                Ok(Some(Ok(frames))) => frames,
                Ok(Some(Err(error))) => {
                    let frame = talk.format.error(&error);
                    return Some((Ok(bytes(&[frame])), Self::Over));
                }
                Ok(None) => {
                    let last = talk.format.last();
                    return last.map(|last| (Ok(bytes(&[last])), Self::Over));
                }
            };
        }
        Some((Ok(bytes(&frames)), Self::Saying(talk, Vec::new())))
    }
}

fn bytes(frames: &[Frame]) -> Bytes {
    frames.iter().map(Frame::to_string).collect::<String>().into()
}
