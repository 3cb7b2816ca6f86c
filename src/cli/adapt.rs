//! `llama-svf adapt`: find the mixture of experts for a task from a few of its examples.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{json, Value};

use super::experts::ExpertArgs;
use super::inputs::{check_template, ModelFile, TaskArgs};
use super::runtime_args::BatchArgs;
use super::search_args::{Preset, SearchArgs};
use super::{ctrl_c, printer};
use crate::atomic;
use crate::cem::Settings;
use crate::dispatch::CLASSIFIER;
use crate::error::{exit, Error, Result};
use crate::eval::{Choice, Comparison, Evaluation, Questions, Runner, Summary};
use crate::expert::Mixture;
use crate::few_shot::{first_items, Found, Generation, Search, SearchFile, SearchProblem, Searched};
use crate::resume::Earlier;
use crate::task::{Item, Part, Task};

/// Find the mixture of experts for a task from a few of its examples
///
/// The cross-entropy method searches the weights of the experts, scored by how many of the shots a mixture answers;
/// a whole population is evaluated in one batch. Shots come from the task's training items, the choice between several
/// --groups is made on validation items, and the figures at the end are of test items that neither has seen.
///
/// Each generation is kept in FILE.search until the mixture is written to -o FILE, so that an interrupted search goes on
/// with --resume as it would have.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    llama-svf adapt --task reasoning-unseen --preset light      the embedded model and its experts\n  \
    llama-svf adapt -m model.gguf --svf model.svf.gguf --expert maths.expert.gguf --expert code.expert.gguf \\\n    \
    --task my-task.toml -o my-task.mixture.json\n  \
    llama-svf run -m model.gguf --svf model.svf.gguf --expert maths.expert.gguf --expert code.expert.gguf \\\n    \
    --mix @my-task.mixture.json -p '...'\n\n\
    Presets: reference is the released code's search (32 candidates, 6 elites, 50 generations, 10 shots); light has 10 \
    generations and 3 shots, and takes of mixtures that answer as many shots those to which the gold answers are more \
    likely, also for the elites. The reference goes by a mixture's own correct answers, for the best mixture only.")]
pub struct Args {
    /// The model, a GGUF file [default: the embedded model]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    #[command(flatten)]
    task: TaskArgs,
    /// Where the mixture goes, a JSON file for --mix @FILE
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Go on with the search that was interrupted
    #[arg(long, requires = "output", conflicts_with = "force")]
    resume: bool,
    /// Replace a file of that name, and forget an interrupted search
    #[arg(long, requires = "output")]
    force: bool,

    #[command(flatten)]
    experts: ExpertArgs,
    /// Search over these experts only [default: all but cls, which chooses and does not answer]
    #[arg(long, value_name = "A,B", value_delimiter = ',', help_heading = "Experts")]
    among: Vec<String>,

    #[command(flatten)]
    search: SearchArgs,

    /// Test items to compare the mixture with the base model and the best single expert on; 0 for none
    #[arg(short = 'n', long = "items", value_name = "N", default_value_t = 200)]
    n_items: usize,
    #[command(flatten)]
    batch: BatchArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args) -> Result<u8> {
    let options = args.search.options(Preset::Reference);
    options.check()?;
    args.experts.chosen.refuse_mixture("adapt")?;
    let file = SearchFile::new(args.output.as_deref(), Earlier::of_flags(args.resume, args.force))?;
    let (batch, n_threads) = (args.batch.n_answers()?, args.batch.model.n_threads()?);
    let task = args.task.load()?;
    let shots = options.shots(&task)?;
    let model_file = ModelFile::new(args.model.as_deref())?;
    let adapter = args.experts.adapter(&model_file, n_threads)?;

    let model = args.batch.model.load(model_file.path())?;
    check_template(&task, &model)?;
    let joined = adapter.join(&model)?;
    let set = joined.expert_set()?;
    let names: Vec<&str> = match args.among.is_empty() {
        true => set.names().into_iter().filter(|name| *name != CLASSIFIER).collect(),
        false => args.among.iter().map(String::as_str).collect(),
    };
    for (i, name) in names.iter().enumerate() {
        set.get(name)?;
        if names[..i].contains(name) {
            return Err(Error::invalid(format!("'{name}' is named twice")).field("--among"));
        }
    }
    let runner = Runner::new(&model, Some(&joined), batch, n_threads);
    let problem = SearchProblem { task: &task, shots: &shots, experts: &names, options: &options };
    let identity = problem.identity(&joined, &runner);
    let states = file.load(&identity)?;
    if let Some(state) = states.last() {
        printer::note(format_args!(
            "going on after generation {} of search {}",
            state.generations.len(),
            states.len()
        ));
    }
    let answering = printer::Bar::new("answering");
    let mut searched = problem
        .search(
            &runner,
            states,
            |done, state| file.save(&identity, done, state),
            &printer::Bar::new("searching"),
            &ctrl_c::INTERRUPT,
        )
        .map_err(|error| file.hint(error))?;
    problem.select(&runner, &mut searched, &answering, &ctrl_c::INTERRUPT)?;
    if let Some(output) = &args.output {
        let text = serde_json::to_string_pretty(&searched.mixture().to_json())
            .map_err(|error| Error::engine(format!("cannot write JSON: {error}")))?;
        atomic::write(output, |out| out.write_all((text + "\n").as_bytes()))?;
        file.remove()?;
    }

    let mut test = None;
    if args.n_items > 0 {
        let items = first_items(task.items(Part::Test), args.n_items, "-n")?;
        let choices =
            [searched.mixture().clone(), Mixture::single(searched.single.as_str()), Mixture::base()]
                .map(Choice::Fixed);
        let questions = Questions::new(&model, &task, items)?;
        let measured = runner.measure(&questions, &choices, &answering, &ctrl_c::INTERRUPT)?;
        test = Some(Test::new(&measured.evaluation));
    }
    let report =
        Report { args, task: &task, settings: &options.settings, shots: &shots, searched: &searched, test };
    match args.json {
        true => printer::print_json(&report.json())?,
        false => printer::print(&report.text())?,
    }
    Ok(exit::DONE)
}

