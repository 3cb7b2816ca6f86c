//! Experts that come and go while the server runs: only from their folder, and whole or not at all.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{json, Value};

use crate::harness::{folder, write_expert, Server, EXPERTS};

fn load(name: &str, path: &str) -> Value {
    json!({ "lora_name": name, "lora_path": path })
}

/// What `/v1/experts` tells, without what changes by itself.
fn known(server: &Server) -> Value {
    server.get("/v1/experts").json()
}

fn greedy(name: &str) -> Value {
    json!({ "prompt": "Tom has 5 pens. Tom finds 4.", "n_predict": 20, "temperature": 0, "svf": { "mix": { name: 1 } } })
}

#[test]
fn nothing_is_loaded_from_outside_of_the_folder() {
    let outside = folder();
    let inside = folder();
    let at = |name: &str| inside.path().join(name);
    let outer = outside.path().join("outer.expert.gguf");
    write_expert("math", "outer", &outer);
    write_expert("math", "fine", &at("fine.expert.gguf"));
    symlink(&outer, at("link.gguf")).unwrap();
    symlink(at("fine.expert.gguf"), at("within.gguf")).unwrap();
    symlink(outside.path(), at("linked")).unwrap();
    fs::create_dir(at("sub")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(at("fifo.gguf")).status().unwrap().success());
    fs::write(at("text.gguf"), "GGUF and nothing else").unwrap();
    fs::write(at("empty.gguf"), "").unwrap();
    let good = fs::read(at("fine.expert.gguf")).unwrap();
    fs::write(at("cut.gguf"), &good[..good.len() / 2]).unwrap();
    let mut damaged = good.clone();
    *damaged.iter_mut().rev().nth(2000).unwrap() ^= 1;
    fs::write(at("damaged.gguf"), damaged).unwrap();
    fs::write(at("model.gguf"), llama_svf::embedded::bytes()).unwrap();
    let mut foreign = llama_svf::expert::Expert::open(at("fine.expert.gguf")).unwrap();
    let model = folder();
    foreign.fingerprint = other_fingerprint(model.path());
    foreign.save(at("foreign.gguf")).unwrap();
    let server = Server::start(&format!("--experts-dir {}", inside.path().display()));
    let before = known(&server);
    let answer = server.ask("/completion", &greedy("fine"))["content"].clone();
    let name = outside.path().file_name().unwrap().to_str().unwrap();
    let paths: Vec<(String, u16)> = [
        (format!("../{name}/outer.expert.gguf"), 403),
        (format!("sub/../../{name}/outer.expert.gguf"), 403),
        (format!("{}/../{name}/outer.expert.gguf", inside.path().display()), 403),
        (outer.display().to_string(), 403),
        ("/etc/passwd".into(), 403),
        ("/".into(), 403),
        ("..".into(), 403),
        ("link.gguf".into(), 403),
        ("within.gguf".into(), 403),
        ("linked/outer.expert.gguf".into(), 403),
        ("nothing.gguf".into(), 404),
        ("fine.expert.gguf/x".into(), 400),
        ("".into(), 400),
        (".".into(), 400),
        ("sub".into(), 400),
        ("fifo.gguf".into(), 400),
        ("text.gguf".into(), 400),
        ("empty.gguf".into(), 400),
        ("cut.gguf".into(), 400),
        ("damaged.gguf".into(), 400),
        ("model.gguf".into(), 400),
        ("foreign.gguf".into(), 400),
        ("fine.expert.gguf\0".into(), 400),
        ("x".repeat(100_000), 400),
    ]
    .into();
    for (path, status) in &paths {
        for name in ["new", "fine"] {
            let reply = server.post("/v1/load_lora_adapter", &load(name, path));
            println!("{:.60}: {} {:.200}", path, reply.status(), reply.text());
            reply.error(*status);
        }
    }
    let long = "x".repeat(65);
    for name in ["", "a b", "a=1", "a/b", "..,", "\n", "a\0b", &long] {
        server.post("/v1/load_lora_adapter", &load(name, "fine.expert.gguf")).error(400);
    }
    for body in [
        json!({}),
        json!({ "lora_name": "x" }),
        json!({ "lora_path": "fine.expert.gguf" }),
        load("", ""),
        json!({ "lora_name": 1, "lora_path": "fine.expert.gguf" }),
        json!([]),
        json!({ "lora_name": null, "lora_path": null }),
    ] {
        server.post("/v1/load_lora_adapter", &body).error(400);
    }
    server.post("/v1/unload_lora_adapter", &json!({})).error(400);
    server.post("/v1/unload_lora_adapter", &json!({ "lora_name": "nobody" })).error(404);
    assert_eq!(known(&server), before);
    assert_eq!(server.ask("/completion", &greedy("fine"))["content"], answer);
    server.stop();
}

