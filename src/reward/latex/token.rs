//! One symbol of an answer, or one construct with what it holds.

use super::words::Function;

/// A symbol or a construct.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Token {
    /// Digits with at most one point; thousands separators are gone.
    Number(String),
    /// A decimal number whose last digits repeat for ever.
    Recurring {
        digits: String,
        period: String,
    },
    /// One letter, or the name of a Greek one.
    Letter(String),
    /// Letters that belong together.
    Word(String),
    /// Prose, from `\text{…}`.
    Prose(String),
    Function(Function),
    /// One of `+ - * / = < > ≤ ≥ ≠ ≈ ≡ ∈ ∪ ∖ ± ∓ ! ' : … ° ?` and other single characters.
    Operator(char),
    /// A comma, a semicolon, "and", "or", a new line.
    Separator,
    Group(Vec<Token>),
    /// Brackets: `(`, `[`, `{` (a set), `|`, `⌊`, `⌈`, `⟨`, and how they close.
    Fenced(char, Vec<Token>, char),
    Fraction(Vec<Token>, Vec<Token>),
    Binomial(Vec<Token>, Vec<Token>),
    /// Degree (empty for 2) and radicand.
    Root(Vec<Token>, Vec<Token>),
    Power(Vec<Token>),
    Subscript(Vec<Token>),
    /// `\bar z` and its like, which name something else than z.
    Accent(String, Vec<Token>),
    /// Rows of cells; `true` for a determinant.
    Matrix(bool, Vec<Vec<Vec<Token>>>),
    /// A command that nothing here knows.
    Command(String),
}

impl Token {
    /// Whether an expression can end with it.
    pub(super) fn ends_operand(&self) -> bool {
        !matches!(self, Self::Separator | Self::Function(_))
            && !matches!(self, Self::Operator(c) if !"!'°…".contains(*c))
    }
}

impl Token {
    /// How many single tokens it holds.
    pub(super) fn size(&self) -> usize {
        let all = |tokens: &[Self]| tokens.iter().map(Self::size).sum::<usize>();
        1 + match self {
            Self::Word(letters) => letters.len(),
            Self::Group(a)
            | Self::Fenced(_, a, _)
            | Self::Power(a)
            | Self::Subscript(a)
            | Self::Accent(_, a) => all(a),
            Self::Fraction(a, b) | Self::Binomial(a, b) | Self::Root(a, b) => all(a) + all(b),
            Self::Matrix(_, rows) => rows.iter().flatten().map(|cell| all(cell)).sum(),
            _ => 0,
        }
    }
}
