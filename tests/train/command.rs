//! `llama-svf train` from the outside: arguments in; expert, folder, output and exit code out.

#[path = "../support/program.rs"]
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use llama_svf::embedded;
use llama_svf::expert::Expert;
use llama_svf::sidecar::Sidecar;
use program::{assert_code, command, number, stderr, stdout, svf};
use serde_json::Value;

/// A folder with the embedded model, its sidecar, and task files; made once per run.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("train");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let model = embedded::write_to(&folder).unwrap();
        let sidecar = folder.join("model.svf.gguf");
        let (model, output) = (model.to_str().unwrap(), sidecar.to_str().unwrap());
        assert_code(&svf(["decompose", "-m", model, "-o", output, "--type", "f16"]), 0);
        // The same model with one weight changed a little is another one.
        let mut other = embedded::bytes().to_vec();
        *other.last_mut().unwrap() ^= 1;
        fs::write(folder.join("other.gguf"), other).unwrap();

        let task = "prompt = \"{{ q }}\"\ngold = \"{{ a }}\"\n[data]\nfiles = [\"data.jsonl\"]\n\
                    [reward]\nkind = \"text\"\n[generation]\nmax_tokens = 3\n";
        fs::write(folder.join("never.toml"), task).unwrap();
        fs::write(folder.join("test-only.toml"), task.replace("files =", "test =")).unwrap();
        let no_validation = format!("{task}[split]\ntrain = 0.5\nvalidation = 0\n");
        fs::write(folder.join("no-validation.toml"), no_validation).unwrap();
        let row = |q: &str| format!("{{\"q\": \"{q}\", \"a\": \"never so\"}}\n");
        fs::write(folder.join("data.jsonl"), (0..40).map(|i| row(&format!("{i}?"))).collect::<String>())
            .unwrap();
        let long = row(&"What is this? ".repeat(400)) + &row("short?");
        fs::write(folder.join("long.jsonl"), long).unwrap();
        fs::write(folder.join("file.train"), "no folder").unwrap();
        folder
    })
}

fn words(arguments: &str) -> Vec<String> {
    program::words(folder(), arguments)
}

fn run(arguments: &str) -> Output {
    svf(words(arguments))
}

/// Few steps of few answers, in one thread.
const SMALL: &str =
    "--steps 4 --prompts 4 --samples 4 --validate-every 2 --validation-items 16 --seed 5 -t 1";

#[test]
fn a_run_leaves_an_expert_a_log_and_a_report() {
    let output = run(&format!("train --task math -o @math.expert.gguf {SMALL} --json --description sums"));
    assert_code(&output, 0);
    let value: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(value["schema"], "llama-svf/train/1");
    assert_eq!((value["task"].as_str(), value["ended"].as_str()), (Some("math"), Some("done")));
    assert_eq!((number(&value, "/steps"), number(&value, "/validation/n")), (4.0, 16.0));
    assert!(number(&value, "/validation/after") >= number(&value, "/validation/before"));
    assert!(number(&value, "/validation/p_value") <= 1.0 && number(&value, "/tokens") > 100.0);

    let expert = Expert::open(folder().join("math.expert.gguf")).unwrap();
    assert_eq!((expert.name.as_str(), expert.description.as_str()), ("math", "sums"));
    let training = expert.training.unwrap();
    assert_eq!((training.task.as_str(), training.seed), ("math", 5));
    assert_eq!(f64::from(training.validation_after), number(&value, "/validation/after"));

    let log = fs::read_to_string(folder().join("math.train/log.jsonl")).unwrap();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!((count("step"), count("validation")), (4, 3));
    assert_eq!(lines[0]["settings"]["task"], "math");
    assert_eq!(lines.iter().filter(|line| line.get("settings").is_some()).count(), 1);
    for line in lines.iter().filter(|line| line["event"] == "step") {
        assert!((0.0..=1.0).contains(&number(line, "/reward")) && number(line, "/tokens") > 0.0, "{line}");
    }
    let html = fs::read_to_string(folder().join("math.train/report.html")).unwrap();
    for part in
        ["Train reward", "Validation accuracy", "<svg", "blk.0.ffn_up", "options.seed", "validation before"]
    {
        assert!(html.contains(part), "no '{part}' in the report");
    }
    assert!(!html.contains("NaN") && !html.contains("http"), "the report needs nothing from elsewhere");

    // What is there is not lost by mistake.
    assert_refused(&format!("train --task math -o @math.expert.gguf {SMALL}"), &["math.train", "--resume"]);
    assert_refused(
        &format!("train --task math -o @math.expert.gguf {SMALL} --resume --lr 0.5"),
        &["checkpoint", "options.schedule.peak", "0.5"],
    );
    let again = run(&format!("train --task math -o @math.expert.gguf {SMALL} --resume"));
    assert_code(&again, 0);
    assert!(stdout(&again).contains("before") && stdout(&again).contains("4 steps"), "{}", stdout(&again));
}

