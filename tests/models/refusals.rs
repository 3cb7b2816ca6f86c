//! Known faults, each with the file, the field and what would be right.

use tempfile::TempDir;

use crate::gguf_edit::{Gguf, Value, BOOL, F32, I32, U32};
use crate::harness::{model, run};

type Spoil = fn(&Gguf) -> Gguf;

/// What is done to the model, and what the error says after the file's name. Public reports are named where there is one.
const FAULTS: &[(&str, Spoil)] = &[
    (
        // ggml-org/llama.cpp#25739, #24885, #5669
        "tokenizer.ggml.tokens: expected tokens that differ, found 'x' as number 300 and as number 400",
        |model| {
            let mut tokens = model.get("tokenizer.ggml.tokens").unwrap().texts();
            tokens[300] = b"x".to_vec();
            tokens[400] = b"x".to_vec();
            let used = tokens.iter().position(|token| token == b"x").unwrap();
            if used < 300 {
                tokens[used] = b"another".to_vec();
            }
            tokens.iter_mut().skip(401).filter(|token| **token == b"x").for_each(|token| *token = b"third".to_vec());
            model.with("tokenizer.ggml.tokens", Value::strs(tokens))
        },
    ),
    ("llama.rope.scaling.type: expected none, linear, yarn, longrope, found 'dynamic'", |model| {
        model.with("llama.rope.scaling.type", Value::str("dynamic"))
    }),
    ("llama.rope.scaling.type: expected none, linear, yarn, longrope, found ''", |model| {
        model.with("llama.rope.scaling.type", Value::str(""))
    }),
    ("llama.block_count: expected 1 to 512, found 0", |model| model.with("llama.block_count", Value::u32(0))),
    // 1bit-MONSTER/1bit-MONSTER#694
    ("llama.block_count: expected 1 to 512, found 2147483648", |model| {
        model.with("llama.block_count", Value::u32(1 << 31))
    }),
    ("llama.block_count: expected 1 to 512, found -1", |model| model.with("llama.block_count", Value::i32(-1))),
    ("llama.context_length: expected 1 to 2147483647, found 0", |model| {
        model.with("llama.context_length", Value::u32(0))
    }),
    ("llama.context_length: expected 1 to 2147483647, found 4294967295", |model| {
        model.with("llama.context_length", Value::u32(u32::MAX))
    }),
    ("llama.embedding_length: expected 1 to 2147483647, found 0", |model| {
        model.with("llama.embedding_length", Value::u32(0))
    }),
    // 1bit-MONSTER/1bit-MONSTER#455: more heads than the width has numbers.
    ("llama.attention.head_count: expected at most 64, the width, found 128", |model| {
        model.with("llama.attention.head_count", Value::u32(128))
    }),
    ("llama.attention.head_count_kv: expected a number that divides 8 heads, found 3", |model| {
        model.with("llama.attention.head_count_kv", Value::u32(3))
    }),
    ("llama.attention.head_count_kv: expected a number that divides 8 heads, found 16", |model| {
        model.with("llama.attention.head_count_kv", Value::u32(16))
    }),
    ("llama.rope.dimension_count: expected an even number up to 8, the size of a head, found 7", |model| {
        model.with("llama.rope.dimension_count", Value::u32(7))
    }),
    ("llama.rope.freq_base: expected a number above 0, found 0", |model| {
        model.with("llama.rope.freq_base", Value::f32(0.0))
    }),
    ("llama.rope.freq_base: expected a number above 0, found NaN", |model| {
        model.with("llama.rope.freq_base", Value::f32(f32::NAN))
    }),
    ("llama.attention.layer_norm_rms_epsilon: expected a number from 0, found -1", |model| {
        model.with("llama.attention.layer_norm_rms_epsilon", Value::f32(-1.0))
    }),
    ("llama.attention.layer_norm_rms_epsilon: expected a number from 0, found inf", |model| {
        model.with("llama.attention.layer_norm_rms_epsilon", Value::f32(f32::INFINITY))
    }),
    ("llama.expert_count: expected 0 to 1024, found 4000", |model| {
        model.with("llama.expert_count", Value::u32(4000))
    }),
    ("llama.expert_used_count: expected 1 to 8, the number of experts, found 0", |model| {
        model.with("llama.expert_count", Value::u32(8))
    }),
    ("llama.expert_used_count: expected 0 of 0 experts, found 2", |model| {
        model.with("llama.expert_used_count", Value::u32(2))
    }),
    // ggml-org/llama.cpp#28345: a number for each layer.
    ("llama.expert_used_count: expected 1 to 8, the number of experts, found 9", |model| {
        let used = Value::array(U32, [1u32, 2, 9, 0, 0].map(u32::to_le_bytes));
        model.with("llama.expert_count", Value::u32(8)).with("llama.expert_used_count", used)
    }),
    ("llama.expert_group_count: expected a number that divides 8 experts, found 3", |model| {
        model
            .with("llama.expert_count", Value::u32(8))
            .with("llama.expert_used_count", Value::u32(2))
            .with("llama.expert_group_count", Value::u32(3))
    }),
    ("llama.nextn_predict_layers: expected less than 5 layers, found 5", |model| {
        model.with("llama.nextn_predict_layers", Value::u32(5))
    }),
    ("llama.attention.causal: expected true (a model that writes from left to right), found false", |model| {
        model.with("llama.attention.causal", Value::new(BOOL, [0]))
    }),
    ("tokenizer.ggml.bos_token_id: expected one of 512 tokens, found 512", |model| {
        model.with("tokenizer.ggml.bos_token_id", Value::u32(512))
    }),
    ("tokenizer.ggml.eos_token_id: expected one of 512 tokens, found 4294967295", |model| {
        model.with("tokenizer.ggml.eos_token_id", Value::u32(u32::MAX)).with("tokenizer.ggml.add_eos_token", Value::bool(true))
    }),
    // ggml-org/llama.cpp#24885
    (
        "tokenizer.ggml.bos_token_id: expected a token, which tokenizer.ggml.add_bos_token asks for, found none",
        |model| model.with("tokenizer.ggml.model", Value::str("t5")).without("tokenizer.ggml.bos_token_id"),
    ),
    ("tokenizer.ggml.model: expected a vocabulary that turns text into tokens, found 'none'", |model| {
        model.with("tokenizer.ggml.model", Value::str("none"))
    }),
    ("tokenizer.ggml.token_type: expected byte tokens that are written <0x00>, found '<unk>' as number 0", |model| {
        model.with("tokenizer.ggml.token_type", Value::array(I32, vec![6i32.to_le_bytes(); 512]))
    }),
    ("tokenizer.ggml.scores: expected numbers, found NaN as number 0", |model| {
        model.with("tokenizer.ggml.scores", Value::array(F32, vec![f32::NAN.to_le_bytes(); 512]))
    }),
    ("tensor blk.0.attn_norm.weight: expected type f32, found i32", |model| of_integers(model, "blk.0.attn_norm.weight")),
    ("tensor blk.1.ffn_up.weight: expected a type for weights, such as f16 or q8_0, found i32", |model| {
        of_integers(model, "blk.1.ffn_up.weight")
    }),
];

