//! Vocabularies that are odd, and those of other kinds.

use crate::gguf_edit::{Gguf, Value, F32, I32, U8};
use crate::harness::{model, try_all, Case, Expect};
use crate::keys::TOKENIZERS;

const TOKENS: &str = "tokenizer.ggml.tokens";

#[test]
fn odd_vocabularies_end_no_process() {
    let Some(model) = model() else { return };
    let tokens = model.get(TOKENS).unwrap().texts();
    let mut cases = Vec::new();
    let mut add = |name: String, file: Gguf| cases.push(Case::new(name, move || file.encode()));
    // ggml-org/llama.cpp#25739, #24885, #5669: tokens that are equal. One at NUL, one as llama.cpp calls an empty one.
    for (name, at, text) in [
        ("a repeated token", 400, tokens[300].clone()),
        ("a repeated token of controls", 2, b"<s>".to_vec()),
        ("two empty tokens", 400, Vec::new()),
        ("an empty token", 0, Vec::new()),
        ("a NUL", 400, b"\0a".to_vec()),
        ("no UTF-8", 400, vec![0xff, 0xfe]),
        ("a long token", 400, vec![b'x'; 100_000]),
        ("spaces", 400, b"   ".to_vec()),
        ("an end of turn", 400, b"<|im_end|>".to_vec()),
    ] {
        let mut tokens = tokens.clone();
        tokens[at] = text;
        if name.starts_with("two") {
            tokens[399] = Vec::new();
        }
        add(name.into(), model.with(TOKENS, Value::strs(&tokens)));
    }
    let mut empty = tokens.clone();
    empty[1].clear();
    empty[2] = b"[EMPTY_1]".to_vec();
    add("an empty token and its name".into(), model.with(TOKENS, Value::strs(&empty)));
    // ggml-org/llama.cpp#6717, #2580: no bytes to spell with what is no token.
    let wordy: Vec<_> =
        (0..512).map(|i| if i < 3 { tokens[i].clone() } else { format!("word{i}").into_bytes() }).collect();
    add("words only".into(), model.with(TOKENS, Value::strs(&wordy)));
    for ty in [-1, 0, 1, 2, 3, 4, 5, 6, 7, i32::MAX] {
        let types = Value::array(I32, vec![ty.to_le_bytes(); 512]);
        add(format!("all tokens of type {ty}"), model.with("tokenizer.ggml.token_type", types));
    }
    for score in [f32::NAN, f32::NEG_INFINITY, -1e9, 0.0, f32::MAX] {
        let scores = Value::array(F32, vec![score.to_le_bytes(); 512]);
        add(format!("all scores {score}"), model.with("tokenizer.ggml.scores", scores));
    }
    for kind in TOKENIZERS {
        let file = model.with("tokenizer.ggml.model", Value::str(kind));
        add(format!("tokenizer {kind}"), file.clone());
        add(format!("tokenizer {kind} without types"), file.without("tokenizer.ggml.token_type"));
        let bare = file.without("tokenizer.ggml.bos_token_id").without("tokenizer.ggml.eos_token_id");
        for (bos, eos) in [(true, false), (false, true), (true, true), (false, false)] {
            let bare = bare
                .with("tokenizer.ggml.add_bos_token", Value::bool(bos))
                .with("tokenizer.ggml.add_eos_token", Value::bool(eos));
            add(format!("tokenizer {kind}, nothing to begin ({bos}) or end ({eos}) with"), bare);
        }
        for merges in [&["a b", "b c"][..], &[], &["ab", "", " ", "a b c"]] {
            let file = file.with("tokenizer.ggml.merges", Value::strs(merges));
            add(format!("tokenizer {kind}, merges {merges:?}"), file.clone());
            for pre in ["default", "llama-bpe", "qwen2", "gpt-2", "kimi-k2", "gemma4", "none", ""] {
                let file = file.with("tokenizer.ggml.pre", Value::str(pre));
                add(format!("tokenizer {kind} {pre}, merges {merges:?}"), file);
            }
        }
        for size in [0, 3, 4, 5, 64, 4096] {
            let map = Value::array(U8, vec![[0xa5]; size]);
            add(
                format!("tokenizer {kind}, map of {size}"),
                file.with("tokenizer.ggml.precompiled_charsmap", map),
            );
            let mut bytes = vec![0; size];
            bytes.iter_mut().take(1).for_each(|byte| *byte = 16);
            let map = Value::array(U8, bytes.iter().map(|byte| [*byte]));
            add(
                format!("tokenizer {kind}, plain map of {size}"),
                file.with("tokenizer.ggml.precompiled_charsmap", map),
            );
        }
    }
    try_all(&cases, &Expect { answered: 0.1, refused: 0.1, assertions: false });
}
