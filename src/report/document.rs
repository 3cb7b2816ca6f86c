//! A report for people: its numbers as tables, pictures and a few sentences.

use super::folder::Folder;
use super::results::{Dispatch, Measured, Passes, Results, BASE, FEW_SHOT, ORACLE, SINGLE};
use crate::dispatch::OTHER;
use crate::error::{Error, Result};
use crate::eval::{Reliability, Step};
use crate::page::{self, Bar, Bars, Block, Cell, Document, Entry, Matrix, Table};

/// The strategies, what each does, and its colour.
const STRATEGIES: [(&str, &str, &str); 7] = [
    (BASE, "the model without experts", "#9aa3b2"),
    ("prompt", "the model names the expert for each question", "#2563a8"),
    ("classifier", "the same, by an expert that was trained to name skills", "#12908e"),
    ("nearest", "the expert whose own questions left hidden states like those of the question", "#b83280"),
    (
        FEW_SHOT,
        "a mixture of experts for the whole task, found by the cross-entropy method on a few training items",
        "#d0670f",
    ),
    (SINGLE, "the one expert that does best on the same training items", "#8457b8"),
    (
        ORACLE,
        "the expert of each question's own task, which nobody tells the others; it does not compete",
        "#4a8f3c",
    ),
];

const NOTHING: &str = "–";

impl Results {
    /// The report.
    pub fn document(&self) -> Document {
        let mut blocks = Vec::new();
        self.experts_section(&mut blocks);
        self.strategies_section(&mut blocks);
        self.dispatch_section(&mut blocks);
        self.mixtures_section(&mut blocks);
        self.passes_section(&mut blocks);
        self.making_section(&mut blocks);
        let n: usize = self.tasks.iter().filter(|task| task.kind != "stream").map(|task| task.n).sum();
        Document {
            title: format!("Self-adaptation of {}", self.model.name),
            subtitle: format!(
                "{} experts, {} tasks, {n} test questions, answered greedily. The tables follow Transformer² (arXiv \
                 2501.06252).",
                self.experts.len(),
                self.single_tasks().len()
            ),
            blocks,
        }
    }

