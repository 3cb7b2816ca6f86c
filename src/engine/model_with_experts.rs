//! An adapted model with the experts that were loaded for it: what sessions are opened from that all know them.

use std::sync::{Arc, Once};

use serde_json::{json, Map, Value};

use super::scheduler::{sessions_for, QUEUE};
use super::{
    AdaptedModel, AdapterOptions, Form, GraphOp, Model, Placement, Scheduler, Session, SessionOptions,
};
use crate::error::Result;
use crate::expert::{Expert, ExpertSet};

/// Model, sidecar, experts, and how adapted layers run.
pub struct ModelWithExperts {
    adapted: Arc<AdaptedModel>,
    experts: Vec<Expert>,
    form: Form,
    op: GraphOp,
    tell: fn(&str),
    told: Once,
}

impl ModelWithExperts {
    /// The experts for `adapted`; whether they fit is known when sessions or sets are made.
    pub fn new(adapted: Arc<AdaptedModel>, experts: Vec<Expert>, form: Form, op: GraphOp) -> Self {
        Self { adapted, experts, form, op, tell: |_| (), told: Once::new() }
    }

    /// Lets `tell` hear where the adapted layers run, in one line, when the first session is opened in a build for
    /// GPUs: what a GPU lacks would else be slow without a word.
    pub fn telling(self, tell: fn(&str)) -> Self {
        Self { tell, ..self }
    }

    /// The same in the residual form, with whichever implementation the device has.
    pub fn residual(adapted: Arc<AdaptedModel>, experts: Vec<Expert>) -> Self {
        Self::new(adapted, experts, Form::Residual, GraphOp::Auto)
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.adapted.model()
    }

    /// All experts as a set.
    ///
    /// # Errors
    /// One does not fit the sidecar, or two have the same name.
    pub fn expert_set(&self) -> Result<ExpertSet> {
        let mut set = ExpertSet::new(self.adapted.sidecar());
        self.experts.iter().try_for_each(|expert| set.insert(expert.clone()))?;
        Ok(set)
    }

    /// All that changes what mixtures of the experts answer, by name, but for the model's own weights, which the experts
    /// name.
    pub fn identity(&self) -> Value {
        let expert = |expert: &Expert| (expert.name.clone(), Value::from(expert.digest()));
        json!({
            "chat_template": self.model().given_template_digest(),
            "experts": self.experts.iter().map(expert).collect::<Map<_, _>>(),
            "form": self.form.name(),
            "op": self.op.to_string(),
            "sidecar": self.adapted.sidecar().digest(),
        })
    }

    /// A session with `n_slots` slots and all experts.
    ///
    /// # Errors
    /// Those of [`Session::adapted`] and of [`Self::expert_set`].
    pub fn session(&self, options: &SessionOptions, n_slots: u32) -> Result<Session> {
        let adapter = AdapterOptions { form: self.form, op: self.op, n_slots };
        let mut session = Session::adapted(&self.adapted, options, &adapter)?;
        for expert in &self.experts {
            session.experts_mut()?.insert(expert.clone())?;
        }
        if let Some(line) = Placement::line(&session.placements()) {
            self.told.call_once(|| (self.tell)(&line));
        }
        Ok(session)
    }

    /// A scheduler for `n_seq` requests at once, each of at most `n_ctx_seq` tokens, with `n_threads` threads.
    ///
    /// # Errors
    /// Those of [`Self::session`].
    pub fn scheduler(&self, n_seq: u32, n_ctx_seq: u32, n_threads: u32) -> Result<Scheduler> {
        let (n_sessions, options) = sessions_for(self.model(), n_seq, n_ctx_seq, n_threads);
        self.scheduler_with(n_sessions, &options)
    }

    /// A scheduler over `n_sessions` sessions with all experts, with a slot for the mixture of each sequence.
    ///
    /// # Errors
    /// Those of [`Self::session`].
    pub fn scheduler_with(&self, n_sessions: u32, options: &SessionOptions) -> Result<Scheduler> {
        let session = |_| self.session(options, options.n_seq.saturating_add(1));
        Scheduler::new((0..n_sessions).map(session).collect::<Result<_>>()?, QUEUE)
    }
}
