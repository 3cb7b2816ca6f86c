//! `eval` and `demo` from the outside: arguments in; table, JSON, trace and exit code out.

#[path = "support/program.rs"]
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use llama_svf::embedded;
use llama_svf::expert::Expert;
use llama_svf::sidecar::Sidecar;
use program::{assert_code, assert_one_error, command, number, stderr, stdout, svf, words};
use serde_json::Value;

/// A folder with the embedded model's sidecar, an expert, and task files; made once per run.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("eval");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let model = embedded::write_to(&folder).unwrap();
        let sidecar = folder.join("model.svf.gguf");
        let (model, output) = (model.to_str().unwrap(), sidecar.to_str().unwrap());
        assert_code(&svf(["decompose", "-m", model, "-o", output]), 0);
        let sidecar = Sidecar::open(&sidecar).unwrap();
        let mut expert = Expert::identity("odd", &sidecar);
        // Enough to spoil the model: the comparison must see it.
        expert.multipliers.values_mut().flatten().for_each(|m| *m = -1.0);
        expert.save(folder.join("odd.expert.gguf")).unwrap();
        Expert::identity("same", &sidecar).save(folder.join("same.expert.gguf")).unwrap();

        let task = "prompt = \"{{ q }}\"\ngold = \"{{ a }}\"\n[data]\ntest = [\"data.jsonl\"]\n\
                    [reward]\nkind = \"text\"\n[generation]\nmax_tokens = 8\n";
        fs::write(folder.join("task.toml"), task).unwrap();
        fs::write(folder.join("broken.toml"), task.replace("[data]", "colour = 1\n[data]")).unwrap();
        let rows: String =
            (0..40).map(|i| format!("{{\"q\": \"What is {i} + 1?\", \"a\": \"{}\"}}\n", i + 1)).collect();
        fs::write(folder.join("data.jsonl"), &rows).unwrap();
        fs::write(folder.join("missing.jsonl"), rows + "{\"q\": \"and?\"}\n").unwrap();
        let long = format!("{{\"q\": \"{}\", \"a\": \"1\"}}\n", "What is this? ".repeat(400));
        fs::write(folder.join("long.jsonl"), long).unwrap();
        folder
    })
}

/// `@name` stands for a file of the folder.
fn run(arguments: &str) -> Output {
    svf(words(folder(), arguments))
}

#[track_caller]
fn json(arguments: &str) -> Value {
    let output = run(arguments);
    assert_code(&output, 0);
    serde_json::from_str(stdout(&output)).unwrap()
}

/// Lines of a trace as JSON.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const EXPERTS: &str = "--svf @model.svf.gguf --expert @odd.expert.gguf --expert @same.expert.gguf";

#[test]
fn an_accuracy_is_the_mean_of_the_scores_in_the_trace() {
    let trace = folder().join("plain.jsonl");
    let value = json("eval --task math -n 48 --json --trace @plain.jsonl");
    assert_eq!(value["schema"], "llama-svf/eval/1");
    assert_eq!((value["task"].as_str(), value["model"].as_str()), (Some("math"), Some("embedded")));
    assert_eq!((value["n"].as_u64(), value["partial"].as_bool()), (Some(48), Some(false)));
    let accuracy = number(&value, "/accuracy");
    assert!(number(&value, "/ci95/0") <= accuracy && accuracy <= number(&value, "/ci95/1"));
    assert!(number(&value, "/tokens_per_second") > 0.0 && number(&value, "/answers_per_second") > 0.0);
    assert!(value.get("delta").is_none(), "one configuration has nothing to compare");

    let lines = lines(&trace);
    assert_eq!(lines[0]["schema"], "llama-svf/trace/2");
    assert_eq!(lines.len(), 49);
    let mean = lines[1..].iter().map(|line| number(line, "/score")).sum::<f64>() / 48.0;
    assert!((mean - accuracy).abs() < 1e-12, "{mean} {accuracy}");
    for line in &lines[1..] {
        for key in ["id", "prompt", "gold", "completion", "reason", "configuration"] {
            assert!(line[key].is_string(), "{key} in {line}");
        }
    }
    // The same answers one by one, but for ties that rounding breaks.
    let single = json("eval --task math -n 48 --json --batch 1 -t 1");
    assert!((number(&single, "/accuracy") - accuracy).abs() <= 2.0 / 48.0);
    let table = run("eval --task math -n 8");
    assert_code(&table, 0);
    assert!(stdout(&table).contains("accuracy") && stdout(&table).contains("tokens/s"), "{}", stdout(&table));
}

