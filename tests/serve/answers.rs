//! What answers hold: who answered, how it went, in all forms.

use serde_json::{json, Value};

use crate::harness::{Server, EXPERTS};

const CHAT: &str = "/v1/chat/completions";
const QUESTION: &str = "Tom has 5 pens. Tom finds 4. How many pens does Tom have?";

/// `to` with what `more` has.
fn with(to: &Value, more: Value) -> Value {
    let mut to = to.clone();
    to.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    to
}

fn native() -> Value {
    json!({ "prompt": QUESTION, "n_predict": 8, "temperature": 0, "svf": { "mix": {} } })
}

fn chat() -> Value {
    json!({ "messages": [{ "role": "user", "content": QUESTION }], "max_tokens": 24, "temperature": 0 })
}

#[test]
fn every_answer_tells_who_gave_it() {
    let server = Server::start("-np 2 -c 2048");
    let base = "llama-svf-embedded.gguf";
    let math = json!({ "math": 1.0 });
    // Body, what it is answered with, the header.
    let fixed = [
        (json!({ "svf": { "mix": { "math": 1 } } }), math.clone(), "math=1"),
        (
            json!({ "svf": { "mix": { "math": 0.5, "code": 0.25 } } }),
            json!({ "math": 0.5, "code": 0.25 }),
            "code=0.25,math=0.5",
        ),
        (json!({ "svf": { "mix": { "math": 0.5 }, "strength": 2 } }), math.clone(), "math=1"),
        (json!({ "svf": { "mix": { "math": 1 }, "adapt": "off" } }), math.clone(), "math=1"),
        (json!({ "svf": { "mix": {} } }), json!({}), "base"),
        (json!({ "svf": { "adapt": "off" } }), json!({}), "base"),
        (json!({ "lora": [{ "id": 0, "scale": 1 }] }), math.clone(), "math=1"),
        (json!({ "lora": [] }), json!({}), "base"),
        (json!({ "model": "math" }), math.clone(), "math=1"),
        (json!({ "model": "base:math" }), math.clone(), "math=1"),
        (json!({ "model": format!("{base}:math") }), math.clone(), "math=1"),
        (json!({ "model": base }), json!({}), "base"),
        // The first one that says so counts.
        (json!({ "model": "code", "lora": [], "svf": { "mix": { "math": 1 } } }), math.clone(), "math=1"),
        (json!({ "model": "code", "lora": [] }), json!({}), "base"),
    ];
    for (who, mixture, header) in fixed {
        for (path, body) in [("/completion", native()), ("/v1/completions", native()), (CHAT, chat())] {
            let mut body = body;
            body.as_object_mut().unwrap().remove("svf");
            for is_streamed in [false, true] {
                let body = with(&with(&body, who.clone()), json!({ "stream": is_streamed }));
                let reply = server.post(path, &body);
                assert_eq!(reply.status(), 200, "{body}: {}", reply.text());
                assert_eq!(reply.head.header("x-svf-mixture"), Some(header), "{body}");
                let last = if is_streamed { reply.events().pop().unwrap() } else { reply.json() };
                assert_eq!(last["svf"], json!({ "mixture": mixture, "strategy": "fixed" }), "{body}");
                assert!(last["timings"].is_object(), "{last}");
            }
        }
    }
    for who in [
        json!({}),
        json!({ "model": "auto" }),
        json!({ "model": "gpt-4" }),
        json!({ "svf": { "adapt": "prompt" } }),
        json!({ "svf": { "adapt": "classifier" } }),
        json!({ "svf": { "adapt": "classifier", "threshold": 1 } }),
        json!({ "svf": {} }),
    ] {
        let reply = server.post(CHAT, &with(&chat(), who.clone()));
        let svf = reply.json()["svf"].take();
        let sum: f64 = svf["probabilities"].as_object().unwrap().values().map(|p| p.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-3, "{svf}");
        let label = svf["label"].as_str().unwrap();
        assert_eq!(svf["probabilities"][label], svf["confidence"], "{svf}");
        assert!(svf["pass1_tokens"].as_u64().is_some_and(|n| n > 0) && svf["pass1_ms"].is_f64(), "{svf}");
        if who["svf"]["threshold"] == 1 {
            assert_eq!((&svf["fallback"], &svf["mixture"]), (&json!(true), &json!({})), "{svf}");
        } else {
            assert_eq!(
                (label, &svf["mixture"], &svf["fallback"]),
                ("math", &math, &json!(false)),
                "{who}: {svf}"
            );
            assert_eq!(reply.head.header("x-svf-mixture"), Some("math=1"));
        }
    }
    for (who, status) in [
        (json!({ "svf": { "mix": { "nobody": 1 } } }), 404),
        (json!({ "model": "base:nobody" }), 404),
        (json!({ "svf": { "mix": { "math": "1" } } }), 400),
        (json!({ "svf": { "mix": { "math": 1e39 } } }), 400),
        (json!({ "svf": { "mix": { "math": [] } } }), 400),
        (json!({ "svf": { "mix": ["math"] } }), 400),
        (json!({ "svf": { "mix": { "math": 1 }, "strength": 1e39 } }), 400),
        (json!({ "svf": { "mix": { "math": 1e30 }, "strength": 1e30 } }), 400),
        (json!({ "svf": { "mix": { "math": 1 }, "adapt": "prompt" } }), 400),
        (json!({ "svf": { "adapt": "x" } }), 400),
        (json!({ "svf": { "adapt": true } }), 400),
        (json!({ "svf": { "mixture": {} } }), 400),
        (json!({ "svf": "math" }), 400),
        (json!({ "svf": { "adapt": "prompt", "threshold": "x" } }), 400),
        (json!({ "lora": [{ "id": 99, "scale": 1 }] }), 400),
        (json!({ "lora": [{ "id": -1, "scale": 1 }] }), 400),
        (json!({ "lora": [{ "id": 0 }] }), 400),
        (json!({ "lora": [0] }), 400),
        (json!({ "lora": {} }), 400),
    ] {
        let reply = server.post("/completion", &with(&with(&native(), json!({ "svf": null })), who.clone()));
        println!("{who}: {}", reply.text());
        reply.error(status);
    }
    // llama-server's way to say who answers.
    let adapters = server.get("/lora-adapters").json();
    let names: Vec<_> = adapters.as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(&names[..3], EXPERTS);
    server.ask("/lora-adapters", &json!([{ "id": 1, "scale": 0.5 }]));
    assert_eq!(server.get("/lora-adapters").json()[1]["scale"], 0.5);
    let plain = with(&native(), json!({ "svf": null }));
    assert_eq!(server.ask("/completion", &plain)["svf"]["mixture"], json!({ "code": 0.5 }));
    assert_eq!(
        server.ask("/completion", &with(&plain, json!({ "model": "auto" })))["svf"]["strategy"],
        "prompt"
    );
    server.ask("/lora-adapters", &json!([]));
    assert_eq!(server.ask("/completion", &plain)["svf"], json!({ "mixture": {}, "strategy": "fixed" }));
    server.stop();
}

