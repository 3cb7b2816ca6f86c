//! How well a model answers a task's questions: one configuration, or several on the same items.
//!
//! All configurations run together, in the same batches, so that comparing two costs no reload and no
//! second pass. Items are what statistics count: several samples of one item give one mean score.

mod dispatched;
mod reliability;
pub mod rescore;
mod runner;
pub mod scores;
pub mod stats;
mod trace;

use std::collections::HashMap;
use std::time::{Duration, Instant};

pub use dispatched::Dispatched;
pub use reliability::{Reliability, Step};
pub use runner::{check_oracle, Choice, Measured, Routed, Runner};
pub use scores::Comparison;
pub use trace::Trace;

use crate::engine::scheduler::{Completion, Ended, Generate};
use crate::engine::{ChatMessage, Model, Request, SamplerOptions, Scheduler, Thinking, Token};
use crate::error::{Error, Result};
use crate::expert::Mixture;
use crate::progress::{Interrupt, Progress};
use crate::task::{Generation, Item, Task};

/// What is scored, and what to call it.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// `base`, the mixture, or who chooses it.
    pub name: String,
    /// What answers.
    pub by: By,
}

/// What answers items.
#[derive(Clone, Debug)]
pub enum By {
    /// The same mixture all of them.
    One(Mixture),
    /// A mixture of its own each, by item: pass 2, after pass 1 has decided for each.
    Each(Vec<Mixture>),
}

impl Configuration {
    /// One mixture, by its name.
    pub fn fixed(mixture: Mixture) -> Self {
        let name = if mixture.is_base() { "base".into() } else { mixture.to_string() };
        Self { name, by: By::One(mixture) }
    }

    /// Who answers item number `item`; an error if nobody does.
    fn mixture(&self, item: usize) -> Result<&Mixture> {
        match &self.by {
            By::One(mixture) => Ok(mixture),
            By::Each(mixtures) => mixtures
                .get(item)
                .ok_or_else(|| Error::expected(format!("{} mixtures or more", item + 1), mixtures.len())),
        }
    }
}

/// How answers are generated.
#[derive(Clone, Debug)]
pub struct EvalOptions {
    /// Answers per item.
    pub samples: usize,
    /// How tokens are chosen; the seed of an answer follows from this seed, the item's id and the number of
    /// the sample, and so is the same in all configurations.
    pub sampler: SamplerOptions,
}

impl EvalOptions {
    /// The most likely answer to each item.
    pub fn greedy() -> Self {
        Self { samples: 1, sampler: SamplerOptions::greedy() }
    }
}

/// One scored answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What the model wrote.
    pub completion: String,
    /// From 0 (wrong) to 1 (right).
    pub score: f64,
    /// Why, in one line.
    pub reason: String,
    /// Tokens written.
    pub n_tokens: usize,
    /// Whether it was cut off at the task's limit.
    pub is_cut: bool,
}

/// An item with all its answers.
pub struct Answered<'a> {
    /// The item.
    pub item: &'a Item,
    /// By configuration and sample.
    pub answers: Vec<Vec<Answer>>,
}

/// What an evaluation found.
pub struct Evaluation<'a> {
    /// Items that every configuration has answered.
    pub items: Vec<Answered<'a>>,
    /// Items that were asked for; more than `items` after an interrupt.
    pub n_asked: usize,
    /// Seconds of generating and scoring, which go on side by side.
    pub seconds: f64,
    /// Seconds until all answers were written.
    pub writing_seconds: f64,
    /// Seconds of scoring.
    pub scoring_seconds: f64,
    /// Tokens written in these seconds, in all configurations.
    pub n_tokens: usize,
    /// Answers written in these seconds; fewer than there are when a trace was continued.
    pub n_answers: usize,
    seed: u64,
}

/// One configuration's result.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Mean score, each item counting alike.
    pub accuracy: f64,
    /// 95 % interval of `accuracy`: Wilson's where each item has one answer that is right or wrong, the
    /// bootstrap's otherwise.
    pub ci95: (f64, f64),
    /// Share of items with a right answer (score 1) among their samples.
    pub pass_at_k: f64,
    /// Answers that were cut off at the task's limit.
    pub n_cut: usize,
}

/// The questions of one task, ready for a scheduler.
pub struct Questions<'a> {
    task: &'a Task,
    items: &'a [Item],
    /// Prompt tokens, by item.
    prompts: Vec<Vec<Token>>,
    /// How the model tells thinking from answering.
    thinking: Option<Thinking>,
    /// Tokens of context the model was trained with.
    n_ctx_train: u32,
}

/// Where an answer belongs.
#[derive(Clone, Copy)]
struct Place {
    item: usize,
    configuration: usize,
    sample: usize,
}

