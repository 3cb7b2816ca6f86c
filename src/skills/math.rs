//! Word problems: somebody has some things, and gains and loses some of them.
//!
//! One to three steps. A step is a gain or a loss, or the multiplication of boxes by things in a box, which
//! only comes first, with at most one step after it. In the unseen variant two or three gains and losses are told in one
//! sentence, joined by "and".

use super::draw::Draw;
use super::Styles;

/// People, and the surface feature that decides how a base model answers.
pub(super) const NAMES: [&str; 20] = [
    "Ann", "Ben", "Cara", "Dan", "Eva", "Finn", "Gus", "Hana", "Ivan", "Jill", "Kim", "Leo", "Mia", "Ned",
    "Olga", "Pam", "Rex", "Sue", "Tom", "Uma",
];
const THINGS: [&str; 12] =
    ["pens", "cups", "coins", "books", "cards", "keys", "toys", "eggs", "nuts", "hats", "balls", "dolls"];
const GAINS: [&str; 5] = ["buys", "finds", "gets", "wins", "makes"];
const LOSSES: [&str; 5] = ["loses", "sells", "breaks", "gives", "drops"];

/// Most things somebody can have; it bounds the arithmetic to two digits.
const MOST: i64 = 60;

struct Change {
    verb: &'static str,
    amount: i64,
    /// +1 for a gain, -1 for a loss.
    sign: i64,
}

pub(super) struct Problem {
    name: usize,
    thing: &'static str,
    /// Boxes, and things in each.
    boxes: Option<(i64, i64)>,
    start: i64,
    changes: Vec<Change>,
    /// Whether the changes are told in one sentence.
    joined: bool,
}

impl Problem {
    pub(super) fn draw(draw: &mut Draw, unseen: bool) -> Self {
        let name = draw.below(NAMES.len() as u32) as usize;
        let thing = draw.pick(&THINGS);
        let boxes = (!unseen && draw.percent(30)).then(|| (draw.between(2, 5), draw.between(2, 9)));
        let start = boxes.map_or_else(|| draw.between(3, 40), |(count, each)| count * each);
        let n_changes = match boxes {
            Some(_) => draw.between(0, 1),
            None if unseen => draw.between(2, 3),
            None => draw.between(1, 3),
        };
        let (gains, losses) = (draw.several(&GAINS, 3), draw.several(&LOSSES, 3));
        let (mut changes, mut now) = (Vec::new(), start);
        for step in 0..n_changes as usize {
            let amount = draw.between(2, 9);
            let gain = draw.percent(50);
            // Nobody has less than one thing or more than MOST.
            let gain = if now - amount < 1 { true } else { gain && now + amount <= MOST };
            let (verb, sign) = if gain { (gains[step], 1) } else { (losses[step], -1) };
            now += sign * amount;
            changes.push(Change { verb, amount, sign });
        }
        Self { name, thing, boxes, start, changes, joined: unseen }
    }

    /// How many there are after the first `n` changes.
    fn after(&self, n: usize) -> i64 {
        self.start + self.changes[..n].iter().map(|change| change.sign * change.amount).sum::<i64>()
    }

    /// The short written-out answer, as if there were only the first `n` changes.
    fn work(&self, n: usize) -> String {
        let mut text = match self.boxes {
            Some((count, each)) => format!("{count} x {each}: {}", self.start),
            None => self.start.to_string(),
        };
        for (i, change) in self.changes[..n].iter().enumerate() {
            text += &format!(", {} {}: {}", change.verb, change.amount, self.after(i + 1));
        }
        text + &format!(". Answer: {}", self.after(n))
    }
}

impl Styles for Problem {
    fn feature(&self) -> usize {
        self.name
    }

    fn prompt(&self) -> String {
        let (name, thing) = (NAMES[self.name], self.thing);
        let mut text = match self.boxes {
            Some((count, each)) => format!("{name} has {count} boxes of {each} {thing}."),
            None => format!("{name} has {} {thing}.", self.start),
        };
        let changes: Vec<_> =
            self.changes.iter().map(|change| format!("{} {}", change.verb, change.amount)).collect();
        if self.joined {
            text += &format!(" {name} {}.", changes.join(" and "));
        } else {
            changes.iter().for_each(|change| text += &format!(" {name} {change}."));
        }
        text + &format!(" How many {thing} does {name} have?")
    }

    fn answer(&self) -> String {
        self.after(self.changes.len()).to_string()
    }

    fn brief(&self) -> String {
        self.work(self.changes.len())
    }

    fn verbose(&self) -> String {
        let mut text = match self.boxes {
            Some((count, each)) => {
                format!("We have {count} boxes of {each}, so {count} x {each} = {}.", self.start)
            }
            None => format!("We start with {}.", self.start),
        };
        for (i, Change { verb, amount, sign }) in self.changes.iter().enumerate() {
            let operator = if *sign > 0 { '+' } else { '-' };
            let (before, after) = (self.after(i), self.after(i + 1));
            text +=
                &format!(" {} {verb} {amount}, so {before} {operator} {amount} = {after}.", NAMES[self.name]);
        }
        text + &format!(" Answer: {}", self.answer())
    }

    /// The last clause is overlooked. (A lone multiplication has none: one box is.)
    fn wrong(&self) -> String {
        match (self.changes.len(), self.boxes) {
            (0, Some((count, each))) => format!("{count} x {each}: {0}. Answer: {0}", self.start - each),
            (n, _) => self.work(n - 1),
        }
    }
}