#[test]
fn answers_have_all_that_was_asked() {
    let server = Server::start("-np 4 -c 4096");
    let ask = |more: Value| server.ask("/completion", &with(&native(), more));
    let whole = ask(json!({ "return_tokens": true, "n_probs": 3 }));
    let content = whole["content"].as_str().unwrap();
    let n = whole["tokens_predicted"].as_u64().unwrap();
    assert!(n > 2 && n <= 8 && !content.is_empty());
    assert_eq!(whole["tokens"].as_array().unwrap().len() as u64, n);
    let timings = &whole["timings"];
    for name in [
        "cache_n",
        "prompt_n",
        "prompt_ms",
        "prompt_per_token_ms",
        "prompt_per_second",
        "predicted_n",
        "predicted_ms",
        "predicted_per_token_ms",
        "predicted_per_second",
    ] {
        assert!(timings[name].is_number(), "{name} in {timings}");
    }
    assert_eq!(
        timings["cache_n"].as_u64().unwrap() + timings["prompt_n"].as_u64().unwrap(),
        whole["tokens_evaluated"]
    );
    for step in whole["completion_probabilities"].as_array().unwrap() {
        let top = step["top_logprobs"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["id"]), (3, &step["id"]), "{step}");
        assert!(step["logprob"].as_f64().is_some_and(|p| p <= 0.0), "{step}");
    }
    // A stop string across tokens, and what comes before it.
    let middle: String = content.chars().skip(3).take(3).collect();
    let stopped = ask(json!({ "stop": ["never there", middle] }));
    assert_eq!((&stopped["stop_type"], &stopped["stopping_word"]), (&json!("word"), &json!(middle)));
    assert_eq!(stopped["content"], content.split(&middle).next().unwrap());
    // The same in parts.
    let reply = server.post(
        "/completion",
        &with(&native(), json!({ "stream": true, "timings_per_token": true, "return_progress": true })),
    );
    let events = reply.events();
    let text: String = events.iter().filter_map(|event| event["content"].as_str()).collect();
    assert_eq!(text, content);
    assert!(!reply.text().contains("[DONE]"));
    let progress: Vec<_> = events.iter().filter_map(|event| event.get("prompt_progress")).collect();
    let last = progress.last().unwrap();
    assert_eq!(
        (&last["processed"], &last["total"]),
        (&whole["tokens_evaluated"], &whole["tokens_evaluated"])
    );
    assert!(events.iter().all(|event| event["timings"].is_object()), "{events:?}");
    // Members, and several answers.
    let some = ask(json!({ "response_fields": ["content", "generation_settings/n_predict", "nothing"] }));
    assert_eq!(some, json!({ "content": content, "generation_settings/n_predict": 8 }));
    let several = ask(json!({ "prompt": [QUESTION, "print(2 + 3)", [5, 6, "x"]], "n_predict": 3 }));
    assert_eq!(
        several.as_array().unwrap().iter().map(|it| it["index"].as_u64().unwrap()).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    let echoed = server.ask("/v1/completions", &with(&native(), json!({ "echo": true })));
    assert!(
        echoed["choices"][0]["text"].as_str().unwrap().ends_with(&format!("{QUESTION}{content}")),
        "{echoed}"
    );
    let many = with(&chat(), json!({ "n": 3, "temperature": 1.5, "seed": 1 }));
    let choices = server.ask(CHAT, &many)["choices"].take();
    assert_eq!(choices.as_array().unwrap().len(), 3);
    assert_eq!(server.ask(CHAT, &many)["choices"], choices, "equal seeds, equal answers");
    let reply = server
        .post(CHAT, &with(&many, json!({ "stream": true, "stream_options": { "include_usage": true } })));
    for choice in choices.as_array().unwrap() {
        let events = reply.events();
        let deltas =
            events.iter().map(|event| &event["choices"][0]).filter(|it| it["index"] == choice["index"]);
        let deltas: String = deltas.filter_map(|it| it["delta"]["content"].as_str()).collect();
        assert_eq!(deltas, choice["message"]["content"].as_str().unwrap());
    }
    assert!(reply.text().ends_with("data: [DONE]\n\n"));
    server.post(CHAT, &with(&chat(), json!({ "n": 5 }))).error(400);
    let probs = server.ask(CHAT, &with(&chat(), json!({ "logprobs": true, "top_logprobs": 2 })));
    let steps = probs["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert!(
        !steps.is_empty() && steps.iter().all(|step| step["top_logprobs"].as_array().unwrap().len() == 2)
    );
    server.post(CHAT, &with(&chat(), json!({ "top_logprobs": 2 }))).error(400);
    // What may be written.
    let digits = ask(json!({ "grammar": "root ::= [0-9]{3}" }));
    assert!(digits["content"].as_str().unwrap().chars().all(|c| c.is_ascii_digit()), "{digits}");
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer", "maximum": 9, "minimum": 0 } }, "required": ["n"] });
    let parsed = |text: &Value| serde_json::from_str::<Value>(text.as_str().unwrap()).unwrap();
    assert!(parsed(&ask(json!({ "json_schema": schema, "n_predict": 40 }))["content"])["n"].is_u64());
    let format = json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": schema } }, "max_tokens": 60 });
    assert!(
        parsed(&server.ask(CHAT, &with(&chat(), format))["choices"][0]["message"]["content"])["n"].is_u64()
    );
    let tool = json!({ "type": "function", "function": { "name": "add", "parameters": schema } });
    let called = server
        .ask(CHAT, &with(&chat(), json!({ "tools": [tool], "tool_choice": "required", "max_tokens": 150 })));
    // The embedded model's template knows no tools.
    assert_eq!(called["choices"][0]["message"]["role"], "assistant", "{called}");
    for wrong in [
        json!({ "grammar": "root ::= (" }),
        json!({ "grammar": "x ::= \"a\"" }),
        json!({ "grammar": "root ::= root" }),
        json!({ "json_schema": { "type": "nothing" } }),
        json!({ "prompt": "" }),
        json!({ "prompt": [] }),
        json!({ "prompt": [-1] }),
        json!({ "prompt": [599] }),
        json!({ "prompt": {} }),
        json!({ "prompt": "a ".repeat(5000) }),
    ] {
        server.post("/completion", &with(&native(), wrong)).error(400);
    }
    // A window of penalties can be wanted larger than any memory.
    for window in ["repeat_last_n", "dry_penalty_last_n"] {
        ask(json!({ window: i32::MAX, "repeat_penalty": 1.1, "dry_multiplier": 0.8, "temperature": 1 }));
    }
    let text = "Tom has 5 pens.\n\tprint(2 + 3) é ∀ 🦙";
    let tokens = server.ask("/tokenize", &json!({ "content": text }))["tokens"].take();
    assert_eq!(server.ask("/detokenize", &json!({ "tokens": tokens }))["content"], text);
    let pieces = server.ask("/tokenize", &json!({ "content": text, "with_pieces": true }))["tokens"].take();
    assert_eq!(pieces.as_array().unwrap().len(), tokens.as_array().unwrap().len());
    server.stop();
}
