//! Tasks: items to answer, how answers are generated, and how they are scored.
//!
//! [`Task::load`] takes the name of a built-in skill ([`SKILLS`]), the name of a preset ([`presets`]), or a task
//! file:
//!
//! ```toml
//! name = "capitals"                       # default: the file's name
//! description = "Capitals of countries"
//! prompt = "What is the capital of {{ country }}?"
//! completion = "It is {{ capital }}."     # what a perfect model would write; default: the gold answer
//! gold = "{{ capital }}"
//!
//! [data]                                  # JSON Lines, plain or gzip; paths relative to this file
//! files = ["capitals.jsonl.gz"]           # to be split
//! # train, validation, test = […]         # and, or instead: files of their own
//!
//! [reward]
//! kind = "text"                           # see below
//! pattern = "It is ([^.]*)"
//!
//! [split]                                 # of `files`; below 1 a fraction, from 1 on a count
//! seed = 0
//! train = 0.8
//! validation = 0.1                        # without `test`, the rest tests
//!
//! [generation]
//! max_tokens = 256
//! stop = ["\n\n"]
//! chat = true                             # apply the model's chat template
//! ```
//!
//! Prompts are Jinja templates over the fields of a row; a field that is missing is an error. Beside Jinja's
//! own there is a filter `regex_replace(pattern, by)`. `base = "gsm8k"` takes from a preset what the
//! file does not say. Rewards and their keys:
//!
//! | kind | keys |
//! |---|---|
//! | `numeric` | `tolerance = 0.0` |
//! | `latex` | |
//! | `choice` | `options`, an expression for a list of texts; `labels = "letters"` or `"numbers"`; `gold_is = "label"`, `"index"` (from 0) or `"text"` |
//! | `text` | `pattern`, a regex whose last match, or its first group, is the answer; `ignore_case = false` |
//! | `code` | `tests`, a template; `continues`, a template for what the completion goes on from; `seconds = 10`; `memory_mib = 512` |
//!
//! Items with the same prompt are one item: later ones are dropped before anything is split, and where files of
//! parts overlap, test keeps it before validation, and validation before train.

mod file;
pub mod presets;
mod rows;
mod split;
mod stream;
mod templates;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::reward::choice::{Choice, Labels};
use crate::reward::code::sandbox::Limits;
use crate::reward::code::{without_fences, Code};
use crate::reward::numeric::{Number, Numeric};
use crate::reward::text::Text;
use crate::reward::{latex, Score};
use crate::skills::{self, Skill};
use file::{GoldIs, Source, TaskFile};
use rows::Row;
use templates::Templates;

/// Names of the built-in tasks, which need no data.
pub const SKILLS: [&str; 7] =
    ["math", "code", "reasoning", "math-unseen", "code-unseen", "reasoning-unseen", "skill-name"];

/// Part of a task's items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// To train on.
    Train,
    /// To choose by.
    Validation,
    /// To report on.
    Test,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// `train`, `validation` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// How answers are generated.
#[derive(Clone, PartialEq, Debug)]
pub struct Generation {
    /// Most tokens of one answer.
    pub max_tokens: usize,
    /// An answer ends before any of these.
    pub stop: Vec<String>,
    /// Whether the model's chat template is applied around the prompt.
    pub chat: bool,
}

/// One question.
#[derive(Clone, Debug)]
pub struct Item {
    /// `FILE:LINE`, or `TASK:INDEX` of a built-in one.
    pub id: String,
    /// The prompt, before the chat template.
    pub prompt: String,
    /// The answer, for people.
    pub gold: String,
    /// The reference completion: what a perfect model would have written.
    pub completion: String,
    answer: Answer,
}

/// The gold answer, as the task's reward wants it.
#[derive(Clone, Debug)]
enum Answer {
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

/// How a task is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Data files in place of the task's own. `train=FILE`, `validation=FILE` and `test=FILE` are a part's own.
    pub data: Vec<PathBuf>,
    /// Whether completions may be run as programs; without it a task that runs code is refused.
    pub allow_exec: bool,
    /// The `llama-svf` program, which starts the sandbox; the running one if `None`.
    pub sandbox: Option<PathBuf>,
}

/// What scores a task's completions.
enum Reward {
    Numeric(Numeric),
    Latex,
    Choice,
    Text(Text),
    Code(Code),
    /// Of the tasks of a stream, whose items the stream has.
    Stream(Vec<Task>),
}

#[derive(Default)]
struct Parts {
    train: Vec<Item>,
    validation: Vec<Item>,
    test: Vec<Item>,
}

/// Items, checked and split, and their reward.
pub struct Task {
    name: String,
    description: String,
    generation: Generation,
    reward: Reward,
    /// The reward as the task's file gives it.
    rule: String,
    parts: Parts,
    notes: Vec<String>,
}

/// The note about items that were dropped, if there are any.
fn dropped(n: usize) -> Vec<String> {
    let note = || format!("{n} items had the prompt of another one and were dropped");
    (n > 0).then(note).into_iter().collect()
}