/// The fingerprint of a model that is not the embedded one.
fn other_fingerprint(folder: &std::path::Path) -> llama_svf::sidecar::Fingerprint {
    let mut bytes = llama_svf::embedded::bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let path = folder.join("other.gguf");
    fs::write(&path, bytes).unwrap();
    llama_svf::sidecar::Fingerprint::of_model(&llama_svf::ffi::gguf::GgufFile::open(&path).unwrap()).unwrap()
}

#[test]
fn experts_are_loaded_replaced_and_unloaded_while_they_answer() {
    let inside = folder();
    for name in EXPERTS {
        fs::create_dir_all(inside.path().join("versions")).unwrap();
        write_expert(name, "it", &inside.path().join(format!("versions/{name}.expert.gguf")));
    }
    let server = Server::start(&format!("-np 4 -c 8192 --metrics --experts-dir {}", inside.path().display()));
    let path = |name: &str| format!("versions/{name}.expert.gguf");
    server.post("/completion", &greedy("it")).error(404);
    let alone = EXPERTS.map(|name| server.ask("/completion", &greedy(name))["content"].clone());
    assert_ne!(alone[0], alone[1]);
    for round in 0..2 {
        for (name, alone) in EXPERTS.iter().zip(&alone) {
            // Absolute ones lie in the folder, too.
            let path = match round {
                0 => path(name),
                _ => inside.path().canonicalize().unwrap().join(path(name)).display().to_string(),
            };
            let reply = server.post("/v1/load_lora_adapter", &load("it", &path));
            assert_eq!(
                (reply.status(), reply.text()),
                (200, "Success: LoRA adapter 'it' added successfully.")
            );
            assert_eq!(server.ask("/completion", &greedy("it"))["content"], *alone);
            assert_eq!(
                known(&server)["data"].as_array().unwrap().iter().filter(|it| it["name"] == "it").count(),
                1
            );
        }
    }
    assert_eq!(server.metric("svf:expert_loads_total"), 6.0);
    let models = server.get("/v1/models").json();
    assert!(models["data"].as_array().unwrap().iter().any(|model| model["id"] == "it"), "{models}");
    // In use all the time, also by pass 1, while it comes and goes.
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for i in 0..3 {
            let (server, is_over, alone) = (&server, &is_over, &alone);
            scope.spawn(move || {
                let mut n = [0; 2];
                while !is_over.load(Ordering::Relaxed) {
                    let mut body = greedy("it");
                    if i == 2 {
                        body["svf"] = json!({ "adapt": if n[0] % 2 == 0 { "prompt" } else { "classifier" } });
                    }
                    let reply = server.post("/completion", &body);
                    match reply.status() {
                        200 if i < 2 => assert!(alone.contains(&reply.json()["content"]), "{}", reply.text()),
                        200 => {}
                        _ => _ = reply.error(404),
                    }
                    n[usize::from(reply.status() != 200)] += 1;
                }
                println!("{} answers while it came and went, {} while it was not there", n[0], n[1]);
                assert!(n[0] > 0);
            });
        }
        for i in 0..60 {
            let reply = server.post("/v1/load_lora_adapter", &load("it", &path(EXPERTS[i % 3])));
            assert_eq!(reply.status(), 200);
            std::thread::sleep(std::time::Duration::from_millis(20));
            if i % 2 == 1 {
                let reply = server.post("/v1/unload_lora_adapter", &json!({ "lora_name": "it" }));
                assert_eq!(
                    (reply.status(), reply.text()),
                    (200, "Success: LoRA adapter 'it' removed successfully.")
                );
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    server.post("/completion", &greedy("it")).error(404);
    // Whoever chooses knows of the last change.
    for adapt in ["prompt", "classifier"] {
        let mut body = greedy("it");
        body["svf"] = json!({ "adapt": adapt });
        let svf = &server.ask("/completion", &body)["svf"];
        assert!(svf["probabilities"].get("it").is_none(), "{svf}");
    }
    // What the server answers with by default stays.
    server.post("/v1/load_lora_adapter", &load("it", &path("math")));
    let id = known(&server)["data"].as_array().unwrap().iter().find(|it| it["name"] == "it").unwrap()["id"]
        .clone();
    server.ask("/lora-adapters", &json!([{ "id": id, "scale": 0.5 }]));
    server.post("/v1/unload_lora_adapter", &json!({ "lora_name": "it" })).error(400);
    server.ask("/lora-adapters", &json!([]));
    assert_eq!(server.post("/v1/unload_lora_adapter", &json!({ "lora_name": "it" })).status(), 200);
    server.post("/lora-adapters", &json!([{ "id": id, "scale": 0.5 }])).error(400);
    server.stop();
}
