//! How a task scores: its reward, and the gold answer of each item as that reward wants it.

use super::file::{self, GoldIs, Source};
use super::rows::Row;
use super::templates::Templates;
use super::{Item, LoadOptions, Task};
use crate::error::{Error, Result};
use crate::reward::choice::{Choice, Labels};
use crate::reward::code::sandbox::Limits;
use crate::reward::code::{program, Code};
use crate::reward::numeric::{Number, Numeric};
use crate::reward::text::Text;
use crate::reward::{latex, Score};

/// The gold answer, as the task's reward wants it.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Number(Number),
    Choice(Choice),
    /// `gold` itself.
    Text,
    Program {
        continues: Option<String>,
        tests: String,
    },
    /// Of a task in a stream, by its number.
    Of(usize, Box<Answer>),
}

/// What scores a task's completions.
pub(super) enum Reward {
    Numeric(Numeric),
    Latex,
    Choice,
    Text(Text),
    Code(Code),
    /// Of the tasks of a stream, whose items the stream has.
    Stream(Vec<Task>),
}

impl Reward {
    /// The reward that a task file describes.
    pub(super) fn new(spec: &file::Reward, source: &Source, options: &LoadOptions) -> Result<Self> {
        Ok(match spec {
            file::Reward::Numeric { tolerance } => Self::Numeric(
                Numeric::new(*tolerance).map_err(|error| source.blame("reward.tolerance", error))?,
            ),
            file::Reward::Latex {} => Self::Latex,
            file::Reward::Choice { .. } => Self::Choice,
            file::Reward::Text { pattern, ignore_case } => {
                let text = Text::new(pattern.as_deref(), *ignore_case);
                Self::Text(text.map_err(|error| source.blame("reward.pattern", error))?)
            }
            file::Reward::Code { seconds, memory_mib, .. } => {
                for (key, value, range) in
                    [("seconds", *seconds, 1..=3600), ("memory_mib", *memory_mib, 64..=1 << 20)]
                {
                    if !range.contains(&value) {
                        let error = Error::expected(format!("{} to {}", range.start(), range.end()), value);
                        return Err(source.blame(&format!("reward.{key}"), error));
                    }
                }
                if !options.allow_exec {
                    let error = Error::invalid("the task runs programs that a model wrote, which is off");
                    return Err(source.blame("reward.kind", error.hint("allow it with --allow-exec")));
                }
                let limits =
                    Limits { seconds: *seconds, memory_bytes: memory_mib << 20, ..Limits::default() };
                Self::Code(Code::new(options.sandbox.clone(), limits)?)
            }
        })
    }
}

impl Task {
    /// Scores a completion of one of this task's items. May be called from several threads.
    ///
    /// # Errors
    /// The sandbox failed, or the item is of another task. No completion is an error: a bad one scores 0.
    pub fn score(&self, item: &Item, completion: &str) -> Result<Score> {
        if completion.trim().is_empty() {
            return Ok(Score { value: 0.0, reason: String::from("the completion is empty") });
        }
        match (&self.reward, &item.answer) {
            (Reward::Numeric(numeric), Answer::Number(gold)) => Ok(numeric.score(*gold, completion)),
            (Reward::Latex, Answer::Text) => Ok(latex::score(&item.gold, completion)),
            (Reward::Choice, Answer::Choice(choice)) => Ok(choice.score(completion)),
            (Reward::Text(text), Answer::Text) => Ok(text.score(&item.gold, completion)),
            (Reward::Code(code), Answer::Program { continues, tests }) => {
                code.score(&program(completion, continues.as_deref(), tests), tests)
            }
            (Reward::Stream(tasks), Answer::Of(i, answer)) if *i < tasks.len() => {
                tasks[*i].score(&Item { answer: (**answer).clone(), ..item.clone() }, completion)
            }
            _ => Err(Error::invalid("the item is of another task").field(&item.id)),
        }
    }
}

/// Makes the item of a row, and checks that its answer can be scored.
pub(super) fn item(row: &Row, templates: &Templates, spec: &file::Reward) -> Result<Item> {
    let prompt = templates.render("prompt", row)?;
    let mut gold = templates.render("gold", row)?;
    let completion = templates.render("completion", row)?;
    let at_gold = |error: Error| error.field("gold").file(&row.place);
    for (key, text) in [("prompt", &prompt), ("gold", &gold), ("completion", &completion)] {
        if text.trim().is_empty() {
            return Err(Error::invalid("the template gives nothing").field(key).file(&row.place));
        }
    }
    let answer = match spec {
        file::Reward::Numeric { .. } => Answer::Number(Numeric::gold(&gold).map_err(at_gold)?),
        file::Reward::Latex {} | file::Reward::Text { .. } => Answer::Text,
        file::Reward::Choice { options, labels, gold_is } => {
            let options = templates.texts("reward.options", options, row)?;
            let labels = match labels {
                file::Labels::Letters => Labels::Letters,
                file::Labels::Numbers => Labels::Numbers,
            };
            let named = gold.trim();
            let index = match gold_is {
                GoldIs::Index => named.parse().ok(),
                GoldIs::Label => (0..options.len()).find(|&index| labels.label(index) == named),
                GoldIs::Text => options.iter().position(|option| option.trim() == named),
            };
            let index =
                index.ok_or_else(|| at_gold(Error::expected("one of the options", format!("'{named}'"))))?;
            let choice = Choice::new(labels, options, index).map_err(|error| error.file(&row.place))?;
            gold = choice.gold();
            Answer::Choice(choice)
        }
        file::Reward::Code { continues, .. } => Answer::Program {
            continues: match continues {
                Some(_) => Some(templates.render("reward.continues", row)?),
                None => None,
            },
            tests: templates.render("reward.tests", row)?,
        },
    };
    Ok(Item { id: row.place.display().to_string(), prompt, gold, completion, answer })
}
