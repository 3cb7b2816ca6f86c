//! Few-shot adaptation (arXiv 2501.06252, section 3.2, strategy C): the cross-entropy method over mixture weights,
//! scored by how many of a few examples a mixture answers.
//!
//! A whole population is evaluated in one batch: the sequences of all candidates share every decode. Weights are normalised to a sum of 1 in every group of layers before they are
//! applied; where the base model may take part it has a weight like an expert's, and m = 1.

use serde::{Deserialize, Serialize};

use crate::cem::{normalised, Cem, Incumbent, Score, Ties};
use crate::engine::scheduler::Generate;
use crate::engine::{Request, SamplerOptions, Scheduler, Thinking, Token};
use crate::error::{Error, Result};
use crate::eval::Questions;
use crate::expert::Mixture;
use crate::progress::{Interrupt, Progress};

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
    ///
    /// # Errors
    /// Not a weight for each expert in each group.
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
    /// together, in the same batches.
    ///
    /// # Errors
    /// Those of [`Scheduler::complete`] and of the task's scoring.
    pub fn score(
        &self,
        scheduler: &Scheduler,
        mixtures: &[Mixture],
        ties: Ties,
        interrupt: &Interrupt,
    ) -> Result<Vec<Score>> {
        let task = self.shots.task();
        let items = self.shots.items();
        let places: Vec<_> =
            (0..items.len()).flat_map(|shot| (0..mixtures.len()).map(move |i| (i, shot))).collect();
        let how = Generate { log_probs: true, ..self.shots.generate(SamplerOptions::greedy()) };
        let request = |&(i, shot): &(usize, usize)| {
            let prompt = self.shots.prompts()[shot].clone();
            Request::generate(prompt, mixtures[i].clone(), how.clone())
        };
        let requests = places.iter().map(request).collect();
        // By mixture and shot, so that the sums do not depend on the order in which answers end.
        let mut answers = vec![vec![(0.0, 0.0, 0usize); items.len()]; mixtures.len()];
        scheduler.complete(requests, interrupt, |index, outcome| {
            let (i, shot) = places[index];
            let completion = outcome.completion()?;
            let value = task.score(&items[shot], &completion.text)?.value;
            let answer = &mut answers[i][shot];
            answer.0 = value;
            if value >= 1.0 {
                answer.1 = completion.log_probs.iter().map(|&p| f64::from(p)).sum();
                answer.2 = completion.log_probs.len();
            }
            Ok(())
        })?;
        let gold = match ties {
            Ties::Own => None,
            Ties::Gold => Some(self.gold(scheduler, mixtures, interrupt)?),
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

    /// For each mixture: the mean log-likelihood of the tokens of all shots' reference completions, as far as an answer may
    /// be long; `None` if these are empty.
    fn gold(
        &self,
        scheduler: &Scheduler,
        mixtures: &[Mixture],
        interrupt: &Interrupt,
    ) -> Result<Vec<Option<f64>>> {
        let model = scheduler.model();
        let max_tokens = self.shots.task().generation().max_tokens;
        let closed = model.tokenize(&Thinking::closed(self.shots.thinking()), false, true)?;
        let mut places = Vec::new();
        let mut requests = Vec::new();
        for (item, prompt) in self.shots.items().iter().zip(self.shots.prompts()) {
            let mut completion: Vec<Token> = model.tokenize(&item.completion, false, false)?;
            completion.truncate(max_tokens);
            if completion.is_empty() {
                continue;
            }
            let prompt = [&prompt[..], &closed].concat();
            for (i, mixture) in mixtures.iter().enumerate() {
                places.push(i);
                requests.push(Request::likelihood(&prompt, &completion, mixture.clone()));
            }
        }
        // By request, so that the sums do not depend on the order in which they end.
        let mut sums = vec![(0usize, 0.0); requests.len()];
        scheduler.complete(requests, interrupt, |index, outcome| {
            let log_probs = outcome.scores()?.log_probs.concat();
            sums[index] = (log_probs.len(), log_probs.iter().map(|&p| f64::from(p)).sum());
            Ok(())
        })?;
        let mut totals = vec![(0usize, 0.0); mixtures.len()];
        for (i, (n, sum)) in places.into_iter().zip(sums) {
            totals[i].0 += n;
            totals[i].1 += sum;
        }
        Ok(totals.into_iter().map(|(n, sum)| (n > 0).then(|| sum / n as f64)).collect())
    }

    /// Goes on with `state`, whose candidates have [`Self::n_weights`] weights for each group, to its end. `save` gets
    /// it after each generation. Progress counts generations.
    ///
    /// # Errors
    /// Those of [`Self::score`] and of `save`, or a search without generations.
    pub fn search(
        &self,
        scheduler: &Scheduler,
        state: &mut State,
        progress: &dyn Progress,
        interrupt: &Interrupt,
        save: impl FnMut(&State) -> Result<()>,
    ) -> Result<Found> {
        progress.start(state.cem.settings().generations as u64, state.cem.generation() as u64);
        let result = self.generations(scheduler, state, progress, interrupt, save);
        progress.finish();
        result?;
        let generations = state.generations.clone();
        let incumbent =
            state.cem.incumbent().cloned().ok_or_else(|| Error::expected("1 generation or more", 0))?;
        Ok(Found { mixture: self.mixture(&incumbent.alphas)?, incumbent, generations })
    }

    fn generations(
        &self,
        scheduler: &Scheduler,
        state: &mut State,
        progress: &dyn Progress,
        interrupt: &Interrupt,
        mut save: impl FnMut(&State) -> Result<()>,
    ) -> Result<()> {
        while !state.cem.is_done() {
            let cem = &mut state.cem;
            let mixtures = cem.ask().iter().map(|alphas| self.mixture(alphas)).collect::<Result<Vec<_>>>()?;
            let scores = self.score(scheduler, &mixtures, cem.settings().ties, interrupt)?;
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
        scheduler: &Scheduler,
        ties: Ties,
        interrupt: &Interrupt,
    ) -> Result<(String, Score)> {
        let mixtures: Vec<_> = self.experts.iter().map(Mixture::single).collect();
        let scores = self.score(scheduler, &mixtures, ties, interrupt)?;
        let mut best = 0;
        for i in 1..scores.len() {
            if scores[i].beats(&scores[best]) {
                best = i;
            }
        }
        Ok((self.experts[best].clone(), scores[best]))
    }
}