    /// Writes the report's files into `folder`.
    ///
    /// # Errors
    /// One cannot be written.
    pub fn write(&self, folder: &Folder) -> Result<()> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| Error::engine(format!("cannot write JSON: {error}")))?;
        let document = self.document();
        for (name, svg) in document.pictures() {
            folder.write(name, &svg.file())?;
        }
        folder.write("report.json", &(json + "\n"))?;
        folder.write("report.md", &document.markdown())?;
        folder.write("report.html", &document.html())
    }

    /// All targets but the stream.
    fn single_tasks(&self) -> Vec<&str> {
        self.tasks.iter().filter(|task| task.kind != "stream").map(|task| task.name.as_str()).collect()
    }

    fn experts_section(&self, blocks: &mut Vec<Block>) {
        let tasks = self.single_tasks();
        let names = distinct(self.experts_by_task.iter().map(|entry| entry.name.as_str()));
        blocks.push(Block::Heading("Experts by tasks".into()));
        blocks.push(Block::Text(
            "Accuracy of the base model and of each expert alone. Below: the 95 % interval, then the difference to the \
             base model on the same questions and its two-sided p. Bold: the best of a column."
                .into(),
        ));
        blocks.push(Block::Table(table(&self.experts_by_task, &names, &tasks, "expert")));
        let cell = |name: &str, task: &str| match find(&self.experts_by_task, name, task) {
            Some(entry) => Cell {
                share: Some(entry.accuracy),
                text: percent(entry.accuracy),
                is_marked: self.own(task) == Some(name),
            },
            None => Cell { text: NOTHING.into(), ..Cell::default() },
        };
        let matrix = Matrix {
            title: "Accuracy of each expert on each task",
            across: "task; framed: a task's own expert",
            columns: tasks.iter().map(|&task| task.to_owned()).collect(),
            rows: names
                .iter()
                .map(|&name| (name.to_owned(), tasks.iter().map(|task| cell(name, task)).collect()))
                .collect(),
        };
        blocks.push(Block::Picture("experts.svg".into(), matrix.svg()));
    }

    fn strategies_section(&self, blocks: &mut Vec<Block>) {
        let entries = &self.strategies_by_task;
        let present: Vec<_> = STRATEGIES
            .into_iter()
            .filter(|(name, ..)| entries.iter().any(|entry| entry.name == *name))
            .collect();
        let names: Vec<_> = present.iter().map(|(name, ..)| *name).collect();
        blocks.push(Block::Heading("Strategies by tasks".into()));
        let stream = self.tasks.iter().find(|task| task.kind == "stream");
        let stream = stream.map_or(String::new(), |stream| {
            format!(" In the stream ({}) the questions of these tasks come shuffled.", stream.name)
        });
        blocks.push(Block::Text(format!(
            "Who chooses the experts. Below each accuracy: the 95 % interval, then the difference to the base model on \
             the same questions and its two-sided p.{stream}"
        )));
        blocks.push(Block::List(present.iter().map(|(name, what, _)| format!("{name}: {what}")).collect()));
        // The stream's name is long, and said above.
        let tasks: Vec<_> = self.tasks.iter().map(|task| task.name.as_str()).collect();
        let mut figures = table(entries, &names, &tasks, "strategy");
        for (column, task) in figures.columns[1..].iter_mut().zip(&self.tasks) {
            *column = self.short(&task.name).to_owned();
        }
        blocks.push(Block::Table(figures));
        let bars = |task: &str| {
            let bar = |&(name, _, colour): &(&'static str, &str, &'static str)| {
                let entry = find(entries, name, task)?;
                Some(Bar { name, colour, value: entry.accuracy, interval: entry.ci95 })
            };
            present.iter().filter_map(bar).collect::<Vec<_>>()
        };
        let picture = Bars {
            title: "Accuracy of each strategy, with its 95 % interval",
            groups: tasks.iter().map(|task| (self.short(task).to_owned(), bars(task))).collect(),
        };
        blocks.push(Block::Picture("strategies.svg".into(), picture.svg()));
    }

    fn dispatch_section(&self, blocks: &mut Vec<Block>) {
        blocks.push(Block::Heading("What pass 1 chose".into()));
        if self.dispatch.is_empty() {
            blocks.push(Block::Text("No strategy that chooses was possible; see the notes.".into()));
            return;
        }
        blocks.push(Block::Text(
            "How many questions of each task got which label; other is the base model. Accuracy is the share whose label \
             is their task's own expert, confidence the label's mean probability among the labels."
                .into(),
        ));
        for strategy in distinct(self.dispatch.iter().map(|dispatch| dispatch.strategy.as_str())) {
            let of: Vec<_> = self.dispatch.iter().filter(|dispatch| dispatch.strategy == strategy).collect();
            blocks.push(Block::Table(self.dispatch_table(strategy, &of)));
            let (title, file) = (format!("Chosen by {strategy}"), format!("dispatch-{strategy}.svg"));
            blocks.push(Block::Picture(file, self.confusion(&title, &of).svg()));
            if let Some(reliability) = self.reliability.get(strategy) {
                reliability_of(strategy, reliability, blocks);
            }
        }
    }

    /// The labels that could be chosen, with the one for the base model last.
    fn labels(&self) -> Vec<&str> {
        let experts = self.experts.iter().filter(|expert| !expert.is_classifier);
        experts.map(|expert| expert.name.as_str()).chain([OTHER]).collect()
    }

    fn dispatch_table(&self, strategy: &str, of: &[&Dispatch]) -> Table {
        let labels = self.labels();
        let has_fallback = of.iter().any(|dispatch| dispatch.n_fallback > 0);
        let mut columns = vec![strategy.to_owned()];
        columns.extend(labels.iter().map(|&label| label.to_owned()));
        columns.extend(["accuracy".to_owned(), "confidence".to_owned()]);
        if has_fallback {
            columns.push("too unsure".to_owned());
        }
        let row = |dispatch: &&Dispatch| {
            let count = |label: &&str| {
                let n = dispatch.labels.values().filter_map(|row| row.get(*label)).sum::<usize>();
                Entry::from(n.to_string())
            };
            let mut entries: Vec<_> = labels.iter().map(count).collect();
            entries.push(dispatch.accuracy.map_or(NOTHING.to_owned(), percent).into());
            entries.push(percent(dispatch.confidence).into());
            if has_fallback {
                entries.push(dispatch.n_fallback.to_string().into());
            }
            (self.short(&dispatch.task).to_owned(), entries)
        };
        Table { columns, rows: of.iter().map(row).collect() }
    }

    fn confusion<'a>(&self, title: &'a str, of: &[&Dispatch]) -> Matrix<'a> {
        let labels = self.labels();
        let single = of.iter().filter(|dispatch| self.is_single(&dispatch.task));
        let row = |dispatch: &&Dispatch| {
            let row = dispatch.labels.get(&dispatch.task);
            let cell = |label: &&str| {
                let n = row.and_then(|row| row.get(*label)).copied().unwrap_or(0);
                let share = n as f64 / dispatch.n as f64;
                let is_marked = self.own(&dispatch.task) == Some(label);
                Cell { share: Some(share), text: percent(share), is_marked }
            };
            (dispatch.task.clone(), labels.iter().map(cell).collect())
        };
        Matrix {
            title,
            across: "label; framed: the task's own expert",
            columns: labels.iter().map(|&label| label.to_owned()).collect(),
            rows: single.map(row).collect(),
        }
    }

    fn mixtures_section(&self, blocks: &mut Vec<Block>) {
        blocks.push(Block::Heading("Mixtures found by few-shot adaptation".into()));
        if self.mixtures.is_empty() {
            blocks.push(Block::Text("No mixture was searched; see the notes.".into()));
            return;
        }
        let groups = self.mixtures.iter().any(|found| found.candidates[found.chosen].groups > 1);
        blocks.push(Block::Text(format!(
            "Weights of the experts{}, found on a few training items of each task, and how many of these the mixture \
             and the best single expert answer.",
            if groups { ", means over the groups of layers" } else { "" }
        )));
        let has_weight = |name: &&str| self.mixtures.iter().any(|found| found.weights.contains_key(*name));
        let experts = self.experts.iter().map(|expert| expert.name.as_str());
        let names: Vec<_> = experts.chain([BASE]).filter(has_weight).collect();
        let mut columns = vec!["task".to_owned()];
        columns.extend(names.iter().map(|&name| name.to_owned()));
        columns.extend(["groups", "shots answered", "best single", "its shots"].map(str::to_owned));
        let row = |found: &super::results::Found| {
            let weight = |name: &&str| {
                Entry::from(
                    found.weights.get(*name).map_or(NOTHING.to_owned(), |weight| format!("{weight:.3}")),
                )
            };
            let mut entries: Vec<_> = names.iter().map(weight).collect();
            entries.push(found.candidates[found.chosen].groups.to_string().into());
            entries.push(percent(found.shots_accuracy).into());
            entries.push(found.best_single.clone().into());
            entries.push(percent(found.best_single_accuracy).into());
            (self.short(&found.task).to_owned(), entries)
        };
        blocks.push(Block::Table(Table { columns, rows: self.mixtures.iter().map(row).collect() }));
        let cells = |found: &super::results::Found| {
            let cell = |name: &&str| match found.weights.get(*name) {
                Some(&weight) => Cell {
                    share: Some(weight),
                    text: format!("{weight:.2}"),
                    is_marked: self.own(&found.task) == Some(name),
                },
                None => Cell { text: NOTHING.into(), ..Cell::default() },
            };
            (self.short(&found.task).to_owned(), names.iter().map(cell).collect())
        };
        let matrix = Matrix {
            title: "Weights of the experts in each task's mixture",
            across: "expert; framed: the task's own",
            columns: names.iter().map(|&name| name.to_owned()).collect(),
            rows: self.mixtures.iter().map(cells).collect(),
        };
        blocks.push(Block::Picture("mixtures.svg".into(), matrix.svg()));
    }

    fn passes_section(&self, blocks: &mut Vec<Block>) {
        blocks.push(Block::Heading("What the passes took".into()));
        blocks.push(Block::Text(
            "Pass 1 chooses, pass 2 reads the questions again and answers. Times are of all questions of a task together, \
             measured once; they include everything that the machine did meanwhile. Few-shot adaptation searches once \
             per task, before any question. First the sums over all tasks but the stream, then the strategies that choose \
             for each question by task."
                .into(),
        ));
        let mut sums = Vec::new();
        for (name, ..) in STRATEGIES {
            let of = || self.passes.iter().filter(|it| it.strategy == name && self.is_single(&it.task));
            if of().next().is_some() {
                let search: f64 = of().filter_map(|it| it.once_ms).sum();
                let search = if search > 0.0 { time(search) } else { NOTHING.to_owned() };
                let mut entries = costs(&of().collect::<Vec<_>>());
                entries.insert(0, search.into());
                sums.push((name.to_owned(), entries));
            }
        }
        let columns = |first: &[&str]| -> Vec<String> {
            let costs = [
                "pass 1: tokens",
                "time",
                "pass 2: tokens read",
                "written",
                "time",
                "pass 1 of both",
                "pass 1 ÷ pass 2",
            ];
            first.iter().chain(&costs).map(|&column| column.to_owned()).collect()
        };
        blocks.push(Block::Table(Table { columns: columns(&["strategy", "search"]), rows: sums }));
        let choosing = self.passes.iter().filter(|passes| passes.pass1_tokens > 0);
        let row = |passes: &Passes| {
            (format!("{}, {}", passes.strategy, self.short(&passes.task)), costs(&[passes]))
        };
        let mut rows: Vec<_> = choosing.map(row).collect();
        rows.sort_by_key(|(name, _)| STRATEGIES.iter().position(|(strategy, ..)| name.starts_with(strategy)));
        if !rows.is_empty() {
            blocks.push(Block::Table(Table { columns: columns(&["strategy and task"]), rows }));
        }
    }

    fn making_section(&self, blocks: &mut Vec<Block>) {
        blocks.push(Block::Heading("How it was made".into()));
        if !self.notes.is_empty() {
            blocks.push(Block::List(self.notes.clone()));
        }
        blocks.push(Block::Text(
            "Intervals are Wilson's where answers are right or wrong, and the bootstrap's over questions otherwise; tests are \
             paired (exact McNemar, or random sign flips). p is not corrected for the number of comparisons, and says nothing \
             about what another seed of training would give. Shots are training items, all figures are of test items. \
             Answers are generated in batches, where rounding can turn a choice between equally likely tokens."
                .into(),
        ));
        let expert = |expert: &super::results::ExpertInfo| {
            let trained = expert.trained_on.as_ref().map_or(NOTHING.to_owned(), Clone::clone);
            let role = if expert.is_classifier { "names skills" } else { "answers" };
            (
                expert.name.clone(),
                vec![role.to_owned().into(), trained.into(), expert.description.clone().into()],
            )
        };
        blocks.push(Block::Table(Table {
            columns: ["expert", "role", "trained on", "description"].map(str::to_owned).to_vec(),
            rows: self.experts.iter().map(expert).collect(),
        }));
        let setting = |(name, text): (String, String)| (name, vec![Entry::from(text)]);
        blocks.push(Block::Table(Table {
            columns: vec!["setting".into(), "value".into()],
            rows: page::rows(&self.settings).into_iter().map(setting).collect(),
        }));
    }

    fn own(&self, task: &str) -> Option<&str> {
        self.tasks.iter().find(|info| info.name == task)?.own_expert.as_deref()
    }

    fn is_single(&self, task: &str) -> bool {
        self.tasks.iter().any(|info| info.name == task && info.kind != "stream")
    }

    /// The task's name, but for the stream's, which lists those of all its tasks.
    fn short<'a>(&self, task: &'a str) -> &'a str {
        if self.is_single(task) {
            task
        } else {
            "stream"
        }
    }
}