impl<'a> Questions<'a> {
    /// Turns the prompts of `items`, which belong to `task`, into tokens of `model`, with the model's chat
    /// template around them if the task wants it.
    ///
    /// # Errors
    /// The model cannot say a prompt, or its chat template is missing or refuses one.
    pub fn new(model: &Model, task: &'a Task, items: &'a [Item]) -> Result<Self> {
        let mut thinking = None;
        let Generation { chat, system, .. } = task.generation();
        let system: Vec<_> = system.iter().map(ChatMessage::system).collect();
        let tokens = |item: &Item| -> Result<Vec<Token>> {
            if !chat {
                return model.tokenize(&item.prompt, true, false);
            }
            let messages = [&system[..], &[ChatMessage::user(item.prompt.as_str())]].concat();
            let prompt =
                model.chat_prompt(&messages).map_err(|error| error.field(format!("item {}", item.id)))?;
            // The same in all prompts: it depends on the template alone.
            thinking = prompt.thinking;
            Ok(prompt.tokens)
        };
        let prompts = items.iter().map(tokens).collect::<Result<_>>()?;
        let n_ctx_train = model.n_ctx_train();
        Ok(Self { task, items, prompts, thinking, n_ctx_train })
    }

    /// The task.
    pub fn task(&self) -> &'a Task {
        self.task
    }

    /// The items.
    pub fn items(&self) -> &'a [Item] {
        self.items
    }

    /// The prompts' tokens, by item.
    pub fn prompts(&self) -> &[Vec<Token>] {
        &self.prompts
    }

    /// The prompts' tokens, by item.
    pub fn into_prompts(self) -> Vec<Vec<Token>> {
        self.prompts
    }

    /// How the model tells thinking from answering, if it thinks.
    pub fn thinking(&self) -> Option<&Thinking> {
        self.thinking.as_ref()
    }

    /// Tokens of context that the longest item needs, prompt and answer, as far as the model was trained for
    /// them.
    pub fn n_ctx_seq(&self) -> u32 {
        let longest = self.prompts.iter().map(Vec::len).max().unwrap_or(0);
        let wanted = longest.saturating_add(self.task.generation().max_tokens);
        u32::try_from(wanted).unwrap_or(u32::MAX).min(self.n_ctx_train)
    }

    /// Answers and scores every item in every configuration with `scheduler`. Each answer goes to `trace` as it comes; answers that the trace has already are not
    /// generated again. Progress counts answers. After an interrupt the result holds the items that were
    /// finished.
    ///
    /// # Errors
    /// An item that the scheduler cannot serve (then nothing runs), an error of the task's scoring or of the
    /// trace, or a NaN among the logits.
    pub fn evaluate(
        &self,
        scheduler: &Scheduler,
        configurations: &[Configuration],
        options: &EvalOptions,
        mut trace: Option<&mut Trace>,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Evaluation<'a>> {
        if options.samples == 0 {
            return Err(Error::expected("1 or more", 0).setting("samples"));
        }
        let one_item = || vec![vec![None; options.samples]; configurations.len()];
        let mut answers: Vec<Vec<Vec<Option<Answer>>>> = self.items.iter().map(|_| one_item()).collect();
        let mut places = Vec::new();
        for place in self.places(configurations.len(), options.samples) {
            let Place { item, configuration, sample } = place;
            let name = &configurations[configuration].name;
            let known = match &trace {
                Some(trace) => trace.known(&self.items[item], name, sample)?,
                None => None,
            };
            match known {
                Some(answer) => answers[item][configuration][sample] = Some(answer.clone()),
                None => places.push(place),
            }
        }
        let request = |&place: &Place| self.request(place, configurations, options);
        let requests = places.iter().map(request).collect::<Result<Vec<_>>>()?;
        for (request, place) in requests.iter().zip(&places) {
            let at_item = |error: Error| error.field(format!("item {}", self.items[place.item].id));
            scheduler.check(request).map_err(at_item)?;
        }

        let n_answers = self.items.len() * configurations.len() * options.samples;
        progress.start(n_answers as u64, (n_answers - places.len()) as u64);
        let began = Instant::now();
        let (mut writing, mut scoring, mut n_tokens, mut n_done) = (Duration::ZERO, 0.0, 0, 0);
        let result = scheduler.complete(requests, interrupt, |index, outcome| {
            let completion = outcome.completion()?;
            writing = writing.max(completion.usage.total());
            let Place { item, configuration, sample } = places[index];
            let scored = Instant::now();
            let answer = self.score(item, completion)?;
            scoring += scored.elapsed().as_secs_f64();
            if let Some(trace) = &mut trace {
                trace.write(&self.items[item], &configurations[configuration].name, sample, &answer)?;
            }
            n_tokens += answer.n_tokens;
            n_done += 1;
            answers[item][configuration][sample] = Some(answer);
            progress.advance(1);
            Ok(())
        });
        let seconds = began.elapsed().as_secs_f64();
        progress.finish();
        match result {
            Err(error) if !error.is_interrupted() => return Err(error),
            _ => {}
        }
        let finished = |(item, answers): (&'a Item, Vec<Vec<Option<Answer>>>)| {
            let answers =
                answers.into_iter().map(|samples| samples.into_iter().collect()).collect::<Option<_>>()?;
            Some(Answered { item, answers })
        };
        Ok(Evaluation {
            items: self.items.iter().zip(answers).filter_map(finished).collect(),
            n_asked: self.items.len(),
            seconds,
            writing_seconds: writing.as_secs_f64(),
            scoring_seconds: scoring,
            n_tokens,
            n_answers: n_done,
            seed: u64::from(options.sampler.seed),
        })
    }

    /// All answers, item by item, so that an interrupt leaves whole ones.
    fn places(&self, n_configurations: usize, n_samples: usize) -> impl Iterator<Item = Place> {
        let of_item = move |item| {
            let of_sample = move |sample| {
                (0..n_configurations).map(move |configuration| Place { item, configuration, sample })
            };
            (0..n_samples).flat_map(of_sample)
        };
        (0..self.items.len()).flat_map(of_item)
    }

    fn request(
        &self,
        place: Place,
        configurations: &[Configuration],
        options: &EvalOptions,
    ) -> Result<Request> {
        let seed = sample_seed(options.sampler.seed, &self.items[place.item].id, place.sample);
        let how = self.generate(SamplerOptions { seed, ..options.sampler.clone() });
        let mixture = configurations[place.configuration].mixture(place.item)?;
        Ok(Request::generate(self.prompts[place.item].clone(), mixture.clone(), how))
    }

    /// How the task's answers are generated.
    pub fn generate(&self, sampler: SamplerOptions) -> Generate {
        let Generation { max_tokens, stop, .. } = self.task.generation();
        Generate {
            sampler,
            max_tokens: Some(*max_tokens),
            stop: stop.clone(),
            thinking: self.thinking.clone(),
            ..Generate::default()
        }
    }

    fn score(&self, item: usize, completion: Completion) -> Result<Answer> {
        let score = self.task.score(&self.items[item], &completion.text)?;
        Ok(Answer {
            score: score.value,
            reason: score.reason,
            n_tokens: completion.tokens.len(),
            is_cut: completion.ended == Ended::Length,
            completion: completion.text,
        })
    }
}

