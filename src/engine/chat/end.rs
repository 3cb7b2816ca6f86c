//! What ends an answer.

use llama_cpp_2::token::LlamaToken;

use super::ChatMessage;
use crate::engine::{Model, Token};
use crate::error::Result;

/// An answer that no template writes by itself.
const ANSWER: &str = "0123456789";

impl Model {
    /// The token that ends an answer: in a chat the one that the template writes after one, and otherwise, or where the
    /// template takes no conversations, that of a text. `None` where the vocabulary has neither.
    ///
    /// # Errors
    /// The vocabulary has no way to say what the template writes.
    pub fn end_of_answer(&self, is_chat: bool) -> Result<Option<Token>> {
        if is_chat {
            let turns = [ChatMessage::user("a"), ChatMessage::assistant(ANSWER), ChatMessage::user("b")];
            let text = self.chat_prompt(&turns).map(|prompt| prompt.text).unwrap_or_default();
            if let Some((_, after)) = text.split_once(ANSWER) {
                let tokens = self.tokenize(after, false, true)?;
                if let Some(end) = tokens.into_iter().find(|&token| self.is_end(token)) {
                    return Ok(Some(end));
                }
            }
        }
        let LlamaToken(end) = self.handle.llama().vocab().eos();
        Ok(self.is_end(end).then_some(end))
    }
}
