//! What llama.cpp takes on trust in a model's file, checked before it reads it.
//!
//! llama.cpp reports a missing key, a value of a wrong type and most tensors of a wrong shape as errors. What stands here is
//! the rest: what it would divide by, allocate, index with or assert, and thereby end the process. Rules about one key are
//! rows of [`RULES`]; those about several are functions below.

use std::collections::HashMap;
use std::fmt;

use crate::error::{Error, Result};
use crate::ffi::gguf::{GgufFile, TensorInfo, Value};
use crate::ffi::tensor_type::TensorType;

const DAMAGED: &str = "the file is damaged or was converted wrongly; download or convert it again";

/// What every number of a value must be.
#[derive(Clone, Copy)]
enum Must {
    /// Between these, both included.
    Lie(f64, f64),
    /// Above 0, and no infinity.
    BePositive,
    /// 0 or more, and no infinity.
    NotBeNegative,
    /// No NaN and no infinity.
    BeFinite,
    /// No NaN: such numbers have no order.
    NotBeNan,
    /// One of these texts.
    BeOneOf(&'static [&'static str]),
    /// None of these texts.
    NotBeOneOf(&'static [&'static str]),
    /// Yes.
    BeTrue,
}

/// llama.cpp's bounds (LLAMA_MAX_LAYERS, LLAMA_MAX_EXPERTS), and one of our own for sizes: products of two of them stay
/// exact in 64 bits.
const MAX_LAYERS: f64 = 512.0;
const MAX_EXPERTS: f64 = 1024.0;
const MAX_SIZE: f64 = (1u64 << 31) as f64 - 1.0;

/// Keys with what they must be; `*` stands for the architecture. A key that is absent is llama.cpp's to miss.
const RULES: &[(&str, Must)] = &[
    ("*.block_count", Must::Lie(1.0, MAX_LAYERS)),
    ("*.context_length", Must::Lie(1.0, MAX_SIZE)),
    ("*.embedding_length", Must::Lie(1.0, MAX_SIZE)),
    ("*.embedding_length_out", Must::Lie(0.0, MAX_SIZE)),
    ("*.feed_forward_length", Must::Lie(0.0, MAX_SIZE)),
    ("*.vocab_size", Must::Lie(1.0, MAX_SIZE)),
    ("*.expert_count", Must::Lie(0.0, MAX_EXPERTS)),
    ("*.expert_used_count", Must::Lie(0.0, MAX_EXPERTS)),
    // Pooling is for embeddings: 0 is none, 4 the last of llama.cpp's kinds.
    ("*.pooling_type", Must::Lie(0.0, 4.0)),
    // Text is written from left to right.
    ("*.attention.causal", Must::BeTrue),
    ("*.attention.head_count", Must::Lie(0.0, MAX_SIZE)),
    ("*.attention.head_count_kv", Must::Lie(0.0, MAX_SIZE)),
    ("*.attention.key_length", Must::Lie(0.0, MAX_SIZE)),
    ("*.attention.value_length", Must::Lie(0.0, MAX_SIZE)),
    ("*.attention.layer_norm_epsilon", Must::NotBeNegative),
    ("*.attention.layer_norm_rms_epsilon", Must::NotBeNegative),
    ("*.attention.group_norm_epsilon", Must::NotBeNegative),
    ("*.attention.max_alibi_bias", Must::NotBeNegative),
    ("*.attention.clamp_kqv", Must::NotBeNegative),
    ("*.attention.scale", Must::BeFinite),
    ("*.logit_scale", Must::BeFinite),
    ("*.rope.dimension_count", Must::Lie(0.0, MAX_SIZE)),
    ("*.rope.freq_base", Must::BePositive),
    ("*.rope.freq_base_swa", Must::BePositive),
    // 0 stands for no scaling.
    ("*.rope.scaling.factor", Must::NotBeNegative),
    ("*.rope.scale_linear", Must::NotBeNegative),
    ("*.rope.scaling.attn_factor", Must::BeFinite),
    ("*.rope.scaling.type", Must::BeOneOf(&["none", "linear", "yarn", "longrope"])),
    // "test" is for llama.cpp's own tests.
    ("tokenizer.ggml.model", Must::NotBeOneOf(&["no_vocab", "none", "test"])),
    ("tokenizer.ggml.scores", Must::NotBeNan),
];

