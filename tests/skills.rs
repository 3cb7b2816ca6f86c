//! The synthetic skills: the same questions everywhere, answers that hold when worked out another way, and
//! no task's question in the pretraining text.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::process::{Command, Stdio};

use llama_svf::skills::corpus::{self, Style};
use llama_svf::skills::{is_held_out, naming, naming_prompt, question, short_answer, Question, Skill};
use regex::Regex;

/// Seeds the tests draw questions from.
const SEED: u64 = 7;

fn variants() -> impl Iterator<Item = (Skill, bool)> {
    Skill::ALL.into_iter().flat_map(|skill| [(skill, false), (skill, true)])
}

fn questions(skill: Skill, unseen: bool, n: u64) -> Vec<Question> {
    (0..n).map(|index| question(skill, unseen, SEED, index)).collect()
}

/// The first question of each skill and of its unseen variant.
const GOLDEN: &str = r"Finn has 12 pens. Finn gives 6. Finn finds 2. How many pens does Finn have?
= 12, gives 6: 6, finds 2: 8. Answer: 8 (8)

Ivan has 31 toys. Ivan loses 8 and wins 6 and buys 7. How many toys does Ivan have?
= 31, loses 8: 23, wins 6: 29, buys 7: 36. Answer: 36 (36)

What does this print?
c = 13
c += 7
c += 2
print(c)
= c = 13, += 7: 20, += 2: 22. Answer: 22 (22)

What does this print?
v = 16
if v < 19:
    v -= 4
v -= 8
print(v)
= v = 16, < 19 yes, -= 4: 12, -= 8: 4. Answer: 4 (4)

We know: Gus sits left of Dan. Dan sits left of Olga. Olga sits left of Sue. Who is leftmost: Gus, Dan, Sue or Olga?
= Order: Gus, Dan, Olga, Sue. The leftmost is Gus. Answer: Gus (Gus)

We know: Uma is a parent of Ann. Ann is a parent of Dan. Dan is a parent of Leo. Leo is a parent of Sue. Who is youngest: Leo, Uma, Sue or Dan?
= Order: Uma, Ann, Dan, Leo, Sue. The youngest is Sue. Answer: Sue (Sue)";

/// Of the questions, completions and corpus texts that the test hashes.
const GOLDEN_HASH: &str = "1fd2123b7557b58dd9cf62e3fa860e9131b85b77236cd22a82b0d7e6b3bd8447";

#[test]
fn questions_are_the_same_on_every_machine() {
    let shown = |item: Question| format!("{}\n= {} ({})", item.prompt, item.completion, item.answer);
    let shown: Vec<_> = variants().map(|(skill, unseen)| shown(question(skill, unseen, 1, 0))).collect();
    assert_eq!(shown.join("\n\n"), GOLDEN);
    let mut hash = blake3::Hasher::new();
    for (skill, unseen) in variants() {
        for item in questions(skill, unseen, 1000) {
            hash.update(item.prompt.as_bytes()).update(item.completion.as_bytes());
        }
    }
    for index in 0..1000 {
        hash.update(naming(false, SEED, index).prompt.as_bytes());
        hash.update(corpus::example(SEED, index).completion.as_bytes());
    }
    assert_eq!(hash.finalize().to_hex().as_str(), GOLDEN_HASH);
}

#[test]
fn every_completion_ends_with_its_answer() {
    for (skill, unseen) in variants() {
        for item in questions(skill, unseen, 2000) {
            assert_eq!(short_answer(&item.completion), Some(item.answer.as_str()), "{item:?}");
        }
    }
    assert_eq!(short_answer("no answer"), None);
    assert_eq!(short_answer("Answer: 1\nAnswer:  2 \nmore"), Some("2"));
}

/// Reads the sentences and does what they say, and checks every step that the completion states.
#[test]
fn math_answers_hold() {
    let start = Regex::new(r"^\w+ has (?:(\d+) boxes of )?(\d+) \w+\.").unwrap();
    let change =
        Regex::new(r"(?:\. \w+|and) (buys|finds|gets|wins|makes|loses|sells|breaks|gives|drops) (\d+)")
            .unwrap();
    let result = Regex::new(r"(?:^|: )(\d+)(?:,|\.)").unwrap();
    for unseen in [false, true] {
        for item in questions(Skill::Math, unseen, 3000) {
            let found = start.captures(&item.prompt).unwrap();
            let number = |text: &str| text.parse::<i64>().unwrap();
            let boxes = found.get(1).map(|count| number(count.as_str()));
            let mut now = number(&found[2]) * boxes.unwrap_or(1);
            let mut values = vec![now];
            for step in change.captures_iter(&item.prompt) {
                let gain = ["buys", "finds", "gets", "wins", "makes"].contains(&&step[1]);
                now += if gain { number(&step[2]) } else { -number(&step[2]) };
                values.push(now);
            }
            assert_eq!(item.answer, now.to_string(), "{item:?}");
            let stated: Vec<_> =
                result.captures_iter(&item.completion).map(|found| number(&found[1])).collect();
            assert_eq!(stated, values, "{item:?}");
            assert!(values.iter().all(|value| (1..100).contains(value)), "{item:?}");
            // Pretraining has boxes with at most one change, and up to three changes without boxes.
            let expected = match boxes {
                Some(_) => 0..=1,
                None if unseen => 2..=3,
                None => 1..=3,
            };
            assert!(boxes.is_none() || !unseen, "{item:?}");
            assert_eq!(item.prompt.contains(" and "), unseen, "{item:?}");
            assert!(expected.contains(&(values.len() - 1)), "{item:?}");
        }
    }
}

