//! `llama-svf score` from the outside: answers in, accuracy and scores out.

#[path = "support/program.rs"]
#[allow(dead_code)]
mod program;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use flate2::Compression;
use llama_svf::task::{presets, Item, LoadOptions, Part, Task};
use program::{assert_code, assert_one_error, number, stderr, stdout, svf, words};
use serde_json::{json, Value};
use tempfile::TempDir;

/// The data of others beside the repository, if it is there.
fn shared(file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(file);
    if !path.is_file() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

/// A folder with a task of 30 sums, the last 5 of which repeat earlier prompts with another gold answer.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let row = |i: usize| {
            json!({"q": format!("{} + 1", i % 25), "a": if i < 25 { i + 1 } else { 1000 + i }}).to_string()
        };
        let rows: Vec<_> = (0..30).map(row).collect();
        folder.write("rows.jsonl", &(rows.join("\n") + "\n"));
        folder.write(
            "task.toml",
            "prompt = '{{ q }}'\ngold = '{{ a }}'\n[data]\nfiles = ['rows.jsonl']\n[reward]\nkind = 'numeric'\n[split]\n\
             train = 10\nvalidation = 5\n",
        );
        folder
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn id(&self, line: usize) -> String {
        format!("{}:{line}", self.path("rows.jsonl").display())
    }

    fn task(&self) -> Task {
        Task::load(self.path("task.toml").to_str().unwrap(), &LoadOptions::default()).unwrap()
    }

    /// Scores `lines`; `more` are arguments.
    fn score(&self, lines: &[Value], more: &str) -> (Value, String) {
        self.write("answers.jsonl", &text(lines));
        let output = svf(words(
            self.0.path(),
            &format!("score --task @task.toml --answers @answers.jsonl --json {more}"),
        ));
        assert_code(&output, 0);
        (serde_json::from_str(stdout(&output)).unwrap(), stderr(&output).to_owned())
    }

    #[track_caller]
    fn assert_refused(&self, lines: &str, more: &str, fragments: &[&str]) {
        self.write("answers.jsonl", lines);
        let output =
            svf(words(self.0.path(), &format!("score --task @task.toml --answers @answers.jsonl {more}")));
        assert_one_error(lines, &output, fragments);
        println!("{}", stderr(&output).lines().last().unwrap());
    }
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn scores(found: &Value) -> Vec<f64> {
    found["answers"].as_array().unwrap().iter().map(|answer| number(answer, "/score")).collect()
}

#[test]
fn answers_are_named_by_line_or_id_and_come_back_in_their_order() {
    let folder = Folder::new();
    // From the last line to the first, every third one wrong.
    let gold = |line: usize| if line <= 25 { line } else { 999 + line };
    let answer = |line: usize| if line.is_multiple_of(3) { 7777 } else { gold(line) };
    let lines: Vec<_> = (1..=30)
        .rev()
        .map(|line| json!({"line": line, "completion": format!("#### {}", answer(line))}))
        .collect();
    let (found, notes) = folder.score(&lines, "");
    assert_eq!(found["schema"], "llama-svf/score/1");
    assert_eq!(found["task"], "task");
    assert_eq!(found["part"], "all");
    assert_eq!((number(&found, "/n"), number(&found, "/n_items")), (30.0, 25.0));
    assert!((number(&found, "/accuracy") - 20.0 / 30.0).abs() < 1e-12);
    // Newcombe's form of Wilson's interval, from its definition.
    let (p, n, z) = (20.0 / 30.0, 30.0, 1.959_963_984_540_054_f64);
    let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt() / (1.0 + z * z / n);
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    assert!((number(&found, "/ci95/0") - (centre - half)).abs() < 1e-9);
    assert!((number(&found, "/ci95/1") - (centre + half)).abs() < 1e-9);
    let answers = found["answers"].as_array().unwrap();
    for (i, line) in (1..=30).rev().enumerate() {
        assert_eq!(answers[i]["id"], folder.id(line));
        assert_eq!(number(&answers[i], "/score"), f64::from(u8::from(line % 3 != 0)), "line {line}");
        assert!(!answers[i]["reason"].as_str().unwrap().is_empty());
        assert!(answers[i].get("sample").is_none() && answers[i].get("configuration").is_none());
    }
    assert!(found.get("configurations").is_none());
    assert!(notes.contains("5 items had the prompt of another one"), "{notes}");

    // The same by id, with folders or without, as written by anybody.
    for write in [
        |folder: &Folder, line: usize| folder.id(line),
        |_: &Folder, line: usize| format!("rows.jsonl:{line}"),
        |_: &Folder, line: usize| format!("./rows.jsonl:{line}"),
        |_: &Folder, line: usize| format!("/somewhere/else/rows.jsonl:{line}"),
        |_: &Folder, line: usize| format!("../data/rows.jsonl.gz:{line}"),
    ] {
        let lines: Vec<_> = (1..=30)
            .map(|line| json!({"id": write(&folder, line), "completion": format!("It is {}.", answer(line)), "x": [1]}))
            .collect();
        let (found, _) = folder.score(&lines, "");
        assert!((number(&found, "/accuracy") - 20.0 / 30.0).abs() < 1e-12);
        for (line, answer) in (1..=30).zip(found["answers"].as_array().unwrap()) {
            assert_eq!(answer["id"], write(&folder, line));
            assert_eq!(number(answer, "/score"), f64::from(u8::from(line % 3 != 0)));
        }
    }
}

