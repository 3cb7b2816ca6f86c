//! Which experts answer: those that the request names, in its `svf`, `lora` or `model`, those of the server, or those that
//! pass 1 chooses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::http::HeaderValue;
use serde_json::{json, Map, Value};

use super::answers::Answers;
use super::error::{ApiError, ApiResult};
use super::fields::Fields;
use super::state::{aside, State};
use crate::dispatch::{Cost, Decision, Question, Strategy};
use crate::expert::Mixture;

/// Who answers where a request does not say.
#[derive(Clone, Debug, PartialEq)]
pub enum Default {
    /// Always the same.
    Fixed(Mixture),
    /// Whom pass 1 chooses.
    Adapt(Strategy),
}

/// Who is to answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    who: Default,
    /// Scales the mixture.
    strength: f32,
    /// How sure pass 1 must be; `None` as the server has it.
    threshold: Option<f64>,
    /// Whether experts answer together; `None` as the server has it.
    blend: Option<bool>,
}

/// Who answers.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub mixture: Mixture,
    /// Pass 1, if there was one.
    pub pass1: Option<Pass1>,
}

/// How the mixture was found.
#[derive(Clone, Debug)]
pub struct Pass1 {
    pub strategy: Strategy,
    pub decision: Decision,
    pub cost: Cost,
}

impl Choice {
    /// Reads what a body says.
    pub fn read(fields: Fields, state: &State) -> ApiResult<Self> {
        let experts = &state.experts;
        let fixed =
            |mixture| Self { who: Default::Fixed(mixture), strength: 1.0, threshold: None, blend: None };
        if let Some(svf) = fields.object("svf")? {
            return Self::of_svf(svf, state);
        }
        if let Some(lora) = fields.array("lora")? {
            return Ok(fixed(experts.of_loras(lora)?));
        }
        // Whoever sends anything but a text means none of ours.
        let model = fields.value("model").and_then(Value::as_str).unwrap_or_default();
        let prefixes = state.settings.aliases.iter().map(String::as_str).chain(["base", &state.alias]);
        for prefix in prefixes {
            if model == prefix {
                return Ok(fixed(Mixture::base()));
            }
            if let Some(name) = model.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(':')) {
                if !experts.has(name) {
                    return Err(ApiError::not_found(format!(
                        "the model '{model}' does not exist: no expert '{name}'"
                    )));
                }
                return Ok(fixed(Mixture::single(name)));
            }
        }
        if experts.has(model) {
            return Ok(fixed(Mixture::single(model)));
        }
        let mut choice = Self { who: experts.default_choice(), strength: 1.0, threshold: None, blend: None };
        if model == "auto" {
            if let Default::Fixed(_) = choice.who {
                let strategy = experts.strategies().first().copied();
                let none = || ApiError::invalid("'auto' needs experts to choose from, and none is loaded");
                choice.who = Default::Adapt(strategy.ok_or_else(none)?);
            }
        }
        Ok(choice)
    }

    fn of_svf(svf: Fields, state: &State) -> ApiResult<Self> {
        let known = ["mix", "adapt", "strength", "threshold", "blend"];
        if let Some(other) = svf.0.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(ApiError::field(
                "svf",
                format!("it has no member '{other}', but {}", known.join(", ")),
            ));
        }
        let who = match (svf.value("mix"), svf.text("adapt")?) {
            (Some(_), Some(adapt)) if adapt != "off" => {
                return Err(ApiError::field("svf", "either 'mix' or 'adapt' says who answers"));
            }
            (Some(mix), _) => Default::Fixed(mixture(mix, state)?),
            (None, Some("off")) => Default::Fixed(Mixture::base()),
            (None, Some(name)) => {
                let wrong = || {
                    let expected =
                        format!("expected {} or off", Strategy::ALL.map(Strategy::name).join(", "));
                    ApiError::field("svf", format!("{expected} for 'adapt', found '{name}'"))
                };
                Default::Adapt(Strategy::named(name).ok_or_else(wrong)?)
            }
            (None, None) => state.experts.default_choice(),
        };
        Ok(Self {
            who,
            strength: svf.number("strength")?.unwrap_or(1.0),
            threshold: svf.number("threshold")?.map(f64::from),
            blend: svf.bool("blend")?,
        })
    }

    /// The mixture for `question`, after pass 1 where it decides.
    pub async fn choose(&self, state: &Arc<State>, question: Question<'_>) -> ApiResult<Chosen> {
        let (mixture, pass1) = match &self.who {
            Default::Fixed(mixture) => (mixture.clone(), None),
            Default::Adapt(strategy) => {
                let (mixture, pass1) = self.pass1(state, *strategy, question).await?;
                (mixture, Some(pass1))
            }
        };
        Ok(Chosen { mixture: mixture.strength(self.strength)?, pass1 })
    }

    /// Pass 1, and the mixture that follows from it.
    async fn pass1(
        &self,
        state: &Arc<State>,
        strategy: Strategy,
        question: Question<'_>,
    ) -> ApiResult<(Mixture, Pass1)> {
        let began = Instant::now();
        let dispatcher = state.experts.dispatcher(strategy, state.model())?;
        if !dispatcher.is_calibrated() {
            // The first to ask.
            let (dispatcher, state) = (Arc::clone(&dispatcher), Arc::clone(state));
            aside(move || Ok(dispatcher.calibrate(&state.scheduler)?)).await?;
        }
        let inquiry = dispatcher.inquiry(state.model(), question, self.threshold);
        let mut inquiry = inquiry.map_err(|error| error.field("pass 1"))?;
        let requests = inquiry.take_requests();
        let longest = requests.iter().map(|request| request.prompt.len()).max().unwrap_or(0);
        if longest > state.scheduler.n_ctx_seq() {
            return Err(ApiError::too_long_for_pass_1(longest, state.scheduler.n_ctx_seq()));
        }
        let answers =
            Answers::submit(&state.scheduler, requests, false).map_err(|error| error.field("pass 1"))?;
        let outcomes = answers.outcomes().await.map_err(|error| error.field("pass 1"))?;
        let (decision, n_tokens) = dispatcher.conclude(&inquiry, outcomes)?;
        let mixture = match self.blend {
            Some(true) => decision.blend(),
            Some(false) => decision.mixture(),
            None => dispatcher.mixture_for(&decision),
        };
        let cost = Cost { n_tokens, ms: began.elapsed().as_secs_f64() * 1e3 };
        let pass1 = Pass1 { strategy, decision, cost };
        state.metrics.chosen(&pass1);
        Ok((mixture, pass1))
    }
}

