//! Answers compared as JSON, and tasks that do.

use std::fs;

use llama_svf::reward::json::JsonReward;
use llama_svf::reward::Score;
use llama_svf::task::{LoadOptions, Task};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{json, Value};

use crate::all;

fn judge(reward: &JsonReward, gold: &str, answer: &str) -> Score {
    let score = reward.score(&JsonReward::gold(gold).unwrap(), answer);
    assert!((0.0..=1.0).contains(&score.value), "{answer}: {}", score.value);
    assert!(!score.reason.is_empty() && !score.reason.contains('\n'), "{answer}: {}", score.reason);
    score
}

fn check(reward: &JsonReward, table: &[(&str, &str, f64)]) {
    let mut wrong = Vec::new();
    for &(answer, gold, expected) in table {
        let score = judge(reward, gold, answer);
        if (score.value - expected).abs() > 1e-12 || score.value.is_nan() {
            wrong.push(format!(
                "{answer:?} for {gold}: {} ({}), expected {expected}",
                score.value, score.reason
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_first_value_of_an_answer_is_found() {
    check(
        &JsonReward::default(),
        &[
            (r#"{"a": 1}"#, r#"{"a": 1}"#, 1.0),
            ("\n\n  {\"a\":\n1}  \n", r#"{"a": 1}"#, 1.0),
            ("```json\n{\"a\": 1}\n```", r#"{"a": 1}"#, 1.0),
            ("```\n{\"a\": 1}\n```", r#"{"a": 1}"#, 1.0),
            ("~~~JSON\n{\"a\": 1}\n~~~", r#"{"a": 1}"#, 1.0),
            ("````json\n{\"a\": \"```\"}\n````", r#"{"a": "```"}"#, 1.0),
            ("  ```json\n  {\"a\": 1}\n  ```", r#"{"a": 1}"#, 1.0),
            ("```json {\"a\": 1} ```", r#"{"a": 1}"#, 1.0),
            // A fence that nobody closed, and one that nobody opened.
            ("```json\n{\"a\": 1}", r#"{"a": 1}"#, 1.0),
            ("{\"a\": 1}\n```\nThat is it.", r#"{"a": 1}"#, 1.0),
            ("Sure! Here it is:\n\n```json\n{\"a\": 1}\n```\nAnything else?", r#"{"a": 1}"#, 1.0),
            ("The object is {\"a\": 1}, as asked.", r#"{"a": 1}"#, 1.0),
            ("<answer>{\"a\": 1}</answer>", r#"{"a": 1}"#, 1.0),
            ("`{\"a\": 1}`", r#"{"a": 1}"#, 1.0),
            ("The answer is [1, 2, 3].", "[1, 2, 3]", 1.0),
            ("\u{feff}{\"a\": 1}", r#"{"a": 1}"#, 1.0),
            ("{\"a\": 1}\r\n", r#"{"a": 1}"#, 1.0),
            // The first counts, not the last, the longest or the best.
            ("{\"a\": 1} {\"a\": 2}", r#"{"a": 1}"#, 1.0),
            ("{\"a\": 2} {\"a\": 1}", r#"{"a": 1}"#, 0.0),
            ("{\"a\": 1}\n```json\n{\"a\": 2}\n```", r#"{"a": 1}"#, 1.0),
            ("[{\"a\": 1}]", r#"{"a": 1}"#, 0.0),
            ("{\"b\": {\"a\": 1}}", r#"{"a": 1}"#, 0.0),
            // A bare text, number or word is an answer only if it is all of it.
            ("42", "42", 1.0),
            ("```json\n42\n```", "42", 1.0),
            ("It is:\n```json\n\"yes\"\n```\n", "\"yes\"", 1.0),
            ("null", "null", 1.0),
            ("true", "true", 1.0),
            ("The answer is 42", "42", 0.0),
            ("I think it is true", "true", 0.0),
            ("", "42", 0.0),
            ("no JSON here", "{}", 0.0),
            ("{}", "{}", 1.0),
            ("[]", "[]", 1.0),
            ("Nothing fits: []", "[]", 1.0),
            ("So the list is [5].", "[5]", 1.0),
            // langgenius/dify#42451: brackets in prose after it.
            ("```json\n{\"a\": 1}\n```\nSee [docs] for more.", r#"{"a": 1}"#, 1.0),
            ("{\"action\": \"Final Answer\"}\n\nReferences: [1]", r#"{"action": "Final Answer"}"#, 1.0),
            ("Result: {\"a\": 1}. Note [1].", r#"{"a": 1}"#, 1.0),
            // langgenius/dify#41958: backticks within it and before it.
            ("{\"code\": \"use `print` function\"}", r#"{"code": "use `print` function"}"#, 1.0),
            ("Here is `the` result: {\"a\": 1}", r#"{"a": 1}"#, 1.0),
            // run-llama/llama_index#22132: brackets in prose before it.
            ("See [1] for details: {\"answer\": 42}", r#"{"answer": 42}"#, 1.0),
            ("Sure! [thinking] Here: {\"a\": [1, 2], \"b\": 3}", r#"{"a": [1, 2], "b": 3}"#, 1.0),
            ("- [ ] check it\n{\"a\": 1}", r#"{"a": 1}"#, 1.0),
            ("On the interval [0, 1) it is {\"a\": 1}", r#"{"a": 1}"#, 1.0),
            ("In the set {x, y} it is {\"a\": 1}", r#"{"a": 1}"#, 1.0),
            // NVIDIA-NeMo/labs-OO-Agents#238: a block of another language is not the answer.
            ("```python\nx = {\"a\": 2}\n```\nIt prints\n```json\n{\"a\": 1}\n```", r#"{"a": 1}"#, 1.0),
            ("```bash\ncurl -d '[2]'\n```\n{\"a\": 1}", r#"{"a": 1}"#, 1.0),
            ("````markdown\n```json\n{\"a\": 1}\n```\n````\n{\"a\": 2}", r#"{"a": 1}"#, 1.0),
            ("```python\nf([2])\n\n```json\n{\"a\": 1}\n```", r#"{"a": 1}"#, 1.0),
            // … unless it is all there is.
            ("```javascript\n{\"a\": 1}\n```", r#"{"a": 1}"#, 1.0),
            // Q00/ouroboros#1734: a part of what is broken is not the answer; what comes after it may be.
            ("{Analysis: {\"actual\": true}", r#"{"actual": true}"#, 0.0),
            ("{'a': {\"b\": 1}}", r#"{"b": 1}"#, 0.0),
            ("{\"a\": {\"b\": 1},}", r#"{"b": 1}"#, 0.0),
            ("{'a': '}', 'c': {\"b\": 1}}", r#"{"b": 1}"#, 0.0),
            ("[{\"b\": 1},]", r#"{"b": 1}"#, 0.0),
            ("{\"a\": 1,} Sorry, I meant {\"a\": 1}", r#"{"a": 1}"#, 1.0),
            ("{\"c\": {\"b\": 1}, \"a\": ", r#"{"b": 1}"#, 0.0),
            // Project-N-E-K-O/N.E.K.O#718: braces doubled as in a template hold a value all the same.
            ("{{\"a\": 1}}", r#"{"a": 1}"#, 1.0),
            ("\\boxed{{\"a\": 1}}", r#"{"a": 1}"#, 1.0),
            // PrimeIntellect-ai/prime-rl#333: a text is no object, even if it holds the text of one.
            ("```json\n\"{\\\"a\\\": 1}\"\n```", r#"{"a": 1}"#, 0.0),
        ],
    );
}

#[test]
fn values_are_equal_as_json_says() {
    check(
        &JsonReward::default(),
        &[
            (r#"{"b": 2, "a": 1}"#, r#"{"a": 1, "b": 2}"#, 1.0),
            (
                r#"{"x": {"b": [{"d": 1, "c": 2}], "a": 1}}"#,
                r#"{"x": {"a": 1, "b": [{"c": 2, "d": 1}]}}"#,
                1.0,
            ),
            ("[1, 2]", "[2, 1]", 0.0),
            ("[1, 2, 3]", "[1, 2]", 0.0),
            (r#"{"a": 1, "b": null}"#, r#"{"a": 1}"#, 0.0),
            (r#"{"a": 1}"#, r#"{"a": 1, "b": null}"#, 0.0),
            // json-schema-org/JSON-Schema-Test-Suite#306, propensive/rapture#99, stleary/JSON-java#589: numbers are
            // equal by value.
            ("[1.0]", "[1]", 1.0),
            ("[1e0, 10E-1, 0.1e+1]", "[1, 1, 1]", 1.0),
            ("[-0.0]", "[0]", 1.0),
            ("[0e999999999999999999999]", "[0]", 1.0),
            ("[0.1]", "[0.10]", 1.0),
            ("[0.30000000000000004]", "[0.3]", 0.0),
            ("[100]", "[1e2]", 1.0),
            ("[1]", "[\"1\"]", 0.0),
            ("[1]", "[true]", 0.0),
            ("[0]", "[false]", 0.0),
            ("[0]", "[null]", 0.0),
            ("[\"\"]", "[null]", 0.0),
            ("[\"null\"]", "[null]", 0.0),
            // Neighbours that are one f64, and a number that is none.
            ("[12345678901234567890]", "[12345678901234567891]", 0.0),
            ("[123456789012345678901]", "[123456789012345678902]", 0.0),
            ("[9007199254740993]", "[9007199254740992]", 0.0),
            ("[123456789012345678901.0]", "[123456789012345678901]", 1.0),
            ("[1e400]", "[1e400]", 1.0),
            ("[1e400]", "[1e401]", 0.0),
            ("[1e-400]", "[0]", 0.0),
            ("[1e99999999999999999999]", "[1e400]", 0.0),
            // Texts character by character, once escapes are resolved.
            (r#"["\u00e9\/\ud83d\ude00\n"]"#, "[\"é/😀\\n\"]", 1.0),
            ("[\"e\u{301}\"]", "[\"é\"]", 0.0),
            ("[\"Paris\"]", "[\"paris\"]", 0.0),
            ("[\"Paris \"]", "[\"Paris\"]", 0.0),
            (r#"{"A": 1}"#, r#"{"a": 1}"#, 0.0),
            (r#"{"\u0061": 1}"#, r#"{"a": 1}"#, 1.0),
            // A path is not to be mixed up with another.
            (r#"{"a.b": 1}"#, r#"{"a": {"b": 1}}"#, 0.0),
            (r#"{"a": {"0": 1}}"#, r#"{"a": [1]}"#, 0.0),
            (r#"{"": 1}"#, "1", 0.0),
            ("{}", "[]", 0.0),
            (r#"{"a": {}}"#, r#"{"a": []}"#, 0.0),
        ],
    );
}

#[test]
fn what_is_no_json_says_why() {
    let reward = JsonReward::default();
    for (answer, reason) in [
        ("{'a': 1}", "key must be a string near `{'a': 1}"),
        ("{a: 1}", "key must be a string"),
        ("{\"a\": 1,}", "near `{\"a\": 1,}`"),
        ("[1, 2,]", "near `[1, 2,]`"),
        // comet-ml/opik#7854: Python reads these, JSON has none of them.
        ("{\"a\": NaN}", "expected value near"),
        ("{\"a\": Infinity}", "expected value"),
        ("{\"a\": None}", "expected value"),
        ("{\"a\": True}", "expected value"),
        ("{\"a\": 1} // one", ""),
        ("{\"a\": 1 // one\n}", "expected `,` or `}`"),
        ("{\"a\": /* one */ 1}", "expected value"),
        // mangiucugna/json_repair#27.
        ("{\"a\": 1/3}", "expected `,` or `}`"),
        ("{\"a\": 01}", "invalid number"),
        ("{\"a\": .5}", "expected value"),
        ("{\"a\": +1}", "expected value"),
        ("{\"a\": 0x10}", "expected `,` or `}`"),
        ("{\"a\": \"two\nlines\"}", "control character"),
        ("{\"a\": \"\\x41\"}", "invalid escape"),
        ("{\"a\": \"\\ud800\"}", "hex escape"),
        ("{“a”: 1}", "key must be a string"),
        ("{\"a\": 1", "breaks off"),
        ("{\"a\": \"b", "breaks off"),
        ("[1, 2", "breaks off"),
        // SlopDotCash/asi#1938, NVIDIA/cudf-spark#15988: which value counts depends on who reads it.
        ("{\"a\": 1, \"a\": 1}", "two values for the key 'a'"),
        ("{\"b\": [{\"a\": 1, \"\\u0061\": 2}]}", "two values for the key 'a'"),
        ("{\"a\": 1e99999999999999999999}", "exponent"),
        ("Just words.", "no JSON in the answer"),
    ] {
        let score = judge(&reward, "{\"a\": 1}", answer);
        match reason {
            "" => assert_eq!(score.value, 1.0, "{answer}"),
            _ => {
                assert_eq!(score.value, 0.0, "{answer}");
                assert!(score.reason.contains(reason), "{answer}: no '{reason}' in: {}", score.reason);
            }
        }
    }
    for (gold, answer, reason) in [
        ("{\"a\": {\"b\": [1, 2]}}", "{\"a\": {\"b\": [1, 3]}}", "a.b[1]: found 3, expected 2"),
        ("{\"a\": 1, \"b\": 2}", "{\"a\": 1}", "b: not there, expected 2"),
        ("{\"a\": 1}", "{\"a\": 1, \"x y\": \"z\"}", "[\"x y\"]: found \"z\", expected nothing"),
        ("[]", "{\"a\": 1}", "found {\"a\": 1}, expected []"),
        ("{\"a\": 1.50}", "{\"a\": 1e3}", "a: found 1000, expected 1.5"),
    ] {
        assert_eq!(judge(&reward, gold, answer).reason, reason);
    }
}

#[test]
fn partial_scores_are_shares_of_fields() {
    let partial = JsonReward::new(None, true, false).unwrap();
    let gold = r#"{"name": "Ada", "age": 36, "langs": ["en", "fr"]}"#;
    check(
        &partial,
        &[
            (gold, gold, 1.0),
            (r#"{"name": "Ada", "age": 37, "langs": ["en", "fr"]}"#, gold, 3.0 / 4.0),
            (r#"{"name": "Ada", "langs": ["en", "fr"]}"#, gold, 3.0 / 4.0),
            (r#"{"name": "Ada", "age": 36, "langs": ["en", "fr"], "extra": 1}"#, gold, 4.0 / 5.0),
            (r#"{"name": "Ada", "age": 36, "langs": ["fr", "en"]}"#, gold, 2.0 / 4.0),
            (r#"{"name": "Ada", "age": 36, "langs": []}"#, gold, 2.0 / 5.0),
            (r#"{"name": "Ada", "age": 36, "langs": "en, fr"}"#, gold, 2.0 / 5.0),
            ("{}", gold, 0.0),
            ("[]", gold, 0.0),
            ("Ada", gold, 0.0),
            ("{'name': 'Ada'}", gold, 0.0),
            ("1.0", "1", 1.0),
            ("2", "1", 0.0),
            ("{}", "{}", 1.0),
        ],
    );
    // 1 only if equal, and never outside of 0 to 1: every pair of these.
    let values = [
        "{}",
        "[]",
        "1",
        "\"1\"",
        "null",
        "[1]",
        "[[1]]",
        "[1, 2]",
        "[2, 1]",
        "{\"a\": 1}",
        "{\"a\": [1]}",
        "{\"a\": {}}",
        "{\"a\": 1, \"b\": 2}",
        "{\"a\": {\"b\": 2}}",
        "{\"a.b\": 2}",
        "{\"\": 2}",
        "[{}]",
        "[{\"a\": 1}, {\"a\": 1}]",
    ];
    for (i, gold) in values.iter().enumerate() {
        for (j, answer) in values.iter().enumerate() {
            let [there, back] =
                [(gold, answer), (answer, gold)].map(|(gold, answer)| judge(&partial, gold, answer));
            assert_eq!(there.value == 1.0, i == j, "{answer} for {gold}");
            assert_eq!(there.value, back.value, "{answer} for {gold}");
            assert_eq!(
                judge(&JsonReward::default(), gold, answer).value == 1.0,
                i == j,
                "{answer} for {gold}"
            );
        }
    }
}

#[test]
fn strict_answers_are_json_and_nothing_else() {
    let strict = JsonReward::new(None, false, true).unwrap();
    let gold = "{\"a\": 1}";
    check(
        &strict,
        &[
            (gold, gold, 1.0),
            (" \n{\"a\": 1.0}\n", gold, 1.0),
            ("```json\n{\"a\": 1}\n```", gold, 0.0),
            ("Sure: {\"a\": 1}", gold, 0.0),
            ("{\"a\": 1}.", gold, 0.0),
            ("{\"a\": 1} {\"a\": 1}", gold, 0.0),
            ("42", "42", 1.0),
        ],
    );
    assert_eq!(judge(&strict, gold, "Sure: {\"a\": 1}").reason, "more than JSON in the answer");
    assert!(judge(&strict, gold, "{'a': 1}").reason.contains("key must be a string"));
}

#[test]
fn answers_that_break_the_schema_score_0() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "age": {"$ref": "#/$defs/age"}},
        "additionalProperties": false,
        "$defs": {"age": {"type": "integer", "minimum": 0}},
    });
    for is_partial in [false, true] {
        let reward = JsonReward::new(Some(&schema), is_partial, false).unwrap();
        let gold = r#"{"name": "Ada", "age": 36}"#;
        reward.check(&JsonReward::gold(gold).unwrap()).unwrap();
        for (answer, expected, reason) in [
            (gold, 1.0, "found"),
            (r#"{"name": "Ada", "age": 36.0}"#, 1.0, "found"),
            (
                r#"{"name": "Ada", "age": 37}"#,
                if is_partial { 0.5 } else { 0.0 },
                "age: found 37, expected 36",
            ),
            (r#"{"name": "Ada", "age": "36"}"#, 0.0, "breaks the schema: "),
            (r#"{"name": "Ada", "age": -1}"#, 0.0, "at /age"),
            (r#"{"age": 36}"#, 0.0, "\"name\" is a required property"),
            (r#"{"name": "Ada", "age": 36, "x": 1}"#, 0.0, "breaks the schema: "),
            (r#"{"name": "Ada", "age": 1e400}"#, 0.0, "breaks the schema: "),
            ("[]", 0.0, "breaks the schema: "),
        ] {
            let score = judge(&reward, gold, answer);
            assert_eq!(score.value, expected, "{answer}: {}", score.reason);
            assert!(score.reason.contains(reason), "{answer}: {}", score.reason);
        }
    }
    for (schema, fragment) in [
        (json!({"type": "objekt"}), "at /type"),
        (json!({"properties": 3}), "at /properties"),
        (json!({"pattern": "("}), "at /pattern"),
        (json!(3), "not a JSON Schema"),
        (json!({"$ref": "https://example.com/a.json"}), "$defs"),
        (json!({"properties": {"a": {"$ref": "other.json#/a"}}}), "$defs"),
        (json!({"$ref": "file:///etc/passwd"}), "$defs"),
        (json!({"$ref": "#/$defs/none"}), "$defs"),
        (json!({"$schema": "https://example.com/schema"}), "https://example.com/schema"),
    ] {
        let error = JsonReward::new(Some(&schema), false, false).err().unwrap();
        assert!(error.to_string().contains(fragment), "{error}");
        println!("{error}");
    }
}

#[test]
fn long_and_deep_answers_take_no_time_and_no_stack() {
    let reward = JsonReward::new(None, true, false).unwrap();
    let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
    assert_eq!(judge(&reward, &nested(100), &nested(100)).value, 1.0);
    assert!(judge(&reward, "[]", &nested(50_000)).reason.contains("nested"));
    assert!(JsonReward::gold(&nested(200)).is_err());
    let began = std::time::Instant::now();
    for piece in [
        "[",
        "{",
        "{\"a\":",
        "{'a':",
        "{a:",
        "[1,",
        "[]",
        "[1] ",
        "[1][",
        "{x}",
        "{\"a\": 1}}",
        "{\"a\": 1,}",
        "[{",
        "[\"",
        "```json\n",
        "```json\n[]\n",
        "```json\n\"",
        "```json\n1",
        "```\n[1",
        "~~~",
        "\"",
        "\\",
        "é{",
        "{\"é",
        "1",
        "\u{feff}",
    ] {
        let score = reward.score(&JsonReward::gold("{\"z\": 1}").unwrap(), &piece.repeat(50_000));
        assert_eq!(score.value, 0.0, "{piece}");
    }
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

fn random_value(rng: &mut ChaCha8Rng, depth: usize) -> Value {
    const TEXTS: [&str; 8] = ["", "a", "b.c", "d e", "\"", "{", "```\n", "é😀\u{7f}"];
    match rng.random_range(0..if depth == 0 { 5 } else { 8 }) {
        0 => Value::Null,
        1 => json!(rng.random::<bool>()),
        2 => json!(rng.random_range(-3..3)),
        3 => json!(rng.random_range(-8..8) as f64 / 4.0 + 0.125),
        4 => json!(TEXTS.choose(rng).unwrap()),
        5 => (0..rng.random_range(0..4)).map(|_| random_value(rng, depth - 1)).collect(),
        _ => (0..rng.random_range(0..4))
            .map(|_| ((*TEXTS.choose(rng).unwrap()).to_owned(), random_value(rng, depth - 1)))
            .collect(),
    }
}

/// The same value with other white space, order of keys and spelling of numbers.
fn spelt_otherwise(value: &Value, rng: &mut ChaCha8Rng) -> String {
    let space = [" ", "\n\t", ""][rng.random_range(0..3)];
    match value {
        Value::Number(number) => match rng.random_range(0..3) {
            0 if number.is_i64() => format!("{number}.0"),
            1 => format!("{}e-2", 100.0 * number.as_f64().unwrap()),
            _ => number.to_string(),
        },
        Value::Array(list) => {
            let list: Vec<_> = list.iter().map(|value| spelt_otherwise(value, rng)).collect();
            format!("[{space}{}{space}]", list.join(&format!("{space},")))
        }
        Value::Object(object) => {
            let mut pairs: Vec<_> = object
                .iter()
                .map(|(key, value)| format!("{}{space}:{space}{}", json!(key), spelt_otherwise(value, rng)))
                .collect();
            pairs.shuffle(rng);
            format!("{{{}{space}}}", pairs.join(","))
        }
        other => other.to_string(),
    }
}

#[test]
fn random_values_are_equal_where_serde_json_says_so() {
    let seed = 7;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let partial = JsonReward::new(None, true, false).unwrap();
    let values: Vec<_> = (0..3000).map(|_| random_value(&mut rng, 3)).collect();
    let mut n_equal = 0;
    for (i, gold) in values.iter().enumerate() {
        let other = &values[rng.random_range(0..values.len())];
        let other = if i % 3 == 0 { gold } else { other };
        let is_whole = !other.is_object() && !other.is_array();
        let spelt = spelt_otherwise(other, &mut rng);
        let answer = match rng.random_range(0..if is_whole { 2 } else { 4 }) {
            0 => spelt,
            1 => format!("```json\n{spelt}\n```"),
            2 => format!("It's {spelt} (see [1])."),
            _ => format!("As asked:\n\n```\n{spelt}\n```\n\nIs {{that}} fine?"),
        };
        let is_equal = gold == other;
        n_equal += usize::from(is_equal);
        for reward in [&partial, &JsonReward::default()] {
            let score = judge(reward, &gold.to_string(), &answer);
            assert_eq!(score.value == 1.0, is_equal, "{answer:?} for {gold}: {}", score.reason);
        }
    }
    assert!((1000..2000).contains(&n_equal), "{n_equal}");
}

#[test]
fn any_text_is_scored() {
    const PIECES: [&str; 24] = [
        "{", "}", "[", "]", ":", ",", "\"", "'", "\\", "a", "\"a\"", "1", "-", ".5", "e9", "true", "null",
        "NaN", " ", "\n", "```", "json", "é", "\u{0}",
    ];
    let seed = 8;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rewards = [false, true].map(|strict| JsonReward::new(None, true, strict).unwrap());
    let mut n_read = 0;
    for _ in 0..50_000 {
        let text: String = (0..rng.random_range(1..24)).map(|_| *PIECES.choose(&mut rng).unwrap()).collect();
        for reward in &rewards {
            judge(reward, "{\"a\": 1}", &text);
        }
        // What all of a text is counts, and serde_json agrees on what that is.
        if let Ok(value) = serde_json::from_str::<Value>(text.trim()) {
            let is_same = judge(&rewards[1], &value.to_string(), &text).value == 1.0;
            let has_twice = judge(&rewards[1], "{}", &text).reason.contains("two values");
            assert!(is_same || has_twice || text.contains("e9"), "{text:?}");
            n_read += 1;
        }
    }
    assert!(n_read > 500, "{n_read}");
}

const TASK: &str = r#"
prompt = "Describe {{ name }} as JSON."
gold = "{{ person | tojson }}"
[data]
files = ["rows.jsonl"]
[reward]
kind = "json"
partial = true
"#;

fn rows() -> String {
    let row = |i: usize| json!({"name": format!("N{i}"), "person": {"name": format!("N'{i}"), "age": i, "tags": ["<a>", 1.0]}});
    (0..20).map(|i| format!("{}\n", row(i))).collect()
}

fn load(task: &str, rows: &str, schema: Option<&str>) -> Result<Task, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rows.jsonl"), rows).unwrap();
    if let Some(schema) = schema {
        fs::write(folder.path().join("person.json"), schema).unwrap();
    }
    let path = folder.path().join("task.toml");
    fs::write(&path, task).unwrap();
    Task::load(path.to_str().unwrap(), &LoadOptions::default()).map_err(|error| {
        assert_eq!(error.exit_code(), 2);
        error.to_string().replace(&format!("{}/", folder.path().display()), "")
    })
}

#[test]
fn tasks_of_json() {
    const SCHEMA: &str =
        r#"{"type": "object", "required": ["name"], "properties": {"age": {"type": "integer"}}}"#;
    let table = "schema = { type = \"object\", required = [\"name\"], properties = { age = { type = \"integer\" } } }";
    let text = format!("schema = '{SCHEMA}'");
    let variants = [
        (TASK.to_owned(), None),
        (format!("{TASK}schema = \"person.json\""), Some(SCHEMA)),
        (format!("{TASK}{table}"), None),
        (format!("{TASK}{text}"), None),
        (format!("{TASK}[reward.schema]\ntype = \"object\"\nrequired = [\"name\"]"), None),
    ];
    for (task, schema) in &variants {
        let task = load(task, &rows(), *schema).unwrap();
        assert_eq!(all(&task).len(), 20);
        for item in all(&task) {
            let score = task.score(item, &item.completion).unwrap();
            assert_eq!(score.value, 1.0, "{}", score.reason);
            assert!(item.completion.contains("N'") && item.completion.contains("<a>"), "{}", item.completion);
            let mut person: Value = serde_json::from_str(&item.gold).unwrap();
            person["age"] = json!(-5);
            let changed = serde_json::to_string_pretty(&person).unwrap();
            assert_eq!(task.score(item, &changed).unwrap().value, 3.0 / 4.0);
        }
    }
    let pretty = TASK.replace("| tojson", "| tojson(indent=2)");
    let pretty = load(&pretty, &rows(), None).unwrap();
    assert!(all(&pretty)[0].gold.starts_with("{\n  \"age\": "), "{}", all(&pretty)[0].gold);

    // Another schema makes another task, be it in the file or beside it.
    let rules = |task: &str, schema| load(task, &rows(), schema).unwrap().rules();
    let (by_path, other) = (&variants[1].0, SCHEMA.replace("integer", "number"));
    assert_eq!(rules(by_path, Some(SCHEMA)), rules(by_path, Some(SCHEMA)));
    assert_ne!(rules(by_path, Some(SCHEMA)), rules(by_path, Some(&other)));
}

#[test]
fn bad_tasks_of_json_are_refused() {
    let row = "{\"name\": \"x\", \"person\": {\"age\": 1}}\n";
    let with = |line: &str| format!("{TASK}{line}");
    for (task, rows, schema, fragments) in [
        (with("schema = { type = \"objekt\" }"), row, None, ["task.toml:9: reward.schema: ", "/type"]),
        (
            with("schema = \"none.json\""),
            row,
            None,
            ["task.toml:9: reward.schema: ", "cannot read none.json"],
        ),
        (
            with("schema = \"person.json\""),
            row,
            Some("{"),
            ["task.toml:9: reward.schema: ", "person.json: not JSON"],
        ),
        (
            with("schema = \"person.json\""),
            row,
            Some("{\"$ref\": \"https://example.com/a\"}"),
            ["task.toml:9: reward.schema: ", "$defs"],
        ),
        (with("schema = '{\"type\": '"), row, None, ["task.toml:9: reward.schema: ", "not JSON"]),
        (with("schema = 3"), row, None, ["task.toml:9: reward.schema: expected", "found integer"]),
        (with("strikt = true"), row, None, ["task.toml:9: strikt: unknown field", "did you mean strict?"]),
        (with("strict = 1"), row, None, ["task.toml:6: [reward]: ", "expected a boolean"]),
        (
            with("schema = { required = [\"name\"] }"),
            row,
            None,
            ["rows.jsonl:1: gold: breaks the schema", "\"name\" is a required property"],
        ),
        (
            TASK.replace("person | tojson", "name"),
            row,
            None,
            ["rows.jsonl:1: gold: expected JSON, found 'x'", "tojson"],
        ),
        (
            TASK.replace("person | tojson", "persona | tojson"),
            row,
            None,
            ["rows.jsonl:1: persona: ", "'gold'"],
        ),
        (
            TASK.replace("{{ person | tojson }}", "{{ person }} {{ person }}"),
            row,
            None,
            ["rows.jsonl:1: gold: ", "tojson"],
        ),
    ] {
        let error = load(&task, rows, schema).err().unwrap_or_else(|| panic!("was accepted, {fragments:?}"));
        println!("{error}");
        for fragment in fragments {
            assert!(error.contains(fragment), "no '{fragment}' in: {error}");
        }
    }
}