/// Seeds of different items and samples have nothing to do with each other.
fn sample_seed(seed: u32, id: &str, sample: usize) -> u32 {
    let hash = blake3::hash(format!("{seed} {sample} {id}").as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    u32::from_le_bytes([a, b, c, d])
}

impl Answered<'_> {
    /// Mean score of `configuration`'s samples.
    pub fn score(&self, configuration: usize) -> f64 {
        let answers = &self.answers[configuration];
        answers.iter().map(|answer| answer.score).sum::<f64>() / answers.len() as f64
    }
}

impl<'a> Evaluation<'a> {
    /// The answers of these configurations and behind them those of `other`, to the items that both have answered.
    fn beside(self, other: Self) -> Self {
        let others = other.items.into_iter().map(|other| (other.item.id.as_str(), other.answers));
        let mut others: HashMap<_, _> = others.collect();
        let joined = |mut own: Answered<'a>| {
            own.answers.extend(others.remove(own.item.id.as_str())?);
            Some(own)
        };
        Self {
            items: self.items.into_iter().filter_map(joined).collect(),
            seconds: self.seconds + other.seconds,
            writing_seconds: self.writing_seconds + other.writing_seconds,
            scoring_seconds: self.scoring_seconds + other.scoring_seconds,
            n_tokens: self.n_tokens + other.n_tokens,
            n_answers: self.n_answers + other.n_answers,
            ..self
        }
    }

    /// Whether an interrupt left items unanswered.
    pub fn is_partial(&self) -> bool {
        self.items.len() < self.n_asked
    }

    /// The result of configuration number `configuration`. Without items, accuracy is 0 and its interval 0 to 1.
    pub fn summary(&self, configuration: usize) -> Summary {
        let scores = self.scores(configuration);
        let n = scores.len().max(1) as f64;
        let of_configuration = || self.items.iter().map(|item| &item.answers[configuration]);
        let n_passed =
            of_configuration().filter(|answers| answers.iter().any(|answer| answer.score >= 1.0)).count();
        Summary {
            accuracy: scores.iter().sum::<f64>() / n,
            ci95: scores::interval(&scores, self.is_binary(), self.seed),
            pass_at_k: n_passed as f64 / n,
            n_cut: of_configuration().flatten().filter(|answer| answer.is_cut).count(),
        }
    }

    /// `configuration` against `baseline`.
    pub fn compare(&self, configuration: usize, baseline: usize) -> Comparison {
        let (new, old) = (self.scores(configuration), self.scores(baseline));
        scores::compare(&new, &old, self.is_binary(), self.seed)
    }

    /// The score of each item, the mean of `configuration`'s samples.
    pub fn scores(&self, configuration: usize) -> Vec<f64> {
        self.items.iter().map(|item| item.score(configuration)).collect()
    }

    /// Whether each item has one answer that is right or wrong.
    fn is_binary(&self) -> bool {
        let is_plain = |answers: &Vec<Answer>| answers.len() == 1 && [0.0, 1.0].contains(&answers[0].score);
        self.items.iter().flat_map(|item| &item.answers).all(is_plain)
    }
}