/// ggml's number of I32, whose elements are as large as those of F32.
fn of_integers(model: &Gguf, name: &str) -> Gguf {
    let mut file = model.clone();
    file.tensors.iter_mut().find(|tensor| tensor.name == name.as_bytes()).unwrap().ty = 26;
    file
}

#[test]
fn known_faults_are_named() {
    let Some(model) = model() else { return };
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("odd.gguf");
    let path = path.to_str().unwrap();
    for (expected, spoil) in FAULTS {
        std::fs::write(path, spoil(&model).encode()).unwrap();
        let ended = run(&["run", "-m", path, "-p", "Once", "-n", "2"], folder.path());
        let begin = format!("error: {path}: {expected} (hint: ");
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{expected}: {ended:?}");
        assert!(ended.stderr.starts_with(&begin), "{expected}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{expected}: {}", ended.stderr);
    }
}

/// ggml-org/llama.cpp#6717, #2580: a vocabulary of words, without bytes to spell anything else with. What it can say, it
/// says.
#[test]
fn a_text_that_a_vocabulary_cannot_say_is_an_error() {
    let Some(model) = model() else { return };
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("words.gguf");
    let path = path.to_str().unwrap();
    let tokens = model.get("tokenizer.ggml.tokens").unwrap().texts();
    let wordy =
        tokens
            .into_iter()
            .map(|token| if token.starts_with(b"<0x") { [b"no", &token[..]].concat() } else { token });
    let types = Value::array(I32, vec![1i32.to_le_bytes(); 512]);
    let file =
        model.with("tokenizer.ggml.tokens", Value::strs(wordy)).with("tokenizer.ggml.token_type", types);
    std::fs::write(path, file.encode()).unwrap();
    let ended = run(&["run", "-m", path, "-p", "Once upon", "-n", "2"], folder.path());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let ended = run(&["run", "-m", path, "-p", "Once 漢", "-n", "2"], folder.path());
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
    let begin = format!("error: {path}: tokenizer.ggml.tokens: llama.cpp cannot turn a text into tokens: ");
    assert!(ended.stderr.starts_with(&begin) && ended.stderr.lines().count() == 1, "{ended:?}");
}
