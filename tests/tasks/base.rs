//! Task files laid over presets and over each other: what they change, what stays, and where errors point.

use std::fs;
use std::path::Path;

use llama_svf::task::{Generation, LoadOptions, Part, Task};

use crate::options;

const ROWS: &str = "{\"question\": \"How many?\", \"answer\": \"It is\\n#### 7\"}\n\
                    {\"question\": \"How much?\", \"answer\": \"It is\\n#### 8\"}\n";

/// Loads `main.toml` of these files; the message if it is refused.
fn load(files: &[(&str, &str)]) -> Result<Task, String> {
    let folder = tempfile::tempdir().unwrap();
    load_in(folder.path(), files)
}

fn load_in(folder: &Path, files: &[(&str, &str)]) -> Result<Task, String> {
    fs::write(folder.join("rows.jsonl"), ROWS).unwrap();
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Task::load(folder.join("main.toml").to_str().unwrap(), &options(&[])).map_err(|error| {
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        assert!(!message.contains('\n'));
        message.replace(&format!("{}/", folder.display()), "")
    })
}

const DATA: &str = "[data]\ntest = [\"rows.jsonl\"]\n";

fn generation(text: &str) -> Generation {
    load(&[("main.toml", &format!("{text}\n{DATA}"))]).unwrap().generation().clone()
}

#[test]
fn single_keys_of_generation() {
    let plain = generation("base = \"gsm8k\"");
    assert_eq!((plain.max_tokens, plain.chat), (512, true));
    let found = generation("base = \"gsm8k\"\n[generation]\nmax_tokens = 99");
    assert_eq!(found, Generation { max_tokens: 99, ..plain.clone() });
    let found = generation("base = \"gsm8k\"\n[generation]\nstop = [\"\\n\\n\"]");
    assert_eq!(found, Generation { stop: vec!["\n\n".into()], ..plain.clone() });
    let found = generation("base = \"gsm8k\"\ngeneration.chat = false");
    assert_eq!(found, Generation { chat: false, ..plain.clone() });
    let found = generation("base = \"gsm8k\"\ngeneration = { system = \"Be brief.\" }");
    assert_eq!(found, Generation { system: Some("Be brief.".into()), ..plain });
    // 1024 tokens of MATH, and the stops of HumanEval, stay where something else is said.
    let humaneval = |more: &str| {
        let row = r#"{"prompt": "def f():\n", "canonical_solution": "    return 1\n", "test": "def check(f):\n    assert f() == 1", "entry_point": "f"}"#;
        let file = format!("base = \"humaneval\"\n{more}\n[data]\ntest = [\"code.jsonl\"]\n");
        load(&[("code.jsonl", row), ("main.toml", &file)]).unwrap()
    };
    let (plain, changed) = (humaneval(""), humaneval("[generation]\nmax_tokens = 9\n[reward]\nseconds = 3"));
    assert!(plain.generation().stop.len() == 6);
    assert_eq!(changed.generation(), &Generation { max_tokens: 9, ..plain.generation().clone() });
    assert!(changed.rules().contains("seconds: 3") && plain.rules().contains("seconds: 10"));
    let item = &changed.items(Part::Test)[0];
    assert_eq!(changed.score(item, &item.completion).unwrap().value, 1.0);
}

#[test]
fn single_keys_of_split_and_reward() {
    let own = "prompt = \"{{ question }}\"\ngold = \"{{ answer[-1] }}\"\ncompletion = \"{{ answer }}\"\n\
               [reward]\nkind = \"text\"\npattern = '#### *(\\w+)'\n\
               [split]\nseed = 5\ntrain = 1\nvalidation = 0\ntest = 1\n[data]\nfiles = [\"rows.jsonl\"]\n";
    let parts = |task: &Task| Part::ALL.map(|part| task.items(part).len());
    let base = load(&[("base.toml", own), ("main.toml", "base = \"base.toml\"")]).unwrap();
    assert_eq!((parts(&base), base.name()), ([1, 0, 1], "main"));
    let item = &base.items(Part::Test)[0];
    assert_eq!(base.score(item, "#### 8").unwrap().value + base.score(item, "#### 7").unwrap().value, 1.0);

    let split = load(&[("base.toml", own), ("main.toml", "base = \"base.toml\"\nsplit.test = 0")]).unwrap();
    assert_eq!(parts(&split), [1, 0, 0]);
    assert_eq!(split.items(Part::Train)[0].prompt, base.items(Part::Train)[0].prompt, "the seed stays");

    let reward =
        load(&[("base.toml", own), ("main.toml", "base = \"base.toml\"\n[reward]\nignore_case = true")]);
    let reward = reward.unwrap();
    assert!(
        reward.rules().contains("ignore_case: true") && reward.rules().contains("#### *"),
        "{}",
        reward.rules()
    );
    // The same kind named again changes nothing.
    let same = load(&[("base.toml", own), ("main.toml", "base = \"base.toml\"\n[reward]\nkind = \"text\"")])
        .unwrap();
    assert_eq!(same.rules().replace("main", ""), base.rules().replace("main", ""));
}

