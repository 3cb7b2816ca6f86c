//! Ordering puzzles with four options: who is tallest, slowest, oldest in the family?
//!
//! Three or four people; the unseen variant has five.

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
const LETTERS: [char; 4] = ['A', 'B', 'C', 'D'];

pub(super) struct Puzzle {
    relation: usize,
    /// Indices into `NAMES`, in the order the puzzle implies.
    order: Vec<usize>,
    /// Which neighbours are spoken of first: `i` stands for the pair (i, i + 1).
    told: Vec<usize>,
    /// 0 asks for the first in the order, 1 for the last.
    end: usize,
    /// The people on offer.
    options: Vec<usize>,
}

impl Puzzle {
    pub(super) fn draw(draw: &mut Draw, unseen: bool) -> Self {
        let n = if unseen { 5 } else { draw.between(3, 4) as usize };
        let everybody: Vec<usize> = (0..NAMES.len()).collect();
        let people = draw.several(&everybody, 5);
        let (order, stranger) = (people[..n].to_vec(), people[4]);
        let mut told: Vec<usize> = (0..n - 1).collect();
        if draw.percent(40) {
            draw.shuffle(&mut told);
        }
        // Both ends are on offer, then others of the order, and a stranger where three people leave room.
        let mut middle = order[1..n - 1].to_vec();
        draw.shuffle(&mut middle);
        let mut options = vec![order[0], order[n - 1]];
        options.extend(middle.into_iter().chain([stranger]).take(2));
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

    fn letter(&self, person: usize) -> char {
        LETTERS[self.options.iter().position(|&option| option == person).unwrap_or(0)]
    }

    fn chain(&self) -> String {
        self.order.iter().map(|&person| NAMES[person]).collect::<Vec<_>>().join(", ")
    }

    /// The short written-out answer that takes the person at `end` for the one that was asked for.
    fn work(&self, end: usize) -> String {
        let word = RELATIONS[self.relation].1[self.end];
        let person = self.at(end);
        format!("Order: {}. The {word} is {}. Answer: {}", self.chain(), NAMES[person], self.letter(person))
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
        text += &format!("Who is {}?", words[self.end]);
        for (letter, &person) in LETTERS.iter().zip(&self.options) {
            text += &format!(" {letter}) {}", NAMES[person]);
        }
        text
    }

    fn answer(&self) -> String {
        self.letter(self.at(self.end)).to_string()
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
        let person = self.at(self.end);
        let (name, letter) = (NAMES[person], self.letter(person));
        text + &format!(" So the {} is {name}. Answer: {letter}", words[self.end])
    }

    /// The other end of the order.
    fn wrong(&self) -> String {
        self.work(1 - self.end)
    }
}
