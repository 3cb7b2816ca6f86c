//! Commands that read a model without running it: what they refuse, they leave no file of.

use std::path::Path;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

use crate::gguf_edit::Gguf;
use crate::harness::{complaint, model, run, Ended};
use crate::keys::ABSENT;
use crate::values::odd_values;

/// Decomposes the model in `folder` and looks at the files: the sidecar is there, whole, or nothing is.
fn decompose(name: &str, folder: &Path, path: &str) -> Ended {
    let output = folder.join("odd.svf.gguf");
    let ended = run(&["decompose", "-m", path, "--tensors", "blk.0.ffn_up", "-t", "1"], folder);
    assert_eq!(complaint(&ended, path), None, "{name}: {ended:?}");
    let mut left: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    if ended.code == Some(0) {
        assert_eq!(left, ["odd.gguf", "odd.svf.gguf"], "{name}: {ended:?}");
        let whole = run(&["inspect", "--verify", output.to_str().unwrap()], folder);
        assert_eq!(whole.code, Some(0), "{name}: {whole:?}");
        std::fs::remove_file(output).unwrap();
    } else {
        assert_eq!(left, ["odd.gguf"], "{name}: {ended:?}");
    }
    ended
}

#[test]
fn odd_models_are_decomposed_or_leave_nothing() {
    let Some(model) = model() else { return };
    let seed = 63;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = odd_values();
    let keys: Vec<_> = model.metadata.iter().map(|(key, _)| key.as_str()).chain(ABSENT).collect();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("odd.gguf");
    let path = path.to_str().unwrap();
    let (mut decomposed, mut refused) = (0, 0);
    let mut check = |name: &str, bytes: &[u8]| {
        std::fs::write(path, bytes).unwrap();
        let looked_at = run(&["inspect", path], folder.path());
        assert_eq!(complaint(&looked_at, path), None, "{name}: {looked_at:?}");
        match decompose(name, folder.path(), path).code {
            Some(0) => decomposed += 1,
            _ => refused += 1,
        }
    };
    for _ in 0..80 {
        let (key, value) = (keys.choose(&mut rng).unwrap(), values.choose(&mut rng).unwrap());
        check(&format!("{key} = {}", value.0), &model.with(key, value.1.clone()).encode());
    }
    let (whole, header) = (model.encode(), model.header().len());
    for _ in 0..60 {
        let (at, bit) = (rng.random_range(0..header), rng.random_range(0..8));
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        check(&format!("bit {bit} of byte {at} flipped"), &bytes);
    }
    for x in [f32::NAN, f32::INFINITY, 1e38] {
        let mut file = model.clone();
        let up = file.tensors.iter().find(|tensor| tensor.name == b"blk.3.ffn_up.weight").unwrap();
        let from = up.offset as usize;
        file.data[from..from + 4].copy_from_slice(&x.to_le_bytes());
        check_interrupted(&file, x, &folder);
    }
    println!("{decomposed} decomposed, {refused} refused");
    assert!(decomposed > 40 && refused > 20);
}

/// A number that cannot be decomposed shows when others are finished: they are kept for --resume, and no sidecar is there.
fn check_interrupted(file: &Gguf, x: f32, folder: &TempDir) {
    let path = folder.path().join("odd.gguf");
    std::fs::write(&path, file.encode()).unwrap();
    let path = path.to_str().unwrap();
    let ended = run(&["decompose", "-m", path, "--rank", "4", "-t", "1", "--force"], folder.path());
    let output = folder.path().join("odd.svf.gguf");
    if x.is_finite() {
        assert!(ended.code == Some(0) || ended.code == Some(2), "{x}: {ended:?}");
    } else {
        assert_eq!(ended.code, Some(2), "{x}: {ended:?}");
        assert!(
            ended.stderr.contains("blk.3.ffn_up.weight") && ended.stderr.contains(path),
            "{x}: {ended:?}"
        );
        assert!(!output.exists());
    }
    for name in ["odd.svf.gguf", "odd.svf.gguf.part", "odd.svf.gguf.part.journal"] {
        let _ = std::fs::remove_file(folder.path().join(name));
    }
}

#[test]
fn a_selection_of_nothing_says_what_there_is() {
    let Some(model) = model() else { return };
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("odd.gguf");
    let path = path.to_str().unwrap();
    // As if it used its embeddings for the output too, as small models do.
    let mut tied = model.clone();
    assert_eq!(tied.tensors.pop().unwrap().name, b"output.weight");
    std::fs::write(path, tied.encode()).unwrap();
    let kinds =
        "(hint: its matrices are blk.N.attn_k.weight, blk.N.attn_output.weight, blk.N.attn_q.weight, \
                 blk.N.attn_v.weight, blk.N.ffn_down.weight, blk.N.ffn_gate.weight, blk.N.ffn_up.weight; llama-svf inspect lists all tensors)";
    for (tensors, reason) in [
        (
            "^output\\.weight$",
            "this model has no output.weight: it uses token_embd.weight for the output (tied embeddings)",
        ),
        (
            "output.weight|nothing",
            // It does match blk.0.attn_output.weight.
            "",
        ),
        ("^output", "this model has no output.weight: it uses token_embd.weight for the output (tied embeddings)"),
        ("lm_head", "'lm_head' matches no tensor of the model"),
        ("^token_embd", "'^token_embd' matches token_embd.weight, which is not a matrix that something is multiplied by"),
        ("^output_norm", "'^output_norm' matches output_norm.weight, which is not a matrix that something is multiplied by"),
        ("norm", "'norm' matches blk.0.attn_norm.weight and 10 more, which are not matrices that something is multiplied by"),
    ] {
        let ended = run(&["decompose", "-m", path, "--tensors", tensors, "--rank", "2"], folder.path());
        if reason.is_empty() {
            assert_eq!(ended.code, Some(0), "{tensors}: {ended:?}");
            std::fs::remove_file(folder.path().join("odd.svf.gguf")).unwrap();
            continue;
        }
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{tensors}: {ended:?}");
        assert!(ended.stderr.contains(&format!("{path}: tensors: {reason} {kinds}")), "{tensors}: {ended:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{tensors}");
    }
}
