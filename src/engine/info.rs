//! What a model says of itself.

use llama_cpp_2::token::LlamaToken;

use crate::engine::{Model, Token};

/// A model in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// llama.cpp's words for it, such as `llama 1B Q8_0`.
    pub description: String,
    /// Kind of vocabulary, as llama.cpp numbers them.
    pub vocab_type: i32,
    /// Size of the vocabulary.
    pub n_vocab: usize,
    /// Tokens of context that it was trained with.
    pub n_ctx_train: u32,
    /// Width of its embeddings.
    pub n_embd: usize,
    /// How many weights it has.
    pub n_params: u64,
    /// Bytes of its tensors.
    pub size: u64,
    /// What begins a text; empty if nothing does.
    pub bos_token: String,
    /// What ends one.
    pub eos_token: String,
}

impl Model {
    /// The model in numbers.
    pub fn info(&self) -> ModelInfo {
        let llama = self.handle.llama();
        let vocab = llama.vocab();
        let text = |LlamaToken(token)| String::from_utf8_lossy(&self.spelling(token)).into_owned();
        ModelInfo {
            description: self.handle.description(),
            vocab_type: self.handle.vocab_type(),
            n_vocab: self.n_vocab(),
            n_ctx_train: self.n_ctx_train(),
            n_embd: usize::try_from(llama.n_embd()).unwrap_or(0),
            n_params: llama.n_params(),
            size: llama.size(),
            bos_token: text(vocab.bos()),
            eos_token: text(vocab.eos()),
        }
    }

    /// All tokens that end a generation.
    pub fn end_tokens(&self) -> Vec<Token> {
        let vocab = self.handle.llama().vocab();
        vocab.tokens().filter(|&token| vocab.is_eog(token)).map(|LlamaToken(token)| token).collect()
    }
}
