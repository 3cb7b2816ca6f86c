//! What stands over a task's own way to generate answers.

use std::fs;

use llama_svf::task::{Generation, LoadOptions, Overrides, Task};

fn with(overrides: &Overrides) -> LoadOptions {
    LoadOptions { overrides: overrides.clone(), ..LoadOptions::default() }
}

/// A task file with these lines below `[generation]`.
fn load(generation: &str, overrides: &Overrides) -> Result<Task, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rows.jsonl"), "{\"q\": \"How many?\"}\n").unwrap();
    let path = folder.path().join("task.toml");
    let text = format!(
        "prompt = \"{{{{ q }}}}\"\ngold = \"7\"\n[data]\ntest = [\"rows.jsonl\"]\n[reward]\nkind = \"numeric\"\n\
         [generation]\n{generation}\n"
    );
    fs::write(&path, text).unwrap();
    Task::load(path.to_str().unwrap(), &with(overrides))
        .map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn overrides_stand_over_the_task() {
    let own = "max_tokens = 5\nstop = [\"x\"]\nchat = true\nsystem = \"Be brief.\"";
    let plain = load(own, &Overrides::default()).unwrap();
    let expected =
        Generation { max_tokens: 5, stop: vec!["x".into()], chat: true, system: Some("Be brief.".into()) };
    assert_eq!(plain.generation(), &expected);
    let many = Overrides { max_tokens: Some(99), system: Some("Be long.".into()), no_chat: false };
    let changed = load(own, &many).unwrap();
    let system = Some("Be long.".into());
    assert_eq!(changed.generation(), &Generation { max_tokens: 99, system, ..expected.clone() });
    // Everything that resumes looks at the rules.
    let mut rules = vec![plain.rules(), changed.rules()];
    for overrides in [
        Overrides { max_tokens: Some(6), ..Overrides::default() },
        Overrides { system: Some("Be brief!".into()), ..Overrides::default() },
    ] {
        rules.push(load(own, &overrides).unwrap().rules());
    }
    rules.push(load("max_tokens = 5\nstop = [\"x\"]\nchat = true", &Overrides::default()).unwrap().rules());
    let no_chat = Overrides { no_chat: true, ..Overrides::default() };
    rules.push(load("max_tokens = 5\nstop = [\"x\"]\nchat = true", &no_chat).unwrap().rules());
    let n = rules.len();
    rules.sort();
    rules.dedup();
    assert_eq!(rules.len(), n, "{rules:#?}");
}

#[test]
fn built_in_tasks_and_streams_take_them_too() {
    let overrides = Overrides { max_tokens: Some(7), system: Some("Hi".into()), no_chat: false };
    for name in ["math", "code,reasoning"] {
        let task = Task::load(name, &with(&overrides)).unwrap();
        let plain = Task::load(name, &LoadOptions::default()).unwrap();
        let expected = Generation { max_tokens: 7, system: Some("Hi".into()), ..plain.generation().clone() };
        assert_eq!(task.generation(), &expected);
        let bare = Task::load(name, &with(&Overrides { no_chat: true, ..Overrides::default() })).unwrap();
        assert_eq!(bare.generation(), &Generation { chat: false, ..plain.generation().clone() });
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let system = || Some("Hi".to_owned());
    for (own, overrides, parts) in [
        (
            "chat = true",
            Overrides { max_tokens: Some(0), ..Overrides::default() },
            &["max_tokens: expected at least 1"][..],
        ),
        (
            "chat = false",
            Overrides { system: system(), ..Overrides::default() },
            &["system: ", "chat = true"],
        ),
        ("chat = true", Overrides { system: system(), no_chat: true, ..Overrides::default() }, &["system: "]),
        (
            "chat = true\nsystem = \"Own\"",
            Overrides { no_chat: true, ..Overrides::default() },
            &["system: the task has a system message"],
        ),
        ("system = \"Own\"", Overrides::default(), &["task.toml:8: generation.system: ", "chat = true"]),
        ("system = 3", Overrides::default(), &["task.toml:8: system: invalid type"]),
    ] {
        let error = load(own, &overrides).err().unwrap_or_else(|| panic!("{own} {overrides:?} was accepted"));
        for part in parts {
            assert!(error.contains(part), "{own} {overrides:?}: no '{part}' in {error}");
        }
    }
}
