//! The built-in tasks: questions of the embedded model's skills.

use std::collections::HashSet;

use super::reward::{Answer, Reward};
use super::{dropped, Generation, Item, Origin, Overrides, Part, Parts, Task};
use crate::error::Result;
use crate::reward::text::Text;
use crate::skills::{self, Skill};

impl Task {
    /// A built-in task: 2000 items that train, 500 that validate, 500 that test, fewer where the generator
    /// repeats itself.
    pub(super) fn skill(name: &str, overrides: &Overrides) -> Result<Self> {
        const SIZES: [(Part, u64); 3] = [(Part::Test, 500), (Part::Validation, 500), (Part::Train, 2000)];
        /// Any; fixed, so that everybody's items are the same.
        const SEED: u64 = 1;
        let unseen = name.ends_with("-unseen");
        let skill = Skill::ALL.into_iter().find(|skill| skill.name() == name.trim_end_matches("-unseen"));
        let description = match skill {
            Some(skill) if unseen => {
                format!("{skill} of the embedded model, in a form it was not trained on")
            }
            Some(skill) => format!("{skill} of the embedded model"),
            None => String::from("which skill a question of the embedded model is about"),
        };
        let mut seen = HashSet::new();
        let mut parts = Parts::default();
        let mut duplicates = Vec::new();
        let mut index = 0;
        for (part, size) in SIZES {
            for _ in 0..size {
                let question = match skill {
                    Some(skill) => skills::question(skill, unseen, SEED, index),
                    None => skills::naming(false, SEED, index),
                };
                let is_new = seen.insert(blake3::hash(question.prompt.as_bytes()));
                let items = if is_new { parts.of_mut(part) } else { &mut duplicates };
                items.push(Item {
                    id: format!("{name}:{index}"),
                    question: question.prompt.clone(),
                    prompt: question.prompt,
                    gold: question.answer,
                    completion: question.completion,
                    answer: Answer::Text,
                });
                index += 1;
            }
        }
        Ok(Self {
            name: name.to_owned(),
            description,
            generation: Generation { max_tokens: 96, chat: true, ..Generation::default() }.with(overrides)?,
            reward: Reward::Text(Text::new(Some(&format!("{}(.*)", skills::ANSWER)), false)?),
            keep_thinking: false,
            rule: String::new(),
            origin: Origin { reward: String::from("text"), ..Origin::default() },
            parts,
            notes: dropped(duplicates.len()),
            duplicates,
        })
    }
}
