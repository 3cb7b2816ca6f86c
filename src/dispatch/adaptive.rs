//! Both passes: a question comes in, the model chooses an expert for it, and answers with it.

use super::{Cost, Decision, Dispatcher, Question};
use crate::engine::scheduler::Generate;
use crate::engine::{ChatMessage, Request, Scheduler, Ticket, Token};
use crate::error::{Error, Result};
use crate::expert::Mixture;

/// A model that adapts itself to each question.
pub struct Adaptive {
    scheduler: Scheduler,
    dispatcher: Dispatcher,
    strength: f32,
}

/// An answer on its way.
pub struct Reply {
    /// What pass 1 decided.
    pub decision: Decision,
    /// What that took.
    pub cost: Cost,
    /// The mixture that answers.
    pub mixture: Mixture,
    /// Pass 2, as it happens.
    pub ticket: Ticket,
}

impl Adaptive {
    /// Answers with the experts of `scheduler` among which `dispatcher` chooses; `strength` scales the mixtures that
    /// answer.
    pub fn new(scheduler: Scheduler, dispatcher: Dispatcher, strength: f32) -> Self {
        Self { scheduler, dispatcher, strength }
    }

    /// What both passes run on; requests of any other kind are welcome there too.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Who chooses.
    pub fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    /// Pass 1: the mixture for `question`, and how it was found.
    ///
    /// # Errors
    /// Those of [`Dispatcher::decide`], or a strength that is no number.
    pub fn choose<'a>(&self, question: impl Into<Question<'a>>) -> Result<(Mixture, Decision, Cost)> {
        let (decision, cost) = self.dispatcher.decide(&self.scheduler, question)?;
        let mixture = self.dispatcher.mixture_for(&decision).strength(self.strength)?;
        Ok((mixture, decision, cost))
    }

    /// Both passes for a conversation whose last message is the question. Returns when pass 1 has decided.
    ///
    /// # Errors
    /// No messages, those of [`Self::choose`] and of [`crate::engine::Model::chat_prompt`], or a request that
    /// [`Scheduler::submit`] refuses.
    pub fn answer(&self, messages: &[ChatMessage], how: Generate) -> Result<Reply> {
        let question = messages.last().ok_or_else(|| Error::expected("1 message or more", 0))?;
        let prompt = self.scheduler.model().chat_prompt(messages)?;
        self.continue_prompt(&question.content, prompt.tokens, Generate { thinking: prompt.thinking, ..how })
    }

    /// Both passes for a prompt that is there already: pass 1 reads `question`, pass 2 goes on from `prompt`.
    ///
    /// # Errors
    /// Those of [`Self::choose`], or a request that [`Scheduler::submit`] refuses.
    pub fn continue_prompt(&self, question: &str, prompt: Vec<Token>, how: Generate) -> Result<Reply> {
        let (mixture, decision, cost) = self.choose(Question { text: question, prompt: Some(&prompt) })?;
        let ticket = self.scheduler.submit(Request::generate(prompt, mixture.clone(), how))?;
        Ok(Reply { decision, cost, mixture, ticket })
    }
}
