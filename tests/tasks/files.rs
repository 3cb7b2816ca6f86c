//! Task files, good ones beside bad ones, and splits.

use std::fs;
use std::path::PathBuf;

use flate2::write::GzEncoder;
use flate2::Compression;
use llama_svf::task::{LoadOptions, Part, Task};
use std::io::Write;

use crate::data::check_parts;
use crate::{all, options};

const GOOD: &str = r#"
prompt = "What is {{ a }} + {{ b }}?"
gold = "{{ sum }}"

[data]
files = ["rows.jsonl"]

[reward]
kind = "numeric"

[split]
train = 0.5
validation = 10
"#;

fn rows(n: usize) -> String {
    (0..n).map(|i| format!("{{\"a\": {i}, \"b\": 1, \"sum\": {}}}\n", i + 1)).collect()
}

/// Loads a task file beside a file of rows; the message if it is refused.
fn load(task: &str, rows: &[u8]) -> Result<Task, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rows.jsonl"), rows).unwrap();
    let path = folder.path().join("task.toml");
    fs::write(&path, task).unwrap();
    Task::load(path.to_str().unwrap(), &LoadOptions::default()).map_err(|error| {
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        assert!(!message.contains('\n'));
        message.replace(&format!("{}/", folder.path().display()), "")
    })
}

#[test]
fn a_good_file_loads() {
    let task = load(GOOD, rows(100).as_bytes()).unwrap();
    assert_eq!(task.name(), "task");
    assert_eq!(Part::ALL.map(|part| task.items(part).len()), [50, 10, 40]);
    assert_eq!(task.generation().max_tokens, 256);
    let item = &task.items(Part::Test)[0];
    assert!(item.id.contains("rows.jsonl:"), "{}", item.id);
    assert_eq!(task.score(item, &item.completion).unwrap().value, 1.0);
}

