//! Rows as data sets are downloaded: the forms that presets read, what they refuse, and files of other formats.

use std::fs;
use std::path::PathBuf;

use llama_svf::task::{Item, Part, Task};
use serde_json::{json, Value};

use crate::{all, options, shared, value};

/// Loads `rows` with a preset; the message if they are refused.
fn load(preset: &str, rows: &[Value]) -> Result<Task, String> {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    load_text(preset, "rows.jsonl", text.as_bytes())
}

fn load_text(preset: &str, name: &str, text: &[u8]) -> Result<Task, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    let test = PathBuf::from(format!("test={}", path.display()));
    Task::load(preset, &options(&[test])).map_err(|error| {
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        assert!(!message.contains('\n'));
        message.replace(&format!("{}/", folder.path().display()), "")
    })
}

fn only(task: &Task) -> &Item {
    assert_eq!(all(task).len(), 1);
    &task.items(Part::Test)[0]
}

fn arc(texts: &[&str], labels: &[&str], key: &str) -> Value {
    json!({
        "id": "Mercury_7175875",
        "question": "Which is the most likely effect?",
        "choices": { "text": texts, "label": labels },
        "answerKey": key,
    })
}

/// Labels are letters or digits, of three, four or five options: the model sees letters, and the key counts by its place
/// (confident-ai/deepeval#2352, #3070, modelscope/evalscope#1516, bigscience-workshop/promptsource#699).
#[test]
fn arc_as_it_is_downloaded() {
    let texts = ["denser", "longer", "shorter", "stronger", "colder"];
    for (n, labels, key, letter) in [
        (4, &["A", "B", "C", "D"][..], "C", 'C'),
        (4, &["1", "2", "3", "4"], "4", 'D'),
        (4, &["1", "2", "3", "4"], "1", 'A'),
        (3, &["A", "B", "C"], "A", 'A'),
        (3, &["1", "2", "3"], "2", 'B'),
        (5, &["A", "B", "C", "D", "E"], "E", 'E'),
        (5, &["1", "2", "3", "4", "5"], "3", 'C'),
        // What a careless data set might do.
        (4, &["E", "F", "G", "H"], "F", 'B'),
    ] {
        for preset in ["arc-easy", "arc-challenge"] {
            let task = load(preset, &[arc(&texts[..n], labels, key)]).unwrap();
            let item = only(&task);
            assert_eq!(item.gold.chars().next(), Some(letter), "{labels:?} {key}: {}", item.gold);
            assert_eq!(item.completion, format!("The answer is {letter}."));
            assert!(item.prompt.contains(&format!("{letter}. {}", texts[letter as usize - 'A' as usize])));
            for other in ('A'..='E').take(n) {
                let score = value(&task, item, &format!("The answer is {other}."));
                assert_eq!(score, f64::from(u8::from(other == letter)), "{labels:?} {key}: {other}");
            }
        }
    }
    let error = load("arc-easy", &[arc(&texts[..4], &["A", "B", "C", "D"], "E")]).err().unwrap();
    assert!(
        error.starts_with("rows.jsonl:1: rows.set.gold: ") && error.contains("'E' is not in the list"),
        "{error}"
    );
    let original = json!({
        "id": "MCAS_1",
        "question": {
            "stem": "Which is hot?",
            "choices": [{ "text": "ice", "label": "A" }, { "text": "fire", "label": "B" }],
        },
        "answerKey": "B",
    });
    let task = load("arc-challenge", &[original]).unwrap();
    assert_eq!(only(&task).completion, "The answer is B.");
    assert!(only(&task).prompt.starts_with("Which is hot?\n\nA. ice\nB. fire\n"), "{}", only(&task).prompt);
    // The form of ../shared, beside the others in one file.
    let republished = json!({ "query": "Question: Which is cold?", "choices": ["ice", "fire"], "gold": 0 });
    let task = load("arc-easy", &[arc(&["a", "b"], &["1", "2"], "2"), republished]).unwrap();
    let item = all(&task).into_iter().find(|item| item.prompt.starts_with("Which is cold?")).unwrap();
    assert_eq!(item.completion, "The answer is A.");
}

