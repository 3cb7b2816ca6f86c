//! LaTeX answers, as models write them, right and wrong.

use llama_svf::reward::latex;

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
