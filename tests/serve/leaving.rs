//! Clients that go away leave room at once, and those for whom there is none are told so.

use std::time::Duration;

use serde_json::{json, Value};

use crate::harness::Server;
use crate::http::Connection;

/// How soon room is there again.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long something may take that only has to happen.
const SOON: Duration = Duration::from_secs(20);

/// A request that writes for many seconds.
fn long(is_streamed: bool) -> Value {
    json!({
        "prompt": "Tom has 5 pens.", "n_predict": -1, "ignore_eos": true, "temperature": 0, "stream": is_streamed,
        "svf": { "mix": { "math": 1 } },
    })
}

fn short() -> Value {
    json!({ "prompt": "Tom has 5 pens.", "n_predict": 2, "svf": { "mix": { "code": 1 } } })
}

/// A request under way of which nothing was read.
fn sent(server: &Server, body: &Value) -> Connection {
    let mut connection = server.connect();
    connection.send("POST", "/completion", &[], body.to_string().as_bytes()).unwrap();
    connection
}

/// So many long requests that the last one has to wait.
fn until_one_waits(server: &Server) -> Vec<Connection> {
    let mut running = Vec::new();
    loop {
        running.push(sent(server, &long(true)));
        let n_waiting = || server.metric("llamacpp:requests_deferred") as usize;
        server.assert_soon(SOON, "request", || server.n_busy() + n_waiting() == running.len());
        // Every request waits for a moment.
        std::thread::sleep(Duration::from_millis(100));
        if n_waiting() == 1 {
            return running;
        }
        assert!(running.len() < 8);
    }
}

#[test]
fn a_client_that_leaves_frees_its_sequence() {
    let server = Server::start("-np 1 -t 1 -c 40000 --metrics");
    for path in ["/completion", "/v1/completions", "/v1/chat/completions"] {
        let mut body = long(true);
        if path.contains("chat") {
            body["messages"] = json!([{ "role": "user", "content": "Tom has 5 pens." }]);
        }
        let stream = server.stream(path, &body);
        server.assert_soon(SOON, "slot at work", || server.n_busy() == 1);
        drop(stream);
        server.assert_idle_within(AT_ONCE);
        body["stream"] = json!(false);
        let mut connection = server.connect();
        connection.send("POST", path, &[], body.to_string().as_bytes()).unwrap();
        server.assert_soon(SOON, "slot at work", || server.n_busy() == 1);
        drop(connection);
        server.assert_idle_within(AT_ONCE);
    }
    // A client that closes only its own half is gone, too.
    let half = sent(&server, &long(false));
    server.assert_soon(SOON, "slot at work", || server.n_busy() == 1);
    half.stream.shutdown(std::net::Shutdown::Write).unwrap();
    server.assert_idle_within(AT_ONCE);
    // Those who wait leave the queue.
    let n_waiting = || server.metric("llamacpp:requests_deferred") as usize;
    let running = until_one_waits(&server);
    let n = running.len();
    let waiting: Vec<_> = [true, false, true, false].map(|streamed| sent(&server, &long(streamed))).into();
    server.assert_soon(SOON, "requests that wait", || n_waiting() == 5);
    drop(waiting);
    server.assert_soon(AT_ONCE, "emptier queue", || n_waiting() == 1);
    assert_eq!(server.n_busy(), n - 1);
    drop(running);
    server.assert_idle_within(AT_ONCE);
    assert_eq!(n_waiting(), 0);
    assert_eq!(server.ask("/completion", &short())["tokens_predicted"], 2);
    server.stop();
}

#[test]
fn a_full_queue_refuses_and_the_others_are_answered() {
    let server = Server::start("-np 1 -t 1 -c 40000 --queue 2 --metrics");
    let n_waiting = || server.metric("llamacpp:requests_deferred") as usize;
    let mut running = until_one_waits(&server);
    let (mut first, mut last) = (running.pop().unwrap(), sent(&server, &short()));
    server.assert_soon(SOON, "full queue", || n_waiting() == 2);
    for body in [short(), long(true), long(false)] {
        let reply = server.post("/completion", &body);
        assert_eq!(reply.head.header("retry-after"), Some("1"));
        assert_eq!(reply.error(429)["type"], "rate_limit_error");
    }
    // Pass 1 waits, too.
    let chat = json!({ "model": "auto", "max_tokens": 2, "messages": [{ "role": "user", "content": "Tom has 5." }] });
    server.post("/v1/chat/completions", &chat).error(429);
    drop(running);
    assert_eq!(first.head().unwrap().status, 200);
    // It would go on for long.
    drop(first);
    assert_eq!(last.reply().unwrap().json()["tokens_predicted"], 2);
    server.assert_idle_within(AT_ONCE);
    assert_eq!(server.post("/v1/chat/completions", &chat).status(), 200);
    server.stop();
}
