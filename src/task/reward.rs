//! How a task scores: its reward, and the gold answer of each item as that reward wants it.

use std::ops::RangeInclusive;

use serde_json::{json, Map, Value};

use super::file::{self, GoldIs};
use super::rows::Row;
use super::source::Source;
use super::templates::Templates;
use super::{Item, LoadOptions, Task};
use crate::error::{Error, Result};
use crate::reward::choice::{Choice, Labels};
use crate::reward::code::sandbox::Limits;
use crate::reward::code::{program, Code};
use crate::reward::command::Program;
use crate::reward::json::{Json, JsonReward};
use crate::reward::numeric::{Number, Numeric};
use crate::reward::text::Text;
use crate::reward::{latex, thinking, Score};

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
    Json(Json),
    /// The fields of the item's row.
    Row(Map<String, Value>),
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
    Json(JsonReward),
    Command(Program),
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
                check(source, "reward.seconds", *seconds, SECONDS)?;
                check(source, "reward.memory_mib", *memory_mib, 64..=1 << 20)?;
                allow_exec(source, options, "the task runs programs that a model wrote, which is off")?;
                let limits =
                    Limits { seconds: *seconds, memory_bytes: memory_mib << 20, ..Limits::default() };
                Self::Code(Code::new(options.sandbox.clone(), limits)?)
            }
            file::Reward::Json { schema, partial, strict } => {
                let blame = |error| source.blame("reward.schema", error);
                let schema = schema.as_ref().map(|schema| schema_of(schema, source)).transpose();
                let schema = schema.map_err(blame)?;
                Self::Json(JsonReward::new(schema.as_ref(), *partial, *strict).map_err(blame)?)
            }
            file::Reward::Command { program, seconds } => {
                check(source, "reward.seconds", *seconds, SECONDS)?;
                allow_exec(source, options, "the task runs a program to score answers, which is off")?;
                let program = Program::new(program, source.folder_of("reward.program"), *seconds);
                Self::Command(program.map_err(|error| source.blame("reward.program", error))?)
            }
        })
    }
}

impl Reward {
    /// What decides scores beside the task file itself: a schema in a file of its own.
    pub(super) fn read_from_files(&self) -> String {
        match self {
            Self::Json(json) => json.schema().map(|schema| format!(" {schema}")).unwrap_or_default(),
            _ => String::new(),
        }
    }
}

const SECONDS: RangeInclusive<u64> = 1..=3600;

fn check(source: &Source, key: &str, value: u64, range: RangeInclusive<u64>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(source.blame(key, Error::expected(format!("{} to {}", range.start(), range.end()), value)))
}

fn allow_exec(source: &Source, options: &LoadOptions, refusal: &str) -> Result<()> {
    if options.allow_exec {
        return Ok(());
    }
    Err(source.blame("reward.kind", Error::invalid(refusal).hint("allow it with `allow_exec`")))
}

/// The JSON Schema that a task file gives as a table, as JSON text, or by the path of a file.
fn schema_of(given: &toml::Value, source: &Source) -> Result<Value> {
    let parse = |text: &str, of: &str| {
        serde_json::from_str(text).map_err(|error| Error::invalid(format!("{of}not JSON: {error}")))
    };
    match given {
        toml::Value::String(text) if text.trim_start().starts_with('{') => parse(text, ""),
        toml::Value::String(path) => {
            let path = source.folder_of("reward.schema").join(path);
            let text = std::fs::read_to_string(&path)
                .map_err(|error| Error::invalid(format!("cannot read {}: {error}", path.display())))?;
            parse(text.trim_start_matches('\u{feff}'), &format!("{}: ", path.display()))
        }
        toml::Value::Table(_) => {
            serde_json::to_value(given).map_err(|error| Error::invalid(format!("not JSON: {error}")))
        }
        other => Err(Error::expected("a table, JSON text, or the path of a file", other.type_str())),
    }
}

