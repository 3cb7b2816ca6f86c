//! No request hears of another: many clients, each with a mixture of its own, while others leave and experts are replaced.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{json, Value};

use crate::harness::{folder, seed, write_expert, Server};
use crate::http::events;

/// Where greedy answers part, the two best tokens are this close: llama.cpp adds in another order in batches of another
/// shape.
const TIE: f64 = 3e-3;

const CLIENTS: usize = 64;

/// The expert that is replaced while it answers, by these in turn.
const REPLACED: &str = "reasoning";
const VERSIONS: [&str; 2] = ["reasoning", "code"];

/// What a client gets.
#[derive(Debug)]
struct Answer {
    content: String,
    /// Each token, and how far the second best was behind.
    steps: Vec<(i64, f64)>,
    svf: Value,
}

impl Answer {
    /// Of the events of a stream, or a whole answer as the only one.
    fn read(events: &[Value]) -> Self {
        let content = events.iter().filter_map(|event| event["content"].as_str()).collect();
        let steps = events.iter().filter_map(|event| event["completion_probabilities"].as_array()).flatten();
        let step = |step: &Value| {
            let top = |i: usize| step["top_logprobs"][i]["logprob"].as_f64().unwrap();
            (step["id"].as_i64().unwrap(), top(0) - top(1))
        };
        let last = events.last().expect("an answer");
        assert_eq!(last["stop"], true, "{last}");
        Self { content, steps: steps.map(step).collect(), svf: last["svf"].clone() }
    }

    /// Whether it is `alone`, but for a near tie; else what is wrong.
    fn compare(&self, alone: &Self) -> Result<Same, String> {
        if self.svf["label"] != alone.svf["label"] {
            let Some(all) = alone.svf["probabilities"].as_object() else {
                return Err("another strategy".into());
            };
            let mut all: Vec<_> = all.values().map(|p| p.as_f64().unwrap()).collect();
            all.sort_by(|a, b| b.total_cmp(a));
            return if all[0] - all[1] <= TIE {
                Ok(Same::Tie)
            } else {
                Err(format!("another choice: {}", self.svf))
            };
        }
        if self.svf["mixture"] != alone.svf["mixture"] {
            return Err(format!("another mixture: {}", self.svf));
        }
        if self.content == alone.content {
            return Ok(Same::Equal);
        }
        let id = |it: &Self, at: usize| it.steps.get(at).map(|(id, _)| *id);
        let n = self.steps.len().max(alone.steps.len());
        let at = (0..n).find(|&at| id(self, at) != id(alone, at)).ok_or("equal tokens, other texts")?;
        // What ends an answer has no step.
        let gap = alone.steps.get(at).or(self.steps.get(at)).map_or(f64::INFINITY, |(_, gap)| *gap);
        match gap <= TIE {
            true => Ok(Same::Tie),
            false => {
                Err(format!("{:?} instead of {:?}, gap {gap:e} at token {at}", self.content, alone.content))
            }
        }
    }
}

#[derive(PartialEq)]
enum Same {
    Equal,
    Tie,
}

/// What client `i` wants.
enum Kind {
    Fixed,
    Auto,
    /// An expert that others replace.
    Replaced,
    /// It leaves before the end.
    Leaving,
}

fn kind(i: usize) -> Kind {
    match i % 8 {
        0 => Kind::Auto,
        1 => Kind::Replaced,
        2 => Kind::Leaving,
        _ => Kind::Fixed,
    }
}

/// What client `i` asks.
fn body(i: usize) -> Value {
    let beginnings = [
        "Tom has 5 pens. Tom finds 4. How many pens does Tom have?",
        "Mia has 12 pens. Mia finds 4. How many",
        "print(2 + 3)",
        "x = 4\nprint(x * 2)",
        "Anna is older than Tom. Tom is older than Leo. Who is the oldest?",
        "Leo has 5 boxes of 4 hats.",
        "Tom has 5 pens. Tom",
    ];
    let mut body = json!({
        "prompt": format!("{} {}", beginnings[i % beginnings.len()], ["", "A", "So", "x"][i / 16]),
        "n_predict": 20 + i % 30, "temperature": 0, "n_probs": 2,
    });
    match kind(i) {
        Kind::Auto if i.is_multiple_of(16) => body["model"] = json!("auto"),
        Kind::Auto => body["svf"] = json!({ "adapt": "classifier" }),
        Kind::Replaced => body["model"] = json!(REPLACED),
        _ => {
            let weight = |k: usize| (i * k % 11) as f32 / 10.0;
            body["svf"] = json!({ "mix": { "math": weight(3), "code": weight(7) } });
        }
    }
    body
}

fn load(server: &Server, version: &str) {
    let body = json!({ "lora_name": REPLACED, "lora_path": format!("versions/{version}.gguf") });
    assert_eq!(server.post("/v1/load_lora_adapter", &body).status(), 200);
}

