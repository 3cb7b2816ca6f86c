//! The check of a task: gold completions that its own reward does not take, and stop strings in them.

use std::fs;

use llama_svf::progress::{Interrupt, Silent};
use llama_svf::task::{Check, LoadOptions, Task, SKILLS};

use crate::{all, options, shared};

fn check(task: &Task) -> Check {
    task.check(&all(task), &Silent, &Interrupt::new()).unwrap()
}

fn load(text: &str, rows: &str) -> Task {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rows.jsonl"), rows).unwrap();
    let path = folder.path().join("task.toml");
    fs::write(&path, format!("{text}\n[data]\ntest = [\"rows.jsonl\"]\n")).unwrap();
    Task::load(path.to_str().unwrap(), &LoadOptions::default()).unwrap()
}

const ROWS: &str =
    "{\"q\": \"Capital of France?\", \"a\": \"Paris\"}\n{\"q\": \"Of Spain?\", \"a\": \"Madrid\"}\n";

#[test]
fn faults_are_found() {
    let task = |completion: &str, rest: &str| {
        let reward = "[reward]\nkind = \"text\"\npattern = 'It is ([^.]*)'\n";
        load(&format!("prompt = \"{{{{ q }}}}\"\ngold = \"{{{{ a }}}}\"\ncompletion = \"{completion}\"\n{reward}{rest}"), ROWS)
    };
    let good = check(&task("It is {{ a }}.", ""));
    assert_eq!((good.n_checked, good.n_cut, good.faults.len()), (2, 0, 0));
    // The completion is not written as the reward wants it.
    let bad = check(&task("{{ a }}", ""));
    assert_eq!((bad.n_checked, bad.faults.len()), (2, 2));
    assert!(bad.faults[0].id.contains("rows.jsonl:") && bad.faults[0].score == 0.0, "{:?}", bad.faults);
    // One of two.
    let half = check(&task("It is {{ a | replace('Paris', 'London') }}.", ""));
    assert_eq!(half.faults.len(), 1);
    assert!(half.faults[0].id.ends_with("rows.jsonl:1"), "{:?}", half.faults);
    // A stop string before the answer, at its beginning, and after it.
    let cut = check(&task("Well.\\nIt is {{ a }}.", "[generation]\nstop = [\"Z\", \"\\n\"]"));
    assert_eq!((cut.n_cut, cut.faults.len()), (0, 2));
    assert!(cut.faults[0].reason.ends_with(r#"the stop string "\n" cuts it off"#), "{:?}", cut.faults);
    assert_eq!(check(&task("It is {{ a }}.", "[generation]\nstop = [\"It\"]")).faults.len(), 2);
    let after = check(&task("It is {{ a }}.\\nYes.", "[generation]\nstop = [\"\\n\"]"));
    assert_eq!((after.n_cut, after.faults.len()), (2, 0));
}

#[test]
fn interrupts_end_it() {
    let task = Task::load("math", &LoadOptions::default()).unwrap();
    let interrupt = Interrupt::new();
    interrupt.raise();
    assert!(task.check(&all(&task), &Silent, &interrupt).unwrap_err().is_interrupted());
}

#[test]
fn built_in_tasks_and_public_data_are_in_order() {
    for name in SKILLS {
        assert_eq!(check(&Task::load(name, &LoadOptions::default()).unwrap()).faults, []);
    }
    for (preset, file) in [
        ("gsm8k", "gsm8k/test.jsonl.gz"),
        ("arc-challenge", "arc/arc_challenge.jsonl.gz"),
        ("hendrycks-math", "math/math.jsonl.gz"),
        ("humaneval", "humaneval/HumanEval.jsonl.gz"),
    ] {
        let Some(path) = shared(file) else { return };
        let task = Task::load(preset, &options(&[path])).unwrap();
        let found = check(&task);
        println!("{preset}: {} checked, {} cut", found.n_checked, found.n_cut);
        assert_eq!(found.faults, [], "{preset}");
    }
}
