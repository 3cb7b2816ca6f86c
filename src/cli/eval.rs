//! `llama-svf eval`: how well a model answers a task's questions, with experts or without.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{json, Value};

use super::adapt_args::AdaptArgs;
use super::experts::ExpertArgs;
use super::inputs::{check_template, ModelFile, PartFlag, TaskArgs};
use super::lora_args::LoraArgs;
use super::runtime_args::BatchArgs;
use super::{ctrl_c, dispatched, printer};
use crate::dispatch::Dispatcher;
use crate::engine::{ModelWithExperts, SamplerOptions};
use crate::error::{exit, Error, Result};
use crate::eval::scores::MANY_CUT;
use crate::eval::{
    check_oracle, Choice, Comparison, EvalOptions, Measured, Questions, Runner, Summary, Trace,
};
use crate::expert::{ExpertSet, Mixture};
use crate::sidecar::Fingerprint;
use crate::task::Task;

/// Measure how well a model answers a task's questions
///
/// With --against, two configurations answer the same questions in the same batches, and a paired test says
/// what their difference is worth.
///
/// With --lora the base model answers with a LoRA adapter, which --against compares with the base model or an expert.
///
/// With --adapt the model chooses an expert for each question, as `llama-svf run --help` describes, and the figures say
/// what was chosen and what choosing took.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    llama-svf eval --task math                          the embedded model on one of its skills\n  \
    llama-svf eval -m model.gguf --task gsm8k --data gsm8k/test.jsonl.gz -n 200\n  \
    llama-svf eval -m model.gguf --svf model.svf.gguf --expert maths.expert.gguf --use maths --task my-task.toml \\\n    \
    --against base --trace answers.jsonl\n  \
    llama-svf eval --task code --samples 8 --json       eight answers to each question\n  \
    llama-svf eval -m model.gguf --svf model.svf.gguf --expert maths.expert.gguf --expert code.expert.gguf \\\n    \
    --task maths.toml,code.toml --adapt prompt --against base\n  \
    llama-svf eval -m model.gguf --lora maths.lora.gguf --task gsm8k --against base     an adapter of llama.cpp's format\n  \
    llama-svf eval -m model.gguf --lora maths.lora.gguf --svf model.svf.gguf --expert maths.expert.gguf --task gsm8k \\\n    \
    --against maths                                   and beside an expert\n\n\
    A trace begins with a line of settings; every other line is one answer, written as it comes.")]
pub struct Args {
    /// The model, a GGUF file [default: the embedded model]
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    #[command(flatten)]
    task: TaskArgs,
    /// Which part of the task's items
    #[arg(long, value_enum, default_value_t = PartFlag::Test)]
    part: PartFlag,
    /// Ask the first N items only
    #[arg(short = 'n', long = "items", value_name = "N")]
    n_items: Option<usize>,

    #[command(flatten)]
    experts: ExpertArgs,
    /// Compare with this on the same items: base, an expert's name, a mixture as for --mix, or oracle, the expert with
    /// the name of each item's task
    #[arg(long, value_name = "base|NAME|MIXTURE|oracle", help_heading = "Experts")]
    against: Option<String>,
    #[command(flatten)]
    adapt: AdaptArgs,
    #[command(flatten)]
    lora: LoraArgs,

    /// Answers per item
    #[arg(long, value_name = "K", default_value_t = 1, help_heading = "Sampling")]
    samples: usize,
    /// Temperature; 0 always takes the most likely token [default: 0, and 1 with several samples]
    #[arg(long, value_name = "T", allow_negative_numbers = true, help_heading = "Sampling")]
    temp: Option<f32>,
    /// Seed of sampling and of resampling
    #[arg(short, long, value_name = "N", default_value_t = 0, help_heading = "Sampling")]
    seed: u32,

