//! Options that answers settle on, right and wrong.

use llama_svf::reward::choice::{Choice, Labels};

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