#[test]
fn a_part_counts_its_own_answers() {
    let folder = Folder::new();
    let task = folder.task();
    let lines: Vec<_> = (1..=25).map(|line| json!({"line": line, "completion": line.to_string()})).collect();
    for part in Part::ALL {
        let (found, notes) = folder.score(&lines, &format!("--part {}", part.name()));
        let n = task.items(part).len();
        assert_eq!(found["part"], part.name());
        assert_eq!((number(&found, "/n"), number(&found, "/n_items")), (n as f64, n as f64));
        assert_eq!(number(&found, "/n_elsewhere"), (25 - n) as f64);
        assert!(notes.contains(&format!("{} answers are to items of other parts", 25 - n)), "{notes}");
        assert_eq!(number(&found, "/accuracy"), 1.0);
        let ids: Vec<_> =
            found["answers"].as_array().unwrap().iter().map(|answer| answer["id"].clone()).collect();
        assert!(task.items(part).iter().all(|item| ids.contains(&json!(item.id))));
    }
    let train = task.items(Part::Train)[0].id.clone();
    folder.assert_refused(
        &text(&[json!({"id": train, "completion": "1"})]),
        "--part test",
        &["answers.jsonl: no answer to an item of test"],
    );
}

#[test]
fn configurations_and_samples_of_a_trace_count_as_in_eval() {
    let folder = Folder::new();
    let task = folder.task();
    let items = task.items(Part::Test);
    let line = |item: &Item, configuration: &str, sample: usize, is_right: bool| {
        json!({
            "id": item.id, "configuration": configuration, "sample": sample, "prompt": item.prompt, "gold": item.gold,
            "completion": if is_right { item.gold.clone() } else { String::from("I do not know") },
            "score": 0.0, "reason": "of other rules", "tokens": 3, "cut": false,
        })
    };
    let mut lines = vec![
        json!({"schema": "llama-svf/trace/1", "configurations": ["maths", "base"], "samples": 2, "seed": 3}),
    ];
    for (i, item) in items.iter().enumerate() {
        for sample in 0..2 {
            lines.push(line(item, "base", sample, i % 2 == 0));
            lines.push(line(item, "maths", sample, i % 2 == 0 || sample == 1));
        }
    }
    let (found, notes) = folder.score(&lines, "--part test");
    assert!(!notes.contains("another prompt"), "{notes}");
    let n = items.len() as f64;
    let n_even = items.len().div_ceil(2) as f64;
    assert_eq!(number(&found, "/n"), n);
    let expected = [("maths", (n_even + (n - n_even) / 2.0) / n), ("base", n_even / n)];
    for (i, (name, accuracy)) in expected.into_iter().enumerate() {
        let total = &found["configurations"][i];
        assert_eq!(total["configuration"], name);
        assert!((number(total, "/accuracy") - accuracy).abs() < 1e-12, "{total}");
        assert!(number(total, "/ci95/0") <= accuracy && accuracy <= number(total, "/ci95/1"));
    }
    assert_eq!(found["accuracy"], found["configurations"][0]["accuracy"], "that of the first configuration");
    let answers = found["answers"].as_array().unwrap();
    assert_eq!(answers.len(), lines.len() - 1);
    for (answer, line) in answers.iter().zip(&lines[1..]) {
        assert_eq!((&answer["id"], &answer["configuration"]), (&line["id"], &line["configuration"]));
        assert_eq!(answer.get("sample").unwrap_or(&json!(0)), &line["sample"]);
    }
    // One configuration, one answer each: Wilson's interval, not the bootstrap's, whose ends are means of n scores.
    let (single, _) = folder.score(&[lines[0].clone(), lines[1].clone()], "");
    assert!((number(&single, "/ci95/0") - 0.206_549_314).abs() < 1e-6, "{single}");
    // Prompts that the task's templates no longer make.
    let mut other = lines.clone();
    other[1]["prompt"] = json!("2 + 2");
    assert!(folder.score(&other, "").1.contains("note: 1 answers were given to another prompt"));

    folder.write("answers.jsonl", &text(&lines));
    let output = svf(words(folder.0.path(), "score --task @task.toml --answers @answers.jsonl --part test"));
    assert_code(&output, 0);
    let table = stdout(&output);
    assert!(table.contains("maths ") && table.contains("base ") && table.contains("answered"), "{table}");
    assert!(table.contains("found no number") || table.contains("expected"), "reasons: {table}");
    assert!(table.contains("(--json has all)"), "{table}");
}

