//! Scores by programs of one's own: good ones, and all the ways in which one can fail.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use llama_svf::task::{LoadOptions, Part, Task};
use tempfile::TempDir;

use crate::all;

/// Reads lines, and scores each with what stands in `body`, where `q` is the question.
fn python(body: &str) -> String {
    format!("import json, os, sys, time\nn = 0\nfor line in sys.stdin:\n    q = json.loads(line)\n    n += 1\n    {body}\n")
}

/// A folder with a task that 'score.py' scores.
struct Folder(TempDir);

impl Folder {
    fn new(program: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let row = |i: usize| {
            format!("{{\"q\": \"What is {i}?\", \"a\": \"{i}\", \"more\": {{\"x\": [{i}, null]}}}}\n")
        };
        folder.write("rows.jsonl", &(0..60).map(row).collect::<String>());
        folder.write("score.py", program);
        folder.write(
            "task.toml",
            "prompt = '{{ q }}'\ngold = '{{ a }}'\n[data]\nfiles = ['rows.jsonl']\n[reward]\nkind = 'command'\n\
             program = ['python3', 'score.py']\nseconds = 5\n",
        );
        folder
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn change(&self, from: &str, to: &str) {
        let path = self.0.path().join("task.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(path, text.replace(from, to)).unwrap();
    }

    fn load(&self) -> Result<Task, String> {
        let options = LoadOptions { allow_exec: true, ..LoadOptions::default() };
        self.load_with(&options)
    }

    fn load_with(&self, options: &LoadOptions) -> Result<Task, String> {
        let path = self.0.path().join("task.toml");
        Task::load(path.to_str().unwrap(), options).map_err(|error| {
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        })
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap_or_default()
    }
}

/// Whether there is a process of this number that is no zombie.
fn is_alive(pid: &str) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

/// Whether a process that was killed is gone soon: of a grandchild nobody tells us.
fn dies(pid: &str) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_alive(pid) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    !is_alive(pid)
}

fn is_zombie(pid: &str) -> bool {
    let status = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    status.rsplit(')').next().is_some_and(|rest| rest.trim().starts_with('Z'))
}

#[test]
fn one_process_scores_all_answers() {
    let folder = Folder::new(&python(
        "ok = q['completion'] == q['gold'] == str(q['row']['more']['x'][0]) == q['row']['a'] and q['prompt'] == q['row']['q']\n    \
         ok = ok and os.getcwd() == os.path.dirname(os.path.realpath(__file__))\n    \
         print(json.dumps({'score': float(ok), 'reason': f'{os.getpid()}'}))",
    ));
    let task = folder.load().unwrap();
    let mut pids = Vec::new();
    for item in all(&task) {
        let right = task.score(item, &item.completion).unwrap();
        let wrong = task.score(item, "seven").unwrap();
        assert_eq!((right.value, wrong.value), (1.0, 0.0));
        pids.extend([right.reason, wrong.reason]);
    }
    pids.dedup();
    assert_eq!(pids.len(), 1, "{pids:?}");
    assert!(is_alive(&pids[0]));
    drop(task);
    assert!(!is_alive(&pids[0]) && !is_zombie(&pids[0]));
}

#[test]
fn answers_may_hold_anything_and_scores_may_come_in_two_forms() {
    let folder = Folder::new(&python(
        "c = q['completion']\n    \
         print({'half': '0.5', 'int': '1', 'exp': ' 1e-1 ', 'obj': '{\"score\": 0.25}', 'why': \
         '{\"score\": 0, \"reason\": \"so \\\\n it \\\\u001b[31m is\", \"more\": 3}', 'slop': '1.0000000000000002'}\
         .get(c, str(float(len(c) / 1000000))))",
    ));
    let task = folder.load().unwrap();
    let item = &task.items(Part::Test)[0];
    let score = |completion: &str| task.score(item, completion).unwrap();
    for (completion, value, reason) in [
        ("half", 0.5, "the program gave 0.5"),
        ("int", 1.0, "the program gave 1"),
        ("exp", 0.1, "the program gave 0.1"),
        ("obj", 0.25, "the program gave 0.25"),
        ("why", 0.0, "so   it  [31m is"),
        ("slop", 1.0, "the program gave 1"),
        ("\"quoted\"\n\r\n\t\\ \u{0} \u{1b}[0m é😀 \u{2028}", 0.000025, "the program gave 0.000025"),
    ] {
        let found = score(completion);
        assert_eq!(found.reason, reason, "{completion}");
        assert!((found.value - value).abs() < 1e-12, "{completion}: {}", found.value);
    }
    // Longer than any pipe is deep.
    assert!((score(&"x".repeat(1_000_000)).value - 1.0).abs() < 1e-12);
    // What is empty is no answer, whatever the program thinks.
    assert_eq!(score(" \n").value, 0.0);
}

#[test]
fn threads_take_turns() {
    let folder = Folder::new(&python("print(1.0 if q['completion'] == q['gold'] else 0.0)"));
    let task = folder.load().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (task, items) = (&task, all(&task));
            scope.spawn(move || {
                for (i, item) in items.iter().enumerate() {
                    let is_right = (i + thread) % 3 == 0;
                    let completion = if is_right { item.gold.clone() } else { format!("not {}", item.gold) };
                    assert_eq!(task.score(item, &completion).unwrap().value, f64::from(u8::from(is_right)));
                }
            });
        }
    });
}

