//! What a model answers in a chat: content, thinking and calls of tools, as llama.cpp reads them from its text.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::ffi::chat::AnswerParser;

/// llama.cpp follows nested arguments by recursion.
const MAX_NESTING: usize = 400;

/// An answer as a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct AnswerMessage {
    /// What is said.
    pub content: String,
    /// What was thought before.
    pub reasoning: String,
    /// What is to be done.
    pub tool_calls: Vec<ToolCall>,
}

/// The wish to use a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ToolCall {
    /// The model's own name for this call, or a random one.
    pub id: String,
    /// Which tool.
    pub name: String,
    /// Its arguments, in JSON once the call is whole.
    pub arguments: String,
}

/// What goes on in an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ChatDelta {
    /// Goes on with what is thought.
    pub reasoning: String,
    /// Goes on with what is said.
    pub content: String,
    /// Begins a call, or goes on with it.
    pub tool_call: Option<ToolCallDelta>,
}

/// What goes on in a call of a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct ToolCallDelta {
    /// Which call of the message, from 0.
    pub index: usize,
    /// Not empty where the call begins, and where its name was not whole then.
    pub id: String,
    /// The same; it is whole, and takes the place of the one before.
    pub name: String,
    /// Goes on with the arguments.
    pub arguments: String,
}

/// Reads one answer, while it is written.
pub struct ChatParser {
    /// `None` if all of it is content.
    parser: Option<AnswerParser>,
    /// What it was made of.
    source: Option<String>,
    message: AnswerMessage,
    brackets: Brackets,
}

impl ChatParser {
    /// A parser of the format that `source` is; `None` for content alone.
    ///
    /// # Errors
    /// llama.cpp cannot make it.
    pub(super) fn new(source: Option<String>) -> std::result::Result<Self, String> {
        let parser = source.as_deref().map(AnswerParser::new).transpose()?;
        Ok(Self { parser, source, message: AnswerMessage::default(), brackets: Brackets::default() })
    }

    /// The same for another answer to the same prompt.
    ///
    /// # Errors
    /// llama.cpp has no memory for it.
    pub fn again(&self) -> Result<Self> {
        Self::new(self.source.clone()).map_err(Error::engine)
    }

    /// Whether parsing costs nothing, since all of the answer is content. Else all of it is read each time.
    pub fn is_plain(&self) -> bool {
        self.parser.is_none()
    }

    /// What `text`, all of the answer so far, says that was not known before.
    ///
    /// # Errors
    /// It is whole, and not in the format that the prompt asks for, or calls a tool with arguments that are nested too
    /// deeply.
    pub fn push(&mut self, text: &str, is_partial: bool) -> Result<Vec<ChatDelta>> {
        let Some(parser) = &mut self.parser else {
            let content = text.strip_prefix(self.message.content.as_str()).unwrap_or_default().to_owned();
            self.message.content.push_str(&content);
            let delta = ChatDelta { content, ..ChatDelta::default() };
            return Ok(if delta.content.is_empty() { Vec::new() } else { vec![delta] });
        };
        self.brackets.read(text);
        if self.brackets.deepest > MAX_NESTING {
            return Err(Error::expected(
                format!("an answer of at most {MAX_NESTING} nested brackets"),
                "more of them",
            ));
        }
        #[derive(Deserialize)]
        struct Parsed {
            deltas: Vec<ChatDelta>,
            message: AnswerMessage,
        }
        let json = parser.push(text, !is_partial).map_err(Error::engine)?;
        let parsed: Parsed = serde_json::from_str(&json)
            .map_err(|error| Error::engine(format!("what llama.cpp parsed is no message: {error}")))?;
        self.message = parsed.message;
        Ok(parsed.deltas)
    }

    /// All that the answer has said so far.
    pub fn message(&self) -> &AnswerMessage {
        &self.message
    }
}

/// How many brackets of a growing text are open.
#[derive(Default)]
struct Brackets {
    n_read: usize,
    open: usize,
    deepest: usize,
}

impl Brackets {
    fn read(&mut self, text: &str) {
        for byte in text.bytes().skip(self.n_read) {
            match byte {
                b'[' | b'{' => self.open += 1,
                b']' | b'}' => self.open = self.open.saturating_sub(1),
                _ => {}
            }
            self.deepest = self.deepest.max(self.open);
        }
        self.n_read = self.n_read.max(text.len());
    }
}
