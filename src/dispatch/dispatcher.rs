//! Pass 1: from a question to an expert, or to the base model.

use std::time::Instant;

use serde_json::{json, Value};

use super::{named_in, AdaptPrompt, Ask, Candidates, OTHER};
use crate::engine::scheduler::{Generate, Outcome, Probe};
use crate::engine::{Model, Request, Scheduler};
use crate::error::{Error, Result};
use crate::expert::{ExpertSet, Mixture};
use crate::progress::Interrupt;

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// The base model.
    Prompt,
    /// An expert that was trained to name the skill of a question.
    Classifier,
}

impl Strategy {
    /// `prompt` or `classifier`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Classifier => "classifier",
        }
    }
}

/// How the answer of pass 1 is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// From the probabilities of the labels; nothing is written.
    Labels,
    /// From what the model writes, a line of at most 16 tokens.
    Text,
}

/// Name of the classifier where no other is given.
pub const CLASSIFIER: &str = "cls";

/// Most tokens that an answer in words may have.
const MAX_TOKENS: usize = 16;

/// What pass 1 has read is not used in pass 2: the base model, chosen for lack of a better, answers to the bit as it would
/// have without pass 1.
const SCOPE: u64 = 1;

/// How pass 1 is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who decides.
    pub strategy: Strategy,
    /// Name of the expert that decides with [`Strategy::Classifier`]; it is never chosen to answer.
    pub classifier: String,
    /// How the answer is read.
    pub reading: Reading,
    /// From 0 to 1; a choice that is less sure is given to the base model.
    pub threshold: f64,
}

impl Default for Options {
    /// The base model chooses, by the probabilities of the labels, however sure it is.
    fn default() -> Self {
        Self {
            strategy: Strategy::Prompt,
            classifier: CLASSIFIER.into(),
            reading: Reading::Labels,
            threshold: 0.0,
        }
    }
}

/// What pass 1 decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The expert that answers; `None` for the base model.
    pub expert: Option<String>,
    /// The label that was chosen: the name of an expert, or [`OTHER`].
    pub label: String,
    /// Its probability among the labels; of what was written, where an answer in words was read.
    pub confidence: f64,
    /// Label and probability of all labels; empty where an answer in words was read.
    pub probabilities: Vec<(String, f64)>,
    /// Whether the threshold overruled the label.
    pub is_fallback: bool,
}

impl Decision {
    /// The mixture for pass 2.
    pub fn mixture(&self) -> Mixture {
        self.expert.as_ref().map_or_else(Mixture::base, Mixture::single)
    }
}

/// What pass 1 took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Tokens that were computed, read or written.
    pub n_tokens: usize,
    /// Time, in milliseconds.
    pub ms: f64,
}

/// A question for pass 1, for hosts that wait in their own way: what its requests become goes to [`Dispatcher::conclude`].
pub struct Inquiry {
    ask: Ask,
    threshold: f64,
    requests: Vec<Request>,
}

impl Inquiry {
    /// What has to be found out, in the order in which the outcomes are wanted. They are taken out.
    pub fn take_requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests)
    }
}

/// Asks for experts.
pub struct Dispatcher {
    options: Options,
    prompt: AdaptPrompt,
    candidates: Candidates,
}

impl Dispatcher {
    /// A dispatcher among `experts`.
    ///
    /// # Errors
    /// No experts to choose from, names that cannot be labels, a classifier that is not loaded, or a threshold that
    /// is no probability.
    pub fn new(experts: &ExpertSet, prompt: AdaptPrompt, options: Options) -> Result<Self> {
        check_threshold(options.threshold)?;
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
        let candidates = Candidates::new(experts.iter(), &options.classifier)?;
        Ok(Self { options, prompt, candidates })
    }

    /// The options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The labels.
    pub fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// All that can change a decision, but for the experts' multipliers.
    ///
    /// # Errors
    /// A prompt that cannot be filled in.
    pub fn identity(&self) -> Result<Value> {
        let Options { strategy, classifier, reading, threshold } = &self.options;
        // The wording, with the experts that it names.
        let super::prompt::Filled { message, answer } = self.prompt.fill("?", &self.candidates)?;
        Ok(json!({
            "strategy": strategy.name(),
            "classifier": (*strategy == Strategy::Classifier).then_some(classifier),
            "prompt": self.prompt.name(),
            "prompt_hash": blake3::hash(format!("{message}\0{answer}").as_bytes()).to_string(),
            "reading": match reading {
                Reading::Labels => "labels",
                Reading::Text => "text",
            },
            "threshold": threshold,
        }))
    }

