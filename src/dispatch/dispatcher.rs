//! Pass 1: from a question to an expert, or to the base model.

use std::sync::OnceLock;
use std::time::Instant;

use serde_json::{json, Value};

use super::calibration::Calibration;
use super::nearest::{self, Nearest};
use super::options::check_threshold;
use super::prompt::Example;
use super::{
    named_in, stance, AdaptPrompt, Ask, Candidates, Cost, Decision, Options, Reading, Strategy, OTHER,
};
use crate::engine::scheduler::{Generate, Outcome, Probe};
use crate::engine::{Model, Request, Scheduler, Ticket, Token};
use crate::error::{Error, Result};
use crate::expert::{ExpertSet, Mixture};
use crate::progress::Interrupt;
use crate::resume::Digest;

/// What an expert is to be chosen for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What the user says.
    pub text: &'a str,
    /// What pass 2 reads, where that is known: [`Strategy::Nearest`] then reads just that, and pass 2 need not read it again
    /// where the base model answers.
    pub prompt: Option<&'a [Token]>,
}

impl<'a> From<&'a str> for Question<'a> {
    fn from(text: &'a str) -> Self {
        Self { text, prompt: None }
    }
}

/// Most tokens that an answer in words may have.
const MAX_TOKENS: usize = 16;

/// What pass 1 has read to ask is not used in pass 2: the base model, chosen for lack of a better, answers to the bit as it
/// would have without pass 1.
const SCOPE: u64 = 1;

/// A question for pass 1, for hosts that wait in their own way: what its requests become goes to [`Dispatcher::conclude`].
pub struct Inquiry {
    /// `None` where nobody is asked.
    ask: Option<Ask>,
    threshold: f64,
    requests: Vec<Request>,
}

impl Inquiry {
    /// What has to be found out, in the order in which the outcomes are wanted. They are taken out.
    pub fn take_requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }
}

/// Chooses experts.
pub struct Dispatcher {
    options: Options,
    prompt: AdaptPrompt,
    candidates: Candidates,
    /// In the place of the prompt.
    nearest: Option<Nearest>,
    /// How the prompts of the model end, as [`Nearest`] needs it.
    ending: OnceLock<Vec<Token>>,
    /// What the labels' probabilities mean, once that was found out; `None` where it cannot be.
    calibration: OnceLock<Option<Calibration>>,
    notes: Vec<String>,
}

impl Dispatcher {
    /// A dispatcher among `experts`.
    ///
    /// # Errors
    /// No experts to choose from, names that cannot be labels, a classifier that is not loaded, no hidden states to compare
    /// with, an answer in words from a strategy that asks nobody, or a threshold that is no probability.
    pub fn new(experts: &ExpertSet, prompt: AdaptPrompt, options: Options) -> Result<Self> {
        check_threshold(options.threshold)?;
        if options.blend && options.reading == Reading::Text {
            return Err(
                Error::invalid("an answer in words has no probabilities to blend by").setting("blend")
            );
        }
        if options.strategy == Strategy::Classifier {
            let names = experts.names();
            if !names.contains(&options.classifier.as_str()) {
                let loaded = if names.is_empty() { "none".into() } else { names.join(", ") };
                return Err(Error::not_found(format!("the classifier is not loaded; loaded: {loaded}"))
                    .field(format!("expert {}", options.classifier))
                    .hint(
                        "it is an expert too: load it with `Expert::open`, and name it with `classifier`",
                    ));
            }
        }
        let all = Candidates::new(experts.iter(), &options.classifier)?;
        let mut dispatcher = Self {
            notes: all.notes(),
            candidates: all,
            options,
            prompt,
            nearest: None,
            ending: OnceLock::new(),
            calibration: OnceLock::new(),
        };
        if dispatcher.options.strategy == Strategy::Nearest {
            dispatcher.compare(experts)?;
        }
        Ok(dispatcher)
    }

