//! Runs of the program, and what they left: output, exit code, numbers in JSON.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The program with these arguments, and nothing to read.
pub fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("llama-svf"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Its run.
pub fn svf<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    command(arguments).output().unwrap()
}

/// The words of `arguments`; `@name` stands for a file of `folder`.
pub fn words(folder: &Path, arguments: &str) -> Vec<String> {
    let word = |word: &str| match word.rsplit_once('@') {
        Some((before, name)) => format!("{before}{}", folder.join(name).display()),
        None => word.to_owned(),
    };
    arguments.split_whitespace().map(word).collect()
}

/// A refusal: exit code 2, nothing on stdout, and one line beside notes, which names all `fragments`.
#[track_caller]
pub fn assert_one_error(arguments: &str, output: &Output, fragments: &[&str]) {
    assert_eq!(output.status.code(), Some(2), "{arguments}: {}{}", stdout(output), stderr(output));
    assert_eq!(stdout(output), "", "{arguments}");
    let errors: Vec<_> = stderr(output).lines().filter(|line| !line.starts_with("note: ")).collect();
    assert!(errors.len() == 1 && errors[0].starts_with("error: "), "{arguments}: {}", stderr(output));
    for fragment in fragments {
        assert!(errors[0].contains(fragment), "{arguments}: no '{fragment}' in: {}", errors[0]);
    }
}

pub fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[track_caller]
pub fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "stdout: {}\nstderr: {}", stdout(output), stderr(output));
}

#[track_caller]
pub fn number(value: &Value, path: &str) -> f64 {
    let found = value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {value:#}"));
    assert!(found.is_finite(), "{path} = {found}");
    found
}