impl Chosen {
    /// What an answer tells of it.
    pub fn report(&self) -> Value {
        let mut report = Map::from_iter([("mixture".to_owned(), weights(&self.mixture))]);
        match &self.pass1 {
            None => drop(report.insert("strategy".into(), "fixed".into())),
            Some(Pass1 { strategy, decision, cost }) => {
                let probabilities: Map<_, _> =
                    decision.probabilities.iter().map(|(name, p)| (name.clone(), json!(p))).collect();
                for (name, value) in [
                    ("strategy", json!(strategy.name())),
                    ("label", json!(decision.label)),
                    ("confidence", json!(decision.confidence)),
                    ("probabilities", Value::Object(probabilities)),
                    ("fallback", json!(decision.is_fallback)),
                    ("pass1_tokens", json!(cost.n_tokens)),
                    ("pass1_ms", json!(cost.ms)),
                ] {
                    report.insert(name.into(), value);
                }
            }
        }
        Value::Object(report)
    }

    /// The same in short, for a header; `None` where names do not fit into one.
    pub fn header(&self) -> Option<HeaderValue> {
        if self.mixture.is_base() {
            return Some(HeaderValue::from_static("base"));
        }
        HeaderValue::from_str(&self.mixture.to_string()).ok()
    }

    /// For counting: the expert that answers alone, or what stands for the others.
    pub fn label(&self) -> &str {
        let mut weights = self.mixture.weights().filter(|(_, alpha)| *alpha != 0.0);
        match (weights.next(), weights.next()) {
            (None, _) => "base",
            (Some((name, _)), None) => name,
            _ => "(mixture)",
        }
    }
}

/// A mixture by name; experts with several weights, one for each group of layers, have a list.
pub fn weights(mixture: &Mixture) -> Value {
    let groups: BTreeMap<_, _> = mixture.groups().collect();
    let alphas = |alphas: &[f32]| match alphas {
        [alpha] => json!(alpha),
        several => json!(several),
    };
    Value::Object(groups.into_iter().map(|(name, list)| (name.to_owned(), alphas(list))).collect())
}

/// The mixture that a body gives by name.
fn mixture(mix: &Value, state: &State) -> ApiResult<Mixture> {
    let wrong = |error: crate::error::Error| ApiError::field("svf", format!("in 'mix': {error}"));
    let Some(object) = mix.as_object() else {
        return Err(ApiError::field(
            "svf",
            "expected an object such as {\"math\": 0.7, \"code\": 0.3} for 'mix'",
        ));
    };
    if object.is_empty() {
        return Ok(Mixture::base());
    }
    if let Some(name) = object.keys().find(|name| !state.experts.has(name)) {
        return Err(ApiError::not_found(format!("no expert '{name}' is loaded")));
    }
    Mixture::from_json(&mix.to_string()).map_err(wrong)
}
