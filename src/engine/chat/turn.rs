//! One turn of a chat: what the model reads, what it may write, and how its answer is read.

use serde::Deserialize;
use serde_json::Value;

use super::answer::ChatParser;
use super::request::ChatRequest;
use super::{one_line, ChatPrompt};
use crate::engine::{Grammar, Lazy, Model, Token};
use crate::error::{Error, Result};
use crate::ffi::chat::schema_grammar;

/// A conversation that the model is to go on with.
pub struct ChatTurn {
    /// What it reads.
    pub prompt: ChatPrompt,
    /// What it may write, if not everything.
    pub grammar: Option<Grammar>,
    /// Texts that end its answer, beside those that the client wants.
    pub stop: Vec<String>,
    /// Control tokens that are part of its answer's text; the parser needs them.
    pub shown: Vec<Token>,
    /// Reads the answer.
    pub parser: ChatParser,
    /// The end of the prompt, which the parser takes for the beginning of the answer.
    pub generation_prompt: String,
}

/// What llama.cpp makes of a request.
#[derive(Deserialize)]
struct Applied {
    prompt: String,
    grammar: String,
    is_lazy: bool,
    patterns: Vec<String>,
    trigger_words: Vec<TriggerWord>,
    generation_prompt: String,
    thinking_start: String,
    thinking_ends: Vec<String>,
    stop: Vec<String>,
    preserved: Vec<String>,
    parser: Option<Value>,
}

#[derive(Deserialize)]
struct TriggerWord {
    text: String,
    pattern: String,
}

#[derive(Deserialize)]
struct Rendered {
    prompt: String,
}

/// The prompt in a result of which nothing else was wanted.
pub(super) fn prompt_of(json: &str) -> Result<String> {
    Ok(read::<Rendered>(json)?.prompt)
}

fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| Error::engine(format!("llama.cpp's chat result: {error}")))
}

/// The grammar, in GBNF, of what is valid for a JSON schema.
///
/// # Errors
/// It is no JSON schema, or one that no grammar can express.
pub fn json_schema_grammar(schema: &str) -> Result<String> {
    let value: Value = serde_json::from_str(schema)
        .map_err(|error| Error::invalid(format!("it is not JSON: {error}")).field("json_schema"))?;
    let body = serde_json::json!({ "json_schema": value });
    ChatRequest::new(&body, super::request::ChatSettings::default()).check()?;
    schema_grammar(schema).map_err(|words| Error::invalid(one_line(&words)).field("json_schema"))
}

impl Model {
    /// What the model reads for `request`, what it may write, and how its answer is read, as llama-server has it. Control
    /// tokens that texts from outside spell stay text.
    ///
    /// # Errors
    /// The request is malformed, the model has no chat template, or the template is broken or refuses the conversation.
    pub fn chat(&self, request: &ChatRequest) -> Result<ChatTurn> {
        if !request.settings().chatml {
            self.check_chat_template()?;
        }
        request.check()?;
        let template = self.template().map_err(|words| self.wrong_template(&words))?;
        let refused = |words: String| Error::invalid(one_line(&words));
        let control = self.control_tokens();
        let applied: Applied = read(&template.apply(&request.to_json(false)).map_err(refused)?)?;
        // Parser and grammar must know what texts really say.
        let prompt = match request.shielded(control)? {
            Some(shielded) => prompt_of(&template.apply(&shielded.to_json(true)).map_err(refused)?)?,
            None => applied.prompt.clone(),
        };
        let prompt = ChatPrompt {
            tokens: self.tokenize_shielded(&prompt)?,
            thinking: template.thinking().map(|marks| super::Thinking::of(marks, &prompt)),
            text: control.plain(&prompt),
        };
        let parser = ChatParser::new(applied.parser.as_ref().map(Value::to_string));
        Ok(ChatTurn {
            prompt,
            grammar: self.grammar_of(&applied, request)?,
            shown: applied.preserved.iter().filter_map(|text| self.single_token(text)).collect(),
            parser: parser.map_err(Error::engine)?,
            stop: applied.stop,
            generation_prompt: applied.generation_prompt,
        })
    }

    /// The token that `text` is, if it is one.
    fn single_token(&self, text: &str) -> Option<Token> {
        match self.tokenize(text, false, true).ok()?[..] {
            [token] => Some(token),
            _ => None,
        }
    }

    fn grammar_of(&self, applied: &Applied, request: &ChatRequest) -> Result<Option<Grammar>> {
        if applied.grammar.is_empty() {
            // Not all of llama.cpp's formats heed these.
            let grammar = match (request.field("grammar").as_str(), request.field("json_schema")) {
                (Some(text), _) if !text.is_empty() => text.to_owned(),
                (_, Value::Null) => return Ok(None),
                (_, schema) => json_schema_grammar(&schema.to_string())?,
            };
            return Ok(Some(grammar.into()));
        }
        let begun = self.begun(&applied.generation_prompt)?;
        if !applied.is_lazy {
            return Ok(Some(Grammar { text: applied.grammar.clone(), begun, lazy: None }));
        }
        let mut lazy = Lazy { patterns: applied.patterns.clone(), ..Lazy::default() };
        for TriggerWord { text, pattern } in &applied.trigger_words {
            match self.single_token(text) {
                Some(token) => lazy.tokens.push(token),
                None => lazy.patterns.push(pattern.clone()),
            }
        }
        if !applied.thinking_start.is_empty() {
            let tokens = |text: &str| self.tokenize(text, false, true);
            lazy.thinking_start = tokens(&applied.thinking_start)?;
            let ends = applied.thinking_ends.iter().map(|text| tokens(text));
            lazy.thinking_ends = ends.collect::<Result<_>>()?;
        }
        Ok(Some(Grammar { text: applied.grammar.clone(), begun, lazy: Some(lazy) }))
    }

    /// The tokens of a generation prompt, without the space that some tokenizers put before a text.
    fn begun(&self, text: &str) -> Result<Vec<Token>> {
        let mut tokens = self.tokenize(text, false, true)?;
        let first = tokens.first().map(|&token| self.spelling(token)).unwrap_or_default();
        let is_space = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_whitespace);
        if is_space(first.first()) && !is_space(text.as_bytes().first()) {
            tokens.remove(0);
        }
        Ok(tokens)
    }
}