    #[command(flatten)]
    batch: BatchArgs,
    /// Write every answer with its score to this file, as JSON lines
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Continue the trace of an interrupted run
    #[arg(long, requires = "trace")]
    resume: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Changed items that the table shows in each direction.
const N_SHOWN: usize = 5;

pub fn main(args: &Args) -> Result<u8> {
    // What can be wrong with flags and files is found before a model of many gigabytes is loaded.
    let (batch, n_threads) = (args.batch.n_answers()?, args.batch.model.n_threads()?);
    let options = args.options()?;
    args.lora.check()?;
    let choices = args.choices()?;
    let adapt_prompt = args.adapt.prompt()?;
    let task = args.task.load()?;
    let all = task.items(args.part.part());
    let items = &all[..args.n_items.unwrap_or(all.len()).min(all.len())];
    if items.is_empty() {
        return Err(Error::expected("1 item or more", 0).field("-n"));
    }
    let file = ModelFile::new(args.model.as_deref())?;
    // A LoRA adapter beside the base model needs no sidecar.
    let needs_experts = |choice: &Choice| !choice.is_base() && !matches!(choice, Choice::Lora(_));
    let are_wanted = match args.lora.path() {
        Some(_) => choices.iter().any(needs_experts),
        None => args.adapt.is_on() || args.against.is_some(),
    };
    let adapter = args.experts.open(&file, are_wanted, n_threads)?;

    let model = args.batch.model.load(file.path())?;
    let lora = args.lora.load(&model)?;
    check_template(&task, &model)?;
    let questions = Questions::new(&model, &task, items)?;
    let joined = adapter.map(|adapter| adapter.join(&model)).transpose()?;
    let experts = joined.as_ref().map(ModelWithExperts::expert_set).transpose()?;
    let dispatcher = match &experts {
        Some(experts) => args.adapt.dispatcher(&model, experts, adapt_prompt)?,
        None => None,
    };
    if choices.contains(&Choice::Oracle) {
        let names = experts.as_ref().map(ExpertSet::names).unwrap_or_default();
        check_oracle(&task, items, &names)?;
    }
    let runner = Runner {
        model: &model,
        joined: joined.as_ref(),
        dispatcher: dispatcher.as_ref(),
        strength: args.experts.chosen.strength(),
        lora: lora.as_ref(),
        batch,
        n_threads,
    };
    let routed = runner.route(&questions, &choices, &ctrl_c::INTERRUPT)?;
    let mut trace = match &args.trace {
        None => None,
        Some(path) => {
            let settings = args.settings(&runner, &task, &choices, &options)?;
            Some(if args.resume { Trace::resume(path, &settings)? } else { Trace::create(path, &settings)? })
        }
    };
    let bar = printer::Bar::new("answering");
    let measured = routed.evaluate(&questions, &options, trace.as_mut(), &bar, &ctrl_c::INTERRUPT)?;

    let report = Report { args, task: &task, measured: &measured, options: &options };
    if args.json {
        printer::print_json(&report.json())?;
    } else {
        printer::print(&report.table())?;
    }
    let evaluation = &measured.evaluation;
    if evaluation.is_partial() {
        printer::note(format_args!(
            "interrupted: this is a partial result, of {} of {} items{}",
            evaluation.items.len(),
            evaluation.n_asked,
            if args.trace.is_some() { " (hint: --resume goes on from here)" } else { "" }
        ));
        return Ok(exit::INTERRUPTED);
    }
    Ok(exit::DONE)
}

impl Args {
    fn options(&self) -> Result<EvalOptions> {
        let temperature = self.temp.unwrap_or(if self.samples > 1 { 1.0 } else { 0.0 });
        if self.samples > 1 && temperature == 0.0 {
            return Err(Error::invalid("at temperature 0 all samples are equal")
                .field("--temp")
                .hint("use --temp 1"));
        }
        // Nothing is left out: samples come from the model's own distribution.
        let sampler = SamplerOptions::plain(temperature, self.seed);
        sampler.check()?;
        Ok(EvalOptions { samples: self.samples, sampler })
    }

    /// What is measured, and what it is compared with.
    fn choices(&self) -> Result<Vec<Choice>> {
        let mut choices = vec![match self.lora.name() {
            Some(name) => {
                if self.adapt.is_on() || self.experts.chosen.is_chosen() {
                    return Err(Error::invalid("a LoRA adapter answers without experts")
                        .field("--lora")
                        .hint("compare it with one: --expert FILE --against NAME"));
                }
                Choice::Lora(name)
            }
            None => {
                let mixture = self.experts.chosen.mixture(self.adapt.is_on())?;
                if self.adapt.is_on() {
                    Choice::Adapted
                } else {
                    Choice::Fixed(mixture)
                }
            }
        }];
        if let Some(against) = &self.against {
            let baseline = match against.as_str() {
                "base" => Choice::Fixed(Mixture::base()),
                "oracle" => Choice::Oracle,
                text if text.contains('=') || text.starts_with('@') => {
                    Choice::Fixed(Mixture::parse(text).map_err(|error| error.field("--against"))?)
                }
                name => Choice::Fixed(Mixture::single(name)),
            };
            if baseline == choices[0] || (baseline.is_base() && choices[0].is_base()) {
                return Err(Error::invalid("both configurations are the same")
                    .field("--against")
                    .hint("choose what to compare with --use NAME, --mix A=0.7,B=0.3 or --adapt"));
            }
            choices.push(baseline);
        }
        Ok(choices)
    }

