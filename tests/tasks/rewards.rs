//! Tables of answers as models write them, right and wrong.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use llama_svf::reward::choice::{Choice, Labels};
use llama_svf::reward::code::without_fences;
use llama_svf::reward::latex;
use llama_svf::reward::numeric::{final_number, Number, Numeric};
use llama_svf::reward::text::Text;

#[test]
fn final_numbers() {
    let table = [
        ("9 * 2 = <<9*2=18>>18 dollars.\n#### 18", "18"),
        ("#### 70,000", "70000"),
        ("#### $1,234.50", "2469/2"),
        ("#### -3", "-3"),
        ("#### 18 dollars per day", "18"),
        ("#### 18\n\nQuestion: 5 + 5", "18"),
        ("#### Step 1\n3 + 4 = 7. The answer is 7.", "7"),
        ("so \\boxed{42} it is, of 100", "42"),
        ("\\boxed{x = 2 + 3 = 5}", "5"),
        ("\\boxed{\\$1{,}000}", "1000"),
        ("\\boxed{12\\text{ apples}}", "12"),
        ("The answer is 5. That was question 3.", "5"),
        ("The answer is: **18 dollars**.", "18"),
        ("Answer: 2 + 3 = 5", "5"),
        ("answer = 7", "7"),
        ("He has 3 apples and buys 4, so 7", "7"),
        ("it costs $-5", "-5"),
        ("it costs -$5.", "-5"),
        ("16-3", "3"),
        ("16 - 3", "3"),
        ("a 5-year plan", "5"),
        ("\u{2212}7", "-7"),
        ("50%", "50"),
        ("1 000 000 with thin spaces: 1\u{202f}000\u{202f}000", "1000000"),
        ("3.50", "7/2"),
        (".5", "1/2"),
        ("2 1/2 cups", "5/2"),
        ("1/2 a cup", "1/2"),
        ("\\frac{3}{4}", "3/4"),
        ("€12", "12"),
        ("18.", "18"),
        ("0", "0"),
        ("1,2", "2"),
    ];
    for (text, expected) in table {
        assert_eq!(final_number(text).map(|number| number.to_string()).as_deref(), Some(expected), "{text}");
    }
    for text in ["", "none", "#### none", "\\boxed{x}", "1/0", ".", &"9".repeat(60)] {
        assert_eq!(final_number(text), None, "{text}");
    }
}

#[test]
fn numbers_are_compared_exactly_or_with_tolerance() {
    let gold = Numeric::gold("0.5").unwrap();
    let exact = Numeric::default();
    for (completion, value) in
        [("1/2", 1.0), (".50", 1.0), ("0.5000001", 0.0), ("5", 0.0), ("-0.5", 0.0), ("", 0.0)]
    {
        assert_eq!(exact.score(gold, completion).value, value, "{completion}");
    }
    let near = Numeric::new(0.01).unwrap();
    assert_eq!(near.score(gold, "0.509").value, 1.0);
    assert_eq!(near.score(gold, "0.52").value, 0.0);
    let large = Numeric::gold("9007199254740993").unwrap();
    assert_eq!(exact.score(large, "9007199254740992").value, 0.0);
    assert_eq!(Number::fraction(2, -4), Number::fraction(-1, 2));
    assert!(Numeric::new(f64::NAN).is_err() && Numeric::new(-1.0).is_err() && Numeric::gold("none").is_err());
}

