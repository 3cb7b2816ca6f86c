//! The embedded model: the file is the one README.md describes, llama.cpp loads it and answers with it.

#[path = "support/program.rs"]
#[allow(dead_code)]
mod program;

use std::collections::HashSet;

use llama_svf::embedded::{bytes, write_to, Temporary};
use llama_svf::engine::scheduler::Generate;
use llama_svf::engine::{ChatMessage, Model, Request, Scheduler, SessionOptions};
use llama_svf::expert::Mixture;
use llama_svf::ffi::gguf::GgufFile;
use llama_svf::sidecar::Fingerprint;
use llama_svf::skills::{corpus, naming, question, short_answer, Skill};
use program::{assert_code, number, stdout, svf, words};
use serde_json::Value;

/// blake3 of the file; README.md names it too.
const CHECKSUM: &str = "bcf129d3f9569fcf443ea2d2de8dc16ddb38a142696204a7bade2779026db9a7";

/// Seed of the questions.
const SEED: u64 = 11;

/// What the model says to `prompt` at temperature 0.
fn answer(scheduler: &Scheduler, prompt: &str) -> String {
    let tokens = scheduler.model().chat_prompt(&[ChatMessage::user(prompt)]).unwrap().tokens;
    let request = Request::generate(tokens, Mixture::base(), Generate::greedy(100));
    scheduler.submit(request).unwrap().completion().unwrap().text
}

#[test]
fn the_file_is_the_one_described() {
    assert!(bytes().len() <= 6_000_000, "{} bytes", bytes().len());
    assert_eq!(blake3::hash(bytes()).to_hex().as_str(), CHECKSUM);
    let readme = include_str!("../src/embedded/README.md");
    assert!(readme.contains(CHECKSUM));
}

#[test]
fn it_is_written_whole_and_only_when_it_has_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_to(folder.path()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes());
    let written = std::fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(write_to(folder.path()).unwrap(), path);
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), written);
    std::fs::write(&path, "cut off").unwrap();
    write_to(folder.path()).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes());
    assert!(write_to(folder.path().join("missing")).unwrap_err().to_string().contains("cannot write"));
    let model = Temporary::new().unwrap();
    let (folder, path) = (model.folder().to_path_buf(), model.path().to_path_buf());
    assert!(path.starts_with(&folder) && path.exists());
    drop(model);
    assert!(!folder.exists());
}

/// They were trained on it, and their files are whole.
#[test]
fn its_experts_fit_it() {
    let file = Temporary::new().unwrap();
    let model = Fingerprint::of_model(&GgufFile::open(file.path()).unwrap()).unwrap();
    let experts = file.experts().unwrap();
    assert_eq!(experts.len(), 4);
    for (name, expert) in ["math", "code", "reasoning", "cls"].into_iter().zip(experts) {
        assert_eq!((expert.name.as_str(), &expert.fingerprint), (name, &model));
        assert!(expert.multipliers.values().flatten().any(|&m| m != 1.0), "{name} does nothing");
        assert!(expert.training.is_some() && !expert.description.is_empty(), "{name}");
    }
}

/// As README.md describes it, within what 40 items can tell.
#[test]
fn it_half_masters_each_skill_and_names_them() {
    let file = Temporary::new().unwrap();
    let model = Model::load(file.path(), 0).unwrap();
    let options = SessionOptions { n_threads: 2, ..Default::default() };
    let scheduler = Scheduler::base(&model, 1, &options).unwrap();
    let n = 40;
    let share = |item: &dyn Fn(u64) -> llama_svf::skills::Question| {
        let right = (0..n).filter(|&index| {
            let item = item(index);
            short_answer(&answer(&scheduler, &item.prompt)) == Some(item.answer.as_str())
        });
        right.count() as f64 / n as f64
    };
    for skill in Skill::ALL {
        let found = share(&|index| question(skill, false, SEED, index));
        println!("{skill}: {found} of {n}, seed {SEED}");
        let expected = match skill {
            Skill::Math => 0.4..0.86,
            Skill::Code => 0.1..0.52,
            Skill::Reasoning => 0.2..0.64,
        };
        assert!(expected.contains(&found), "{skill}: {found}");
    }
    let found = share(&|index| naming(false, SEED, index));
    println!("skill-name: {found} of {n}, seed {SEED}");
    assert!(found > 0.9, "skill-name: {found}");
}

