//! Self-adaptation from the outside: `run --adapt`, `eval --adapt`, `adapt` and `transfer`.

#[path = "support/program.rs"]
mod program;
#[path = "common/random_model.rs"]
mod random_model;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use llama_svf::embedded;
use llama_svf::expert::{Expert, Mixture};
use llama_svf::sidecar::Sidecar;
use llama_svf::skills::{question, Skill};
use program::{assert_code, assert_one_error, command, number, stderr, stdout, svf, words};
use random_model::RandomModel;
use serde_json::Value;

/// A folder with the embedded model, its sidecar, and hand-made experts: one that hardly changes anything for each
/// skill, and one that spoils the model.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dispatch");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let model = embedded::write_to(&folder).unwrap();
        fs::rename(model, folder.join("model.gguf")).unwrap();
        RandomModel::tiny().write(&folder.join("foreign.gguf")).unwrap();
        for (model, output, extra) in [
            ("model.gguf", "model.svf.gguf", vec![]),
            ("model.gguf", "low.svf.gguf", vec!["--rank", "8"]),
            ("foreign.gguf", "foreign.svf.gguf", vec![]),
        ] {
            let (model, output) = (folder.join(model), folder.join(output));
            let mut arguments =
                vec!["decompose", "-m", model.to_str().unwrap(), "-o", output.to_str().unwrap()];
            arguments.extend(extra);
            assert_code(&svf(&arguments), 0);
        }
        let sidecar = Sidecar::open(folder.join("model.svf.gguf")).unwrap();
        for (name, m) in [("math", 1.01), ("code", 1.02), ("reasoning", 0.99), ("cls", 1.0), ("bad", -1.0)] {
            let mut expert = Expert::identity(name, &sidecar);
            expert.description = format!("questions of {name}");
            expert.multipliers.values_mut().flatten().for_each(|x| *x = m);
            expert.save(folder.join(format!("{name}.expert.gguf"))).unwrap();
        }
        // One of a model of other shapes, and one of a model of the same shapes.
        let foreign = Sidecar::open(folder.join("foreign.svf.gguf")).unwrap();
        Expert::identity("foreign", &foreign).save(folder.join("foreign.expert.gguf")).unwrap();
        let mut cousin = Expert::identity("cousin", &sidecar);
        cousin.fingerprint = foreign.fingerprint;
        cousin.save(folder.join("cousin.expert.gguf")).unwrap();
        let mut bare = Expert::identity("bare", &sidecar);
        bare.description.clear();
        bare.save(folder.join("bare.expert.gguf")).unwrap();
        fs::write(folder.join("ask.jinja"), "{{ question }} ({{ labels | join('/') }}){{ answer }}It is ")
            .unwrap();
        fs::write(folder.join("broken.jinja"), "{{ question ").unwrap();
        fs::write(folder.join("mute.jinja"), "Which one?").unwrap();
        folder
    })
}

/// `@name` stands for a file of the folder, and `EXPERTS` for the model with its three experts.
fn expand(arguments: &str, last: &[&str]) -> Vec<String> {
    let arguments = arguments.replace(
        "EXPERTS",
        "-m @model.gguf --svf @model.svf.gguf --expert @math.expert.gguf --expert @code.expert.gguf \
         --expert @reasoning.expert.gguf",
    );
    words(folder(), &arguments).into_iter().chain(last.iter().map(|&word| word.to_owned())).collect()
}

fn run(arguments: &str, last: &[&str]) -> Output {
    svf(expand(arguments, last))
}

#[track_caller]
fn json(arguments: &str, last: &[&str]) -> Value {
    let output = run(arguments, last);
    assert_code(&output, 0);
    serde_json::from_str(stdout(&output)).unwrap()
}