impl Must {
    /// Whether `value` is as it must be. What is of another type is llama.cpp's to refuse.
    fn holds(self, value: &Value) -> bool {
        let all = |holds: fn(f64) -> bool| match value {
            Value::Number(number) => holds(*number),
            Value::Numbers(numbers) => numbers.iter().all(|&number| holds(number)),
            _ => true,
        };
        match (self, value) {
            (Self::Lie(least, most), Value::Number(number)) => (least..=most).contains(number),
            (Self::Lie(least, most), Value::Numbers(numbers)) => {
                numbers.iter().all(|number| (least..=most).contains(number))
            }
            (Self::BePositive, _) => all(|number| number > 0.0 && number.is_finite()),
            (Self::NotBeNegative, _) => all(|number| number >= 0.0 && number.is_finite()),
            (Self::BeFinite, _) => all(f64::is_finite),
            (Self::NotBeNan, _) => all(|number| !number.is_nan()),
            (Self::BeOneOf(texts), Value::Text(text)) => texts.iter().any(|known| known.as_bytes() == *text),
            (Self::NotBeOneOf(texts), Value::Text(text)) => {
                !texts.iter().any(|known| known.as_bytes() == *text)
            }
            (Self::BeTrue, Value::Bool(yes)) => *yes,
            _ => true,
        }
    }
}

impl fmt::Display for Must {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lie(least, most) => write!(f, "{least} to {most}"),
            Self::BePositive => f.write_str("a number above 0"),
            Self::NotBeNegative => f.write_str("a number from 0"),
            Self::BeFinite => f.write_str("finite numbers"),
            Self::NotBeNan => f.write_str("numbers"),
            Self::BeOneOf(texts) => f.write_str(&texts.join(", ")),
            Self::NotBeOneOf(_) => f.write_str("a vocabulary that turns text into tokens"),
            Self::BeTrue => f.write_str("true (a model that writes from left to right)"),
        }
    }
}

/// Checks the model in `file`.
///
/// # Errors
/// Something that llama.cpp would not survive, with its key or tensor.
pub fn model(file: &GgufFile) -> Result<()> {
    let Some((Value::Text(architecture), _)) = file.value("general.architecture") else { return Ok(()) };
    let keys = Keys { file, architecture: String::from_utf8_lossy(architecture).into_owned() };
    let checked = keys
        .check_rules()
        .and_then(|()| keys.check_experts())
        .and_then(|()| keys.check_heads())
        .and_then(|()| keys.check_vocabulary())
        .and_then(|()| file.tensors().iter().try_for_each(check_tensor));
    checked.map_err(|error| error.file(file.path()).hint(DAMAGED))
}

/// The keys of a model.
struct Keys<'a> {
    file: &'a GgufFile,
    architecture: String,
}

impl<'a> Keys<'a> {
    /// `key` in full: `*` stands for the architecture.
    fn name(&self, key: &str) -> String {
        key.replacen('*', &self.architecture, 1)
    }

