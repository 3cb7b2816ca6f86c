//! Chat messages in the form the model was trained on, by the template it carries or is given.
//!
//! llama.cpp's own code renders the template ([`crate::ffi::chat`]), as llama-server does it. What messages say never
//! becomes a control token ([`control`]).

mod answer;
pub(super) mod control;
mod end;
mod request;
mod turn;

use std::sync::OnceLock;

use llama_cpp_2::token::LlamaToken;
use serde_json::json;

use crate::engine::{Model, Token};
use crate::error::{Error, Result};
use crate::ffi::chat::ChatTemplate;
use crate::resume::Digest;
use crate::reward::thinking;

pub use answer::{AnswerMessage, ChatDelta, ChatParser, ToolCall, ToolCallDelta};
pub use request::{ChatRequest, ChatSettings, ReasoningFormat};
pub use turn::{json_schema_grammar, ChatTurn};

/// One message of a conversation.
#[derive(Clone, Debug, Default)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// What was said.
    pub content: String,
    /// What a reasoning model thought before it said so. Templates leave it out, as a rule.
    pub reasoning: Option<String>,
}

impl ChatMessage {
    /// What directs the whole conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Self { role: "system", content: content.into(), reasoning: None }
    }

    /// What a user says.
    pub fn user(content: impl Into<String>) -> Self {
        Self { role: "user", content: content.into(), reasoning: None }
    }

    /// What the model said.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self { role: "assistant", content: content.into(), reasoning: None }
    }
}

/// A conversation, ready for the assistant's next message.
#[derive(Clone, Debug)]
pub struct ChatPrompt {
    /// What the model reads, without the begin token if its tokenizer adds one.
    pub text: String,
    /// The same as tokens, with a begin token where the model wants one.
    pub tokens: Vec<Token>,
    /// How the model tells its thinking from its answer, if it thinks.
    pub thinking: Option<Thinking>,
}

/// How a reasoning model marks its thinking.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Thinking {
    /// What begins it, such as `<think>`.
    pub start: String,
    /// What ends it, such as `</think>`.
    pub end: String,
    /// Whether the prompt begins it already, so that the model only ends it.
    pub is_open: bool,
}

impl Thinking {
    /// What the template's `marks` mean after `prompt`.
    fn of((start, end): (&str, &str), prompt: &str) -> Self {
        Self {
            start: start.to_owned(),
            // These write a header of the answer, after more than one kind of thinking.
            end: if start.starts_with("<|channel|>analysis") { HARMONY_ANSWER } else { end }.to_owned(),
            is_open: prompt.trim_end().ends_with(start),
        }
    }

    /// A completion with its thinking marked as [`thinking::MARKS`] has it first, whatever the model's own marks are, and
    /// also where the thinking begins in the prompt already.
    pub fn whole(thinking: Option<&Self>, completion: String) -> String {
        let Some(Self { start, end, is_open }) = thinking else { return completion };
        let (begins, ends) = thinking::MARKS[0];
        let completion = completion.replace(start, begins).replace(end, ends);
        if *is_open && !completion.trim_start().starts_with(begins) {
            return format!("{begins}\n{completion}");
        }
        completion
    }

    /// What follows a prompt where no thinking is wanted: it ends thinking that the prompt begins.
    pub fn closed(thinking: Option<&Self>) -> String {
        match thinking {
            Some(Self { end, is_open: true, .. }) => format!("\n{end}\n\n"),
            _ => String::new(),
        }
    }
}

/// Where a model's chat template comes from.
pub(super) struct Chat {
    /// In place of the model's own.
    source: Option<String>,
    /// Parsed when it is first needed: most prompts of a broken one need none.
    template: OnceLock<std::result::Result<ChatTemplate, String>>,
    thinking_pieces: OnceLock<Vec<(Token, String)>>,
}

/// How the answer begins of models that write in channels (OpenAI's "harmony").
const HARMONY_ANSWER: &str = "<|channel|>final<|message|>";

impl Chat {
    pub fn new(source: Option<String>) -> Self {
        Self { source, template: OnceLock::new(), thinking_pieces: OnceLock::new() }
    }
}

