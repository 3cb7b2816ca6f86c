//! How reasoning models tell thinking from answering, and what a conversation keeps of it.

use std::fs;
use std::process::Command;

use llama_svf::engine::{ChatMessage, Model, Offload, Thinking};

use crate::shared;

const R1: &str = "{% for m in messages %}{% if m.role == 'user' %}{{ '<U>' + m.content }}{% elif m.role == 'assistant' %}\
    {{ '<A>' + m.content.split('</think>')[-1] }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<A><think>\n' }}{% endif %}";
const KEEPS: &str = "{% for m in messages %}{% if m.role == 'user' %}{{ '<U>' + m.content }}{% else %}\
    {{ '<A>' }}{% if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}{{ m.content }}{% endif %}\
    {% endfor %}{% if add_generation_prompt %}{{ '<A>' }}{% endif %}";

fn model(template: &str) -> Option<std::sync::Arc<Model>> {
    Some(
        Model::load_with(&shared("stories260K-f32.gguf")?, &Offload::default(), Some(template.into()))
            .unwrap(),
    )
}

#[test]
fn thinking_that_the_prompt_begins_belongs_to_the_completion() {
    let Some(model) = model(R1) else { return };
    let prompt = model.chat_prompt(&[ChatMessage::user("Hi")]).unwrap();
    let thinking = prompt.thinking.as_ref();
    assert!(thinking.is_some_and(|thinking| thinking.is_open), "{prompt:?}");
    for (completion, whole) in [
        ("hm</think>Hi", "<think>\nhm</think>Hi"),
        ("hm", "<think>\nhm"),
        // Some models begin once more.
        ("<think>hm</think>Hi", "<think>hm</think>Hi"),
    ] {
        assert_eq!(Thinking::whole(thinking, completion.into()), whole);
    }
    assert_eq!(Thinking::closed(thinking), "\n</think>\n\n");
    assert_eq!(Thinking::whole(None, "hm".into()), "hm");
}

#[test]
fn marks_of_other_models_become_the_usual_ones() {
    let seed = Thinking { start: "<seed:think>".into(), end: "</seed:think>".into(), is_open: false };
    let completion = "<seed:think>hm</seed:think>Hi";
    assert_eq!(Thinking::whole(Some(&seed), completion.into()), "<think>hm</think>Hi");
}

#[test]
fn what_was_thought_is_sent_back_only_by_templates_that_keep_it() {
    let reply = ChatMessage { reasoning: Some("hm".into()), ..ChatMessage::assistant("Hi") };
    let talk = [ChatMessage::user("a"), reply, ChatMessage::user("b")];
    for (template, expected) in
        [(R1, "<U>a<A>Hi<U>b<A><think>\n"), (KEEPS, "<U>a<A><think>hm</think>Hi<U>b<A>")]
    {
        let Some(model) = model(template) else { return };
        assert_eq!(model.chat_prompt(&talk).unwrap().text, expected);
    }
}

/// The whole program: a model whose template begins the thinking, and that never ends it.
#[test]
fn thinking_that_never_ends_is_said_in_the_trace() {
    let Some(model) = shared("stories260K-f32.gguf") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("rows.jsonl"), "{\"q\": \"What is </s> 2 + 2?\", \"a\": \"4\"}\n").unwrap();
    fs::write(
        path("task.toml"),
        "prompt = \"{{ q }}\"\ngold = \"{{ a }}\"\n[data]\ntest = [\"rows.jsonl\"]\n[reward]\nkind = \"numeric\"\n\
         [generation]\nchat = true\nmax_tokens = 8\n",
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_llama-svf"))
        .args(["eval", "--chat-template", R1, "-m"])
        .arg(&model)
        .arg("--task")
        .arg(path("task.toml"))
        .arg("--trace")
        .arg(path("trace.jsonl"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let trace = fs::read_to_string(path("trace.jsonl")).unwrap();
    let answer: serde_json::Value = serde_json::from_str(trace.lines().nth(1).unwrap()).unwrap();
    assert!(answer["completion"].as_str().unwrap().starts_with("<think>\n"), "{answer}");
    assert_eq!(answer["reason"], "the thinking never ends");
    assert_eq!(answer["score"], 0.0);
}