impl Task {
    /// Scores a completion of one of this task's items. May be called from several threads.
    ///
    /// # Errors
    /// The sandbox failed, or the program that scores, or the item is of another task. No completion is an error: a bad
    /// one scores 0.
    pub fn score(&self, item: &Item, completion: &str) -> Result<Score> {
        if let (Reward::Stream(tasks), Answer::Of(i, answer)) = (&self.reward, &item.answer) {
            let task = tasks.get(*i).ok_or_else(|| of_another_task(item))?;
            return task.score(&Item { answer: (**answer).clone(), ..item.clone() }, completion);
        }
        let score = self.score_completion(item, completion)?;
        // Whoever takes means of scores relies on it, and NaN would spread.
        if !(0.0..=1.0).contains(&score.value) {
            return Err(
                Error::expected("a score between 0 and 1", score.value).field(format!("item {}", item.id))
            );
        }
        Ok(score)
    }

    /// Scores what a completion says beside its thinking.
    fn score_completion(&self, item: &Item, completion: &str) -> Result<Score> {
        let wrong = |reason: &str| Ok(Score { value: 0.0, reason: reason.to_owned() });
        if completion.trim().is_empty() {
            return wrong("the completion is empty");
        }
        if self.keep_thinking {
            return self.score_answer(item, completion);
        }
        match thinking::split(completion).answer {
            None => wrong("the thinking never ends"),
            Some(answer) if answer.trim().is_empty() => wrong("nothing follows the thinking"),
            Some(answer) => self.score_answer(item, &answer),
        }
    }

    /// Scores what was said.
    fn score_answer(&self, item: &Item, completion: &str) -> Result<Score> {
        match (&self.reward, &item.answer) {
            (Reward::Numeric(numeric), Answer::Number(gold)) => Ok(numeric.score(*gold, completion)),
            (Reward::Latex, Answer::Text) => Ok(latex::score(&item.gold, completion)),
            (Reward::Choice, Answer::Choice(choice)) => Ok(choice.score(completion)),
            (Reward::Text(text), Answer::Text) => Ok(text.score(&item.gold, completion)),
            (Reward::Code(code), Answer::Program { continues, tests }) => {
                code.score(&program(completion, continues.as_deref(), tests), tests)
            }
            (Reward::Json(json), Answer::Json(gold)) => Ok(json.score(gold, completion)),
            (Reward::Command(program), Answer::Row(row)) => program
                .score(
                    &json!({"prompt": item.prompt, "completion": completion, "gold": item.gold, "row": row}),
                )
                .map_err(|error| error.field(format!("item {}", item.id))),
            _ => Err(of_another_task(item)),
        }
    }
}

fn of_another_task(item: &Item) -> Error {
    Error::invalid("the item is of another task").field(&item.id)
}

/// Makes the item of a row, and checks that its answer can be scored.
pub(super) fn item(row: &Row, templates: &Templates, spec: &file::Reward, reward: &Reward) -> Result<Item> {
    let prompt = templates.render("prompt", row)?;
    let question = templates.render("question", row)?;
    let mut gold = templates.render("gold", row)?;
    let completion = templates.render("completion", row)?;
    let at_gold = |error: Error| error.field("gold").file(&row.place);
    for (key, text) in
        [("prompt", &prompt), ("question", &question), ("gold", &gold), ("completion", &completion)]
    {
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
            let index = index.ok_or_else(|| {
                let error = Error::expected("one of the options", format!("'{named}'"));
                at_gold(
                    error.hint("where the data has labels of its own, give the option's place with gold_is"),
                )
            })?;
            let choice = Choice::new(labels, options, index).map_err(|error| error.file(&row.place))?;
            gold = choice.gold();
            Answer::Choice(choice)
        }
        file::Reward::Code { continues, .. } => Answer::Program {
            continues: match continues {
                Some(_) => Some(templates.render("reward.continues", row)?),
                None => None,
            },
            tests: {
                let tests = templates.render("reward.tests", row)?;
                if tests.trim().is_empty() {
                    return Err(Error::invalid("the template gives nothing, and any program would pass")
                        .field("reward.tests")
                        .file(&row.place));
                }
                tests
            },
        },
        file::Reward::Json { .. } => Answer::Json(JsonReward::gold(&gold).map_err(at_gold)?),
        file::Reward::Command { .. } => Answer::Row(row.fields.clone()),
    };
    if let (Reward::Json(json), Answer::Json(gold)) = (reward, &answer) {
        json.check(gold).map_err(at_gold)?;
    }
    Ok(Item { id: row.place.display().to_string(), prompt, question, gold, completion, answer })
}