/// Answers to the first `n` lines, of which `is_right` tells the right ones.
fn answers_to(n: usize, is_right: impl Fn(usize) -> bool) -> String {
    let line = |i: usize| json!({"line": i + 1, "completion": if is_right(i) { (i + 1).to_string() } else { String::from("0") }});
    text(&(0..n).map(line).collect::<Vec<_>>())
}

#[test]
fn files_and_configurations_are_compared_item_by_item() {
    let folder = Folder::new();
    folder.write("old.jsonl", &answers_to(20, |i| i < 10));
    // 10 better and 2 worse among the 20 that both answered, and two more answers.
    folder.write("new.jsonl", &answers_to(22, |i| i >= 2));
    let files = "--answers @old.jsonl --answers @new.jsonl --against old";
    let output = svf(words(folder.0.path(), &format!("score --task @task.toml --json {files}")));
    assert_code(&output, 0);
    let found: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!((&found["baseline"], number(&found, "/n")), (&json!("old"), 20.0));
    let [old, new] = found["configurations"].as_array().unwrap().as_slice() else { panic!("{found}") };
    assert_eq!((&old["configuration"], &new["configuration"]), (&json!("old"), &json!("new")));
    assert_eq!(old.get("against"), None, "nothing beside itself");
    for (path, expected) in [
        ("/n", 22.0),
        ("/against/n", 20.0),
        ("/against/n_gained", 10.0),
        ("/against/n_lost", 2.0),
        ("/against/delta", 0.4),
        // 2·Σ C(12, i)/2¹² for i of 0 to 2.
        ("/against/p_value", 0.038_574_218_75),
    ] {
        assert!((number(new, path) - expected).abs() < 1e-9, "{path}: {new}");
    }
    assert!(
        number(new, "/against/delta_ci95/0") < 0.4 && 0.4 < number(new, "/against/delta_ci95/1"),
        "{new}"
    );
    let output = svf(words(folder.0.path(), &format!("score --task @task.toml {files}")));
    assert_code(&output, 0);
    let table = stdout(&output);
    for fragment in
        ["+40.0      10      2    3.9e-2  of 20 that both answered", "beside old; p by exact McNemar"]
    {
        assert!(table.contains(fragment), "{fragment}: {table}");
    }

    // Both in one file: the same comparison. And beside a file of several, each is called by both names.
    let lines = |file: &str, name: &str| -> Vec<Value> {
        let text = fs::read_to_string(folder.path(file)).unwrap();
        let named = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            line["configuration"] = json!(name);
            line
        };
        text.lines().map(named).collect()
    };
    let both = [lines("old.jsonl", "base"), lines("new.jsonl", "maths")].concat();
    let (trace, _) = folder.score(&both, "--against base");
    assert_eq!(trace["configurations"][1]["against"], new["against"]);
    let (named, _) = folder.score(&both, "--answers @old.jsonl --against old");
    let names: Vec<_> =
        named["configurations"].as_array().unwrap().iter().map(|total| &total["configuration"]).collect();
    assert_eq!(names, ["answers: base", "answers: maths", "old"]);

    folder.assert_refused(
        &text(&both),
        "--against code",
        &["--against: no answers are called 'code'", "there are base, maths"],
    );
    folder.write("late.jsonl", "{\"line\": 25, \"completion\": \"25\"}\n");
    folder.assert_refused(
        &text(&both[..3]),
        "--answers @late.jsonl --against late",
        &["answers has no answers to the items of late"],
    );
    folder.assert_refused(&text(&both), "--answers @answers.jsonl", &["another file is called answers too"]);
}