/// The questions of ../shared/data/arc, rewritten into the form of ai2_arc with digits, are the same items.
#[test]
fn arc_in_another_form_is_the_same() {
    let Some(path) = shared("arc/arc_challenge.jsonl.gz") else { return };
    let ours = Task::load("arc-challenge", &options(std::slice::from_ref(&path))).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(
        &mut flate2::read::GzDecoder::new(fs::File::open(path).unwrap()),
        &mut text,
    )
    .unwrap();
    let rows: Vec<Value> = text
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let choices = row["choices"].as_array().unwrap();
            let labels: Vec<_> = (1..=choices.len()).map(|label| label.to_string()).collect();
            json!({
                "question": row["query"].as_str().unwrap().trim_start_matches("Question: "),
                "answerKey": labels[row["gold"].as_u64().unwrap() as usize],
                "choices": { "text": choices, "label": labels },
            })
        })
        .collect();
    let theirs = load("arc-challenge", &rows).unwrap();
    let mut ours: Vec<_> = all(&ours).into_iter().map(|item| (&item.prompt, &item.gold)).collect();
    let mut theirs: Vec<_> = all(&theirs).into_iter().map(|item| (&item.prompt, &item.gold)).collect();
    ours.sort();
    theirs.sort();
    assert_eq!(ours.len(), 1172);
    assert_eq!(ours, theirs);
}

/// marin-community/marin#661: the two halves of MBPP name their fields differently.
#[test]
fn mbpp_full_and_sanitized() {
    let code = "def area(r):\n    return math.pi * r * r";
    let tests = json!(["assert round(area(1)) == 3", "assert round(area(2)) == 13", "assert area(0) == 0"]);
    let full = json!({
        "text": "Write a function to find the area of a circle.", "code": format!("import math\n{code}"), "task_id": 1,
        "test_setup_code": "", "test_list": tests, "challenge_test_list": [],
    });
    let sanitized = json!({
        "source_file": "Benchmark Questions Verification V2.ipynb", "task_id": 1,
        "prompt": "Write a function to find the area of a circle.", "code": code,
        "test_imports": ["import math", "import os"], "test_list": tests,
    });
    let (full, half) =
        (load("mbpp", &[full]).unwrap(), load("mbpp", std::slice::from_ref(&sanitized)).unwrap());
    assert_eq!(only(&full).prompt, only(&half).prompt);
    for task in [&full, &half] {
        let item = only(task);
        assert_eq!(value(task, item, &item.completion), 1.0);
        assert_eq!(value(task, item, "def area(r):\n    return 3"), 0.0);
        assert!(item.prompt.contains("area(1)") && item.prompt.contains("area(2)"));
    }
    // The prompt shows one test, the others grade.
    let hidden = load("mbpp-hidden", std::slice::from_ref(&sanitized)).unwrap();
    let item = only(&hidden);
    assert!(item.prompt.contains("area(1)") && !item.prompt.contains("area(2)"), "{}", item.prompt);
    assert!(!item.prompt.contains("area(0)"));
    assert_eq!(value(&hidden, item, &item.completion), 1.0);
    assert_eq!(
        value(&hidden, item, "def area(r):\n    return 3"),
        0.0,
        "what is right for the shown test only"
    );
    let mut one = sanitized;
    one["test_list"] = json!(["assert area(0) == 0"]);
    let error = load("mbpp-hidden", std::slice::from_ref(&one)).err().unwrap();
    assert!(error.starts_with("rows.jsonl:1: reward.tests: "), "{error}");
    one["test_list"] = json!([]);
    one["test_imports"] = json!([]);
    let error = load("mbpp", &[one]).err().unwrap();
    assert!(error.contains("any program would pass"), "{error}");
}

