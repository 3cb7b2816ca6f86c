//! The world of the embedded model: three synthetic skills with checkable answers, made from a seed.
//!
//! Each skill has questions of the kind the model was pretrained on, and a harder *unseen* variant: a form that it never
//! saw, near enough to what it knows to be within its reach. By a hash of its prompt a question belongs either to
//! pretraining or to tasks, so that no item of a task can occur in the pretraining text.
//!
//! [`corpus`] is what the model was pretrained on: the same questions as a base model meets them, answered
//! well, at length, or wrongly.

mod code;
pub mod corpus;
mod draw;
mod math;
mod reasoning;

use std::fmt;

use draw::Draw;

/// What a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skill {
    /// Word problems; the answer is a number.
    Math,
    /// What a small program prints, or what has to stand in its blank; the answer is a number.
    Code,
    /// Who of four is first or last in an order; the answer is a name.
    Reasoning,
}

impl Skill {
    /// All skills.
    pub const ALL: [Self; 3] = [Self::Math, Self::Code, Self::Reasoning];

    /// `math`, `code` or `reasoning`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Math => "math",
            Self::Code => "code",
            Self::Reasoning => "reasoning",
        }
    }
}

impl fmt::Display for Skill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What the user says, without a chat template.
    pub prompt: String,
    /// The short answer that is checked: a number, a name, or a skill's name.
    pub answer: String,
    /// The ideal written-out answer; it ends with `answer` after [`ANSWER`].
    pub completion: String,
}

/// What every written-out answer puts before the short one.
pub const ANSWER: &str = "Answer: ";

/// The short answer a completion gives: what stands after its last [`ANSWER`], up to the end of the line.
pub fn short_answer(completion: &str) -> Option<&str> {
    let (_, after) = completion.rsplit_once(ANSWER)?;
    Some(after.lines().next().unwrap_or("").trim())
}

/// Question `index` of `skill` under `seed`, for tasks: equal arguments give the same question on every
/// machine, and none of them occurs in pretraining. Different indices rarely give the same question, but
/// they can.
pub fn question(skill: Skill, unseen: bool, seed: u64, index: u64) -> Question {
    let mut draw = Draw::new("task", seed, index);
    let item = item(&mut draw, skill, unseen, true);
    Question { prompt: item.prompt(), answer: item.answer(), completion: item.brief() }
}

/// Question `index` of those that ask which skill another question is about, under `seed`. That other
/// question is one of [`question`]'s kind.
pub fn naming(unseen: bool, seed: u64, index: u64) -> Question {
    let mut draw = Draw::new("naming task", seed, index);
    let skill = draw.pick(&Skill::ALL);
    let prompt = naming_prompt(&item(&mut draw, skill, unseen, true).prompt());
    Question { prompt, answer: skill.to_string(), completion: naming_completion(skill) }
}

/// How the embedded model is asked for the skill of a question.
pub fn naming_prompt(question: &str) -> String {
    format!("{question}\nWhich skill is this: math, code or reasoning?")
}

/// How it says it.
fn naming_completion(skill: Skill) -> String {
    format!("{ANSWER}{skill}")
}

/// Whether a question with this prompt belongs to tasks, and so never to pretraining: one in eight.
pub fn is_held_out(prompt: &str) -> bool {
    blake3::hash(prompt.as_bytes()).as_bytes()[0].is_multiple_of(8)
}

/// One question, and the ways to answer it.
trait Styles {
    /// The surface feature, one of 20, that decides how a base model tends to answer.
    fn feature(&self) -> usize;
    fn prompt(&self) -> String;
    fn answer(&self) -> String;
    /// Right, and short.
    fn brief(&self) -> String;
    /// Right, and long.
    fn verbose(&self) -> String;
    /// Systematically wrong.
    fn wrong(&self) -> String;
}

/// Draws questions until one is on the wanted side of [`is_held_out`].
fn item(draw: &mut Draw, skill: Skill, unseen: bool, held_out: bool) -> Box<dyn Styles> {
    loop {
        let item: Box<dyn Styles> = match skill {
            Skill::Math => Box::new(math::Problem::draw(draw, unseen)),
            Skill::Code => Box::new(code::Program::draw(draw, unseen)),
            Skill::Reasoning => Box::new(reasoning::Puzzle::draw(draw, unseen)),
        };
        if is_held_out(&item.prompt()) == held_out {
            return item;
        }
    }
}
