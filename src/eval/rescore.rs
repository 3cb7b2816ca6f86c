//! Scores of answers that lie in a file: those of any program, or an evaluation's trace under new rules. No model runs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Map, Value};

use super::scores::{self, Comparison};
use crate::error::{Error, Result};
use crate::progress::{Interrupt, Progress};
use crate::reward::Score;
use crate::task::{read_rows, Item, Part, Row, Task, SKILLS};

/// An answer of the file, and what it answers.
pub struct Given<'a> {
    /// The item's id as the file writes it, or as the task knows it where the file gives a line.
    pub id: String,
    /// What gave the answer: a configuration of the file's, after the name of the file where several are read; empty where
    /// nothing says.
    pub configuration: String,
    /// Number of the sample, from 0.
    pub sample: usize,
    /// The answer.
    pub completion: String,
    item: &'a Item,
    /// The item's place among the task's.
    place: usize,
}

/// The answers of one file or several to items of a task.
pub struct Answers<'a> {
    task: &'a Task,
    /// In the order of the files.
    pub given: Vec<Given<'a>>,
    /// Answers to items of other parts than the one asked for.
    pub n_elsewhere: usize,
    /// Answers of a trace to another prompt than the task's.
    pub n_other_prompt: usize,
    /// Items of the part asked for, or of all.
    pub n_items: usize,
    configurations: Vec<String>,
    /// Where resampling starts: as in the (first) evaluation, if the answers are of one.
    seed: u64,
}

/// Answers with their scores.
pub struct Rescored<'a> {
    /// The answers.
    pub answers: Answers<'a>,
    /// The score of each.
    pub scores: Vec<Score>,
}

/// The result of one configuration.
#[derive(Clone, Debug)]
pub struct Total {
    /// Its name; empty where the file does not say.
    pub name: String,
    /// Items with an answer.
    pub n: usize,
    /// Mean score, each item counting alike.
    pub accuracy: f64,
    /// 95 % interval of `accuracy`, as of [`super::Summary`].
    pub ci95: (f64, f64),
}

/// Two configurations on the items that both answered.
#[derive(Clone, Debug)]
pub struct Paired {
    /// How many items these are.
    pub n: usize,
    /// What their scores say; its indices count these items in the task's order.
    pub comparison: Comparison,
}

impl<'a> Answers<'a> {
    /// Reads answers to items of `task`, of `part` or of all parts: JSON lines, plain or compressed with gzip, with
    /// `completion` and either `id` (that of [`Item::id`]; its folders may be written in another way) or `line` (of
    /// the task's one data file, from 1), and perhaps `configuration` and `sample`, as a trace has them. The line of
    /// settings that a trace begins with is no answer. Items that the task dropped because of their prompt have
    /// answers too, to be compared with their own gold.
    ///
    /// Of several files, the configurations are called by the files' names without endings: `expert` for `expert.jsonl` if all of it is one
    /// configuration, else `expert: base` and so on.
    ///
    /// # Errors
    /// A line that is no answer, names no item of the task, or answers for the second time; a file without answers; two
    /// files of the same name.
    pub fn read(paths: &[PathBuf], task: &'a Task, part: Option<Part>) -> Result<Self> {
        let index = Index::new(task);
        let n_items = match part {
            Some(part) => task.items(part).len(),
            None => Part::ALL.iter().map(|&part| task.items(part).len()).sum(),
        };
        let mut answers = Self {
            task,
            given: Vec::new(),
            n_elsewhere: 0,
            n_other_prompt: 0,
            n_items,
            configurations: Vec::new(),
            seed: 0,
        };
        let mut stems = HashSet::new();
        for (i, path) in paths.iter().enumerate() {
            let mut file = answers.read_file(path, &index, part)?;
            if i == 0 {
                answers.seed = file.seed;
            }
            if paths.len() > 1 {
                let stem = stem(path);
                if !stems.insert(stem.clone()) {
                    return Err(Error::invalid(format!("another file is called {stem} too"))
                        .file(path)
                        .hint("what the answers of a file are called is its name"));
                }
                file.call(&stem);
            }
            answers.configurations.append(&mut file.configurations);
            answers.given.append(&mut file.given);
        }
        Ok(answers)
    }