fn answer(server: &Server, body: &Value) -> Answer {
    let reply = server.post("/completion", body);
    assert_eq!(reply.status(), 200, "{body}: {}", reply.text());
    match body["stream"] == true {
        true => Answer::read(&reply.events()),
        false => Answer::read(&[reply.json()]),
    }
}

/// Begins `body` and is gone before the end.
fn leave(server: &Server, body: &Value, rng: &mut ChaCha8Rng) {
    let mut connection = server.connect();
    connection.send("POST", "/completion", &[], body.to_string().as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(rng.random_range(0..30)));
    if body["stream"] == true && connection.head().is_ok() {
        for _ in 0..rng.random_range(0..8) {
            let Ok(chunk) = connection.chunk() else { return };
            events(std::str::from_utf8(&chunk).unwrap());
            if chunk.is_empty() {
                return;
            }
        }
    }
}

#[test]
fn each_of_many_clients_gets_what_it_gets_alone() {
    let seed = seed(7);
    let folder = folder();
    std::fs::create_dir(folder.path().join("versions")).unwrap();
    for version in VERSIONS {
        write_expert(version, REPLACED, &folder.path().join(format!("versions/{version}.gguf")));
    }
    let server = Server::start(&format!("-np 8 --metrics --experts-dir {}", folder.path().display()));
    // All that a client may get: with an expert that is replaced, one or the other.
    let solo = |i: usize| {
        let mut body = body(i);
        body["cache_prompt"] = json!(false);
        answer(&server, &body)
    };
    let mut alone: Vec<Vec<Answer>> = (0..CLIENTS).map(|_| Vec::new()).collect();
    for version in VERSIONS {
        load(&server, version);
        for (i, alone) in alone.iter_mut().enumerate() {
            if alone.is_empty() || matches!(kind(i), Kind::Replaced | Kind::Auto) {
                alone.push(solo(i));
            }
        }
    }
    let differ = alone.iter().filter(|it| it.len() == 2 && it[0].content != it[1].content).count();
    assert!(differ > 0, "both versions answer alike");
    let is_base = |i: &usize| {
        let base = json!({ "svf": { "mix": {} }, "cache_prompt": false });
        let mut body = body(*i);
        body.as_object_mut().unwrap().extend(base.as_object().unwrap().clone());
        answer(&server, &body).content == alone[*i][0].content
    };
    let n_base = (0..CLIENTS).filter(|&i| matches!(kind(i), Kind::Fixed)).filter(is_base).count();
    println!("{n_base} of 40 mixtures answer as the base model");
    assert!(n_base < 20);
    let chosen =
        alone.iter().filter_map(|it| it[0].svf["label"].as_str()).collect::<std::collections::BTreeSet<_>>();
    println!("pass 1 chose {chosen:?}");
    let (n_equal, n_ties, n_open) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(CLIENTS));
    let has_failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for (i, alone) in alone.iter().enumerate() {
            let (server, n_equal, n_ties, n_open, has_failed) =
                (&server, &n_equal, &n_ties, &n_open, &has_failed);
            scope.spawn(move || {
                let mut rng = ChaCha8Rng::seed_from_u64(seed + i as u64);
                for _ in 0..4 {
                    let mut body = body(i);
                    body["stream"] = json!(rng.random_bool(0.5));
                    body["cache_prompt"] = json!(rng.random_bool(0.7));
                    if matches!(kind(i), Kind::Leaving) && rng.random_bool(0.8) {
                        leave(server, &body, &mut rng);
                        continue;
                    }
                    let found = answer(server, &body);
                    let compared: Vec<_> = alone.iter().map(|alone| found.compare(alone)).collect();
                    if compared.contains(&Ok(Same::Equal)) {
                        n_equal.fetch_add(1, Ordering::Relaxed);
                    } else if compared.contains(&Ok(Same::Tie)) {
                        n_ties.fetch_add(1, Ordering::Relaxed);
                    } else {
                        let wrong: Vec<_> = compared.into_iter().filter_map(Result::err).collect();
                        println!("client {i}, {body}: {wrong:?}");
                        has_failed.store(true, Ordering::Relaxed);
                    }
                }
                n_open.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let mut n = 0;
        while n_open.load(Ordering::Relaxed) > 0 {
            load(&server, VERSIONS[n % 2]);
            n += 1;
            std::thread::sleep(Duration::from_millis(15));
        }
        println!("replaced {n} times");
        assert!(n > 4);
    });
    let (n_equal, n_ties) = (n_equal.into_inner(), n_ties.into_inner());
    println!("{n_equal} answers as alone, {n_ties} but for a near tie");
    assert!(!has_failed.into_inner());
    assert!(n_equal > 10 * n_ties);
    server.assert_idle_within(Duration::from_secs(1));
    assert_eq!(server.metric("llamacpp:requests_deferred"), 0.0);
    for (i, alone) in alone.iter().enumerate().filter(|(_, alone)| alone.len() == 1) {
        assert!(solo(i).compare(&alone[0]) == Ok(Same::Equal), "client {i} afterwards");
    }
    server.stop();
}