#[test]
fn two_configurations_are_compared_on_the_same_items() {
    let value = json(&format!("eval --task skill-name -n 40 --json {EXPERTS} --use odd --against base"));
    assert_eq!((value["configuration"].as_str(), value["baseline"].as_str()), (Some("odd=1"), Some("base")));
    let delta = number(&value, "/accuracy") - number(&value, "/baseline_accuracy");
    assert!((number(&value, "/delta") - delta).abs() < 1e-12);
    let ids = |key: &str| value[key].as_array().unwrap().len() as f64;
    assert!((ids("gained") - ids("lost") - 40.0 * delta).abs() < 1e-9, "{value:#}");
    assert!(
        number(&value, "/p_value") < 0.01 && delta < 0.0,
        "m = -1 everywhere spoils the model: {value:#}"
    );

    // An expert that changes nothing changes no item.
    let value = json(&format!("eval --task skill-name -n 24 --json {EXPERTS} --use same --against base"));
    assert_eq!((number(&value, "/delta"), number(&value, "/p_value")), (0.0, 1.0));
    assert_eq!(value["gained"].as_array().unwrap().len() + value["lost"].as_array().unwrap().len(), 0);

    let table = run(&format!("eval --task skill-name -n 40 {EXPERTS} --use odd --against same"));
    assert_code(&table, 0);
    for word in ["odd=1", "same=1", "difference", "McNemar", "worse", "--trace"] {
        assert!(stdout(&table).contains(word), "no '{word}' in {}", stdout(&table));
    }
}

#[test]
fn samples_have_a_mean_and_a_best() {
    let arguments = "eval --task math -n 12 --samples 4 --seed 3 --json -t 1";
    let value = json(arguments);
    assert!(number(&value, "/pass_at_k") >= number(&value, "/accuracy"), "{value:#}");
    assert_eq!(number(&value, "/temperature"), 1.0);
    let again = json(arguments);
    assert_eq!(value["accuracy"], again["accuracy"], "a seed gives one result");
}

#[test]
fn an_interrupted_trace_is_continued_and_ends_as_a_whole_one() {
    let whole = folder().join("whole.jsonl");
    let expected = json("eval --task code -n 20 --json --trace @whole.jsonl");
    // As a killed process leaves it: a line cut in the middle.
    let text = fs::read_to_string(&whole).unwrap();
    let cut = text.lines().take(8).map(str::len).sum::<usize>() + 20;
    fs::write(folder().join("cut.jsonl"), &text[..cut]).unwrap();
    let value = json("eval --task code -n 20 --json --trace @cut.jsonl --resume");
    assert_eq!(value["accuracy"], expected["accuracy"]);
    let ids = |path: &Path| {
        let mut ids: Vec<_> =
            lines(path)[1..].iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&folder().join("cut.jsonl")), ids(&whole));

    for (arguments, fragments) in [
        ("eval --task code -n 20 --trace @whole.jsonl", ["whole.jsonl", "--resume"]),
        ("eval --task math -n 20 --trace @whole.jsonl --resume", ["line 1, task", "math"]),
        (
            "eval --task code --seed 2 -n 20 --trace @whole.jsonl --resume",
            ["line 1, seed", "the trace was begun with 0, and this is 2"],
        ),
        ("eval --task code -n 20 --trace @data.jsonl --resume", ["data.jsonl", "line 1"]),
    ] {
        assert_refused(arguments, &fragments);
    }
}

/// Whatever changes an answer or its score: a trace that was begun without the change does not go on with it.
#[test]
fn a_trace_goes_on_with_what_it_was_begun_with_only() {
    let task = "prompt = \"{{ q }}\"\ngold = \"{{ a }}\"\n[data]\ntest = [\"options.jsonl\"]\n\
                [reward]\nkind = \"choice\"\noptions = \"o\"\n[generation]\nmax_tokens = 8\n";
    let rows = r#"{"q": "What is 1 + 1?", "a": "A", "o": ["2", "3"]}"#.to_owned() + "\n";
    let write = |task: &str, rows: &str| {
        fs::write(folder().join("options.toml"), task).unwrap();
        fs::write(folder().join("options.jsonl"), rows).unwrap();
    };
    let trace = folder().join("options.trace.jsonl");
    let arguments = format!("eval --task @options.toml {EXPERTS} --use odd --trace @options.trace.jsonl");
    write(task, &rows);
    assert_code(&run(&arguments), 0);
    let begun = fs::read_to_string(&trace).unwrap();
    let go_on = format!("{arguments} --resume");
    let of_task = |from: &str, to: &str| task.replace(from, to);
    let of_rows = |from: &str, to: &str| rows.replace(from, to);
    for (what, task, rows, more, message) in [
        (
            "rule",
            of_task("\"choice\"", "\"choice\"\nlabels = \"letters\"\ngold_is = \"text\""),
            of_rows("\"A\"", "\"2\""),
            "",
            "line 1, task_rules: ",
        ),
        (
            "limit",
            of_task("= 8", "= 7"),
            rows.clone(),
            "",
            "line 1, task_generation.max_tokens: the trace was begun with 8, and this is 7",
        ),
        (
            "limit by flag",
            task.into(),
            rows.clone(),
            "--max-tokens 7",
            "line 1, task_generation.max_tokens: ",
        ),
        (
            "stop strings",
            of_task("= 8", "= 8\nstop = [\"x\"]"),
            rows.clone(),
            "",
            "line 1, task_generation.stop: the trace was begun with [], and this is [\"x\"]",
        ),
        (
            "form",
            task.into(),
            rows.clone(),
            "--form factored",
            "line 1, adapted.form: the trace was begun with \"residual\", and this is \"factored\"",
        ),
        (
            "op",
            task.into(),
            rows.clone(),
            "--op composed",
            "line 1, adapted.op: the trace was begun with \"auto\", and this is \"composed\"",
        ),
        ("strength", task.into(), rows.clone(), "--strength 0.5", "line 1, configurations: "),
        ("template", of_task("{{ q }}", "Q: {{ q }}"), rows.clone(), "", "line 2, item "),
        ("prompt", task.into(), of_rows("1 + 1", "1 + 2"), "", "the trace was made from other data"),
        ("options", task.into(), of_rows("\"3\"", "\"4\""), "", "the trace was made from other data"),
    ] {
        write(&task, &rows);
        assert_one_error(what, &run(&format!("{go_on} {more}")), &["options.trace.jsonl", message]);
        assert_eq!(fs::read_to_string(&trace).unwrap(), begun, "{what}");
    }
    write(task, &rows);
    assert_code(&run(&go_on), 0);
    // One of an older version.
    fs::write(&trace, "{\"schema\":\"llama-svf/trace/1\",\"task\":\"options\"}\n").unwrap();
    assert_refused(&go_on, &["line 1, schema: expected llama-svf/trace/2, found llama-svf/trace/1"]);
}