/// llama.cpp shows places in templates over several lines.
fn one_line(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Model {
    /// Whether the model carries a chat template, or was given one.
    pub fn has_chat_template(&self) -> bool {
        self.chat.source.is_some() || self.handle.llama().chat_template(None).is_ok()
    }

    /// Whether the model can be asked in a chat.
    ///
    /// # Errors
    /// It carries no chat template and was given none.
    pub fn check_chat_template(&self) -> Result<()> {
        if self.has_chat_template() {
            return Ok(());
        }
        Err(Error::invalid("the model carries no chat template")
            .file(self.file().path())
            .field("tokenizer.chat_template"))
    }

    /// The source of the chat template in use, or the name of a built-in one that was given; `None` if there is none.
    pub fn chat_template(&self) -> Option<String> {
        let own = || self.handle.llama().chat_template(None).ok()?.to_string().ok();
        self.chat.source.clone().or_else(own)
    }

    /// Changes with the chat template that was given in place of the model's own, if one was.
    pub fn given_template_digest(&self) -> Option<String> {
        self.chat.source.as_ref().map(|source| Digest::new().text("template", source).finish())
    }

    /// The conversation as the model expects it, ready for the assistant's next message. Control tokens that messages
    /// spell stay text.
    ///
    /// # Errors
    /// The model has no chat template, or the template is broken or refuses the conversation.
    pub fn chat_prompt(&self, messages: &[ChatMessage]) -> Result<ChatPrompt> {
        let control = self.control_tokens();
        let shielded: Vec<_> = messages
            .iter()
            .map(|message| ChatMessage {
                role: message.role,
                content: control.shield(&message.content),
                reasoning: message.reasoning.as_ref().map(|text| control.shield(text)),
            })
            .collect();
        let (text, thinking) = self.render_shielded(&shielded)?;
        let tokens = self.tokenize_shielded(&text)?;
        Ok(ChatPrompt { text: control.plain(&text), tokens, thinking })
    }

    /// The text of [`Self::chat_prompt`] for messages in which text from outside is [shielded](Self::shield) already; all
    /// other text may hold control tokens.
    pub(crate) fn render_shielded(&self, messages: &[ChatMessage]) -> Result<(String, Option<Thinking>)> {
        self.check_chat_template()?;
        let message = |ChatMessage { role, content, reasoning }: &ChatMessage| match reasoning {
            Some(reasoning) => json!({ "role": role, "content": content, "reasoning_content": reasoning }),
            None => json!({ "role": role, "content": content }),
        };
        let body = json!({ "messages": messages.iter().map(message).collect::<Vec<_>>() });
        let settings = ChatSettings { prefills: false, ..ChatSettings::default() };
        let wrong = |words: String| self.wrong_template(&words);
        let template = self.template().map_err(wrong)?;
        let text = template.apply(&ChatRequest::new(&body, settings).to_json(true)).map_err(wrong)?;
        let text = turn::prompt_of(&text)?;
        let thinking = template.thinking().map(|marks| Thinking::of(marks, &text));
        Ok((text, thinking))
    }

    /// The template, parsed.
    fn template(&self) -> std::result::Result<&ChatTemplate, String> {
        let parse = || ChatTemplate::new(&self.handle, self.chat.source.as_deref());
        self.chat.template.get_or_init(parse).as_ref().map_err(Clone::clone)
    }

    fn wrong_template(&self, words: &str) -> Error {
        let error = Error::invalid(format!("llama.cpp cannot apply the chat template: {}", one_line(words)));
        match &self.chat.source {
            Some(_) => error.field("chat template"),
            None => error.file(self.file().path()).field("tokenizer.chat_template"),
        }
    }

    /// What control tokens say that mark thinking: other ones say nothing, but these tell it from the answer.
    pub(super) fn thinking_pieces(&self) -> &[(Token, String)] {
        self.chat.thinking_pieces.get_or_init(|| {
            if !self.has_chat_template() {
                return Vec::new();
            }
            // A broken template is an error where it is needed.
            let marks = self.template().ok().and_then(ChatTemplate::thinking);
            let marks = marks.map(|(start, end)| format!("{start}{end}{HARMONY_ANSWER}")).unwrap_or_default();
            let vocab = self.handle.llama().vocab();
            let tokens = self.tokenize(&marks, false, true).unwrap_or_default().into_iter();
            let pieces = tokens
                .filter(|&token| vocab.is_control(LlamaToken(token)))
                .filter_map(|token| Some((token, vocab.text(LlamaToken(token))?.to_str().ok()?.to_owned())));
            pieces.collect()
        })
    }

    /// Text from outside, to be put into a prompt: the control tokens that it spells are marked, so that
    /// [`Self::tokenize_shielded`] reads them as text.
    pub(crate) fn shield(&self, text: &str) -> String {
        self.control_tokens().shield(text)
    }

    /// Tokens of a prompt that holds [shielded](Self::shield) text, with the model's begin token. Control tokens are
    /// read outside of that text.
    pub(crate) fn tokenize_shielded(&self, text: &str) -> Result<Vec<Token>> {
        self.control_tokens().tokenize(&self.handle, text, true)
    }
}
