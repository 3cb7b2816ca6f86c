//! Vocabulary: what the commands and words of an answer mean.

/// Whether `word` is one of the words of a list.
pub(super) fn is_among(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|other| other == word)
}

/// Commands that only set the space, the size or the place of what they stand beside.
pub(super) const SPACING: &str =
    "! , ; : > quad qquad thinspace enspace left right middle big Big bigg Bigg bigl bigr Bigl Bigr \
    biggl biggr Biggl Biggr displaystyle textstyle scriptstyle limits nolimits hline hfill $ % ( ) [ \
    ] / & # nonumber notag bf rm it therefore because";

/// Commands whose argument is prose, or the answer itself where nothing stands before them.
pub(super) const PROSE: &str = "text textbf textit textrm textsf texttt emph mbox hbox";

/// Commands whose argument stays what it is in another font, or in a frame.
pub(super) const FONT: &str =
    "mathrm mathbf mathit mathsf mathcal mathfrak boldsymbol bm operatorname boxed fbox vec \
    overrightarrow displaylines mathop underline ensuremath smash";

/// Commands that are an operator, a relation or a mark.
pub(super) fn operator(command: &str) -> Option<char> {
    Some(match command {
        "cdot" | "times" | "ast" | "bullet" => '*',
        "div" => '/',
        "pm" => '±',
        "mp" => '∓',
        "le" | "leq" | "leqslant" => '≤',
        "ge" | "geq" | "geqslant" => '≥',
        "lt" => '<',
        "gt" => '>',
        "ne" | "neq" => '≠',
        "approx" | "sim" | "simeq" | "doteq" => '≈',
        "equiv" => '≡',
        "in" => '∈',
        "cup" => '∪',
        "setminus" | "backslash" => '∖',
        "circ" | "degree" | "textdegree" => '°',
        "prime" => '\'',
        "colon" | "ratio" => ':',
        "ldots" | "dots" | "cdots" | "dotsc" | "dotsb" => '…',
        _ => return None,
    })
}

/// Commands and plain words that are one letter of an expression.
pub(super) fn letter(command: &str) -> Option<&'static str> {
    const LETTERS: &str =
        "pi alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau \
        upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell infty \
        emptyset";
    let same = match command {
        "varepsilon" => "epsilon",
        "vartheta" => "theta",
        "varphi" => "phi",
        "varnothing" => "emptyset",
        "infinity" => "infty",
        "imath" => "i",
        other => other,
    };
    if same == "i" {
        return Some("i");
    }
    LETTERS.split_whitespace().find(|letter| *letter == same)
}

/// The Greek letter that a plain word names; `xi` and `nu` are products.
pub(super) fn plain_letter(word: &str) -> Option<&'static str> {
    letter(word).filter(|_| word.len() > 2 || word == "pi")
}

/// Functions of one argument, by command or by plain word.
pub(super) fn function(name: &str) -> Option<Function> {
    use Function as F;
    Some(match name {
        "sin" => F::Sin,
        "cos" => F::Cos,
        "tan" | "tg" => F::Tan,
        "cot" | "ctg" => F::Cot,
        "sec" => F::Sec,
        "csc" | "cosec" => F::Csc,
        "arcsin" | "asin" => F::Arcsin,
        "arccos" | "acos" => F::Arccos,
        "arctan" | "atan" => F::Arctan,
        "sinh" => F::Sinh,
        "cosh" => F::Cosh,
        "tanh" => F::Tanh,
        "ln" => F::Ln,
        "log" => F::Log,
        "lg" => F::Lg,
        "exp" => F::Exp,
        _ => return None,
    })
}

/// A function that is known by value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Function {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Arcsin,
    Arccos,
    Arctan,
    Sinh,
    Cosh,
    Tanh,
    Ln,
    /// To the base of its subscript, or to 10.
    Log,
    Lg,
    Exp,
}

impl Function {
    /// The function of which this one is written with the power -1.
    pub(super) fn inverse(self) -> Option<Self> {
        Some(match self {
            Self::Sin => Self::Arcsin,
            Self::Cos => Self::Arccos,
            Self::Tan => Self::Arctan,
            _ => return None,
        })
    }
}

