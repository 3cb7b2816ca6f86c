//! Final numbers, as models write them, right and wrong.

use llama_svf::reward::numeric::{final_number, Number, Numeric};

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

/// What each text's final number is; `None` where a careful reader finds no single one.
#[test]
fn numbers_as_models_write_them() {
    let table: &[(&str, Option<&str>)] = &[
        // Signs.
        ("#### –3", Some("-3")),
        ("#### -3", Some("-3")),
        ("#### −3", Some("-3")),
        ("#### —3", Some("-3")),
        ("#### - 3", Some("-3")),
        ("#### +3", Some("3")),                        // allenai/open-instruct#1530
        ("The answer is -$1,234.50", Some("-2469/2")), // google-deepmind/proeval#19
        ("The answer is minus 3.", Some("-3")),
        ("The temperature is negative 3 degrees.\nAnswer: negative 3 degrees", Some("-3")),
        ("\\boxed{- 3}", Some("-3")),
        ("\\boxed{(-3)}", Some("-3")),
        ("He owes 5 – 3 more than before", Some("3")),
        ("Answer: 16-18", None),
        // Powers and scales.
        ("1e5", Some("100000")),
        ("The answer is 1.5E-3.", Some("3/2000")),
        ("\\boxed{1.5 \\times 10^3}", Some("1500")),
        ("\\boxed{1.5\\cdot10^{3}}", Some("1500")),
        ("#### 10^5", Some("100000")),
        ("So it is 2 × 10⁵.", Some("200000")),
        ("The answer is 3*10**4", Some("30000")),
        ("\\boxed{10^{-2}}", Some("1/100")),
        ("The answer is 1e999", None),
        ("\\boxed{2^{10}}", None),
        ("The answer is $1.5 million.", Some("1500000")),
        ("Answer: 3 hundred", Some("300")),
        ("#### $10k", Some("10000")),
        ("#### 10 km", Some("10")),
        // Digits, separators, decorations.
        ("１８", Some("18")),
        ("答案：１８。", Some("18")),
        ("#### ١٨", Some("18")),
        ("উত্তর: ১৮", Some("18")), // MGSM writes Bengali digits
        ("答案是18元。", Some("18")),
        ("一共18个苹果", Some("18")),
        ("#### **18**", Some("18")),
        ("**18**", Some("18")),
        ("####18", Some("18")),
        ("####\n18", Some("18")),
        ("#### 18.", Some("18")),
        ("#### $18.00", Some("18")), // EleutherAI/lm-evaluation-harness#3214
        ("The total cost of the order is $29.00.", Some("29")),
        ("The total is 72 clips, altogether.", Some("72")), // jundot/omlx#3484
        ("#### ,", None),
        ("$18/hour", Some("18")),
        ("Answer: 18/hour", Some("18")),
        ("#### 1'000'000", Some("1000000")), // minimaxir/big-list-of-naughty-strings#48
        ("#### 1.000.000", Some("1000000")),
        ("#### 1.234.567,89", Some("123456789/100")),
        ("#### 1.234,5", Some("2469/2")),
        ("#### 1,00,000", Some("100000")),
        ("The answer is 70 000.", Some("70000")),
        ("Die Antwort ist 1,5.", Some("3/2")),
        ("#### 1.000", Some("1")),
        ("\\boxed{1,234}", Some("1234")),
        ("\\boxed{1\\,234}", Some("1234")),
        ("\\boxed{18^\\circ}", Some("18")),
        ("The answer is 18°C.", Some("18")),
        ("\\boxed{50\\%}", Some("50")),
        ("Rs.18", Some("18")),
        ("USD18", Some("18")),
        // Words.
        ("The answer is eighteen.", Some("18")),
        ("Eighteen.", Some("18")),
        ("\\boxed{\\text{two hundred and five}}", Some("205")),
        ("#### Twenty-five", Some("25")),
        ("The answer is minus three dollars.", Some("-3")),
        ("Answer: one thousand two hundred", Some("1200")),
        ("The answer is two and a half cups.", Some("5/2")),
        ("The answer is two dozen.", Some("24")),
        ("The answer is one of them.", None),
        ("No one knows.", None),
        ("billion billion billion billion billion billion", None),
        // Fractions, and divisions that nobody carried out.
        ("The answer is 3245/5.", None),
        ("The answer is 3245/5 = 649.", Some("649")),
        ("The answer is 3245/5, which is 649.", Some("649")),
        ("\\boxed{\\frac{3245}{5}}", None),
        ("So we need 3245/5.", None),
        ("#### 10/2", None),
        ("#### 6/4", Some("3/2")),
        ("\\boxed{\\frac{3}{4}}", Some("3/4")),
        ("\\boxed{\\dfrac34}", Some("3/4")),
        ("#### 2½", Some("5/2")),
        ("#### ½", Some("1/2")),
        ("\\boxed{2\\frac{1}{2}}", Some("5/2")),
        ("The answer is 2 and 1/2 cups", Some("5/2")),
        // Expressions and lists are no numbers.
        ("\\boxed{2\\sqrt{3}}", None),
        ("\\boxed{\\sqrt{18}}", None),
        ("\\boxed{18x}", None),
        ("\\boxed{x^{18}}", None),
        ("\\boxed{2\\pi}", None),
        ("The answer is $2\\sqrt{3}$.", None),
        ("The answer is 2π.", None),
        ("So its length is 2\\sqrt{3}.", None),
        ("The answer is 9 * 2.", None),
        ("The answer is 9 × 2 eggs", None),
        ("The answer is 16 - 3 = 13", Some("13")),
        ("\\boxed{3, 5}", None),
        ("\\boxed{3 \\text{ or } 5}", None),
        ("The answer is 3 or 5.", None),
        ("\\boxed{5!}", None),
        ("The answer is 5!", Some("5")),
        ("\\boxed{2\\mathrm{e}}", None),
        // Units and names around the number.
        ("\\boxed{18\\text{ eggs}}", Some("18")),
        ("\\boxed{18\\,\\mathrm{cm}^2}", Some("18")),
        ("\\boxed{18 \\text{ m}}", Some("18")),
        ("\\boxed{\\$18}", Some("18")),
        ("\\boxed{x=18}", Some("18")),
        ("\\boxed{x \\approx 18}", Some("18")),
        ("\\boxed{\\text{Total} = 18}", Some("18")),
        ("\\boxed{\\text{The answer is 460}}", Some("460")), // modelscope/evalscope#906
        ("\\boxed{\\textbf{18}}", Some("18")),
        ("It makes 18 g of CO2.", Some("18")),
        ("It makes 18 cm^2", Some("18")),
        ("He sells 18 eggs until 5:30.", Some("18")),
        ("He sells 18 eggs on the 5th", Some("18")),
        // Equations (antirez/ds4#319).
        ("Answer: m+n = 256+37 = 293", Some("293")),
        ("Answer: a+b+c = 12+25+25 = 62", Some("62")),
        ("Final answer: 082", Some("82")),
        ("\\boxed{5 = 2 + 3}", Some("5")),
        ("The answer is 18 (9 eggs = $2 each)", Some("18")),
        ("The answer is 18 (= 9 * 2).", Some("18")),
        ("So Tom makes 18 dollars (9 eggs = $2 each).", Some("18")),
        ("The answer is 18, since 9 * 2 = 18.", Some("18")),
        ("The answer is 5 where x = 3", Some("5")),
        ("The answer is 18 dollars, not 20.", Some("18")),
        // Ways to state it.
        ("The answer to the question is 18.", Some("18")),
        ("The answer (in dollars) is 18. It took 5 steps.", Some("18")),
        ("**Final Answer**\n\n18\n\nChecked 2 times.", Some("18")),
        ("### Answer: 18\n\nChecked 2 times.", Some("18")),
        ("<think>3</think> <answer>18</answer> 5", Some("18")), // flageval-baai/FlagEvalMM#105
        ("{\"answer\": 18, \"steps\": 3}", Some("18")),
        ("La respuesta es 18. Usé 2 pasos.", Some("18")),
        ("The answer would be approximately 18 eggs in 3 days", Some("18")),
        ("The answer is not 17. It's 18.", Some("18")),
        // Corrections, and statements that state nothing.
        ("#### 17\nWait, no. I forgot one.\n#### 18", Some("18")),
        ("\\boxed{17}\nWait, I made a mistake. The answer is 18.", Some("18")),
        ("The answer is 17. Let me check: no, the answer is 18.", Some("18")),
        ("#### 18\nThe answer is rounded to 2 digits.", Some("18")),
        ("\\boxed{18}. This answer is reasonable because 3 < 18.", Some("18")),
        ("#### 1. Count\n3 + 4 = 7\n#### 2. Add\n7 + 11 makes 18", Some("18")),
        (
            "2+40=42\n#### 42\n and the reasoning above confirms this result. and so on. It took 3 steps.",
            Some("42"),
        ), // verl-project/verl#7274
        // A model that goes on with the next question (sgl-project/sglang#29933, open-compass/opencompass#1818).
        ("9 * 2 = 18\n#### 18\n\nQuestion: Tom has 3 apples and 4 pears.\n#### 7", Some("18")),
        ("#### 17\nWait, no.\n#### 18\n\nQuestion: Tom has 3\n#### 7\n\nQuestion: 1\n#### 2", Some("18")),
        ("The answer is 5.\n\nQ: What is 4 + 5?\nA: The answer is 9.", Some("5")),
        ("\\boxed{5}\n\nProblem 2: Find x.\nSolution: \\boxed{9}", Some("5")),
        ("18\n\nQuestion: Tom has 3.\nAnswer: 7", Some("18")),
        (" 18 apples\nQ: Tom has 3.\nA: 7", Some("18")),
        ("6 - 2 = 4 apples.\n\nQuestion: Tom has 3 apples and 4 pears. How many?", Some("4")),
        ("The answer is 18.\nUser: And 3 more?\nAssistant: The answer is 21.", Some("18")),
        ("#### 18<|im_end|>\n<|im_start|>user\nNext: 3+4\n#### 7", Some("18")),
        ("#### 18\n\n### Instruction:\nAdd 3 and 4.\n\n### Response:\n#### 7", Some("18")),
        ("The answer is 18.\n\nHuman: 3+4?\n\nThe answer is 7.", Some("18")),
        ("答案是18。\n\n问题：小明有3个。\n答案是7。", Some("18")),
        ("#### 18 Question: Tom has 3 #### 7", Some("18")),
        // The question said again in front of the answer is no next one.
        ("Question: Tom has 3 apples. How many?\nAnswer: 18", Some("18")),
        ("There are 2 parts.\n\nProblem: 9 eggs at $2.\n\nSolution: 9 * 2 = 18\n#### 18", Some("18")),
    ];
    let mut failures = Vec::new();
    for (text, expected) in table {
        let found = final_number(text).map(|number| number.to_string());
        if found.as_deref() != *expected {
            failures.push(format!("{text:?}: {found:?}, expected {expected:?}"));
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), table.len(), failures.join("\n"));
}