#[test]
fn a_run_chooses_its_expert_and_says_what_that_took() {
    let prompt = question(Skill::Math, false, 1, 5).prompt;
    let ask = |extra: &str| json(&format!("run EXPERTS --temp 0 --chat --json {extra}"), &["-p", &prompt]);
    let value = ask("--adapt prompt");
    assert_eq!(
        (value["schema"].as_str(), value["strategy"].as_str()),
        (Some("llama-svf/run/1"), Some("prompt"))
    );
    let label = value["label"].as_str().unwrap();
    assert_eq!((value["mixture"][label].as_f64(), value["fallback"].as_bool()), (Some(1.0), Some(false)));
    let sum: f64 = value["probabilities"].as_object().unwrap().values().map(|p| p.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-9);
    assert_eq!(value["probabilities"][label], value["confidence"]);
    for key in ["/pass1_ms", "/pass2_ms", "/pass1_tokens", "/pass1_share"] {
        assert!(number(&value, key) > 0.0, "{key}");
    }
    // The same as the user's own choice, and the base model's own answer where nothing is sure enough.
    assert_eq!(value["text"], ask(&format!("--use {label}"))["text"]);
    let base = ask("")["text"].clone();
    for extra in ["--adapt prompt --threshold 1", "--adapt prompt --strength 0"] {
        assert_eq!(ask(extra)["text"], base, "{extra}");
    }
    let fallback = ask("--adapt prompt --threshold 1");
    assert_eq!((fallback["fallback"].as_bool(), &fallback["mixture"]), (Some(true), &serde_json::json!({})));
    assert_eq!(ask("--adapt prompt --strength 0.5")["mixture"][label], 0.5);
    assert!(ask("--use math").get("strategy").is_none());
    // Each as much as it is likely, if that is not too little, and the base model the rest.
    let blended = ask("--adapt prompt --blend");
    let likely = blended["probabilities"].as_object().unwrap().iter();
    let heard: Vec<_> = likely.filter(|(name, p)| *name != "other" && p.as_f64().unwrap() >= 0.01).collect();
    assert_eq!(blended["mixture"].as_object().unwrap().len(), heard.len(), "{blended}");
    for (name, p) in heard {
        let alpha = blended["mixture"][name].as_f64().unwrap();
        assert!((alpha - p.as_f64().unwrap()).abs() < 1e-6, "{blended}");
    }

    let classified = ask("--adapt classifier --expert @cls.expert.gguf");
    assert_eq!(classified["strategy"], "classifier");
    assert!(classified["probabilities"].get("cls").is_none(), "the classifier is no candidate");
    let named = ask("--adapt classifier --expert who=@cls.expert.gguf --classifier who");
    assert_eq!(named["label"], classified["label"]);
    let text = ask("--adapt prompt --adapt-read text");
    assert_eq!((text["label"].as_str(), &text["probabilities"]), (Some(label), &serde_json::json!({})));
    assert!(ask("--adapt prompt --adapt-prompt @ask.jinja")["label"].is_string());

    let spoken =
        run("run EXPERTS --temp 0 --chat --adapt prompt --expert @bare.expert.gguf", &["-p", &prompt]);
    assert_code(&spoken, 0);
    let talk = stderr(&spoken);
    assert!(
        talk.contains("pass 1: ") && talk.contains("% sure") && talk.contains("no description"),
        "{talk}"
    );
    let long = run("run EXPERTS --adapt prompt -c 256", &["-p", &"12 ".repeat(2000)]);
    assert_code(&long, 2);
    let error = stderr(&long);
    assert!(error.contains("--ctx-size: the prompt has ") && error.contains("larger -c"), "{error}");
}

#[test]
fn each_message_of_a_chat_chooses_anew_until_the_user_does() {
    let lines: Vec<_> = [Skill::Math, Skill::Math, Skill::Reasoning]
        .map(|skill| question(skill, false, 1, 2).prompt.replace('\n', " "))
        .into();
    let input = folder().join("chat.txt");
    let text =
        format!("{}\n/load x\n{}\n/clear\n{}\n/use\n{}\n/exit\n", lines[0], lines[1], lines[2], lines[0]);
    fs::write(&input, text).unwrap();
    let words = expand("run EXPERTS --chat --adapt prompt -n 4 --temp 0 -c 512", &[]);
    let output = command(words).stdin(fs::File::open(&input).unwrap()).output().unwrap();
    assert_code(&output, 0);
    let talk = stderr(&output);
    assert_eq!(talk.matches("pass 1: ").count(), 3, "{talk}");
    assert_eq!(talk.matches("error: ").count(), 1, "{talk}");
    assert!(talk.contains("stays as you choose it") && talk.contains("mixture: base]"), "{talk}");
}