#[test]
fn what_eval_writes_scores_as_eval_said() {
    let folder = tempfile::tempdir().unwrap();
    for options in ["", "--samples 3 --temp 1"] {
        let _ = fs::remove_file(folder.path().join("trace.jsonl"));
        let output = svf(words(
            folder.path(),
            &format!("eval --task math -n 12 --json --trace @trace.jsonl {options}"),
        ));
        assert_code(&output, 0);
        let evaluated: Value = serde_json::from_str(stdout(&output)).unwrap();
        let output = svf(words(folder.path(), "score --task math --part test --answers @trace.jsonl --json"));
        assert_code(&output, 0);
        let scored: Value = serde_json::from_str(stdout(&output)).unwrap();
        for path in ["/accuracy", "/ci95/0", "/ci95/1", "/n"] {
            assert!(
                (number(&evaluated, path) - number(&scored, path)).abs() < 1e-12,
                "{path}: {evaluated:#} {scored:#}"
            );
        }
        let trace = fs::read_to_string(folder.path().join("trace.jsonl")).unwrap();
        let lines: Vec<Value> =
            trace.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
        for (line, answer) in lines.iter().zip(scored["answers"].as_array().unwrap()) {
            assert_eq!((&line["id"], number(line, "/score")), (&answer["id"], number(answer, "/score")));
        }
    }
}

#[test]
fn answers_may_be_compressed() {
    let folder = Folder::new();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(b"{\"line\": 1, \"completion\": \"1\"}\n\n  \n{\"line\": 2, \"completion\": \"7\"}")
        .unwrap();
    fs::write(folder.path("answers.gz"), gzip.finish().unwrap()).unwrap();
    let output = svf(words(folder.0.path(), "score --task @task.toml --answers @answers.gz --json"));
    assert_code(&output, 0);
    assert_eq!(scores(&serde_json::from_str(stdout(&output)).unwrap()), [1.0, 0.0]);
}

#[test]
fn broken_answers_are_refused_with_file_and_line() {
    let folder = Folder::new();
    let good = "{\"line\": 1, \"completion\": \"1\"}\n";
    for (lines, fragments) in [
        (String::new(), vec!["answers.jsonl: no answer"]),
        ("\n\n".into(), vec!["answers.jsonl: no answer"]),
        (format!("{good}{{\"line\": 2, \"comp"), vec!["answers.jsonl:2: not JSON at column"]),
        (format!("{good}[2, \"x\"]"), vec!["answers.jsonl:2: expected a JSON object"]),
        (
            format!("{good}{{\"completion\": \"x\"}}"),
            vec!["answers.jsonl:2: id: expected the item's id", "line"],
        ),
        (
            format!("{good}{{\"line\": 2}}"),
            vec!["answers.jsonl:2: completion: expected a text, found nothing"],
        ),
        (
            format!("{good}{{\"line\": 2, \"completion\": null}}"),
            vec!["answers.jsonl:2: completion: ", "null"],
        ),
        (format!("{good}{{\"line\": 2, \"completion\": 18}}"), vec!["answers.jsonl:2: completion: ", "18"]),
        (
            format!("{good}{{\"line\": 0, \"completion\": \"x\"}}"),
            vec!["answers.jsonl:2: line: expected a line number"],
        ),
        (
            format!("{good}{{\"line\": -3, \"completion\": \"x\"}}"),
            vec!["answers.jsonl:2: line: expected a line number"],
        ),
        (format!("{good}{{\"line\": 1.5, \"completion\": \"x\"}}"), vec!["answers.jsonl:2: line: ", "1.5"]),
        (format!("{good}{{\"line\": \"2\", \"completion\": \"x\"}}"), vec!["answers.jsonl:2: line: "]),
        (
            format!("{good}{{\"line\": 31, \"completion\": \"x\"}}"),
            vec!["answers.jsonl:2: line 31: ", "no such item"],
        ),
        (
            format!("{good}{{\"id\": 2, \"completion\": \"x\"}}"),
            vec!["answers.jsonl:2: id: expected a text, found 2"],
        ),
        (
            format!("{good}{{\"id\": \"other.jsonl:2\", \"completion\": \"x\"}}"),
            vec!["answers.jsonl:2: other.jsonl:2: ", "no such item", "rows.jsonl:1 and so on"],
        ),
        (
            format!("{good}{{\"id\": \"2\", \"completion\": \"x\"}}"),
            vec!["answers.jsonl:2: 2: ", "no such item"],
        ),
        (format!("{good}{{\"id\": \"\", \"completion\": \"x\"}}"), vec!["answers.jsonl:2: ", "no such item"]),
        (
            format!("{good}{good}"),
            vec!["answers.jsonl:2: ", "rows.jsonl:1: line 1 has an answer to it already", "sample"],
        ),
        (
            format!("{good}{{\"id\": \"x/rows.jsonl:1\", \"completion\": \"1\"}}"),
            vec!["answers.jsonl:2: x/rows.jsonl:1: line 1 has an answer"],
        ),
        (
            format!("{good}{{\"line\": 2, \"completion\": \"x\", \"sample\": -1}}"),
            vec!["answers.jsonl:2: sample: "],
        ),
        (
            format!("{good}{{\"line\": 2, \"completion\": \"x\", \"configuration\": 1}}"),
            vec!["2: configuration: "],
        ),
    ] {
        folder.assert_refused(&lines, "", &fragments);
    }
    let output = svf(words(folder.0.path(), "score --task @task.toml --answers @none.jsonl"));
    assert_one_error("no file", &output, &["none.jsonl: cannot read"]);
    fs::write(folder.path("bytes.jsonl"), b"\xff\xfe{\"line\": 1}").unwrap();
    let output = svf(words(folder.0.path(), "score --task @task.toml --answers @bytes.jsonl"));
    assert_one_error("no text", &output, &["bytes.jsonl: ", "text in UTF-16", "> ", "bytes.converted.jsonl"]);
}