/// Python runs the programs, with the answer put into the blank.
#[test]
fn code_answers_hold() {
    let blank = Regex::new(r"^What is _ if this prints (\d+)\?\n").unwrap();
    let mut expected = Vec::new();
    let mut script = String::new();
    for unseen in [false, true] {
        for item in questions(Skill::Code, unseen, 3000) {
            let (head, program) = item.prompt.split_once('\n').unwrap();
            assert_eq!(program.contains('<'), unseen, "{item:?}");
            assert!(!(program.contains("if ") && program.contains("for ")), "{item:?}");
            if let Some(found) = blank.captures(&item.prompt) {
                script += &program.replace("= _\n", &format!("= {}\n", item.answer));
                expected.push(found[1].to_owned());
            } else {
                assert_eq!(head, "What does this print?");
                script += program;
                expected.push(item.answer);
            }
            script += "\n";
        }
    }
    let Ok(mut python) =
        Command::new("python3").arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()
    else {
        println!("skipped: python3 is not installed");
        return;
    };
    let mut input = python.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(script.as_bytes()));
    let output = python.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let printed: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    assert_eq!(printed, expected);
}

/// Tries every order of the people named, and keeps those in which each pair is as the puzzle says.
#[test]
fn reasoning_answers_hold() {
    let pair = Regex::new(r"(\w+) (?:is \w+ than|sits left of|is a parent of) (\w+)\.").unwrap();
    let asked = Regex::new(r"Who is (\w+): (\w+), (\w+), (\w+) or (\w+)\?").unwrap();
    for unseen in [false, true] {
        for item in questions(Skill::Reasoning, unseen, 1500) {
            let pairs: Vec<_> = pair
                .captures_iter(&item.prompt)
                .map(|found| (found.get(1).unwrap().as_str(), found.get(2).unwrap().as_str()))
                .collect();
            let people: Vec<_> =
                pairs.iter().flat_map(|&(a, b)| [a, b]).collect::<HashSet<_>>().into_iter().collect();
            assert_eq!(people.len(), pairs.len() + 1, "{item:?}");
            let in_order = pairs.windows(2).all(|two| two[0].1 == two[1].0);
            match people.len() {
                3 => assert!(!unseen, "{item:?}"),
                4 => assert!(!unseen && in_order, "{item:?}"),
                n => assert!(unseen && in_order && n == 5, "{item:?}"),
            }
            let place = |order: &[&str], who: &str| order.iter().position(|&other| other == who).unwrap();
            let orders: Vec<_> = permutations(&people)
                .into_iter()
                .filter(|order| pairs.iter().all(|(a, b)| place(order, a) < place(order, b)))
                .collect();
            let [order] = &orders[..] else { panic!("{} orders fit {item:?}", orders.len()) };
            let first = ["tallest", "fastest", "richest", "leftmost", "oldest"];
            let last = ["shortest", "slowest", "poorest", "rightmost", "youngest"];
            let found = asked.captures(&item.prompt).unwrap();
            let word = &found[1];
            assert!(first.contains(&word) || last.contains(&word), "{word}");
            let who = if first.contains(&word) { order[0] } else { order[order.len() - 1] };
            let options: HashSet<_> = (2..6).map(|i| &found[i]).collect();
            assert_eq!(options.len(), 4, "{item:?}");
            assert!(options.contains(who), "{item:?}");
            assert_eq!(who, item.answer, "{item:?}");
        }
    }
}

fn permutations<'a>(people: &[&'a str]) -> Vec<Vec<&'a str>> {
    let Some((first, rest)) = people.split_first() else { return vec![Vec::new()] };
    let put =
        |order: Vec<&'a str>| (0..=order.len()).map(move |i| [&order[..i], &[*first], &order[i..]].concat());
    permutations(rest).into_iter().flat_map(put).collect()
}

