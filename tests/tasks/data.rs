//! Public data through the tasks' own path: prompt, answer, check.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::Instant;

use llama_svf::task::{Item, Part, Task, SKILLS};

use crate::{all, options, shared, value};

fn load(preset: &str, files: &[&str]) -> Option<Task> {
    let files: Option<Vec<PathBuf>> = files.iter().map(|file| shared(file)).collect();
    Some(Task::load(preset, &options(&files?)).unwrap())
}

/// Every gold answer scores 1, a wrong one and an empty one 0.
fn check(task: &Task, n: usize, wrong: impl Fn(&Item, usize) -> String) {
    let items = all(task);
    assert_eq!(items.len(), n);
    let mut failures = Vec::new();
    for (at, item) in items.iter().enumerate() {
        if value(task, item, &item.completion) != 1.0 {
            let reason = task.score(item, &item.completion).unwrap().reason;
            failures.push(format!("{} scores 0: {reason}", item.id));
        }
        let wrong = wrong(item, at);
        if value(task, item, &wrong) != 0.0 {
            failures.push(format!("{}: '{wrong}' scores 1, gold {}", item.id, item.gold));
        }
        assert_eq!(value(task, item, ""), 0.0, "{}", item.id);
        assert_eq!(value(task, item, " \n"), 0.0, "{}", item.id);
        for stop in &task.generation().stop {
            assert!(!item.completion.contains(stop.as_str()), "{} contains a stop string", item.id);
        }
    }
    assert!(failures.is_empty(), "{} of {n} items:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn gsm8k() {
    let Some(task) = load("gsm8k", &["gsm8k/train.jsonl.gz", "gsm8k/test.jsonl.gz"]) else { return };
    check(&task, 7473 + 1319, |item, _| {
        let gold: i64 = item.gold.replace(',', "").parse().unwrap();
        item.completion.rsplit_once("####").unwrap().0.to_owned() + &format!("#### {}", gold + 1)
    });
}

#[test]
fn math() {
    let Some(task) = load("hendrycks-math", &["math/math.jsonl.gz"]) else { return };
    let golds: Vec<String> = all(&task).iter().map(|item| item.gold.clone()).collect();
    // Another item's answer with other digits, without units.
    check(&task, 5000, |item, at| {
        let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
        let differs = |gold: &&String| {
            !gold.contains("\\text") && !gold.contains("\\mbox") && digits(gold) != digits(&item.gold)
        };
        let other = golds[at + 1..].iter().chain(&golds).find(differs).unwrap();
        format!("It is \\boxed{{{other}}}.")
    });
    check(&task, 5000, |item, _| format!("It is \\boxed{{{}+1}}.", item.gold));
}

#[test]
fn arc() {
    for (preset, file, n) in
        [("arc-easy", "arc/arc_easy.jsonl.gz", 2376), ("arc-challenge", "arc/arc_challenge.jsonl.gz", 1172)]
    {
        let Some(task) = load(preset, &[file]) else { return };
        check(&task, n, |item, at| {
            let letter = b'A' + (item.gold.as_bytes()[0] - b'A' + 1 + (at % 3) as u8) % 4;
            item.completion.replace(&format!(" {}.", item.gold), &format!(" {}.", char::from(letter)))
        });
    }
}

/// Runs `check` on all items with two threads; the failures, by order.
fn in_parallel<T: Sync>(items: &[T], check: impl Fn(&T) -> Option<String> + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(failure) = check(item) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    failures
}

#[test]
fn humaneval_and_mbpp() {
    let begin = Instant::now();
    for (preset, file, n) in
        [("humaneval", "humaneval/HumanEval.jsonl.gz", 164), ("mbpp", "mbpp/mbpp.jsonl.gz", 974)]
    {
        let Some(task) = load(preset, &[file]) else { return };
        let items = all(&task);
        assert_eq!(items.len(), n);
        let failures = in_parallel(&items, |item| {
            assert_eq!(value(&task, item, ""), 0.0, "{}", item.id);
            let score = task.score(item, &item.completion).unwrap();
            (score.value != 1.0).then(|| format!("{}: {}", item.id.rsplit('/').next().unwrap(), score.reason))
        });
        println!(
            "{preset}: {} of {n} pass, {:.1} s so far",
            n - failures.len(),
            begin.elapsed().as_secs_f32()
        );
        assert!(failures.is_empty(), "{failures:#?}");
        // A wrong program: another item's.
        let some: Vec<_> = items.iter().copied().take(40).collect();
        let wrong = in_parallel(&some, |item| {
            let other = "    return 'none of the tests expects this'\n";
            let other = if preset == "mbpp" { format!("def f():\n{other}") } else { other.to_owned() };
            (value(&task, item, &other) != 0.0).then(|| item.id.clone())
        });
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// The forms in which chat models give a body back: the answer, and what becomes of the gold one in it.
const FORMS: [fn(&str, &str) -> String; 6] = [
    |head, body| format!("Sure!\n```python\n{head}{body}\n```\nFor example:\n```python\nprint(1 / 0)\n```\n"),
    |head, body| format!("{head}{body}"),
    |_, body| format!("```python\n{body}\n```\n"),
    |_, body| body.trim_start().to_owned(),
    |_, body| format!("{body}\n```\nThis is what it does."),
    |head, body| {
        format!("1. A draft:\n\n   ```\n   {head}\n       raise ValueError\n   ```\n2. Better:\n\n```\n{head}{body}\n```")
    },
];

#[test]
fn humaneval_in_other_forms() {
    let Some(task) = load("humaneval", &["humaneval/HumanEval.jsonl.gz"]) else { return };
    let items = all(&task);
    // LLAMA_SVF_ALL_FORMS runs each item in all forms, which takes six times as long.
    let step = if std::env::var_os("LLAMA_SVF_ALL_FORMS").is_some() { 1 } else { FORMS.len() };
    let pairs: Vec<(&Item, usize)> = items
        .iter()
        .enumerate()
        .flat_map(|(at, &item)| (at % step..FORMS.len()).step_by(step).map(move |form| (item, form)))
        .collect();
    let failures = in_parallel(&pairs, |&(item, form)| {
        let answer = FORMS[form](&item.prompt, &item.completion);
        let score = task.score(item, &answer).unwrap();
        (score.value != 1.0).then(|| format!("{} in form {form}: {}", item.id, score.reason))
    });
    println!("{} of {} pass", pairs.len() - failures.len(), pairs.len());
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn built_in_skills() {
    for name in SKILLS {
        let task = Task::load(name, &options(&[])).unwrap();
        let golds: HashSet<String> = all(&task).iter().map(|item| item.gold.clone()).collect();
        let n = all(&task).len();
        println!("{name}: {n} items, {:?}", task.notes());
        assert!(task.items(Part::Test).len() > 400 && task.items(Part::Validation).len() > 300, "{name}");
        check(&task, n, |item, _| {
            let other = golds.iter().find(|gold| **gold != item.gold).unwrap();
            format!("{}Answer: {other}", item.completion.rsplit_once("Answer: ").unwrap().0)
        });
        check_parts(&task);
        let again = Task::load(name, &options(&[])).unwrap();
        let ids = |task: &Task| all(task).iter().map(|item| item.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&task), ids(&again));
    }
}

/// No prompt twice, in any part.
pub fn check_parts(task: &Task) {
    let prompts: HashSet<&str> = all(task).iter().map(|item| item.prompt.as_str()).collect();
    assert_eq!(prompts.len(), all(task).len(), "{}", task.name());
}

#[test]
fn public_data_is_split_into_disjoint_parts() {
    let (Some(train), Some(test)) = (shared("gsm8k/train.jsonl.gz"), shared("gsm8k/test.jsonl.gz")) else {
        return;
    };
    let pool = Task::load("gsm8k", &options(&[train.clone(), test.clone()])).unwrap();
    check_parts(&pool);
    assert_eq!(Part::ALL.map(|part| pool.items(part).len()), [7034, 879, 879]);
    let own = [format!("train={}", train.display()).into(), format!("test={}", test.display()).into()];
    let own = Task::load("gsm8k", &options(&own)).unwrap();
    check_parts(&own);
    assert_eq!(own.items(Part::Test).len(), 1319);
    assert_eq!(own.items(Part::Train).len() + own.items(Part::Validation).len(), 7473);
    assert!(own.items(Part::Test).iter().all(|item| item.id.contains("test.jsonl.gz:")));
}