/// Of `arguments`, which end with `--json`.
fn json(arguments: &str) -> Value {
    let output = svf(words(std::path::Path::new("."), arguments));
    assert_code(&output, 0);
    serde_json::from_str(stdout(&output)).unwrap()
}

/// Without `-m`, `--svf` and `--expert` everything is there: the model names the skill, and its experts answer.
#[test]
fn it_adapts_itself_to_the_skill_of_a_question() {
    let stream = "eval --task math,code,reasoning -n 180 --json --adapt classifier --against";
    let base = json(&format!("{stream} base"));
    let oracle = json(&format!("{stream} oracle"));
    println!("{base:#}\n{oracle:#}");
    assert!(number(&base, "/dispatch/accuracy") >= 0.95);
    assert!(number(&base, "/delta") > 0.15 && number(&base, "/p_value") < 1e-3);
    assert!(number(&oracle, "/delta") >= -0.02);
    let question = question(Skill::Code, false, SEED, 0).prompt;
    let output = svf(["run", "--adapt", "prompt", "--chat", "--temp", "0", "--json", "-p", &question]);
    assert_code(&output, 0);
    let run: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!((&run["label"], &run["mixture"]["code"]), (&"code".into(), &1.0.into()), "{run:#}");
}

/// A few examples of a form that it never saw are enough to find experts that help.
#[test]
fn it_adapts_itself_to_an_unseen_form_by_a_few_examples() {
    for task in ["math-unseen", "code-unseen", "reasoning-unseen"] {
        let found = json(&format!("adapt --task {task} --preset light -n 150 --json"));
        let [delta, p] = ["delta", "p_value"].map(|key| number(&found, &format!("/test/against_base/{key}")));
        println!("{task}: {delta:+.3}, p = {p:.1e}; {}", found["mixture"]);
        assert!(delta > 0.05 && p < 0.05, "{task}");
    }
}

/// Tokens are what the model was pretrained on: nothing is left as bytes, digits stand alone, and the
/// chat template's marks are single tokens.
#[test]
fn it_reads_its_own_world_in_few_tokens() {
    let file = Temporary::new().unwrap();
    let model = Model::load(file.path(), 0).unwrap();
    assert_eq!(model.tokenize("<|im_start|><|im_end|>", true, true).unwrap().len(), 2);
    let mut used = HashSet::new();
    for index in 0..1000 {
        let example = corpus::example(SEED, index);
        let text = format!("{}\n{}", example.prompt, example.completion);
        let tokens = model.tokenize(&text, true, true).unwrap();
        let back: Vec<u8> = tokens.iter().flat_map(|&token| model.piece(token)).collect();
        assert_eq!(String::from_utf8(back).unwrap(), text);
        for &token in &tokens {
            let piece = String::from_utf8(model.piece(token)).unwrap();
            assert!(piece.len() == 1 || !piece.contains(|c: char| c.is_ascii_digit()), "{piece:?}");
        }
        assert!(tokens.len() < 128, "{} tokens", tokens.len());
        used.extend(tokens);
    }
    println!("{} of {} tokens used", used.len(), model.n_vocab());
    let text = "Any text at all: žluťoučký kůň 🐎";
    let back: Vec<u8> =
        model.tokenize(text, true, true).unwrap().iter().flat_map(|&token| model.piece(token)).collect();
    assert_eq!(String::from_utf8(back).unwrap(), text);
}
