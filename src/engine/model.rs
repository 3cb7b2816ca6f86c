//! A model in memory, and the same with the factors of its adapted weights.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use llama_cpp_2::token::LlamaToken;
use memmap2::Mmap;

use super::chat::control::ControlTokens;
use super::chat::Chat;
use super::check;
use crate::error::{Error, Result};
use crate::export::lora;
use crate::ffi::context::Lora;
use crate::ffi::factors::{FactorSource, Factors};
use crate::ffi::gguf::GgufFile;
use crate::ffi::model::{ModelHandle, Offload};
use crate::sidecar::{Fingerprint, Sidecar};

/// A vocabulary id.
pub type Token = i32;

/// What stands between turns where a model without a template uses this one.
const CHATML: &str = "<|im_start|> <|im_end|>";

/// A loaded GGUF model.
pub struct Model {
    pub(super) handle: Arc<ModelHandle>,
    file: GgufFile,
    pub(super) chat: Chat,
    control: OnceLock<ControlTokens>,
}

impl Model {
    /// Loads the GGUF model at `path`, with `n_gpu_layers` layers on a GPU where one is built in.
    ///
    /// # Errors
    /// No whole GGUF model that llama.cpp can run; the error says what is wrong with the file.
    pub fn load(path: &Path, n_gpu_layers: u32) -> Result<Arc<Self>> {
        Self::load_with(path, &Offload::gpu(n_gpu_layers), None)
    }

    /// The same with layers where `offload` says, and, if it is given, another chat template than the model's own: one in Jinja,
    /// or the name of one of llama.cpp's built-in ones, such as `chatml`.
    ///
    /// # Errors
    /// Those of [`Self::load`], or a server that broke off. The template is not read yet: see [`Self::check_chat_template`].
    pub fn load_with(path: &Path, offload: &Offload, chat_template: Option<String>) -> Result<Arc<Self>> {
        let file = GgufFile::open(path)?;
        if let Some(kind) = file.str("general.type")?.filter(|&kind| kind != "model") {
            return Err(Error::expected("a model", format!("'{kind}'"))
                .file(path)
                .field("general.type")
                .hint(
                    "`Model::load` takes the model, `Sidecar::open` a sidecar and `Expert::open` an expert",
                ));
        }
        file.check_is_whole()?;
        check::model(&file)?;
        let handle = ModelHandle::load(path, offload)?;
        Ok(Arc::new(Self { handle, file, chat: Chat::new(chat_template), control: OnceLock::new() }))
    }

    /// The model's file.
    pub fn file(&self) -> &GgufFile {
        &self.file
    }

    /// Token ids of `text`. `add_special` adds the model's begin-of-sequence token where it wants one;
    /// `parse_special` reads control tokens such as `<|im_start|>` in the text.
    ///
    /// # Errors
    /// The vocabulary has no way to say some of the text.
    pub fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<Token>> {
        self.handle.tokenize(text, add_special, parse_special)
    }

    /// The control tokens of the vocabulary.
    pub(super) fn control_tokens(&self) -> &ControlTokens {
        self.control.get_or_init(|| {
            ControlTokens::new(&self.handle, &self.chat_template().unwrap_or_else(|| CHATML.into()))
        })
    }

    /// The bytes `token` stands for; part of a UTF-8 character where a character is several tokens.
    ///
    /// Control tokens stand for nothing, but for those with which a reasoning model marks its thinking; so do tokens that
    /// there are not.
    pub fn piece(&self, token: Token) -> Vec<u8> {
        if !self.has_token(token) {
            return Vec::new();
        }
        let vocab = self.handle.llama().vocab();
        // Only a control token is worth the reading of the template.
        if vocab.is_control(LlamaToken(token)) {
            if let Some((_, text)) = self.thinking_pieces().iter().find(|(known, _)| *known == token) {
                return text.clone().into_bytes();
            }
        }
        vocab.token_to_piece(LlamaToken(token), false, None)
    }