impl Task {
    /// Loads a built-in skill, a preset, or a task file (a name that ends with `.toml` or holds a slash), or several of
    /// them, with commas between, as one shuffled stream.
    ///
    /// # Errors
    /// Anything wrong with the file or its data, with file, line and field.
    pub fn load(name_or_file: &str, options: &LoadOptions) -> Result<Self> {
        if SKILLS.contains(&name_or_file) {
            if !options.data.is_empty() {
                return Err(
                    Error::invalid(format!("the built-in task {name_or_file} takes no data")).field("--data")
                );
            }
            return Self::skill(name_or_file);
        }
        let names: Vec<_> = name_or_file.split(',').map(str::trim).collect();
        if names.len() > 1 && !Path::new(name_or_file).exists() {
            return Self::stream(&names, options);
        }
        let (file, source) = if name_or_file.ends_with(".toml") || name_or_file.contains('/') {
            file::read(Path::new(name_or_file))?
        } else if presets::text(name_or_file).is_some() {
            file::preset(name_or_file)?
        } else {
            let known: Vec<_> = SKILLS.into_iter().chain(presets::names()).collect();
            let error = Error::expected(
                format!("a task file or one of {}", known.join(", ")),
                format!("'{name_or_file}'"),
            );
            let hint = file::did_you_mean(name_or_file, known.iter().copied())
                .unwrap_or_else(|| String::from("the name of a task file ends with .toml"));
            return Err(error.field("task").hint(hint));
        };
        Self::build(file, &source, options)
    }

    fn build(file: TaskFile, source: &Source, options: &LoadOptions) -> Result<Self> {
        let missing =
            |key: &str| source.blame(key, Error::invalid(format!("the task has no '{key}'")).field(key));
        let spec = file.reward.ok_or_else(|| missing("reward"))?;
        let prompt = file.prompt.ok_or_else(|| missing("prompt"))?;
        let gold = file.gold.ok_or_else(|| missing("gold"))?;
        let completion = file.completion.unwrap_or_else(|| gold.clone());
        let generation = file.generation.unwrap_or_default();
        if generation.max_tokens == 0 {
            return Err(source.blame("generation.max_tokens", Error::expected("at least 1", 0)));
        }
        if generation.stop.iter().any(String::is_empty) {
            return Err(source.blame("generation.stop", Error::invalid("a stop string is empty")));
        }

        let mut templates = Templates::new();
        let mut add =
            |key: &str, text: &str| templates.add(key, text).map_err(|error| source.blame(key, error));
        add("prompt", &prompt)?;
        add("gold", &gold)?;
        add("completion", &completion)?;
        if let file::Reward::Code { continues, tests, .. } = &spec {
            add("reward.tests", tests)?;
            add("reward.continues", continues.as_deref().unwrap_or(""))?;
        }
        if let file::Reward::Choice { options, .. } = &spec {
            templates.check_expression(options).map_err(|error| source.blame("reward.options", error))?;
        }
        let rule = format!("{spec:?}");
        let reward = Reward::new(&spec, source, options)?;

        let data = data_files(file.data, source, &options.data)?;
        let items = |files: &[PathBuf]| {
            let mut items = Vec::new();
            for file in files {
                let rows = rows::read(file)?;
                if rows.is_empty() {
                    return Err(Error::invalid("no rows").file(file).field("data"));
                }
                for row in rows {
                    items.push(item(&row, &templates, &spec)?);
                }
            }
            Ok(items)
        };
        let mut seen = HashSet::new();
        let mut n_dropped = 0;
        let mut distinct = |mut items: Vec<Item>| {
            let before = items.len();
            items.retain(|item| seen.insert(blake3::hash(item.prompt.as_bytes())));
            n_dropped += before - items.len();
            items
        };
        let own_test = distinct(items(&data.test)?);
        let own_validation = distinct(items(&data.validation)?);
        let own_train = distinct(items(&data.train)?);
        let pool = distinct(items(&data.files)?);

        let shares = file.split.unwrap_or_default();
        let blame = |key: &str, error| source.blame(key, error);
        let mut parts = if pool.is_empty() { Parts::default() } else { split::split(pool, &shares, &blame)? };
        parts.train.extend(own_train);
        parts.validation.extend(own_validation);
        parts.test.extend(own_test);
        for (part, files) in
            [(Part::Train, &data.train), (Part::Validation, &data.validation), (Part::Test, &data.test)]
        {
            if !files.is_empty() && parts.of(part).is_empty() {
                let problem = format!("empty split: all items of {} are in other parts already", part.name());
                return Err(source.blame(&format!("data.{}", part.name()), Error::invalid(problem)));
            }
        }
        // Data sets often come without validation: it is cut from what trains.
        if data.files.is_empty()
            && data.validation.is_empty()
            && !parts.train.is_empty()
            && shares.validation > 0.0
        {
            let shares = file::Split { train: 0.0, test: Some(0.0), ..shares.clone() };
            let n_validation = split::count(shares.validation, parts.train.len(), "validation", &blame)?;
            let n_train = parts.train.len() - n_validation;
            if n_train == 0 {
                let error = Error::invalid("empty split: validation takes all that trains");
                return Err(blame("split.validation", error));
            }
            let shares = file::Split { train: n_train as f64, ..shares };
            let cut = split::split(std::mem::take(&mut parts.train), &shares, &blame)?;
            (parts.train, parts.validation) = (cut.train, cut.validation);
        }

        let mut notes = dropped(n_dropped);
        if let Reward::Code(code) = &reward {
            notes.extend(code.notes().iter().cloned());
        }
        Ok(Self {
            name: file.name.unwrap_or_default(),
            description: file.description.unwrap_or_default(),
            generation: Generation {
                max_tokens: generation.max_tokens,
                stop: generation.stop,
                chat: generation.chat,
            },
            reward,
            rule,
            parts,
            notes,
        })
    }