#[test]
fn mbpp_hidden_on_all_of_mbpp() {
    let Some(path) = shared("mbpp/mbpp.jsonl.gz") else { return };
    let task = Task::load("mbpp-hidden", &options(&[path])).unwrap();
    // Two programs have the same sentence and the same first test.
    assert_eq!(all(&task).len(), 973);
    assert_eq!(task.notes()[0], "1 items had the prompt of another one and were dropped");
    let some: Vec<_> = all(&task).into_iter().step_by(25).collect();
    let check = task.check(&some, &llama_svf::progress::Silent, &Default::default()).unwrap();
    assert!(check.faults.is_empty() && check.n_checked == some.len(), "{:?}", check.faults);
}

#[test]
fn math_as_it_is_downloaded() {
    let problem = "What is half of one?";
    for (row, gold) in [
        (
            json!({ "problem": problem, "level": "Level 1", "type": "Algebra",
                 "solution": "First $\\boxed{2}$? No: it is $\\boxed{\\frac{1}{2}}$." }),
            "\\frac{1}{2}",
        ),
        // Old solutions, without braces or with another frame.
        (json!({ "problem": problem, "solution": "It is $\\boxed 5$." }), "5"),
        (json!({ "problem": problem, "solution": "It is $\\fbox{\\text{(B)}}$." }), "\\text{(B)}"),
        // HuggingFaceH4/MATH-500: the answer stands beside the solution.
        (
            json!({ "problem": problem, "solution": "It is $\\boxed{\\dfrac12}$.", "answer": "\\dfrac12", "subject": "Algebra",
                 "level": 1, "unique_id": "test/algebra/1.json" }),
            "\\dfrac12",
        ),
        // AIME: answers alone, as texts or numbers.
        (json!({ "id": 60, "problem": problem, "answer": "204" }), "204"),
        (json!({ "problem": problem, "answer": 204, "solution": null }), "204"),
        (
            json!({ "context": problem, "answer": "\\pi", "chain_of_thought": "It is $\\boxed{\\pi}$." }),
            "\\pi",
        ),
    ] {
        let task = load("hendrycks-math", std::slice::from_ref(&row))
            .unwrap_or_else(|error| panic!("{row}: {error}"));
        let item = only(&task);
        assert_eq!(item.gold, gold, "{row}");
        assert!(item.prompt.starts_with(problem));
        assert_eq!(value(&task, item, &item.completion), 1.0, "{row}");
        assert_eq!(value(&task, item, "It is $\\boxed{17}$."), 0.0, "{row}");
    }
    let error = load("hendrycks-math", &[json!({ "problem": "?", "solution": "It is 5." })]).err().unwrap();
    assert!(error.starts_with("rows.jsonl:1: rows.set.answer: ") && error.contains("\\boxed"), "{error}");
}

#[test]
fn gsm8k_and_its_translations() {
    let task =
        load("gsm8k", &[json!({ "question": "How many?", "answer": "2<<1+1=2>>\n#### 1,002" })]).unwrap();
    assert_eq!((only(&task).gold.as_str(), only(&task).completion.as_str()), ("1,002", "2\n#### 1,002"));
    // juletxara/mgsm: no solution, and a number of its own.
    let row =
        json!({ "question": "¿Cuántos?", "answer": null, "answer_number": 18, "equation_solution": null });
    let task = load("gsm8k", &[row]).unwrap();
    assert_eq!((only(&task).gold.as_str(), only(&task).completion.as_str()), ("18", "#### 18"));
}