    /// As [`Self::piece`], with control tokens by their names, for people to look at.
    pub fn spelling(&self, token: Token) -> Vec<u8> {
        if !self.has_token(token) {
            return Vec::new();
        }
        self.handle.llama().vocab().token_to_piece(LlamaToken(token), true, None)
    }

    /// Whether `token` ends a generation.
    pub fn is_end(&self, token: Token) -> bool {
        self.has_token(token) && self.handle.llama().vocab().is_eog(LlamaToken(token))
    }

    /// Whether the vocabulary has `token`.
    pub fn has_token(&self, token: Token) -> bool {
        usize::try_from(token).is_ok_and(|token| token < self.n_vocab())
    }

    /// Size of the vocabulary.
    pub fn n_vocab(&self) -> usize {
        self.handle.llama().n_vocab() as usize
    }

    /// Numbers of a hidden state.
    pub fn n_embd(&self) -> usize {
        self.handle.llama().n_embd() as usize
    }

    /// Blocks.
    pub fn n_layer(&self) -> u32 {
        self.handle.llama().n_layer()
    }

    /// Tokens of context the model was trained with.
    pub fn n_ctx_train(&self) -> u32 {
        self.handle.llama().n_ctx_train()
    }

    /// Loads a llama.cpp LoRA adapter for this model.
    ///
    /// # Errors
    /// It is no such adapter, one that we made for another model, or llama.cpp cannot load it for this one.
    pub fn load_lora(&self, path: &Path) -> Result<Arc<Lora>> {
        if let Some(found) = lora::open(path)?.fingerprint {
            let model = Fingerprint::of_model(&self.file)?;
            if found != model.as_str() {
                return Err(Error::invalid("it was made for another model")
                    .file(path)
                    .hint("use one for this model, or train or export it again"));
            }
        }
        Lora::load(&self.handle, path)
    }
}

/// What makes factors of a model from those in a map.
type MakeFactors = fn(&Arc<ModelHandle>, &Arc<Mmap>, &[FactorSource<'_>]) -> Result<Factors>;

/// A model and the factors of its adapted weights, ready for sessions.
pub struct AdaptedModel {
    model: Arc<Model>,
    sidecar: Sidecar,
    pub(super) factors: Arc<Factors>,
    /// For each weight of `factors`, its index in the sidecar.
    pub(super) order: Vec<usize>,
}

impl AdaptedModel {
    /// Joins a model with its sidecar; an error if the sidecar belongs to another model.
    ///
    /// # Errors
    /// The sidecar belongs to another model, or a device has no memory for its factors.
    pub fn new(model: &Arc<Model>, sidecar: Sidecar) -> Result<Arc<Self>> {
        Self::with(model, sidecar, Factors::new)
    }

    /// The same with factors, all F32, that can be [rewritten](Factors::rewrite).
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub(super) fn rewritable(model: &Arc<Model>, sidecar: Sidecar) -> Result<Arc<Self>> {
        Self::with(model, sidecar, Factors::rewritable)
    }

    fn with(model: &Arc<Model>, sidecar: Sidecar, factors: MakeFactors) -> Result<Arc<Self>> {
        sidecar.check_model(&model.file)?;
        let sources: Vec<_> = sidecar
            .weights
            .iter()
            .map(|weight| FactorSource { weight: &weight.name, vt: &weight.vt, u: &weight.u })
            .collect();
        let factors = factors(&model.handle, sidecar.file().mmap(), &sources)
            .map_err(|error| error.file(sidecar.file().path()))?;
        let order = factors
            .names()
            .map(|name| sidecar.weights.iter().position(|weight| weight.name == name))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Error::engine("the model's tensors changed their names while loading"))?;
        Ok(Arc::new(Self { model: Arc::clone(model), sidecar, factors: Arc::new(factors), order }))
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The sidecar.
    pub fn sidecar(&self) -> &Sidecar {
        &self.sidecar
    }
}
