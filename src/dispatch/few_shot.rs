//! Few-shot adaptation (arXiv 2501.06252, section 3.2, strategy C): the cross-entropy method over mixture weights,
//! scored by how many of a few examples a mixture answers.
//!
//! A whole population is evaluated in one batch: each candidate has a slot of its own, and the sequences of all
//! candidates share every decode. Weights are normalised to a sum of 1 in every group of layers before they are
//! applied; where the base model may take part it has a weight like an expert's, and m = 1.

use serde::{Deserialize, Serialize};

use crate::cem::{normalised, Cem, Incumbent, Score, Ties};
use crate::engine::{complete, log_prob, prefill, Prompt, Request, SamplerOptions, Session, Thinking, Token};
use crate::error::{Error, Result};
use crate::eval::Questions;
use crate::expert::Mixture;
use crate::progress::{Interrupt, Progress};
use crate::task::Item;

/// What is searched, and scored on what.
pub struct FewShot<'a> {
    shots: &'a Questions<'a>,
    experts: Vec<String>,
    with_base: bool,
}

/// One generation of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// The best score in the population.
    pub best: f64,
    /// Its mean.
    pub mean: f64,
    /// The incumbent's score after it.
    pub incumbent: Score,
    /// Largest spread of a coordinate that the next generation is drawn with.
    pub std: f64,
}

/// A search as far as it has come. It can be stored between generations, and goes on as it would have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Its distribution and its best candidate.
    pub cem: Cem,
    /// The generations that are done.
    pub generations: Vec<Generation>,
}

impl State {
    /// A search that has not begun.
    pub fn new(cem: Cem) -> Self {
        Self { cem, generations: Vec::new() }
    }
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The mixture to deploy.
    pub mixture: Mixture,
    /// The candidate that it is.
    pub incumbent: Incumbent,
    /// All generations.
    pub generations: Vec<Generation>,
}

impl<'a> FewShot<'a> {
    /// A search over mixtures of `experts`, and of the base model if `with_base`.
    ///
    /// # Errors
    /// No experts, or no shots.
    pub fn new(shots: &'a Questions<'a>, experts: &[&str], with_base: bool) -> Result<Self> {
        if experts.is_empty() {
            return Err(Error::expected("1 expert or more", 0).hint("load some with `Expert::open`"));
        }
        if shots.items().is_empty() {
            return Err(Error::expected("1 shot or more", 0));
        }
        Ok(Self { shots, experts: experts.iter().map(|&name| name.to_owned()).collect(), with_base })
    }

    /// Weights of one group of layers.
    pub fn n_weights(&self) -> usize {
        self.experts.len() + usize::from(self.with_base)
    }

    /// The mixture of a candidate's weights, normalised; the base model's weight, the last of each group, is what
    /// the others leave.
    pub fn mixture(&self, alphas: &[f64]) -> Result<Mixture> {
        let n = self.n_weights();
        let weights = normalised(alphas, n);
        let of_experts: Vec<_> =
            weights.chunks(n).flat_map(|group| &group[..self.experts.len()]).copied().collect();
        let names: Vec<_> = self.experts.iter().map(String::as_str).collect();
        Mixture::grouped(&names, &of_experts)
    }

    /// Scores each mixture on all shots, greedily: the mean score, and for ties the mean log-likelihood of the
    /// tokens of the answers that `ties` names: its own correct ones, or the shots' reference completions. All
    /// together, mixture i in slot i + 1 of each of `sessions`, which need so many slots.
    ///
    /// # Errors
    /// Those of [`complete`], of [`prefill`] and of the task's scoring.
    pub fn score(
        &self,
        sessions: &mut [Session],
        mixtures: &[Mixture],
        ties: Ties,
        interrupt: &Interrupt,
    ) -> Result<Vec<Score>> {
        for session in &mut *sessions {
            for (slot, mixture) in (1..).zip(mixtures) {
                session.set_mixture(slot, mixture)?;
            }
        }
        let task = self.shots.task();
        let generation = task.generation();
        let items = self.shots.items();
        let request = |(slot, shot): (u32, usize)| Request {
            prompt: self.shots.prompts()[shot].clone(),
            slot,
            sampler: SamplerOptions { temperature: 0.0, ..SamplerOptions::default() },
            max_tokens: generation.max_tokens,
            stop: generation.stop.clone(),
            log_probs: true,
        };
        let slots = 1..=mixtures.len() as u32;
        let places: Vec<_> =
            (0..items.len()).flat_map(|shot| slots.clone().map(move |slot| (slot, shot))).collect();
        let requests: Vec<_> = places.iter().copied().map(request).collect();
        // By mixture and shot, so that the sums do not depend on the order in which answers end.
        let mut answers = vec![vec![(0.0, 0.0, 0usize); items.len()]; mixtures.len()];
        complete(sessions, &requests, interrupt, |index, completion| {
            let (slot, shot) = places[index];
            let text = Thinking::whole(self.shots.thinking(), completion.text);
            let value = task.score(&items[shot], &text)?.value;
            let answer = &mut answers[slot as usize - 1][shot];
            answer.0 = value;
            if value >= 1.0 {
                answer.1 = completion.log_probs.iter().map(|&p| f64::from(p)).sum();
                answer.2 = completion.log_probs.len();
            }
            Ok(())
        })?;
        let gold = match ties {
            Ties::Own => None,
            Ties::Gold => Some(self.gold(sessions, mixtures.len(), interrupt)?),
        };
        let score = |(i, answers): (usize, &Vec<(f64, f64, usize)>)| {
            let n_tokens: usize = answers.iter().map(|answer| answer.2).sum();
            let log_likelihood: f64 = answers.iter().map(|answer| answer.1).sum();
            let own = (n_tokens > 0).then(|| log_likelihood / n_tokens as f64);
            Score {
                value: answers.iter().map(|answer| answer.0).sum::<f64>() / answers.len() as f64,
                tie: gold.as_ref().map_or(own, |gold| gold[i]),
            }
        };
        Ok(answers.iter().enumerate().map(score).collect())
    }