#[track_caller]
fn assert_refused(arguments: &str, fragments: &[&str]) {
    assert_one_error(arguments, &run(arguments), fragments);
}

#[test]
fn a_task_file_runs_and_a_broken_one_is_one_line() {
    let value = json("eval --task @task.toml -n 10 --json");
    assert_eq!((value["task"].as_str(), value["n"].as_u64()), (Some("task"), Some(10)));
    for (arguments, fragments) in [
        ("eval --task @broken.toml", ["broken.toml:3", "colour"]),
        ("eval --task @task.toml --data @missing.jsonl", ["missing.jsonl:41", "a"]),
        ("eval --task @task.toml --data test=@long.jsonl", ["long.jsonl:1", "tokens"]),
        ("eval --task no-such-task", ["no-such-task", "error"]),
        ("eval --task math -m @task.toml", ["task.toml", "magic"]),
        ("eval --task math -n 0", ["-n", "0"]),
        ("eval --task math --batch 0", ["--batch", "0"]),
        ("eval --task math --samples 0", ["--samples", "0"]),
        ("eval --task math --samples 2 --temp 0", ["--temp", "hint"]),
        ("eval --task math --temp nan", ["--temp", "NaN"]),
        ("eval --task math -t 0", ["threads", "0"]),
        ("eval --task math --svf @model.svf.gguf --against base", ["--against", "same"]),
        ("eval --task math --svf @model.svf.gguf --use none", ["expert none", "hint"]),
        ("demo -n 0", ["-n", "0"]),
        ("demo --steps 0", ["--steps", "0"]),
    ] {
        assert_refused(arguments, &fragments);
    }
}

#[test]
fn the_demo_shows_every_task() {
    let output = run("demo -n 12 --steps 3 --json");
    assert_code(&output, 0);
    let value: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(value["schema"], "llama-svf/demo/1");
    assert_eq!(value["tasks"].as_array().unwrap().len(), 7);
    for i in 0..7 {
        assert!((0.0..=1.0).contains(&number(&value, &format!("/tasks/{i}/accuracy"))));
    }
    let rewards = value["training"]["rewards"].as_array().unwrap();
    assert!(
        rewards.len() == 3 && rewards.iter().all(|reward| (0.0..=1.0).contains(&reward.as_f64().unwrap()))
    );
    assert!((0.0..=1.0).contains(&number(&value, "/training/accuracy_after")));
    let table = run("demo -n 8 --steps 1");
    assert_code(&table, 0);
    assert!(["reasoning-unseen", "skill-name", "Q  ", "A  ", "reward  ", "difference"]
        .iter()
        .all(|word| stdout(&table).contains(word)));
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_an_evaluation_with_what_it_has() {
    let trace = folder().join("interrupted.jsonl");
    let path = trace.to_str().unwrap();
    let mut child = command(["eval", "--task", "math", "--samples", "64", "--json", "--trace", path])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Until the first items are whole.
    while fs::read_to_string(&trace).map_or(0, |text| text.lines().count()) < 300 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 130);
    let value: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(value["partial"], true);
    let n = number(&value, "/n") as usize;
    assert!(n > 0 && n < 500, "{n}");
    assert!(
        stderr(&output).contains("partial") && stderr(&output).contains("--resume"),
        "{}",
        stderr(&output)
    );
    assert!(lines(&trace).len() > 64 * n);
}
