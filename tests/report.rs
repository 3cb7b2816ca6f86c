//! `llama-svf report` from the outside: its numbers against those of `eval` and `adapt`, its files, and what becomes of
//! an interrupted one.

#[path = "support/program.rs"]
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use llama_svf::embedded;
use program::{assert_code, assert_one_error, command, number, stderr, stdout, svf, words};
use serde_json::Value;

/// The model and its sidecar.
const MODEL: &str = "-m @model.gguf --svf @model.svf.gguf";
/// The experts, and the one that names skills.
const EXPERTS: &str =
    "--expert @math.expert.gguf --expert @code.expert.gguf --expert @reasoning.expert.gguf \
                       --expert @cls.expert.gguf";
/// A small search.
const SEARCH: &str = "--population 4 --elites 2 --generations 2 --shots 2 --seed 3";
/// Tasks, and few items of each.
const TASKS: &str = "--task math,code,reasoning --unseen reasoning-unseen -n 8";

/// A folder with the embedded model, its sidecar and its experts.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("model.gguf"), embedded::bytes()).unwrap();
        let experts = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/embedded/experts");
        for name in ["math", "code", "reasoning", "cls"] {
            let file = format!("{name}.expert.gguf");
            fs::copy(experts.join(&file), folder.join(&file)).unwrap();
        }
        let decompose = "decompose -m @model.gguf -o @model.svf.gguf --tensors all --type f16";
        assert_code(&svf(words(&folder, decompose)), 0);
        // Tests, but nothing to learn or to choose by.
        fs::write(
            folder.join("sums.toml"),
            "prompt = \"What is {{ a }} + 1?\"\ngold = \"{{ b }}\"\n[data]\ntest = [\"sums.jsonl\"]\n[reward]\n\
             kind = \"numeric\"\n[generation]\nmax_tokens = 8\nchat = true\n",
        )
        .unwrap();
        let rows: String = (0..6).map(|i| format!("{{\"a\": {i}, \"b\": {}}}\n", i + 1)).collect();
        fs::write(folder.join("sums.jsonl"), rows).unwrap();
        let task = fs::read_to_string(folder.join("sums.toml")).unwrap();
        fs::write(folder.join("long.toml"), task.replace("sums.jsonl", "long.jsonl")).unwrap();
        let row = format!("{{\"a\": \"{}\", \"b\": 7}}\n", "1 + ".repeat(200));
        fs::write(folder.join("long.jsonl"), row).unwrap();
        folder
    })
}

fn run(arguments: &str) -> Output {
    svf(words(folder(), arguments))
}

#[track_caller]
fn json(arguments: &str) -> Value {
    let output = run(arguments);
    assert_code(&output, 0);
    serde_json::from_str(stdout(&output)).unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(folder().join(path)).unwrap()
}

fn names_in(path: &str) -> Vec<String> {
    let entries = fs::read_dir(folder().join(path)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A report that several tests read and none changes.
fn whole() -> &'static Value {
    static WHOLE: OnceLock<Value> = OnceLock::new();
    WHOLE.get_or_init(|| json(&format!("report {MODEL} {EXPERTS} {TASKS} {SEARCH} -o @whole --json")))
}

/// The entry of a table for a name and a task.
#[track_caller]
fn entry<'a>(report: &'a Value, table: &str, key: &str, name: &str, task: &str) -> &'a Value {
    let rows = report[table].as_array().unwrap();
    let found = rows.iter().find(|row| row[key] == name && row["task"] == task);
    found.unwrap_or_else(|| panic!("{table}: {name}, {task}"))
}

/// All but times, of which each run has its own.
fn timeless(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let is_time =
                |key: &str| key.ends_with("ms") || key == "pass1_share" || key == "pass1_over_pass2";
            let kept = object.iter().filter(|(key, _)| !is_time(key));
            kept.map(|(key, value)| (key.clone(), timeless(value))).collect()
        }
        Value::Array(array) => array.iter().map(timeless).collect(),
        other => other.clone(),
    }
}

