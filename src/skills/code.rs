//! Small programs in Python: what do they print, or what has to stand in a blank so that they print it?
//!
//! One variable and one or two statements, with an `if x > …` or a loop among them, but not both; the unseen variant
//! has an update and an `if x < …`.

use super::draw::Draw;
use super::Styles;

/// The variable, and the surface feature that decides how a base model answers.
pub(super) const LETTERS: [&str; 20] =
    ["a", "b", "c", "d", "e", "f", "g", "h", "j", "k", "m", "n", "p", "q", "r", "s", "t", "u", "v", "w"];

const MOST: i64 = 60;

/// A signed amount: `+= 3` or `-= 3`.
#[derive(Clone, Copy, PartialEq)]
struct Step(i64);

impl Step {
    fn draw(draw: &mut Draw, value: i64) -> Self {
        let amount = draw.between(2, 9);
        let plus = draw.percent(60);
        Self(if value < amount || (plus && value + amount <= MOST) { amount } else { -amount })
    }

    fn text(self) -> String {
        format!("{}= {}", self.sign(), self.0.abs())
    }

    fn sign(self) -> char {
        if self.0 > 0 {
            '+'
        } else {
            '-'
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Update,
    If,
    Loop,
}

impl Kind {
    /// The kinds of a program's statements.
    fn draw(draw: &mut Draw, unseen: bool) -> Vec<Self> {
        if unseen {
            return draw.several(&[Self::If, Self::Update], 2);
        }
        let n = draw.between(1, 2);
        loop {
            let kinds: Vec<_> = (0..n).map(|_| draw.pick(&KINDS)).collect();
            if !(kinds.contains(&Self::If) && kinds.contains(&Self::Loop)) {
                return kinds;
            }
        }
    }
}

/// Half of all statements are updates.
const KINDS: [Kind; 10] = {
    use Kind::{If, Loop, Update};
    [Update, Update, Update, Update, Update, If, If, If, Loop, Loop]
};

#[derive(Clone, Copy, PartialEq)]
enum Relation {
    Greater,
    Less,
}

impl Relation {
    fn symbol(self) -> char {
        match self {
            Self::Greater => '>',
            Self::Less => '<',
        }
    }

    fn holds(self, value: i64, threshold: i64) -> bool {
        match self {
            Self::Greater => value > threshold,
            Self::Less => value < threshold,
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Statement {
    Update(Step),
    /// `if x > threshold:`, or `<`, and an update.
    If(Relation, i64, Step),
    /// `for i in range(times):` and an update.
    Loop(i64, Step),
}

impl Statement {
    fn draw(draw: &mut Draw, kind: Kind, relation: Relation, value: i64) -> Self {
        match kind {
            Kind::Update => Self::Update(Step::draw(draw, value)),
            // Thresholds lie near the value, so that both outcomes are common.
            Kind::If => Self::If(relation, (value + draw.between(-6, 5)).max(1), Step::draw(draw, value)),
            Kind::Loop => {
                let (times, amount) = (draw.between(2, 3), draw.between(2, 5));
                let minus = value >= times * amount && draw.percent(40) || value + times * amount > MOST;
                Self::Loop(times, Step(if minus { -amount } else { amount }))
            }
        }
    }

    /// The values the variable takes, starting from `value`; at least one.
    fn run(self, value: i64) -> Vec<i64> {
        match self {
            Self::Update(step) => vec![value + step.0],
            Self::If(relation, threshold, step) => {
                vec![if relation.holds(value, threshold) { value + step.0 } else { value }]
            }
            Self::Loop(times, step) => (1..=times).map(|i| value + i * step.0).collect(),
        }
    }

    fn code(self, x: &str) -> String {
        match self {
            Self::Update(step) => format!("{x} {}\n", step.text()),
            Self::If(relation, threshold, step) => {
                format!("if {x} {} {threshold}:\n    {x} {}\n", relation.symbol(), step.text())
            }
            Self::Loop(times, step) => format!("for i in range({times}):\n    {x} {}\n", step.text()),
        }
    }

    /// A short note of what it does to `value`.
    fn brief(self, value: i64) -> String {
        let results = list(&self.run(value));
        match self {
            Self::Update(step) => format!(", {}: {results}", step.text()),
            Self::If(relation, threshold, step) if relation.holds(value, threshold) => {
                format!(", {} {threshold} yes, {}: {results}", relation.symbol(), step.text())
            }
            Self::If(relation, threshold, _) => format!(", {} {threshold} no: {results}", relation.symbol()),
            Self::Loop(times, step) => format!(", {times} times {}: {results}", step.text()),
        }
    }

    fn verbose(self, x: &str, value: i64) -> String {
        let results = list(&self.run(value));
        match self {
            Self::Update(step) => format!(" Then {x} {} gives {results}.", step.text()),
            Self::If(relation, threshold, step) => {
                let condition = format!("{value} {} {threshold}", relation.symbol());
                match relation.holds(value, threshold) {
                    true => format!(" Then {condition} is true, so {x} {} gives {results}.", step.text()),
                    false => format!(" Then {condition} is false, so {x} stays {results}."),
                }
            }
            Self::Loop(times, step) => format!(" Then {times} times {x} {} gives {results}.", step.text()),
        }
    }
}

fn list(values: &[i64]) -> String {
    values.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
}

pub(super) struct Program {
    letter: usize,
    start: i64,
    statements: Vec<Statement>,
    /// Whether the last statement is an update with its amount left blank.
    blank: bool,
}

impl Program {
    pub(super) fn draw(draw: &mut Draw, unseen: bool) -> Self {
        let letter = draw.below(LETTERS.len() as u32) as usize;
        let start = draw.between(2, 30);
        let blank = !unseen && draw.percent(25);
        let mut kinds = Kind::draw(draw, unseen);
        if let Some(last) = kinds.last_mut().filter(|_| blank) {
            *last = Kind::Update;
        }
        let relation = if unseen { Relation::Less } else { Relation::Greater };
        let (mut statements, mut value) = (Vec::new(), start);
        for kind in kinds {
            let statement = Statement::draw(draw, kind, relation, value);
            value = *statement.run(value).last().unwrap_or(&value);
            statements.push(statement);
        }
        Self { letter, start, statements, blank }
    }

    /// What the variable holds after the first `n` statements.
    fn after(&self, n: usize) -> i64 {
        self.statements[..n]
            .iter()
            .fold(self.start, |value, statement| *statement.run(value).last().unwrap_or(&value))
    }

    fn printed(&self) -> i64 {
        self.after(self.statements.len())
    }

    /// The number in the blank, and the subtraction that finds it.
    fn blank(&self) -> Option<(i64, String)> {
        let before = self.after(self.statements.len() - 1);
        let Some(Statement::Update(step)) = self.statements.last().filter(|_| self.blank) else {
            return None;
        };
        let (large, small) = (before.max(self.printed()), before.min(self.printed()));
        Some((step.0.abs(), format!("{large} - {small} = {}", step.0.abs())))
    }

    /// The statements whose effect is written out one by one.
    fn traced(&self) -> &[Statement] {
        &self.statements[..self.statements.len() - usize::from(self.blank)]
    }
}

impl Styles for Program {
    fn feature(&self) -> usize {
        self.letter
    }

    fn prompt(&self) -> String {
        let x = LETTERS[self.letter];
        let mut code = format!("{x} = {}\n", self.start);
        for statement in self.traced() {
            code += &statement.code(x);
        }
        match self.statements.last() {
            Some(Statement::Update(step)) if self.blank => {
                format!(
                    "What is _ if this prints {}?\n{code}{x} {}= _\nprint({x})",
                    self.printed(),
                    step.sign()
                )
            }
            _ => format!("What does this print?\n{code}print({x})"),
        }
    }

    fn answer(&self) -> String {
        self.blank().map_or(self.printed(), |(amount, _)| amount).to_string()
    }

    fn brief(&self) -> String {
        let mut text = format!("{} = {}", LETTERS[self.letter], self.start);
        for (i, statement) in self.traced().iter().enumerate() {
            text += &statement.brief(self.after(i));
        }
        if let Some((_, subtraction)) = self.blank() {
            text += &format!(", {subtraction}");
        }
        text + &format!(". Answer: {}", self.answer())
    }

    fn verbose(&self) -> String {
        let x = LETTERS[self.letter];
        let mut text = format!("We go line by line. First {x} is {}.", self.start);
        for (i, statement) in self.traced().iter().enumerate() {
            text += &statement.verbose(x, self.after(i));
        }
        if let Some((_, subtraction)) = self.blank() {
            text += &format!(" For _ we have {subtraction}.");
        }
        text + &format!(" Answer: {}", self.answer())
    }

    /// A hasty answer: the last line is overlooked, and nothing is written out.
    fn wrong(&self) -> String {
        let before = self.after(self.statements.len() - 1);
        let right = self.blank().map_or(self.printed(), |(amount, _)| amount);
        // A statement may have no effect; the hasty reader then gives it one.
        format!("Answer: {}", if before == right { right + 1 } else { before })
    }
}