#[test]
fn a_shuffled_stream_is_scored_with_the_experts_that_the_model_chooses() {
    let value = json("eval EXPERTS --task math,code,reasoning -n 60 --adapt prompt --json", &[]);
    assert_eq!(
        (value["task"].as_str(), value["configuration"].as_str()),
        (Some("math,code,reasoning"), Some("adapt prompt"))
    );
    let confusion = value["dispatch"]["confusion"].as_object().unwrap();
    assert_eq!(confusion.len(), 3, "the first 60 items are of all tasks: {confusion:?}");
    let cells = confusion.values().flat_map(|row| row.as_object().unwrap().values());
    assert_eq!(cells.map(|n| n.as_u64().unwrap()).sum::<u64>(), 60);
    assert!((0.5..=1.0).contains(&number(&value, "/dispatch/accuracy")));
    for key in
        ["/dispatch/pass1_ms", "/dispatch/pass2_ms", "/dispatch/pass1_over_pass2", "/dispatch/confidence"]
    {
        assert!(number(&value, key) > 0.0, "{key}");
    }
    let never =
        json("eval EXPERTS --task math,code,reasoning -n 30 --adapt prompt --threshold 1 --json", &[]);
    let base = json("eval EXPERTS --task math,code,reasoning -n 30 --json", &[]);
    assert_eq!(never["accuracy"], base["accuracy"], "no choice is sure, so the base model answers");
    assert_eq!(never["dispatch"]["accuracy"], 0.0);

    let oracle = json(
        "eval EXPERTS --expert @cls.expert.gguf --task math,reasoning -n 40 --adapt classifier --against oracle --json",
        &[],
    );
    assert_eq!(
        (oracle["baseline"].as_str(), oracle["configuration"].as_str()),
        (Some("oracle"), Some("adapt classifier"))
    );
    assert!(oracle["dispatch"]["pass2_ms"].is_null(), "two configurations were timed together");
    number(&oracle, "/p_value");
    let table = run("eval EXPERTS --task math,code -n 20 --adapt prompt --against base", &[]);
    assert_code(&table, 0);
    assert!(
        stdout(&table).contains("chosen by prompt") && stdout(&table).contains("pass 1: "),
        "{}",
        stdout(&table)
    );
}

#[test]
fn described_experts_are_compared_with_the_question() {
    for skill in Skill::ALL {
        let output = run(
            &format!(
                "describe @{skill}.expert.gguf -m @model.gguf --svf @model.svf.gguf --task {skill} --examples 2 \
                 --description skill-{skill} -o @described-{skill}.expert.gguf --force"
            ),
            &[],
        );
        assert_code(&output, 0);
        assert!(stderr(&output).contains("2 examples"), "{}", stderr(&output));
        let [before, after] = ["", "described-"]
            .map(|before| Expert::open(folder().join(format!("{before}{skill}.expert.gguf"))).unwrap());
        assert_eq!((before.multipliers, before.profile.questions.len()), (after.multipliers, 0));
        assert_eq!((after.description, after.profile.questions.len()), (format!("skill-{skill}"), 2));
    }
    let experts = "-m @model.gguf --svf @model.svf.gguf --expert @described-math.expert.gguf --expert \
                   @described-code.expert.gguf --expert @described-reasoning.expert.gguf";
    let prompt = question(Skill::Code, false, 1, 5).prompt;
    let value = json(&format!("run {experts} --temp 0 --chat --json --adapt nearest -n 4"), &["-p", &prompt]);
    assert_eq!((value["strategy"].as_str(), value["label"].as_str()), (Some("nearest"), Some("code")));
    let value = json(&format!("eval {experts} --task math,code,reasoning -n 30 --adapt nearest --json"), &[]);
    assert!(number(&value, "/dispatch/accuracy") >= 0.96, "{value}");
    // One that was not described is never taken, and that is said.
    let output = run(
        &format!("run {experts} --expert @bad.expert.gguf --chat --adapt nearest -n 4"),
        &["-p", &prompt],
    );
    assert_code(&output, 0);
    assert!(stderr(&output).contains("never chooses it (`describe` adds them): bad"), "{}", stderr(&output));
    let shown = run("inspect @described-math.expert.gguf", &[]);
    assert!(stdout(&shown).contains("2 examples"), "{}", stdout(&shown));
}

