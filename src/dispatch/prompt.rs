//! The adaptation prompt: a Jinja template that asks which expert fits a question.
//!
//! It gets `question`, `experts` (with `name` and `description`), `labels` (their names and the last one, `other`),
//! `other`, and `examples`: questions of all labels in turn, each with its `question` and `label`. What stands before
//! `{{ answer }}` is the message to the model, inside its chat template if it has one; what stands after is how the model's
//! answer begins, and the label follows at once. `{{ turn }}` ends an answer, after which the next message of the same
//! conversation follows: so examples become turns of their own. Line breaks at the end of a file do not count.

use std::path::Path;

use minijinja::value::Serde;
use minijinja::Environment;
use serde::Serialize;

use super::{Candidate, Candidates, OTHER};
use crate::embedded;
use crate::engine::{Model, RESERVED};
use crate::error::{Error, Result};
use crate::skills::Skill;
use crate::task::jinja::{self, plainly};

/// A checked template.
#[derive(Clone, Debug)]
pub struct AdaptPrompt {
    environment: Environment<'static>,
    /// Where it came from, for messages.
    name: String,
}

/// What a template gets.
#[derive(Serialize)]
struct Fields<'a> {
    question: &'a str,
    experts: &'a [Candidate],
    labels: &'a [String],
    other: &'a str,
    examples: &'a [Example<'a>],
    answer: char,
    turn: char,
}

/// A question whose label is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Example<'a> {
    pub question: String,
    pub label: &'a str,
}

/// A prompt that was filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filled {
    /// What the user said and what the model answered, before.
    pub turns: Vec<(String, String)>,
    /// What the user says.
    pub message: String,
    /// How the answer begins.
    pub answer: String,
}

/// Where the template says `{{ answer }}`: a character that no question holds.
const ANSWER: char = *RESERVED.end();
/// Where it says `{{ turn }}`.
const TURN: char = '\u{10FFFC}';
/// Prompts are short; more is a mistake.
const MAX_FILE_BYTES: u64 = 1 << 20;
const KEY: &str = "prompt";

impl AdaptPrompt {
    /// Our own wording, for any model and any experts.
    pub fn general() -> Self {
        Self::built_in("default", include_str!("prompts/default.jinja"))
    }

    /// The only wording that the embedded model understands.
    pub fn embedded() -> Self {
        Self::built_in("embedded", include_str!("prompts/embedded.jinja"))
    }

    /// The built-in wording that `model` understands best. The embedded model's own asks for its skills by name, so it
    /// is taken only where all experts are called as they are.
    pub fn suited(model: &Model, candidates: &Candidates) -> Self {
        let is_skill = |expert: &Candidate| Skill::ALL.iter().any(|skill| skill.name() == expert.name);
        if model.file().mmap()[..] == *embedded::bytes() && candidates.experts().iter().all(is_skill) {
            return Self::embedded();
        }
        Self::general()
    }

    fn built_in(name: &str, text: &str) -> Self {
        Self::parse(name, text).unwrap_or_else(|error| unreachable!("a built-in prompt: {error}"))
    }

    /// Reads a template from a file.
    ///
    /// # Errors
    /// It cannot be read or is no template, leaves out `question`, or uses what it does not get.
    pub fn read(path: &Path) -> Result<Self> {
        let read = || {
            let cannot_read = |source| Error::io("cannot read", path, source);
            let found = std::fs::metadata(path).map_err(cannot_read)?;
            if !found.is_file() || found.len() > MAX_FILE_BYTES {
                return Err(Error::expected(
                    format!("a text file of at most {MAX_FILE_BYTES} bytes"),
                    "another",
                ));
            }
            let text = std::fs::read_to_string(path).map_err(cannot_read)?;
            Self::parse(&path.display().to_string(), text.trim_end_matches(['\r', '\n']))
        };
        read().map_err(|error| {
            error.file(path).setting("adapt_prompt").hint(
                "a Jinja template with {{ question }}, {{ labels }} and {{ experts }}; the answer's beginning follows {{ answer }}",
            )
        })
    }

