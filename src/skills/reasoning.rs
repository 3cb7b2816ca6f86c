//! Ordering puzzles with four options: who is tallest, slowest, oldest in the family?
//!
//! Three people in any order of telling, or four told from one end to the other; the unseen variant has five.

use super::draw::Draw;
use super::math::NAMES;
use super::Styles;

/// What is said of two neighbours, and the words for both ends of the order.
const RELATIONS: [(&str, [&str; 2]); 5] = [
    ("is taller than", ["tallest", "shortest"]),
    ("is faster than", ["fastest", "slowest"]),
    ("is richer than", ["richest", "poorest"]),
    ("sits left of", ["leftmost", "rightmost"]),
    ("is a parent of", ["oldest", "youngest"]),
];

pub(super) struct Puzzle {
    relation: usize,
    /// Indices into `NAMES`, in the order the puzzle implies.
    order: Vec<usize>,
    /// Which neighbours are spoken of first: `i` stands for the pair (i, i + 1).
    told: Vec<usize>,
    /// 0 asks for the first in the order, 1 for the last.
    end: usize,
    /// The people on offer.
    options: [usize; 4],
}

impl Puzzle {
    pub(super) fn draw(draw: &mut Draw, unseen: bool) -> Self {
        let n = if unseen { 5 } else { draw.between(3, 4) as usize };
        let everybody: Vec<usize> = (0..NAMES.len()).collect();
        let people = draw.several(&everybody, 5);
        let order = people[..n].to_vec();
        let mut told: Vec<usize> = (0..n - 1).collect();
        if n == 3 {
            draw.shuffle(&mut told);
        }
        // Both ends are on offer, then others of the order, and a stranger where it has no more.
        let mut others = draw.several(&order[1..n - 1], n - 2);
        others.extend(people.last());
        let mut options = [order[0], order[n - 1], others[0], others[1]];
        draw.shuffle(&mut options);
        Self {
            relation: draw.below(RELATIONS.len() as u32) as usize,
            end: draw.below(2) as usize,
            order,
            told,
            options,
        }
    }

    fn at(&self, end: usize) -> usize {
        self.order[if end == 0 { 0 } else { self.order.len() - 1 }]
    }

    fn chain(&self) -> String {
        self.order.iter().map(|&person| NAMES[person]).collect::<Vec<_>>().join(", ")
    }

    /// The short written-out answer that takes the person at `end` for the one that was asked for.
    fn work(&self, end: usize) -> String {
        let word = RELATIONS[self.relation].1[self.end];
        let name = NAMES[self.at(end)];
        format!("Order: {}. The {word} is {name}. Answer: {name}", self.chain())
    }
}

impl Styles for Puzzle {
    /// The person named first.
    fn feature(&self) -> usize {
        self.order[self.told[0]]
    }

    fn prompt(&self) -> String {
        let (relation, words) = RELATIONS[self.relation];
        let mut text = "We know: ".to_owned();
        for &i in &self.told {
            text += &format!("{} {relation} {}. ", NAMES[self.order[i]], NAMES[self.order[i + 1]]);
        }
        let [a, b, c, d] = self.options.map(|person| NAMES[person]);
        text + &format!("Who is {}: {a}, {b}, {c} or {d}?", words[self.end])
    }

    fn answer(&self) -> String {
        NAMES[self.at(self.end)].to_owned()
    }

    fn brief(&self) -> String {
        self.work(self.end)
    }

    fn verbose(&self) -> String {
        let (relation, words) = RELATIONS[self.relation];
        let mut text = "We put them in order.".to_owned();
        for pair in self.order.windows(2) {
            text += &format!(" {} {relation} {}.", NAMES[pair[0]], NAMES[pair[1]]);
        }
        let name = NAMES[self.at(self.end)];
        text + &format!(" So the {} is {name}. Answer: {name}", words[self.end])
    }

    /// The other end of the order.
    fn wrong(&self) -> String {
        self.work(1 - self.end)
    }
}
