//! The loop: answer, score, estimate, step; now and then validate; after each step keep everything.

use std::time::Instant;

use serde_json::Value;

use super::estimator::{Estimator, Step};
use super::folder::Folder;
use super::groups::is_flat;
use super::log::{Line, Log, StepLine, ValidationLine};
use super::options::Options;
use super::policy::{Policy, Wanted};
use super::state::{mean, Best, State};
use super::{draws, validation};
use crate::error::{Error, Result};
use crate::optimiser::clip;
use crate::progress::{Interrupt, Progress};
use crate::task::Part;

/// What a run needs.
pub struct Run<'a> {
    /// What it is made with.
    pub options: &'a Options,
    /// All that changes the result, for the checkpoint.
    pub settings: &'a Value,
    /// σ by weight.
    pub sigma: &'a [Vec<f32>],
    /// What is trained.
    pub policy: &'a mut dyn Policy,
    /// Where gradients come from.
    pub estimator: &'a mut dyn Estimator,
    /// Where the state is kept.
    pub folder: &'a Folder,
    /// What is written down.
    pub log: Log,
    /// Counts steps.
    pub progress: &'a dyn Progress,
    /// Raised by Ctrl-C.
    pub interrupt: &'a Interrupt,
}

/// Why a run ended.
#[derive(Debug)]
pub enum Ended {
    /// All steps are done.
    Done,
    /// Validation did not get better for as long as patience lasts.
    Patience,
    /// After learning, all rewards became equal.
    Mastered,
    /// All rewards were equal from the beginning; the value they have.
    Flat(f64),
    /// Ctrl-C.
    Interrupted,
    /// Something failed, such as a gradient that is not finite.
    Failed(Error),
}

impl Ended {
    /// Whether the run came to an end of its own, with something learnt.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Done | Self::Patience | Self::Mastered)
    }

    /// One word, for programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Patience => "patience",
            Self::Mastered => "mastered",
            Self::Flat(_) => "flat",
            Self::Interrupted => "interrupted",
            Self::Failed(_) => "failed",
        }
    }
}

