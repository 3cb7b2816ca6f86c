//! A server whose layers are on another machine, which goes away.

use std::time::Duration;

use serde_json::json;

use crate::harness::Server;
use crate::machines::{Machine, Tamper, Wire};

fn short() -> serde_json::Value {
    json!({ "prompt": "Tom has 5 pens.", "n_predict": 8, "temperature": 0, "svf": { "mix": { "math": 1 } } })
}

#[test]
fn a_machine_that_dies_leaves_the_server_alive() {
    let mut machine = Machine::start();
    let wire = Wire::to(machine.address, Tamper::default());
    let here = Server::start("-np 2 -c 80000");
    let expected = here.ask("/completion", &short())["content"].clone();
    here.stop();
    let server = Server::start(&format!("-np 2 -c 80000 --rpc {}", wire.address));
    assert_eq!(server.ask("/completion", &short())["content"], expected);
    let before = wire.n_bytes();
    let long =
        json!({ "prompt": "Tom", "n_predict": -1, "ignore_eos": true, "stream": true, "temperature": 0 });
    let mut streams = [server.stream("/completion", &long), server.stream("/completion", &long)];
    server.assert_soon(Duration::from_secs(20), "bytes over the wire", || wire.n_bytes() > before + 10_000);
    machine.kill();
    for stream in &mut streams {
        let mut last = String::new();
        while let Ok(chunk) = stream.chunk() {
            if chunk.is_empty() {
                break;
            }
            last = String::from_utf8_lossy(&chunk).into_owned();
        }
        assert!(last.contains("error") && last.contains("broke"), "{last}");
    }
    // It is there, and says what it lacks.
    server.assert_idle_within(Duration::from_secs(5));
    let reply = server.post("/completion", &short());
    assert_eq!(reply.status(), 500, "{}", reply.text());
    assert!(reply.text().contains("broke"), "{}", reply.text());
    assert_eq!(server.get("/props").status(), 200);
    server.stop();
}