/// A row that fits no form names what it has, what is wanted, and who reads such rows.
#[test]
fn rows_of_another_data_set_are_refused_with_the_preset_that_reads_them() {
    let gsm = json!({ "question": "How many?", "answer": "#### 1" });
    let math = json!({ "problem": "?", "solution": "$\\boxed{1}$", "level": "Level 1", "type": "Algebra" });
    let code = json!({ "prompt": "def f():\n", "canonical_solution": "    return 1\n", "test": "", "entry_point": "f" });
    let mbpp = json!({ "prompt": "Write f.", "code": "def f(): pass", "test_imports": [], "test_list": ["f()", "f()"] });
    let none = json!({ "goal": "To boil eggs", "sol1": "water", "sol2": "sand", "label": null });
    let own = "name its fields in a task file";
    for (preset, row, parts) in [
        (
            "gsm8k",
            &math,
            &[
                "question: no such field",
                "the row has level, problem, solution, type",
                "question, answer",
                "preset hendrycks-math",
            ][..],
        ),
        ("hendrycks-math", &gsm, &["the row has answer, question", "problem, solution", "preset gsm8k"]),
        (
            "arc-easy",
            &gsm,
            &["choices.text, choices.label, answerKey", "query, choices, gold", "preset gsm8k"],
        ),
        (
            "gsm8k",
            &arc(&["a", "b"], &["A", "B"], "A"),
            &["choices.label, choices.text", "preset arc-easy or arc-challenge"],
        ),
        ("mbpp", &code, &["test_imports", "preset humaneval"]),
        ("humaneval", &mbpp, &["entry_point", "preset mbpp or mbpp-hidden"]),
        ("mbpp", &none, &["goal, label (null), sol1, sol2", own]),
        ("arc-challenge", &none, &["goal, label (null), sol1, sol2", own]),
        ("gsm8k", &json!({}), &["no fields", "question, answer"]),
    ] {
        let error =
            load(preset, std::slice::from_ref(row)).err().unwrap_or_else(|| panic!("{preset} read {row}"));
        println!("{error}");
        assert!(error.starts_with("rows.jsonl:1: "), "{error}");
        for part in parts {
            assert!(error.contains(part), "{preset}: no '{part}' in {error}");
        }
    }
}

/// A file of one's own may use fields that the preset does not know, and forms of its own.
#[test]
fn forms_in_task_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("task.toml");
    let row = json!({ "q": "How many?", "n": 3, "nested": { "deep": { "answer": 4 } } });
    fs::write(folder.path().join("rows.jsonl"), format!("{row}\n")).unwrap();
    let load = |text: &str| {
        fs::write(&path, format!("{text}\n[data]\ntest = [\"rows.jsonl\"]\n")).unwrap();
        Task::load(path.to_str().unwrap(), &options(&[]))
            .map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    };
    // Without a form that fits, the row's own fields do.
    let task =
        load("base = \"gsm8k\"\nprompt = \"{{ q }}\"\ngold = \"{{ n }}\"\ncompletion = \"#### {{ n }}\"")
            .unwrap();
    assert_eq!((only(&task).prompt.as_str(), only(&task).gold.as_str()), ("How many?", "3"));
    // A prompt of one's own is what users ask, unless the file says more.
    assert_eq!(only(&task).question, "How many?");
    let task = load(
        "base = \"gsm8k\"\nprompt = \"{{ q }} Be brief.\"\nquestion = \"{{ q }}\"\ngold = \"{{ n }}\"\n\
         completion = \"#### {{ n }}\"",
    );
    let task = task.unwrap();
    assert_eq!(
        (only(&task).prompt.as_str(), only(&task).question.as_str()),
        ("How many? Be brief.", "How many?")
    );
    let forms =
        "base = \"gsm8k\"\n[[rows]]\nfields = [\"q\", \"nested.deep.answer\"]\nset.question = \"q\"\n\
                 set.answer = \"'#### ' ~ nested.deep.answer\"\n";
    let task = load(forms).unwrap();
    assert_eq!(only(&task).gold, "4");
    let task = load(&format!("{forms}[[rows]]\nfields = [\"q\"]\nset.question = \"'never'\"")).unwrap();
    assert!(only(&task).prompt.starts_with("How many?"), "the first form that fits is taken");
    for (from, to, parts) in [
        ("set.question = \"q\"", "set.question = \"q +\"", &["task.toml:2: set.question: "][..]),
        ("set.question = \"q\"", "set.question = \"q.none\"", &["rows.jsonl:1: rows.set.question: "]),
        ("fields = [\"q\", \"nested.deep.answer\"]", "fields = []", &["task.toml:2: fields: "]),
        ("fields", "field", &["task.toml:3: field: unknown field", "did you mean fields?"]),
        ("nested.deep.answer\"]", "nested.deep.answers\"]", &["nested.deep", "nested.deep.answers"]),
    ] {
        assert!(forms.contains(from));
        let error = load(&forms.replacen(from, to, 1)).err().unwrap_or_else(|| panic!("{to} was accepted"));
        for part in parts {
            assert!(error.contains(part), "{to}: no '{part}' in {error}");
        }
    }
}

