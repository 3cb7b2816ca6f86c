//! Requests as no proper client sends them: too large, broken, half, slow, many at once.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::harness::Server;
use crate::http::{Connection, Reply};

/// How long something may take that only has to happen.
const SOON: Duration = Duration::from_secs(10);

const CHAT: &str = "/v1/chat/completions";

fn post(server: &Server, path: &str, body: impl AsRef<[u8]>) -> Reply {
    server.connect().request("POST", path, body.as_ref()).unwrap()
}

/// A body that any route answers.
pub fn plain() -> Value {
    json!({
        "prompt": "Tom has", "n_predict": 2, "temperature": 0, "svf": { "mix": {} },
        "messages": [{ "role": "user", "content": "Tom" }], "content": "Tom", "tokens": [1],
    })
}

/// Sends `n` MB of a body after `head`; what comes back.
fn flood(server: &Server, head: &str, n: usize, is_chunked: bool) -> Option<Reply> {
    let mut connection = server.connect();
    connection.send_raw(head).unwrap();
    let mut writer = connection.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let block = vec![b' '; 1 << 20];
        for _ in 0..n {
            // The server need not listen to the end.
            let sent = match is_chunked {
                true => writer.write_all(&[b"100000\r\n", block.as_slice(), b"\r\n"].concat()),
                false => writer.write_all(&block),
            };
            if sent.is_err() {
                return;
            }
        }
    });
    let reply = connection.reply().ok();
    drop(connection);
    sender.join().unwrap();
    reply
}

#[test]
fn large_bodies_are_refused_unread() {
    let server = Server::start("--max-body 4");
    let before = server.memory("VmHWM");
    let declared = "POST /completion HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n";
    let chunked = "POST /completion HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (head, is_chunked) in [(declared, false), (chunked, true)] {
        for _ in 0..3 {
            // Who goes on sending may lose the answer to what the system does with unread data.
            if let Some(reply) = flood(&server, head, 100, is_chunked) {
                reply.error(413);
            }
        }
    }
    if let (Some(before), Some(after)) = (before, server.memory("VmHWM")) {
        println!("{} KiB more at most", after - before);
        assert!(after < before + 24_000, "{before} KiB, then {after} KiB");
    }
    // Who asks first hears it before sending anything, and who may, is told to go on.
    let mut connection = server.connect();
    let asking = "POST /tokenize HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length:";
    connection.send_raw(format!("{asking} 104857600\r\n\r\n")).unwrap();
    connection.reply().unwrap().error(413);
    let mut connection = server.connect();
    connection.send_raw(format!("{asking} 16\r\n\r\n")).unwrap();
    assert_eq!(connection.head().unwrap().status, 100);
    connection.send_raw("{\"content\":\"Tom\"").unwrap();
    connection.reply().unwrap().error(400);
    let mut connection = server.connect();
    connection.send_raw(format!("{asking} 17\r\n\r\n{{\"content\":\"Tom\"}}")).unwrap();
    assert_eq!(connection.head().unwrap().status, 100);
    assert_eq!(connection.reply().unwrap().status(), 200);
    // Right at the bound.
    let text = |n: usize| format!("{{\"content\": \"{}\"}}", "a".repeat(n));
    let n = (4 << 20) - text(0).len();
    assert_eq!(post(&server, "/tokenize", text(n)).status(), 200);
    // It is refused before all is sent, which a client may find out in another way.
    if let Ok(reply) = server.connect().request("POST", "/tokenize", text(n + 1).as_bytes()) {
        reply.error(413);
    }
    // A prompt of millions of tokens is none for this context, but the server lives on.
    let body = format!("{{\"prompt\": \"{}\"}}", "a ".repeat(1 << 20));
    assert_eq!(post(&server, "/completion", body).error(400)["type"], "exceed_context_size_error");
    let body =
        format!("{{\"messages\": [{{\"role\": \"user\", \"content\": \"{}\"}}]}}", "a ".repeat(1 << 20));
    assert_eq!(post(&server, CHAT, body).error(400)["type"], "exceed_context_size_error");
    server.stop();
}

