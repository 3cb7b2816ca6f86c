//! The pretraining text of the embedded model: of mixed quality, as a real base model's is.
//!
//! Each skill has 20 surface features (who a word problem is about, the variable of a program, who a puzzle
//! names first). A feature decides how likely an answer in the corpus is right and brief, right and verbose,
//! or systematically wrong. A model that learns this text well therefore *can* do all questions, but by its
//! habit answers those of some features wrongly. That is what an expert can put right. One mixture for all
//! features would not do: the right answer would stay the most likely one everywhere.

use super::draw::Draw;
use super::{item, naming_completion, naming_prompt, Skill};

/// Percent of answers that are right and brief; right and verbose; wrong.
pub type Mix = [u32; 3];

const RELIABLE: Mix = [60, 20, 20];
const WORDY: Mix = [30, 50, 20];
const CARELESS: Mix = [30, 15, 55];

/// Surface features of each skill.
pub const FEATURES: usize = 20;

/// How many features of a skill are careless; 5 are wordy, the others reliable.
fn careless(skill: Skill) -> usize {
    match skill {
        Skill::Math => 7,
        Skill::Code => 8,
        Skill::Reasoning => 9,
    }
}

/// Percent of skills named wrongly for a question with a misleading feature, and with any other.
const MISNAMED: [u32; 2] = [70, 4];

/// How a text answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Right, and short.
    Brief,
    /// Right, and long.
    Verbose,
    /// Systematically wrong.
    Wrong,
}

/// One text of the corpus: a question and its answer.
#[derive(Clone, Debug)]
pub struct Example {
    /// The skill of the question.
    pub skill: Skill,
    /// Whether the text asks for the skill's name instead of the answer.
    pub naming: bool,
    /// The surface feature of the question.
    pub feature: usize,
    /// How it is answered.
    pub style: Style,
    /// What the user says.
    pub prompt: String,
    /// What the model is taught to say.
    pub completion: String,
    /// The question itself, without what was added to ask for its skill.
    pub question: String,
}

/// The mixture of answers to questions of `skill` with `feature`.
pub fn mix(skill: Skill, feature: usize) -> Mix {
    match order(skill, feature) {
        rank if rank < careless(skill) => CARELESS,
        rank if rank < careless(skill) + 5 => WORDY,
        _ => RELIABLE,
    }
}

/// Whether questions of `skill` with `feature` are mostly given the name of another skill.
pub fn is_misleading(skill: Skill, feature: usize) -> bool {
    order(skill, feature) % 10 == 9
}

/// A fixed order of the features, another one for each skill, so that habits of skills that share
/// names do not coincide.
fn order(skill: Skill, feature: usize) -> usize {
    let (factor, offset) = match skill {
        Skill::Math => (7, 3),
        Skill::Code => (3, 11),
        Skill::Reasoning => (13, 6),
    };
    (feature * factor + offset) % FEATURES
}

/// Example `index` of the corpus under `seed`.
pub fn example(seed: u64, index: u64) -> Example {
    let mut draw = Draw::new("corpus", seed, index);
    let skill = draw.pick(&Skill::ALL);
    let item = item(&mut draw, skill, false, false);
    let (feature, question) = (item.feature(), item.prompt());
    let naming = draw.percent(8);
    if naming {
        let wrong = draw.percent(MISNAMED[usize::from(!is_misleading(skill, feature))]);
        let said = if wrong { mistaken_for(skill) } else { skill };
        let style = if wrong { Style::Wrong } else { Style::Brief };
        let (prompt, completion) = (naming_prompt(&question), naming_completion(said));
        return Example { skill, naming, feature, style, prompt, completion, question };
    }
    let [brief, verbose, _] = mix(skill, feature);
    let (style, completion) = match draw.below(100) {
        roll if roll < brief => (Style::Brief, item.brief()),
        roll if roll < brief + verbose => (Style::Verbose, item.verbose()),
        _ => (Style::Wrong, item.wrong()),
    };
    Example { skill, naming, feature, style, prompt: question.clone(), completion, question }
}

fn mistaken_for(skill: Skill) -> Skill {
    match skill {
        Skill::Math => Skill::Reasoning,
        Skill::Code => Skill::Math,
        Skill::Reasoning => Skill::Code,
    }
}
