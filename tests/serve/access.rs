//! Who may ask: keys, and pages of other origins.

use serde_json::json;

use crate::harness::Server;
use crate::http::Reply;

fn send(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut connection = server.connect();
    connection.send(method, path, headers, body).unwrap();
    connection.reply().unwrap()
}

#[test]
fn nothing_is_done_without_a_key() {
    let folder = crate::harness::folder();
    let file = folder.path().join("keys");
    std::fs::write(&file, "third\n\n  fourth  \n").unwrap();
    let server =
        Server::start(&format!("--api-key first,second --api-key-file {} --metrics", file.display()));
    let body = json!({ "prompt": "Tom", "n_predict": 2, "messages": [], "content": "x", "tokens": [1] });
    let body = body.to_string();
    let decodes = || {
        let reply = send(&server, "GET", "/metrics", &[("X-Api-Key", "first")], b"");
        let line = reply.text().lines().find_map(|line| line.strip_prefix("llamacpp:n_decode_total "));
        line.unwrap().parse::<f64>().unwrap()
    };
    let before = decodes();
    let wrong: [&[(&str, &str)]; 9] = [
        &[],
        &[("Authorization", "Bearer ")],
        &[("Authorization", "Bearer firs")],
        &[("Authorization", "Bearer firstt")],
        &[("Authorization", "Bearer first,second")],
        &[("Authorization", "first")],
        &[("Authorization", "Basic first")],
        &[("X-Api-Key", "")],
        &[("X-Api-Key", "FIRST")],
    ];
    let posts = [
        "/completion",
        "/completions",
        "/v1/completions",
        "/chat/completions",
        "/v1/chat/completions",
        "/tokenize",
        "/detokenize",
        "/apply-template",
        "/lora-adapters",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/v1/messages",
        "/v1/responses",
        "/nowhere",
    ];
    let gets = ["/props", "/slots", "/metrics", "/v1/experts", "/lora-adapters", "/v1/models/x", "//health"];
    for headers in wrong {
        for (method, paths) in [("POST", &posts[..]), ("GET", &gets[..]), ("HEAD", &gets[..])] {
            for path in paths {
                let mut connection = server.connect();
                connection
                    .send(method, path, headers, if method == "POST" { body.as_bytes() } else { b"" })
                    .unwrap();
                if method == "HEAD" {
                    assert_eq!(connection.head().unwrap().status, 401, "{path} {headers:?}");
                    continue;
                }
                let reply = connection.reply().unwrap();
                assert_eq!(reply.error(401)["type"], "authentication_error", "{path} {headers:?}");
            }
        }
    }
    assert_eq!(decodes(), before);
    for path in ["/health", "/v1/health", "/models", "/v1/models", "/", "/style.css", "/script.js"] {
        assert_eq!(send(&server, "GET", path, &[], b"").status(), 200, "{path}");
    }
    for key in ["first", "second", "third", "fourth"] {
        for headers in [("Authorization", format!("Bearer {key}")), ("x-api-key", key.to_owned())] {
            let headers = [(headers.0, headers.1.as_str())];
            let reply = send(&server, "POST", "/completion", &headers, body.as_bytes());
            assert_eq!(reply.status(), 200, "{headers:?}");
            assert_eq!(
                send(&server, "POST", "/nowhere", &headers, b"").error(404)["type"],
                "not_found_error"
            );
        }
    }
    assert!(decodes() > before);
    server.stop();
}

#[test]
fn browsers_hear_which_pages_may_ask() {
    let server = Server::start("--api-key first --cors-origins https://good.org,http://localhost:3000");
    for path in ["/completion", "/nowhere", "/health", "/v1/chat/completions"] {
        for (origin, is_allowed) in [("https://good.org", true), ("https://evil.org", false)] {
            let preflight = [("Origin", origin), ("Access-Control-Request-Method", "POST")];
            let reply = send(&server, "OPTIONS", path, &preflight, b"");
            assert_eq!(reply.status(), 200, "{path}");
            let allowed = reply.head.header("access-control-allow-origin");
            assert_eq!(allowed, is_allowed.then_some(origin), "{path}");
            // A refusal can be read, too.
            let reply = send(&server, "POST", path, &[("Origin", origin)], b"{}");
            assert!(reply.status() >= 400);
            assert_eq!(reply.head.header("access-control-allow-origin"), is_allowed.then_some(origin));
        }
    }
    let reply = send(&server, "GET", "/health", &[], b"");
    assert_eq!((reply.status(), reply.head.header("access-control-allow-origin")), (200, None));
    server.stop();
}