    /// What a trace begins with; all that can change an answer or its score.
    fn settings(
        &self,
        runner: &Runner,
        task: &Task,
        choices: &[Choice],
        options: &EvalOptions,
    ) -> Result<Value> {
        let Runner { model, joined, dispatcher, strength, .. } = *runner;
        let mut settings = json!({
            "adapt": dispatcher.map(Dispatcher::identity).transpose()?,
            "adapted": joined.map(ModelWithExperts::identity),
            "chat_template": model.given_template_digest(),
            "configurations": choices.iter().map(|choice| choice.name(dispatcher)).collect::<Vec<_>>(),
            "model": Fingerprint::of_model(model.file())?.as_str(),
            "part": self.part.part().name(),
            "samples": options.samples,
            "seed": options.sampler.seed,
            "strength": strength,
            "task": task.name(),
            "task_generation": task.generation(),
            "task_rules": task.rules_digest(),
            "temperature": options.sampler.temperature,
        });
        // Traces from before there was such a flag go on.
        if let Some(path) = self.lora.path() {
            let bytes = std::fs::read(path).map_err(|source| Error::io("cannot read", path, source))?;
            settings["lora"] = json!([blake3::hash(&bytes).to_hex().as_str(), self.lora.scale()?]);
        }
        Ok(settings)
    }
}

/// What is printed.
struct Report<'a> {
    args: &'a Args,
    task: &'a Task,
    measured: &'a Measured<'a>,
    options: &'a EvalOptions,
}