/// Which layers are trained belongs to a run, and to what comes of it.
#[test]
fn layers_that_are_not_trained_stay_as_they_are() {
    let train = format!("train --task math -o @part.expert.gguf {SMALL} --lr 0.1 --warmup 0 --kl 0.1");
    assert_code(&run(&format!("{train} --layers 1-2")), 0);
    let expert = Expert::open(folder().join("part.expert.gguf")).unwrap();
    let training = expert.training.unwrap();
    assert_eq!((training.layers.as_deref(), training.steps > 0), (Some("1-2"), true));
    for (name, m) in &expert.multipliers {
        let is_trained = ["blk.1.", "blk.2."].iter().any(|layer| name.starts_with(layer));
        assert_eq!(m.iter().any(|&m| m != 1.0), is_trained, "{name}");
    }
    let text = run("inspect @part.expert.gguf");
    assert!(stdout(&text).contains("trained on math in layers 1-2 for"), "{}", stdout(&text));
    assert_refused(&format!("{train} --layers 1-3 --resume"), &["checkpoint", "options.layers", "1-2"]);
    assert_refused(&format!("{train} --resume"), &["checkpoint", "options.layers", "1-2"]);
    for (wrong, parts) in [
        ("--layers 90-99", &["--layers", "layers that the sidecar adapts, 0 to"][..]),
        ("--layers 3-1", &["--layers", "8-15"]),
        ("--layers 1 --parametrisation reference", &["--layers", "every layer"]),
        ("--layers 1 --estimator evolution", &["--layers", "moves all layers"]),
    ] {
        let train = train.replace(" --kl 0.1", "");
        assert_refused(&format!("{train} --force {wrong}"), parts);
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_resume_ends_bit_by_bit_as_a_whole_run() {
    let run_small =
        |name: &str, more: &str| format!("train --svf @model.svf.gguf --task code -o @{name} {SMALL} {more}");
    let whole = run(&run_small("whole.expert.gguf", ""));
    assert_code(&whole, 0);
    for when in ["before the first step (", "after step "] {
        assert!(stderr(&whole).contains(&format!("validation items {when}")), "{when}: {}", stderr(&whole));
    }
    let log = folder().join("stopped.train/log.jsonl");
    let words = words(&run_small("stopped.expert.gguf", ""));
    let child = command(&words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut child = child;
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains("\"step\":2")) {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 130);
    assert!(stderr(&output).contains("--resume"), "{}", stderr(&output));
    let output = run(&run_small("stopped.expert.gguf", "--resume"));
    assert_code(&output, 0);
    assert!(stderr(&output).contains("going on after step"), "{}", stderr(&output));
    let multipliers = |name: &str| Expert::open(folder().join(name)).unwrap().multipliers;
    assert_eq!(multipliers("stopped.expert.gguf"), multipliers("whole.expert.gguf"));
    // Not only the best, which may be of before: all that the run ended with.
    let vectors = |name: &str| {
        let bytes = fs::read(folder().join(name).join("checkpoint")).unwrap();
        let start = bytes.iter().position(|&byte| byte == b'\n').unwrap();
        bytes[start..bytes.len() - 32].to_vec()
    };
    assert!(vectors("stopped.train") == vectors("whole.train"), "the states differ");
}

#[track_caller]
fn assert_refused(arguments: &str, fragments: &[&str]) {
    program::assert_one_error(arguments, &run(arguments), fragments);
}

/// A LoRA from the command line: what stock llama.cpp loads, and what is told of it.
#[test]
fn a_lora_is_trained_and_told_of() {
    let train = format!("train --task math -o @sums.lora.gguf {SMALL} --adapter lora --rank 4");
    let output = run(&format!("{train} --json"));
    assert_code(&output, 0);
    let value: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!((value["adapter"].as_str(), value["ended"].as_str()), (Some("lora"), Some("done")));
    let text = run("inspect @sums.lora.gguf");
    assert_code(&text, 0);
    assert!(stdout(&text).contains("sums") && stdout(&text).contains("blk.0.ffn_up"), "{}", stdout(&text));
    let again = run(&format!("{train} --resume"));
    assert_code(&again, 0);
    assert!(stdout(&again).contains("LoRA ") && !stdout(&again).contains("expert"), "{}", stdout(&again));
    assert_refused(
        &format!("{} --resume", train.replace("--rank 4", "--rank 5")),
        &["checkpoint", "options.parametrisation"],
    );
    assert_refused(&format!("train --task math -o @sums.lora.gguf {SMALL} --resume"), &["parametrisation"]);

    // It answers through llama.cpp's own code, beside the base model or an expert, on the same items.
    let eval = "eval --task math -n 20 -t 2 --json --lora @sums.lora.gguf";
    let compared = |more: &str| -> Value {
        let output = run(&format!("{eval} {more}"));
        assert_code(&output, 0);
        serde_json::from_str(stdout(&output)).unwrap()
    };
    let alone = compared("");
    assert_eq!((alone["configuration"].as_str(), alone.get("baseline")), (Some("lora sums"), None));
    for (against, trace) in [("base", "base.jsonl"), ("math", "expert.jsonl")] {
        let value = compared(&format!("--against {against} --trace @{trace}"));
        assert_eq!(
            (&value["configuration"], &value["accuracy"]),
            (&alone["configuration"], &alone["accuracy"])
        );
        assert!(value["baseline"].as_str().unwrap().starts_with(against), "{value}");
        assert!((0.0..=1.0).contains(&number(&value, "/p_value")) && number(&value, "/n") == 20.0, "{value}");
        // Nothing is left to do, and the figures are the same.
        let again = compared(&format!("--against {against} --trace @{trace} --resume"));
        assert_eq!((&again["gained"], &again["delta"]), (&value["gained"], &value["delta"]));
    }
    // 0 times what it adds is the base model.
    let value = compared("--lora-scale 0 --against base");
    assert_eq!((number(&value, "/delta"), value["gained"].as_array().unwrap().len()), (0.0, 0), "{value}");
    let reply = run("run --lora @sums.lora.gguf --chat --temp 0 -p 2+3=? -n 20");
    assert_code(&reply, 0);
    assert!(!stdout(&reply).trim().is_empty());
    for (arguments, fragments) in [
        ("run -p a --lora @nowhere.lora.gguf", ["nowhere.lora.gguf", "cannot open"]),
        ("run -p a --lora @model.svf.gguf", ["adapter.type", "found 'svf'"]),
        ("run -p a --lora @sums.lora.gguf --use math", ["--lora", "without experts"]),
        ("run -p a --lora @sums.lora.gguf --lora-scale nan", ["--lora-scale", "NaN"]),
        ("run -p a --lora @sums.lora.gguf -m @other.gguf", ["sums.lora.gguf", "another model"]),
        ("eval --task math --lora @sums.lora.gguf --use math", ["--lora", "--against NAME"]),
        ("eval --task math --lora @model.svf.gguf", ["adapter.type", "found 'svf'"]),
    ] {
        assert_refused(arguments, &fragments);
    }
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_done() {
    for (arguments, fragments) in [
        ("--task math -o @no/such/x.expert.gguf", ["x.expert.gguf", "cannot write"]),
        ("--task math -o @", ["train", "folder"]),
        ("--task math -o @file.expert.gguf", ["file.train", "expected a folder"]),
        ("--task math -o @x.expert.gguf --name a,b", ["--name", "a,b"]),
        ("--task no-such-task -o @x.expert.gguf", ["no-such-task", "hint"]),
        ("--task @test-only.toml -o @x.expert.gguf", ["no train items", "hint"]),
        ("--task @no-validation.toml -o @x.expert.gguf", ["no validation items", "hint"]),
        (
            "--task @never.toml --data train=@long.jsonl --data validation=@data.jsonl -o @x.expert.gguf",
            ["long.jsonl:1", "tokens"],
        ),
        (
            "--task math -o @x.expert.gguf -m @other.gguf --svf @model.svf.gguf",
            ["svf.base.fingerprint", "decompose"],
        ),
        (
            "--task math -o @x.expert.gguf -m @model.svf.gguf --svf @model.svf.gguf",
            ["-m takes the model", "--svf"],
        ),
        ("--task math -o @x.expert.gguf --svf @other.gguf", ["other.gguf", "sidecar"]),
        ("--task math -o @x.expert.gguf --lr 0", ["--lr", "above 0"]),
        ("--task math -o @x.expert.gguf --lr nan", ["--lr", "NaN"]),
        ("--task math -o @x.expert.gguf --samples 1", ["--samples", "--reference"]),
        ("--task math -o @x.expert.gguf --temp 0", ["--temp", "hint"]),
        ("--task math -o @x.expert.gguf --steps 0", ["--steps", "0"]),
        ("--task math -o @x.expert.gguf --prompts 0", ["--prompts", "0"]),
        ("--task math -o @x.expert.gguf --clip -1", ["--clip", "-1"]),
        ("--task math -o @x.expert.gguf --kl -1", ["--kl", "-1"]),
        ("--task math -o @x.expert.gguf --step-kl -1", ["--step-kl", "-1"]),
        ("--task math -o @x.expert.gguf --patience 0", ["--patience", "0"]),
        ("--task math -o @x.expert.gguf -t 0", ["--threads", "0"]),
        ("--task math -o @x.expert.gguf --objective likelihood --samples 4", ["--samples", "gold answers"]),
        ("--task math -o @x.expert.gguf --objective likelihood --temp 1", ["--temp", "gold answers"]),
        (
            "--task math -o @x.expert.gguf --objective likelihood --reward random",
            ["--reward", "gold answers"],
        ),
        ("--task math -o @x.expert.gguf --objective likelihood --reference", ["--reference", "gold answers"]),
        ("--task math -o @x.expert.gguf --rank 4", ["--rank", "--adapter lora"]),
        ("--task math -o @x.expert.gguf --adapter lora --rank 0", ["--rank", "1 or more"]),
        ("--task math -o @x.expert.gguf --adapter lora --rank 9999", ["--rank", "a rank from 1 to"]),
        ("--task math -o @x.expert.gguf --adapter lora --reference", ["--reference", "multipliers"]),
        ("--task math -o @x.expert.gguf --adapter lora --estimator evolution", ["--estimator", "exact"]),
        ("--task math -o @x.expert.gguf --adapter lora --form factored", ["--form", "beside"]),
        (
            "--task math -o @x.expert.gguf --adapter lora --parametrisation multiplier",
            ["--parametrisation", "svf"],
        ),
        ("--task math -o @x.expert.gguf --batch 0", ["--batch", "0"]),
    ] {
        assert_refused(&format!("train {arguments}"), &fragments);
    }
    assert!(!folder().join("x.train").exists() && !folder().join("x.expert.gguf").exists());
}

#[test]
fn answers_that_are_never_right_end_the_run_with_advice() {
    let arguments =
        "train --task @never.toml -o @never.expert.gguf --prompts 2 --samples 2 -t 1 --validation-items 2";
    let output = run(arguments);
    assert_code(&output, 2);
    assert_eq!(stdout(&output), "");
    // Beside lines of progress.
    let errors: Vec<_> = stderr(&output).lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{}", stderr(&output));
    for fragment in ["all rewards were 0 in 10 steps", "--trace"] {
        assert!(errors[0].contains(fragment), "no '{fragment}' in {}", errors[0]);
    }
    assert!(
        folder().join("never.train/report.html").exists() && !folder().join("never.expert.gguf").exists()
    );
}

#[test]
fn an_expert_of_a_given_sidecar_fits_it() {
    let arguments =
        "train --svf @model.svf.gguf --task reasoning -o @ref.expert.gguf --reference --prompts 4 --steps 2 \
                     --validation-items 4 -t 1";
    assert_code(&run(arguments), 0);
    let expert = Expert::open(folder().join("ref.expert.gguf")).unwrap();
    let sidecar = Sidecar::open(folder().join("model.svf.gguf")).unwrap();
    expert.check(&sidecar).unwrap();
    // The sum of the singular values stays, by construction.
    for weight in &sidecar.weights {
        let m = &expert.multipliers[&weight.name];
        let sum = |f: &dyn Fn(usize) -> f32| (0..m.len()).map(|i| f64::from(f(i))).sum::<f64>();
        let ratio = sum(&|i| m[i] * weight.sigma[i]) / sum(&|i| weight.sigma[i]);
        assert!((ratio - 1.0).abs() < 1e-6, "{}: {ratio}", weight.name);
    }
}

/// A real model that is not ours learns to write what is asked for, and does so after openings it has not seen.
#[test]
fn stories_learn_to_be_happy() {
    let shared = std::env::var("LLAMA_SVF_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into());
    let model = Path::new(&shared).join("models/stories260K-f32.gguf");
    if !model.exists() {
        println!("skipped: {} is absent", model.display());
        return;
    }
    let task = "prompt = \"{{ opening }}\"\ngold = \"happy\"\n[data]\nfiles = [\"stories.jsonl\"]\n\
                [reward]\nkind = \"text\"\npattern = '\\b(happy)\\b'\n[split]\ntrain = 0.4\n[generation]\nmax_tokens = 40\n";
    fs::write(folder().join("stories.toml"), task).unwrap();
    let mut rows = String::new();
    for name in ["Lily", "Tom", "Sara", "Ben", "Mia", "Max", "Anna", "Sam", "Lucy", "Tim"] {
        for who in ["little girl", "little boy", "small dog", "big cat", "young bird"] {
            for what in ["loved to play", "liked to run", "had a red ball", "found a box", "went to the park"]
            {
                let opening = format!("Once upon a time, there was a {who} named {name}. {name} {what}.");
                rows += &format!("{{\"opening\": \"{opening}\"}}\n");
            }
        }
    }
    fs::write(folder().join("stories.jsonl"), rows).unwrap();
    let of_model = |arguments: &str| {
        let output = svf(words(arguments).into_iter().chain(["-m".into(), model.display().to_string()]));
        assert_code(&output, 0);
        output
    };
    of_model("decompose -o @stories.svf.gguf --tensors all --type f16");
    of_model(
        "train --svf @stories.svf.gguf --task @stories.toml -o @happy.expert.gguf --steps 10 --validate-every 10 \
         --validation-items 20 --prompts 16 --seed 3 -t 2",
    );
    let output = of_model(
        "eval --svf @stories.svf.gguf --task @stories.toml --expert @happy.expert.gguf --use happy --against base \
         --samples 2 --json",
    );
    let value: Value = serde_json::from_str(stdout(&output)).unwrap();
    let [before, after] = ["/baseline_accuracy", "/accuracy"].map(|path| number(&value, path));
    println!("held-out reward {before} before, {after} after, p = {}", value["p_value"]);
    assert!(after > before + 0.1 && number(&value, "/p_value") < 0.01);
}
