//! Pass 1: from a question to an expert, or to the base model.

use std::time::Instant;

use serde_json::{json, Value};

use super::{named_in, AdaptPrompt, Ask, Candidates, OTHER};
use crate::engine::{
    complete, log_prob, prefill, Input, Model, Prompt, Reader, Request, Sampler, SamplerOptions, Session,
    Token,
};
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
        if !(0.0..=1.0).contains(&options.threshold) {
            return Err(
                Error::expected("a probability between 0 and 1", options.threshold).setting("threshold")
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

    /// Decides one question with `reader`'s sequence in `slot`, which holds [`Self::mixture`] (0 for the base model).
    /// What the reader has read with that slot before is not computed again.
    pub fn decide(
        &self,
        session: &mut Session,
        reader: &mut Reader,
        slot: u32,
        question: &str,
    ) -> Result<(Decision, Cost)> {
        let began = Instant::now();
        let ask = self.ask(session.model(), question)?;
        let mut n_tokens = 0;
        let decision = match self.options.reading {
            Reading::Labels => {
                let mut branches = Vec::new();
                for (node, tokens) in ask.tree.reads().enumerate() {
                    n_tokens += reader.read(session, slot, &tokens)?;
                    check(session.logits(0))?;
                    branches.push(ask.tree.branch(node, session.logits(0)));
                }
                self.chosen(&ask.tree.probabilities(&branches))
            }
            Reading::Text => {
                let (text, log_probs, n) = write(session, reader, slot, &ask.prompt)?;
                n_tokens = n;
                self.written(&text, &log_probs)
            }
        };
        Ok((decision, Cost { n_tokens, ms: began.elapsed().as_secs_f64() * 1e3 }))
    }

    /// Decides all `questions` in batches, with `sessions` whose `slot` holds [`Self::mixture`].
    pub fn decide_all(
        &self,
        sessions: &mut [Session],
        slot: u32,
        questions: &[&str],
        interrupt: &Interrupt,
    ) -> Result<(Vec<Decision>, Cost)> {
        let began = Instant::now();
        let Some(session) = sessions.first() else {
            return Err(Error::expected("1 session or more", 0));
        };
        let model = session.model();
        let asks = questions.iter().map(|question| self.ask(model, question)).collect::<Result<Vec<_>>>()?;
        let mut n_tokens = 0;
        let decisions = match self.options.reading {
            Reading::Labels => {
                let mut places = Vec::new();
                let mut prompts = Vec::new();
                for (i, ask) in asks.iter().enumerate() {
                    for (node, tokens) in ask.tree.reads().enumerate() {
                        n_tokens += tokens.len();
                        places.push((i, node));
                        prompts.push(Prompt { tokens, slot, n_outputs: 1 });
                    }
                }
                let mut branches: Vec<_> =
                    asks.iter().map(|ask| vec![Vec::new(); ask.tree.reads().count()]).collect();
                prefill(sessions, &prompts, interrupt, |index, logits| {
                    let (i, node) = places[index];
                    branches[i][node] = asks[i].tree.branch(node, logits);
                    Ok(())
                })
                .map_err(|error| error.field("pass 1"))?;
                asks.iter()
                    .zip(&branches)
                    .map(|(ask, branches)| self.chosen(&ask.tree.probabilities(branches)))
                    .collect()
            }
            Reading::Text => {
                let requests: Vec<_> = asks.iter().map(|ask| self.request(ask, slot)).collect();
                let mut decisions = vec![None; requests.len()];
                complete(sessions, &requests, interrupt, |index, completion| {
                    n_tokens += requests[index].prompt.len() + completion.tokens.len();
                    decisions[index] = Some(self.written(&completion.text, &completion.log_probs));
                    Ok(())
                })
                .map_err(|error| error.field("pass 1"))?;
                let all: Option<_> = decisions.into_iter().collect();
                all.ok_or_else(|| Error::engine("some questions were not answered"))?
            }
        };
        Ok((decisions, Cost { n_tokens, ms: began.elapsed().as_secs_f64() * 1e3 }))
    }

    /// Tokens of context that pass 1 needs for the longest of `questions`, with room for an answer in words.
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

    fn request(&self, ask: &Ask, slot: u32) -> Request {
        Request {
            prompt: ask.prompt.clone(),
            slot,
            sampler: greedy(),
            max_tokens: MAX_TOKENS,
            stop: vec!["\n".into()],
            log_probs: true,
        }
    }

    /// The decision that the probabilities of the labels mean; of equal ones the first counts.
    fn chosen(&self, probabilities: &[f64]) -> Decision {
        let mut best = 0;
        for (i, p) in probabilities.iter().enumerate() {
            if *p > probabilities[best] {
                best = i;
            }
        }
        let named = self.candidates.labels().iter().cloned().zip(probabilities.iter().copied()).collect();
        self.decision(best, probabilities[best], named)
    }

    /// The decision that an answer in words means; one that names no label means `other`.
    fn written(&self, text: &str, log_probs: &[f32]) -> Decision {
        let labels = self.candidates.labels();
        let label = named_in(text, labels).unwrap_or(labels.len() - 1);
        let confidence = log_probs.iter().map(|&p| f64::from(p)).sum::<f64>().exp();
        self.decision(label, confidence, Vec::new())
    }

    fn decision(&self, label: usize, confidence: f64, probabilities: Vec<(String, f64)>) -> Decision {
        let label = self.candidates.labels()[label].clone();
        let is_sure = confidence >= self.options.threshold;
        let expert = (label != OTHER && is_sure).then(|| label.clone());
        let is_fallback = label != OTHER && !is_sure;
        Decision { expert, label, confidence, probabilities, is_fallback }
    }
}

/// The line that the model writes after `prompt` in `reader`'s sequence, the log-probabilities of its tokens, and how
/// many tokens were computed. What other sequences hold stays, unlike with [`complete`].
fn write(
    session: &mut Session,
    reader: &mut Reader,
    slot: u32,
    prompt: &[Token],
) -> Result<(String, Vec<f32>, usize)> {
    let model = session.model().clone();
    let mut sampler = Sampler::new(&greedy())?;
    let mut n_tokens = reader.read(session, slot, prompt)?;
    let (mut text, mut log_probs) = (Vec::new(), Vec::new());
    loop {
        let logits = session.logits(0);
        let token = sampler.sample(logits).map_err(|error| error.file(model.file().path()))?;
        log_probs.push(log_prob(logits, token));
        if model.is_end(token) {
            break;
        }
        text.extend(model.piece(token));
        if text.contains(&b'\n') || log_probs.len() == MAX_TOKENS {
            break;
        }
        session.decode(&[Input { seq: reader.seq(), token, output: true }])?;
        reader.push(token);
        n_tokens += 1;
    }
    let line = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
    Ok((line, log_probs, n_tokens))
}

fn greedy() -> SamplerOptions {
    SamplerOptions { temperature: 0.0, ..SamplerOptions::default() }
}

fn check(logits: &[f32]) -> Result<()> {
    match logits.iter().any(|logit| logit.is_nan()) {
        true => Err(Error::engine("the model computed NaN")
            .hint("check the sidecar with `Sidecar::verify`, or lower `strength`")),
        false => Ok(()),
    }
}
