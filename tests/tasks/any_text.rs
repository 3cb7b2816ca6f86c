//! Whatever a model writes is scored, and takes no long time.

use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use llama_svf::reward::choice::{Choice, Labels};
use llama_svf::reward::code::{program, without_fences};
use llama_svf::reward::latex;
use llama_svf::reward::numeric::{final_number, Numeric};
use llama_svf::reward::text::Text;

/// What an answer repeats when a model is caught in a loop, or wants to hold up its scorer.
const REPEATED: [&str; 36] = [
    "answer is ",
    "answer is 1 ",
    "answer is A or ",
    "answer to (",
    "The answer is 3*",
    "A",
    "A ",
    "A or ",
    "A, ",
    "not A ",
    "A is correct? ",
    "so ",
    "(b) ",
    "A. x\n",
    "1",
    "1 ",
    "1,",
    "1.000",
    "1/",
    "1e5 ",
    "= 1 ",
    "(1 = 2",
    "-$",
    "hundred ",
    "#### 1. A\n",
    "#### \n",
    "Question: ",
    "\n\nQuestion: 1\n#### 2",
    "**",
    "```python\ndef f(",
    "```\n'''\n",
    "```x",
    "'''\n```\n",
    "def f(x):\n    return f\n",
    "x = [\n",
    "    \n",
];

#[test]
fn long_texts_take_no_long_time() {
    let options = ["A", "x", "safety goggles"].map(String::from).to_vec();
    let choice = Choice::new(Labels::Letters, options, 1).unwrap();
    for piece in REPEATED {
        for text in [piece.repeat(20_000), format!("{}{}", piece.repeat(10_000), " ".repeat(100_000))] {
            let begin = Instant::now();
            let score = Numeric::default().score(Numeric::gold("1").unwrap(), &text);
            let numeric = begin.elapsed();
            assert!(score.value == 0.0 || score.value == 1.0, "{piece:?}");
            let score = choice.score(&text);
            let chosen = begin.elapsed() - numeric;
            assert!(score.value == 0.0 || score.value == 1.0, "{piece:?}");
            let whole = program(&text, None, "assert f(1) == 1").len();
            let body = program(&text, Some("def f(x):\n"), "assert f(1) == 1").len();
            let code = begin.elapsed() - numeric - chosen;
            assert!(whole <= 4 * text.len() && body <= 4 * text.len() + 100, "{piece:?}: {whole}, {body}");
            println!("{piece:?}: {numeric:.1?} numeric, {chosen:.1?} choice, {code:.1?} code");
            assert!(begin.elapsed() < Duration::from_secs(20), "{piece:?} took {:?}", begin.elapsed());
        }
    }
}

#[test]
fn any_answer_is_scored() {
    const PIECES: [&str; 63] = [
        "A",
        "b",
        "(B)",
        "I",
        "C.",
        "d)",
        "*",
        "**",
        "_",
        "`",
        "'",
        "’",
        "“",
        "\"",
        "$",
        "é",
        "答案",
        "：",
        "。",
        "１",
        "½",
        "⁵",
        "\u{2212}",
        "–",
        "—",
        " ",
        " ",
        "\n",
        "\n",
        "\t",
        "is",
        "is wrong",
        "are",
        "not",
        "or",
        ",",
        "and",
        "the answer is ",
        "Answer:",
        "so ",
        "it's",
        "#### ",
        "18",
        "1,5",
        "10^",
        "e5",
        "/",
        "=",
        "(",
        ")",
        "%",
        "k",
        " million",
        "dozen",
        "two",
        "```",
        "```python\n",
        "~~~",
        "'''",
        "def f(",
        "):\n",
        "    return x\n",
        "\nQuestion: ",
    ];
    let seed = 5;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let options = ["A", "two legs", "1.5", "é"].map(String::from).to_vec();
    let choices =
        [Labels::Letters, Labels::Numbers].map(|labels| Choice::new(labels, options.clone(), 1).unwrap());
    let gold = Numeric::gold("18").unwrap();
    let captured = Text::new(Some("Answer:(.*)"), true).unwrap();
    let (mut n_numbers, mut n_chosen) = (0, 0);
    for _ in 0..20_000 {
        let text: String = (0..rng.random_range(1..20)).map(|_| *PIECES.choose(&mut rng).unwrap()).collect();
        n_numbers += usize::from(final_number(&text).is_some());
        let score = Numeric::default().score(gold, &text);
        assert!(score.value == 0.0 || score.value == 1.0, "{text:?}");
        for choice in &choices {
            let score = choice.score(&text);
            assert!(score.value == 0.0 || score.value == 1.0, "{text:?}");
            n_chosen += usize::from(score.value == 1.0);
        }
        let score = captured.score("18", &text);
        assert!(score.value == 0.0 || score.value == 1.0, "{text:?}");
        let whole = program(&text, None, "assert f(1)");
        assert!(whole.len() <= text.len() + 1, "{text:?} became {whole:?}");
        let going_on = program(&text, Some("def f(x):\n"), "assert f(1)");
        assert!(going_on.starts_with("def f(x):\n"), "{text:?} became {going_on:?}");
    }
    println!("{n_numbers} with a number, {n_chosen} with the right option");
    assert!(
        n_numbers > 2000 && n_chosen > 200,
        "{n_numbers} with a number, {n_chosen} with the right option"
    );
}

#[test]
fn any_text_is_scored() {
    const PIECES: [&str; 40] = [
        "\\frac",
        "{",
        "}",
        "\\text{",
        "(",
        ")",
        "[",
        "]",
        ",",
        "1",
        "0",
        ".",
        "-",
        "/",
        "\\",
        "\\boxed{",
        "####",
        "é",
        " ",
        "\n",
        "$",
        "=",
        "\\sqrt",
        "A",
        "(B)",
        "answer is",
        "```",
        "\\begin{pmatrix}",
        "\\end{pmatrix}",
        "&",
        "\\\\",
        "x",
        "\\{",
        "\\}",
        "^",
        "_",
        "cm",
        "\u{0}",
        "\\in",
        "1,000",
    ];
    let seed = 3;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let options = ["A", "x", "1"].map(String::from).to_vec();
    let choice = Choice::new(Labels::Letters, options, 1).unwrap();
    let mut texts: Vec<String> = (0..20_000)
        .map(|_| (0..rng.random_range(1..24)).map(|_| *PIECES.choose(&mut rng).unwrap()).collect())
        .collect();
    for piece in ["\\text{", "\\frac{", "\\boxed{", "(", "\\sqrt", "{", "9", "```\n"] {
        texts.push(piece.repeat(50_000));
        texts.push(format!("\\boxed{{{}{}}}", piece.repeat(500), "}".repeat(500)));
        texts.push(format!("\\boxed{{{}{}}}", piece.repeat(50_000), "}".repeat(50_000)));
    }
    let mut n_equal = 0;
    for text in &texts {
        let completion = format!("\\boxed{{{text}}}");
        for score in [
            latex::score("\\frac{1}{2}", &completion),
            latex::score("1", text),
            choice.score(text),
            Numeric::default().score(Numeric::gold("1").unwrap(), text),
        ] {
            assert!(score.value == 0.0 || score.value == 1.0, "{text:?}");
            assert!(!score.reason.contains(char::is_control) && score.reason.len() < 1000, "{text:?}");
        }
        n_equal += usize::from(latex::equivalent(text, text));
        assert!(without_fences(text).len() <= text.len());
    }
    assert!(n_equal > 10_000, "only {n_equal} texts equal themselves");
}
