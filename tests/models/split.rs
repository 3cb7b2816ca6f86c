//! One part of a model that was split: every command says how to join the parts.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::gguf_edit::{Gguf, Value, U16};
use crate::harness::{model, run};

/// Part `number` of 3, from 1.
fn part(model: &Gguf, number: u16) -> Vec<u8> {
    let mut file = model
        .with("split.count", Value::new(U16, 3u16.to_le_bytes()))
        .with("split.no", Value::new(U16, (number - 1).to_le_bytes()))
        .with("split.tensors.count", Value::i32(model.tensors.len() as i32));
    // What llama-gguf-split --no-tensor-first-split leaves in the first part.
    file.tensors.truncate(usize::from(number - 1));
    file.encode()
}

#[test]
fn every_command_says_how_to_join_the_parts() {
    let Some(model) = model() else { return };
    let folder = TempDir::new().unwrap();
    let write = |name: &str, number| {
        let path = folder.path().join(name);
        std::fs::write(&path, part(&model, number)).unwrap();
        path
    };
    let parts: Vec<PathBuf> = (1..=3).map(|i| write(&format!("m-{i:05}-of-00003.gguf"), i)).collect();
    let [first, second] = [0, 1].map(|i| parts[i].to_str().unwrap());
    let whole = folder.path().join("m.gguf");
    let join = format!("llama-gguf-split --merge {first} {}", whole.display());
    // A sidecar of the whole model, which is there when the parts are given by mistake.
    std::fs::write(&whole, model.encode()).unwrap();
    let made = run(&["decompose", "-m", whole.to_str().unwrap(), "--tensors", "blk.0.ffn_up"], folder.path());
    assert_eq!(made.code, Some(0), "{made:?}");
    let [svf, output] =
        ["m.svf.gguf", "new"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let before = std::fs::read_dir(folder.path()).unwrap().count();
    for (given, which) in [(first, "number 1 of 3"), (second, "number 2 of 3")] {
        for command in [
            &["run", "-p", "x", "-m"][..],
            &["run", "-p", "x", "--svf", &svf, "-m"],
            &["decompose", "-m"],
            &["inspect"],
            &["inspect", "--verify"],
            &["eval", "--task", "math", "-m"],
            &["train", "--task", "math", "-o", &output, "--svf", &svf, "-m"],
            &["bench", "--svf", &svf, "-m"],
        ] {
            let arguments: Vec<_> = command.iter().copied().chain([given]).collect();
            let ended = run(&arguments, folder.path());
            let expected = format!(
                "error: {given}: split.count: expected a complete model, found one part of a split model ({which}) \
                 (hint: join the parts: {join})\n"
            );
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{arguments:?}: {ended:?}");
            let errors: Vec<_> = ended.stderr.lines().filter(|line| !line.starts_with("note: ")).collect();
            assert_eq!(errors.join("\n") + "\n", expected, "{arguments:?}");
        }
    }
    std::fs::remove_file(&parts[2]).unwrap();
    let ended = run(&["inspect", first], folder.path());
    let missing = format!("{} is missing; with all parts there: {join}", parts[2].display());
    assert!(ended.code == Some(2) && ended.stderr.contains(&missing), "{ended:?}");
    let renamed = write("renamed.gguf", 2);
    let ended = run(&["inspect", renamed.to_str().unwrap()], folder.path());
    assert!(ended.code == Some(2) && ended.stderr.contains("NAME-00001-of-00003.gguf"), "{ended:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), before, "something was written");
}

/// A model of a single part is a model.
#[test]
fn one_of_one_part_is_a_model() {
    let Some(model) = model() else { return };
    let folder = TempDir::new().unwrap();
    for count in [0u16, 1] {
        let path = folder.path().join("one.gguf");
        let file = model.with("split.count", Value::new(U16, count.to_le_bytes()));
        std::fs::write(&path, file.encode()).unwrap();
        let ended = run(&["run", "-m", path.to_str().unwrap(), "-p", "x", "-n", "1"], folder.path());
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}
