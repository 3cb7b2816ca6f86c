//! A model with a task: the policy that is trained.

use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;

use super::policy::{Answer, Answers, Policy, Wanted};
use crate::engine::scheduler::{Completion, Ended, Generate};
use crate::engine::{
    AdaptedModel, Form, GraphOp, ModelWithExperts, Placement, Request, SamplerOptions, Scheduler, Thinking,
    Token,
};
use crate::error::{Error, Result};
use crate::eval::Questions;
use crate::expert::{Expert, Mixture, Multipliers};
use crate::gradient::{Group, Rollout};
use crate::progress::Interrupt;
use crate::task::{Item, Part, Task};

/// A scheduler, with the candidates as its experts, and the prompts.
pub struct ModelPolicy<'a> {
    task: &'a Task,
    scheduler: Scheduler,
    adapted: Arc<AdaptedModel>,
    max_candidates: usize,
    train: Vec<Vec<Token>>,
    validation: Vec<Vec<Token>>,
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
}

impl<'a> ModelPolicy<'a> {
    /// Opens the sessions.
    ///
    /// # Errors
    /// A part without items, or an item that does not fit the model's context.
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
        let joined = ModelWithExperts::new(Arc::clone(adapted), Vec::new(), options.form, GraphOp::Auto);
        Ok(Self {
            task,
            scheduler: joined.scheduler(options.batch, n_ctx_seq, options.n_threads)?,
            adapted: Arc::clone(adapted),
            max_candidates: options.max_candidates,
            train,
            validation,
            thinking,
        })
    }

    /// Groups as large as those of a step can be, with `prompts` train items and `samples` answers to each.
    pub fn largest(&self, prompts: usize, samples: usize) -> Vec<Group> {
        let mut lengths: Vec<_> = self.train.iter().map(Vec::len).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        let rollout = Rollout { tokens: vec![0; self.task.generation().max_tokens], advantage: 0.0 };
        let group =
            |length: usize| Group { prompt: vec![0; length], rollouts: vec![rollout.clone(); samples] };
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

    /// Makes the candidates the scheduler's experts; the mixture of each.
    fn load(&mut self, candidates: &[&Multipliers]) -> Result<Vec<Mixture>> {
        if candidates.len() > self.max_candidates {
            return Err(Error::expected(format!("at most {}", self.max_candidates), candidates.len())
                .field("candidates"));
        }
        let load = |(i, m): (usize, &&Multipliers)| {
            let name = format!("candidate-{i}");
            let expert = Expert::of_multipliers(&name, self.adapted.sidecar(), m);
            self.scheduler.replace_expert(expert)?;
            Ok(Mixture::single(name))
        };
        candidates.iter().enumerate().map(load).collect()
    }

    fn request(&self, wanted: &Wanted, mixtures: &[Mixture]) -> Request {
        let generation = self.task.generation();
        let how = Generate {
            sampler: SamplerOptions::plain(wanted.temperature, wanted.seed),
            max_tokens: Some(generation.max_tokens),
            stop: generation.stop.clone(),
            thinking: self.thinking.clone(),
            ..Generate::default()
        };
        let prompt = self.prompts(wanted.part)[wanted.item].clone();
        Request::generate(prompt, mixtures[wanted.candidate].clone(), how)
    }
}

impl Policy for ModelPolicy<'_> {
    fn n_items(&self, part: Part) -> usize {
        self.prompts(part).len()
    }

    fn prompt(&self, item: usize) -> &[Token] {
        &self.train[item]
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
        let mixtures = self.load(candidates)?;
        let requests = wanted.iter().map(|wanted| self.request(wanted, &mixtures)).collect();
        let mut completions: Vec<Option<Completion>> = vec![None; wanted.len()];
        self.scheduler.complete(requests, interrupt, |index, outcome| {
            completions[index] = Some(outcome.completion()?);
            Ok(())
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
        candidates: &[&Multipliers],
        answers: &[(usize, &[Token])],
        interrupt: &Interrupt,
    ) -> Result<Vec<Vec<f64>>> {
        let mixtures = self.load(candidates)?;
        let of_candidate = |mixture: &Mixture| {
            let of_answer = |&(item, tokens): &(usize, &[Token])| {
                Request::likelihood(&self.train[item], tokens, mixture.clone())
            };
            answers.iter().map(of_answer).collect::<Vec<_>>()
        };
        let requests: Vec<_> = mixtures.iter().flat_map(of_candidate).collect();
        let mut found = vec![Vec::new(); requests.len()];
        self.scheduler.complete(requests, interrupt, |index, outcome| {
            found[index] = outcome.scores()?.log_probs.concat();
            Ok(())
        })?;
        let joined = |of: &[Vec<f32>]| of.concat().into_iter().map(f64::from).collect();
        Ok(found.chunks(answers.len().max(1)).map(joined).collect())
    }
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