    fn value(&self, key: &str) -> Option<Value<'a>> {
        self.file.value(&self.name(key)).map(|(value, _)| value)
    }

    /// The numbers at `key`; none where it is absent or no number.
    fn numbers(&self, key: &str) -> Vec<f64> {
        match self.value(key) {
            Some(Value::Number(number)) => vec![number],
            Some(Value::Numbers(numbers)) => numbers,
            _ => Vec::new(),
        }
    }

    /// The number at `key`, or the first of several.
    fn number(&self, key: &str) -> Option<f64> {
        self.numbers(key).first().copied()
    }

    fn most(&self, key: &str) -> f64 {
        self.numbers(key).into_iter().fold(0.0, f64::max)
    }

    fn wrong(&self, key: &str, expected: impl fmt::Display, found: impl fmt::Display) -> Error {
        Error::expected(expected, found).field(self.name(key))
    }

    fn check_rules(&self) -> Result<()> {
        for &(key, must) in RULES {
            let Some(value) = self.value(key) else { continue };
            if !must.holds(&value) {
                return Err(self.wrong(key, must, shown(&value, must)));
            }
        }
        Ok(())
    }

    fn check_experts(&self) -> Result<()> {
        let layers = self.number("*.block_count").unwrap_or(0.0);
        let extra = self.number("*.nextn_predict_layers").unwrap_or(0.0);
        // One layer must be left that is not for predicting further tokens.
        if extra > 0.0 && extra >= layers {
            return Err(self.wrong("*.nextn_predict_layers", format!("less than {layers} layers"), extra));
        }
        let experts = self.number("*.expert_count").unwrap_or(0.0);
        let used = self.most("*.expert_used_count");
        if used > experts || (used == 0.0 && experts > 0.0) {
            let expected = if experts > 0.0 {
                format!("1 to {experts}, the number of experts")
            } else {
                "0 of 0 experts".into()
            };
            return Err(self.wrong("*.expert_used_count", expected, used));
        }
        let groups = self.number("*.expert_group_count").unwrap_or(0.0);
        if groups > 0.0 && groups >= experts {
            let expected = format!("fewer groups than the {experts} experts");
            return Err(self.wrong("*.expert_group_count", expected, groups));
        }
        if groups > 1.0 {
            if experts % groups != 0.0 {
                let expected = format!("a number that divides {experts} experts");
                return Err(self.wrong("*.expert_group_count", expected, groups));
            }
            let used = self.number("*.expert_group_used_count").unwrap_or(0.0);
            if !(used > 0.0 && used < groups) {
                let expected = format!("1 to {}", groups - 1.0);
                return Err(self.wrong("*.expert_group_used_count", expected, used));
            }
        }
        Ok(())
    }

    /// Heads share the width, key-value heads share the heads, and rotated pairs lie within a head.
    fn check_heads(&self) -> Result<()> {
        let heads = self.numbers("*.attention.head_count");
        let kv_heads = self.numbers("*.attention.head_count_kv");
        // One number for all layers, or one for each.
        let of = |numbers: &[f64], layer: usize| match numbers {
            [all] => Some(*all),
            each => each.get(layer).copied(),
        };
        for layer in 0..heads.len().max(kv_heads.len()) {
            let (Some(heads), Some(kv)) = (of(&heads, layer), of(&kv_heads, layer)) else { continue };
            if heads > 0.0 && kv > 0.0 && heads % kv != 0.0 {
                let expected = format!("a number that divides {heads} heads");
                return Err(self.wrong("*.attention.head_count_kv", expected, kv));
            }
        }
        let Some(&heads) = heads.first().filter(|&&heads| heads > 0.0) else { return Ok(()) };
        let width = self.number("*.embedding_length").unwrap_or(0.0);
        let given = self.number("*.attention.key_length");
        let length = given.unwrap_or((width / heads).floor());
        if length < 1.0 {
            return Err(match given {
                Some(length) => self.wrong("*.attention.key_length", "1 or more", length),
                None => self.wrong("*.attention.head_count", format!("at most {width}, the width"), heads),
            });
        }
        if let Some(rotated) = self.number("*.rope.dimension_count") {
            if rotated > length || rotated % 2.0 != 0.0 {
                let expected = format!("an even number up to {length}, the size of a head");
                return Err(self.wrong("*.rope.dimension_count", expected, rotated));
            }
        }
        Ok(())
    }

    fn check_vocabulary(&self) -> Result<()> {
        const TOKENS: &str = "tokenizer.ggml.tokens";
        let Some(Value::Texts(tokens)) = self.value(TOKENS) else { return Ok(()) };
        let mut seen: HashMap<String, usize> = HashMap::with_capacity(tokens.len());
        // ggml-org/llama.cpp#25739: files that Google published have tokens of the same text.
        for (id, token) in tokens.iter().enumerate() {
            // llama.cpp's name for an empty one.
            let name = if token.is_empty() { format!("[EMPTY_{id}]").into_bytes() } else { token.to_vec() };
            let name = name.escape_ascii().to_string();
            if let Some(first) = seen.insert(name.clone(), id) {
                return Err(self
                    .wrong(TOKENS, "tokens that differ", format!("'{name}' as number {first} and as number {id}"))
                    .hint(
                        "llama.cpp cannot load such a vocabulary; take a file of this model that somebody else converted, \
                         or convert it again",
                    ));
            }
        }
        // ggml-org/llama.cpp#24885: where a text is to begin or end with a token, there must be one.
        for (key, wanted) in [
            ("tokenizer.ggml.bos_token_id", "tokenizer.ggml.add_bos_token"),
            ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.add_eos_token"),
            ("tokenizer.ggml.seperator_token_id", "tokenizer.ggml.add_sep_token"),
        ] {
            let is_wanted = self.value(wanted) == Some(Value::Bool(true));
            let in_range = |id: f64| (0.0..tokens.len() as f64).contains(&id);
            match self.number(key) {
                Some(id) if is_wanted && !in_range(id) => {
                    return Err(self.wrong(key, format!("one of {} tokens", tokens.len()), id));
                }
                None if is_wanted && self.is_without_default(key) => {
                    return Err(self.wrong(key, format!("a token, which {wanted} asks for"), "none"));
                }
                _ => {}
            }
        }
        self.check_byte_tokens(&tokens)
    }

    /// Vocabularies of SentencePiece spell bytes as tokens; llama.cpp reads their values from their texts.
    fn check_byte_tokens(&self, tokens: &[&[u8]]) -> Result<()> {
        let least = match self.value("tokenizer.ggml.model") {
            Some(Value::Text(b"llama" | b"t5")) => b"<0x00>".len(),
            Some(Value::Text(b"bert")) => usize::MAX,
            _ => return Ok(()),
        };
        let types = self.numbers("tokenizer.ggml.token_type");
        for (id, _) in types.iter().enumerate().filter(|(_, &ty)| ty == BYTE) {
            let text = tokens.get(id).copied().unwrap_or_default();
            if text.len() < least {
                let expected = if least == usize::MAX {
                    "no tokens for bytes in a vocabulary of this kind"
                } else {
                    "byte tokens that are written <0x00>"
                };
                let found = format!("'{}' as number {id}", text.escape_ascii());
                return Err(self.wrong("tokenizer.ggml.token_type", expected, found));
            }
        }
        Ok(())
    }

    /// Whether this kind of vocabulary has no token that stands in where `key` is absent.
    fn is_without_default(&self, key: &str) -> bool {
        let Some(Value::Text(kind)) = self.value("tokenizer.ggml.model") else { return false };
        match key {
            "tokenizer.ggml.bos_token_id" => [&b"t5"[..], b"rwkv", b"gemma4"].contains(&kind),
            "tokenizer.ggml.eos_token_id" => [&b"rwkv"[..], b"gemma4", b"bert"].contains(&kind),
            _ => kind != b"bert",
        }
    }
}