/// Whatever does not read as JSON, or not as what the route wants.
fn broken() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "",
        " ",
        "{",
        "}",
        "{}{}",
        "nul",
        "null",
        "[]",
        "3",
        "\"x\"",
        "true",
        "{\"prompt\"}",
        "{\"prompt\": }",
        "{\"prompt\": \"x}",
        "{'prompt': 'x'}",
        "{\"prompt\": NaN}",
        "{\"prompt\": \"\\ud800\"}",
        "{\"prompt\": \"\\x\"}",
        "{\"prompt\": \"a\nb\"}",
        "{\"prompt\": 1e999}",
        "{\"prompt\": \"x\"} trailing",
        "\u{feff}{\"prompt\": \"x\"}",
        "prompt=x",
        "--x\r\nContent-Disposition: form-data\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    all.push(b"{\"prompt\": \"\xff\xfe\"}".to_vec());
    all.push(b"{\"prompt\": \"\xc0\x80\"}".to_vec());
    all.push(b"\x00\x01\x02".to_vec());
    all.push(b"\x1f\x8b\x08\x00".to_vec());
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for n in [200, 100_000] {
            all.push(format!("{{\"prompt\": {}1{}}}", open.repeat(n), close.repeat(n)).into_bytes());
            all.push(open.repeat(n).into_bytes());
        }
    }
    all
}

pub const POSTS: [&str; 17] = [
    "/completion",
    "/completions",
    "/v1/completions",
    "/chat/completions",
    CHAT,
    "/v1/chat/completions/input_tokens",
    "/chat/completions/input_tokens",
    "/v1/responses",
    "/v1/responses/input_tokens",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/lora-adapters",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
];
pub const GETS: [&str; 10] = [
    "/health",
    "/v1/health",
    "/models",
    "/v1/models",
    "/props",
    "/slots",
    "/lora-adapters",
    "/v1/experts",
    "/",
    "/script.js",
];

#[test]
fn broken_bodies_wrong_methods_and_unknown_routes_are_errors() {
    let server = Server::start("-np 2");
    for path in POSTS {
        for body in broken() {
            // A list is what this route wants.
            if path == "/lora-adapters" && body == b"[]" {
                continue;
            }
            let reply = post(&server, path, &body);
            assert_eq!(
                reply.status(),
                400,
                "{path} {:.80}: {}",
                String::from_utf8_lossy(&body),
                reply.text()
            );
            assert_eq!(reply.error(400)["type"], "invalid_request_error");
        }
    }
    for (method, status) in [("GET", 405), ("PUT", 405), ("DELETE", 405), ("PATCH", 405), ("BREW", 405)] {
        for path in POSTS.iter().filter(|path| **path != "/lora-adapters") {
            server.connect().request(method, path, b"").unwrap().error(status);
        }
    }
    for path in GETS.iter().filter(|path| **path != "/lora-adapters") {
        post(&server, path, "{}").error(405);
        let mut connection = server.connect();
        connection.send("HEAD", path, &[], b"").unwrap();
        assert_eq!(connection.head().unwrap().status, 200, "{path}");
    }
    for path in [
        "/x",
        "/v1",
        "/completion/",
        "/v1/../health",
        "/%2e%2e/etc/passwd",
        "/health%00",
        "/v1/chat",
        "/\u{e4}",
        "/completion?x=1&y=%ff",
        "/slots?fail_on_no_slot=1&%=",
        "/slots?a=%ff",
        "*",
        "http://other/health",
    ] {
        let Ok(reply) = server.connect().request("GET", path, b"") else { continue };
        println!("{path}: {}", reply.status());
        assert!([200, 400, 404, 405].contains(&reply.status()), "{path}: {}", reply.status());
    }
    server.stop();
}

