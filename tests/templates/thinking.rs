//! How reasoning models tell thinking from answering, and what a conversation keeps of it.

use llama_svf::engine::{ChatMessage, Model, Thinking};

use crate::shared;

const R1: &str = "{% for m in messages %}{% if m.role == 'user' %}{{ '<U>' + m.content }}{% elif m.role == 'assistant' %}\
    {{ '<A>' + m.content.split('</think>')[-1] }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<A><think>\n' }}{% endif %}";
const KEEPS: &str = "{% for m in messages %}{% if m.role == 'user' %}{{ '<U>' + m.content }}{% else %}\
    {{ '<A>' }}{% if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}{{ m.content }}{% endif %}\
    {% endfor %}{% if add_generation_prompt %}{{ '<A>' }}{% endif %}";

fn model(template: &str) -> Option<std::sync::Arc<Model>> {
    Some(Model::load_with_template(&shared("stories260K-f32.gguf")?, 0, Some(template.into())).unwrap())
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
