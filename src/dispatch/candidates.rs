//! The labels that pass 1 chooses among: the loaded experts, and `other`.

use std::collections::VecDeque;

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

/// Rounds of questions that a prompt shows, while experts are few.
const MAX_ROUNDS: usize = 2;
/// Questions of nobody's in each round, which are of more kinds.
const N_OTHER_SHOWN: usize = 2;
/// Questions that a prompt shows of all labels together.
const MAX_SHOWN: usize = 24;
/// Questions of nobody's, one on each line.
pub(super) const OTHER_QUESTIONS: &str = include_str!("words/other.txt");
/// So many of them are shown, or calibrate.
const N_OTHER: usize = 16;

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

    /// Rounds in which questions are shown: one of each expert between two of nobody's.
    fn n_rounds(&self) -> usize {
        MAX_ROUNDS.min(MAX_SHOWN / (self.experts.len() + N_OTHER_SHOWN))
    }

    /// Questions of label number `label` that a round shows.
    fn n_of_round(&self, label: usize) -> usize {
        match label == self.experts.len() {
            true => N_OTHER_SHOWN,
            false => 1,
        }
    }

    /// The questions that the prompt shows as examples, with their labels. Every other round is in reverse, so that no expert
    /// stands always first.
    pub(super) fn shown(&self) -> Vec<(&str, &str)> {
        let questions = self.questions();
        let mut shown = Vec::new();
        for round in 0..self.n_rounds() {
            let of_label = |label: usize| {
                let n = self.n_of_round(label);
                let of_round = questions[label].iter().skip(round * n).take(n);
                of_round.map(|question| (*question, self.labels[label].as_str())).collect::<Vec<_>>()
            };
            let mut of_round: VecDeque<_> = (0..self.labels.len()).flat_map(of_label).collect();
            // The last one is nobody's, as the one before it is.
            if let Some(last) = of_round.pop_back() {
                of_round.push_front(last);
            }
            match round % 2 {
                0 => shown.extend(of_round),
                _ => shown.extend(of_round.into_iter().rev()),
            }
        }
        shown
    }

    /// The questions that are not shown, each with the number of its label.
    pub(super) fn held_out(&self) -> Vec<(&str, usize)> {
        let mut held_out = Vec::new();
        for (label, of) in self.questions().into_iter().enumerate() {
            let n_shown = self.n_rounds() * self.n_of_round(label);
            held_out.extend(of.into_iter().skip(n_shown).map(|question| (question, label)));
        }
        held_out
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