/// Everything that a body can have.
pub const FIELDS: &[&str] = &[
    "prompt",
    "messages",
    "content",
    "tokens",
    "n_predict",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "n_cmpl",
    "stop",
    "stream",
    "stream_options",
    "timings_per_token",
    "return_progress",
    "return_tokens",
    "n_probs",
    "logprobs",
    "top_logprobs",
    "post_sampling_probs",
    "cache_prompt",
    "response_fields",
    "verbose",
    "echo",
    "ignore_eos",
    "id_slot",
    "temperature",
    "dynatemp_range",
    "dynatemp_exponent",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "top_n_sigma",
    "min_keep",
    "xtc_probability",
    "xtc_threshold",
    "repeat_last_n",
    "repeat_penalty",
    "frequency_penalty",
    "presence_penalty",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "adaptive_target",
    "samplers",
    "seed",
    "logit_bias",
    "grammar",
    "json_schema",
    "grammar_lazy",
    "grammar_triggers",
    "preserved_tokens",
    "svf",
    "lora",
    "model",
    "user",
    "response_format",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "chat_template_kwargs",
    "add_generation_prompt",
    "reasoning_format",
    "reasoning_effort",
    "add_special",
    "parse_special",
    "with_pieces",
    "lora_name",
    "lora_path",
];

#[test]
fn every_field_of_every_wrong_type_is_an_answer_or_an_error() {
    let server = Server::start("-np 2");
    let values = [
        json!(true),
        json!(0),
        json!(-1),
        json!(1.5),
        json!(2147483647),
        json!(4294967296u64),
        json!(-9223372036854775808i64),
        json!(18446744073709551615u64),
        json!(1e300),
        json!(-1e39),
        json!(""),
        json!("x"),
        json!("\u{0}"),
        json!("∀\u{10ffff}"),
        json!([]),
        json!([[]]),
        json!([1, "x", null, {}]),
        json!([-1]),
        json!([{}]),
        json!({}),
        json!({ "x": 1 }),
        json!({ "type": "x", "role": 1, "function": {}, "json_schema": [] }),
        json!([{ "role": "user" }]),
        json!([{ "type": "function", "function": { "name": "", "parameters": 1 } }]),
        json!([null]),
        Value::Null,
    ];
    let mut n = [0; 2];
    for path in [CHAT, "/completion", "/v1/completions", "/tokenize", "/detokenize", "/apply-template"] {
        let mut connection = server.connect();
        for field in FIELDS {
            for value in &values {
                let mut body = plain();
                body[*field] = value.clone();
                if body["stream"].is_boolean() && body["stream"] == true && path != CHAT {
                    continue;
                }
                // One of these may want hundreds of tokens.
                if body["n_predict"] != json!(2) {
                    body["stop"] = json!(["a", "e", " ", "."]);
                }
                let began = Instant::now();
                let reply = connection.request("POST", path, body.to_string().as_bytes());
                let reply = reply.unwrap_or_else(|error| panic!("{path} {field} {value}: {error}"));
                match reply.status() {
                    200 => {}
                    // A mixture can be so strong that the model computes no numbers, but none of these is.
                    400 | 404 | 501 => _ = reply.error(reply.status()),
                    status => panic!("{path} {field}: {value}: {status} {}", reply.text()),
                }
                n[usize::from(reply.status() != 200)] += 1;
                assert!(began.elapsed() < SOON, "{path} {field} {value}: {:?}", began.elapsed());
            }
        }
    }
    println!("{} answers, {} errors", n[0], n[1]);
    server.assert_idle_within(SOON);
    server.stop();
}