#[test]
fn scales_and_fractions_are_compared_as_they_may_be_meant() {
    for (gold, completion, value) in [
        ("1.5", "$1.5 million", 1.0),
        ("1500000", "$1.5 million", 1.0),
        ("1500", "$1.5 million", 0.0),
        ("0.28", "28%", 1.0), // huggingface/Math-Verify#67
        ("28", "28 %", 1.0),
        ("28", "28 percent", 1.0),
        ("2", "The answer is two dozen.", 1.0),
        ("0.5", "The answer is 1/2.", 1.0),
        ("1/2", "The answer is 0.5", 1.0),
        ("1/2", "The answer is 2/4", 1.0),
        ("5", "The answer is 10/2", 0.0),
        ("10/2", "The answer is 5", 1.0),
        ("649", "The answer is 3245/5.", 0.0),
        ("649", "3245/5 = 649", 1.0),
        ("2", "\\boxed{2\\sqrt{3}}", 0.0),
        ("3", "\\boxed{2\\sqrt{3}}", 0.0),
    ] {
        let score = Numeric::default().score(Numeric::gold(gold).unwrap(), completion);
        assert_eq!(score.value, value, "{completion} for {gold}: {}", score.reason);
    }
    let echoed = Numeric::default().score(Numeric::gold("649").unwrap(), "The answer is 3245/5.");
    assert_eq!(echoed.reason, "found '3245/5', which is no single number, expected 649");
}