#[test]
fn lines_need_one_data_file_and_ids_may_need_folders() {
    let folder = Folder::new();
    fs::create_dir(folder.path("a")).unwrap();
    fs::create_dir(folder.path("b")).unwrap();
    let row = |question: &str, i: usize| json!({"q": format!("{question} {i}"), "a": i}).to_string();
    folder.write("a/rows.jsonl", &(0..10).map(|i| row("a", i) + "\n").collect::<String>());
    folder.write("b/rows.jsonl", &(10..20).map(|i| row("b", i) + "\n").collect::<String>());
    let data = "--data train=@a/rows.jsonl --data test=@b/rows.jsonl";
    let refused = |line: Value, fragments: &[&str]| folder.assert_refused(&text(&[line]), data, fragments);
    refused(
        json!({"line": 1, "completion": "1"}),
        &["answers.jsonl:1: line 1: the task has several data files", "id"],
    );
    refused(
        json!({"id": "rows.jsonl:1", "completion": "1"}),
        &["answers.jsonl:1: rows.jsonl:1: 2 items of the task could be meant"],
    );
    refused(json!({"id": "c/rows.jsonl:1", "completion": "1"}), &["2 items of the task could be meant"]);
    let lines = [
        json!({"id": "a/rows.jsonl:1", "completion": "0"}),
        json!({"id": "./b/rows.jsonl:1", "completion": "10"}),
        json!({"id": folder.path("b/rows.jsonl:2"), "completion": "11"}),
    ];
    assert_eq!(scores(&folder.score(&lines, data).0), [1.0, 1.0, 1.0]);

    folder.write("answers.jsonl", "{\"line\": 1, \"completion\": \"1\"}");
    let output = svf(words(folder.0.path(), "score --task math --answers @answers.jsonl"));
    assert_one_error("built-in", &output, &["answers.jsonl:1: line 1: a built-in task has no data file"]);
}

