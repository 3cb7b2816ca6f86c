//! How tokens are chosen, as a request's body says it, in llama-server's names.

use serde_json::{json, Value};

use super::error::{ApiError, ApiResult};
use super::fields::Fields;
use crate::engine::{Dry, Mirostat, Model, SamplerKind, SamplerOptions, Token};

/// Reads what stands over `defaults`. A seed of −1 takes a new one, `random`.
pub fn read(
    fields: Fields,
    defaults: &SamplerOptions,
    random: u32,
    model: &Model,
) -> ApiResult<SamplerOptions> {
    let mut it = defaults.clone();
    let number = |name: &str, old: f32| Ok::<_, ApiError>(fields.number(name)?.unwrap_or(old));
    let part = |name: &str, old: f32| Ok::<_, ApiError>(number(name, old)?.clamp(0.0, 1.0));
    let count = |name: &str, old: u32| Ok::<_, ApiError>(fields.count(name)?.unwrap_or(old));
    it.temperature = number("temperature", it.temperature)?.max(0.0);
    it.dynatemp.range = number("dynatemp_range", it.dynatemp.range)?;
    it.dynatemp.exponent = number("dynatemp_exponent", it.dynatemp.exponent)?;
    if let Some(k) = fields.integer("top_k")? {
        // Zero and less are all tokens.
        it.top_k = u32::try_from(k.clamp(0, i64::from(i32::MAX))).unwrap_or(0);
    }
    it.top_p = part("top_p", it.top_p)?;
    it.min_p = part("min_p", it.min_p)?;
    it.typical_p = part("typical_p", it.typical_p)?;
    it.top_n_sigma = number("top_n_sigma", it.top_n_sigma)?;
    it.min_keep = count("min_keep", it.min_keep)?;
    it.xtc.probability = part("xtc_probability", it.xtc.probability)?;
    it.xtc.threshold = part("xtc_threshold", it.xtc.threshold)?;
    it.penalties.last_n = count("repeat_last_n", it.penalties.last_n)?;
    it.penalties.repeat = number("repeat_penalty", it.penalties.repeat)?;
    it.penalties.frequency = number("frequency_penalty", it.penalties.frequency)?;
    it.penalties.presence = number("presence_penalty", it.penalties.presence)?;
    it.dry.multiplier = number("dry_multiplier", it.dry.multiplier)?;
    it.dry.base = fields.number("dry_base")?.filter(|base| *base >= 1.0).unwrap_or(it.dry.base);
    it.dry.allowed_length = count("dry_allowed_length", it.dry.allowed_length)?;
    it.dry.last_n = count("dry_penalty_last_n", it.dry.last_n)?;
    if let Some(breakers) = fields.texts("dry_sequence_breakers")? {
        if breakers.is_empty() {
            return Err(ApiError::field("dry_sequence_breakers", "expected at least one text"));
        }
        it.dry.breakers = breakers;
    }
    it.mirostat = mirostat(fields, it.mirostat)?;
    if fields.number("adaptive_target")?.is_some_and(|target| target >= 0.0) {
        return Err(ApiError::field("adaptive_target", "this server has no adaptive sampling"));
    }
    if let Some(order) = fields.value("samplers") {
        it.order = samplers(order)?;
    }
    it.seed = match fields.integer("seed")? {
        None => defaults.seed,
        Some(-1) => random,
        Some(seed) => seed.rem_euclid(1 << 32) as u32,
    };
    if let Some(bias) = fields.value("logit_bias") {
        it.logit_bias = logit_bias(bias, model)?;
    }
    if fields.bool("ignore_eos")?.unwrap_or(false) {
        it.logit_bias.extend(model.end_tokens().into_iter().map(|token| (token, f32::NEG_INFINITY)));
    }
    it.check()?;
    Ok(it)
}

fn mirostat(fields: Fields, old: Option<Mirostat>) -> ApiResult<Option<Mirostat>> {
    let usual = Mirostat { version: 0, tau: 5.0, eta: 0.1 };
    let Mirostat { version, tau, eta } = old.unwrap_or(usual);
    let version = fields.integer("mirostat")?.map_or(version, |version| version.clamp(0, 2) as u32);
    let tau = fields.number("mirostat_tau")?.unwrap_or(tau);
    let eta = fields.number("mirostat_eta")?.unwrap_or(eta);
    Ok((version > 0).then_some(Mirostat { version, tau, eta }))
}

