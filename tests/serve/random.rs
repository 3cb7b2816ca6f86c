//! Requests made of chance: none ends the server, keeps it busy, or gets an answer that does not fit.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{json, Map, Value};

use crate::bodies::{FIELDS, GETS, POSTS};
use crate::harness::{seed, Server};
use crate::http::Connection;

const THREADS: u64 = 4;
const REQUESTS: usize = 10_000;

/// Texts that mean something somewhere.
const WORDS: [&str; 40] = [
    "math",
    "code",
    "reasoning",
    "cls",
    "auto",
    "base",
    "base:math",
    "nobody",
    "prompt",
    "classifier",
    "off",
    "user",
    "assistant",
    "system",
    "tool",
    "text",
    "json_object",
    "json_schema",
    "function",
    "none",
    "required",
    "object",
    "string",
    "array",
    "integer",
    "root ::= [0-9]+",
    "root ::= root",
    "root ::= \"a\"*",
    "(",
    "^a{1,9}$",
    "../x",
    "",
    "\u{0}",
    "\u{10ffff}é",
    "<|im_start|>",
    "Tom has 5 pens.",
    "-1",
    "1e9",
    "{",
    "top_k",
];
/// Members of what bodies hold.
const MEMBERS: [&str; 24] = [
    "mix",
    "adapt",
    "strength",
    "threshold",
    "id",
    "scale",
    "role",
    "content",
    "type",
    "text",
    "name",
    "function",
    "parameters",
    "properties",
    "items",
    "enum",
    "pattern",
    "minItems",
    "maxItems",
    "$ref",
    "include_usage",
    "prompt_string",
    "multimodal_data",
    "anyOf",
];

fn any(rng: &mut ChaCha8Rng, depth: u32) -> Value {
    match rng.random_range(0..if depth == 0 { 8 } else { 11 }) {
        0 => Value::Null,
        1 => json!(rng.random_bool(0.5)),
        2 => json!(rng.random_range(-3..20)),
        3 => json!(rng.random::<i64>() >> rng.random_range(0..63)),
        4 => json!(rng.random_range(-2.0..2.0)),
        5 => json!(f64::from_bits(rng.random::<u64>())).clone(),
        6 => json!(WORDS.choose(rng).unwrap()),
        7 => {
            let n = [0, 3, 40, 600][rng.random_range(0..4)];
            json!((0..n)
                .map(|_| char::from_u32(rng.random_range(1..0x3000)).unwrap_or('x'))
                .collect::<String>())
        }
        8 => (0..rng.random_range(0..6)).map(|_| any(rng, depth - 1)).collect(),
        9 => {
            let kind = any(rng, 0);
            (0..rng.random_range(0..300)).map(|_| kind.clone()).collect()
        }
        _ => {
            let mut object = Map::new();
            for _ in 0..rng.random_range(0..5) {
                let known = [MEMBERS.choose(rng), WORDS.choose(rng), FIELDS.choose(rng)];
                object.insert((*known[rng.random_range(0..3)].unwrap()).to_owned(), any(rng, depth - 1));
            }
            Value::Object(object)
        }
    }
}

/// The body of a request.
fn body(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut body = match rng.random_range(0..10) {
        0 => any(rng, 4),
        1 => json!({}),
        _ => crate::bodies::plain(),
    };
    if let Some(object) = body.as_object_mut() {
        for _ in 0..[0, 1, 1, 2, 5][rng.random_range(0..5)] {
            object.insert((*FIELDS.choose(rng).unwrap()).to_owned(), any(rng, 3));
        }
        if rng.random_bool(0.3) {
            object.insert("stream".into(), json!(true));
        }
    }
    let mut bytes = body.to_string().into_bytes();
    if rng.random_bool(0.1) {
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..3) {
                0 => bytes[at] = rng.random(),
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, *b"{}[]\",:\\0".choose(rng).unwrap()),
            }
        }
    }
    bytes
}

