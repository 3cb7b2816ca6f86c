//! One question, put into the adaptation prompt and turned into tokens.

use super::prompt::{Example, Filled};
use super::{AdaptPrompt, Candidates, LabelTree};
use crate::engine::{ChatMessage, Model, Thinking, Token};
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

impl Ask {
    /// Puts `question` into `prompt`, with the examples of `candidates`, within `model`'s chat template if it has one.
    ///
    /// # Errors
    /// A template that cannot be filled in, an expert whose description holds control tokens of the model, or labels
    /// that the model cannot tell apart.
    pub fn new(model: &Model, prompt: &AdaptPrompt, candidates: &Candidates, question: &str) -> Result<Self> {
        for expert in candidates.experts() {
            if has_control_tokens(model, &expert.description)? || has_control_tokens(model, &expert.name)? {
                return Err(Error::invalid("its name or description holds control tokens of this model")
                    .field(format!("expert {}", expert.name))
                    .hint("such an expert is not to be trusted; train it again"));
            }
        }
        let shown = candidates.shown().into_iter();
        let examples: Vec<_> =
            shown.map(|(question, label)| Example { question: model.shield(question), label }).collect();
        let text = around(model, &prompt.fill(&model.shield(question), candidates, &examples)?)?;
        let tokens = |label: &str| model.tokenize_shielded(&format!("{text}{label}"));
        let texts = candidates.labels().iter().map(|label| tokens(label)).collect::<Result<Vec<_>>>()?;
        let tree = LabelTree::new(&texts)?;
        let bare = tokens("")?;
        let prompt =
            bare.iter().zip(tree.prompt()).take_while(|(a, b)| a == b).map(|(&token, _)| token).collect();
        Ok(Self { tree, prompt })
    }
}

/// All that comes before a label.
fn around(model: &Model, Filled { turns, message, answer }: &Filled) -> Result<String> {
    if !model.has_chat_template() {
        let before: String =
            turns.iter().map(|(message, answer)| format!("{message}\n{answer}\n\n")).collect();
        return Ok(format!("{before}{message}\n{answer}"));
    }
    let before = turns.iter().flat_map(|(message, answer)| {
        [ChatMessage::user(message.as_str()), ChatMessage::assistant(answer.as_str())]
    });
    let messages: Vec<_> = before.chain([ChatMessage::user(message.as_str())]).collect();
    let (prompt, thinking) = model.render_shielded(&messages)?;
    Ok(format!("{prompt}{}{answer}", Thinking::closed(thinking.as_ref())))
}

/// Whether `text` says things such as `<|im_end|>` that this model reads as control tokens.
fn has_control_tokens(model: &Model, text: &str) -> Result<bool> {
    Ok(model.tokenize(text, false, true)? != model.tokenize(text, false, false)?)
}