    /// The answers of one file. Counts those that are not taken.
    fn read_file(&mut self, path: &Path, index: &Index<'a>, part: Option<Part>) -> Result<File<'a>> {
        let mut file = File { given: Vec::new(), configurations: Vec::new(), seed: 0 };
        let mut seen: HashMap<_, usize> = HashMap::new();
        for (i, row) in read_rows(path)?.into_iter().enumerate() {
            if i == 0 && row.fields.get("schema").and_then(Value::as_str).is_some_and(is_trace) {
                // Traces of the first version have their settings side by side with the schema.
                let settings = row.fields.get("settings").and_then(Value::as_object).unwrap_or(&row.fields);
                file.configurations = names(settings);
                file.seed = settings.get("seed").and_then(Value::as_u64).unwrap_or(0);
                continue;
            }
            let line = Line::of(&row)?;
            let found = index.find(&line).map_err(|error| error.file(&row.place))?;
            let Found { item, part: item_part, place } = found;
            let Line { id, configuration, sample, completion, prompt, .. } = line;
            let key = (item.id.as_str(), configuration.clone(), sample);
            if let Some(first) = seen.insert(key, row.number) {
                return Err(Error::invalid(format!("line {first} has an answer to it already"))
                    .file(&row.place)
                    .field(id.unwrap_or_else(|| item.id.clone()))
                    .hint(
                        "several answers to an item need \"sample\": 0, 1, …, or another \"configuration\"",
                    ));
            }
            if part.is_some_and(|part| part != item_part) {
                self.n_elsewhere += 1;
                continue;
            }
            self.n_other_prompt += usize::from(prompt.is_some_and(|prompt| prompt != item.prompt));
            if !file.configurations.contains(&configuration) {
                file.configurations.push(configuration.clone());
            }
            let id = id.unwrap_or_else(|| item.id.clone());
            file.given.push(Given { id, configuration, sample, completion, item, place });
        }
        if file.given.is_empty() {
            let of = part.map_or(String::new(), |part| format!(" to an item of {}", part.name()));
            return Err(Error::invalid(format!("no answer{of}")).file(path));
        }
        let used: HashSet<_> = file.given.iter().map(|given| given.configuration.as_str()).collect();
        file.configurations.retain(|name| used.contains(name.as_str()));
        Ok(file)
    }

    /// Scores them, several at once. Progress counts answers.
    ///
    /// # Errors
    /// An interrupt, or an error of the task's scoring.
    pub fn score(self, progress: &dyn Progress, interrupt: &Interrupt) -> Result<Rescored<'a>> {
        progress.start(self.given.len() as u64, 0);
        let score = |given: &Given| -> Result<Score> {
            interrupt.check()?;
            let score = self.task.score(given.item, &given.completion)?;
            progress.advance(1);
            Ok(score)
        };
        let scores = self.given.par_iter().map(score).collect::<Result<_>>();
        progress.finish();
        Ok(Rescored { scores: scores?, answers: self })
    }
}