#[test]
fn bad_files_are_refused_with_file_line_and_field() {
    let good_rows = rows(100);
    let row = |line: usize, text: &str| {
        let mut lines: Vec<String> = rows(5000).lines().map(str::to_owned).collect();
        lines[line - 1] = text.to_owned();
        lines.join("\n").into_bytes()
    };
    let with = |from: &str, to: &str| {
        assert!(GOOD.contains(from), "{from}");
        GOOD.replace(from, to)
    };
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(rows(5000).as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    assert!(load(GOOD, &gzip).is_ok());
    let choice = with("kind = \"numeric\"", "kind = \"choice\"\noptions = \"list\"");
    let good = good_rows.as_bytes();
    let table: Vec<(String, Vec<u8>, &[&str])> = vec![
        (GOOD.into(), row(4711, r#"{"a": 1, "sum": 2}"#), &["rows.jsonl:4711: b: ", "prompt"]),
        (GOOD.into(), row(4711, r#"{"a": 1, "b": 1}"#), &["rows.jsonl:4711: sum: ", "gold"]),
        (GOOD.into(), row(4711, r#"{"a": 1, "b": "#), &["rows.jsonl:4711: not JSON at column"]),
        (GOOD.into(), row(4711, r#"{"a": NaN, "b": 1, "sum": 1}"#), &["rows.jsonl:4711: not JSON"]),
        (GOOD.into(), row(4711, "[1]"), &["rows.jsonl:4711: expected a JSON object"]),
        (
            GOOD.into(),
            row(4711, r#"{"a": 1, "b": 1, "sum": "many"}"#),
            &["rows.jsonl:4711: gold: expected a number"],
        ),
        (GOOD.into(), row(4711, r#"{"a": 1, "b": 1, "sum": ""}"#), &["rows.jsonl:4711: gold: "]),
        (GOOD.into(), gzip[..gzip.len() / 2].to_vec(), &["rows.jsonl:", "cannot decompress"]),
        (GOOD.into(), b"\n\n".to_vec(), &["rows.jsonl: data: no rows"]),
        (GOOD.into(), rows(1).into_bytes(), &["task.toml:13: split.validation: ", "10"]),
        (with("validation = 10", "validation = 90"), good.into(), &["task.toml:", "split: expected", "140"]),
        (with("train = 0.5", "train = 0.001"), good.into(), &["task.toml:12: split.train: empty split"]),
        (with("train = 0.5", "train = 90"), good.into(), &["task.toml:11: split: empty split", "test"]),
        (with("train = 0.5", "train = nan"), good.into(), &["task.toml:12: split.train: expected", "NaN"]),
        (with("train = 0.5", "train = -1"), good.into(), &["task.toml:12: split.train: expected"]),
        (with("train = 0.5", "train = \"half\""), good.into(), &["task.toml:12: train: "]),
        (
            with("prompt =", "promt ="),
            good.into(),
            &["task.toml:2: promt: unknown field", "did you mean prompt?"],
        ),
        (with("train = 0.5", "trian = 0.5"), good.into(), &["task.toml:12: trian: ", "did you mean train?"]),
        (with("{{ b }}", "{{ b }"), good.into(), &["task.toml:2: prompt: in line 1 of the template"]),
        (with("{{ b }}", "{{ b | nothing }}"), good.into(), &["prompt: ", "nothing"]),
        (with("{{ b }}", "{{ b.c.d }}"), good.into(), &["rows.jsonl:1: prompt: "]),
        (with("kind = \"numeric\"", "kind = \"numerc\""), good.into(), &["task.toml:", "numerc"]),
        (
            with("kind = \"numeric\"", "kind = \"numeric\"\ntolerance = nan"),
            good.into(),
            &["task.toml:10: reward.tolerance: "],
        ),
        (
            with("kind = \"numeric\"", "kind = \"text\"\npattern = '('"),
            good.into(),
            &["task.toml:10: reward.pattern: "],
        ),
        (
            with("kind = \"numeric\"", "kind = \"code\"\ntests = ''"),
            good.into(),
            &["task.toml:9: reward.kind: ", "`allow_exec`"],
        ),
        (with("[reward]\nkind = \"numeric\"", ""), good.into(), &["task.toml:1: reward: "]),
        (with("gold = \"{{ sum }}\"", ""), good.into(), &["task.toml:1: gold: "]),
        (with("rows.jsonl", "none.jsonl"), good.into(), &["none.jsonl: cannot read"]),
        (with("files = [\"rows.jsonl\"]", ""), good.into(), &["task.toml:5: data: ", "`data`"]),
        (with("prompt = ", "prompt = = "), good.into(), &["task.toml:2: "]),
        (format!("base = \"gsm9k\"\n{GOOD}"), good.into(), &["task.toml:1: base: ", "gsm8k"]),
        (choice.clone(), good.into(), &["rows.jsonl:1: list: "]),
        (
            choice.replace("options = \"list\"", "options = \"a\""),
            good.into(),
            &["rows.jsonl:1: a: expected a list"],
        ),
        (
            choice.replace("options = \"list\"", "options = \"a +\""),
            good.into(),
            &["task.toml:10: reward.options: "],
        ),
        (format!("{GOOD}\n[generation]\nmax_tokens = 0"), good.into(), &["generation.max_tokens: "]),
        (format!("{GOOD}\n[generation]\nstop = ['']"), good.into(), &["generation.stop: "]),
    ];
    let mut wrong = Vec::new();
    for (task, rows, expected) in table {
        match load(&task, &rows) {
            Ok(_) => wrong.push(format!("was accepted, {expected:?}")),
            Err(message) if expected.iter().all(|part| message.contains(part)) => println!("{message}"),
            Err(message) => wrong.push(format!("{message}  <- {expected:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_that_are_no_task() {
    for (name, part) in [
        ("gsm8", "did you mean gsm8k?"),
        ("nothing", ".toml"),
        ("none.toml", "cannot read"),
        ("gsm8k", "`data`"),
    ] {
        let error = Task::load(name, &LoadOptions::default()).err().unwrap();
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
    let error = Task::load("math", &options(&[PathBuf::from("x")])).err().unwrap();
    assert!(error.to_string().contains("takes no data"), "{error}");
}

#[test]
fn splits_are_disjoint_and_repeatable() {
    let text = rows(300) + &rows(100);
    let ids = |task: &Task, part| task.items(part).iter().map(|item| item.prompt.clone()).collect::<Vec<_>>();
    let task = load(GOOD, text.as_bytes()).unwrap();
    check_parts(&task);
    assert_eq!(all(&task).len(), 300);
    assert_eq!(task.notes(), ["100 items had the prompt of another one and were dropped"]);
    let again = load(GOOD, text.as_bytes()).unwrap();
    let other = load(&GOOD.replace("[split]", "[split]\nseed = 1"), text.as_bytes()).unwrap();
    // The order of the file does not matter.
    let backwards: String = rows(300).lines().rev().map(|line| format!("{line}\n")).collect();
    let backwards = load(GOOD, backwards.as_bytes()).unwrap();
    for part in Part::ALL {
        assert_eq!(ids(&task, part), ids(&again, part));
        assert_eq!(ids(&task, part), ids(&backwards, part));
        assert_ne!(ids(&task, part), ids(&other, part));
    }
}

#[test]
fn a_file_may_build_on_a_preset() {
    let folder = tempfile::tempdir().unwrap();
    let row = |i: usize| format!("{{\"question\": \"How many {i}?\", \"answer\": \"It is\\n#### {i}\"}}\n");
    fs::write(folder.path().join("a.jsonl"), (0..20).map(row).collect::<String>()).unwrap();
    fs::write(folder.path().join("b.jsonl"), (10..30).map(row).collect::<String>()).unwrap();
    let path = folder.path().join("mine.toml");
    fs::write(&path, "base = \"gsm8k\"\n[data]\ntrain = [\"a.jsonl\"]\ntest = [\"b.jsonl\"]\n").unwrap();
    let task = Task::load(path.to_str().unwrap(), &LoadOptions::default()).unwrap();
    assert_eq!(task.name(), "mine");
    check_parts(&task);
    // Test keeps what both have, and a tenth of what trains validates.
    assert_eq!(Part::ALL.map(|part| task.items(part).len()), [9, 1, 20]);
}
