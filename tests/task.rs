//! The command `llama-svf task` and the flags that stand over a task's own settings, from the outside.

#[path = "support/program.rs"]
#[allow(dead_code)]
mod program;

use std::fs;
use std::path::{Path, PathBuf};

use llama_svf::embedded;
use program::{assert_code, assert_one_error, command, number, stderr, stdout, svf, words};
use serde_json::Value;

/// Questions, and a task about them that is in order.
const ROWS: &str = "{\"q\": \"What is 2 + 2?\", \"a\": 4}\n{\"q\": \"What is 3 + 3?\", \"a\": 6}\n\
                    {\"q\": \"What is 4 + 4?\", \"a\": 8}\n{\"q\": \"What is 5 + 5?\", \"a\": 10}\n";
const TASK: &str = "description = \"Sums\"\nprompt = \"{{ q }}\"\ngold = \"{{ a }}\"\n\
                    completion = \"It is so.\\n#### {{ a }}\"\n[data]\ntrain = [\"rows.jsonl\"]\ntest = [\"test.jsonl\"]\n\
                    [split]\nvalidation = 1\n[reward]\nkind = \"numeric\"\n";

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        files.write("rows.jsonl", ROWS);
        files.write(
            "test.jsonl",
            "{\"q\": \"What is 6 + 6?\", \"a\": 12}\n{\"q\": \"What is 7 + 7?\", \"a\": 14}\n",
        );
        files.write("sums.toml", TASK);
        files.write("cut.toml", "base = \"sums.toml\"\n[generation]\nstop = [\"\\n\"]\n");
        files.write("chat.toml", "base = \"sums.toml\"\n[generation]\nchat = true\nmax_tokens = 40\n");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn run(&self, arguments: &str) -> std::process::Output {
        svf(words(self.folder.path(), arguments))
    }

    fn json(&self, arguments: &str, code: i32) -> Value {
        let output = self.run(arguments);
        assert_code(&output, code);
        serde_json::from_str(stdout(&output)).unwrap()
    }
}

#[test]
fn it_shows_what_a_task_is() {
    let files = Files::new();
    let output = files.run("task @sums.toml");
    assert_code(&output, 0);
    let text = stdout(&output);
    for part in [
        "sums: Sums",
        "4 of ",
        "rows.jsonl (train)",
        "3 train, 1 validation, 2 test",
        "numeric",
        "at most 256 tokens, without a chat template",
        "prompt of ",
        "What is 6 + 6?",
        "It is so.\n#### 12",
        "gold answer: 12",
        "6 of 6 gold completions score 1",
    ] {
        assert!(text.contains(part), "no '{part}' in\n{text}");
    }
    let value = files.json("task @sums.toml --part train --json --max-tokens 9", 0);
    assert_eq!(value["schema"], "llama-svf/task/1");
    assert_eq!((number(&value, "/checked"), number(&value, "/items/test")), (3.0, 2.0));
    assert_eq!(number(&value, "/generation/max_tokens"), 9.0);
    assert_eq!(value["faults"], Value::Array(Vec::new()));
    assert!(value["example"]["id"].as_str().unwrap().contains("rows.jsonl:"));
    let value = files.json("task math,code --json", 0);
    assert_eq!((value["task"].as_str(), value["data"].as_array().unwrap().len()), (Some("math,code"), 0));
    assert_eq!(files.json("task @chat.toml --json --system Hi", 0)["generation"]["system"], "Hi");
}