/// A list of names, or a text of letters; what is unknown is left out, as llama-server does it.
fn samplers(order: &Value) -> ApiResult<Vec<SamplerKind>> {
    match order {
        Value::Array(names) => {
            Ok(names.iter().filter_map(Value::as_str).filter_map(SamplerKind::from_name).collect())
        }
        Value::String(letters) => Ok(letters.chars().filter_map(SamplerKind::from_letter).collect()),
        _ => Err(ApiError::field("samplers", "expected a list of names, or a text of letters")),
    }
}

/// A list of `[token or text, bias]`, or an object; `false` forbids.
fn logit_bias(bias: &Value, model: &Model) -> ApiResult<Vec<(Token, f32)>> {
    let amount = |value: &Value| match value {
        Value::Bool(false) => Some(f32::NEG_INFINITY),
        value => value.as_f64().map(|number| number as f32),
    };
    let known = |token: i64| Token::try_from(token).ok().filter(|&token| (token as usize) < model.n_vocab());
    let mut all = Vec::new();
    let mut add = |tokens: Vec<Token>, value: &Value| {
        let amount = amount(value).filter(|amount| !amount.is_nan());
        all.extend(amount.into_iter().flat_map(|amount| tokens.iter().map(move |&token| (token, amount))));
    };
    match bias {
        Value::Array(pairs) => {
            for pair in pairs {
                match pair.as_array().map(Vec::as_slice) {
                    Some([Value::Number(token), value]) => {
                        add(token.as_i64().and_then(known).into_iter().collect(), value);
                    }
                    Some([Value::String(text), value]) => add(model.tokenize(text, false, false)?, value),
                    _ => {}
                }
            }
        }
        Value::Object(object) => {
            for (key, value) in object {
                match key.parse::<i64>() {
                    Ok(token) => add(known(token).into_iter().collect(), value),
                    Err(_) => add(model.tokenize(key, false, false)?, value),
                }
            }
        }
        _ => return Err(ApiError::field("logit_bias", "expected a list or an object")),
    }
    Ok(all)
}

/// `number` with the digits that tell it from others of its precision, and no more.
fn short(number: f32) -> Value {
    // What is no number becomes null.
    number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// What a client reads back of it.
pub fn describe(it: &SamplerOptions) -> Value {
    let Dry { multiplier, base, allowed_length, last_n, breakers } = &it.dry;
    let Mirostat { version, tau, eta } = it.mirostat.unwrap_or(Mirostat { version: 0, tau: 5.0, eta: 0.1 });
    // JSON has no infinity.
    let bias =
        |(token, bias): &(Token, f32)| json!({ "bias": bias.is_finite().then_some(bias), "token": token });
    json!({
        "seed": it.seed,
        "temperature": short(it.temperature),
        "dynatemp_range": short(it.dynatemp.range),
        "dynatemp_exponent": short(it.dynatemp.exponent),
        "top_k": it.top_k,
        "top_p": short(it.top_p),
        "min_p": short(it.min_p),
        "top_n_sigma": short(it.top_n_sigma),
        "xtc_probability": short(it.xtc.probability),
        "xtc_threshold": short(it.xtc.threshold),
        "typical_p": short(it.typical_p),
        "repeat_last_n": it.penalties.last_n,
        "repeat_penalty": short(it.penalties.repeat),
        "presence_penalty": short(it.penalties.presence),
        "frequency_penalty": short(it.penalties.frequency),
        "dry_multiplier": short(*multiplier),
        "dry_base": short(*base),
        "dry_allowed_length": allowed_length,
        "dry_penalty_last_n": last_n,
        "dry_sequence_breakers": breakers,
        "mirostat": version,
        "mirostat_tau": short(tau),
        "mirostat_eta": short(eta),
        // Adaptive sampling is off.
        "adaptive_target": -1.0,
        "adaptive_decay": 0.9,
        "min_keep": it.min_keep,
        "samplers": it.order.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
        "logit_bias": it.logit_bias.iter().map(bias).collect::<Vec<_>>(),
        "grammar": it.grammar.as_ref().map_or("", |grammar| grammar.text.as_str()),
    })
}