/// The mixture, the best single expert and the base model on test items.
struct Test {
    n: usize,
    summaries: Vec<Summary>,
    against_base: Comparison,
    against_single: Comparison,
}

impl Test {
    fn new(evaluation: &Evaluation) -> Self {
        Self {
            n: evaluation.items.len(),
            summaries: (0..3).map(|i| evaluation.summary(i)).collect(),
            against_base: evaluation.compare(0, 2),
            against_single: evaluation.compare(0, 1),
        }
    }
}

/// What is printed.
struct Report<'a> {
    args: &'a Args,
    task: &'a Task,
    settings: &'a Settings,
    shots: &'a [Item],
    searched: &'a Searched,
    test: Option<Test>,
}

impl Report<'_> {
    fn json(&self) -> Value {
        let generation = |generation: &Generation| {
            let Generation { best, mean, incumbent, std } = generation;
            json!({ "best": best, "mean": mean, "incumbent": incumbent.value, "tie": incumbent.tie, "std": std })
        };
        let Searched { single, single_score, searches, best } = self.searched;
        let search = |search: &Search| {
            json!({
                "groups": search.n_groups,
                "alphas": search.found.incumbent.alphas,
                "mixture": search.found.mixture.to_json(),
                "shots_accuracy": search.found.incumbent.score.value,
                "tie": search.found.incumbent.score.tie,
                "found_in_generation": search.found.incumbent.generation,
                "selection_accuracy": search.selection,
                "generations": search.found.generations.iter().map(generation).collect::<Vec<_>>(),
            })
        };
        let compared = |comparison: &Comparison| {
            json!({
                "delta": comparison.delta,
                "delta_ci95": [comparison.delta_ci95.0, comparison.delta_ci95.1],
                "p_value": comparison.p_value,
                "test": comparison.test,
            })
        };
        let measured = |summary: &Summary| json!({ "accuracy": summary.accuracy, "ci95": [summary.ci95.0, summary.ci95.1] });
        let mut value = json!({
            "schema": "llama-svf/adapt/1",
            "task": self.task.name(),
            "seed": self.settings.seed,
            "settings": self.settings,
            "with_base": self.args.search.with_base,
            "shots": self.shots.iter().map(|item| item.id.as_str()).collect::<Vec<_>>(),
            "searches": searches.iter().map(search).collect::<Vec<_>>(),
            "chosen": best,
            "mixture": self.searched.mixture().to_json(),
            "output": self.args.output,
            "best_single": { "expert": single, "shots_accuracy": single_score.value },
            "test": null,
        });
        if let Some(test) = &self.test {
            value["test"] = json!({
                "n": test.n,
                "mixture": measured(&test.summaries[0]),
                "best_single": measured(&test.summaries[1]),
                "base": measured(&test.summaries[2]),
                "against_base": compared(&test.against_base),
                "against_best_single": compared(&test.against_single),
            });
        }
        value
    }

    fn text(&self) -> String {
        let mut text =
            format!("{}, {} shots, seed {}\n", self.task.name(), self.shots.len(), self.settings.seed);
        let Searched { single, single_score, searches, best } = self.searched;
        // Writing to a string cannot fail.
        for (i, Search { n_groups, found, selection }) in searches.iter().enumerate() {
            let Found { mixture, incumbent, .. } = found;
            let _ = write!(
                text,
                "{} groups of layers: {mixture}, {:.1} % of the shots",
                n_groups,
                100.0 * incumbent.score.value
            );
            if let Some(accuracy) = selection {
                let _ = write!(text, ", {:.1} % of validation items", 100.0 * accuracy);
            }
            text += if searches.len() > 1 && i == *best { " (taken)\n" } else { "\n" };
        }
        let _ =
            writeln!(text, "best single expert on the shots: {single}, {:.1} %", 100.0 * single_score.value);
        if let Some(test) = &self.test {
            let _ = writeln!(text, "\n{} test items     accuracy      95 % interval", test.n);
            for (name, summary) in ["mixture", "best single expert", "base"].iter().zip(&test.summaries) {
                let (low, high) = summary.ci95;
                let interval = format!("{:.1} … {:.1} %", 100.0 * low, 100.0 * high);
                let _ = writeln!(text, "{name:<18}  {:>6.1} %  {interval:>17}", 100.0 * summary.accuracy);
            }
            for (name, Comparison { delta, delta_ci95: (low, high), p_value, test, .. }) in
                [("base", &test.against_base), ("the best single expert", &test.against_single)]
            {
                let _ = writeln!(
                    text,
                    "against {name}: {:+.1} points ({:+.1} … {:+.1}), p = {p_value:.2e} ({test})",
                    100.0 * delta,
                    100.0 * low,
                    100.0 * high
                );
            }
        }
        if let Some(output) = &self.args.output {
            let _ = writeln!(text, "\nuse it with --mix @{}", output.display());
        }
        text
    }
}