impl Run<'_> {
    /// Trains on from `state` until an end. The state is that of the last step which went well; it is in the
    /// folder too.
    ///
    /// # Errors
    /// The state cannot be kept. Every other trouble is an [`Ended`].
    pub fn go(mut self, mut state: State) -> Result<(Ended, State)> {
        self.progress.start(self.options.schedule.steps, state.step);
        let ended = match self.steps(&mut state) {
            Ok(ended) => ended,
            Err(error) if error.is_interrupted() => Ended::Interrupted,
            Err(error) => Ended::Failed(error),
        };
        self.progress.finish();
        self.folder.save(&state, self.settings)?;
        Ok((ended, state))
    }

    fn steps(&mut self, state: &mut State) -> Result<Ended> {
        loop {
            let is_last = state.step >= self.options.schedule.steps;
            let is_due = is_last || state.step.is_multiple_of(self.options.validate_every);
            // Work on a copy, so that what fails half-way leaves nothing.
            let mut next = state.clone();
            if is_due && state.validated != Some(state.step) {
                let line = self.validate(&mut next)?;
                self.keep(state, next, &Line::Validation(line))?;
                continue;
            }
            if let Some(ended) = self.ended(state) {
                return Ok(ended);
            }
            let line = self.step(&mut next)?;
            self.progress.status(&line.summary());
            self.keep(state, next, &Line::Step(line))?;
            self.progress.advance(1);
        }
    }

    /// Writes down what happened, and makes `next` the state.
    fn keep(&mut self, state: &mut State, next: State, line: &Line) -> Result<()> {
        self.log.write(line)?;
        self.folder.save(&next, self.settings)?;
        *state = next;
        Ok(())
    }

    /// Whether the run ends here.
    fn ended(&self, state: &State) -> Option<Ended> {
        if state.step >= self.options.schedule.steps {
            return Some(Ended::Done);
        }
        if state.n_flat >= self.options.flat_steps {
            return Some(match state.has_learned {
                true => Ended::Mastered,
                false => Ended::Flat(state.flat_reward),
            });
        }
        self.options.patience.is_some_and(|patience| state.n_worse >= patience).then_some(Ended::Patience)
    }

    fn validate(&mut self, state: &mut State) -> Result<ValidationLine> {
        let began = Instant::now();
        let (options, interrupt) = (self.options, self.interrupt);
        let m = options.parametrisation.multipliers(&state.raw, self.sigma);
        let scores = validation::validate(&m, options.validation_items, self.policy, interrupt)?;
        let accuracy = mean(&scores);
        let seconds = began.elapsed().as_secs_f64();
        let line = ValidationLine {
            step: state.step,
            accuracy,
            ci95: validation::interval(&scores, options.seed),
            n: scores.len(),
            seconds,
        };
        if state.validated.is_none() {
            state.before.clone_from(&scores);
        }
        state.validated = Some(state.step);
        state.n_worse += 1;
        if state.best.as_ref().is_none_or(|best| accuracy > best.accuracy()) {
            state.best = Some(Best { step: state.step, m, scores });
            state.n_worse = 0;
        }
        state.seconds += seconds;
        Ok(line)
    }

    fn step(&mut self, state: &mut State) -> Result<StepLine> {
        let began = Instant::now();
        let (options, sigma, interrupt) = (self.options, self.sigma, self.interrupt);
        let m = options.parametrisation.multipliers(&state.raw, sigma);
        let n_items = self.policy.n_items(Part::Train);
        let items = draws::batch(options.seed, state.step, n_items, options.prompts);
        let wanted: Vec<_> = items
            .iter()
            .flat_map(|&item| (0..options.samples).map(move |sample| (item, sample)))
            .map(|(item, sample)| Wanted {
                candidate: 0,
                part: Part::Train,
                item,
                seed: draws::seed(options.seed, "answer", &[state.step, item as u64, sample as u64]) as u32,
                temperature: options.temperature,
            })
            .collect();
        let answers = self.policy.answer(&[&m], &wanted, interrupt)?;
        let rewards: Vec<_> = answers.answers.iter().map(|answer| answer.reward).collect();
        state.n_flat = if is_flat(&rewards) { state.n_flat + 1 } else { 0 };
        state.has_learned |= state.n_flat == 0;
        state.flat_reward = rewards.first().copied().unwrap_or(0.0);

        let by_prompt = || answers.answers.chunks(options.samples).zip(rewards.chunks(options.samples));
        let n_informative = by_prompt().filter(|(_, rewards)| !is_flat(rewards)).count();
        let mut groups: Vec<_> = by_prompt()
            .zip(&items)
            .map(|((answers, _), &item)| options.baseline.group(self.policy.prompt(item), answers))
            .collect();
        if options.kl == 0.0 {
            groups.retain(|group| group.rollouts.iter().any(|rollout| rollout.advantage != 0.0));
        }
        // The mean is over all rollouts, and those left out have a gradient of 0.
        let share = groups.len() as f64 / items.len() as f64;
        let estimating = Instant::now();
        let rate = options.schedule.rate(state.step);
        let (mut norm, mut entropy, mut kl) = (0.0, None, None);
        if !groups.is_empty() || !self.estimator.uses_groups() {
            let step = Step {
                m: &m,
                groups: &groups,
                items: &items,
                temperature: options.temperature,
                kl: options.kl,
                seed: draws::seed(options.seed, "estimate", &[state.step]),
                interrupt,
            };
            let estimate = self.estimator.estimate(&step, self.policy)?;
            (entropy, kl) = (estimate.entropy, estimate.kl);
            let mut gradient = options.parametrisation.chain(&state.raw, sigma, &estimate.gradient).concat();
            if self.estimator.uses_groups() {
                gradient.iter_mut().for_each(|g| *g = (f64::from(*g) * share) as f32);
            }
            norm = clip(&mut gradient, options.clip);
            check_finite(norm, "the gradient", state.step)?;
            // Without a gradient there is no step, not one from the momentum of earlier ones.
            if norm > 0.0 {
                self.update(state, &gradient, rate);
            }
        }
        let gradient = estimating.elapsed().as_secs_f64();
        let after = options.parametrisation.multipliers(&state.raw, sigma);
        let moved = after.iter().flatten().map(|m| f64::from((m - 1.0).abs())).sum::<f64>();
        let moved = moved / after.iter().map(Vec::len).sum::<usize>().max(1) as f64;
        check_finite(moved, "m", state.step)?;
        let tokens = answers.answers.iter().map(|answer| answer.tokens.len() as u64).sum();
        let seconds = began.elapsed().as_secs_f64();
        state.step += 1;
        state.tokens += tokens;
        state.seconds += seconds;
        Ok(StepLine {
            step: state.step,
            reward: rewards.iter().sum::<f64>() / rewards.len().max(1) as f64,
            informative: n_informative as f64 / items.len() as f64,
            rate,
            norm,
            entropy,
            kl,
            moved,
            tokens,
            seconds,
            writing: answers.writing,
            scoring: answers.scoring,
            gradient,
        })
    }

    fn update(&self, state: &mut State, gradient: &[f32], rate: f64) {
        let initial = self.options.parametrisation.initial(self.sigma, self.options.seed).concat();
        let mut raw = state.raw.concat();
        state.adam.step(&mut raw, &initial, gradient, rate);
        let mut rest = raw.as_slice();
        for weight in &mut state.raw {
            let (own, after) = rest.split_at(weight.len());
            weight.copy_from_slice(own);
            rest = after;
        }
    }
}

fn check_finite(value: f64, what: &str, step: u64) -> Result<()> {
    if value.is_finite() {
        return Ok(());
    }
    Err(Error::engine(format!("{what} became {value}"))
        .field(format!("step {}", step + 1))
        .hint("the state before it is kept; try a lower --lr"))
}