#[test]
fn its_numbers_are_those_of_eval_and_adapt() {
    let report = whole();
    assert_eq!(report["schema"], "llama-svf/report/1");
    assert_eq!(*report, serde_json::from_str::<Value>(&read("whole/report.json")).unwrap());
    let eval = |extra: &str| json(&format!("eval {MODEL} {EXPERTS} -n 8 --json {extra}"));
    let same = |entry: &Value, value: &Value| {
        for key in ["n", "accuracy", "ci95", "n_cut", "configuration"] {
            assert_eq!(entry[key], value[key], "{key} of {entry:#}");
        }
    };
    same(entry(report, "experts_by_task", "name", "base", "math"), &eval("--task math"));
    // An expert on a task that is not its own, against the base model.
    let code = entry(report, "experts_by_task", "name", "code", "reasoning");
    let compared = eval("--task reasoning --use code --against base");
    same(code, &compared);
    for key in ["delta", "delta_ci95", "p_value", "test"] {
        assert_eq!(code["against_base"][key], compared[key], "{key}");
    }
    for strategy in ["prompt", "classifier"] {
        let value = eval(&format!("--task reasoning-unseen --adapt {strategy}"));
        same(entry(report, "strategies_by_task", "name", strategy, "reasoning-unseen"), &value);
        let dispatch = entry(report, "dispatch", "strategy", strategy, "reasoning-unseen");
        assert_eq!(dispatch["confidence"], value["dispatch"]["confidence"]);
        let passes = entry(report, "passes", "strategy", strategy, "reasoning-unseen");
        assert_eq!(passes["pass1_tokens"], value["dispatch"]["pass1_tokens"]);
        for key in ["/pass1_ms", "/pass2_ms", "/pass1_share", "/pass2_tokens_read", "/pass2_tokens_written"] {
            assert!(number(passes, key) > 0.0, "{key}");
        }
    }
    let oracle = entry(report, "strategies_by_task", "name", "oracle", "reasoning-unseen");
    same(oracle, &eval("--task reasoning-unseen --use reasoning"));

    let adapt = json(&format!(
        "adapt {MODEL} {EXPERTS} --among math,code,reasoning --task math --preset light {SEARCH} -n 0 --json \
         -o @math.mixture.json --force"
    ));
    let rows = report["mixtures"].as_array().unwrap();
    let found = rows.iter().find(|row| row["task"] == "math").unwrap();
    assert_eq!(found["mixture"], adapt["mixture"]);
    assert_eq!(found["shots"], adapt["shots"]);
    assert_eq!(found["best_single"], adapt["best_single"]["expert"]);
    same(
        entry(report, "strategies_by_task", "name", "few-shot", "math"),
        &eval("--task math --mix @@math.mixture.json"),
    );
    let single = entry(report, "strategies_by_task", "name", "best single", "math");
    same(single, &eval(&format!("--task math --use {}", found["best_single"].as_str().unwrap())));
}

