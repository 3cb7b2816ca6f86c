//! Experts whose files tell their questions are chosen by these, and what is read for that is not read again.

use llama_svf::expert::{Expert, Profile};
use llama_svf::skills::{question, Skill};
use serde_json::{json, Value};

use crate::harness::{folder, write_expert, Server};

#[test]
fn the_nearest_experts_answer_and_the_base_model_goes_on_from_what_was_read() {
    let inside = folder();
    let path = inside.path().join("mute.expert.gguf");
    write_expert("math", "mute", &path);
    let mute = Expert { profile: Profile::default(), ..Expert::open(&path).unwrap() };
    mute.save(&path).unwrap();
    let server = Server::start(&format!("--experts-dir {}", inside.path().display()));
    let strategies = server.get("/v1/experts").json()["strategies"].take();
    assert!(strategies.as_array().unwrap().contains(&json!("nearest")), "{strategies}");
    let ask = |skill: Skill, svf: Value| {
        let content = question(skill, false, 3, 9).prompt;
        let body = json!({
            "messages": [{ "role": "user", "content": content }], "max_tokens": 8, "temperature": 0, "svf": svf,
        });
        server.ask("/v1/chat/completions", &body)
    };
    for (skill, name) in [(Skill::Math, "math"), (Skill::Code, "code")] {
        let svf = ask(skill, json!({ "adapt": "nearest" }))["svf"].take();
        assert_eq!((&svf["strategy"], &svf["label"]), (&json!("nearest"), &json!(name)), "{svf}");
        assert_eq!(svf["mixture"], json!({ name: 1.0 }), "{svf}");
        // Those that tell nothing are no labels.
        assert!(svf["probabilities"].get("mute").is_none(), "{svf}");
    }
    // Together, each as much as it is likely.
    let svf = ask(Skill::Math, json!({ "adapt": "nearest", "blend": true }))["svf"].take();
    let (alpha, p) = (&svf["mixture"]["math"], &svf["probabilities"]["math"]);
    assert!((alpha.as_f64().unwrap() - p.as_f64().unwrap()).abs() < 1e-6, "{svf}");
    // The base model answers: all but the last token is known from pass 1.
    let reply = ask(Skill::Reasoning, json!({ "adapt": "nearest", "threshold": 1 }));
    assert_eq!(reply["svf"]["mixture"], json!({}), "{reply}");
    let usage = &reply["usage"];
    let n_prompt = usage["prompt_tokens"].as_u64().unwrap();
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], n_prompt - 1, "{reply}");
}