    /// A built-in task: 2000 items that train, 500 that validate, 500 that test, fewer where the generator
    /// repeats itself.
    fn skill(name: &str) -> Result<Self> {
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
        let mut index = 0;
        for (part, size) in SIZES {
            for _ in 0..size {
                let question = match skill {
                    Some(skill) => skills::question(skill, unseen, SEED, index),
                    None => skills::naming(false, SEED, index),
                };
                if seen.insert(blake3::hash(question.prompt.as_bytes())) {
                    parts.of_mut(part).push(Item {
                        id: format!("{name}:{index}"),
                        prompt: question.prompt,
                        gold: question.answer,
                        completion: question.completion,
                        answer: Answer::Text,
                    });
                }
                index += 1;
            }
        }
        let n_dropped = index as usize - Part::ALL.map(|part| parts.of(part).len()).iter().sum::<usize>();
        Ok(Self {
            name: name.to_owned(),
            description,
            generation: Generation { max_tokens: 96, stop: Vec::new(), chat: true },
            reward: Reward::Text(Text::new(Some(&format!("{}(.*)", skills::ANSWER)), false)?),
            rule: String::new(),
            parts,
            notes: dropped(n_dropped),
        })
    }

    /// The task's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One line: what it is about.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// How answers are generated.
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// Changes with the task and with everything by which answers are made and scored, but for the items.
    pub fn rules(&self) -> String {
        format!("{} {:?} {}", self.name, self.generation, self.rule)
    }

    /// The items of a part; parts are disjoint, and no prompt occurs twice.
    pub fn items(&self, part: Part) -> &[Item] {
        self.parts.of(part)
    }

    /// What a user should know, one line each: dropped items, a sandbox that could be tighter.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

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
                code.score(&program(continues.as_deref(), completion), tests)
            }
            (Reward::Stream(tasks), Answer::Of(i, answer)) if *i < tasks.len() => {
                tasks[*i].score(&Item { answer: (**answer).clone(), ..item.clone() }, completion)
            }
            _ => Err(Error::invalid("the item is of another task").field(&item.id)),
        }
    }
}

/// The program that a completion makes. A completion in a fence repeats what it should have gone on from.
fn program(continues: Option<&str>, completion: &str) -> String {
    let code = without_fences(completion);
    match continues {
        Some(start) if completion.starts_with(code) => format!("{start}{code}"),
        // The head's imports and helpers stay available; what the fence defines comes after, and counts.
        Some(start) => format!("{start}    pass\n\n{code}"),
        None => code.to_owned(),
    }
}

impl Parts {
    fn of(&self, part: Part) -> &[Item] {
        match part {
            Part::Train => &self.train,
            Part::Validation => &self.validation,
            Part::Test => &self.test,
        }
    }

    fn of_mut(&mut self, part: Part) -> &mut Vec<Item> {
        match part {
            Part::Train => &mut self.train,
            Part::Validation => &mut self.validation,
            Part::Test => &mut self.test,
        }
    }
}

impl Reward {
    fn new(spec: &file::Reward, source: &Source, options: &LoadOptions) -> Result<Self> {
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

/// The data files of a task: those of the command line, or else its own.
fn data_files(own: file::Data, source: &Source, given: &[PathBuf]) -> Result<file::Data> {
    let mut data = file::Data::default();
    for path in given {
        let text = path.to_string_lossy();
        match text.split_once('=') {
            Some(("train", file)) => data.train.push(file.into()),
            Some(("validation", file)) => data.validation.push(file.into()),
            Some(("test", file)) => data.test.push(file.into()),
            _ => data.files.push(path.clone()),
        }
    }
    if given.is_empty() {
        let located =
            |files: Vec<PathBuf>| files.into_iter().map(|file| source.folder().join(file)).collect();
        data = file::Data {
            files: located(own.files),
            train: located(own.train),
            validation: located(own.validation),
            test: located(own.test),
        };
    }
    if data == file::Data::default() {
        let error = Error::invalid("the task names no data files");
        return Err(
            source.blame("data", error.hint("give them with --data FILE.jsonl, or --data test=FILE.jsonl"))
        );
    }
    Ok(data)
}

/// Makes the item of a row, and checks that its answer can be scored.
fn item(row: &Row, templates: &Templates, spec: &file::Reward) -> Result<Item> {
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