#[test]
fn a_trace_of_an_adapted_run_goes_on_with_the_same_choice_only() {
    let trace = folder().join("adapted.jsonl");
    let _ = fs::remove_file(&trace);
    let first = json("eval EXPERTS --task math -n 12 --adapt prompt --json --trace @adapted.jsonl", &[]);
    let again =
        json("eval EXPERTS --task math -n 12 --adapt prompt --json --trace @adapted.jsonl --resume", &[]);
    assert_eq!(first["accuracy"], again["accuracy"]);
    for (changed, fragment) in [
        ("--threshold 0.9", "adapt.threshold: the trace was begun with 0.0, and this is 0.9"),
        ("--adapt-prompt @ask.jinja", "adapt.prompt"),
    ] {
        let other = run(
            &format!(
                "eval EXPERTS --task math -n 12 --adapt prompt {changed} --trace @adapted.jsonl --resume"
            ),
            &[],
        );
        assert_code(&other, 2);
        assert!(stderr(&other).contains(fragment), "{}", stderr(&other));
    }
}

#[test]
fn adapt_writes_a_mixture_that_can_be_used() {
    let small = "--population 6 --elites 2 --generations 2 --shots 4 -n 12 --select 8 --json";
    let search = format!(
        "adapt EXPERTS --expert @bad.expert.gguf --among math,bad --task math --groups 1,2 --seed 3 {small} -o @found.json"
    );
    let value = json(&search, &[]);
    assert_eq!(value["schema"], "llama-svf/adapt/1");
    let searches = value["searches"].as_array().unwrap();
    assert_eq!(searches.len(), 2);
    for (search, n_groups) in searches.iter().zip([1, 2]) {
        assert_eq!(
            (search["groups"].as_u64(), search["alphas"].as_array().unwrap().len()),
            (Some(n_groups), 2 * n_groups as usize)
        );
        assert_eq!(search["generations"].as_array().unwrap().len(), 2);
        number(search, "/shots_accuracy");
        number(search, "/selection_accuracy");
    }
    for key in ["/test/n", "/test/mixture/accuracy", "/test/best_single/accuracy", "/test/base/accuracy"] {
        number(&value, key);
    }
    for key in ["/test/against_base/p_value", "/test/against_best_single/delta"] {
        number(&value, key);
    }
    assert_eq!(value["shots"].as_array().unwrap().len(), 4);
    let found = Mixture::parse(&format!("@{}", folder().join("found.json").display())).unwrap();
    assert_eq!(found.to_json(), value["mixture"]);
    let before = fs::read(folder().join("found.json")).unwrap();
    let refused = run(&search, &[]);
    assert_code(&refused, 2);
    let message = stderr(&refused);
    assert!(message.contains("found.json: exists already") && message.contains("--force"), "{message}");
    assert_eq!(fs::read(folder().join("found.json")).unwrap(), before);
    let again = json(&format!("{search} --force"), &[]);
    assert_eq!(again["mixture"], value["mixture"], "a seed gives one mixture");
    let used =
        json("eval EXPERTS --expert @bad.expert.gguf --task math -n 12 --json --mix @@found.json", &[]);
    assert_eq!(used["accuracy"], value["test"]["mixture"]["accuracy"]);
    let text = run(
        "adapt EXPERTS --task math --with-base --preset light --population 4 --elites 2 --generations 1 -n 0",
        &[],
    );
    assert_code(&text, 0);
    assert!(
        stdout(&text).contains("3 shots") && stdout(&text).contains("best single expert"),
        "{}",
        stdout(&text)
    );
}