    /// For the mixture in each of the slots from 1 to `n`: the mean log-likelihood of the tokens of all shots' reference
    /// completions, as far as an answer may be long; `None` if these are empty.
    fn gold(&self, sessions: &mut [Session], n: usize, interrupt: &Interrupt) -> Result<Vec<Option<f64>>> {
        let Some(session) = sessions.first() else { return Err(Error::expected("1 session or more", 0)) };
        let model = session.model().clone();
        let max_tokens = self.shots.task().generation().max_tokens;
        let completion = |item: &Item| -> Result<Vec<Token>> {
            let mut tokens = model.tokenize(&item.completion, false, false)?;
            tokens.truncate(max_tokens);
            Ok(tokens)
        };
        let completions: Vec<Vec<Token>> =
            self.shots.items().iter().map(completion).collect::<Result<_>>()?;
        let closed = model.tokenize(&Thinking::closed(self.shots.thinking()), false, true)?;
        let mut places = Vec::new();
        let mut prompts = Vec::new();
        for (shot, completion) in completions.iter().enumerate() {
            // What the last token leads to is not asked.
            let Some((_, read)) = completion.split_last() else { continue };
            for slot in 1..=n as u32 {
                let tokens = [&self.shots.prompts()[shot][..], &closed, read].concat();
                places.push((slot as usize - 1, shot));
                prompts.push(Prompt { tokens, slot, n_outputs: completion.len() });
            }
        }
        // By prompt, so that the sums do not depend on which session was faster.
        let mut sums = vec![(0usize, 0.0); prompts.len()];
        prefill(sessions, &prompts, interrupt, |index, logits| {
            let (n_seen, sum) = &mut sums[index];
            *sum += f64::from(log_prob(logits, completions[places[index].1][*n_seen]));
            *n_seen += 1;
            Ok(())
        })?;
        let mut totals = vec![(0usize, 0.0); n];
        for ((mixture, _), (n_seen, sum)) in places.into_iter().zip(sums) {
            totals[mixture].0 += n_seen;
            totals[mixture].1 += sum;
        }
        Ok(totals.into_iter().map(|(n, sum)| (n > 0).then(|| sum / n as f64)).collect())
    }

    /// Goes on with `state`, whose candidates have [`Self::n_weights`] weights for each group, to its end. `save` gets
    /// it after each generation. Progress counts generations.
    pub fn search(
        &self,
        sessions: &mut [Session],
        state: &mut State,
        progress: &dyn Progress,
        interrupt: &Interrupt,
        save: impl FnMut(&State) -> Result<()>,
    ) -> Result<Found> {
        progress.start(state.cem.settings().generations as u64, state.cem.generation() as u64);
        let result = self.generations(sessions, state, progress, interrupt, save);
        progress.finish();
        result?;
        let generations = state.generations.clone();
        let incumbent =
            state.cem.incumbent().cloned().ok_or_else(|| Error::expected("1 generation or more", 0))?;
        Ok(Found { mixture: self.mixture(&incumbent.alphas)?, incumbent, generations })
    }

    fn generations(
        &self,
        sessions: &mut [Session],
        state: &mut State,
        progress: &dyn Progress,
        interrupt: &Interrupt,
        mut save: impl FnMut(&State) -> Result<()>,
    ) -> Result<()> {
        while !state.cem.is_done() {
            let cem = &mut state.cem;
            let mixtures = cem.ask().iter().map(|alphas| self.mixture(alphas)).collect::<Result<Vec<_>>>()?;
            let scores = self.score(sessions, &mixtures, cem.settings().ties, interrupt)?;
            cem.tell(&scores)?;
            state.generations.push(Generation {
                best: scores.iter().map(|score| score.value).fold(f64::NEG_INFINITY, f64::max),
                mean: scores.iter().map(|score| score.value).sum::<f64>() / scores.len() as f64,
                incumbent: cem.incumbent().map_or(scores[0], |incumbent| incumbent.score),
                std: cem.std().iter().copied().fold(0.0, f64::max),
            });
            save(state)?;
            progress.advance(1);
        }
        Ok(())
    }

    /// The best of the experts alone by the same scores and rules, the first of equal ones: what a mixture has to beat.
    ///
    /// # Errors
    /// As [`Self::score`].
    pub fn best_single(
        &self,
        sessions: &mut [Session],
        ties: Ties,
        interrupt: &Interrupt,
    ) -> Result<(String, Score)> {
        let mixtures: Vec<_> = self.experts.iter().map(Mixture::single).collect();
        let scores = self.score(sessions, &mixtures, ties, interrupt)?;
        let mut best = 0;
        for i in 1..scores.len() {
            if scores[i].beats(&scores[best]) {
                best = i;
            }
        }
        Ok((self.experts[best].clone(), scores[best]))
    }
}
