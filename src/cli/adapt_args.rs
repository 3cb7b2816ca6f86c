//! The flags that let a model choose its own experts, shared by the commands that answer questions.

use std::path::PathBuf;

use clap::ValueEnum;

use super::printer;
use crate::dispatch::{AdaptPrompt, Candidates, Dispatcher, Options, Reading, Strategy, CLASSIFIER};
use crate::engine::Model;
use crate::error::Result;
use crate::expert::ExpertSet;

#[derive(clap::Args)]
#[command(next_help_heading = "Adaptation")]
pub struct AdaptArgs {
    /// Let the model choose the expert for each question: in its own words, with an expert trained to choose, or the one
    /// whose questions are nearest
    #[arg(long, value_enum, conflicts_with_all = ["use_expert", "mix"])]
    adapt: Option<StrategyFlag>,
    /// The expert that chooses; it is never chosen itself
    #[arg(long, value_name = "NAME", default_value = CLASSIFIER, requires = "adapt")]
    classifier: String,
    /// Ask for the choice with this Jinja template instead of our own
    #[arg(long, value_name = "FILE", requires = "adapt")]
    adapt_prompt: Option<PathBuf>,
    /// How the choice is read: from the labels' probabilities, or from what the model writes
    #[arg(long, value_enum, default_value_t = ReadingFlag::Labels, requires = "adapt")]
    adapt_read: ReadingFlag,
    /// Give choices that are less sure than this, from 0 to 1, to the base model
    #[arg(long, value_name = "P", default_value_t = 0.0, requires = "adapt")]
    #[arg(allow_negative_numbers = true)]
    threshold: f64,
    /// Let all experts answer together, each as much as it is likely, instead of the likeliest alone
    #[arg(long, requires = "adapt")]
    blend: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum StrategyFlag {
    /// The base model chooses
    Prompt,
    /// The expert --classifier chooses
    Classifier,
    /// The question is compared with those of the experts' files
    Nearest,
}

#[derive(Clone, Copy, ValueEnum)]
enum ReadingFlag {
    /// One prefill, a probability for each label
    Labels,
    /// Generation
    Text,
}

impl AdaptArgs {
    /// Whether the model chooses.
    pub fn is_on(&self) -> bool {
        self.adapt.is_some()
    }

    /// Who chooses, if `--adapt` is given.
    pub fn strategy(&self) -> Option<Strategy> {
        self.adapt.map(|flag| match flag {
            StrategyFlag::Prompt => Strategy::Prompt,
            StrategyFlag::Classifier => Strategy::Classifier,
            StrategyFlag::Nearest => Strategy::Nearest,
        })
    }

    /// How the choice is made.
    pub fn options(&self) -> Options {
        Options {
            strategy: self.strategy().unwrap_or(Strategy::Prompt),
            classifier: self.classifier.clone(),
            reading: match self.adapt_read {
                ReadingFlag::Labels => Reading::Labels,
                ReadingFlag::Text => Reading::Text,
            },
            threshold: self.threshold,
            blend: self.blend,
        }
    }

    /// The adaptation prompt of `--adapt-prompt`; checked before a model is loaded.
    pub fn prompt(&self) -> Result<Option<AdaptPrompt>> {
        self.adapt_prompt.as_deref().map(AdaptPrompt::read).transpose()
    }

    /// What `--adapt` asks for, with `prompt` or the one that `model` understands best.
    pub fn dispatcher(
        &self,
        model: &Model,
        experts: &ExpertSet,
        prompt: Option<AdaptPrompt>,
    ) -> Result<Option<Dispatcher>> {
        if !self.is_on() {
            return Ok(None);
        }
        let options = self.options();
        let prompt = match prompt {
            Some(prompt) => prompt,
            None => AdaptPrompt::suited(model, &Candidates::new(experts.iter(), &self.classifier)?),
        };
        let dispatcher = Dispatcher::new(experts, prompt, options)?;
        for note in dispatcher.notes() {
            printer::note(format_args!("note: {note}"));
        }
        Ok(Some(dispatcher))
    }
}
