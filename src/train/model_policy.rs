//! A model with a task: the policy that is trained.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;

use super::policy::{Answer, Answers, Policy, Wanted};
use crate::engine::scheduler::{Completion, Ended, Generate};
use crate::engine::{
    AdaptedModel, Form, GraphOp, LoraModel, Model, ModelWithExperts, Placement, Request, SamplerOptions,
    Scheduler, Thinking, Token,
};
use crate::error::{Error, Result};
use crate::eval::Questions;
use crate::expert::{Expert, Mixture, Multipliers};
use crate::gradient::{Group, Rollout};
use crate::progress::Interrupt;
use crate::task::{Generation, Item, Part, Task};

/// A scheduler, with the candidates as its experts or as its LoRA in turn, and the prompts.
pub struct ModelPolicy<'a> {
    task: &'a Task,
    scheduler: Scheduler,
    adapted: Arc<AdaptedModel>,
    /// What candidates are written to, where they are no experts.
    lora: Option<LoraModel>,
    /// How often that was done: nothing that was read before it is used after it.
    n_written: u64,
    max_candidates: usize,
    train: Vec<Vec<Token>>,
    validation: Vec<Vec<Token>>,
    /// The gold answers to the train items, where they are wanted.
    gold: Vec<Vec<Token>>,
    thinking: Option<Thinking>,
}

/// How a model answers.
#[derive(Clone, Copy, Debug)]
pub struct ModelOptions {
    /// Residual or factored.
    pub form: Form,
    /// Answers written at once.
    pub batch: u32,
    /// Threads over all sessions.
    pub n_threads: u32,
    /// Most candidates at once.
    pub max_candidates: usize,
    /// Most validation items.
    pub validation_items: usize,
    /// Whether gold answers to the train items are wanted.
    pub gold: bool,
}

impl<'a> ModelPolicy<'a> {
    /// Opens the sessions.
    ///
    /// # Errors
    /// A part without items, an item that does not fit the model's context, or one without a gold answer where these are
    /// wanted.
    pub fn new(adapted: &Arc<AdaptedModel>, task: &'a Task, options: &ModelOptions) -> Result<Self> {
        let model = adapted.model();
        let mut n_ctx_seq = 0;
        let mut thinking = None;
        let mut prompts = |part: Part, n: usize| -> Result<Vec<Vec<Token>>> {
            let items = task.items(part);
            let items = &items[..n.min(items.len())];
            if items.is_empty() {
                return Err(Error::invalid(format!("the task has no {} items", part.name()))
                    .field("task")
                    .hint("training needs train items to learn from and validation items to choose by"));
            }
            let questions = Questions::new(model, task, items)?;
            check_lengths(items, questions.prompts(), task.generation().max_tokens, model.n_ctx_train())?;
            n_ctx_seq = n_ctx_seq.max(questions.n_ctx_seq());
            thinking = questions.thinking().cloned();
            Ok(questions.into_prompts())
        };
        let train = prompts(Part::Train, usize::MAX)?;
        let validation = prompts(Part::Validation, options.validation_items)?;
        let gold = if options.gold { gold(model, task, thinking.as_ref())? } else { Vec::new() };
        let joined = ModelWithExperts::new(Arc::clone(adapted), Vec::new(), options.form, GraphOp::Auto);
        Ok(Self {
            task,
            scheduler: joined.scheduler(options.batch, n_ctx_seq, options.n_threads)?,
            adapted: Arc::clone(adapted),
            lora: None,
            n_written: 0,
            max_candidates: options.max_candidates,
            train,
            validation,
            gold,
            thinking,
        })
    }

