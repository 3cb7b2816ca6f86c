//! From a name or a file to a task: reads templates and data, makes the items, and splits them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::file::{self, TaskFile};
use super::reward::{self, Reward};
use super::source::{self, Source};
use super::templates::Templates;
use super::{
    dropped, forms, presets, rows, split, DataFile, Item, LoadOptions, Origin, Part, Parts, Task, SKILLS,
};
use crate::error::{Error, Result};

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
                    Error::invalid(format!("the built-in task {name_or_file} takes no data")).setting("data")
                );
            }
            return Self::skill(name_or_file, &options.overrides);
        }
        let names: Vec<_> = name_or_file.split(',').map(str::trim).collect();
        if names.len() > 1 && !Path::new(name_or_file).exists() {
            return Self::stream(&names, options);
        }
        let (file, source) = if source::is_path(name_or_file) {
            source::read(Path::new(name_or_file))?
        } else if presets::text(name_or_file).is_some() {
            source::preset(name_or_file)?
        } else {
            let known: Vec<_> = SKILLS.into_iter().chain(presets::names()).collect();
            let problem =
                format!("expected a task file or one of {}, found '{name_or_file}'", known.join(", "));
            let hint = source::did_you_mean(name_or_file, known.iter().copied())
                .unwrap_or_else(|| String::from("the name of a task file ends with .toml"));
            return Err(Error::not_found(problem).field("task").hint(hint));
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
        let question = file.question.unwrap_or_else(|| prompt.clone());
        let generation = file.generation;
        generation.check(&|key, error| source.blame(&format!("generation.{key}"), error))?;
        let generation = generation.with(&options.overrides)?;

        let mut templates = Templates::new();
        let mut add =
            |key: &str, text: &str| templates.add(key, text).map_err(|error| source.blame(key, error));
        add("prompt", &prompt)?;
        add("question", &question)?;
        add("gold", &gold)?;
        add("completion", &completion)?;
        if let file::Reward::Code { continues, tests, .. } = &spec {
            add("reward.tests", tests)?;
            add("reward.continues", continues.as_deref().unwrap_or(""))?;
        }
        if let file::Reward::Choice { options, .. } = &spec {
            templates.check_expression(options).map_err(|error| source.blame("reward.options", error))?;
        }
        forms::check(&file.rows, &templates).map_err(|error| source.blame("rows", error))?;
        let reward = Reward::new(&spec, source, options)?;
        let thinking = if file.keep_thinking { " with thinking" } else { "" };
        let rule = format!("{spec:?}{}{thinking}", reward.read_from_files());

        let data = data_files(file.data, source, &options.data)?;
        let item = |row: &rows::Row| match forms::find(&file.rows, row) {
            Some(form) => reward::item(&forms::complete(form, row, &templates)?, &templates, &spec, &reward),
            None => {
                reward::item(row, &templates, &spec, &reward).map_err(|error| match file.rows.is_empty() {
                    true => error,
                    false => error.hint(forms::misfit(&file.rows, row)),
                })
            }
        };
        let mut origin = Origin { files: source.names(), data: Vec::new(), reward: spec.kind().to_owned() };
        let mut items = |files: &[PathBuf], part: Option<Part>| {
            let mut items = Vec::new();
            for path in files {
                let rows = rows::read(path)?;
                if rows.is_empty() {
                    return Err(Error::invalid("no rows").file(path).field("data"));
                }
                origin.data.push(DataFile { path: path.clone(), part, n_rows: rows.len() });
                for row in rows {
                    items.push(item(&row)?);
                }
            }
            Ok(items)
        };
        let mut seen = HashSet::new();
        let mut duplicates = Vec::new();
        let mut distinct = |items: Vec<Item>| -> Vec<Item> {
            let is_new = |item: &Item| seen.insert(blake3::hash(item.prompt.as_bytes()));
            let (new, again): (Vec<_>, Vec<_>) = items.into_iter().partition(is_new);
            duplicates.extend(again);
            new
        };
        let own_test = distinct(items(&data.test, Some(Part::Test))?);
        let own_validation = distinct(items(&data.validation, Some(Part::Validation))?);
        let own_train = distinct(items(&data.train, Some(Part::Train))?);
        let pool = distinct(items(&data.files, None)?);

        let shares = file.split;
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

        let mut notes = dropped(duplicates.len());
        if let Reward::Code(code) = &reward {
            notes.extend(code.notes().iter().cloned());
        }
        Ok(Self {
            name: file.name.unwrap_or_default(),
            description: file.description.unwrap_or_default(),
            generation,
            reward,
            keep_thinking: file.keep_thinking,
            rule,
            origin,
            parts,
            duplicates,
            notes,
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
        let folder = source.folder_of("data");
        let located = |files: Vec<PathBuf>| files.into_iter().map(|file| folder.join(file)).collect();
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
            source.blame("data", error.hint("give them with `data` FILE.jsonl, or `data` test=FILE.jsonl"))
        );
    }
    Ok(data)
}