#[test]
fn half_requests_end_in_time_and_harm_nobody() {
    let server = Server::start("-np 2 --timeout 2");
    let body = plain().to_string();
    let whole =
        format!("POST /completion HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let chunks: Vec<_> = body
        .as_bytes()
        .chunks(7)
        .map(|it| format!("{:x}\r\n{}\r\n", it.len(), std::str::from_utf8(it).unwrap()))
        .collect();
    let chunked = format!(
        "POST /completion HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunks.concat()
    );
    // Byte by byte, in chunks, and two at once.
    let mut connection = server.connect();
    for byte in chunked.as_bytes() {
        connection.send_raw([*byte]).unwrap();
    }
    let expected = connection.reply().unwrap().json()["content"].clone();
    for text in [whole.repeat(3), chunked.repeat(3)] {
        let mut connection = server.connect();
        connection.send_raw(text).unwrap();
        for _ in 0..3 {
            assert_eq!(connection.reply().unwrap().json()["content"], expected);
        }
    }
    let halves =
        ["", "P", "POST /completion HTTP/1.1\r\nHost: x\r\nContent-", "GET /health HTTP/1.1\r\nHost: x\r\n"];
    for half in halves {
        let mut connection = server.connect();
        connection.send_raw(half).unwrap();
        let began = Instant::now();
        // It may say 408 before. What waits in vain longer than any answer takes, is an error.
        let mut rest = Vec::new();

        std::io::Read::read_to_end(&mut connection.stream, &mut rest)
            .unwrap_or_else(|error| panic!("{half:?}: {error}"));
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(1), "{half:?}: {took:?}");
    }
    let half_bodies = [
        "POST /completion HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"prompt\": ",
        "POST /completion HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"pro",
        "POST /completion HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{\"\r\n",
        "POST /completion HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
    ];
    for half in half_bodies {
        let mut connection = server.connect();
        connection.send_raw(half).unwrap();
        connection.reply().unwrap().error(408);
        // And where the client is gone by then.
        server.connect().send_raw(half).unwrap();
    }
    let broken = [
        "\r\n\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "hello\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n",
        "POST /completion HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "POST /completion HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "POST /completion HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        "POST /completion HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "POST /completion HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        "POST /completion HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for text in broken {
        let mut connection = server.connect();
        connection.send_raw(text).unwrap();
        // An answer, if any, is a refusal.
        if let Ok(head) = connection.head() {
            assert!((400..=505).contains(&head.status), "{text:?}: {head:?}");
        }
    }
    let many: String = (0..5000).map(|i| format!("X-{i}: y\r\n")).collect();
    let long = "x".repeat(1 << 20);
    for text in [
        format!("GET /health HTTP/1.1\r\n{many}\r\n"),
        format!("GET /health HTTP/1.1\r\nX: {long}\r\n\r\n"),
        format!("GET /{long} HTTP/1.1\r\n\r\n"),
    ] {
        let mut connection = server.connect();
        // It may be refused before all is sent.
        let _ = connection.send_raw(text);
        if let Ok(head) = connection.head() {
            assert!((400..=431).contains(&head.status), "{head:?}");
        }
    }
    assert_eq!(post(&server, "/completion", &body).json()["content"], expected);
    server.assert_idle_within(SOON);
    server.stop();
}

#[test]
fn slow_readers_and_half_open_connections_hold_nobody_up() {
    let server = Server::start("-np 4 -c 80000 --timeout 20");
    let files = server.n_files();
    // Streams of megabytes of which nobody reads anything.
    let long = json!({ "prompt": "Tom has", "n_predict": -1, "ignore_eos": true, "temperature": 0, "stream": true,
        "n_probs": 20, "svf": { "mix": { "math": 1 } } });
    let slow: Vec<_> = (0..2).map(|_| server.stream("/completion", &long)).collect();
    let open: Vec<_> = (0..500)
        .map(|i| {
            let mut connection = server.connect();
            connection.send_raw(["", "POST /completion HTTP/1.1\r\nContent-"][i % 2]).unwrap();
            connection
        })
        .collect();
    let mut worst = Duration::ZERO;
    for _ in 0..10 {
        let began = Instant::now();
        assert_eq!(post(&server, "/completion", plain().to_string()).status(), 200);
        worst = worst.max(began.elapsed());
    }
    println!("answered beside them within {worst:?}");
    assert!(worst < SOON, "{worst:?}");
    drop(open);
    drop(slow);
    server.assert_idle_within(SOON);
    if let Some(files) = files {
        server.assert_soon(SOON, "closed connections", || server.n_files().is_some_and(|n| n <= files + 3));
    }
    let _ = Connection::open(server.address);
    server.stop();
}