#[test]
fn faults_of_the_program_are_errors_and_the_next_answer_meets_a_fresh_one() {
    let say = "print('first complaint', file=sys.stderr); print('last complaint', file=sys.stderr)\n    ";
    for (body, fragments) in [
        ("print('nan')", vec!["wrote 'nan'", "after 0 scores", "a number from 0 to 1"]),
        ("print('NaN')", vec!["wrote 'NaN'"]),
        ("print(float('inf'))", vec!["wrote 'inf'"]),
        ("print(1.5)", vec!["wrote '1.5'"]),
        ("print(-0.1)", vec!["wrote '-0.1'"]),
        ("print(True)", vec!["wrote 'True'"]),
        ("print('true')", vec!["wrote 'true'"]),
        ("print('good')", vec!["wrote 'good'"]),
        ("print()", vec!["wrote ''"]),
        ("print('\"1\"')", vec!["wrote '\"1\"'"]),
        ("print('[1]')", vec!["wrote '[1]'"]),
        ("print('{}')", vec!["wrote '{}'"]),
        ("print('{\"score\": 2}')", vec!["wrote '{\"score\": 2}'"]),
        ("print('{\"score\": null}')", vec!["wrote '{\"score\": null}'"]),
        ("print('{\"score\": 1, \"reason\": 3}')", vec!["wrote '{\"score\": 1"]),
        ("print('1 2')", vec!["wrote '1 2'"]),
        ("print('loading'); print(1.0)", vec!["wrote 'loading'", "stderr"]),
        ("sys.stdout.buffer.write(bytes([255, 254, 10]))", vec!["wrote '"]),
        ("print('x' * 10_000_000)", vec!["wrote 'xxx", "…"]),
        ("sys.exit(3)", vec!["ended after 0 scores", "exit status: 3", "last complaint"]),
        ("sys.exit(0)", vec!["ended after 0 scores", "exit status: 0", "until its input ends"]),
        ("raise ValueError('broken scorer')", vec!["ended", "exit status: 1", "ValueError: broken scorer"]),
        ("os.kill(os.getpid(), 11)", vec!["ended", "signal: 11"]),
        ("os.close(1)", vec!["ended", "closed its output"]),
    ] {
        let folder = Folder::new(&python(&format!(
            "open('pids', 'a').write(f'{{os.getpid()}}\\n')\n    if q['completion'] == 'fine': print(1); continue\n    {say}{body}"
        )));
        let task = folder.load().unwrap();
        let item = &task.items(Part::Test)[0];
        let error = task.score(item, "x").err().unwrap_or_else(|| panic!("no error: {body}"));
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        println!("{message}");
        assert!(!message.contains('\n') && message.len() < 2000, "{message}");
        for fragment in fragments.iter().chain(&["python3: item ", "rows.jsonl:", "last complaint"]) {
            assert!(message.contains(fragment), "{body}: no '{fragment}' in: {message}");
        }
        assert_eq!(task.score(item, "fine").unwrap().value, 1.0, "{body}");
        let pids = folder.read("pids");
        let pids: Vec<_> = pids.lines().collect();
        assert!(pids.len() == 2 && pids[0] != pids[1], "{body}: {pids:?}");
        assert!(!is_alive(pids[0]) && !is_zombie(pids[0]), "{body}");
    }
}

