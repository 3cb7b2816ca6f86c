//! The forms in which a prompt may come: a text, tokens, both in turn, or several of these.

use serde_json::Value;

use super::error::{ApiError, ApiResult};
use super::fields::shortened;
use crate::engine::{Model, Token};

/// What is to be continued.
#[derive(Clone, Debug)]
pub struct Prompt {
    pub tokens: Vec<Token>,
    /// What pass 1 reads to choose an expert.
    pub question: String,
}

/// Most prompts in one request.
const MOST: usize = 256;

/// Reads one or more prompts.
pub fn read(value: &Value, model: &Model) -> ApiResult<Vec<Prompt>> {
    let many = match value {
        Value::Array(list) if !list.is_empty() && !is_one(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    if many.len() > MOST {
        return Err(ApiError::field(
            "prompt",
            format!("expected at most {MOST} prompts, found {}", many.len()),
        ));
    }
    many.iter().map(|value| one(value, model)).collect()
}

/// Whether a list is one prompt: tokens, or tokens and texts in turn.
fn is_one(list: &[Value]) -> bool {
    list.iter().any(Value::is_number) && list.iter().all(|part| part.is_number() || part.is_string())
}

fn one(value: &Value, model: &Model) -> ApiResult<Prompt> {
    let (tokens, question) = match value {
        Value::String(text) => (model.tokenize(text, true, true)?, text.clone()),
        Value::Object(object) => {
            if object.get("multimodal_data").is_some_and(|data| !data.is_null()) {
                return Err(ApiError::field("multimodal_data", "this server reads text only"));
            }
            match object.get("prompt_string") {
                Some(Value::String(text)) => (model.tokenize(text, true, true)?, text.clone()),
                _ => return Err(ApiError::field("prompt_string", "expected a text")),
            }
        }
        Value::Array(parts) => {
            let mut tokens = Vec::new();
            for (i, part) in parts.iter().enumerate() {
                match part {
                    Value::String(text) => tokens.extend(model.tokenize(text, i == 0, true)?),
                    part => tokens.push(token(part, model)?),
                }
            }
            let question = text(model, &tokens);
            (tokens, question)
        }
        other => {
            let expected = "expected a text, a list of tokens, or a list of these";
            return Err(ApiError::field("prompt", format!("{expected}, found {}", shortened(other))));
        }
    };
    if tokens.is_empty() {
        return Err(ApiError::field("prompt", "expected at least one token"));
    }
    Ok(Prompt { tokens, question })
}

/// A token that the vocabulary has.
pub fn token(value: &Value, model: &Model) -> ApiResult<Token> {
    let token = value.as_i64().and_then(|token| Token::try_from(token).ok());
    let known = |token: &Token| usize::try_from(*token).is_ok_and(|token| token < model.n_vocab());
    token.filter(known).ok_or_else(|| {
        ApiError::invalid(format!("expected a token below {}, found {}", model.n_vocab(), shortened(value)))
    })
}

/// What tokens say, with the names of control tokens.
pub fn text(model: &Model, tokens: &[Token]) -> String {
    let bytes: Vec<u8> = tokens.iter().flat_map(|&token| model.spelling(token)).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