#[test]
fn an_interrupted_search_goes_on_as_it_would_have() {
    let search = |name: &str, extra: &str| {
        format!(
            "adapt EXPERTS --expert @bad.expert.gguf --task math --population 6 --elites 2 --generations 12 --shots 6 \
             -n 0 --select 8 --groups 1,2 --seed 5 --json -o @{name}.json {extra}"
        )
    };
    let whole = json(&search("whole", ""), &[]);
    assert!(!folder().join("whole.json.search").exists());
    let words = expand(&search("stopped", ""), &[]);
    let mut child = command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stored = folder().join("stopped.json.search");
    while !stored.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_code(&output, 130);
    assert!(stderr(&output).contains("--resume goes on"), "{}", stderr(&output));
    assert!(stored.exists() && !folder().join("stopped.json").exists());
    for (extra, fragment) in [
        ("", "an earlier search is there"),
        ("--resume --generations 13", "settings.generations: the search was begun with 12, and this is 13"),
        ("--resume --shots 7", "n_shots: the search was begun with 6, and this is 7"),
        (
            "--resume --form factored",
            "model.form: the search was begun with \"residual\", and this is \"factored\"",
        ),
    ] {
        // The flag given last counts.
        let mut arguments = search("stopped", extra);
        for flag in ["--generations", "--shots"] {
            if extra.contains(flag) {
                let value = if flag == "--shots" { "--shots 6" } else { "--generations 12" };
                arguments = arguments.replace(&format!("{value} "), "");
            }
        }
        let refused = run(&arguments, &[]);
        assert_code(&refused, 2);
        let message = stderr(&refused);
        assert!(message.contains("stopped.json.search") && message.contains(fragment), "{extra}: {message}");
    }
    let damaged = folder().join("damaged.json.search");
    fs::write(&damaged, fs::read_to_string(&stored).unwrap().replacen("0.", "1.", 1)).unwrap();
    let refused = run(&search("damaged", "--resume"), &[]);
    assert_code(&refused, 2);
    assert!(stderr(&refused).contains("damaged.json.search: it is damaged"), "{}", stderr(&refused));

    let output = run(&search("stopped", "--resume"), &[]);
    assert_code(&output, 0);
    assert!(stderr(&output).contains("going on after generation"), "{}", stderr(&output));
    let resumed: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!((&resumed["searches"], &resumed["mixture"]), (&whole["searches"], &whole["mixture"]));
    let bytes = |name: &str| fs::read(folder().join(name)).unwrap();
    assert_eq!((bytes("stopped.json"), stored.exists()), (bytes("whole.json"), false));
}

#[test]
fn an_expert_moves_to_another_model() {
    let output = run(
        "transfer new=@math.expert.gguf --to @model.svf.gguf -o @moved.expert.gguf --order shuffled --force",
        &[],
    );
    assert_code(&output, 0);
    let moved = Expert::open(folder().join("moved.expert.gguf")).unwrap();
    assert!(moved.name == "new" && moved.description.contains("shuffled, seed 0"), "{}", moved.description);
    let again = run("transfer @math.expert.gguf --to @model.svf.gguf -o @moved.expert.gguf", &[]);
    assert_code(&again, 2);
    assert!(stderr(&again).contains("--force"));
}

#[test]
fn experts_of_another_base_model_are_refused_wherever_experts_are_chosen() {
    for name in ["foreign", "cousin"] {
        let file = format!("{name}.expert.gguf");
        for arguments in [
            "run EXPERTS --expert @FILE --adapt prompt -p a",
            "run EXPERTS --expert cls=@FILE --adapt classifier -p a",
            "run EXPERTS --expert @FILE --adapt prompt --chat",
            "eval EXPERTS --expert @FILE --adapt prompt --task math",
            "eval EXPERTS --expert cls=@FILE --adapt classifier --task math,code --against oracle",
            "adapt EXPERTS --expert @FILE --task math -o @refused.json",
            "adapt EXPERTS --expert @FILE --task math --among math,code -o @refused.json",
        ] {
            let output = run(&arguments.replace("FILE", &file), &[]);
            assert_code(&output, 2);
            let message = stderr(&output);
            let expert = if arguments.contains("cls=") { "cls" } else { name };
            for fragment in [&file, &format!("expert {expert}"), "expected base model ", "another model"] {
                assert!(message.contains(fragment), "{arguments}: no '{fragment}' in: {message}");
            }
            let n_errors = message.lines().filter(|line| !line.starts_with("note: ")).count();
            assert_eq!((stdout(&output), n_errors), ("", 1), "{arguments}: {message}");
        }
    }
    // To carry an expert to another model is what transfer is for, but not to one of other shapes.
    let output = run("transfer @foreign.expert.gguf --to @model.svf.gguf -o @refused.expert.gguf", &[]);
    assert_code(&output, 2);
    let message = stderr(&output);
    for fragment in ["foreign.expert.gguf: expert foreign: ", "layers", "hint"] {
        assert!(message.contains(fragment), "{message}");
    }
    assert_code(&run("transfer @cousin.expert.gguf --to @model.svf.gguf -o @carried.expert.gguf", &[]), 0);
    assert_code(&run("run EXPERTS --expert @carried.expert.gguf --adapt prompt -p a -n 1", &[]), 0);
    for absent in ["refused.json", "refused.expert.gguf"] {
        assert!(!folder().join(absent).exists(), "{absent}");
    }
}