#[test]
fn lines_that_nobody_asked_for_are_noticed() {
    // With a moment between, the second line lies there before the next question.
    let folder = Folder::new(&python("print(1.0); print(0.0)"));
    let task = folder.load().unwrap();
    let item = &task.items(Part::Test)[0];
    assert_eq!(task.score(item, "x").unwrap().value, 1.0);
    std::thread::sleep(Duration::from_millis(300));
    let error = task.score(item, "x").unwrap_err().to_string();
    assert!(error.contains("a line too many, after 1 scores: '0.0'"), "{error}");
    // A program for one answer only.
    let folder = Folder::new(&python("print(1.0); break"));
    let task = folder.load().unwrap();
    let item = &task.items(Part::Test)[0];
    assert_eq!(task.score(item, "x").unwrap().value, 1.0);
    let error = task.score(item, "x").unwrap_err().to_string();
    assert!(error.contains("ended after 1 scores") && error.contains("until its input ends"), "{error}");
    // A program that never stops writing is held back.
    let folder = Folder::new("while True: print('spam')");
    let task = folder.load().unwrap();
    let error = task.score(&task.items(Part::Test)[0], "x").unwrap_err().to_string();
    assert!(error.contains("spam"), "{error}");
}

#[test]
fn programs_that_hang_are_killed_with_what_they_started() {
    const SECONDS: u64 = 3;
    let hang = |body: &str| {
        let folder = Folder::new(&format!(
            "import os, sys\nopen('pid', 'w').write(str(os.getpid()))\nprint('busy', file=sys.stderr)\n{}",
            python(&format!("if q['completion'] == 'fine': print(1); continue\n    {body}"))
        ));
        folder.change("seconds = 5", &format!("seconds = {SECONDS}"));
        let task = folder.load().unwrap();
        let item = &task.items(Part::Test)[0];
        while folder.read("pid").is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Longer than the pipe is deep: we must not hang in writing either.
        for completion in ["x".to_owned(), "x".repeat(3_000_000)] {
            let began = Instant::now();
            let error = task.score(item, &completion).unwrap_err().to_string();
            assert!(began.elapsed() < Duration::from_secs(SECONDS + 5), "{body}: {:?}", began.elapsed());
            assert!(error.contains("no score within 3 s") && error.contains("reward.seconds"), "{error}");
            assert!(error.contains("busy"), "{error}");
            for name in ["pid", "child"] {
                let pid = folder.read(name);
                assert!(pid.is_empty() || dies(&pid), "{body}: the {name} lives");
            }
        }
        assert_eq!(task.score(item, "fine").unwrap().value, 1.0, "{body}");
    };
    std::thread::scope(|scope| {
        for body in [
            "time.sleep(1000)",
            // Without a new line.
            "sys.stdout.write('1.0'); time.sleep(1000)",
            // radixark/miles#3221, Tencent-Hunyuan/UniRL#462: a scorer that computes without end.
            "while True: pass",
            // LLM360/Reasoning360#109, google/turbinia#963: children that outlive the scorer and hold its pipes.
            "import subprocess; p = subprocess.Popen(['sleep', '1000']); open('child', 'w').write(str(p.pid)); \
             time.sleep(1000)",
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGINT, signal.SIG_IGN); \
             time.sleep(1000)",
        ] {
            scope.spawn(move || hang(body));
        }
    });
    // One that reads nothing and never ends goes with its task.
    let folder = Folder::new("import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(1000)");
    let task = folder.load().unwrap();
    while folder.read("pid").is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = folder.read("pid");
    assert!(is_alive(&pid));
    drop(task);
    assert!(!is_alive(&pid) && !is_zombie(&pid));
}