fn table(entries: &[Measured], names: &[&str], tasks: &[&str], first: &str) -> Table {
    let entry = |name: &str, task: &str| match find(entries, name, task) {
        Some(found) => {
            let (low, high) = found.ci95;
            let mut notes = vec![format!("{:.1} … {:.1}", 100.0 * low, 100.0 * high)];
            if let Some(against) = &found.against_base {
                notes.push(format!("{:+.1}, {}", 100.0 * against.delta, p(against.p_value)));
            }
            Entry { text: percent(found.accuracy), notes, is_best: found.best }
        }
        None => NOTHING.to_owned().into(),
    };
    let row = |&name: &&str| (name.to_owned(), tasks.iter().map(|task| entry(name, task)).collect());
    Table {
        columns: [first].iter().chain(tasks).map(|&column| column.to_owned()).collect(),
        rows: names.iter().map(row).collect(),
    }
}

/// What `passes` took together.
fn costs(passes: &[&Passes]) -> Vec<Entry> {
    let count = |of: fn(&Passes) -> usize| passes.iter().map(|it| of(it)).sum::<usize>();
    let ms = |of: fn(&Passes) -> f64| passes.iter().map(|it| of(it)).sum::<f64>();
    let (tokens, pass1, pass2) = (count(|it| it.pass1_tokens), ms(|it| it.pass1_ms), ms(|it| it.pass2_ms));
    let only = |text: String| if tokens > 0 { text } else { NOTHING.to_owned() };
    let entries = [
        only(tokens.to_string()),
        only(time(pass1)),
        count(|it| it.pass2_tokens_read).to_string(),
        count(|it| it.pass2_tokens_written).to_string(),
        time(pass2),
        only(percent(pass1 / (pass1 + pass2))),
        only(percent(pass1 / pass2)),
    ];
    entries.map(Entry::from).to_vec()
}

