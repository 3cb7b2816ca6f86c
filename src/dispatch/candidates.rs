//! The labels that pass 1 chooses among: the loaded experts, and `other`.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::expert::Expert;

/// The label for questions that no expert fits: the base model answers.
pub const OTHER: &str = "other";

/// An expert as the adaptation prompt shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// Its name, which is the label.
    pub name: String,
    /// What it is good at, one line; may be empty.
    pub description: String,
    /// Questions that it is for, the most typical first; may be none.
    pub questions: Vec<String>,
}

/// Questions of each label that a prompt shows, while labels are few.
const N_SHOWN: usize = 2;
/// Questions that a prompt shows of all labels together.
const MAX_SHOWN: usize = 24;
/// Questions of nobody's, one on each line.
pub(super) const OTHER_QUESTIONS: &str = include_str!("words/other.txt");
/// As many of them as an expert's file has of its own.
const N_OTHER: usize = 8;

/// At least one expert; their order is that of their names.
#[derive(Clone, Debug)]
pub struct Candidates {
    experts: Vec<Candidate>,
    labels: Vec<String>,
}

impl Candidates {
    /// The candidates among `experts`: all but the one called `classifier`, which decides and does not answer.
    ///
    /// # Errors
    /// None is left, two have the same name in capitals or not (an answer in words is read without regard to them), or
    /// one is called [`OTHER`].
    pub fn new<'a>(experts: impl IntoIterator<Item = &'a Expert>, classifier: &str) -> Result<Self> {
        let mut experts: Vec<_> = experts
            .into_iter()
            .filter(|expert| expert.name != classifier)
            .map(|expert| Candidate {
                name: expert.name.clone(),
                description: expert.description.trim().to_owned(),
                questions: expert.profile.questions.clone(),
            })
            .collect();
        experts.sort_by(|a, b| a.name.cmp(&b.name));
        if experts.is_empty() {
            return Err(Error::expected("an expert to choose", "none")
                .setting("strategy")
                .hint("load some with `Expert::open`; the classifier itself is none"));
        }
        let rename = "give it another `Expert::name`";
        for expert in &experts {
            if expert.name.eq_ignore_ascii_case(OTHER) {
                return Err(Error::invalid("this name stands for the base model in the choice of experts")
                    .field(format!("expert {}", expert.name))
                    .hint(rename));
            }
        }
        for (i, expert) in experts.iter().enumerate() {
            let is_alike = |other: &&Candidate| other.name.eq_ignore_ascii_case(&expert.name);
            if let Some(other) = experts[..i].iter().find(is_alike) {
                let problem = match other.name == expert.name {
                    true => "two experts have this name".to_owned(),
                    false => {
                        format!("it differs from {} in capitals only, which labels do not heed", other.name)
                    }
                };
                let field = format!("expert {}", expert.name);
                return Err(Error::invalid(problem).field(field).hint(rename));
            }
        }
        let labels = experts.iter().map(|expert| expert.name.clone()).chain([OTHER.to_owned()]).collect();
        Ok(Self { experts, labels })
    }

    /// The experts.
    pub fn experts(&self) -> &[Candidate] {
        &self.experts
    }

    /// The names of the experts, and then [`OTHER`].
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Questions of each label, with that of [`OTHER`] as the last; none of any where no expert has some.
    fn questions(&self) -> Vec<Vec<&str>> {
        if self.experts.iter().all(|expert| expert.questions.is_empty()) {
            return vec![Vec::new(); self.labels.len()];
        }
        let mut questions: Vec<Vec<&str>> =
            self.experts.iter().map(|expert| expert.questions.iter().map(String::as_str).collect()).collect();
        questions.push(OTHER_QUESTIONS.lines().take(N_OTHER).collect());
        questions
    }

    /// Questions of each label that are shown.
    fn n_shown(&self) -> usize {
        N_SHOWN.min(MAX_SHOWN / self.labels.len())
    }

    /// The questions that the prompt shows as examples, with their labels: one of each label in turn, in the order of the
    /// labels and back, so that none stands always last.
    pub(super) fn shown(&self) -> Vec<(&str, &str)> {
        let questions = self.questions();
        let mut shown = Vec::new();
        for round in 0..self.n_shown() {
            let mut of_round: Vec<_> = questions
                .iter()
                .zip(&self.labels)
                .filter_map(|(questions, label)| Some((*questions.get(round)?, label.as_str())))
                .collect();
            if round % 2 == 1 {
                of_round.reverse();
            }
            shown.extend(of_round);
        }
        shown
    }

    /// The questions that are not shown, each with the number of its label.
    pub(super) fn held_out(&self) -> Vec<(&str, usize)> {
        let n_shown = self.n_shown();
        let questions = self.questions().into_iter().enumerate();
        questions.flat_map(|(label, of)| of.into_iter().skip(n_shown).map(move |it| (it, label))).collect()
    }

    /// What a user should know: experts that the model knows by name only.
    pub fn notes(&self) -> Vec<String> {
        let bare: Vec<_> = self
            .experts
            .iter()
            .filter(|expert| expert.description.is_empty())
            .map(|expert| expert.name.as_str())
            .collect();
        match bare.is_empty() {
            true => Vec::new(),
            false => vec![format!(
                "no description, so that only the name tells what it is for: {}",
                bare.join(", ")
            )],
        }
    }
}