    /// The mixture that decides.
    pub fn mixture(&self) -> Mixture {
        match self.options.strategy {
            Strategy::Prompt => Mixture::base(),
            Strategy::Classifier => Mixture::single(self.options.classifier.as_str()),
        }
    }

    /// Decides one question. What was read for others before is not read again.
    ///
    /// # Errors
    /// Those of [`Ask::new`], or of its requests.
    pub fn decide(&self, scheduler: &Scheduler, question: &str) -> Result<(Decision, Cost)> {
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
    pub fn inquiry(&self, model: &Model, question: &str, threshold: Option<f64>) -> Result<Inquiry> {
        let threshold = threshold.unwrap_or(self.options.threshold);
        check_threshold(threshold)?;
        let ask = self.ask(model, question)?;
        let requests = self.requests(&ask);
        Ok(Inquiry { ask, threshold, requests })
    }

    /// The decision that follows from what the requests of `inquiry` became, and how many tokens were computed for it.
    ///
    /// # Errors
    /// Outcomes of other requests.
    pub fn conclude(&self, inquiry: &Inquiry, outcomes: Vec<Outcome>) -> Result<(Decision, usize)> {
        self.read(&inquiry.ask, outcomes, inquiry.threshold)
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
        let began = Instant::now();
        let ask = |question: &&str| self.ask(scheduler.model(), question);
        let asks = questions.iter().map(ask).collect::<Result<Vec<_>>>()?;
        let mut requests = Vec::new();
        let mut askers = Vec::new();
        for (i, ask) in asks.iter().enumerate() {
            let own = self.requests(ask);
            askers.extend(std::iter::repeat_n(i, own.len()));
            requests.extend(own);
        }
        let mut outcomes: Vec<_> = requests.iter().map(|_| None).collect();
        scheduler
            .complete(requests, interrupt, |index, outcome| {
                outcomes[index] = Some(outcome);
                Ok(())
            })
            .map_err(|error| error.field("pass 1"))?;
        let mut of_asks: Vec<Vec<Outcome>> = asks.iter().map(|_| Vec::new()).collect();
        for (asker, outcome) in askers.into_iter().zip(outcomes) {
            of_asks[asker].extend(outcome);
        }
        let mut n_tokens = 0;
        let mut decisions = Vec::with_capacity(asks.len());
        for (ask, outcomes) in asks.iter().zip(of_asks) {
            let (decision, n) = self.read(ask, outcomes, self.options.threshold)?;
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

    /// The decision that follows from what the scheduler found out for `ask`, and how many tokens were computed.
    fn read(&self, ask: &Ask, outcomes: Vec<Outcome>, threshold: f64) -> Result<(Decision, usize)> {
        let mut n_tokens = 0;
        match self.options.reading {
            Reading::Labels => {
                let mut branches = Vec::new();
                for (node, outcome) in outcomes.into_iter().enumerate() {
                    let scores = outcome.scores()?;
                    n_tokens += scores.usage.n_computed();
                    branches.push(ask.tree.branch(node, &scores.log_probs.concat()));
                }
                Ok((self.chosen(&ask.tree.probabilities(&branches), threshold), n_tokens))
            }
            Reading::Text => {
                let none = || Error::engine("a question was not answered");
                let completion = outcomes.into_iter().next().ok_or_else(none)?.completion()?;
                n_tokens += completion.usage.n_computed();
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
            Ok(self.ask(model, question)?.tree.reads().map(|tokens| tokens.len()).max().unwrap_or(0))
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

fn check_threshold(threshold: f64) -> Result<()> {
    match (0.0..=1.0).contains(&threshold) {
        true => Ok(()),
        false => Err(Error::expected("a probability between 0 and 1", threshold).setting("threshold")),
    }
}