#[test]
fn it_finds_what_is_not_in_order() {
    let files = Files::new();
    let output = files.run("task @cut.toml");
    assert_code(&output, 1);
    let text = stdout(&output);
    assert!(text.contains("0 of 6 gold completions score 1"), "{text}");
    assert!(
        text.contains("test.jsonl:1 scores 0: ") && text.contains(r#"stop string "\n" cuts it off"#),
        "{text}"
    );
    let value = files.json("task @cut.toml --part test --json", 1);
    assert_eq!(value["faults"].as_array().unwrap().len(), 2);
    assert_eq!(number(&value, "/faults/0/score"), 0.0);
    // A long list is cut in the text and whole in JSON.
    let many: String = (0..50).map(|i| format!("{{\"q\": \"{i}?\", \"a\": {i}}}\n")).collect();
    files.write("test.jsonl", &many);
    let output = files.run("task @cut.toml");
    assert!(stdout(&output).contains("… and 34 more"), "{}", stdout(&output));
    assert_eq!(files.json("task @cut.toml --json", 1)["faults"].as_array().unwrap().len(), 54);
}

#[test]
fn it_refuses_what_it_cannot_read() {
    let files = Files::new();
    files.write("code.toml", "base = \"mbpp\"\n[data]\ntest = [\"rows.jsonl\"]\n");
    files.write("other.toml", "base = \"gsm8k\"\n[data]\ntest = [\"rows.jsonl\"]\n");
    files.write("tests.toml", &TASK.replace("train = [\"rows.jsonl\"]\n", ""));
    files.write("table.csv", "question,answer\na,b\n");
    for (arguments, parts) in [
        ("task gsm9k", &["did you mean gsm8k?"][..]),
        ("task gsm8k", &["--data"]),
        ("task @none.toml", &["none.toml: cannot read"]),
        ("task @code.toml", &["--allow-exec"]),
        ("task @other.toml", &["rows.jsonl:1: ", "the row has a, q", "question, answer"]),
        ("task gsm8k --data @table.csv", &["CSV", "read_csv"]),
        ("task @tests.toml --part train", &["no train items"]),
        ("task @sums.toml --max-tokens 0", &["max_tokens"]),
        ("task @sums.toml --system Hi", &["system", "chat"]),
        ("task @sums.toml -m @none.gguf", &["none.gguf"]),
        ("eval --task @sums.toml --system Hi", &["system", "chat"]),
        ("eval --task math --max-tokens 0", &["max_tokens"]),
        ("report --task @sums.toml --system Hi", &["system", "chat"]),
    ] {
        let output = files.run(arguments);
        // clap's own refusals have lines of their own.
        assert_one_error(arguments, &output, parts);
    }
    let output = files.run("eval --task math --system Hi --no-chat");
    assert_code(&output, 2);
    assert!(stderr(&output).contains("cannot be used with"), "{}", stderr(&output));
}

/// With a model: what it reads, token by token.
#[test]
fn it_shows_the_prompt_as_the_model_sees_it() {
    let files = Files::new();
    fs::write(files.path("model.gguf"), embedded::bytes()).unwrap();
    let value = files.json("task @chat.toml -m @model.gguf --json", 0);
    let pieces: Vec<_> =
        value["example"]["pieces"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
    let rendered = value["example"]["rendered"].as_str().unwrap();
    assert_eq!(pieces.concat(), rendered);
    assert_eq!(pieces.len(), value["example"]["tokens"].as_array().unwrap().len());
    assert!(rendered.contains("What is 6 + 6?") && rendered.len() > "What is 6 + 6?".len() + 4, "{rendered}");
    let plain = files.json("task @chat.toml -m @model.gguf --json --no-chat", 0);
    let plain = plain["example"]["rendered"].as_str().unwrap();
    assert!(plain.ends_with("What is 6 + 6?") && plain.len() < rendered.len(), "{plain}");
    let output = files.run("task @chat.toml -m @model.gguf --max-tokens 3");
    assert_code(&output, 0);
    let text = stdout(&output);
    for part in ["as the model sees it", " tokens: ", "longest gold completion has", "raise max_tokens"] {
        assert!(text.contains(part), "no '{part}' in\n{text}");
    }
}

/// A trace that was begun with other settings is not continued.
#[test]
fn a_changed_limit_is_noticed() {
    let files = Files::new();
    let eval = |more: &str| files.run(&format!("eval --task math -n 2 --trace @t.jsonl {more}"));
    assert_code(&eval("--max-tokens 8"), 0);
    assert_code(&eval("--max-tokens 8 --resume"), 0);
    for (more, parts) in [
        (
            "--max-tokens 9 --resume",
            &["line 1, task_generation.max_tokens: the trace was begun with 8, and this is 9"][..],
        ),
        ("--resume", &["line 1, task_generation.max_tokens: the trace was begun with 8, and this is 96"]),
        (
            "--max-tokens 8 --system Hi --resume",
            &["line 1, task_generation.system: the trace was begun with nothing, and this is \"Hi\""],
        ),
        (
            "--max-tokens 8 --no-chat --resume",
            &["line 1, task_generation.chat: the trace was begun with true, and this is false"],
        ),
    ] {
        assert_one_error(more, &eval(more), parts);
    }
    // A changed reward.
    let eval = |pattern: &str, more: &str| {
        let reward = format!("[reward]\nkind = \"text\"\npattern = '{pattern}'");
        files.write("text.toml", &TASK.replace("[reward]\nkind = \"numeric\"", &reward));
        files.run(&format!("eval --task @text.toml -n 1 --max-tokens 4 --trace @u.jsonl {more}"))
    };
    assert_code(&eval("a", ""), 0);
    assert_code(&eval("a", "--resume"), 0);
    assert_one_error("reward", &eval("b", "--resume"), &["line 1, task_rules"]);
}

/// The limit of the flag is the limit of the answers, and what it cuts off is told.
#[test]
fn limits_reach_the_answers() {
    let files = Files::new();
    let output = files.run("eval --task math -n 4 --max-tokens 2");
    assert_code(&output, 0);
    let text = stdout(&output);
    assert!(text.contains("(4 cut off at 2 tokens)") && text.contains("--max-tokens"), "{text}");
    assert_eq!(number(&files.json("eval --task math -n 4 --max-tokens 2 --json", 0), "/n_cut"), 4.0);
    assert_eq!(number(&files.json("eval --task math -n 4 --json", 0), "/n_cut"), 0.0);
}

/// Training tells the share of answers that were cut off; logs from before it was known go on.
#[test]
fn training_tells_what_was_cut_off() {
    let files = Files::new();
    let train = |more: &str| {
        let arguments = "train --task math -o @e.expert.gguf --prompts 2 --samples 2 --validation-items 2";
        files.run(&format!("{arguments} --steps 2 --max-tokens 12 {more}"))
    };
    let output = train("");
    // Two steps of a few short answers may teach nothing; what was written is told all the same.
    assert!([Some(0), Some(2)].contains(&output.status.code()), "{}", stderr(&output));
    let log = files.path("e.train/log.jsonl");
    let steps = |path: &Path| -> Vec<Value> {
        let lines = fs::read_to_string(path).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["event"] == "step").collect()
    };
    let shares: Vec<f64> = steps(&log).iter().map(|step| number(step, "/cut")).collect();
    assert!(!shares.is_empty() && shares.iter().all(|share| (0.0..=1.0).contains(share)), "{shares:?}");
    assert!(shares[0] > 0.5, "answers of 12 tokens are cut off: {shares:?}");
    assert!(stderr(&output).contains("raise max_tokens"), "{}", stderr(&output));
    let report = fs::read_to_string(files.path("e.train/report.html")).unwrap();
    assert!(report.contains("cut off by the limit of tokens: raise max_tokens"));
    assert!(report.contains("Answers cut off"));

    let old: String = fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            line.as_object_mut().unwrap().remove("cut");
            format!("{line}\n")
        })
        .collect();
    fs::write(&log, old).unwrap();
    let again = train("--resume");
    assert_eq!(again.status.code(), output.status.code(), "{}", stderr(&again));
    assert!(steps(&log).iter().all(|step| step["cut"].is_null()), "the steps of before stay as they were");
    assert!(!fs::read_to_string(files.path("e.train/report.html"))
        .unwrap()
        .contains("by the limit of tokens"));
    let other = files.run(
        "train --task math -o @e.expert.gguf --prompts 2 --samples 2 --validation-items 2 --steps 2 --resume",
    );
    assert_one_error(
        "resume",
        &other,
        &["task_generation.max_tokens: the run was begun with 12, and this is 96", "--force starts over"],
    );
}

#[test]
fn help_teaches() {
    let output = command(["task", "--help"]).output().unwrap();
    let text = stdout(&output);
    for part in
        ["Examples:", "--allow-exec", "--part", "--max-tokens", "--no-chat", "--system", "gold completion"]
    {
        assert!(text.contains(part), "no '{part}' in\n{text}");
    }
}