    /// Lets the nearest of `experts` be chosen, of those that can be compared.
    fn compare(&mut self, experts: &ExpertSet) -> Result<()> {
        if self.options.reading == Reading::Text {
            return Err(
                Error::invalid("`nearest` asks nobody, so that no answer can be read").setting("reading")
            );
        }
        let classifier = &self.options.classifier;
        let candidates = experts.iter().filter(|expert| expert.name != *classifier);
        let (known, unknown): (Vec<_>, Vec<_>) =
            candidates.partition(|expert| nearest::states(expert).is_some());
        if known.is_empty() {
            return Err(Error::expected("an expert whose file has hidden states", "none")
                .setting("strategy")
                .hint("add them: `describe`; training does so, too"));
        }
        self.candidates = Candidates::new(known.iter().copied(), classifier)?;
        self.notes.clear();
        if !unknown.is_empty() {
            let names: Vec<_> = unknown.iter().map(|expert| expert.name.as_str()).collect();
            self.notes.push(format!(
                "no hidden states in its file, so that `nearest` never chooses it (`describe` adds them): {}",
                names.join(", ")
            ));
        }
        // By name, as the candidates are.
        self.nearest = Some(Nearest::new(&known)?);
        Ok(())
    }

    /// The options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The labels.
    pub fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// What a user should know, one line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// All that can change a decision, but for the experts' multipliers.
    ///
    /// # Errors
    /// A prompt that cannot be filled in.
    pub fn identity(&self) -> Result<Value> {
        let Options { strategy, classifier, reading, threshold, blend } = &self.options;
        if let Some(nearest) = &self.nearest {
            let labels = self.candidates.labels();
            return Ok(json!({
                "strategy": strategy.name(),
                "labels": labels,
                "states": nearest.digest(),
                "threshold": threshold,
                "blend": blend,
            }));
        }
        // The wording, with the experts that it names.
        let shown = self.candidates.shown().into_iter();
        let examples: Vec<_> =
            shown.map(|(question, label)| Example { question: question.to_owned(), label }).collect();
        let filled = self.prompt.fill("?", &self.candidates, &examples)?;
        let mut digest = Digest::new();
        for (message, answer) in filled.turns.iter().chain([&(filled.message, filled.answer)]) {
            digest.text("message", message).text("answer", answer);
        }
        for (question, label) in self.known() {
            digest.text("known", question).text("label", &self.candidates.labels()[label]);
        }
        Ok(json!({
            "strategy": strategy.name(),
            "classifier": (*strategy == Strategy::Classifier).then_some(classifier),
            "prompt": self.prompt.name(),
            "prompt_hash": digest.finish(),
            "reading": match reading {
                Reading::Labels => "labels",
                Reading::Text => "text",
            },
            "threshold": threshold,
            "blend": blend,
        }))
    }

    /// The mixture that answers after `decision`.
    pub fn mixture_for(&self, decision: &Decision) -> Mixture {
        match self.options.blend {
            true => decision.blend(),
            false => decision.mixture(),
        }
    }

    /// The mixture that decides.
    pub fn mixture(&self) -> Mixture {
        match self.options.strategy {
            Strategy::Prompt | Strategy::Nearest => Mixture::base(),
            Strategy::Classifier => Mixture::single(self.options.classifier.as_str()),
        }
    }

    /// The questions by which the labels' probabilities are calibrated, each with the number of its label.
    fn known(&self) -> Vec<(&str, usize)> {
        let is_asked = self.nearest.is_none() && self.options.reading == Reading::Labels;
        match is_asked {
            true => self.candidates.held_out(),
            false => Vec::new(),
        }
    }

    /// Finds out what the labels' probabilities mean, by the questions in the experts' files that the prompt does not show.
    /// Once is enough, and [`Self::decide`] sees to it; hosts that use [`Self::inquiry`] call it before, or have the
    /// probabilities as they are.
    ///
    /// # Errors
    /// Those of [`Ask::new`], or of its requests.
    pub fn calibrate(&self, scheduler: &Scheduler) -> Result<()> {
        self.calibrate_by(scheduler.model(), |requests| {
            let tickets =
                requests.into_iter().map(|request| scheduler.submit(request)).collect::<Result<Vec<_>>>()?;
            tickets.into_iter().map(Ticket::outcome).collect()
        })
    }