impl Report<'_> {
    fn summaries(&self) -> Vec<Summary> {
        let Measured { evaluation, configurations, .. } = self.measured;
        (0..configurations.len()).map(|i| evaluation.summary(i)).collect()
    }

    fn comparison(&self) -> Option<Comparison> {
        (self.measured.configurations.len() == 2).then(|| self.measured.evaluation.compare(0, 1))
    }

    fn json(&self) -> Value {
        let Self { args, task, measured, options } = self;
        let Measured { evaluation, configurations, dispatched } = measured;
        let summaries = self.summaries();
        let ids =
            |items: &[usize]| items.iter().map(|&i| evaluation.items[i].item.id.clone()).collect::<Vec<_>>();
        let mut value = json!({
            "schema": "llama-svf/eval/1",
            "model": args.model.as_ref().map_or("embedded".into(), |model| model.display().to_string()),
            "task": task.name(),
            "part": args.part.part().name(),
            "n": evaluation.items.len(),
            "partial": evaluation.is_partial(),
            "samples": options.samples,
            "temperature": options.sampler.temperature,
            "seed": options.sampler.seed,
            "configuration": configurations[0].name,
            "accuracy": summaries[0].accuracy,
            "ci95": [summaries[0].ci95.0, summaries[0].ci95.1],
            "pass_at_k": summaries[0].pass_at_k,
            "n_cut": summaries[0].n_cut,
            "seconds": evaluation.seconds,
            "writing_seconds": evaluation.writing_seconds,
            "scoring_seconds": evaluation.scoring_seconds,
            "tokens_per_second": evaluation.n_tokens as f64 / evaluation.seconds,
            "answers_per_second": evaluation.n_answers as f64 / evaluation.seconds,
        });
        if let Some(dispatched) = dispatched {
            value["dispatch"] = dispatched::json(dispatched, measured.pass2_seconds());
        }
        if let Some(comparison) = self.comparison() {
            for (key, part) in [
                ("baseline", json!(configurations[1].name)),
                ("baseline_accuracy", json!(summaries[1].accuracy)),
                ("baseline_ci95", json!([summaries[1].ci95.0, summaries[1].ci95.1])),
                ("baseline_pass_at_k", json!(summaries[1].pass_at_k)),
                ("delta", json!(comparison.delta)),
                ("delta_ci95", json!([comparison.delta_ci95.0, comparison.delta_ci95.1])),
                ("p_value", json!(comparison.p_value)),
                ("test", json!(comparison.test)),
                ("gained", json!(ids(&comparison.gained))),
                ("lost", json!(ids(&comparison.lost))),
            ] {
                value[key] = part;
            }
        }
        value
    }

    fn table(&self) -> String {
        let Self { args, task, measured, options } = self;
        let Measured { evaluation, configurations, dispatched } = measured;
        let how = match options.samples {
            1 if options.sampler.temperature == 0.0 => "greedy".to_owned(),
            1 => format!("temperature {}, seed {}", options.sampler.temperature, args.seed),
            k => format!("{k} samples, temperature {}, seed {}", options.sampler.temperature, args.seed),
        };
        let mut text = format!(
            "{}: {} items ({}), {how}\n\n",
            task.name(),
            evaluation.items.len(),
            args.part.part().name()
        );
        let width =
            configurations.iter().map(|configuration| configuration.name.len()).max().unwrap_or(0).max(8);
        let at_k = format!("pass@{}", options.samples);
        let at_k_title = if options.samples > 1 { format!("  {at_k:>8}") } else { String::new() };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:width$}  {:>8}  {:>17}{at_k_title}", "", "accuracy", "95 % interval");
        let mut is_often_cut = false;
        for (configuration, summary) in configurations.iter().zip(self.summaries()) {
            let Summary { accuracy, ci95: (low, high), pass_at_k, n_cut } = summary;
            let interval = format!("{:.1} … {:.1} %", 100.0 * low, 100.0 * high);
            let pass =
                if options.samples > 1 { format!("  {:>6.1} %", 100.0 * pass_at_k) } else { String::new() };
            let cut = match n_cut {
                0 => String::new(),
                _ => format!("  ({n_cut} cut off at {} tokens)", task.generation().max_tokens),
            };
            is_often_cut |=
                n_cut as f64 >= MANY_CUT * (evaluation.items.len() * options.samples) as f64 && n_cut > 0;
            let _ = writeln!(
                text,
                "{:width$}  {:>6.1} %  {interval:>17}{pass}{cut}",
                configuration.name,
                100.0 * accuracy
            );
        }
        if is_often_cut {
            text += "Many answers were cut off: raise the limit with --max-tokens.\n";
        }
        if let Some(comparison) = self.comparison() {
            self.compare(&mut text, &comparison);
        }
        if let Some(dispatched) = dispatched {
            text += &dispatched::table(dispatched, measured.pass2_seconds());
        }
        let _ = writeln!(
            text,
            "\n{} answers in {:.1} s: {:.1} answers/s, {:.0} tokens/s",
            evaluation.n_answers,
            evaluation.seconds,
            evaluation.n_answers as f64 / evaluation.seconds,
            evaluation.n_tokens as f64 / evaluation.seconds
        );
        text
    }

    fn compare(&self, text: &mut String, comparison: &Comparison) {
        let Comparison { delta, delta_ci95: (low, high), p_value, test, gained, lost } = comparison;
        let _ = writeln!(
            text,
            "\ndifference {:+.1} points ({:+.1} … {:+.1}), p = {p_value:.2e} ({test}{}); {} items better, {} worse",
            100.0 * delta,
            100.0 * low,
            100.0 * high,
            if *test == "sign flips" { format!(", seed {}", self.args.seed) } else { String::new() },
            gained.len(),
            lost.len()
        );
        for (title, items) in [("better", gained), ("worse", lost)] {
            for &i in items.iter().take(N_SHOWN) {
                let item = &self.measured.evaluation.items[i];
                let reason = |configuration: usize| one_line(&item.answers[configuration][0].reason, 60);
                let _ = writeln!(text, "  {title}  {}: {} (before: {})", item.item.id, reason(0), reason(1));
            }
            if items.len() > N_SHOWN {
                let hint =
                    if self.args.trace.is_some() { "the trace has all" } else { "--trace FILE keeps all" };
                let _ = writeln!(text, "  {title}  … and {} more ({hint})", items.len() - N_SHOWN);
            }
        }
    }
}

/// `text` without line breaks and control characters, at most `n` characters long.
pub fn one_line(text: &str, n: usize) -> String {
    let mut line: String =
        text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(n + 1).collect();
    if line.chars().count() > n {
        line.pop();
        line.push('…');
    }
    line
}