#[test]
fn what_was_chosen_sums_to_the_items_and_the_best_is_marked() {
    let report = whole();
    let tasks = report["tasks"].as_array().unwrap();
    let kinds: Vec<_> = tasks.iter().map(|task| task["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["seen", "seen", "seen", "stream", "unseen"]);
    for strategy in ["prompt", "classifier"] {
        for task in tasks {
            let dispatch = entry(report, "dispatch", "strategy", strategy, task["name"].as_str().unwrap());
            let is_stream = task["kind"] == "stream";
            assert_eq!(dispatch["n"], if is_stream { 24 } else { 8 });
            let labels = dispatch["labels"].as_object().unwrap();
            assert_eq!(labels.len(), if is_stream { 3 } else { 1 });
            let mut n_right = 0;
            for (source, row) in labels {
                let row = row.as_object().unwrap();
                assert_eq!(row.values().map(|n| n.as_u64().unwrap()).sum::<u64>(), 8, "{dispatch:#}");
                assert!(!row.contains_key("cls"), "the classifier is no label");
                let own = source.trim_end_matches("-unseen");
                n_right += row.get(own).and_then(Value::as_u64).unwrap_or(0);
            }
            let expected = n_right as f64 / number(dispatch, "/n");
            assert_eq!(number(dispatch, "/accuracy"), expected);
        }
    }
    // The stream's oracle has the experts of all three tasks.
    let oracle = entry(report, "strategies_by_task", "name", "oracle", "math,code,reasoning");
    assert_eq!((oracle["n"].as_u64(), &oracle["best"]), (Some(24), &Value::Bool(false)));
    for task in ["math", "code", "reasoning", "reasoning-unseen"] {
        let column: Vec<_> =
            report["experts_by_task"].as_array().unwrap().iter().filter(|row| row["task"] == task).collect();
        let names: Vec<_> = column.iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["base", "math", "code", "reasoning", "cls"], "in the order of the tasks");
        let best = column.iter().map(|row| number(row, "/accuracy")).fold(0.0, f64::max);
        let worst = column.iter().map(|row| number(row, "/accuracy")).fold(1.0, f64::min);
        for row in &column {
            assert_eq!(row["best"].as_bool().unwrap(), number(row, "/accuracy") == best && worst < best);
            assert_eq!(row["against_base"].is_null(), row["name"] == "base");
        }
    }
}

#[test]
fn its_pages_show_all_pictures_and_need_nothing_from_elsewhere() {
    whole();
    let (markdown, html) = (read("whole/report.md"), read("whole/report.html"));
    let pictures = [
        "experts",
        "strategies",
        "dispatch-prompt",
        "reliability-prompt",
        "dispatch-classifier",
        "reliability-classifier",
        "dispatch-nearest",
        "reliability-nearest",
        "mixtures",
    ];
    for name in pictures {
        assert!(markdown.contains(&format!("({name}.svg)")), "{name}");
        let svg = read(&format!("whole/{name}.svg"));
        assert!(
            svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n") && !svg.contains("NaN"),
            "{name}"
        );
    }
    assert_eq!(
        (html.matches("<svg").count(), html.matches("</svg>").count()),
        (pictures.len(), pictures.len())
    );
    for outside in ["src=", "href=", "@import", "url(", "<script"] {
        assert!(!html.contains(outside), "{outside}");
    }
    for part in
        ["Experts by tasks", "few-shot", "pass 1 ÷ pass 2", "reasoning-unseen", "search.settings.seed"]
    {
        assert!(html.contains(part) && markdown.contains(part), "no '{part}'");
    }
    // Bold for the best of a column, and no cell of a table that a name could break.
    assert!(html.contains("<b>") && markdown.contains("**"));
    let widths =
        markdown.lines().filter(|line| line.starts_with("| ")).map(|line| line.matches(" |").count());
    assert!(widths.min() > Some(1));
}

#[test]
fn confidence_is_compared_with_what_is_right() {
    let report = whole();
    for strategy in ["prompt", "classifier"] {
        let reliability = &report["reliability"][strategy];
        let steps = reliability["steps"].as_array().unwrap();
        // Counted again from the table of choices, over the tasks that have an expert of their own.
        let rows = report["dispatch"].as_array().unwrap().iter();
        let is_counted = |row: &&Value| {
            row["strategy"] == strategy
                && row["accuracy"].is_f64()
                && row["labels"].as_object().unwrap().len() == 1
        };
        let rows: Vec<_> = rows.filter(is_counted).collect();
        let count = |row: &&Value| row["n"].as_f64().unwrap();
        let n: f64 = rows.iter().map(count).sum();
        assert_eq!(number(reliability, "/n"), n);
        let right: f64 = rows.iter().map(|row| count(row) * number(row, "/accuracy")).sum();
        let of_steps = |key: &str| -> f64 { steps.iter().map(|it| number(it, "/n") * number(it, key)).sum() };
        assert!((of_steps("/right") - right).abs() < 1e-6, "{reliability}");
        let sure: f64 = rows.iter().map(|row| count(row) * number(row, "/confidence")).sum();
        assert!((of_steps("/confidence") - sure).abs() < 1e-6, "{reliability}");
        let error = number(reliability, "/error");
        assert!(error >= (sure - right).abs() / n - 1e-9 && error <= 1.0, "{reliability}");
    }
}

#[test]
fn an_interrupted_report_goes_on_and_measures_nothing_twice() {
    let report =
        |extra: &str| format!("report {MODEL} {EXPERTS} {TASKS} {SEARCH} -o @stopped --json {extra}");
    let cells = folder().join("stopped/cells.jsonl");
    // In the midst of the first search, with some cells before it.
    let is_searching = || fs::read_to_string(&cells).is_ok_and(|text| text.contains("\"searching\""));
    let mut child =
        command(words(folder(), &report(""))).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !is_searching() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 130);
    assert!(stderr(&output).contains("--resume goes on from here"), "{}", stderr(&output));
    let lock = fs::File::create(folder().join("stopped/lock")).unwrap();
    lock.lock().unwrap();
    let busy = run(&report("--resume"));
    assert_one_error("two at once", &busy, &["another report is made here"]);
    drop(lock);
    assert!(!folder().join("stopped/report.html").exists());

    let kept = fs::read_to_string(&cells).unwrap();
    assert_one_error("again", &run(&report("")), &["stopped: an earlier report is there", "--resume"]);
    for (from, to, fragment) in [
        ("-n 8", "-n 9", ".items: the report was begun with 8, and this is 9"),
        ("--shots 2", "--shots 3", "search.shots: the report was begun with 2, and this is 3"),
        ("--expert @cls.expert.gguf", "", "adapted.experts.cls: the report was begun with"),
    ] {
        let arguments = report("--resume").replace(from, to);
        assert_one_error(&arguments, &run(&arguments), &["cells.jsonl", fragment]);
    }
    assert_eq!(fs::read_to_string(&cells).unwrap(), kept, "refusals change nothing");
    // What was half written when a process died does not count.
    fs::write(&cells, format!("{kept}{{\"cell\": \"ans")).unwrap();
    let resumed = json(&report("--resume"));
    assert_eq!(timeless(&resumed), timeless(whole()));
    let cells_after = fs::read_to_string(&cells).unwrap();
    assert!(cells_after.starts_with(&kept), "finished cells stay as they were");

    let files = ["report.json", "report.md", "report.html", "strategies.svg", "cells.jsonl"];
    let before = files.map(|name| read(&format!("stopped/{name}")));
    assert_eq!(json(&report("--resume")), resumed);
    assert_eq!(files.map(|name| read(&format!("stopped/{name}"))), before, "nothing is measured again");

    let lines: Vec<_> = cells_after.lines().collect();
    for (damaged, fragment) in [
        (cells_after.replacen("\"batch\":32", "\"batch\":33", 1), "line 1: the settings are not those"),
        ([lines[0], "{}", lines[1]].join("\n") + "\n", "line 2"),
        ("{}\n".to_owned(), "line 1"),
    ] {
        fs::write(&cells, damaged).unwrap();
        assert_one_error("damaged", &run(&report("--resume")), &["cells.jsonl", fragment]);
    }
}