impl Rescored<'_> {
    /// The result of each configuration, in the order of the trace's settings or else of the file.
    pub fn totals(&self) -> Vec<Total> {
        self.answers.configurations.iter().map(|name| self.total(name)).collect()
    }

    /// Each configuration, in the order of [`Self::totals`], beside the one called `baseline`; nothing beside itself.
    ///
    /// # Errors
    /// No configuration of this name, or one that answered none of its items.
    pub fn against(&self, baseline: &str) -> Result<Vec<Option<Paired>>> {
        let known = &self.answers.configurations;
        if !known.iter().any(|name| name == baseline) {
            return Err(Error::not_found(format!("no answers are called '{baseline}'"))
                .setting("against")
                .hint(format!("there are {}", known.join(", "))));
        }
        let old = self.items(baseline);
        let paired = |name: &String| {
            if name == baseline {
                return Ok(None);
            }
            let new = self.items(name);
            let both: Vec<_> = new.keys().filter(|&place| old.contains_key(place)).copied().collect();
            if both.is_empty() {
                return Err(Error::invalid(format!("{name} has no answers to the items of {baseline}"))
                    .setting("against"));
            }
            let means = |items: &Items| both.iter().map(|place| mean(&items[place])).collect::<Vec<_>>();
            let binary = |items: &Items| both.iter().all(|place| is_binary(&items[place]));
            let is_binary = binary(&new) && binary(&old);
            let comparison = scores::compare(&means(&new), &means(&old), is_binary, self.answers.seed);
            Ok(Some(Paired { n: both.len(), comparison }))
        };
        known.iter().map(paired).collect()
    }

    fn total(&self, name: &str) -> Total {
        let items = self.items(name);
        let means: Vec<_> = items.values().map(|scores| mean(scores)).collect();
        let n = means.len();
        Total {
            name: name.to_owned(),
            n,
            accuracy: means.iter().sum::<f64>() / n.max(1) as f64,
            ci95: scores::interval(&means, items.values().all(|scores| is_binary(scores)), self.answers.seed),
        }
    }

    /// What a configuration scored.
    fn items(&self, name: &str) -> Items {
        let mut items = Items::new();
        for (given, score) in self.answers.given.iter().zip(&self.scores) {
            if given.configuration == name {
                items.entry(given.place).or_default().push(score.value);
            }
        }
        items
    }
}

/// The scores of an item's samples, by its place: in the task's order, so that resampling meets items as in an evaluation.
type Items = BTreeMap<usize, Vec<f64>>;

fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len() as f64
}

fn is_binary(samples: &[f64]) -> bool {
    samples.len() == 1 && [0.0, 1.0].contains(&samples[0])
}

/// What one file gives.
struct File<'a> {
    given: Vec<Given<'a>>,
    configurations: Vec<String>,
    seed: u64,
}

impl File<'_> {
    /// Names its configurations by the file.
    fn call(&mut self, stem: &str) {
        let is_one = self.configurations.len() == 1;
        let named = |configuration: &str| match is_one || configuration.is_empty() {
            true => stem.to_owned(),
            false => format!("{stem}: {configuration}"),
        };
        for name in
            self.configurations.iter_mut().chain(self.given.iter_mut().map(|given| &mut given.configuration))
        {
            *name = named(name);
        }
    }
}

/// The name of a file without folders and endings.
fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let name = file_name(&name);
    name.strip_suffix(".jsonl").unwrap_or(name).to_owned()
}

fn is_trace(schema: &str) -> bool {
    schema.starts_with("llama-svf/trace/")
}

/// The names of the configurations that a trace's settings list.
fn names(settings: &Map<String, Value>) -> Vec<String> {
    let list = settings.get("configurations").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A line of the file.
struct Line {
    id: Option<String>,
    line: Option<u64>,
    configuration: String,
    sample: usize,
    completion: String,
    prompt: Option<String>,
}

impl Line {
    fn of(row: &Row) -> Result<Self> {
        let fault = |name: &str, expected: &str| {
            let found = row.fields.get(name).map_or(String::from("nothing"), Value::to_string);
            Error::expected(expected, found).field(name).file(&row.place)
        };
        let text = |name: &str| match row.fields.get(name) {
            None => Ok(None),
            Some(value) => {
                value.as_str().map(|text| Some(text.to_owned())).ok_or_else(|| fault(name, "a text"))
            }
        };
        let number = |name: &str, least: u64, expected: &str| match row.fields.get(name) {
            None => Ok(None),
            Some(value) => {
                value.as_u64().filter(|&n| n >= least).map(Some).ok_or_else(|| fault(name, expected))
            }
        };
        let (id, line) = (text("id")?, number("line", 1, "a line number, from 1")?);
        if id.is_none() && line.is_none() {
            return Err(fault("id", "the item's id, FILE:LINE, or \"line\" with a line number"));
        }
        let sample = number("sample", 0, "a whole number from 0")?.unwrap_or(0);
        Ok(Self {
            id,
            line,
            configuration: text("configuration")?.unwrap_or_default(),
            sample: usize::try_from(sample).map_err(|_| fault("sample", "a number of this machine"))?,
            completion: text("completion")?.ok_or_else(|| fault("completion", "a text"))?,
            prompt: text("prompt")?,
        })
    }
}

/// An item, the part it is in, and its place among the task's.
#[derive(Clone, Copy)]
struct Found<'a> {
    item: &'a Item,
    part: Part,
    place: usize,
}