/// Other formats are refused with the command that converts them.
#[test]
fn other_formats_are_told_apart() {
    let row = r#"{"question": "How many?", "answer": "It is 7.\n#### 7"}"#;
    let other = r#"{"question": "How much?", "answer": "It is 8.\n#### 8"}"#;
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(row.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<Value>(row).unwrap()).unwrap();
    let table: Vec<(&str, Vec<u8>, &[&str])> = vec![
        (
            "a.parquet",
            b"PAR1\x15\x04\x15\n\x00".to_vec(),
            &["a.parquet: data: ", "Parquet", "read_parquet(", "a.jsonl"],
        ),
        ("a.arrow", b"ARROW1\0\0".to_vec(), &["Arrow"]),
        (
            "a.json",
            format!("[{row}, {other}]").into(),
            &["a.json: data: ", "JSON array", "jq -c '.[]' a.json > a.jsonl"],
        ),
        ("a.json", format!("\n  [\n{row},\n{other}\n]\n").into(), &["JSON array"]),
        ("a.json", pretty.into(), &["several lines", "jq -c . a.json > a.jsonl"]),
        ("a.json", format!("{{\"data\": [\n{row}\n]}}").into(), &["several lines"]),
        ("a.csv", b"question,answer\nHow many?,7\n".to_vec(), &["CSV", "read_csv("]),
        ("a.csv", b"\"question\",\"answer\"\n\"a\",\"b\"\n".to_vec(), &["CSV"]),
        ("a.tsv", b"question\tanswer\nHow many?\t7\n".to_vec(), &["tabs", "read_table"]),
        ("a.zst", b"\x28\xb5\x2f\xfd\x04\x58".to_vec(), &["zstd -d a.zst"]),
        ("a.xz", b"\xfd7zXZ\0\0".to_vec(), &["xz -dk a.xz"]),
        ("a.bz2", b"BZh91AY".to_vec(), &["bzip2 -dk a.bz2"]),
        ("a.zip", b"PK\x03\x04\x14".to_vec(), &["unzip a.zip"]),
        ("a.jsonl", utf16, &["UTF-16", "iconv"]),
        ("a.jsonl", b"<!DOCTYPE html>\n<html>".to_vec(), &["HTML"]),
        (
            "a.jsonl",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n".to_vec(),
            &["git lfs pull"],
        ),
        ("a.jsonl", b"nonsense\n".to_vec(), &["a.jsonl:1: not JSON at column", "one JSON object per line"]),
        ("a.jsonl", format!("{row}\n[1]\n").into(), &["a.jsonl:2: expected a JSON object"]),
        ("a.jsonl", format!("{row}\n{{\n").into(), &["a.jsonl:2: not JSON"]),
    ];
    for (name, bytes, parts) in table {
        let error = load_text("gsm8k", name, &bytes).err().unwrap_or_else(|| panic!("{name} was read"));
        for part in parts {
            assert!(error.contains(part), "{name}: no '{part}' in {error}");
        }
    }
    let error = load_text("gsm8k", "my file.json", b"[]").err().unwrap();
    assert!(error.contains("my file.json'") && error.contains("my file.jsonl'"), "{error}");
    // What editors and other systems leave does no harm.
    for text in [
        format!("\u{feff}{row}\n{other}\n"),
        format!("{row}\r\n\r\n{other}\r\n"),
        format!("\n{row}\n{other}"),
    ] {
        assert_eq!(all(&load_text("gsm8k", "a.jsonl", text.as_bytes()).unwrap()).len(), 2);
    }
}