    /// Checks a template.
    ///
    /// # Errors
    /// It is no Jinja, or leaves out `question`.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut environment = jinja::environment();
        environment.add_template_owned(KEY, text.to_owned()).map_err(|error| {
            let problem = plainly(&error);
            Error::invalid(format!("in line {} of the template: {problem}", error.line().unwrap_or(1)))
        })?;
        let prompt = Self { environment, name: name.to_owned() };
        let template =
            prompt.environment.get_template(KEY).map_err(|error| Error::invalid(plainly(&error)))?;
        if !template.undeclared_variables(false).contains("question") {
            return Err(Error::expected("a template with {{ question }}", "one without"));
        }
        Ok(prompt)
    }

    /// Where it came from.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fills the template in for a question that is [shielded](Model::shield), as the examples are.
    pub(super) fn fill(
        &self,
        question: &str,
        candidates: &Candidates,
        examples: &[Example],
    ) -> Result<Filled> {
        let wrong = |error: minijinja::Error| {
            let problem = format!("the template cannot be filled in: {}", plainly(&error));
            Error::invalid(problem).file(&self.name).setting("adapt_prompt")
        };
        let text = self
            .environment
            .get_template(KEY)
            .and_then(|template| {
                template.render(Serde(&Fields {
                    question,
                    experts: candidates.experts(),
                    labels: candidates.labels(),
                    other: OTHER,
                    examples,
                    answer: ANSWER,
                    turn: TURN,
                }))
            })
            .map_err(wrong)?;
        let parted = |turn: &str| {
            let (message, answer) = turn.rsplit_once(ANSWER).unwrap_or((turn, ""));
            (message.to_owned(), answer.to_owned())
        };
        let mut turns: Vec<_> = text.split(TURN).map(parted).collect();
        let (message, answer) = turns.pop().unwrap_or_default();
        Ok(Filled { turns, message, answer })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::expert::{Expert, Profile};
    use crate::sidecar::Fingerprint;

    fn expert(name: &str) -> Expert {
        Expert {
            name: name.to_owned(),
            description: format!(" good at {name} "),
            fingerprint: Fingerprint::parse(&"0".repeat(64)).unwrap(),
            multipliers: BTreeMap::new(),
            training: None,
            profile: Profile::default(),
        }
    }

    #[test]
    fn templates_may_be_written_as_for_python() {
        let candidates = Candidates::new(&[expert("maths"), expert("code")], "cls").unwrap();
        let text = "{{ question.strip().split('\\n')[-1].lower() }} {{ ', '.join(labels[:-1]) }} \
                    {{ labels.index('maths') }} {% for e in experts %}{{ e.description.strip().title() }}; {% endfor %}\
                    {{ answer }}{{ other.upper() }}:";
        let filled = AdaptPrompt::parse("own", text).unwrap().fill(" One.\nTWO? ", &candidates, &[]).unwrap();
        assert_eq!(filled.message, "two? code, maths 1 Good At Code; Good At Maths; ");
        assert_eq!(filled.answer, "OTHER:");
        assert_eq!(filled.turns, []);
    }

    #[test]
    fn examples_become_turns() {
        let experts = [expert("maths"), expert("code")];
        let candidates = Candidates::new(&experts, "cls").unwrap();
        let examples = [("1 + 1?", "maths"), ("Print 1.", "code")]
            .map(|(question, label)| Example { question: question.into(), label });
        let prompt = AdaptPrompt::general();
        let filled = prompt.fill("2 + 2?", &candidates, &examples).unwrap();
        let [(first, maths), (second, code)] = &filled.turns[..] else { panic!("{:?}", filled.turns) };
        assert!(
            first.contains("- maths: good at maths") && first.ends_with("\n\nQuestion: 1 + 1?"),
            "{first}"
        );
        assert_eq!((maths.as_str(), second.as_str(), code.as_str()), ("maths", "Question: Print 1.", "code"));
        assert_eq!((filled.message.as_str(), filled.answer.as_str()), ("Question: 2 + 2?", ""));
        // Without any the question comes with all that is to be said.
        let filled = prompt.fill("2 + 2?", &candidates, &[]).unwrap();
        assert!(filled.turns.is_empty() && filled.message.contains("\n2 + 2?\n"), "{}", filled.message);
        assert_eq!(filled.answer, "Answer: ");
    }
}