#[test]
fn a_program_of_ones_own_scores_answers_in_a_file() {
    let folder = Folder::new();
    let task = fs::read_to_string(folder.path("task.toml")).unwrap();
    folder.write(
        "task.toml",
        &task.replace("kind = 'numeric'", "kind = 'command'\nprogram = ['python3', 'score.py']"),
    );
    folder.write(
        "score.py",
        "import json, sys\nfor line in sys.stdin:\n    q = json.loads(line)\n    \
         if q['completion'] == 'boom': raise SystemExit('out of cheese')\n    print(len(q['completion']) / 10)\n",
    );
    let lines: Vec<_> = (1..=9).map(|n| json!({"line": n, "completion": "x".repeat(n)})).collect();
    let (found, _) = folder.score(&lines, "--allow-exec");
    for (n, score) in (1..=9).zip(scores(&found)) {
        assert!((score - f64::from(n) / 10.0).abs() < 1e-12);
    }
    assert!((number(&found, "/accuracy") - 0.5).abs() < 1e-12);
    folder.assert_refused(&text(&lines), "", &["task.toml:6: reward.kind: ", "--allow-exec"]);
    let boom = [lines[0].clone(), json!({"line": 2, "completion": "boom"})];
    folder.assert_refused(
        &text(&boom),
        "--allow-exec",
        &["python3: item ", "rows.jsonl:2: the program that scores ended", "exit status: 1", "out of cheese"],
    );
}

/// Gold completions of public data score 1, and what `spoil` makes of them 0.
fn check_public(task_name: &str, file: &str, more: &str, parts: &[Part], spoil: impl Fn(&Item) -> String) {
    let Some(data) = shared(file) else { return };
    let options = LoadOptions {
        data: vec![data.clone()],
        allow_exec: true,
        sandbox: Some(PathBuf::from(env!("CARGO_BIN_EXE_llama-svf"))),
        ..LoadOptions::default()
    };
    let folder = tempfile::tempdir().unwrap();
    // The preset, with more time for programs: the machine may have other things to do.
    let file = folder.path().join("task.toml");
    let preset = presets::text(task_name).unwrap();
    fs::write(&file, preset.replace("kind = \"code\"", "kind = \"code\"\nseconds = 120")).unwrap();
    let task = Task::load(file.to_str().unwrap(), &options).unwrap();
    let items: Vec<_> = parts.iter().flat_map(|&part| task.items(part)).chain(task.duplicates()).collect();
    for (expected, completion) in [
        (1.0, &(|item: &Item| item.completion.clone()) as &dyn Fn(&Item) -> String),
        (0.0, &|item: &Item| spoil(item)),
    ] {
        let line = |item: &&Item| json!({"id": item.id, "completion": completion(item)});
        fs::write(folder.path().join("answers.jsonl"), text(&items.iter().map(line).collect::<Vec<_>>()))
            .unwrap();
        let mut arguments =
            words(folder.path(), &format!("score --task @task.toml --answers @answers.jsonl --json {more}"));
        arguments.extend(["--data".to_owned(), data.display().to_string()]);
        let output = svf(arguments);
        assert_code(&output, 0);
        let found: Value = serde_json::from_str(stdout(&output)).unwrap();
        let answers = found["answers"].as_array().unwrap();
        assert_eq!(answers.len(), items.len());
        let wrong = answers.iter().filter(|answer| number(answer, "/score") != expected);
        let wrong: Vec<_> = wrong.map(|answer| format!("{}: {}", answer["id"], answer["reason"])).collect();
        assert!(
            wrong.is_empty(),
            "{} of {} do not score {expected}:\n{}",
            wrong.len(),
            items.len(),
            wrong.join("\n")
        );
        assert_eq!(number(&found, "/accuracy"), expected);
        println!("{task_name}: {} answers score {expected}", items.len());
    }
}

#[test]
fn gold_completions_of_public_data_score_1_and_spoilt_ones_0() {
    check_public("gsm8k", "gsm8k/test.jsonl.gz", "", &Part::ALL, |item| {
        let gold: i64 = item.gold.replace(',', "").parse().unwrap();
        item.completion.rsplit_once("####").unwrap().0.to_owned() + &format!("#### {}", gold + 1)
    });
    check_public("hendrycks-math", "math/math.jsonl.gz", "", &Part::ALL, |item| {
        format!("It is \\boxed{{{}+1}}.", item.gold)
    });
    for (task, file) in
        [("arc-easy", "arc/arc_easy.jsonl.gz"), ("arc-challenge", "arc/arc_challenge.jsonl.gz")]
    {
        check_public(task, file, "", &Part::ALL, |item| {
            let other = if item.gold == "A" { "B" } else { "A" };
            item.completion.replace(&format!(" {}.", item.gold), &format!(" {other}."))
        });
    }
    // A tenth of the programs; all of them run in the tests of tasks.
    check_public("mbpp", "mbpp/mbpp.jsonl.gz", "--allow-exec", &[Part::Validation], |item| {
        format!("{}\nraise ValueError", item.completion)
    });
}
