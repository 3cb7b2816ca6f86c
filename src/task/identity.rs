//! What tells tasks and items apart: a measurement goes on only with the same.

use super::{Answer, Item, Task};
use crate::resume::Digest;

impl Item {
    /// Changes with the question, and with everything by which answers to it are scored beside the task's rules.
    pub fn digest(&self) -> String {
        // The bare question changes neither answers nor scores.
        let Self { id, prompt, question: _, gold, completion, answer } = self;
        let mut digest = Digest::new();
        digest.text("id", id).text("prompt", prompt).text("gold", gold).text("completion", completion);
        answer.feed(&mut digest);
        digest.finish()
    }

    /// That of many items together, in their order.
    pub fn digest_of_all<'a>(items: impl IntoIterator<Item = &'a Self>) -> String {
        let mut digest = Digest::new();
        for item in items {
            digest.text("item", &item.digest());
        }
        digest.finish()
    }
}

impl Task {
    /// Changes with [`Self::rules`].
    pub fn rules_digest(&self) -> String {
        Digest::new().text("rules", &self.rules()).finish()
    }
}

impl Answer {
    /// What does not follow from the gold answer and the task's rules.
    fn feed(&self, digest: &mut Digest) {
        match self {
            Self::Number(_) | Self::Text | Self::Json(_) => {}
            Self::Choice(choice) => {
                choice.options().iter().for_each(|option| _ = digest.text("option", option));
            }
            Self::Program { continues, tests } => {
                digest.json("continues", continues).text("tests", tests);
            }
            Self::Row(fields) => _ = digest.json("row", fields),
            Self::Of(i, answer) => {
                digest.number("task", *i);
                answer.feed(digest);
            }
        }
    }
}
