//! `GET /metrics`: counts in Prometheus' form, by llama-server's names, and ours by expert.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State as Extract;
use axum::http::{header, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use prometheus::core::Collector;
use prometheus::{
    Counter, CounterVec, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

use super::choose::Pass1;
use super::error::{ApiError, ApiResult};
use super::router::App;
use super::state::State;
use crate::engine::scheduler::Usage;

/// All counts.
pub struct Metrics {
    registry: Registry,
    prompt_tokens: IntCounter,
    prompt_tokens_cached: IntCounter,
    prompt_seconds: Counter,
    predicted_tokens: IntCounter,
    predicted_seconds: Counter,
    decodes: IntCounter,
    longest: IntCounter,
    prompt_rate: Gauge,
    predicted_rate: Gauge,
    processing: IntGauge,
    deferred: IntGauge,
    busy: Gauge,
    of_experts: OfExperts,
    choices: IntCounterVec,
    confidence: Histogram,
    pass1_seconds: Histogram,
    slots: IntGauge,
    loads: IntCounter,
    loaded: IntGauge,
    /// Counts when they were asked for last, for what is an average since then.
    last: Mutex<Window>,
}

/// By the expert that answered.
struct OfExperts {
    requests: IntCounterVec,
    prompt_tokens: IntCounterVec,
    cached_tokens: IntCounterVec,
    predicted_tokens: IntCounterVec,
    seconds: CounterVec,
}

#[derive(Clone, Copy, Default)]
struct Window {
    n_read: u64,
    reading: f64,
    n_steps: u64,
    writing: f64,
    n_decodes: usize,
    n_busy: usize,
}

/// Makes one of those that cannot go wrong: names are ours, and each is there once.
fn made<T: Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<T>) -> T {
    let metric = metric.unwrap_or_else(|error| unreachable!("a metric of ours: {error}"));
    registry
        .register(Box::new(metric.clone()))
        .unwrap_or_else(|error| unreachable!("a metric of ours: {error}"));
    metric
}

impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::new();
        let it = &registry;
        let count = |name: &str, help: &str| made(it, IntCounter::new(format!("llamacpp:{name}"), help));
        let seconds = |name: &str, help: &str| made(it, Counter::new(format!("llamacpp:{name}"), help));
        let gauge = |name: &str, help: &str| made(it, Gauge::new(format!("llamacpp:{name}"), help));
        let int_gauge = |name: &str, help: &str| made(it, IntGauge::new(name, help));
        let by_expert = |name: &str, help: &str| {
            made(it, IntCounterVec::new(Opts::new(format!("svf:{name}"), help), &["expert"]))
        };
        // There is no speculative decoding here, but those who look for it find nothing done.
        for name in ["draft_tokens", "accepted_tokens", "drafts"] {
            count(&format!("spec_decode_num_{name}_total"), "Speculative decoding: none");
        }
        Self {
            prompt_tokens: count("prompt_tokens_total", "Tokens of prompts that were read"),
            prompt_tokens_cached: count("prompt_tokens_cached_total", "Tokens of prompts that were known"),
            prompt_seconds: seconds("prompt_seconds_total", "Time in which prompts were read"),
            predicted_tokens: count("tokens_predicted_total", "Tokens that were written"),
            predicted_seconds: seconds("tokens_predicted_seconds_total", "Time in which tokens were written"),
            decodes: count("n_decode_total", "Calls of llama_decode"),
            longest: count("n_tokens_max", "Most tokens that a sequence held"),
            prompt_rate: gauge(
                "prompt_tokens_seconds",
                "Tokens read in a second, since these were asked for last",
            ),
            predicted_rate: gauge(
                "predicted_tokens_seconds",
                "Tokens written in a second by a request, since these were asked for last",
            ),
            processing: int_gauge("llamacpp:requests_processing", "Requests at work"),
            deferred: int_gauge("llamacpp:requests_deferred", "Requests that wait for room"),
            busy: gauge(
                "n_busy_slots_per_decode",
                "Sequences in a call of llama_decode, since these were asked for last",
            ),
            of_experts: OfExperts {
                requests: by_expert("requests_total", "Requests that ended, by who answered"),
                prompt_tokens: by_expert("prompt_tokens_total", "Tokens of prompts, by who answered"),
                cached_tokens: by_expert(
                    "prompt_tokens_cached_total",
                    "Tokens of prompts that were known, by who answered",
                ),
                predicted_tokens: by_expert(
                    "tokens_predicted_total",
                    "Tokens that were written, by who answered",
                ),
                seconds: made(
                    it,
                    CounterVec::new(
                        Opts::new(
                            "svf:request_seconds_total",
                            "Time from the arrival to the end, by who answered",
                        ),
                        &["expert"],
                    ),
                ),
            },
            choices: made(
                it,
                IntCounterVec::new(
                    Opts::new("svf:choices_total", "Choices of pass 1"),
                    &["strategy", "label", "fallback"],
                ),
            ),
            confidence: made(
                it,
                Histogram::with_opts(
                    HistogramOpts::new("svf:choice_confidence", "Probability of the chosen label")
                        .buckets(vec![0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0]),
                ),
            ),
            pass1_seconds: made(
                it,
                Histogram::with_opts(
                    HistogramOpts::new("svf:pass1_seconds", "Time that pass 1 took, with waiting")
                        .buckets(vec![0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0]),
                ),
            ),
            slots: int_gauge("svf:mixtures_in_use", "Different mixtures of the requests at work"),
            loads: made(
                it,
                IntCounter::new("svf:expert_loads_total", "Experts that were loaded while the server ran"),
            ),
            loaded: int_gauge("svf:experts", "Experts that are loaded"),
            last: Mutex::default(),
            registry,
        }
    }

    /// A request ended.
    pub fn answered(&self, expert: &str, n_written: usize, usage: &Usage) {
        let (n_cached, n_read) = (usage.n_cached as u64, (usage.n_prompt - usage.n_cached) as u64);
        self.prompt_tokens.inc_by(n_read);
        self.prompt_tokens_cached.inc_by(n_cached);
        self.prompt_seconds.inc_by(usage.reading.as_secs_f64());
        self.predicted_tokens.inc_by(n_written as u64);
        self.predicted_seconds.inc_by(usage.writing.as_secs_f64());
        let longest = (usage.n_prompt + n_written) as u64;
        self.longest.inc_by(longest.saturating_sub(self.longest.get()));
        let it = &self.of_experts;
        it.requests.with_label_values(&[expert]).inc();
        it.prompt_tokens.with_label_values(&[expert]).inc_by(usage.n_prompt as u64);
        it.cached_tokens.with_label_values(&[expert]).inc_by(n_cached);
        it.predicted_tokens.with_label_values(&[expert]).inc_by(n_written as u64);
        it.seconds.with_label_values(&[expert]).inc_by(usage.total().as_secs_f64());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.n_read += n_read;
        last.reading += usage.reading.as_secs_f64();
        last.n_steps += (n_written as u64).saturating_sub(1);
        last.writing += usage.writing.as_secs_f64();
    }

    /// Pass 1 decided.
    pub fn chosen(&self, pass1: &Pass1) {
        let Pass1 { strategy, decision, cost } = pass1;
        let fallback = if decision.is_fallback { "true" } else { "false" };
        self.choices.with_label_values(&[strategy.name(), &decision.label, fallback]).inc();
        self.confidence.observe(decision.confidence);
        self.pass1_seconds.observe(cost.ms / 1e3);
    }

    /// An expert was loaded.
    pub fn loaded(&self) {
        self.loads.inc();
    }

    /// The expert `name` is gone, and its counts with it, so that they are as many as the experts.
    pub fn forget(&self, name: &str) {
        let it = &self.of_experts;
        for counts in [&it.requests, &it.prompt_tokens, &it.cached_tokens, &it.predicted_tokens] {
            // It may never have answered.
            let _ = counts.remove_label_values(&[name]);
        }
        let _ = it.seconds.remove_label_values(&[name]);
    }

    fn text(&self, state: &State) -> prometheus::Result<String> {
        let rate = |n: f64, by: f64| if by > 0.0 { n / by } else { 0.0 };
        // Who asks at the same time must not see an older load after a newer one.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let load = state.scheduler.load();
        self.decodes.inc_by((load.n_decodes as u64).saturating_sub(self.decodes.get()));
        self.processing.set(load.n_running as i64);
        self.deferred.set(load.n_waiting as i64);
        self.slots.set(load.n_slots as i64);
        self.loaded.set(state.scheduler.experts().map_or(0, |experts| experts.names().len() as i64));
        self.prompt_rate.set(rate(last.n_read as f64, last.reading));
        self.predicted_rate.set(rate(last.n_steps as f64, last.writing));
        let n_decodes = load.n_decodes - last.n_decodes;
        self.busy.set(rate((load.n_busy - last.n_busy) as f64, n_decodes as f64));
        *last = Window { n_decodes: load.n_decodes, n_busy: load.n_busy, ..Window::default() };
        drop(last);
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Everything, as text.
pub async fn show(Extract(app): Extract<Arc<App>>) -> ApiResult<Response> {
    let state = app.state()?;
    if !state.settings.has_metrics {
        return Err(ApiError::not_supported("this server was started without its metrics endpoint"));
    }
    let text = state.metrics.text(&state).map_err(|error| ApiError::internal(error.to_string()))?;
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    if let Ok(started) = HeaderValue::from_str(&state.started.to_string()) {
        headers.insert(HeaderName::from_static("process-start-time-unix"), started);
    }
    Ok(response)
}
