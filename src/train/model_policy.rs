//! A model with a task: the policy that is trained.

use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;

use super::policy::{Answer, Answers, Policy, Wanted};
use crate::engine::{
    complete, sessions_for, AdaptedModel, AdapterOptions, Ended, Form, GraphOp, Placement, Request,
    SamplerOptions, Session, Thinking, Token,
};
use crate::error::{Error, Result};
use crate::eval::Questions;
use crate::expert::{Expert, Mixture, Multipliers};
use crate::progress::Interrupt;
use crate::task::{Item, Part, Task};

/// The sessions, with the candidates in slots 1, 2, …, and the prompts.
pub struct ModelPolicy<'a> {
    task: &'a Task,
    sessions: Vec<Session>,
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
        let (n_sessions, session_options) = sessions_for(model, options.batch, n_ctx_seq, options.n_threads);
        let n_slots = u32::try_from(options.max_candidates).unwrap_or(u32::MAX).saturating_add(1);
        let adapter = AdapterOptions { form: options.form, op: GraphOp::Auto, n_slots };
        let session = |_| Session::adapted(adapted, &session_options, &adapter);
        Ok(Self {
            task,
            sessions: (0..n_sessions).map(session).collect::<Result<_>>()?,
            adapted: Arc::clone(adapted),
            max_candidates: options.max_candidates,
            train,
            validation,
            thinking,
        })
    }

    /// Where the adapted layers run, and how.
    pub fn placements(&self) -> Vec<Placement> {
        self.sessions.first().map(Session::placements).unwrap_or_default()
    }

    fn prompts(&self, part: Part) -> &[Vec<Token>] {
        match part {
            Part::Train => &self.train,
            Part::Validation => &self.validation,
            Part::Test => &[],
        }
    }

    /// Puts candidate i into slot i + 1 of every session.
    fn load(&mut self, candidates: &[&Multipliers]) -> Result<()> {
        if candidates.len() > self.max_candidates {
            return Err(Error::expected(format!("at most {}", self.max_candidates), candidates.len())
                .field("candidates"));
        }
        for (slot, m) in (1..).zip(candidates) {
            let name = format!("candidate-{slot}");
            let expert = Expert::of_multipliers(&name, self.adapted.sidecar(), m);
            let mixture = Mixture::single(name);
            for session in &mut self.sessions {
                session.experts_mut()?.replace(expert.clone())?;
                session.set_mixture(slot, &mixture)?;
            }
        }
        Ok(())
    }

    fn request(&self, wanted: &Wanted) -> Request {
        let generation = self.task.generation();
        // Nothing is left out: answers come from the model's own distribution.
        let sampler = SamplerOptions {
            temperature: wanted.temperature,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: wanted.seed,
        };
        Request {
            prompt: self.prompts(wanted.part)[wanted.item].clone(),
            slot: wanted.candidate as u32 + 1,
            sampler,
            max_tokens: generation.max_tokens,
            stop: generation.stop.clone(),
            log_probs: false,
        }
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
        self.load(candidates)?;
        let requests: Vec<_> = wanted.iter().map(|wanted| self.request(wanted)).collect();
        let mut completions = vec![None; wanted.len()];
        complete(&mut self.sessions, &requests, interrupt, |index, completion| {
            completions[index] = Some(completion);
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
                let text = Thinking::whole(self.thinking.as_ref(), completion.text);
                let score = self.task.score(item, &text)?;
                let is_cut = completion.ended == Ended::Length;
                Ok(Answer { tokens: completion.tokens, reward: score.value, is_cut })
            })
            .collect::<Result<_>>()?;
        Ok(Answers { answers, writing, scoring: scoring.elapsed().as_secs_f64() })
    }
}

fn check_lengths(items: &[Item], prompts: &[Vec<Token>], max_tokens: usize, n_ctx: u32) -> Result<()> {
    for (item, prompt) in items.iter().zip(prompts) {
        if prompt.is_empty() || prompt.len() + max_tokens > n_ctx as usize {
            let found = format!("{} of the prompt and {max_tokens} to write", prompt.len());
            return Err(Error::expected(format!("at most {n_ctx} tokens, the model's context"), found)
                .field(format!("item {}", item.id))
                .hint("use shorter prompts, or write fewer tokens (max_tokens of the task)"));
        }
    }
    Ok(())
}