#[test]
fn latex_answers() {
    let equal = [
        ("\\frac{1}{2}", "\\dfrac12"),
        ("\\frac{1}{2}", "\\tfrac{1}{2}"),
        ("\\frac{1}{2}", "1/2"),
        ("\\frac{1}{2}", "0.5"),
        ("\\frac{1}{2}", ".5"),
        ("\\frac12", "\\frac{1}2"),
        ("-\\frac{1}{2}", "\\frac{-1}{2}"),
        ("-1/2", "\\frac{1}{-2}"),
        ("2.5", "2\\frac{1}{2}"),
        ("2.50", "2.5"),
        ("007", "7"),
        ("3.0", "3"),
        ("\\sqrt{2}", "\\sqrt2"),
        ("\\sqrt 2", "\\sqrt{2}"),
        ("\\frac{\\sqrt{3}}{2}", "\\frac{\\sqrt3}2"),
        ("\\sqrt[3]{2}", "\\sqrt[3]2"),
        ("x=5", "5"),
        ("k = 5", "5"),
        ("f(x) = x^2", "x^2"),
        ("x \\in [1,2]", "[1,2]"),
        ("10\\%", "10"),
        ("10\\text{ inches}", "10"),
        ("10 \\text{ cm}^2", "10"),
        ("10\\mbox{ square units}", "10"),
        ("10 cm", "10"),
        ("12 square units", "12"),
        ("90^\\circ", "90"),
        ("90^{\\circ}", "90 degrees"),
        ("\\$32,348", "32348"),
        ("1,\\!000", "1000"),
        ("1{,}000", "1000"),
        ("\\text{Monday}", "Monday"),
        ("\\text{(C)}", "C"),
        ("(3, 4)", "(3,4)"),
        ("\\left( 3, \\frac{1}{2} \\right)", "(3,0.5)"),
        ("\\{1,2\\}", "\\left\\{2, 1\\right\\}"),
        ("1,-2", "-2, 1"),
        ("1\\text{ and }2", "1,2"),
        ("[0,\\infty)", "\\left[0, \\infty\\right)"),
        ("(-\\infty, 1) \\cup (2, +\\infty)", "(-\\infty,1)\\cup(2,\\infty)"),
        ("1011_2", "1011_{2}"),
        ("2^{3}", "2^3"),
        ("x \\leq 3", "x\\le 3"),
        ("$5$", "5"),
        ("5.", "5"),
        ("\\begin{pmatrix} 1 \\\\ 1/2 \\end{pmatrix}", "\\begin{pmatrix}1\\\\\\frac12\\end{pmatrix}"),
        ("\\begin{bmatrix} 1 & 2 \\\\ 3 & 4 \\\\ \\end{bmatrix}", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"),
        ("3\\pi", "3 \\pi"),
        ("a^2 + b", "a^{2}+b"),
        ("5\\,\\text{m/s}", "5"),
        ("\\emptyset", "\\varnothing"),
    ];
    for (a, b) in equal {
        assert!(latex::equivalent(a, b) && latex::equivalent(b, a), "{a} and {b} are the same");
    }
    let different = [
        ("\\frac{1}{2}", "\\frac{1}{3}"),
        ("1", "-1"),
        ("2", "\\sqrt{2}"),
        ("(1,2)", "(2,1)"),
        ("(1,2)", "[1,2]"),
        ("[1,2)", "[1,2]"),
        ("\\{1,2\\}", "\\{1,3\\}"),
        ("\\{1,1,2\\}", "\\{1,2,2\\}"),
        ("1,2", "1,2,3"),
        ("15", "\\frac{120}{8}"),
        ("0.333", "\\frac{1}{3}"),
        ("5x", "5"),
        ("x+1", "x-1"),
        ("1000", "1,0000"),
        ("100,200", "200,100"),
        ("1011_2", "1011_3"),
        ("\\text{even}", "\\text{odd}"),
        ("12", "1,2"),
        ("", ""),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1&2\\end{pmatrix}"),
        ("2\\pi", "2"),
        ("x^2", "x^3"),
        ("1024", "2^{10}"),
        ("A", "B"),
        ("3,5", "(3,5)"),
    ];
    for (a, b) in different {
        assert!(!latex::equivalent(a, b), "{a} and {b} are not the same");
    }
}

#[test]
fn latex_answers_are_found() {
    let table = [
        ("so $\\boxed{\\frac{1}{2}}$.", Some("\\frac{1}{2}")),
        ("\\boxed{1} or rather \\boxed{2}", Some("2")),
        ("\\fbox{3}", Some("3")),
        ("$\\boxed 5$.", Some("5")),
        ("\\boxed{\\left\\{1, 2\\right.}", Some("\\left\\{1, 2\\right.")),
        ("Final Answer: The final answer is $x^2$. I hope it is correct.", Some("x^2")),
        ("The final answer is 3.5.\nMore", Some("3.5")),
        ("\\boxed{1", None),
        ("\\boxed{}", None),
        ("nothing", None),
        ("\\boxed", None),
    ];
    for (completion, expected) in table {
        assert_eq!(
            latex::answer(completion).map(|answer| answer.trim_matches('$')),
            expected,
            "{completion}"
        );
    }
}

#[test]
fn choices() {
    let options =
        ["safety goggles", "breathing mask", "rubber gloves", "lead apron"].map(String::from).to_vec();
    let choice = Choice::new(Labels::Letters, options.clone(), 1).unwrap();
    for right in [
        "B",
        "B.",
        "(B)",
        "B)",
        "B) breathing mask",
        "B: breathing mask",
        "**B**",
        "The answer is (B)",
        "The answer is B.",
        "the answer is: B",
        "Answer: B",
        "\\boxed{B}",
        "\\boxed{\\text{B}}",
        "breathing mask",
        "Breathing mask.",
        "I would take the breathing mask, of course.",
        "The answer is breathing mask.",
        "A would be nice, but the answer is B.",
        "Goggles are (A).\nThe answer is (B) because of spores",
        "B is correct",
        "It must be (B).",
        "Answer: **B**",
        "B\n",
        "The answer is B, breathing mask",
    ] {
        assert_eq!(choice.score(right).value, 1.0, "{right}: {}", choice.score(right).reason);
    }
    for wrong in [
        "",
        " ",
        "A",
        "C.",
        "E",
        "The answer is A",
        "The answer is A or B",
        "A or B",
        "B and C",
        "(A) or (B)",
        "b mask",
        "safety goggles",
        "safety goggles or a breathing mask",
        "Beware",
        "A magnet",
        "The answer is (B) or (C)",
        "none",
        "B, C",
        "The answer is 2",
        "B/C",
    ] {
        assert_eq!(choice.score(wrong).value, 0.0, "{wrong}: {}", choice.score(wrong).reason);
    }
    let numbered = Choice::new(Labels::Numbers, options, 1).unwrap();
    for (completion, value) in
        [("2", 1.0), ("The answer is (2)", 1.0), ("2.", 1.0), ("1", 0.0), ("B", 0.0), ("12", 0.0)]
    {
        assert_eq!(numbered.score(completion).value, value, "{completion}");
    }
    let nested = ["increase", "increase slowly", "decrease"].map(String::from).to_vec();
    let nested = Choice::new(Labels::Letters, nested, 1).unwrap();
    assert_eq!(nested.score("it will increase slowly").value, 1.0);
    assert_eq!(nested.score("it will increase").value, 0.0);
    let twice = Choice::new(Labels::Letters, ["up", "down", "up"].map(String::from).to_vec(), 0).unwrap();
    assert_eq!(twice.score("up").value, 0.0, "two options have this text");
    assert!(Choice::new(Labels::Letters, vec!["a".into()], 0).is_err());
    assert!(Choice::new(Labels::Letters, vec!["a".into(), "b".into()], 2).is_err());
    assert!(Choice::new(Labels::Letters, vec!["a".into(), " ".into()], 0).is_err());
}

#[test]
fn texts() {
    let exact = Text::new(None, false).unwrap();
    assert_eq!(exact.score("Paris", " Paris\n").value, 1.0);
    assert_eq!(exact.score("Paris", "paris").value, 0.0);
    assert_eq!(Text::new(None, true).unwrap().score("Paris", "paris").value, 1.0);
    let pattern = Text::new(Some("Answer: (.*)"), false).unwrap();
    assert_eq!(pattern.score("7", "Answer: 5\nAnswer: 7\nso it is").value, 1.0);
    assert_eq!(pattern.score("5", "Answer: 5\nAnswer: 7").value, 0.0);
    assert_eq!(pattern.score("5", "5").value, 0.0);
    assert_eq!(pattern.score("5", "").value, 0.0);
    assert!(Text::new(Some("("), false).is_err());
}

#[test]
fn code_comes_out_of_its_fence() {
    assert_eq!(without_fences("x = 1"), "x = 1");
    assert_eq!(without_fences("Here:\n```python\nx = 1\n```\nDone."), "x = 1\n");
    assert_eq!(without_fences("```\nx = 1"), "x = 1");
    assert_eq!(without_fences("    return x\n```"), "    return x\n");
    assert_eq!(without_fences("```\na\n```\n```py\nb\n```"), "b\n");
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
