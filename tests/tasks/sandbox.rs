//! Hostile programs: each ends within its time, scores 0, and leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use llama_svf::reward::code::sandbox::Limits;
use llama_svf::reward::code::Code;

fn code(seconds: u64) -> Code {
    let limits = Limits { seconds, ..Limits::default() };
    let code = Code::new(Some(PathBuf::from(env!("CARGO_BIN_EXE_llama-svf"))), limits).unwrap();
    for note in code.notes() {
        println!("note: {note}");
    }
    code
}

/// Command lines of processes that hold `mark`.
fn processes(mark: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let cmdline = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).ok();
    let lines = entries.flatten().filter_map(cmdline).map(|line| String::from_utf8_lossy(&line).into_owned());
    lines.filter(|line| line.contains(mark)).collect()
}

#[test]
fn hostile_programs_end_and_leave_nothing() {
    const SECONDS: u64 = 2;
    let code = code(SECONDS);
    let outside = std::env::temp_dir().join(format!("llama-svf-escaped-{}", std::process::id()));
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("escaped");
    let write = |path: &Path| format!("open({path:?}, 'w').write('x')");
    std::env::set_var("LLAMA_SVF_SECRET", "hunter2");
    let programs = [
        ("a fork bomb", "import os\nwhile True:\n    os.fork()".to_owned()),
        (
            "a fork bomb that catches errors",
            "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass".to_owned(),
        ),
        ("an infinite loop", "while True: pass".to_owned()),
        ("sleep", "import time; time.sleep(1000)".to_owned()),
        ("10 GB", "x = b'x' * 10**10".to_owned()),
        ("10 GB in pieces", "x = []\nwhile True: x.append(bytearray(10**7))".to_owned()),
        ("writing to the temporary folder", write(&outside)),
        ("writing to the repository", write(&home)),
        ("removing a file outside", format!("import os; os.remove({:?})", env!("CARGO_BIN_EXE_llama-svf"))),
        ("reading a file outside", "open('/etc/passwd').read()".to_owned()),
        ("reading the parent's environment", "open('/proc/1/environ').read()".to_owned()),
        ("its own environment", "import os; assert 'LLAMA_SVF_SECRET' in os.environ".to_owned()),
        (
            "killing its parent",
            "import os, signal; os.kill(os.getppid(), 9); os.kill(os.getppid(), 11); assert False".to_owned(),
        ),
        ("killing everything", "import os; os.kill(-1, 9); assert False".to_owned()),
        ("killing its group", "import os; os.killpg(0, 9)".to_owned()),
        ("killing the test", format!("import os; os.kill({}, 9)", std::process::id())),
        ("printing forever", "while True: print('x' * 1000)".to_owned()),
        ("printing past the end of stdout", "import os\nwhile True: os.write(2, b'x' * 65536)".to_owned()),
        (
            "a daemon",
            "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        \
             os.execv('/bin/sleep', ['sleep', '1234567'])\n    os._exit(0)\ntime.sleep(1)\nos._exit(0)"
                .to_owned(),
        ),
        ("exit", "import sys; sys.exit(0)".to_owned()),
        ("hard exit", "import os; os._exit(0)".to_owned()),
        ("exit by the builtin", "raise SystemExit(0)".to_owned()),
        (
            "no exec, no print",
            "import builtins\nbuiltins.exec = lambda *a: None\nbuiltins.print = print".to_owned(),
        ),
        ("no assertion error", "import builtins\nbuiltins.AssertionError = Warning".to_owned()),
        ("a trace that skips", "import sys\nsys.settrace(lambda *a: None)".to_owned()),
        ("a class called passed", "class passed(Exception): pass\nraise passed()".to_owned()),
        ("printing passed", "print('passed')\nimport os\nos._exit(0)".to_owned()),
        ("an open quote", "x = '''".to_owned()),
        ("a zero byte", "x = '\0'".to_owned()),
        ("deep recursion", "import sys\nsys.setrecursionlimit(10**9)\ndef f(): return f()\nf()".to_owned()),
        ("connecting", "import socket; socket.create_connection(('127.0.0.1', 22), 1)".to_owned()),
        ("a big file", "f = open('big', 'wb')\nwhile True: f.write(b'x' * 10**6)".to_owned()),
        ("many files", "for i in range(10**9): open(str(i), 'w').write('x' * 1000)".to_owned()),
        (
            "a locked folder",
            "import os; os.mkdir('d'); open('d/f', 'w'); os.chmod('d', 0); assert False".to_owned(),
        ),
    ];
    for (name, program) in programs {
        let begin = Instant::now();
        let score = code.score(&program, "assert False").unwrap();
        let took = begin.elapsed();
        println!("{name}: {:.2} s, {}", took.as_secs_f32(), score.reason);
        assert_eq!(score.value, 0.0, "{name}");
        assert!(took < Duration::from_secs(SECONDS + 4), "{name} took {took:?}");
    }
    // What has to be impossible, not only fail its test: these would pass if the wall were missing.
    for (name, program) in [
        ("the folder outside", write(&outside)),
        ("the repository", write(&home)),
        ("the environment", "import os; assert 'LLAMA_SVF_SECRET' in str(os.environ)".to_owned()),
        ("a file outside", "open('/etc/passwd').read()".to_owned()),
        ("the test's process", format!("import os; os.kill({}, 0)", std::process::id())),
        ("/proc", "open('/proc/self/environ').read()".to_owned()),
    ] {
        assert_eq!(code.score(&program, "pass").unwrap().value, 0.0, "{name} can be reached");
    }
    assert!(!outside.exists() && !home.exists());
    let left = processes("1234567");
    assert!(left.is_empty(), "{left:?}");
    let left = processes("__sandbox");
    assert!(left.iter().all(|line| !line.contains("\"seconds\":2,")), "{left:?}");
}