#[test]
fn a_program_may_take_its_time_to_end() {
    let folder = Folder::new(&(python("print(1)") + "open('done', 'w').write(str(n))\n"));
    let task = folder.load().unwrap();
    let items = all(&task);
    for item in &items[..3] {
        task.score(item, "x").unwrap();
    }
    drop(items);
    drop(task);
    assert_eq!(folder.read("done"), "3", "its input ended, and it could go on to its end");
}

#[test]
fn programs_that_cannot_start_are_refused_with_the_line() {
    let refused = |from: &str, to: &str, fragments: &[&str]| {
        let folder = Folder::new(&python("print(1)"));
        folder.write("plain", "print(1)");
        folder.write("no-interpreter", "#!/no/such/program\n");
        folder.write("no-shebang", "\u{7f}nothing");
        for name in ["no-interpreter", "no-shebang"] {
            fs::set_permissions(folder.0.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder.change(from, to);
        let error = folder.load().err().unwrap_or_else(|| panic!("was accepted: {to}"));
        println!("{error}");
        for fragment in fragments {
            assert!(error.contains(fragment), "{to}: no '{fragment}' in: {error}");
        }
    };
    let program = "['python3', 'score.py']";
    refused(program, "[]", &["task.toml:7: reward.program: expected the words of a command"]);
    refused(program, "'python3 score.py'", &["task.toml:5: [reward]: ", "expected a sequence"]);
    refused(program, "[3]", &["task.toml:5: [reward]: ", "expected a string"]);
    refused(program, "['score.py']", &["score.py: reward.program: cannot start", "written ./score.py"]);
    refused(program, "['./none.py']", &["none.py: reward.program: cannot start", "No such file"]);
    refused(program, "['./plain']", &["plain: reward.program: cannot start", "chmod +x"]);
    refused(
        program,
        "['./no-interpreter']",
        &["no-interpreter: reward.program: cannot start", "its first line names"],
    );
    refused(program, "['./no-shebang']", &["no-shebang: reward.program: cannot start", "#!"]);
    refused(program, "['']", &["reward.program: cannot start"]);
    refused("seconds = 5", "seconds = 0", &["task.toml:8: reward.seconds: expected 1 to 3600, found 0"]);
    refused("seconds = 5", "seconds = 4000", &["task.toml:8: reward.seconds: "]);
    refused("seconds = 5", "second = 5", &["task.toml:8: second: unknown field", "did you mean seconds?"]);

    let folder = Folder::new(&python("open('ran', 'w'); print(1)"));
    let error = folder.load_with(&LoadOptions::default()).err().unwrap();
    assert!(error.contains("task.toml:6: reward.kind: ") && error.contains("`allow_exec`"), "{error}");

    // A program with a slash stands beside the task file, wherever we are.
    let folder = Folder::new(&format!("#!/usr/bin/env python3\n{}", python("print(1)")));
    fs::set_permissions(folder.0.path().join("score.py"), fs::Permissions::from_mode(0o755)).unwrap();
    folder.change(program, "['./score.py']");
    let task = folder.load().unwrap();
    assert_eq!(task.score(&task.items(Part::Test)[0], "x").unwrap().value, 1.0);
}

#[test]
fn tasks_of_a_stream_have_programs_of_their_own() {
    let folder = Folder::new(&python("print(1.0 if q['row']['q'].startswith('What') else 0.0)"));
    let task = fs::read_to_string(folder.0.path().join("task.toml")).unwrap();
    folder.write("other.toml", &task.replace("score.py", "other.py").replace("{{ q }}", "Say {{ a }}"));
    folder.write("other.py", &python("print(0.5)"));
    let names =
        ["task.toml", "other.toml"].map(|name| folder.0.path().join(name).display().to_string()).join(",");
    let stream = Task::load(&names, &LoadOptions { allow_exec: true, ..LoadOptions::default() }).unwrap();
    for item in all(&stream) {
        let expected = if stream.source(item) == "task" { 1.0 } else { 0.5 };
        assert_eq!(stream.score(item, "x").unwrap().value, expected);
    }
}
