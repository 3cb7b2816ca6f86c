//! Chat messages in the form the model was trained on, by the template it carries.

use llama_cpp_2::model::LlamaChatMessage;

use crate::engine::Model;
use crate::error::{Error, Result};

/// One message of a conversation.
#[derive(Clone, Debug)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// What was said.
    pub content: String,
}

impl Model {
    /// Whether the model carries a chat template.
    pub fn has_chat_template(&self) -> bool {
        self.handle.llama().chat_template(None).is_ok()
    }

    /// The conversation as the model expects it, ready for the assistant's next message.
    pub fn chat_prompt(&self, messages: &[ChatMessage]) -> Result<String> {
        let llama = self.handle.llama();
        let template = llama.chat_template(None).map_err(|_| {
            Error::invalid("the model carries no chat template")
                .file(self.file().path())
                .field("tokenizer.chat_template")
                .hint("complete a plain prompt with -p, without --chat")
        })?;
        let messages: Vec<_> = messages
            .iter()
            .map(|message| LlamaChatMessage::new(message.role.into(), message.content.clone()))
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| Error::invalid("a message contains a NUL character"))?;
        llama.apply_chat_template(&template, &messages, true).map_err(|_| {
            Error::invalid("llama.cpp does not know this model's chat template")
                .file(self.file().path())
                .field("tokenizer.chat_template")
                .hint("complete a plain prompt with -p, without --chat")
        })
    }
}
