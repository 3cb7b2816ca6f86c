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
