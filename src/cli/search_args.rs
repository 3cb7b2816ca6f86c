//! The flags of the search for a mixture of experts, shared by the commands that adapt to a task.

use clap::ValueEnum;

use crate::cem::Settings;
use crate::few_shot::SearchOptions;

#[derive(clap::Args)]
#[command(next_help_heading = "Search")]
pub struct SearchArgs {
    /// Settings of the search; the flags below overrule it [default: reference, and light for a report]
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Examples that score a mixture
    #[arg(long, value_name = "N")]
    shots: Option<usize>,
    /// Generations
    #[arg(long, value_name = "N")]
    generations: Option<usize>,
    /// Candidates of a generation
    #[arg(long, value_name = "N")]
    population: Option<usize>,
    /// Candidates that the next generation is drawn around
    #[arg(long, value_name = "N")]
    elites: Option<usize>,
    /// Groups of layers with weights of their own; of several numbers the best on validation items is taken
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1")]
    groups: Vec<usize>,
    /// Validation items to choose between several --groups by
    #[arg(long, value_name = "N", default_value_t = 100)]
    select: usize,
    /// Let the base model have a weight too; otherwise those of the experts sum to 1
    #[arg(long)]
    pub with_base: bool,
    /// Seed of the search, and of which items are shots
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Preset {
    /// 10 shots, 50 generations
    Reference,
    /// 3 shots, 10 generations
    Light,
}

impl SearchArgs {
    /// What the flags ask for, where none names a preset by `preset`.
    pub fn options(&self, preset: Preset) -> SearchOptions {
        let (preset, n_shots) = match self.preset.unwrap_or(preset) {
            Preset::Reference => (Settings::reference(), 10),
            Preset::Light => (Settings::light(), 3),
        };
        SearchOptions {
            settings: Settings {
                population: self.population.unwrap_or(preset.population),
                elites: self.elites.unwrap_or(preset.elites),
                generations: self.generations.unwrap_or(preset.generations),
                seed: self.seed,
                ..preset
            },
            n_shots: self.shots.unwrap_or(n_shots),
            groups: self.groups.clone(),
            with_base: self.with_base,
            n_select: self.select,
        }
    }
}