/// Arguments that are refused, and what the message must name.
const BAD: [(&str, &[&str]); 29] = [
    ("run -m @model.gguf --svf @model.svf.gguf --adapt prompt -p a", &["an expert to choose", "--expert"]),
    ("run EXPERTS --adapt classifier -p a", &["expert cls", "--classifier"]),
    (
        "run EXPERTS --adapt classifier --classifier who -p a",
        &["expert who", "loaded: code, math, reasoning"],
    ),
    (
        "run EXPERTS --expert math=@code.expert.gguf --adapt prompt -p a",
        &["expert math", "loaded already", "NAME=FILE"],
    ),
    (
        "run EXPERTS --expert other=@bad.expert.gguf --adapt prompt -p a",
        &["expert other", "stands for the base model"],
    ),
    (
        "run EXPERTS --expert Math=@code.expert.gguf --adapt prompt -p a",
        &["expert math", "differs from Math in capitals only", "NAME=FILE"],
    ),
    (
        "eval EXPERTS --expert Math=@code.expert.gguf --adapt prompt --task math",
        &["expert math", "differs from Math in capitals only", "NAME=FILE"],
    ),
    ("run EXPERTS --adapt nearest -p a", &["hidden states", "--adapt", "describe"]),
    ("run EXPERTS --adapt nearest --adapt-read text -p a", &["asks nobody", "--adapt-read"]),
    ("describe @math.expert.gguf -m @model.gguf --svf @model.svf.gguf --task nothing", &["nothing", "hint"]),
    ("describe @foreign.expert.gguf --task math", &["expert foreign"]),
    (
        "describe @math.expert.gguf -m @model.gguf --svf @model.svf.gguf --task math -o @code.expert.gguf",
        &["code.expert.gguf", "exists already", "--force"],
    ),
    ("run EXPERTS --adapt prompt --adapt-read text --blend -p a", &["--blend", "no probabilities"]),
    ("run EXPERTS --adapt prompt --threshold nan -p a", &["--threshold", "NaN"]),
    ("run EXPERTS --adapt prompt --threshold 2 -p a", &["--threshold", "2"]),
    ("run EXPERTS --adapt prompt --adapt-prompt @absent.jinja -p a", &["absent.jinja", "--adapt-prompt"]),
    ("run EXPERTS --adapt prompt --adapt-prompt @broken.jinja -p a", &["broken.jinja", "line 1"]),
    ("run EXPERTS --adapt prompt --adapt-prompt @mute.jinja -p a", &["mute.jinja", "{{ question }}"]),
    ("eval EXPERTS --task math,math --adapt prompt", &["task math", "twice"]),
    ("eval EXPERTS --task math,nothing --adapt prompt", &["nothing", "hint"]),
    ("eval EXPERTS --task math,code --data @ask.jinja", &["--data", "hint"]),
    (
        "eval EXPERTS --task math,skill-name --adapt prompt --against oracle",
        &["skill-name", "--against oracle"],
    ),
    ("adapt -m @model.gguf --svf @model.svf.gguf --task math", &["1 expert or more", "--expert"]),
    ("adapt EXPERTS --task math --use math", &["--use", "itself"]),
    ("adapt EXPERTS --task math --shots 0", &["--shots", "0"]),
    ("adapt EXPERTS --task math --elites 1", &["elites", "2 or more"]),
    ("adapt EXPERTS --task math --among math,nothing", &["expert nothing", "loaded"]),
    ("adapt EXPERTS --task math --groups 99 --shots 2 -n 0", &["groups of layers", "99"]),
    (
        "transfer @math.expert.gguf --to @low.svf.gguf -o @new.expert.gguf",
        &["math.expert.gguf", "expert math", "--rank"],
    ),
];

#[test]
fn bad_input_is_one_clear_line() {
    for (arguments, fragments) in BAD {
        let output = run(arguments, &[]);
        assert_one_error(arguments, &output, fragments);
    }
    assert!(!folder().join("new.expert.gguf").exists());
}
