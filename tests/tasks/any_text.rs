//! Whatever a model writes is scored, and takes no long time.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use llama_svf::reward::choice::{Choice, Labels};
use llama_svf::reward::code::without_fences;
use llama_svf::reward::latex;
use llama_svf::reward::numeric::Numeric;

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