    /// Whether [`Self::calibrate`] has nothing to do.
    pub fn is_calibrated(&self) -> bool {
        self.calibration.get().is_some() || self.known().is_empty()
    }

    fn calibrate_by(
        &self,
        model: &Model,
        complete: impl FnOnce(Vec<Request>) -> Result<Vec<Outcome>>,
    ) -> Result<()> {
        if self.is_calibrated() {
            return Ok(());
        }
        let known = self.known();
        let texts: Vec<_> = known.iter().map(|(question, _)| *question).collect();
        let (inquiries, outcomes) = self.inquire(model, &texts, complete)?;
        let mut found = Vec::with_capacity(known.len());
        for ((inquiry, outcomes), (_, label)) in inquiries.iter().zip(outcomes).zip(known) {
            if let Some(ask) = &inquiry.ask {
                found.push((raw(ask, outcomes)?.0, label));
            }
        }
        _ = self.calibration.set(Calibration::new(&found));
        Ok(())
    }

    /// Asks about all `questions`, and sorts out what came of it.
    fn inquire(
        &self,
        model: &Model,
        questions: &[&str],
        complete: impl FnOnce(Vec<Request>) -> Result<Vec<Outcome>>,
    ) -> Result<(Vec<Inquiry>, Vec<Vec<Outcome>>)> {
        let inquiry = |question: &&str| self.inquiry(model, *question, None);
        let mut inquiries = questions.iter().map(inquiry).collect::<Result<Vec<_>>>()?;
        let of_each: Vec<_> = inquiries.iter_mut().map(Inquiry::take_requests).collect();
        let counts: Vec<_> = of_each.iter().map(Vec::len).collect();
        let requests = of_each.into_iter().flatten().collect();
        let mut outcomes = complete(requests).map_err(|error| error.field("pass 1"))?.into_iter();
        let sorted = counts.into_iter().map(|n| outcomes.by_ref().take(n).collect()).collect();
        Ok((inquiries, sorted))
    }

