//! How an answer is wanted, apart from what it is about and who gives it.

use super::error::{ApiError, ApiResult};
use super::fields::Fields;
use super::sampling;
use super::state::State;
use crate::engine::SamplerOptions;

/// What a body says about the answer.
#[derive(Clone, Debug)]
pub struct Wishes {
    pub sampler: SamplerOptions,
    /// Most tokens; `None` for as many as there is room for.
    pub n_predict: Option<usize>,
    /// Answers to each prompt.
    pub n: usize,
    pub stop: Vec<String>,
    /// Whether parts come as they are written.
    pub is_streamed: bool,
    pub include_usage: bool,
    pub timings_per_token: bool,
    pub return_progress: bool,
    pub return_tokens: bool,
    /// Of how many tokens probabilities are wanted, at each place.
    pub n_probs: usize,
    /// Whether these are those from which tokens are drawn.
    pub post_sampling_probs: bool,
    /// Whether what was read before may be used.
    pub cache_prompt: bool,
    /// Which members of the answer are wanted; all if none is named.
    pub response_fields: Vec<String>,
    pub is_verbose: bool,
    pub echo: bool,
    pub ignore_eos: bool,
}

impl Wishes {
    /// Reads them; `n_probs` has another form in each API.
    pub fn read(fields: Fields, state: &State, n_probs: usize) -> ApiResult<Self> {
        let settings = &state.settings;
        let is_true = |name: &str| Ok::<_, ApiError>(fields.bool(name)?.unwrap_or(false));
        let mut defaults = settings.sampler.clone();
        if settings.has_random_seed {
            defaults.seed = state.random_seed();
        }
        let n_predict = ["n_predict", "max_completion_tokens", "max_tokens"]
            .into_iter()
            .find(|name| fields.value(name).is_some());
        let asked = n_predict.map(|name| fields.at_least(name, -1)).transpose()?.flatten();
        let n = fields.at_least("n", 1)?.or(fields.at_least("n_cmpl", 1)?).unwrap_or(1) as usize;
        if n > settings.n_parallel {
            let expected =
                format!("expected at most {}, the requests at work at once, found {n}", settings.n_parallel);
            return Err(ApiError::field("n", expected));
        }
        Ok(Self {
            sampler: sampling::read(fields, &defaults, state.random_seed(), state.model())?,
            n_predict: match asked {
                Some(n) => usize::try_from(n).ok(),
                None => settings.n_predict,
            },
            n,
            stop: stop(fields)?,
            is_streamed: is_true("stream")?,
            include_usage: match fields.object("stream_options")? {
                Some(options) => options.bool("include_usage")?.unwrap_or(false),
                None => false,
            },
            timings_per_token: is_true("timings_per_token")?,
            return_progress: is_true("return_progress")?,
            return_tokens: is_true("return_tokens")?,
            n_probs,
            post_sampling_probs: is_true("post_sampling_probs")?,
            cache_prompt: fields.bool("cache_prompt")?.unwrap_or(true),
            response_fields: fields.texts("response_fields")?.unwrap_or_default(),
            is_verbose: fields.bool("verbose")?.unwrap_or(settings.is_verbose),
            echo: is_true("echo")?,
            ignore_eos: is_true("ignore_eos")?,
        })
    }
}

fn stop(fields: Fields) -> ApiResult<Vec<String>> {
    match fields.value("stop") {
        None => Ok(Vec::new()),
        Some(serde_json::Value::String(text)) => {
            Ok([text.clone()].into_iter().filter(|it| !it.is_empty()).collect())
        }
        Some(_) => {
            let stop = fields.texts("stop")?.unwrap_or_default();
            Ok(stop.into_iter().filter(|text| !text.is_empty()).collect())
        }
    }
}