    /// The same for candidates that are the A and B of `lora`, in the residual form. They answer one after the other.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn of_lora(lora: &LoraModel, task: &'a Task, options: &ModelOptions) -> Result<Self> {
        let options = ModelOptions { form: Form::Residual, ..*options };
        let this = Self::new(lora.adapted(), task, &options)?;
        this.scheduler.replace_expert(lora.expert(&candidate(0)))?;
        Ok(Self { lora: Some(lora.clone()), ..this })
    }

    /// Groups as large as those of a step can be, with `prompts` train items and `samples` answers to each.
    pub fn largest(&self, prompts: usize, samples: usize) -> Vec<Group> {
        let max_tokens = self.task.generation().max_tokens;
        let mut lengths: Vec<_> = (0..self.train.len())
            .map(|item| [self.train[item].len(), self.gold.get(item).map_or(max_tokens, Vec::len)])
            .collect();
        lengths.sort_unstable_by_key(|lengths| std::cmp::Reverse(lengths.iter().sum::<usize>()));
        let group = |[prompt, answer]: [usize; 2]| {
            let rollout = Rollout { tokens: vec![0; answer], advantage: 0.0 };
            Group { prompt: vec![0; prompt], rollouts: vec![rollout; samples] }
        };
        lengths.into_iter().take(prompts).map(group).collect()
    }

    /// Where the adapted layers run, and how.
    pub fn placements(&self) -> &[Placement] {
        self.scheduler.placements()
    }

    fn prompts(&self, part: Part) -> &[Vec<Token>] {
        match part {
            Part::Train => &self.train,
            Part::Validation => &self.validation,
            Part::Test => &[],
        }
    }

    /// Calls `work` with as many of the candidates as can be at work at once, until all were: their numbers, and their
    /// mixtures.
    fn in_turn(
        &mut self,
        candidates: &[&Multipliers],
        mut work: impl FnMut(&Self, Range<usize>, &[Mixture]) -> Result<()>,
    ) -> Result<()> {
        if candidates.len() > self.max_candidates {
            return Err(Error::expected(format!("at most {}", self.max_candidates), candidates.len())
                .field("candidates"));
        }
        let n_at_once = if self.lora.is_some() { 1 } else { candidates.len().max(1) };
        for (turn, at_once) in candidates.chunks(n_at_once).enumerate() {
            let mixtures = self.load(at_once)?;
            let first = turn * n_at_once;
            work(self, first..first + at_once.len(), &mixtures)?;
        }
        Ok(())
    }

    /// Makes the candidates the scheduler's experts, or a single one its LoRA; the mixture of each.
    fn load(&mut self, candidates: &[&Multipliers]) -> Result<Vec<Mixture>> {
        if let (Some(lora), [parameters]) = (&self.lora, candidates) {
            lora.write(parameters);
            self.n_written += 1;
            return Ok(vec![Mixture::single(candidate(0))]);
        }
        let load = |(i, m): (usize, &&Multipliers)| {
            let name = candidate(i);
            let expert = Expert::of_multipliers(&name, self.adapted.sidecar(), m);
            self.scheduler.replace_expert(expert)?;
            Ok(Mixture::single(name))
        };
        candidates.iter().enumerate().map(load).collect()
    }

    fn request(&self, wanted: &Wanted, mixture: &Mixture) -> Request {
        let generation = self.task.generation();
        let how = Generate {
            sampler: SamplerOptions::plain(wanted.temperature, wanted.seed),
            max_tokens: Some(generation.max_tokens),
            stop: generation.stop.clone(),
            thinking: self.thinking.clone(),
            ..Generate::default()
        };
        let prompt = self.prompts(wanted.part)[wanted.item].clone();
        Request { scope: self.n_written, ..Request::generate(prompt, mixture.clone(), how) }
    }
}