#[test]
fn honest_programs_pass_and_may_use_their_folder() {
    let code = code(5);
    for (program, tests, value) in [
        ("def f(x): return x + 1", "assert f(1) == 2", 1.0),
        ("def f(x): return x - 1", "assert f(1) == 2", 0.0),
        ("def f(x: return", "assert f(1) == 2", 0.0),
        ("open('a.txt', 'w').write('hi')", "assert open('a.txt').read() == 'hi'", 1.0),
        ("import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()", "pass", 1.0),
        ("print('é\\n' * 100)", "pass", 1.0),
        (
            "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: 'int'\n",
            "assert A(1).x == 1",
            1.0,
        ),
        ("import math, re, collections, itertools, heapq, random, json", "pass", 1.0),
        ("assert input", "pass", 1.0),
        ("x = 1", "assert x == 1\nassert __name__ == 'solution'", 1.0),
    ] {
        let score = code.score(program, tests).unwrap();
        assert_eq!(score.value, value, "{program}: {}", score.reason);
    }
    let failed = code.score("x = 1", "assert x == 2, 'x is not two'").unwrap();
    assert_eq!(failed.reason, "failed: AssertionError: x is not two");
}

#[test]
fn folders_do_not_stay_behind() {
    let folder = tempfile::tempdir().unwrap();
    // A process of its own, because the folder for temporary files is chosen by the environment.
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sandbox::honest_programs_pass_and_may_use_their_folder"])
        .env("TMPDIR", folder.path())
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stdout));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn only_a_launcher_is_started() {
    let error = Code::new(Some(PathBuf::from("/bin/true")), Limits::default()).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("this program did not start the sandbox (exit status: 0)"), "{error}");
    // The program of these tests does not call sandbox::main; it would run them all again.
    let error = Code::new(None, Limits::default()).unwrap_err().to_string();
    assert!(error.contains("reward::code::sandbox::main"), "{error}");
}
