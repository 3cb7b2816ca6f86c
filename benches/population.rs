//! A population of mixtures scored in one batch, as few-shot adaptation does it, against two ways without slots for
//! many mixtures: `cargo bench --bench population`, or with names of skills after `--` for some of them.
//!
//! 32 candidates of the reference preset on 10 shots of each skill of the embedded model, two threads, mixtures of
//! three hand-made experts near m = 1. *One answer at a time*, in a session with one sequence, is what a program without
//! batches does. *One candidate at a time*, whose ten shots share a batch, is what a program with batches but one
//! mixture for all of them does, as the released code: this is the fair comparison. The table shows medians of seconds,
//! and each of the two over the population's.

use std::sync::Arc;
use std::time::Instant;

use llama_svf::cem::{Cem, Settings, Ties};
use llama_svf::decompose::{decompose, DecomposeOptions};
use llama_svf::embedded;
use llama_svf::engine::{AdaptedModel, Model, ModelWithExperts, Scheduler};
use llama_svf::error::Result;
use llama_svf::eval::Questions;
use llama_svf::expert::{Expert, Mixture};
use llama_svf::few_shot::FewShot;
use llama_svf::progress::{Interrupt, Silent};
use llama_svf::sidecar::Sidecar;
use llama_svf::task::{LoadOptions, Part, Task};

const ROUNDS: usize = 3;
const THREADS: u32 = 2;
const EXPERTS: [(&str, usize, f32); 3] = [("a", 4, 1.05), ("b", 16, 0.95), ("c", 64, 1.02)];

fn main() -> Result<()> {
    let file = embedded::Temporary::new()?;
    let options = DecomposeOptions::embedded(&file, THREADS as usize);
    decompose(&options, &Silent, &Interrupt::new())?;
    let model = Model::load(file.path(), 0)?;
    let adapted = AdaptedModel::new(&model, Sidecar::open(&options.output)?)?;
    println!(
        "{:>10}  {:>20}  {:>23}  {:>10}  {:>8}  {:>11}",
        "", "one answer at a time", "one candidate at a time", "population", "/ answer", "/ candidate"
    );
    let wanted: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    for name in ["math", "code", "reasoning"] {
        if !wanted.is_empty() && !wanted.iter().any(|skill| skill == name) {
            continue;
        }
        let task = Task::load(name, &LoadOptions::default())?;
        let questions = Questions::new(&model, &task, &task.items(Part::Train)[..10])?;
        let few_shot = FewShot::new(&questions, &EXPERTS.map(|(name, ..)| name), false)?;
        let population = Cem::new(3, 1, Settings::reference())?.ask();
        let mixtures =
            population.iter().map(|alphas| few_shot.mixture(alphas)).collect::<Result<Vec<_>>>()?;
        let ways =
            [(scheduler(&adapted, 1)?, 1), (scheduler(&adapted, 32)?, 1), (scheduler(&adapted, 32)?, 32)];
        let mut seconds = [Vec::new(), Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for ((scheduler, together), seconds) in ways.iter().zip(&mut seconds) {
                let began = Instant::now();
                for mixtures in mixtures.chunks(*together) {
                    score(&few_shot, scheduler, mixtures)?;
                }
                // The first round warms up.
                if round > 0 {
                    seconds.push(began.elapsed().as_secs_f64());
                }
            }
        }
        let [answer, candidate, population] = seconds.map(|mut seconds| {
            seconds.sort_by(f64::total_cmp);
            seconds[seconds.len() / 2]
        });
        println!(
            "{name:>10}  {answer:>18.2} s  {candidate:>21.2} s  {population:>8.2} s  {:>8.2}  {:>11.2}",
            answer / population,
            candidate / population
        );
    }
    Ok(())
}

fn score(few_shot: &FewShot, scheduler: &Scheduler, mixtures: &[Mixture]) -> Result<()> {
    few_shot.score(scheduler, mixtures, Ties::Own, &Interrupt::new()).map(drop)
}

fn scheduler(adapted: &Arc<AdaptedModel>, n_seq: u32) -> Result<Scheduler> {
    let expert = |(name, first, by): (&str, usize, f32)| {
        let mut expert = Expert::identity(name, adapted.sidecar());
        expert.multipliers.values_mut().for_each(|m| m.iter_mut().take(first).for_each(|m| *m = by));
        expert
    };
    ModelWithExperts::residual(Arc::clone(adapted), EXPERTS.map(expert).into()).scheduler(n_seq, 256, THREADS)
}