#[test]
fn a_skill_is_named_after_its_question() {
    let mut seen = HashMap::new();
    for index in 0..3000 {
        let item = naming(index % 2 == 1, SEED, index);
        let about = match item.prompt {
            ref prompt if prompt.contains("How many") => "math",
            ref prompt if prompt.contains("print(") => "code",
            _ => "reasoning",
        };
        assert_eq!(item.answer, about, "{item:?}");
        *seen.entry(about).or_insert(0) += 1;
    }
    assert!(seen.values().all(|&n| n > 900), "{seen:?}");
}

/// By construction: each question is on one side of `is_held_out`. Checked on what is really emitted, with
/// the seeds and counts of the embedded model's corpus and of other seeds' tasks.
#[test]
fn no_item_of_a_task_occurs_in_pretraining() {
    let hash =
        |text: &str| u128::from_le_bytes(blake3::hash(text.as_bytes()).as_bytes()[..16].try_into().unwrap());
    let mut pretraining = HashSet::new();
    for index in 0..300_000 {
        let example = corpus::example(1, index);
        assert!(!is_held_out(&example.question));
        pretraining.insert(hash(&example.prompt));
        pretraining.insert(hash(&example.question));
    }
    assert!(pretraining.len() > 150_000, "only {} different ones", pretraining.len());
    for seed in [1, SEED, 42] {
        for (skill, unseen) in variants() {
            for index in 0..5000 {
                let prompt = question(skill, unseen, seed, index).prompt;
                assert!(is_held_out(&prompt));
                assert!(!pretraining.contains(&hash(&prompt)), "{prompt}");
                assert!(!pretraining.contains(&hash(&naming_prompt(&prompt))), "{prompt}");
            }
        }
        for index in 0..5000 {
            let prompt = naming(false, seed, index).prompt;
            assert!(!pretraining.contains(&hash(&prompt)), "{prompt}");
        }
    }
}

#[test]
fn there_are_more_than_a_hundred_thousand_questions_of_each_skill() {
    // Tasks take theirs from one eighth of all.
    for skill in Skill::ALL {
        let prompts: HashSet<_> =
            (0..120_000).map(|index| question(skill, false, SEED, index).prompt).collect();
        println!("{skill}: {} different ones in 120000 draws", prompts.len());
        assert!(8 * prompts.len() > 400_000, "{skill}: {}", prompts.len());
    }
}

/// Answers come in the designed proportions, and "wrong" ones are wrong, the others right.
#[test]
fn the_corpus_is_as_good_and_bad_as_designed() {
    let number_of = |style| match style {
        Style::Brief => 0,
        Style::Verbose => 1,
        Style::Wrong => 2,
    };
    let mut counts: HashMap<(Skill, usize), [u32; 3]> = HashMap::new();
    let (mut named, mut misnamed) = (0_u32, 0);
    for index in 0..120_000 {
        let example = corpus::example(SEED, index);
        let truth = answer_elsewhere(&example.question);
        let said = short_answer(&example.completion).unwrap();
        if example.naming {
            named += 1;
            misnamed += u32::from(said != example.skill.name());
            continue;
        }
        if let Some(truth) = truth {
            assert_eq!(said == truth, example.style != Style::Wrong, "{example:?}");
        }
        counts.entry((example.skill, example.feature)).or_default()[number_of(example.style)] += 1;
    }
    assert_eq!(counts.len(), 3 * corpus::FEATURES);
    for ((skill, feature), found) in counts {
        let total = f64::from(found.iter().sum::<u32>());
        for (count, percent) in found.into_iter().zip(corpus::mix(skill, feature)) {
            let p = f64::from(percent) / 100.0;
            // Six standard deviations of a binomial draw.
            let tolerance = 6.0 * (p * (1.0 - p) / total).sqrt();
            let share = f64::from(count) / total;
            assert!((share - p).abs() < tolerance, "{skill}, feature {feature}: {share} instead of {p}");
        }
    }
    let share = f64::from(misnamed) / f64::from(named);
    assert!((0.08..0.14).contains(&share), "{share} are misnamed");
}

/// The answer to a math question, worked out here; `None` for other skills.
fn answer_elsewhere(prompt: &str) -> Option<String> {
    prompt.contains("How many").then(|| {
        let words: Vec<_> = prompt.split([' ', '.']).collect();
        let mut now = 0;
        for pair in words.windows(2) {
            let Ok(amount) = pair[1].parse::<i64>() else { continue };
            match pair[0] {
                "of" => now *= amount,
                "loses" | "sells" | "breaks" | "gives" | "drops" => now -= amount,
                _ => now += amount,
            }
        }
        now.to_string()
    })
}
