//! LaTeX answers, as models write them, right and wrong. A name and a number say which public report a row is from.

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use llama_svf::reward::latex;

fn assert_same(rows: &[(&str, &str)]) {
    let failures: Vec<_> = rows
        .iter()
        .filter(|(a, b)| !latex::equivalent(a, b) || !latex::equivalent(b, a))
        .map(|(a, b)| format!("{a} and {b} are the same"))
        .collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

fn assert_different(rows: &[(&str, &str)]) {
    let failures: Vec<_> = rows
        .iter()
        .filter(|(a, b)| latex::equivalent(a, b) || latex::equivalent(b, a))
        .map(|(a, b)| format!("{a} and {b} are not the same"))
        .collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn ways_of_writing() {
    assert_same(&[
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
        ("\\text{The answer is } 5", "5"),
        ("\\text{So the final answer is 5}", "5"),
        ("\\textbf{Answer: } \\frac12", "0.5"),
        ("The answer is Tuesday", "\\text{Tuesday}"),
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
        // Characters beside ASCII.
        ("−3", "-3"),
        ("√2", "\\sqrt{2}"),
        ("2√3", "2\\sqrt{3}"),
        ("√(x+1)", "\\sqrt{x+1}"),
        ("π/2", "\\frac{\\pi}{2}"),
        ("½", "\\frac{1}{2}"),
        ("2½", "\\frac{5}{2}"),
        ("x²+1", "x^2+1"),
        ("x¹⁰", "x^{10}"),
        ("3×10⁴", "30000"),
        ("2·x", "2x"),
        ("１８", "18"),
        ("x ≤ 3", "x \\le 3"),
        ("(−∞, 3]", "(-\\infty,3]"),
        ("[0,1] ∪ [2,3]", "[0,1]\\cup[2,3]"),
        ("45°", "45"),
        // Fractions and roots without braces.
        ("\\frac1{72}", "\\frac{1}{72}"),
        ("\\frac 9{20}", "\\frac{9}{20}"),
        ("\\frac\\pi4", "\\frac{\\pi}{4}"),
        ("\\frac{\\sqrt{6}}3", "\\frac{\\sqrt6}{3}"),
        ("\\cfrac{25}{16}", "25/16"),
        ("sqrt(2)/2", "\\frac{\\sqrt{2}}{2}"),
        ("sqrt3", "\\sqrt{3}"),
        ("x**2 + 1", "x^2+1"),
        ("2^10x", "2^{10}x"),
        ("2*pi", "2\\pi"),
        // Thousands, powers of ten, money.
        ("1 000 000", "1000000"),
        ("10\\,080", "10080"),
        ("11,\\! 111,\\! 111,\\! 100", "11111111100"),
        ("1,000,000", "10^6"),
        ("\\frac{12}{5,\\!525}", "\\frac{12}{5525}"),
        ("1.5 \\times 10^3", "1500"),
        ("1.5e3", "1500"),
        ("2 \\cdot 10^{-3}", "0.002"),
        ("\\$0.50", ".5"),
        ("€12", "12"),
        ("118 \\text{ dollars}", "\\$118"),
        // Fonts, sizes, spaces.
        ("\\boldsymbol{5}", "5"),
        ("\\mathbf{\\frac{1}{2}}", "\\frac12"),
        ("\\displaystyle\\frac{1}{2}", "\\frac12"),
        ("\\bigl(1, 2\\bigr)", "(1,2)"),
        ("\\(5\\)", "5"),
        ("\\[x^2\\]", "x^2"),
        ("$$\\frac{1}{2}$$", "\\frac12"),
        ("{5}", "5"),
        ("\\boxed{5}", "5"),
    ]);
}

#[test]
fn equal_values() {
    assert_same(&[
        // simple-evals' own examples of equal answers; also deepseek-ai/DeepSeek-R1#561
        ("2x+3", "3+2x"),
        ("3/2", "1.5"),
        ("x^2+2x+1", "(x+1)^2"),
        ("2/(-3)", "-2/3"),
        ("72 degrees", "72"),
        ("64", "64 square feet"),
        ("\\pi/2", "\\dfrac{\\pi}{2}"),
        // QwenLM/Qwen2.5-Math#57
        ("-4n+10", "$10-4 n$"),
        // huggingface/Math-Verify#3
        ("\\frac{x}{7}+\\frac{2}{7}", "\\frac{x+2}{7}"),
        ("\\sec^2(y)", "\\tan^2(y)+1"),
        ("1,4.5", "1,\\frac{9}{2}"),
        ("-34x-45y+20z-100=0", "34x+45y-20z+100=0"),
        (
            "-\\frac{8x^2}{9(x^2-2)^{5/3}}+\\frac{2}{3(x^2-2)^{2/3}}",
            "-\\frac{2(x^2+6)}{9(x^2-2)\\sqrt[3]{x^2-2}^2}",
        ),
        (
            "\\begin{pmatrix}-\\frac{7}{4}&-2\\\\4&\\frac{1}{4}\\end{pmatrix}",
            "(\\begin{pmatrix}-\\frac{7}{4}&-2\\\\4&\\frac{1}{4}\\\\\\end{pmatrix})",
        ),
        // huggingface/Math-Verify#64
        ("\\sqrt{1/n}", "\\frac{1}{\\sqrt{n}}"),
        // huggingface/Math-Verify#26
        ("2x+4y-3=0", "y = -1/2*x + 3/4"),
        // QwenLM/Qwen2.5-Math#29 and huggingface/Math-Verify#56
        ("(3, \\frac{\\pi}{2})", "\\left( 3, \\frac{\\pi}{2} \\right)"),
        // Irrational numbers in any form.
        ("\\sqrt{8}", "2\\sqrt{2}"),
        ("\\frac{1}{\\sqrt2}", "\\frac{\\sqrt2}{2}"),
        ("\\frac{6\\pi}{4}", "\\frac{3\\pi}{2}"),
        ("\\frac{2+4\\sqrt{3}}{2}", "1+2\\sqrt3"),
        ("\\cos 75^\\circ", "\\frac{\\sqrt6-\\sqrt2}{4}"),
        ("2\\cos 15^{\\circ}", "2\\cos\\frac{\\pi}{12}"),
        ("\\ln 8", "3\\ln 2"),
        ("\\log_2 3", "\\frac{\\ln 3}{\\ln 2}"),
        ("e^{i\\pi/2}\\sqrt2", "\\sqrt{2}i"),
        ("\\sqrt{-4}", "2i"),
        ("(1+i)^2", "2i"),
        ("\\frac{1}{1+i}", "\\frac12-\\frac12i"),
        ("\\sqrt[3]{16}", "2\\sqrt[3]{2}"),
        ("2^{1/2}", "\\sqrt{2}"),
        ("\\sqrt{\\sqrt{16}\\cdot 2}", "2\\sqrt2"),
        ("0.5\\sqrt{2}", "\\frac{\\sqrt{2}}{2}"),
        ("\\sqrt{3+2\\sqrt2}", "1+\\sqrt2"),
        // sympy/sympy#21677, #21676 and #29663
        ("\\frac{1}{x(y-z)}", "\\frac{1}{xy-xz}"),
        ("\\eta \\left(\\sqrt{2-\\eta^2} + \\eta \\right)", "\\eta^2+\\eta\\sqrt{2-\\eta^2}"),
        ("a^{2}bc", "c\\cdot b a^2"),
        ("\\sqrt{2} x", "x\\sqrt2"),
        // josdejong/mathjs#621
        ("(x)(3)+4", "3x+4"),
        // Formulas.
        ("(2x+3)(2x-1)(2x+1)", "8x^3+12x^2-2x-3"),
        ("x(x+2)", "x^2+2x"),
        ("2(x+1)", "2x+2"),
        ("-(x-3)", "3-x"),
        ("\\frac{2a+b}{2}", "a+\\frac{b}{2}"),
        ("\\frac{1}{y}+y", "\\frac{1+y^2}{y}"),
        ("\\frac{x^2-1}{x-1}", "x+1"),
        ("x\\cdot x", "x^2"),
        ("yx", "xy"),
        ("\\sin 2x", "2\\sin x\\cos x"),
        ("\\sin^2 x + \\cos^2 x + y", "1+y"),
        ("\\sqrt{x^2}", "|x|"),
        ("\\sqrt{x}\\sqrt{x}", "x"),
        ("36x\\sqrt{35x}", "\\sqrt{45360x^3}"),
        ("\\binom{n}{2}", "\\frac{n(n-1)}{2}"),
        ("{n}!\\cdot(n+1)", "(n+1)!"),
        ("\\lfloor x \\rfloor + 1", "\\lfloor x+1\\rfloor"),
        ("x^{-1}", "\\frac{1}{x}"),
        ("e^{2\\ln x}", "x^2"),
        ("3-2f(x)", "-2f(x)+3"),
        ("1/2x", "\\frac{x}{2}"),
        ("4^n", "2^{2n}"),
        ("2^n \\cdot 2", "2^{n+1}"),
        ("\\frac{n!}{(n-2)!}", "n(n-1)"),
        ("|x-2|", "|2-x|"),
        ("\\log_{10} x", "\\log x"),
        ("\\frac{1}{2}\\ln(3)", "\\ln\\sqrt3"),
        ("\\sin(x)^2", "\\sin^2 x"),
        ("\\frac{1}{\\sqrt{2}-1}", "\\sqrt2+1"),
        ("a_1+a_2", "a_{2}+a_{1}"),
        ("\\sin^{-1} x", "\\arcsin x"),
        ("\\frac{2^{2005}+1}{3\\cdot 2^{2006}}", "\\frac{1+2^{2005}}{6\\cdot 2^{2005}}"),
        ("2^{2005}", "2\\cdot 2^{2004}"),
        ("\\frac{1}{2004!}", "\\frac{1}{2004\\cdot 2003!}"),
        ("z^{96}\\cdot 7(4z+1)", "7z^{96}(4z+1)"),
    ]);
    assert_different(&[
        ("x^2+2x+1", "y^2+2y+1"),
        ("x+1", "x-1"),
        ("x^2", "x^3"),
        ("x", "|x|"),
        ("\\sqrt{x^2}", "x"),
        ("f(2x)", "2f(x)"),
        ("f^{-1}(x)", "f(x)"),
        ("(-2)^n", "-2^n"),
        ("p-q", "q-p"),
        ("\\sin x^2", "(\\sin x)^2"),
        ("a^{b^c}", "(a^b)^c"),
        ("x^2 + y^2 = 13", "x^2+y^2=14"),
        ("\\infty", "-\\infty"),
        ("\\sin 3x", "3\\sin x"),
        ("a_1+a_2", "a_1+a_3"),
        ("x_1", "x_2"),
        ("2\\sqrt{3}", "3\\sqrt{2}"),
        ("\\ln x", "\\log x"),
        ("\\sqrt{-x^2-1}", "\\sqrt{-x^2-2}"),
        ("\\frac{x}{0}", "\\frac{y}{0}"),
        ("0^{-1}x", "0^{-1}y"),
        // huggingface/Math-Verify#14
        ("\\frac{1}{2004!}", "\\frac{1}{2006!}"),
        ("\\frac{1}{2^{99}}", "\\frac{1}{2^{98}}"),
        ("\\frac{2^{2005}+1}{3 \\cdot 2^{2006}}", "\\frac{1}{3 \\cdot 2^{2006}}"),
        ("1 - \\frac{1}{\\mathrm{e}}", "1 + \\frac{1}{\\mathrm{e}}"),
        ("F_n = \\sum_{k=0}^{n-1} F_k F_{n-k-1}", "F_n = \\sum_{k=0}^{n-2} F_k F_{n-k-2}"),
        // huggingface/Math-Verify#41
        ("4", "4\\sqrt(2)"),
        ("4", "4\\sqrt{2}"),
        // huggingface/Math-Verify#56
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3, \\frac{2\\pi}{3})"),
        // huggingface/Math-Verify#60
        ("3*x-1*y+13=0", "3x + 4y + 14=0"),
        // huggingface/Math-Verify#64
        ("\\sqrt{n}", "\\frac{1}{\\sqrt{n}}"),
        // huggingface/Math-Verify#75: nothing says that the letters are free
        ("Y(x)=-x+C+\\frac{D}{x}", "Y(x)=A+\\frac{B}{x}-x"),
        // huggingface/open-r1#566
        ("\\frac{64}{400}", "\\frac{63}{400}"),
    ]);
}

#[test]
fn numbers_are_written_out() {
    assert_same(&[
        // huggingface/Math-Verify#34 and pull request 81
        ("1 1/4", "\\frac{5}{4}"),
        ("2.5", "$2\\frac{1}{2}$"),
        ("11 5/6", "\\frac{71}{6}"),
        ("-1\\frac{1}{2}", "-1.5"),
        ("137 \\frac{1}{2}", "137.5"),
        ("0.333...", "0.\\overline{3}"),
        ("\\frac13", "0.\\overline{3}"),
        ("0.\\bar{3}", "\\frac{1}{3}"),
        ("0.1\\overline{6}", "1/6"),
        ("0.1666\\ldots", "1/6"),
        ("0.\\overline{142857}", "\\frac17"),
        ("0.\\overline{9}", "1"),
        (".\\overline{3}", "\\frac13"),
        ("0.3\u{305}6\u{305}", "\\frac{4}{11}"),
        ("12.0\\overline{45}", "\\frac{265}{22}"),
        ("-\\frac{-3}{4}", "0.75"),
        ("123456789012345678901234567890", "123456789012345678901234567890.0"),
    ]);
    assert_different(&[
        ("1 1/4", "\\frac{11}{4}"),
        ("1 1/4", "\\frac14"),
        // huggingface/Math-Verify pull request 81
        ("2 2/3", "2"),
        ("4 10/3", "10"),
        ("4 10/3", "\\frac{22}{3}"),
        ("0.3", "0.\\overline{3}"),
        ("0.333", "\\frac{1}{3}"),
        ("0.33", "0.\\overline{3}"),
        ("0.9", "0.\\overline{9}"),
        ("0.36", "0.\\overline{36}"),
        ("3.14", "\\pi"),
        ("3.141592653589793", "\\pi"),
        ("3.14159...", "\\pi"),
        ("22/7", "\\pi"),
        ("1.414", "\\sqrt{2}"),
        ("0.7071067811865476", "\\frac{\\sqrt{2}}{2}"),
        // simple-evals' own example of an answer that is not simplified
        ("3245/5", "649"),
        ("15", "\\frac{120}{8}"),
        ("1024", "2^{10}"),
        ("17", "10+7"),
        ("4", "\\sqrt{16}"),
        ("120", "5!"),
        ("10", "\\binom{5}{2}"),
        ("3", "\\log_2 8"),
        ("-1", "e^{i\\pi}"),
        ("-1", "i^2"),
        ("\\frac12", "\\cos 60^\\circ"),
        ("\\frac12", "\\frac24"),
        ("4", "\\frac{4}{1}"),
        ("3", "|-3|"),
        ("1", "\\sin^2 x + \\cos^2 x"),
        ("12", "3 \\cdot 4"),
        ("\\frac{1}{2}", "\\frac{1}{3}"),
        ("1", "-1"),
        ("2", "\\sqrt{2}"),
        ("50\\%", "0.5"),
        ("1011_2", "1011_3"),
        ("1011_2", "11"),
        ("\\frac{100}{3}", "33.3"),
        ("123456789012345678901234567890", "123456789012345678901234567891"),
        ("5,000", "5"),
        ("1e5", "1e6"),
    ]);
}

#[test]
fn units_and_variables() {
    assert_same(&[
        ("5 g", "5"),
        ("5\\text{ g}", "5"),
        ("5\\,\\mathrm{cm}", "5"),
        ("5~\\mathrm{km/h}", "5"),
        ("5 m/s", "5"),
        ("12 cm^2", "12"),
        ("12 cm²", "12"),
        ("144 \\mbox{ m}^3", "144"),
        ("99\\pi \\text{ square inches}", "99\\pi"),
        ("\\frac{68}{3}\\text{ pounds}", "\\frac{68}{3}"),
        ("65 \\text{ children tickets }", "65"),
        ("18\\text{ ways.}", "18"),
        ("73 residents", "73"),
        ("\\text{73 residents}", "73"),
        ("\\text{5 cm}", "5"),
        ("73 residents", "73 \\text{ people}"),
        ("5 million", "5000000"),
        ("\\$1.5 \\text{ million dollars}", "1,500,000"),
        ("9\\text{ a.m.}", "9 \\text{ AM}"),
        ("9\\text{ a.m.}", "9"),
        ("\\text{4:30 p.m.}", "4:30 \\text{ PM}"),
        ("25 \\, \\text{km}", "25"),
        ("2\\mathrm{e}", "2e"),
        ("2\\mathrm{i}", "2i"),
        ("5\\mathrm{d}", "5d"),
    ]);
    assert_different(&[
        ("2\\mathrm{e}", "2"),
        ("\\sqrt{2}g", "\\sqrt{2}"),
        ("\\sqrt{2} g", "\\sqrt{2}"),
        ("2\\pi", "2"),
        ("2\\pi m", "2\\pi"),
        ("5x", "5"),
        ("5\\text{x}", "5"),
        ("5m", "5"),
        ("3pa", "3"),
        ("5 million", "5"),
        ("5 \\text{ million}", "5"),
        ("5n", "5"),
        ("10-4 n", "10-4"),
        ("3i", "3"),
        ("2k", "2"),
        ("9\\text{ a.m.}", "9\\text{ p.m.}"),
        ("9\\text{ a.m.}", "-9"),
        ("\\text{1:03 PM}", "103"),
        ("\\text{1:03 PM}", "\\text{1:03 AM}"),
        ("\\frac{1}{\\mathrm{e}}", "1"),
    ]);
}

#[test]
fn several_values() {
    assert_same(&[
        // modelscope/ms-swift#4541
        ("a=1 \\text{ or } a=-2", "1,-2"),
        // huggingface/Math-Verify#14
        ("19, 46, and 82", "19, 46, \\text{ and } 82"),
        ("\\boxed{3}, \\boxed{5}, \\boxed{7}", "3,5,7"),
        // EleutherAI/lm-evaluation-harness#3652
        ("2, -1, 7", "7, 2, -1"),
        ("x = 3 \\text{ or } x = 5", "5, 3"),
        ("x=3 or x=5", "3,5"),
        ("x = 3, 5", "3,5"),
        ("3; 5", "3,5"),
        ("1 \\quad\\text{and}\\quad 2", "1,2"),
        ("\\{3,5\\}", "3,5"),
        ("\\pm 3", "3,-3"),
        ("x = \\pm 3", "-3,3"),
        ("1 \\pm \\sqrt{19}", "1+\\sqrt{19}, 1-\\sqrt{19}"),
        ("\\frac{1\\pm\\sqrt5}{2}", "\\frac{1+\\sqrt5}{2},\\frac{1-\\sqrt5}{2}"),
        ("\\{1\\pm\\sqrt{5},-2\\}", "-2, 1-\\sqrt5, 1+\\sqrt5"),
        ("3 ± 2√2", "3 \\pm 2 \\sqrt{2}"),
        ("\\text{A, C, F}", "A,C,F"),
        ("B and C", "B, C"),
        ("7, -2, \\text{ and } -5", "-5,-2,7"),
        ("0.5, 2\\sqrt2", "\\sqrt8, \\frac12"),
        ("(x,y)=(1,2)", "(1,2)"),
        ("x=1, y=2", "(1,2)"),
        ("\\langle 1,2\\rangle", "(1,2)"),
        ("(a+b, 2)", "(b+a,2)"),
        ("1, 2, \\ldots, n", "1,2,...,n"),
        ("\\begin{aligned} x &= 1 \\\\ x &= 2 \\end{aligned}", "1,2"),
        (
            "\\left[\\begin{array}{cc}1&2\\\\3&4\\end{array}\\right]",
            "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
        ),
        (
            "\\begin{pmatrix} 1/\\sqrt{2} \\\\ 1 \\end{pmatrix}",
            "\\begin{bmatrix}\\frac{\\sqrt2}{2}\\\\1\\end{bmatrix}",
        ),
    ]);
    assert_different(&[
        ("(1,2)", "(2,1)"),
        ("(1,2)", "[1,2]"),
        ("[1,2)", "[1,2]"),
        ("\\{1,2\\}", "\\{1,3\\}"),
        ("\\{1,1,2\\}", "\\{1,2,2\\}"),
        ("1,2", "1,2,3"),
        ("1000", "1,0000"),
        ("100,200", "200,100"),
        ("12", "1,2"),
        ("3,5", "(3,5)"),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1&2\\end{pmatrix}"),
        ("\\begin{vmatrix}1&2\\\\3&4\\end{vmatrix}", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"),
        // huggingface/Math-Verify#14
        ("n=2, 3, 4", "n=1, 2, 3"),
        ("D = (0, 1)", "D = (0, 1.5)"),
        ("19, 46, \\text{ and } 82", "21, 36, and 82"),
        ("\\pm 2021", "2021"),
        ("12:00", "1:00"),
        ("1, 2, \\ldots, n", "1, 3, 5, \\ldots, 2n-1"),
        ("1:2:3:\\ldots", "1:4:9:\\ldots"),
        // huggingface/Math-Verify#47
        ("1331 \\text{ and } 1728", "1728"),
        ("x=2, y=1", "(1,2)"),
        ("3:1", "1:3"),
        ("a=1 \\text{ or } a=-2", "1,2"),
    ]);
}

#[test]
fn sets_and_relations() {
    assert_same(&[
        // huggingface/Math-Verify#10, #25 and #71
        ("(0, 12.5)", "0 < x < 12.5"),
        ("m \\geq \\sqrt{2}", "m \\in [\\sqrt{2}, +\\infty)"),
        ("x<3", "(-\\infty, 3)"),
        ("x>3", "3<x"),
        ("x \\geq -\\frac12", "-0.5 \\le x"),
        ("2x > y", "x - \\frac{y}{2} > 0"),
        ("x - 3 < 2y", "2y > x - 3"),
        ("\\mathbb{R}", "(-\\infty,\\infty)"),
        ("\\text{all real numbers}", "\\mathbb{R}"),
        ("\\mathbb{R} \\setminus \\{3, -7\\}", "(-\\infty, -7)\\cup(-7, 3)\\cup(3, \\infty)"),
        ("\\{x : x > 3\\}", "(3,\\infty)"),
        ("\\{x \\mid x > 3\\}", "x > 3"),
        ("x < 1 \\text{ or } x > 2", "(-\\infty,1)\\cup(2,\\infty)"),
        ("x \\ne 3", "(-\\infty,3)\\cup(3,\\infty)"),
        ("(2,\\infty)\\cup(-\\infty,1)", "(-\\infty,1)\\cup(2,\\infty)"),
        ("(-\\infty, 1) U (2, \\infty)", "(-\\infty,1)\\cup(2,\\infty)"),
        ("x in [1,2]", "[1,2]"),
        ("[5,5 \\sqrt{2}]", "[5,\\sqrt{50}]"),
        ("\\{-1\\} \\cup [0,7)", "[0,7)\\cup\\{-1\\}"),
        ("y=2x+3", "2x+3"),
        ("y=2x+3", "y=3+2x"),
        ("y = 2x", "2x - y = 0"),
        ("\\frac{x^2}{16} - \\frac{y^2}{9} = 1", "9x^2 - 16y^2 = 144"),
        ("x - 3z = 0", "x = 3z"),
        ("5 = x", "5"),
        ("x = 2 + 3 = 5", "5"),
        ("\\frac{10}{4} = 2.5", "2.5"),
        ("\\angle ABC = 30^\\circ", "30"),
        ("AB = 5", "5"),
        ("f(3) = 7", "7"),
        ("P(A) = \\frac13", "1/3"),
        ("a+b = 7", "7"),
        ("\\text{Area} = 12", "12"),
        ("f(x) = x^2 + 1", "y = x^2+1"),
        ("f^{-1}(x) = \\frac{x-1}{2}", "\\frac{x-1}{2}"),
        ("x\\le -2 \\text{ or } x \\ge 2", "(-\\infty, -2] \\cup [2, \\infty)"),
        ("\\{x \\in \\mathbb{R} : x \\neq 1\\}", "(-\\infty,1)\\cup(1,\\infty)"),
        ("y = -\\frac{1}{2}x^2 + 4x - 6", "y = -\\frac{1}{2} (x-4)^2 + 2"),
        ("5x - 7y + 11z = -4", "-5x + 7y - 11z - 4 = 0"),
        ("\\sqrt{2} \\approx 1.414", "\\sqrt2"),
        ("f(2) < f(1) < f(4)", "f(4) > f(1) > f(2)"),
        // rasbt/reasoning-from-scratch#133
        ("x=5", "5"),
        ("(0,9) \\cup (9,36)", "(9,36)\\cup(0,9)"),
    ]);
    assert_different(&[
        ("x>3", "x<3"),
        ("x>3", "x\\ge 3"),
        ("x>3", "[3,\\infty)"),
        ("x<3", "y>3"),
        ("-x>3", "x>3"),
        ("x^2=4", "4"),
        ("2x=10", "10"),
        ("4x-5y=-50", "-50"),
        ("x=5", "y=5"),
        // The equation of the question solves nothing.
        ("2x > 6", "x > 3"),
        ("2x+3=0", "x=-\\frac32"),
        ("x^2=9", "x=3"),
        ("\\mathbb{R}", "(0,\\infty)"),
        ("y=2x", "x=2y"),
        ("10x - 4y - 5z - 20 = 0", "0"),
        ("f(2) < f(1) < f(4)", "f(2) < f(4) < f(1)"),
        ("(-\\infty,1)\\cup(2,\\infty)", "(-\\infty,1]\\cup(2,\\infty)"),
        ("x \\ne 3", "x = 3"),
        ("x = 2 + 3 = 6", "5"),
        // huggingface/Math-Verify#64
        ("f(x) = 0", "\\forall x>0, f(x) = 0"),
    ]);
}

#[test]
fn names() {
    assert_same(&[
        ("\\text{Tuesday}", "Tuesday"),
        ("\\text{Even}", "even"),
        ("\\textbf{(B)}", "B"),
        ("\\text{(B)}", "B"),
        ("\\mathrm{(B)}", "(B)"),
        ("(B)", "B"),
        ("\\text{VW}", "VW"),
        ("\\text{June 20}", "June 20"),
        ("\\overline{CD}", "CD"),
        // huggingface/Math-Verify#37
        ("\\text{13}", "13"),
        // QwenLM/Qwen2.5-Math#29
        ("\\text{Evelyn}", "Evelyn"),
        ("\\text{odd}", "odd"),
        ("\\text{no solution}", "No solution"),
        ("\"Tuesday\"", "Tuesday"),
    ]);
    assert_different(&[
        ("\\text{even}", "\\text{odd}"),
        ("A", "B"),
        ("a", "A"),
        ("\\text{VW}", "WV"),
        ("\\text{June 20}", "June 21"),
        ("\\text{even}", "neve"),
        ("\\text{Monday}", "5"),
        ("\\bar z", "z"),
        ("", ""),
        ("\\text{}", "\\text{}1"),
    ]);
}

#[test]
fn answers_are_found() {
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
        // The instruction repeated, EleutherAI/lm-evaluation-harness#3477
        ("Mark your solution with \\boxed\nAnswer: \\boxed{42}", Some("42")),
        ("It is \\boxed{42}, as asked in \\boxed form.", Some("42")),
        ("It is \\boxed{42}. (I used \\boxed{}.)", Some("42")),
        // huggingface/Math-Verify#44
        ("so \\boxed{840}.,but let me\n\n**Final Answer**\n\\boxed{840}", Some("840")),
        ("\\boxed{5}, \\boxed{5}", Some("5")),
        ("\\boxed{\\boxed{5}}", Some("5")),
        // EleutherAI/lm-evaluation-harness pull request 3644
        ("The domain is \\boxed{[2,5)}", Some("[2,5)")),
        ("<think>4</think><answer> 48480 </answer>", Some("48480")),
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
fn completions_are_scored() {
    let table = [
        ("\\boxed{1 1/4}", "\\frac{5}{4}", 1.0),
        ("\\boxed{1 1/4}", "\\frac{11}{4}", 0.0),
        ("\\boxed{3+2x}", "2x+3", 1.0),
        ("\\boxed{2/(-3)}", "-2/3", 1.0),
        ("\\boxed{\\pi/2}", "\\dfrac{\\pi}{2}", 1.0),
        ("\\boxed{-4n+10}", "$10-4 n$", 1.0),
        ("\\boxed{a=1 \\text{ or } a=-2}", "1,-2", 1.0),
        ("\\boxed{19, 46, and 82}", "19, 46, \\text{ and } 82", 1.0),
        ("\\boxed{2\\mathrm{e}}", "2", 0.0),
        ("\\boxed{\\sqrt{2}g}", "\\sqrt{2}", 0.0),
        ("\\boxed{0.3}", "0.\\overline{3}", 0.0),
        ("\\boxed{3245/5}", "649", 0.0),
        ("**Answer:** 4.", "4", 1.0),
        ("The final answer is **73**.", "73", 1.0),
        // huggingface/Math-Verify#76
        ("So the answer is consistent.\n\nThus, it is **73**.\n\n---\n\n✅ Final Answer: **73**", "73", 1.0),
        ("Answer: $x=3$", "3", 1.0),
        ("Answer: x = 3", "3", 1.0),
        ("**Final Answer:**\n\n$$x = \\frac{1}{2}$$", "\\frac12", 1.0),
        ("### Final Answer\n5", "5", 1.0),
        // EleutherAI/lm-evaluation-harness#2552
        ("Thus the answer is \\[ \\boxed{42} \\]", "42", 1.0),
        ("Thus the answer is \\[ 42 \\]", "42", 1.0),
        ("The answer is \\(\\frac{3}{4}\\).", "0.75", 1.0),
        ("The answer is: $3$ or $5$.", "3,5", 1.0),
        ("The answers are 3 and 5.", "3,5", 1.0),
        ("The answer is 18 because 9 \\cdot 2 = 18.", "18", 1.0),
        ("The answer is 18 (9 eggs each).", "18", 1.0),
        ("The final answer is $\\boxed{5}$. I hope it is correct.", "5", 1.0),
        ("Answer: 5\n\nI hope this answer is correct.", "5", 1.0),
        ("Answer: the value is $7$.", "7", 1.0),
        ("Answer: The area is 12 square units.", "12", 1.0),
        ("Answer: There are 12 ways to do it.", "12", 1.0),
        ("**Answer**: 4", "4", 1.0),
        ("_Answer:_ 4", "4", 1.0),
        ("## Answer\n\n$$4$$", "4", 1.0),
        ("Final answer: \\(x = 4\\)", "4", 1.0),
        ("Answer: $12 per hour", "12", 1.0),
        ("Answer: $5 and $6", "5,6", 1.0),
        ("**Answer: 4**", "4", 1.0),
        ("Answer: 9 a.m.", "9\\text{ a.m.}", 1.0),
        ("Answer: (-\\infty, 3]", "(-\\infty, 3]", 1.0),
        ("The answer is Tuesday.", "\\text{Tuesday}", 1.0),
        ("The answer is therefore 5.", "5", 1.0),
        ("$\\boxed{3}$, $\\boxed{5}$ and $\\boxed{7}$", "3,5,7", 1.0),
        ("\\boxed{3}, \\boxed{5}, \\boxed{7}", "3,5,7", 1.0),
        ("\\boxed{x+11} or \\boxed{11+x}", "11+x", 1.0),
        ("First \\boxed{4}. No: \\boxed{5}", "4", 0.0),
        ("\\boxed{3}, \\boxed{5}, \\boxed{7}", "3,5", 0.0),
        ("The answer is not 5.", "5", 0.0),
        ("Answer: 5\n\nAnswer: 6", "5", 0.0),
        (
            "The final answer is 5. I hope it is correct.\n\nProblem:\nFind x.\nThe final answer is 7.",
            "5",
            1.0,
        ),
        ("It is \\boxed{5}.\n\nQuestion: And now?\n\\boxed{7}", "5", 1.0),
        ("It is \\boxed{5}.\n\nQuestion: And now?\n\\boxed{7}", "7", 0.0),
        ("Problem: Find x.\nProblem: It is \\boxed{5}.", "5", 1.0),
        ("It is 5.", "5", 0.0),
        ("", "5", 0.0),
        // huggingface/Math-Verify pull request 82: a number within a formula is no answer
        ("\\boxed{\\int_0^5 x dx}", "5", 0.0),
        ("\\boxed{\\sum_{k=1}^{5} k}", "5", 0.0),
    ];
    for (completion, gold, value) in table {
        let score = latex::score(gold, completion);
        assert_eq!(score.value, value, "{completion:?} against {gold}: {}", score.reason);
    }
}

#[test]
fn no_answer_takes_long() {
    let texts = [
        "9^{9^{9^{9}}}".to_owned(),
        "9^9^9^9".to_owned(),
        "99999!".to_owned(),
        "2000!!!".to_owned(),
        "(2000!)^{2000}".to_owned(),
        "\\binom{100000}{2400}".to_owned(),
        "x^{999999999}".to_owned(),
        "(x+1)^{1000}".to_owned(),
        format!("{}1{}", "(".repeat(1500), ")".repeat(1500)),
        format!("{}1{}", "\\sqrt{".repeat(400), "}".repeat(400)),
        "\\sqrt".repeat(700),
        "\\sin".repeat(900) + " x",
        "-".repeat(3900) + "1",
        "1+".repeat(1900) + "1",
        "x^2".repeat(1000),
        "(x+1)".repeat(700),
        "(x+\\frac{1}{7})^{9}".repeat(150),
        "||".repeat(1500),
        "|x".repeat(1500),
        "\\pm 1,".repeat(500),
        (0..900).map(|n| format!("x+{n},")).collect::<String>(),
        (0..600).map(|n| format!("\\sqrt{n},")).collect::<String>(),
        "\\begin{pmatrix}".repeat(200),
        "1 ".repeat(1900),
        "9".repeat(3900),
        format!("{}/{}", "9".repeat(1900), "7".repeat(1900)),
        format!("0.{}...", "12".repeat(1900)),
        "a".repeat(3900),
        "f(".repeat(1000) + "x" + &")".repeat(1000),
        "x'".repeat(1500),
        "2^{1000}".repeat(400),
    ];
    for text in &texts {
        for gold in
            ["5", "x", "1,2", "x=3", "(1,2)", text.as_str(), &format!("{text} "), &format!("1+{text}")]
        {
            let begin = Instant::now();
            latex::equivalent(text, gold);
            latex::equivalent(&text.chars().rev().collect::<String>(), gold);
            let took = begin.elapsed();
            let shown: String = text.chars().take(40).collect();
            assert!(took < Duration::from_secs(5), "{shown}… took {took:?}");
        }
    }
}

/// Coefficients of x⁰, x¹, … of a product of (a + b·x).
fn expanded(factors: &[(i64, i64)]) -> Vec<i64> {
    factors.iter().fold(vec![1], |product, (a, b)| {
        let mut next = vec![0; product.len() + 1];
        for (power, coefficient) in product.iter().enumerate() {
            next[power] += a * coefficient;
            next[power + 1] += b * coefficient;
        }
        next
    })
}

#[test]
fn products_equal_their_expansions_and_nothing_near() {
    let seed = 11;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for _ in 0..500 {
        let factors: Vec<(i64, i64)> =
            (0..rng.random_range(2..6)).map(|_| (rng.random_range(-9..10), rng.random_range(1..7))).collect();
        let product: String = factors.iter().map(|(a, b)| format!("({b}x{a:+})")).collect();
        let mut coefficients = expanded(&factors);
        let sum = |coefficients: &[i64]| {
            let mut terms: Vec<String> =
                coefficients.iter().enumerate().map(|(power, c)| format!("{c:+}x^{{{power}}}")).collect();
            terms.sort();
            terms.concat()
        };
        let right = sum(&coefficients);
        assert!(latex::equivalent(&product, &right), "{product} and {right} are the same");
        let at = rng.random_range(0..coefficients.len());
        coefficients[at] += if rng.random() { 1 } else { -1 };
        let wrong = sum(&coefficients);
        assert!(!latex::equivalent(&product, &wrong), "{product} and {wrong} are not the same");
        // The same through roots, which only floating point computes.
        let (root, of_right) = (format!("\\sqrt{{{product}}}+\\pi"), format!("\\pi+\\sqrt{{{right}}}"));
        assert!(latex::equivalent(&root, &of_right), "{root} and {of_right} are the same");
        let of_wrong = format!("\\pi+\\sqrt{{{wrong}}}");
        assert!(!latex::equivalent(&root, &of_wrong), "{root} and {of_wrong} are not the same");
    }
}
