//! The net below the checks: where llama.cpp itself gives up or crashes, the program ends in one line and cleans up.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::gguf_edit::Value;
use crate::harness::{finish, model, run};
use crate::program::command;

/// An assertion that depends on the architecture, and so is llama.cpp's to make.
#[test]
fn a_failed_assertion_is_one_line() {
    let Some(model) = model() else { return };
    let mut file = model.with("general.architecture", Value::str("llada-moe"));
    for (key, _) in &mut file.metadata {
        *key = key.replacen("llama.", "llada-moe.", 1);
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("odd.gguf");
    std::fs::write(&path, file.encode()).unwrap();
    let path = path.to_str().unwrap();
    let ended = run(&["run", "-m", path, "-p", "x"], folder.path());
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
    let begin = format!("error: {path}: llama.cpp gave up: llada-moe.cpp:");
    assert!(ended.stderr.starts_with(&begin) && ended.stderr.lines().count() == 1, "{ended:?}");
    assert!(ended.stderr.contains("n_expert must be > 0"), "{ended:?}");
}

/// A chat with the embedded model waits for its user, with the model in a temporary folder.
#[test]
fn a_crash_is_one_line_and_leaves_no_temporary_files() {
    for signal in [Signal::SIGSEGV, Signal::SIGFPE, Signal::SIGBUS, Signal::SIGILL, Signal::SIGABRT] {
        let folder = TempDir::new().unwrap();
        let mut command = command(["run", "--chat", "--temp", "0"]);
        command
            .env("TMPDIR", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"What is 2 + 3?\n").unwrap();
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        let deadline = Instant::now() + Duration::from_secs(30);
        while names() == 0 {
            assert!(Instant::now() < deadline, "no temporary folder appears");
            std::thread::sleep(Duration::from_millis(5));
        }
        // Wherever it is by now: loading, answering or waiting.
        std::thread::sleep(Duration::from_millis(100));
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let ended = finish(child);
        assert_eq!(ended.code, Some(2), "{signal}: {ended:?}");
        let errors: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{signal}: {ended:?}");
        assert!(errors[0].contains(&format!("crashed ({signal})")), "{signal}: {ended:?}");
        assert!(!ended.stderr.contains("backtrace"), "{signal}: {ended:?}");
        assert_eq!(names(), 0, "{signal}");
        drop(stdin);
    }
}