#[test]
fn without_a_model_it_is_the_embedded_one_with_its_experts_and_tasks() {
    let value =
        json("report -n 1 --population 3 --elites 2 --generations 1 --shots 1 -o @embedded --json -t 1");
    let named = |list: &str| -> Vec<String> {
        value[list].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(named("experts"), ["math", "code", "reasoning", "cls"]);
    let unseen = ["math-unseen", "code-unseen", "reasoning-unseen"];
    assert_eq!(named("tasks")[..4], ["math", "code", "reasoning", "math,code,reasoning"]);
    assert_eq!(named("tasks")[4..], unseen);
    for task in named("tasks") {
        for strategy in ["base", "prompt", "classifier", "few-shot", "best single", "oracle"] {
            number(entry(&value, "strategies_by_task", "name", strategy, &task), "/accuracy");
        }
    }
}

#[test]
fn a_folder_that_holds_something_else_is_left_alone_unless_forced() {
    let folder = folder();
    fs::create_dir_all(folder.join("foreign")).unwrap();
    fs::write(folder.join("foreign/notes.txt"), "mine").unwrap();
    let report = |extra: &str| {
        format!("report {MODEL} --expert sums=@math.expert.gguf --task @sums.toml -n 4 {SEARCH} {extra}")
    };
    for extra in ["-o @foreign", "-o @foreign --resume"] {
        assert_one_error(extra, &run(&report(extra)), &["foreign: it holds something else", "--force"]);
    }
    assert_one_error("a file", &run(&report("-o @sums.toml")), &["sums.toml: expected a folder"]);
    assert_eq!(fs::read_dir(folder.join("foreign")).unwrap().count(), 1);

    let output = run(&report("-o @foreign --force"));
    assert_code(&output, 0);
    assert!(stdout(&output).ends_with("foreign/report.html\n"), "{}", stdout(&output));
    assert_eq!(read("foreign/notes.txt"), "mine");
    // One task makes no stream, and without a classifier there is none: the report says what is missing.
    let value: Value = serde_json::from_str(&read("foreign/report.json")).unwrap();
    assert_eq!(value["tasks"].as_array().unwrap().len(), 1);
    let notes = value["notes"].to_string();
    assert!(notes.contains("No classifier: no expert called cls is loaded"), "{notes}");
    // The general adaptation prompt, which other names than the skills' ask for, is too long for this model.
    assert!(notes.contains("No prompt for sums: pass 1 would read "), "{notes}");
    assert_eq!(entry(&value, "strategies_by_task", "name", "oracle", "sums")["configuration"], "sums=1");
    assert!(read("foreign/report.md").contains("No classifier"));
    assert!(!folder.join("foreign/dispatch-classifier.svg").exists());
}

#[test]
fn what_cannot_be_done_is_said_in_the_report() {
    // A task of no expert's name and without training items.
    let value = json(&format!(
        "report {MODEL} {EXPERTS} --task math --unseen @sums.toml -n 4 {SEARCH} -o @less --json --with-base"
    ));
    let notes = value["notes"].to_string();
    for part in ["No few-shot adaptation to sums: ", "the task has no training items", "No oracle for sums"] {
        assert!(notes.contains(part), "no '{part}' in {notes}");
    }
    assert!(entry(&value, "dispatch", "strategy", "prompt", "sums")["accuracy"].is_null());
    let weights = value["mixtures"][0]["weights"].as_object().unwrap();
    assert!(weights.contains_key("base"), "{weights:?}");
    let sum: f64 = weights.values().map(|weight| weight.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-6);
    assert!(folder().join("less/dispatch-prompt.svg").exists());

    // A classifier alone, in the place of that report.
    let value = json(&format!(
        "report {MODEL} --expert @cls.expert.gguf --task math --unseen @sums.toml -n 4 {SEARCH} -o @less --force --json"
    ));
    let notes = value["notes"].to_string();
    for part in ["No prompt and no classifier", "No few-shot adaptation to math", "No oracle for math"] {
        assert!(notes.contains(part), "no '{part}' in {notes}");
    }
    for section in ["dispatch", "mixtures"] {
        assert_eq!(value[section].as_array().unwrap().len(), 0, "{section}");
    }
    assert_eq!(entry(&value, "experts_by_task", "name", "cls", "sums")["n"], 4);
    assert!(read("less/report.md").contains("No mixture was searched"));
    let expected =
        ["cells.jsonl", "experts.svg", "lock", "report.html", "report.json", "report.md", "strategies.svg"];
    assert_eq!(names_in("less"), expected, "nothing of the earlier report is left");
}

#[test]
fn bad_input_is_one_clear_line() {
    let all = format!("{MODEL} {EXPERTS}");
    for (arguments, fragments) in [
        (format!("{all} --task maht"), vec!["task", "maht", "math"]),
        (format!("{all} --task math,math"), vec!["task math: it is named twice"]),
        (format!("{all} --task math --unseen math"), vec!["task math: it is named twice"]),
        (format!("{all} --task gsm8k"), vec!["task gsm8k: a preset has no data", "base = \"gsm8k\""]),
        (
            format!("{all} --task math --unseen @long.toml"),
            vec!["task long: item ", "the model's context is 256"],
        ),
        (format!("{all} --task math -n 0"), vec!["task math: expected 1 test item or more"]),
        (format!("{all} --task math --use math"), vec!["--use: report finds the mixture itself"]),
        (format!("{all} --task math --strength 0.5"), vec!["--strength: report finds the mixture itself"]),
        (format!("{all} --task math --threshold 2"), vec!["--threshold: expected a probability"]),
        (format!("{all} --task math --batch 0"), vec!["--batch: expected 1 or more"]),
        (format!("{all} --task math --elites 1"), vec!["elites: expected 2 or more"]),
        (
            format!("{all} --task math --adapt-prompt @none.jinja"),
            vec!["none.jinja: --adapt-prompt: cannot read"],
        ),
        (format!("{MODEL} --task math"), vec!["--expert: expected 1 expert or more, found 0"]),
        ("-m @model.gguf --task math".to_owned(), vec!["--svf: "]),
        (
            format!("{all} --expert other=@math.expert.gguf --task math"),
            vec!["expert other: this name stands for"],
        ),
    ] {
        let arguments = format!("report {arguments} -o @never");
        assert_one_error(&arguments, &run(&arguments), &fragments);
    }
    assert!(!folder().join("never").exists());
    // Which tasks a model of one's own is for only its owner knows.
    let output = run("report -m @model.gguf --svf @model.svf.gguf -o @never");
    assert_code(&output, 2);
    assert!(stderr(&output).contains("--task"), "{}", stderr(&output));
}
