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

fn choice(labels: Labels, options: &[&str], gold: usize) -> Choice {
    Choice::new(labels, options.iter().map(|option| (*option).to_owned()).collect(), gold).unwrap()
}

/// Which label each completion settles on; `None` where a careful reader finds no single one.
fn check(labels: Labels, options: &[&str], table: &[(&str, Option<&str>)]) {
    let mut failures = Vec::new();
    for (completion, expected) in table {
        let settled: Vec<String> = (0..options.len())
            .filter(|&gold| choice(labels, options, gold).score(completion).value == 1.0)
            .map(|gold| labels.label(gold))
            .collect();
        if settled.first().map(String::as_str) != *expected || settled.len() > 1 {
            failures.push(format!("{completion:?}: {settled:?}, expected {expected:?}"));
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), table.len(), failures.join("\n"));
}

#[test]
fn options_as_models_name_them() {
    let options = ["oil", "breathing mask", "a plant", "Vitamin C"];
    check(Labels::Letters, &options, &[
        // Small letters (EleutherAI/lm-evaluation-harness#4188, UKGovernmentBEIS/inspect_ai#3910).
        ("The correct answer is d.", Some("D")),
        ("Answer: (b)", Some("B")),
        ("ANSWER: b", Some("B")),
        ("d", Some("D")),
        ("b. 4", Some("B")),
        ("b) breathing mask", Some("B")),
        ("the answer is **c**", Some("C")),
        ("The answer is b because it filters air.", Some("B")),
        ("The answer is a.", Some("A")),
        ("The answer is a plant.", Some("C")),
        ("The answer is a gas.", None),
        ("The answer is B because a car moves.", Some("B")),
        ("I would pick B — a safe choice.", Some("B")),
        ("b mask", None),
        // Pronouns and articles (antirez/ds4#319, openai/simple-evals#118, jundot/omlx#3668).
        ("Answer: I think it is C", Some("C")),
        ("Answer: I don't know", None),
        ("Answer: A good one would be C.", Some("C")),
        ("The answer is C because I computed the integral.", Some("C")),
        ("A plant", Some("C")),
        ("This is a B.", Some("B")),
        // Judgements of several options.
        ("A is incorrect because it burns. C is incorrect too. B is correct.", Some("B")),
        ("A: incorrect\nB: correct\nC: incorrect\nD: incorrect", Some("B")),
        ("(A) Wrong - it burns.\n(B) Correct - it filters.", Some("B")),
        ("D is the best answer.", Some("D")),
        ("I believe that option D is correct.", Some("D")),
        ("Only B is right.", Some("B")),
        ("B is not correct.", None),
        ("B and C are correct.", None),
        ("Is B correct? No, D is correct.", Some("D")),
        // Statements that state nothing leave the last one that does.
        ("The answer is A. The choice is clear.", Some("A")),
        ("The answer is B. Note that A is a common distractor.", Some("B")), // jundot/omlx#3668
        ("ANSWER IS D. A is incorrect.", Some("D")),
        ("The calculated answer is 11.\n\nAnswer seems to be A.\n\nAnswer: A", Some("A")), // groq/openbench#348
        ("Answer: this asks which is a colour\nANSWER: B", Some("B")),
        ("Answer: Let's think step by step. Oil burns. The answer is (B).", Some("B")), // open-compass/opencompass#1933
        ("I considered (A), but it is incorrect. Final answer: D.", Some("D")), // aniri15/OPD-V#2
        ("If the answer is A, it burns. Therefore B.", Some("B")),
        // Against an option (antirez/ds4#321).
        ("Answer: It is not B, the answer is D", Some("D")),
        ("Answer: rules out C, leaving D", Some("D")),
        ("Answer: D, not B", Some("D")),
        ("The answer is not A, it is B.", Some("B")),
        ("The answer is not A.", None),
        ("A and B are wrong, so it must be C.", Some("C")),
        ("A, B and D are all incorrect, which leaves C.", Some("C")),
        ("It can't be A or C. It's D.", Some("D")),
        ("Answer: B rather than A", Some("B")),
        ("Neither A nor B fits. I choose (D).", Some("D")),
        // Corrections.
        ("The answer is A. Wait, actually the answer is B.", Some("B")),
        ("The answer is A. Wait, no, it's B.", Some("B")),
        ("Answer: A\n\nHmm, that burns.\n\nAnswer: B", Some("B")),
        // Several.
        ("Answer: B or C", None),
        ("Answer: either B or C", None),
        ("Answer: A, C", None),
        ("Answer: A, B and C", None), // UKGovernmentBEIS/inspect_ai#3910
        ("Answer: A, B, and C", None), // UKGovernmentBEIS/inspect_ai#4835
        ("Answer: B/C", None),
        ("The answer is A (oil) or B (mask).", None),
        ("\\boxed{A, C}", None),
        ("\\boxed{\\text{A and C}}", None),
        ("Answer: A,", Some("A")), // UKGovernmentBEIS/inspect_ai#4912
        ("The answer is B, C is wrong.", Some("B")),
        // Words that hold letters (UKGovernmentBEIS/inspect_ai#2216, hexo-ai/sia#57).
        ("ANSWER: None of the above", None),
        ("ANSWER: Don't know", None),
        ("Actually this one is tricky, I'm unsure", None),
        ("Error: rate limited", None),
        ("Beware of D-day", None),
        // Beyond the options.
        ("The answer is E.", None),
        ("Answer: (F) because A burns", None),
        // Decorations (UKGovernmentBEIS/inspect_ai#5055 and #5145, open-compass/VLMEvalKit#1591).
        ("ANSWER: $B$", Some("B")),
        ("Answer: $B", Some("B")),
        ("ANSWER: **B**", Some("B")),
        ("Answer: \"B\"", Some("B")),
        ("Answer: [B]", Some("B")),
        ("Answer: `B`", Some("B")),
        ("**Answer:** B", Some("B")),
        ("**Answer: B**", Some("B")),
        ("### Answer\n\nB", Some("B")),
        ("The answer is:\n\n**B. breathing mask**", Some("B")),
        ("<answer>B</answer>", Some("B")),
        ("<answer>(B) breathing mask</answer>\nA burns.", Some("B")),
        ("{\"answer\": \"B\"}", Some("B")),
        ("{\"answer\": \"B\", \"reason\": \"A and C are wrong\"}", Some("B")),
        ("Final answer - B", Some("B")),
        ("Option B", Some("B")),
        ("Option B: breathing mask", Some("B")),
        ("The answer is option (B).", Some("B")),
        ("B - breathing mask", Some("B")),
        ("I would choose (D)", Some("D")),
        ("I'll go with option D.", Some("D")),
        ("Let's select B", Some("B")),
        // Boxes (NVIDIA-NeMo/Gym#1790, NVIDIA-NeMo/Skills#1511, MakazhanAlpamys/Soup#357).
        ("\\boxed{\\text{B}}", Some("B")),
        ("\\boxed{B. breathing mask}", Some("B")),
        ("\\boxed{\\text{B: breathing mask}}", Some("B")),
        ("\\boxed{\\textbf{(B)}}", Some("B")),
        ("$$\\boxed{D}$$", Some("D")),
        ("\\boxed{\\text{breathing mask}}", Some("B")),
        ("so \\boxed{\\langle H\\rangle \\ll \\Delta E}\n\n**Answer: D**", Some("D")),
        ("**Answer: D**, as \\boxed{\\Delta B}", Some("D")),
        ("\\boxed{C}? No: \\boxed{B}", Some("B")),
        // The text in place of the label.
        ("The answer is the breathing mask.", Some("B")),
        ("Answer: Vitamin C, since oil burns", Some("D")),
        ("It's vitamin C.", Some("D")),
        // All options again, and then the answer.
        ("A. oil\nB. breathing mask\nC. a plant\nD. Vitamin C\n\nB", Some("B")),
        ("A) oil\nB) breathing mask\nC) a plant\nD) Vitamin C\nIt must be C.", Some("C")),
        ("Options:\n- A: oil\n- B: breathing mask\n- C: a plant\n- D: Vitamin C\nOnly the mask helps: the breathing mask.", Some("B")),
        ("The temperature and vibration data both point to wear.\n\nC", Some("C")), // IBM/AssetOpsBench#477
        // A model that goes on with the next question.
        ("B\n\nQuestion: What burns?\nA. oil\nB. water\nAnswer: A", Some("B")),
        (" (B)\nQ: What burns?\nThe answer is A.", Some("B")),
        ("The answer is B.\n\nQuestion: What burns?\nThe answer is A.", Some("B")),
        ("Answer: B<|im_end|>\n<|im_start|>user\nAnswer: A", Some("B")),
        ("B is correct.\n\nUser: Are you sure?\nAssistant: The answer is A.", Some("B")),
        // Other languages (open-compass/opencompass#2600, openai/simple-evals#33) and wide characters.
        ("答案：B", Some("B")),
        ("答案是Ｂ。", Some("B")),
        ("正确答案为（Ｃ），因为A会燃烧。", Some("C")),
        ("故选B", Some("B")),
        ("Antwort:\n\nAntwort: C", Some("C")),
        ("La respuesta correcta es la B.", Some("B")),
        ("La réponse est D.", Some("D")),
    ]);
}

#[test]
fn labels_may_be_numbers() {
    check(
        Labels::Numbers,
        &["two legs", "four legs", "3 legs"],
        &[
            ("2", Some("2")),
            ("(2)", Some("2")),
            ("2. four legs", Some("2")),
            ("The answer is 2.", Some("2")),
            ("The answer is option 3", Some("3")),
            ("Answer: **1**", Some("1")),
            ("It has 2 legs, so option 1 is correct.", Some("1")),
            ("The answer is 3 legs.", Some("3")),
            ("The answer is 2 grams.", None),
            ("The answer is 2.5", None),
            ("The answer is 4.", None),
            ("1 or 2", None),
            ("B", None),
        ],
    );
    // More options than letters before I.
    let ten = ["a1", "b2", "c3", "d4", "e5", "f6", "g7", "h8", "i9", "j10"];
    check(
        Labels::Letters,
        &ten,
        &[
            ("Answer: I think it is C", Some("C")),
            ("Answer: I", Some("I")),
            ("The answer is (I).", Some("I")),
            ("I am sure that it is J.", Some("J")),
            ("I is correct.", Some("I")),
            ("The answer is C because I computed it.", Some("C")),
            ("ANSWER: I don't know", None),
        ],
    );
}