/// Whether a word, or words, name a unit.
pub(super) fn is_unit(words: &str) -> bool {
    const UNITS: &str =
        "unit units square sq cubic cu per ways way integers dollar dollars cent cents mph inch \
        inches in ft foot feet hour hours hr hrs h minute minutes min mins second seconds sec secs s \
        ms day days week weeks month months year years yr yrs km cm mm m nm meter meters metre \
        metres centimeter centimeters kilometer kilometers mile miles mi yard yards yd kg gm mg gram \
        grams kilogram kilograms g pound pounds lb lbs oz ounce ounces ton tons point points pts \
        digit digits degree degrees deg percent percentage meal meals edge edges student students \
        child children ticket tickets multiple multiples people liter liters litre litres l ml \
        gallon gallons gal cup cups n j kj w kw v hz khz mhz pa kpa mol rad radian radians rpm usd \
        eur times items pieces apples coins balls cards numbers solutions values km/h m/s cm/s ft/s \
        mi/h miles/hour kg/m";
    let mut any = false;
    words.split_whitespace().flat_map(|word| word.split('/')).all(|word| {
        any = true;
        let word = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '.').to_lowercase();
        let word = word.trim_end_matches(|c: char| c.is_ascii_digit() || c == '^');
        word.is_empty() || is_among(UNITS, word.trim_end_matches('.'))
    }) && any
}

/// Whether a word that is not marked as prose is a unit; many pairs of letters are products.
pub(super) fn is_plain_unit(word: &str) -> bool {
    const SHORT: &str = "km cm mm kg gm mg ml ft in lb hr";
    is_unit(word) && (word.len() > 2 || is_among(SHORT, word))
}

/// Whether a word says which half of the day is meant.
pub(super) fn is_meridiem(word: &str) -> bool {
    ["am", "pm"].contains(&word.trim().to_ascii_lowercase().as_str())
}

/// The power of ten that a word multiplies with.
pub(super) fn magnitude(word: &str) -> Option<u8> {
    Some(match word.to_ascii_lowercase().as_str() {
        "hundred" => 2,
        "thousand" => 3,
        "million" => 6,
        "billion" => 9,
        "trillion" => 12,
        _ => return None,
    })
}

/// Whether a word joins the elements of a list.
pub(super) fn is_conjunction(word: &str) -> bool {
    let word = word.trim().trim_matches(',').trim().to_ascii_lowercase();
    ["and", "or", "and/or"].contains(&word.as_str())
}

/// Characters beside ASCII, and how TeX writes them.
pub(super) fn in_tex(c: char) -> Option<&'static str> {
    Some(match c {
        '−' | '–' | '—' | '‐' | '‑' | '‒' => "-",
        '×' | '·' | '⋅' | '∙' | '∗' => "*",
        '÷' | '⁄' | '∕' => "/",
        '√' => "\\sqrt ",
        '∛' => "\\sqrt[3]",
        'π' | '𝜋' => "\\pi ",
        '∞' => "\\infty ",
        '≤' | '⩽' => "\\le ",
        '≥' | '⩾' => "\\ge ",
        '≠' => "\\ne ",
        '≈' => "\\approx ",
        '±' => "\\pm ",
        '∓' => "\\mp ",
        '∈' => "\\in ",
        '∪' => "\\cup ",
        '∅' | 'Ø' | 'ø' => "\\emptyset ",
        '°' | 'º' => "^\\circ ",
        '…' => "\\ldots ",
        'θ' => "\\theta ",
        'α' => "\\alpha ",
        'β' => "\\beta ",
        'γ' => "\\gamma ",
        'δ' => "\\delta ",
        'λ' => "\\lambda ",
        'μ' => "\\mu ",
        'φ' | 'ϕ' => "\\phi ",
        'ω' => "\\omega ",
        'σ' => "\\sigma ",
        'ℝ' => "\\mathbb{R}",
        '½' => "\\frac{1}{2}",
        '⅓' => "\\frac{1}{3}",
        '⅔' => "\\frac{2}{3}",
        '¼' => "\\frac{1}{4}",
        '¾' => "\\frac{3}{4}",
        '⅕' => "\\frac{1}{5}",
        '⅛' => "\\frac{1}{8}",
        '⁰' => "^{0}",
        '¹' => "^{1}",
        '²' => "^{2}",
        '³' => "^{3}",
        '⁴' => "^{4}",
        '⁵' => "^{5}",
        '⁶' => "^{6}",
        '⁷' => "^{7}",
        '⁸' => "^{8}",
        '⁹' => "^{9}",
        'ⁿ' => "^{n}",
        '₀' => "_{0}",
        '₁' => "_{1}",
        '₂' => "_{2}",
        '₃' => "_{3}",
        '₄' => "_{4}",
        '₅' => "_{5}",
        '₆' => "_{6}",
        '₇' => "_{7}",
        '₈' => "_{8}",
        '₉' => "_{9}",
        '⌊' => "\\lfloor ",
        '⌋' => "\\rfloor ",
        '⌈' => "\\lceil ",
        '⌉' => "\\rceil ",
        '⟨' | '〈' => "\\langle ",
        '⟩' | '〉' => "\\rangle ",
        '′' | '’' => "'",
        '\u{2009}' | '\u{202f}' | '\u{2008}' => "\\,",
        '\u{a0}' => "~",
        '€' | '£' | '¥' => "",
        '，' => ",",
        '、' => ",",
        _ => return None,
    })
}
