//! The program as a process: started, ended, killed, and started again.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{command, ended_within, Server};
use crate::http::Connection;

fn long() -> serde_json::Value {
    json!({ "prompt": "Tom has 5 pens.", "n_predict": -1, "ignore_eos": true, "stream": true, "temperature": 0 })
}

#[test]
fn a_server_ends_in_seconds_and_can_be_started_again_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let server = Server::start("-np 2 -c 80000");
        let mut streams = vec![server.stream("/completion", &long()), server.stream("/completion", &long())];
        // One that waits, one that says nothing, one that says half of it.
        let mut waiting = server.connect();
        waiting.send("POST", "/completion", &[], long().to_string().as_bytes()).unwrap();
        let _silent = server.connect();
        let mut half = server.connect();
        half.send_raw("POST /completion HTTP/1.1\r\nContent-Le").unwrap();
        let mut kept = server.connect();
        assert_eq!(kept.request("GET", "/health", b"").unwrap().status(), 200);
        server.signal(signal);
        let address = server.address;
        assert_eq!(server.ended_within(Duration::from_secs(9)).code(), Some(0));
        // The streams were cut, or ended; either way it is over.
        for stream in &mut streams {
            while stream.chunk().is_ok_and(|chunk| !chunk.is_empty()) {}
        }
        assert!(Connection::try_open(address).is_err());
    }
    let mut server = Server::start("-np 2 -c 80000");
    for _ in 0..2 {
        let port = server.address.port();
        let _open = server.stream("/completion", &long());
        server.signal(Signal::SIGKILL);
        assert_eq!(server.ended_within(Duration::from_secs(5)).signal(), Some(Signal::SIGKILL as i32));
        server = Server::beside(&format!("--port {port}"));
        assert_eq!(server.get("/health").status(), 200);
        assert_eq!(server.post("/completion", &json!({ "prompt": "Tom", "n_predict": 3 })).status(), 200);
    }
    server.stop();
}

/// Exit code and what was said, of a server that cannot start.
fn refused(arguments: &str) -> (Option<i32>, String) {
    let mut child: Child = command(arguments).spawn().unwrap();
    let status = ended_within(&mut child, Duration::from_secs(30));
    if status.is_none() {
        child.kill().unwrap();
    }
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    (status.unwrap_or_else(|| panic!("{arguments}: still there: {said}")).code(), said)
}

#[test]
fn what_cannot_be_started_says_why() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = crate::harness::folder();
    let text = folder.path().join("text.gguf");
    std::fs::write(&text, "no model").unwrap();
    let empty = folder.path().join("keys");
    std::fs::write(&empty, "\n\n").unwrap();
    let (folder, text, empty) = (folder.path().display(), text.display(), empty.display());
    for (arguments, fragments) in [
        (format!("--port {port}"), vec!["cannot listen".to_owned(), port.to_string()]),
        ("--host 203.0.113.7 --port 0".into(), vec!["cannot listen".into()]),
        ("--host no.such.host.invalid --port 0".into(), vec!["no.such.host.invalid".into()]),
        ("--port 70000".into(), vec!["70000".into()]),
        ("-m /nowhere/model.gguf --port 0".into(), vec!["/nowhere/model.gguf".into()]),
        (format!("-m {folder} --port 0"), vec!["GGUF".into()]),
        (format!("-m {text} --port 0"), vec!["text.gguf".into()]),
        ("--experts-dir /nowhere --port 0".into(), vec!["/nowhere".into()]),
        (format!("--experts-dir {text} --port 0"), vec!["text.gguf".into()]),
        ("--expert /nowhere.gguf --port 0".into(), vec!["/nowhere.gguf".into()]),
        ("--use nobody --port 0".into(), vec!["nobody".into()]),
        (format!("--api-key-file {empty} --port 0"), vec!["--api-key".into()]),
        ("--api-key-file /nowhere --port 0".into(), vec!["/nowhere".into()]),
        ("-np 0 --port 0".into(), vec!["--parallel".into()]),
    ] {
        let (code, said) = refused(&arguments);
        assert_eq!(code, Some(2), "{arguments}: {said}");
        assert!(said.contains("error: ") && !said.contains("panicked"), "{arguments}: {said}");
        for fragment in fragments {
            assert!(said.contains(&fragment), "{arguments}: no '{fragment}' in {said}");
        }
    }
}

#[test]
fn clients_are_told_that_the_model_is_being_loaded() {
    // A pipe is no model, and a port must be known before the server says it: another one tells a free one.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = command(&format!("--port {port}")).spawn().unwrap();
    let address = ([127, 0, 0, 1], port).into();
    let mut seen = Vec::new();
    for _ in 0..3000 {
        let reply = Connection::try_open(address).and_then(|mut it| it.request("GET", "/health", b""));
        match reply {
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
            Ok(reply) => {
                seen.push(reply.status());
                if reply.status() == 200 {
                    break;
                }
                let error = reply.error(503);
                assert_eq!(
                    (&error["type"], &error["message"]),
                    (&json!("unavailable_error"), &json!("Loading model"))
                );
                assert!(reply.head.header("retry-after").is_some());
                let mut connection = Connection::open(address);
                let reply = connection
                    .request("POST", "/completion", b"{\"prompt\": \"x\", \"n_predict\": 1}")
                    .unwrap();
                // It may be there by now.
                assert!([200, 503].contains(&reply.status()), "{}", reply.text());
            }
        }
    }
    println!("{} times loading", seen.iter().filter(|status| **status == 503).count());
    assert_eq!(seen.last(), Some(&200), "{seen:?}");
    assert!(seen.contains(&503), "{seen:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}