/// Sends the request number `i` of `seed`, and looks at what comes back.
fn one(server: &Server, connection: &mut Connection, rng: &mut ChaCha8Rng) -> u16 {
    let path = match rng.random_range(0..10) {
        0 => GETS.choose(rng).unwrap().to_string(),
        1 => format!("/{}", FIELDS.choose(rng).unwrap()),
        // Clients like these would take each other's experts away.
        _ => POSTS
            .iter()
            .filter(|it| !it.contains("unload"))
            .collect::<Vec<_>>()
            .choose(rng)
            .unwrap()
            .to_string(),
    };
    let method = match rng.random_range(0..20) {
        0 => "DELETE",
        1 => "OPTIONS",
        _ if GETS.contains(&path.as_str()) && path != "/lora-adapters" => "GET",
        _ => "POST",
    };
    let body = if method == "GET" { Vec::new() } else { body(rng) };
    let said = || format!("{method} {path} {}", String::from_utf8_lossy(&body));
    let began = Instant::now();
    let leaves = rng.random_bool(0.05);
    if leaves {
        let mut connection = server.connect();
        connection.send(method, &path, &[], &body).unwrap();
        std::thread::sleep(Duration::from_millis(rng.random_range(0..20)));
        return 0;
    }
    let reply = connection.request(method, &path, &body).or_else(|_| {
        // A refused body is not read to its end, and the connection then of no use.
        *connection = server.connect();
        connection.request(method, &path, &body)
    });
    let reply = reply.unwrap_or_else(|error| panic!("{error}: {}", said()));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}: {}", said());
    if took > Duration::from_secs(2) {
        println!("{took:?}: {:.300}", said());
    }
    match reply.status() {
        200 if reply.head.header("content-type") == Some("text/event-stream") => _ = reply.events(),
        200 => {}
        400..=499 | 501 => _ = reply.error(reply.status()),
        // A mixture may be too strong for numbers.
        500 if reply.text().contains("NaN") => _ = reply.error(500),
        status => panic!("{status} {}: {}", reply.text(), said()),
    }
    reply.status()
}

#[test]
fn random_requests_end_well() {
    let seed = seed(11);
    let server = Server::start("-np 4 --metrics");
    let fixed =
        json!({ "prompt": "Tom has 5 pens. Tom", "n_predict": 30, "temperature": 0, "svf": { "mix": {} } });
    let before = server.ask("/completion", &fixed)["content"].clone();
    let statuses: Vec<_> = (0..6).map(|_| AtomicUsize::new(0)).collect();
    let round = |round: u64, n: usize| {
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (server, statuses) = (&server, &statuses);
                scope.spawn(move || {
                    let mut rng = ChaCha8Rng::seed_from_u64(seed + 1000 * round + thread);
                    let mut connection = server.connect();
                    for _ in 0..n / THREADS as usize {
                        let status = one(server, &mut connection, &mut rng);
                        statuses[usize::from(status / 100)].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        server.assert_idle_within(Duration::from_secs(5));
        (server.memory("VmRSS"), server.n_files())
    };
    let warm = round(0, REQUESTS / 4);
    let end = round(1, REQUESTS - REQUESTS / 4);
    let counts: Vec<_> = statuses.into_iter().map(AtomicUsize::into_inner).collect();
    println!("{} left, {} answers, {} refusals, {} failures", counts[0], counts[2], counts[4], counts[5]);
    println!("memory in KiB and files: {warm:?}, then {end:?}");
    if let ((Some(memory), Some(files)), (Some(memory_then), Some(files_then))) = (warm, end) {
        assert!(memory_then < memory + 100_000, "{memory} KiB, then {memory_then} KiB");
        assert!(files_then <= files + 8, "{files} files, then {files_then}");
    }
    assert_eq!(server.ask("/completion", &fixed)["content"], before);
    assert_eq!(server.metric("llamacpp:requests_deferred"), 0.0);
    server.stop();
}
