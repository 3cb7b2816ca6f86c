//! What a reasoning model thinks is no part of its answer, unless the task says so.

use std::fs;

use llama_svf::task::{LoadOptions, Part, Task};

use crate::value;

const TASK: &str = r#"
prompt = "{{ q }}"
gold = "{{ a }}"
KEEP
[data]
test = ["rows.jsonl"]
[reward]
kind = "text"
pattern = '(?s)^(?:<think>.*</think>)?\s*(.*)'
"#;

fn task(keep: &str) -> Task {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rows.jsonl"), r#"{"q": "2 + 2", "a": "4"}"#).unwrap();
    let file = folder.path().join("task.toml");
    fs::write(&file, TASK.replace("KEEP", keep)).unwrap();
    Task::load(file.to_str().unwrap(), &LoadOptions::default()).unwrap()
}

#[test]
fn thinking_is_left_out_of_what_is_scored() {
    let task = task("");
    let item = &task.items(Part::Test)[0];
    for (completion, score, reason) in [
        ("4", 1.0, "found"),
        ("<think>5? No.</think>4", 1.0, "found"),
        ("5? No.\n</think>\n\n4", 1.0, "found"),
        ("<think>4</think>5", 0.0, "found '5'"),
        ("<think>4", 0.0, "the thinking never ends"),
        ("<think>4</think>\n", 0.0, "nothing follows the thinking"),
        ("[THINK]5[/THINK]4", 1.0, "found"),
        (" ", 0.0, "the completion is empty"),
    ] {
        assert_eq!(value(&task, item, completion), score, "{completion}");
        let found = task.score(item, completion).unwrap().reason;
        assert!(found.contains(reason), "{completion}: {found}");
    }
}

#[test]
fn a_task_may_score_the_thinking_too() {
    let task = task("keep_thinking = true");
    let item = &task.items(Part::Test)[0];
    for (completion, score) in
        [("<think>5? No.</think>4", 1.0), ("5? No.</think>4", 0.0), ("<think>4", 0.0), ("4", 1.0)]
    {
        assert_eq!(value(&task, item, completion), score, "{completion}");
    }
    assert_ne!(task.rules(), self::task("").rules());
}
