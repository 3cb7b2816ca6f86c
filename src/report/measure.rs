//! Measures what a plan asks for, cell by cell, and nothing twice.

use std::time::Instant;

use super::cells::{Answers, Candidate, Cell, Pass1, Search, Searching};
use super::plan::{Kind, Plan, Target};
use super::Folder;
use crate::dispatch::Dispatcher;
use crate::error::{Error, Result};
use crate::eval::{Choice, Dispatched, Questions, Runner};
use crate::expert::Mixture;
use crate::few_shot::{self, SearchProblem, State};
use crate::progress::{Interrupt, Progress};

/// A cell to be.
enum Step<'a> {
    /// A mixture, or who chooses one, that answers.
    Answers(Choice, Option<&'a Dispatcher>),
    /// A search.
    Search,
    /// What the search found, and the best single expert on its shots.
    Found,
}

impl Plan<'_> {
    /// Measures all cells that `folder` does not have yet, and adds each when it is finished; a search goes on from its last
    /// generation. Progress counts answers, or the generations of a search.
    ///
    /// # Errors
    /// Those of [`Runner::measure`] and [`SearchProblem::search`], or an interrupt.
    pub fn measure(&self, folder: &mut Folder, progress: &dyn Progress, interrupt: &Interrupt) -> Result<()> {
        let steps: Vec<_> = self
            .targets
            .targets
            .iter()
            .flat_map(|target| self.steps(target).into_iter().map(move |step| (target, step)))
            .collect();
        for (i, (target, step)) in steps.iter().enumerate() {
            interrupt.check()?;
            let words = format!("{} of {}: {}", i + 1, steps.len(), target.name());
            let work = Work { progress, interrupt, words };
            match step {
                Step::Answers(choice, dispatcher) => {
                    self.answer(folder, target, choice, *dispatcher, &work)?;
                }
                Step::Search => {
                    if folder.search(target.name()).is_none() {
                        self.find(folder, target, &work)?;
                    }
                }
                Step::Found => {
                    let search = folder
                        .search(target.name())
                        .ok_or_else(|| Error::invalid("no search was kept").file(folder.path()))?;
                    for mixture in [search.mixture()?, Mixture::single(search.single.as_str())] {
                        self.answer(folder, target, &Choice::Fixed(mixture), None, &work)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn steps(&self, target: &Target) -> Vec<Step<'_>> {
        let fixed = |mixture| Step::Answers(Choice::Fixed(mixture), None);
        let mut steps: Vec<_> = match target.kind {
            Kind::Stream => vec![fixed(Mixture::base())],
            Kind::Seen | Kind::Unseen => self.singles().into_iter().map(fixed).collect(),
        };
        steps.extend(self.choosing(target).map(|it| Step::Answers(Choice::Adapted, Some(it))));
        if self.is_searched(target) {
            steps.extend([Step::Search, Step::Found]);
        }
        if target.kind == Kind::Stream && self.has_oracle(target) {
            steps.push(Step::Answers(Choice::Oracle, None));
        }
        steps
    }

    fn answer(
        &self,
        folder: &mut Folder,
        target: &Target,
        choice: &Choice,
        dispatcher: Option<&Dispatcher>,
        work: &Work,
    ) -> Result<()> {
        let configuration = choice.name(dispatcher);
        if folder.answers(target.name(), &configuration).is_some() {
            return Ok(());
        }
        let named = work.named(&configuration);
        let questions = Questions::new(self.runner.model, &target.task, &target.items)?;
        let runner = Runner { dispatcher, ..self.runner };
        let choices = std::slice::from_ref(choice);
        let measured = runner.measure(&questions, choices, &named, work.interrupt)?;
        let evaluation = &measured.evaluation;
        folder.add(Cell::Answers(Answers {
            target: target.name().to_owned(),
            configuration,
            scores: evaluation.scores(0),
            n_cut: evaluation.summary(0).n_cut,
            pass1: measured.dispatched.as_ref().map(pass1),
            tokens_read: questions.prompts().iter().map(Vec::len).sum(),
            tokens_written: evaluation.n_tokens,
            ms: 1e3 * evaluation.writing_seconds,
        }))
    }

    fn find(&self, folder: &mut Folder, target: &Target, work: &Work) -> Result<()> {
        let began = Instant::now();
        let earlier = folder.searching(target.name()).cloned().unwrap_or_default();
        let ms = || earlier.ms + 1e3 * began.elapsed().as_secs_f64();
        let (task, options) = (&target.task, self.search);
        let shots = options.shots(task)?;
        let problem = SearchProblem { task, shots: &shots, experts: &self.answering(), options };
        let named = work.named("few-shot search");
        let save = |done: &[State], state: &State| {
            let states = done.iter().chain([state]).cloned().collect();
            folder.add(Cell::Searching(Searching { target: target.name().to_owned(), states, ms: ms() }))
        };
        let states = earlier.states.clone();
        let mut searched = problem.search(&self.runner, states, save, &named, work.interrupt)?;
        problem.select(&self.runner, &mut searched, &named, work.interrupt)?;
        let candidate = |search: &few_shot::Search| Candidate {
            groups: search.n_groups,
            mixture: search.found.mixture.to_json(),
            shots_accuracy: search.found.incumbent.score.value,
            selection_accuracy: search.selection,
        };
        folder.add(Cell::Search(Search {
            target: target.name().to_owned(),
            shots: shots.iter().map(|item| item.id.clone()).collect(),
            candidates: searched.searches.iter().map(candidate).collect(),
            single: searched.single,
            single_accuracy: searched.single_score.value,
            chosen: searched.best,
            ms: ms(),
        }))
    }
}

impl Search {
    /// The candidate that was taken.
    ///
    /// # Errors
    /// There is none, because the file was damaged.
    pub fn taken(&self) -> Result<&Candidate> {
        let n = self.candidates.len();
        self.candidates.get(self.chosen).ok_or_else(|| {
            Error::expected(format!("a search below {n}"), self.chosen)
                .field(format!("search for {}", self.target))
        })
    }

    /// The mixture that was taken.
    ///
    /// # Errors
    /// It is none, because the file was damaged.
    pub fn mixture(&self) -> Result<Mixture> {
        Mixture::from_json(&self.taken()?.mixture.to_string())
            .map_err(|error| error.field(format!("search for {}", self.target)))
    }
}

fn pass1(dispatched: &Dispatched) -> Pass1 {
    let owned = |(label, n): (&str, usize)| (label.to_owned(), n);
    let labels = dispatched.labels();
    let labels =
        labels.into_iter().map(|(task, row)| (task.to_owned(), row.into_iter().map(owned).collect()));
    let cost = dispatched.cost();
    let choice =
        |(task, label, confidence): (&str, &str, f64)| (task.to_owned(), label.to_owned(), confidence);
    Pass1 {
        labels: labels.collect(),
        choices: dispatched.choices().map(choice).collect(),
        confidence: dispatched.confidence(),
        n_fallback: dispatched.n_fallback(),
        tokens: cost.n_tokens,
        ms: cost.ms,
    }
}

/// Who is told about a cell, and who may stop it.
struct Work<'a> {
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
    /// Which cell it is.
    words: String,
}

impl Work<'_> {
    fn named(&self, what: &str) -> Named<'_> {
        Named { inner: self.progress, words: format!("{}, {what}", self.words) }
    }
}

/// Progress that says which cell is at work.
struct Named<'a> {
    inner: &'a dyn Progress,
    words: String,
}

impl Progress for Named<'_> {
    fn start(&self, total: u64, done: u64) {
        self.inner.start(total, done);
        self.inner.status(&self.words);
    }

    fn advance(&self, units: u64) {
        self.inner.advance(units);
    }

    fn status(&self, words: &str) {
        self.inner.status(&format!("{}, {words}", self.words));
    }

    fn note(&self, line: &str) {
        self.inner.note(line);
    }

    fn finish(&self) {
        self.inner.finish();
    }
}