/// The items of a task by what a file may call them.
struct Index<'a> {
    task: &'a Task,
    by_id: HashMap<&'a str, Found<'a>>,
    /// By the name of their file, without folders, and their line.
    by_line: HashMap<(&'a str, &'a str), Vec<Found<'a>>>,
    files: Vec<&'a str>,
}

impl<'a> Index<'a> {
    fn new(task: &'a Task) -> Self {
        let parts: HashMap<_, _> = Part::ALL
            .iter()
            .flat_map(|&part| task.items(part).iter().map(move |item| (item.prompt.as_str(), part)))
            .collect();
        // A dropped item is of the part that its prompt is in.
        let dropped =
            task.duplicates().iter().filter_map(|item| Some((item, *parts.get(item.prompt.as_str())?)));
        let kept = Part::ALL.iter().flat_map(|&part| task.items(part).iter().map(move |item| (item, part)));
        let (mut by_id, mut by_line) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        let mut files = HashSet::new();
        for (place, (item, part)) in kept.chain(dropped).enumerate() {
            let found = Found { item, part, place };
            by_id.insert(item.id.as_str(), found);
            if let Some((file, line)) = item.id.rsplit_once(':') {
                files.insert(file);
                by_line.entry((file_name(file), line)).or_default().push(found);
            }
        }
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort_unstable();
        Self { task, by_id, by_line, files }
    }

    fn find(&self, line: &Line) -> Result<Found<'a>> {
        let found = match (&line.id, line.line) {
            (Some(id), _) => self.by_id(id)?,
            (None, Some(number)) => self.by_number(number)?,
            (None, None) => None,
        };
        let named = || line.id.clone().unwrap_or_else(|| format!("line {}", line.line.unwrap_or(0)));
        let hint = || match self.files.as_slice() {
            [] => String::from("the task has no items"),
            [file] => format!("its items are {file}:1 and so on"),
            [first, others @ ..] => format!("its items are of {first} and {} more files", others.len()),
        };
        found.ok_or_else(|| {
            Error::not_found(format!("the task {} has no such item", self.task.name()))
                .field(named())
                .hint(hint())
        })
    }

    fn by_id(&self, id: &str) -> Result<Option<Found<'a>>> {
        if let Some(&found) = self.by_id.get(id) {
            return Ok(Some(found));
        }
        let Some((file, line)) = id.rsplit_once(':') else { return Ok(None) };
        let namesakes = self.by_line.get(&(file_name(file), line)).map_or(&[][..], Vec::as_slice);
        if namesakes.len() <= 1 {
            return Ok(namesakes.first().copied());
        }
        // Of files with the same name, the one whose folders go on as the id's do.
        let plain = |file: &str| file.trim_start_matches("./").to_owned();
        let ends_alike = |item: &Item| {
            let own = item.id.rsplit_once(':').map_or("", |(file, _)| file);
            let (own, given) = (plain(own), plain(file));
            Path::new(&own).ends_with(&given) || Path::new(&given).ends_with(&own)
        };
        let mut alike = namesakes.iter().filter(|found| ends_alike(found.item));
        match (alike.next(), alike.next()) {
            (Some(&found), None) => Ok(Some(found)),
            _ => Err(Error::invalid(format!("{} items of the task could be meant", namesakes.len()))
                .field(id)
                .hint(format!("write {} for the first of them", namesakes[0].item.id))),
        }
    }

    fn by_number(&self, number: u64) -> Result<Option<Found<'a>>> {
        let problem = match self.files.as_slice() {
            [file] if !SKILLS.contains(file) => {
                return Ok(self.by_id.get(format!("{file}:{number}").as_str()).copied());
            }
            [_] => "a built-in task has no data file",
            _ => "the task has several data files",
        };
        Err(Error::invalid(problem)
            .field(format!("line {number}"))
            .hint("give \"id\": \"FILE:LINE\" instead"))
    }
}

/// The name of a file without folders, compressed or not.
fn file_name(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.strip_suffix(".gz").unwrap_or(name)
}
