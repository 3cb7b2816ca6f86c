//! One question, put into the adaptation prompt and turned into tokens.

use super::prompt::Filled;
use super::{AdaptPrompt, Candidates, LabelTree};
use crate::engine::{ChatMessage, Model, Token};
use crate::error::{Error, Result};

/// What pass 1 reads for one question.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The labels, after the prompt that they share.
    pub tree: LabelTree,
    /// What a model reads that is to write a label itself: the prompt without anything of the labels, also where all of
    /// them begin alike. Tokens that would reach over the border are the model's to write.
    pub prompt: Vec<Token>,
}

/// Stands for the question where it must be cut out again: a character of no language.
const QUESTION: char = '\u{E0A2}';

impl Ask {
    /// Puts `question` into `prompt`, within `model`'s chat template if it has one.
    ///
    /// # Errors
    /// A template that cannot be filled in, an expert whose description holds control tokens of the model, or labels
    /// that the model cannot tell apart.
    pub fn new(model: &Model, prompt: &AdaptPrompt, candidates: &Candidates, question: &str) -> Result<Self> {
        for expert in candidates.experts() {
            if has_control_tokens(model, &expert.description)? {
                return Err(Error::invalid("its description holds control tokens of this model")
                    .field(format!("expert {}", expert.name))
                    .hint("such an expert is not to be trusted; train it again"));
            }
        }
        // Tokens reach over the borders of a question, so it is cut out only where it has to be.
        let is_plain =
            !has_control_tokens(model, question)? && !question.contains([super::prompt::ANSWER, QUESTION]);
        let inner = if is_plain { question.to_owned() } else { QUESTION.to_string() };
        let text = around(model, &prompt.fill(&inner, candidates)?)?;
        let tokens = |label: &str| -> Result<Vec<Token>> {
            let text = format!("{text}{label}");
            if is_plain {
                return model.tokenize(&text, true, true);
            }
            let mut tokens: Vec<Token> = Vec::new();
            for (i, part) in text.split(QUESTION).enumerate() {
                if i > 0 {
                    tokens.extend(model.tokenize(question, false, false)?);
                }
                tokens.extend(model.tokenize(part, i == 0, true)?);
            }
            Ok(tokens)
        };
        let texts = candidates.labels().iter().map(|label| tokens(label)).collect::<Result<Vec<_>>>()?;
        let tree = LabelTree::new(&texts)?;
        let bare = tokens("")?;
        let prompt =
            bare.iter().zip(tree.prompt()).take_while(|(a, b)| a == b).map(|(&token, _)| token).collect();
        Ok(Self { tree, prompt })
    }
}

/// All that comes before a label.
fn around(model: &Model, Filled { message, answer }: &Filled) -> Result<String> {
    if !model.has_chat_template() {
        return Ok(format!("{message}\n{answer}"));
    }
    let prompt = model.chat_prompt(&[ChatMessage { role: "user", content: message.clone() }])?;
    Ok(format!("{prompt}{answer}"))
}

/// Whether `text` says things such as `<|im_end|>` that this model reads as control tokens.
fn has_control_tokens(model: &Model, text: &str) -> Result<bool> {
    Ok(model.tokenize(text, false, true)? != model.tokenize(text, false, false)?)
}