#[test]
fn another_reward_takes_nothing_from_that_of_the_base() {
    let own = "prompt = \"{{ question }}\"\ngold = \"{{ answer[-1] }}\"\n\
               [reward]\nkind = \"numeric\"\ntolerance = 0.5\n[data]\ntest = [\"rows.jsonl\"]\n";
    let task = load(&[("base.toml", own), ("main.toml", "base = \"base.toml\"\n[reward]\nkind = \"text\"")])
        .unwrap();
    assert!(task.rules().contains("Text") && !task.rules().contains("tolerance"), "{}", task.rules());
    assert_eq!(task.origin().reward, "text");
    // A key of the old kind would leak with the merge of a naive reader, and is refused when given.
    let error = load(&[
        ("base.toml", own),
        ("main.toml", "base = \"base.toml\"\n[reward]\nkind = \"text\"\ntolerance = 1.0"),
    ]);
    let error = error.err().unwrap();
    assert!(error.starts_with("main.toml:4: tolerance: unknown field"), "{error}");
}

#[test]
fn chains_of_files() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("common/gsm.toml", "base = \"gsm8k\"\nname = \"common\"\n[data]\ntest = [\"own.jsonl\"]\n[generation]\nmax_tokens = 7\n"),
        ("common/own.jsonl", ROWS),
        ("middle.toml", "base = \"common/gsm.toml\"\ndescription = \"in the middle\"\n[generation]\nstop = [\"Q:\"]\n"),
        ("main.toml", "base = \"./middle.toml\"\n[generation]\nchat = false\n"),
    ];
    let task = load_in(folder.path(), &files).unwrap();
    // Data lies beside the file that names it; a name is not passed on.
    assert!(task.items(Part::Test)[0].id.contains("common/own.jsonl:"), "{}", task.items(Part::Test)[0].id);
    assert_eq!((task.name(), task.description()), ("main", "in the middle"));
    let Generation { max_tokens, stop, chat, system } = task.generation();
    assert_eq!((*max_tokens, stop.as_slice(), *chat, system), (7, &["Q:".to_owned()][..], false, &None));
    assert_eq!(task.origin().files.len(), 4);
    assert_eq!(task.origin().files[3], "preset gsm8k");
}

#[test]
fn errors_point_at_the_file_that_is_wrong() {
    let base = |text: &str| format!("base = \"gsm8k\"\n\n[generation]\n{text}\n{DATA}");
    type Files<'a> = Vec<(&'a str, String)>;
    let table: Vec<(Files, &[&str])> = vec![
        (vec![("main.toml", base("max_tokens = 0"))], &["main.toml:4: generation.max_tokens: "]),
        (vec![("main.toml", base("max_tokens = \"many\""))], &["main.toml:4: max_tokens: invalid type"]),
        (
            vec![("main.toml", base("max_token = 5"))],
            &["main.toml:4: max_token: unknown field", "did you mean max_tokens?"],
        ),
        (
            vec![("main.toml", "base = \"b.toml\"\n".into()), ("b.toml", base("max_tokens = 0"))],
            &["b.toml:4: generation.max_tokens: "],
        ),
        (
            vec![("main.toml", "base = \"b.toml\"\n".into()), ("b.toml", base("max_token = 5"))],
            &["b.toml:4: max_token: "],
        ),
        (
            vec![("main.toml", "\nbase = \"b.toml\"\n".into()), ("b.toml", "prompt = = 1".into())],
            &["b.toml:1: "],
        ),
        // What is wrong in both together is told of the line that cannot be so.
        (
            vec![
                ("main.toml", "base = \"b.toml\"\n\n[generation]\nchat = false\n".into()),
                ("b.toml", base("system = \"Hi\"")),
            ],
            &["b.toml:4: generation.system: ", "chat"],
        ),
        (
            vec![("main.toml", format!("base = \"gsm8k\"\n[reward]\npattern = 'x'\n{DATA}"))],
            &["main.toml:3: pattern: unknown field"],
        ),
        (
            vec![("main.toml", format!("base = \"gsm8k\"\n[reward]\ntolerance = -1\n{DATA}"))],
            &["main.toml:3: reward.tolerance: "],
        ),
        (
            vec![("main.toml", "\nbase = \"main.toml\"\n".into())],
            &["main.toml:2: base: the file is based on itself"],
        ),
        (
            vec![
                ("main.toml", "base = \"a/b.toml\"\n".into()),
                ("a/b.toml", "base = \"../main.toml\"\n".into()),
            ],
            &["a/b.toml:1: base: the file is based on itself"],
        ),
        (vec![("main.toml", "base = \"none.toml\"\n".into())], &["none.toml: base: cannot read"]),
        (vec![("main.toml", "\nbase = \"gsm9k\"\n".into())], &["main.toml:2: base: ", "gsm8k"]),
        (vec![("main.toml", "base = 3\n".into())], &["main.toml:1: base: invalid type"]),
        (vec![("main.toml", "base = \"gsm8k\"\n".into())], &["main.toml:1: data: ", "`data`"]),
        (vec![("main.toml", format!("base = \"gsm8k\"\nreward = 3\n{DATA}"))], &["main.toml:2: ", "reward"]),
    ];
    let mut wrong = Vec::new();
    for (files, expected) in table {
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        match load(&files) {
            Ok(_) => wrong.push(format!("was accepted, {expected:?}")),
            Err(message) if expected.iter().all(|part| message.contains(part)) => println!("{message}"),
            Err(message) => wrong.push(format!("{message}  <- {expected:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A task without a base is what it says, and defaults.
#[test]
fn without_a_base_nothing_is_inherited() {
    let file = format!("prompt = \"{{{{ question }}}}\"\ngold = \"7\"\n[generation]\nchat = true\n[reward]\nkind = \"numeric\"\n{DATA}");
    let task = load(&[("main.toml", &file)]).unwrap();
    assert_eq!(task.generation(), &Generation { chat: true, ..Generation::default() });
    assert_eq!(Task::load("math", &LoadOptions::default()).unwrap().generation().max_tokens, 96);
}