impl Policy for ModelPolicy<'_> {
    fn n_items(&self, part: Part) -> usize {
        self.prompts(part).len()
    }

    fn prompt(&self, item: usize) -> &[Token] {
        &self.train[item]
    }

    fn gold(&self, item: usize) -> Option<&[Token]> {
        self.gold.get(item).map(Vec::as_slice)
    }

    fn max_candidates(&self) -> usize {
        self.max_candidates
    }

    fn answer(
        &mut self,
        candidates: &[&Multipliers],
        wanted: &[Wanted],
        interrupt: &Interrupt,
    ) -> Result<Answers> {
        let began = Instant::now();
        let mut completions: Vec<Option<Completion>> = vec![None; wanted.len()];
        self.in_turn(candidates, |this, candidates, mixtures| {
            let places: Vec<_> =
                (0..wanted.len()).filter(|&place| candidates.contains(&wanted[place].candidate)).collect();
            let request = |&place: &usize| {
                let wanted = &wanted[place];
                this.request(wanted, &mixtures[wanted.candidate - candidates.start])
            };
            this.scheduler.complete(places.iter().map(request).collect(), interrupt, |index, outcome| {
                completions[places[index]] = Some(outcome.completion()?);
                Ok(())
            })
        })?;
        let writing = began.elapsed().as_secs_f64();
        // Scoring may run programs: all at once.
        let scoring = Instant::now();
        let answers = completions
            .into_par_iter()
            .zip(wanted)
            .map(|(completion, wanted)| {
                interrupt.check()?;
                let completion = completion.ok_or_else(|| Error::engine("a completion is missing"))?;
                let item = &self.task.items(wanted.part)[wanted.item];
                let score = self.task.score(item, &completion.text)?;
                let is_cut = completion.ended == Ended::Length;
                Ok(Answer { tokens: completion.tokens, reward: score.value, is_cut })
            })
            .collect::<Result<_>>()?;
        Ok(Answers { answers, writing, scoring: scoring.elapsed().as_secs_f64() })
    }

    fn log_probs(
        &mut self,
        parameters: &Multipliers,
        answers: &[(usize, &[Token])],
        interrupt: &Interrupt,
    ) -> Result<Vec<f64>> {
        let mut found = vec![Vec::new(); answers.len()];
        self.in_turn(&[parameters], |this, _, mixtures| {
            let of_answer = |&(item, tokens): &(usize, &[Token])| Request {
                scope: this.n_written,
                ..Request::likelihood(&this.train[item], tokens, mixtures[0].clone())
            };
            let requests = answers.iter().map(of_answer).collect();
            this.scheduler.complete(requests, interrupt, |index, outcome| {
                found[index] = outcome.scores()?.log_probs.concat();
                Ok(())
            })
        })?;
        Ok(found.concat().into_iter().map(f64::from).collect())
    }
}

/// The gold answers to the train items, each with the token that ends it, as far as an answer may be long. What a template
/// begins to think is ended first.
fn gold(model: &Model, task: &Task, thinking: Option<&Thinking>) -> Result<Vec<Vec<Token>>> {
    let Generation { max_tokens, chat, .. } = task.generation();
    let closed = model.tokenize(&Thinking::closed(thinking), false, true)?;
    let end = model.end_of_answer(*chat)?;
    let of_item = |item: &Item| {
        let answer = model.tokenize(&item.completion, false, false)?;
        if answer.is_empty() {
            return Err(Error::invalid("it has no gold answer, whose likelihood could be learnt from")
                .field(format!("item {}", item.id))
                .hint("give the task gold answers or completions, or learn from its rewards"));
        }
        let mut tokens: Vec<Token> = closed.iter().copied().chain(answer).chain(end).collect();
        tokens.truncate(*max_tokens);
        Ok(tokens)
    };
    task.items(Part::Train).iter().map(of_item).collect()
}

/// What the scheduler calls candidate number `i`.
fn candidate(i: usize) -> String {
    format!("candidate-{i}")
}

fn check_lengths(items: &[Item], prompts: &[Vec<Token>], max_tokens: usize, n_ctx: u32) -> Result<()> {
    for (item, prompt) in items.iter().zip(prompts) {
        if prompt.is_empty() || prompt.len() + max_tokens > n_ctx as usize {
            let found = format!("{} of the prompt and {max_tokens} to write", prompt.len());
            return Err(Error::too_large(format!(
                "expected at most {n_ctx} tokens, the model's context, found {found}"
            ))
            .field(format!("item {}", item.id))
            .hint("use shorter prompts, or write fewer tokens (max_tokens of the task)"));
        }
    }
    Ok(())
}
