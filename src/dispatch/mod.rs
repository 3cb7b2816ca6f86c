//! The two passes of Transformer² (arXiv 2501.06252, section 3.2): the first looks at the question and decides the
//! mixture, the second answers with it.
//!
//! | strategy | pass 1 |
//! |---|---|
//! | [`Strategy::Prompt`] | the base model names the expert that fits, or `other` |
//! | [`Strategy::Classifier`] | the same, by an expert that was trained to do so |
//! | [`Strategy::Nearest`] | the base model reads the question; the expert is taken whose own questions left hidden states like it |
//!
//! (The third strategy of the paper is once for a task: [`crate::few_shot`].) [`Adaptive`] does both passes.
//!
//! The first two ask an [`AdaptPrompt`], which lists the loaded experts ([`Candidates`]), and read the answer from the
//! probabilities of the labels ([`LabelTree`]) or from what the model writes. `other`, and any choice that is less
//! sure than the threshold, is the base model, *slot 0*: never the mixture that was used last, as in the released
//! code.
//!
//! | case | conduct |
//! |---|---|
//! | no expert to choose is loaded | an error; the classifier itself is none |
//! | two experts of one name, in capitals or not, or one called `other` | an error that names them; `--expert NAME=FILE` renames |
//! | an expert without a description | a note; the model has its name to go by |
//! | an expert whose description holds control tokens | an error |
//! | a label that begins another one (`math`, `math-hard`) | the longer one gets what the model gives its continuation, the shorter one the rest |
//! | labels that are the same tokens to the model | an error |
//! | an answer in words that names no label | `other` |
//! | a question that says what to answer | it gets one of the labels, whatever it says; control tokens in it are read as plain text |
//! | a question too long for the context | an error |
//!
//! That a question can talk the model into another label is in the nature of asking a model: at worst another of the
//! loaded experts answers.

mod adaptive;
mod ask;
mod calibration;
mod candidates;
mod decision;
mod describe;
mod discriminant;
mod dispatcher;
mod labels;
mod nearest;
mod options;
mod prompt;
mod stance;
mod written;

pub use adaptive::{Adaptive, Reply};
pub use ask::Ask;
pub use candidates::{Candidate, Candidates, OTHER};
pub use decision::{Cost, Decision};
pub use describe::{describe, Description};
pub use dispatcher::{Dispatcher, Inquiry, Question};
pub use labels::LabelTree;
pub use options::{Options, Reading, Strategy, CLASSIFIER};
pub use prompt::AdaptPrompt;
pub use written::named_in;