fn find<'a>(entries: &'a [Measured], name: &str, task: &str) -> Option<&'a Measured> {
    entries.iter().find(|entry| entry.name == name && entry.task == task)
}

/// Each once, in the order of the first.
/// Whether the choices of `strategy` are right as often as they say.
fn reliability_of(strategy: &str, reliability: &Reliability, blocks: &mut Vec<Block>) {
    blocks.push(Block::Text(format!(
        "Of {} choices whose right answer is known: confidence and the share of right ones are {:.1} % apart (expected \
         calibration error, in steps of a tenth). {}",
        reliability.n,
        100.0 * reliability.error,
        match reliability.threshold > 0.0 {
            true => format!(
                "Those less than {:.1} % sure are more often wrong than right: a threshold of {:.3} leaves them to the base \
                 model.",
                100.0 * reliability.threshold,
                reliability.threshold
            ),
            false => "No threshold would make them better.".to_owned(),
        }
    )));
    let group = |step: &Step| {
        let sure = Bar {
            name: "confidence",
            colour: "#9aa3b2",
            value: step.confidence,
            interval: (step.confidence, step.confidence),
        };
        let right = Bar { name: "right", colour: "#2563a8", value: step.right, interval: step.ci95 };
        let (low, high) = step.range;
        (format!("{:.0}–{:.0} % sure ({})", 100.0 * low, 100.0 * high, step.n), vec![sure, right])
    };
    let title = format!("How sure choices by {strategy} are, and how often they are right");
    let picture = Bars { title: &title, groups: reliability.steps.iter().map(group).collect() };
    blocks.push(Block::Picture(format!("reliability-{strategy}.svg"), picture.svg()));
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut distinct = Vec::new();
    for name in names {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    distinct
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn p(p: f64) -> String {
    match p {
        p if p >= 0.001 => format!("p = {p:.3}"),
        p => format!("p = {p:.0e}"),
    }
}

fn time(ms: f64) -> String {
    match ms {
        ms if ms < 1e3 => format!("{ms:.0} ms"),
        ms if ms < 1e5 => format!("{:.2} s", ms / 1e3),
        ms => format!("{:.0} s", ms / 1e3),
    }
}