    /// Decides one question. What was read for others before is not read again.
    ///
    /// # Errors
    /// Those of [`Ask::new`], or of its requests.
    pub fn decide<'a>(
        &self,
        scheduler: &Scheduler,
        question: impl Into<Question<'a>>,
    ) -> Result<(Decision, Cost)> {
        self.calibrate(scheduler)?;
        let began = Instant::now();
        let in_pass_1 = |error: Error| error.field("pass 1");
        let mut inquiry = self.inquiry(scheduler.model(), question, None)?;
        let tickets = inquiry.take_requests().into_iter().map(|request| scheduler.submit(request));
        let tickets = tickets.collect::<Result<Vec<_>>>().map_err(in_pass_1)?;
        let outcomes = tickets.into_iter().map(|ticket| ticket.outcome().map_err(in_pass_1));
        let (decision, n_tokens) = self.conclude(&inquiry, outcomes.collect::<Result<_>>()?)?;
        Ok((decision, Cost { n_tokens, ms: began.elapsed().as_secs_f64() * 1e3 }))
    }

    /// Prepares one question, with a threshold of its own if one is given.
    ///
    /// # Errors
    /// Those of [`Ask::new`], or a threshold that is no probability.
    pub fn inquiry<'a>(
        &self,
        model: &Model,
        question: impl Into<Question<'a>>,
        threshold: Option<f64>,
    ) -> Result<Inquiry> {
        let threshold = threshold.unwrap_or(self.options.threshold);
        check_threshold(threshold)?;
        let question = question.into();
        if let Some(nearest) = &self.nearest {
            let requests = vec![self.comparison(nearest, model, question)?];
            return Ok(Inquiry { ask: None, threshold, requests });
        }
        let ask = self.ask(model, question.text)?;
        let requests = self.requests(&ask);
        Ok(Inquiry { ask: Some(ask), threshold, requests })
    }

    /// What has to be found out to compare `question`.
    fn comparison(&self, nearest: &Nearest, model: &Model, question: Question) -> Result<Request> {
        let ending = self.ending(model)?;
        if let Some(prompt) = question.prompt.filter(|prompt| !ending.is_empty() && prompt.ends_with(ending))
        {
            return nearest.request(model, prompt.to_vec(), ending.len());
        }
        let prompt = stance::prompt(model, question.text)?;
        let request = nearest.request(model, prompt, ending.len())?;
        Ok(Request { scope: SCOPE, is_kept: true, ..request })
    }

    fn ending(&self, model: &Model) -> Result<&[Token]> {
        if let Some(ending) = self.ending.get() {
            return Ok(ending);
        }
        let ending = stance::ending(model)?;
        Ok(self.ending.get_or_init(|| ending))
    }

    /// The decision that follows from what the requests of `inquiry` became, and how many tokens were computed for it.
    ///
    /// # Errors
    /// Outcomes of other requests.
    pub fn conclude(&self, inquiry: &Inquiry, outcomes: Vec<Outcome>) -> Result<(Decision, usize)> {
        self.read(inquiry, outcomes)
    }

    /// Decides all `questions` together. What they have in common is read once.
    ///
    /// # Errors
    /// Those of [`Ask::new`] and of [`Scheduler::complete`].
    pub fn decide_all(
        &self,
        scheduler: &Scheduler,
        questions: &[&str],
        interrupt: &Interrupt,
    ) -> Result<(Vec<Decision>, Cost)> {
        let complete = |requests: Vec<Request>| {
            let mut outcomes: Vec<_> = requests.iter().map(|_| None).collect();
            scheduler.complete(requests, interrupt, |index, outcome| {
                outcomes[index] = Some(outcome);
                Ok(())
            })?;
            Ok(outcomes.into_iter().flatten().collect())
        };
        self.calibrate_by(scheduler.model(), complete)?;
        let began = Instant::now();
        let (inquiries, outcomes) = self.inquire(scheduler.model(), questions, complete)?;
        let mut n_tokens = 0;
        let mut decisions = Vec::with_capacity(inquiries.len());
        for (inquiry, outcomes) in inquiries.iter().zip(outcomes) {
            let (decision, n) = self.read(inquiry, outcomes)?;
            decisions.push(decision);
            n_tokens += n;
        }
        Ok((decisions, Cost { n_tokens, ms: began.elapsed().as_secs_f64() * 1e3 }))
    }

    /// What the scheduler has to find out for `ask`.
    fn requests(&self, ask: &Ask) -> Vec<Request> {
        let requests = match self.options.reading {
            Reading::Labels => {
                let request = |(node, tokens): (usize, Vec<_>)| {
                    let probe = Probe { after: tokens.len(), tokens: ask.tree.asked(node) };
                    Request::score(tokens, self.mixture(), vec![probe])
                };
                ask.tree.reads().enumerate().map(request).collect()
            }
            Reading::Text => {
                let how =
                    Generate { stop: vec!["\n".into()], log_probs: true, ..Generate::greedy(MAX_TOKENS) };
                vec![Request::generate(ask.prompt.clone(), self.mixture(), how)]
            }
        };
        let own = |request: Request| Request { scope: SCOPE, is_kept: true, ..request };
        requests.into_iter().map(own).collect()
    }

    /// The decision that follows from what the scheduler found out, and how many tokens were computed.
    fn read(&self, inquiry: &Inquiry, outcomes: Vec<Outcome>) -> Result<(Decision, usize)> {
        let threshold = inquiry.threshold;
        let none = || Error::engine("a question was not answered");
        let Some(ask) = &inquiry.ask else {
            let nearest = self.nearest.as_ref().ok_or_else(none)?;
            let pooled = outcomes.into_iter().next().ok_or_else(none)?.pooled()?;
            let probabilities = nearest.probabilities(&pooled.mean)?;
            return Ok((self.chosen(&probabilities, threshold), pooled.usage.n_computed()));
        };
        match self.options.reading {
            Reading::Labels => {
                let (raw, n_tokens) = raw(ask, outcomes)?;
                let calibrated = self.calibration.get().and_then(Option::as_ref);
                let probabilities = calibrated.map_or_else(|| raw.clone(), |it| it.probabilities(&raw));
                Ok((self.chosen(&probabilities, threshold), n_tokens))
            }
            Reading::Text => {
                let completion = outcomes.into_iter().next().ok_or_else(none)?.completion()?;
                let n_tokens = completion.usage.n_computed();
                Ok((self.written(&completion.text, &completion.log_probs, threshold), n_tokens))
            }
        }
    }

    /// Tokens of context that pass 1 needs for the longest of `questions`, with room for an answer in words.
    ///
    /// # Errors
    /// Those of [`Ask::new`].
    pub fn n_ctx_seq(&self, model: &Model, questions: &[&str]) -> Result<usize> {
        Ok(self.n_read(model, questions)? + MAX_TOKENS)
    }

    /// Tokens that pass 1 reads for the longest of `questions`.
    ///
    /// # Errors
    /// Those of [`Ask::new`].
    pub fn n_read(&self, model: &Model, questions: &[&str]) -> Result<usize> {
        let longest = |question: &&str| -> Result<usize> {
            let mut inquiry = self.inquiry(model, *question, None)?;
            let lengths = inquiry.take_requests().into_iter().map(|request| request.prompt.len());
            Ok(lengths.max().unwrap_or(0))
        };
        let lengths = questions.iter().map(longest).collect::<Result<Vec<_>>>()?;
        Ok(lengths.into_iter().max().unwrap_or(0))
    }

    fn ask(&self, model: &Model, question: &str) -> Result<Ask> {
        Ask::new(model, &self.prompt, &self.candidates, question)
    }

    /// The decision that the probabilities of the labels mean; of equal ones the first counts.
    fn chosen(&self, probabilities: &[f64], threshold: f64) -> Decision {
        let mut best = 0;
        for (i, p) in probabilities.iter().enumerate() {
            if *p > probabilities[best] {
                best = i;
            }
        }
        let named = self.candidates.labels().iter().cloned().zip(probabilities.iter().copied()).collect();
        self.decision(best, probabilities[best], named, threshold)
    }

    /// The decision that an answer in words means; one that names no label means `other`.
    fn written(&self, text: &str, log_probs: &[f32], threshold: f64) -> Decision {
        let labels = self.candidates.labels();
        let label = named_in(text, labels).unwrap_or(labels.len() - 1);
        let confidence = log_probs.iter().map(|&p| f64::from(p)).sum::<f64>().exp();
        self.decision(label, confidence, Vec::new(), threshold)
    }

    fn decision(
        &self,
        label: usize,
        confidence: f64,
        probabilities: Vec<(String, f64)>,
        threshold: f64,
    ) -> Decision {
        let label = self.candidates.labels()[label].clone();
        let is_sure = confidence >= threshold;
        let expert = (label != OTHER && is_sure).then(|| label.clone());
        let is_fallback = label != OTHER && !is_sure;
        Decision { expert, label, confidence, probabilities, is_fallback }
    }
}

/// The labels' probabilities as the model has them, and how many tokens were computed for that.
fn raw(ask: &Ask, outcomes: Vec<Outcome>) -> Result<(Vec<f64>, usize)> {
    let (mut branches, mut n_tokens) = (Vec::new(), 0);
    for (node, outcome) in outcomes.into_iter().enumerate() {
        let scores = outcome.scores()?;
        n_tokens += scores.usage.n_computed();
        branches.push(ask.tree.branch(node, &scores.log_probs.concat()));
    }
    Ok((ask.tree.probabilities(&branches), n_tokens))
}