/// llama.cpp's number of tokens that stand for a byte.
const BYTE: f64 = 6.0;

/// `value`, or of an array the first number that is not as it `must` be.
fn shown(value: &Value, must: Must) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Bool(yes) => yes.to_string(),
        Value::Text(text) => format!("'{}'", text.escape_ascii()),
        Value::Numbers(numbers) => numbers
            .iter()
            .enumerate()
            .find(|(_, &number)| !must.holds(&Value::Number(number)))
            .map_or_else(String::new, |(i, number)| format!("{number} as number {i}")),
        Value::Texts(texts) => format!("{} texts", texts.len()),
    }
}

/// ggml multiplies matrices of some types only, and vectors (norms, biases) only where they are F32.
fn check_tensor(tensor: &TensorInfo) -> Result<()> {
    let wrong =
        |expected: &str| Err(Error::expected(expected, tensor.ty).field(format!("tensor {}", tensor.name)));
    let is_vector = tensor.n_dims == 1;
    let is_added =
        tensor.name.contains("norm") || tensor.name.ends_with(".bias") || tensor.name.starts_with("rope_");
    if is_vector && is_added && tensor.ty != TensorType::F32 {
        return wrong("type f32");
    }
    if !is_vector && tensor.name.ends_with(".weight") && !tensor.ty.is_for_weights() {
        return wrong("a type for weights, such as f16 or q8_0");
    }
    Ok(())
}
