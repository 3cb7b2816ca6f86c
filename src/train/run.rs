//! The loop: answer and score, or take the gold answers; estimate, step; now and then validate; after each step keep everything.

use std::time::Instant;

use serde_json::Value;

use super::estimator::{Estimate, Estimator, Step};
use super::folder::Folder;
use super::groups::is_flat;
use super::log::{Line, Log, StepLine, ValidationLine};
use super::objective::{gold, gold_group, Objective};
use super::options::Options;
use super::parametrisation::Weight;
use super::policy::{Answer, Answers, Policy, Wanted};
use super::state::{mean, Best, State};
use super::trust_region::{self, Answered, Fraction, Sample};
use super::{draws, validation};
use crate::error::{Error, Result};
use crate::eval::scores::MANY_CUT;
use crate::expert::Multipliers;
use crate::gradient::Group;
use crate::optimiser::clip;
use crate::progress::{Interrupt, Progress};
use crate::task::Part;

/// What a run needs.
pub struct Run<'a> {
    /// What it is made with.
    pub options: &'a Options,
    /// All that changes the result, for the checkpoint.
    pub settings: &'a Value,
    /// What the parameters are beside.
    pub weights: &'a [Weight],
    /// The raw parameters before the first step.
    pub initial: &'a Multipliers,
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
    /// All rewards were equal from the beginning, or all of the same question; their mean.
    Flat(f64),
    /// Ctrl-C.
    Interrupted,
    /// Something failed, such as a gradient that is not finite.
    Failed(Error),
}

/// What a gradient was like.
#[derive(Default)]
struct Ascent {
    norm: f64,
    log_p: Option<f64>,
    entropy: Option<f64>,
    kl: Option<f64>,
    /// What was made of the step that the optimiser proposed, where its length is limited.
    made: Option<Fraction>,
}

/// What rewards the answers of a step had.
#[derive(Default)]
struct Seen {
    reward: Option<f64>,
    informative: Option<f64>,
    cut: Option<f64>,
}

impl Seen {
    /// Of `samples` answers to each of `n_items`.
    fn of(answers: &[Answer], n_items: usize, samples: usize) -> Self {
        let rewards: Vec<_> = answers.iter().map(|answer| answer.reward).collect();
        let n = answers.len().max(1) as f64;
        let n_informative = rewards.chunks(samples).filter(|rewards| !is_flat(rewards)).count();
        Self {
            reward: Some(rewards.iter().sum::<f64>() / n),
            informative: Some(n_informative as f64 / n_items as f64),
            cut: Some(answers.iter().filter(|answer| answer.is_cut).count() as f64 / n),
        }
    }
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
        let mut is_warned = false;
        let mut said = String::new();
        loop {
            let ended = self.ended(state);
            let is_due = ended.as_ref().is_some_and(Ended::is_success)
                || state.step.is_multiple_of(self.options.validate_every);
            // Work on a copy, so that what fails half-way leaves nothing.
            let mut next = state.clone();
            if is_due && state.validated != Some(state.step) {
                self.tell(&said, "validating");
                let line = self.validate(&mut next)?;
                self.progress.note(&line.summary());
                self.keep(state, next, &Line::Validation(line))?;
                continue;
            }
            if let Some(ended) = ended {
                return Ok(ended);
            }
            let line = self.step(&mut next, &said)?;
            said = line.summary();
            self.progress.status(&said);
            if let Some(cut) = line.cut.filter(|&cut| cut >= MANY_CUT && !is_warned) {
                is_warned = true;
                self.progress.note(&format!(
                    "the limit of tokens cut off {:.0} % of the answers of step {} (hint: raise max_tokens)",
                    100.0 * cut,
                    line.step
                ));
            }
            self.keep(state, next, &Line::Step(line))?;
            self.progress.advance(1);
        }
    }

    /// Says what is done now, and what was said of the last step: with a real model each part of a step takes minutes.
    fn tell(&self, said: &str, doing: &str) {
        let last = if said.is_empty() { String::new() } else { format!(" (last step: {said})") };
        self.progress.status(&format!("{doing}{last}"));
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
        let parameters = options.parametrisation.parameters(&state.raw, self.weights);
        let scores = validation::validate(&parameters, options.validation_items, self.policy, interrupt)?;
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
        let is_better = state.best.as_ref().is_none_or(|best| accuracy > best.accuracy());
        // Greedy answers can be as good as at the start while others became less likely.
        let is_trained = state.has_learned && state.best.as_ref().is_some_and(|best| best.step == 0);
        let is_equal = state.best.as_ref().is_some_and(|best| accuracy == best.accuracy());
        if is_better {
            state.n_worse = 0;
        }
        if is_better || is_trained && is_equal {
            state.best = Some(Best { step: state.step, parameters, scores });
        }
        state.seconds += seconds;
        Ok(line)
    }

    fn step(&mut self, state: &mut State, said: &str) -> Result<StepLine> {
        let began = Instant::now();
        let options = self.options;
        let parameters = options.parametrisation.parameters(&state.raw, self.weights);
        let n_items = self.policy.n_items(Part::Train);
        let items = draws::batch(options.seed, state.step, n_items, options.prompts);
        let (answers, seen) = match options.objective {
            Objective::Reward => {
                self.tell(said, "writing answers");
                let answers = self.ask(&parameters, &items, state.step)?;
                let seen = Seen::of(&answers.answers, items.len(), options.samples);
                let rewards: Vec<_> = answers.answers.iter().map(|answer| answer.reward).collect();
                let is_flat_step = options.baseline.is_flat(&rewards, options.samples);
                state.n_flat = if is_flat_step { state.n_flat + 1 } else { 0 };
                state.has_learned |= state.n_flat == 0;
                state.flat_reward = seen.reward.unwrap_or(0.0);
                (answers, seen)
            }
            Objective::Likelihood => {
                state.has_learned = true;
                (self.gold(&items)?, Seen::default())
            }
        };

        self.tell(said, "computing the gradient");
        let estimating = Instant::now();
        let rate = options.schedule.rate(state.step);
        let Ascent { norm, log_p, entropy, kl, made } =
            self.ascend(state, &parameters, &items, &answers.answers, rate)?;
        let gradient = estimating.elapsed().as_secs_f64();
        let parameters = self.finite(&state.raw, state.step)?;
        let moved = options.parametrisation.moved(&parameters, self.initial);
        let tokens = answers.answers.iter().map(|answer| answer.tokens.len() as u64).sum();
        let seconds = began.elapsed().as_secs_f64();
        state.step += 1;
        state.tokens += tokens;
        state.seconds += seconds;
        let is_gold = options.objective == Objective::Likelihood;
        Ok(StepLine {
            step: state.step,
            reward: seen.reward,
            loss: log_p.filter(|_| is_gold).map(|log_p| -log_p),
            informative: seen.informative,
            rate: rate * made.map_or(1.0, |made| made.share),
            step_kl: made.map(|made| made.kl),
            norm,
            entropy,
            kl,
            moved,
            tokens,
            cut: seen.cut,
            seconds,
            writing: answers.writing,
            scoring: answers.scoring,
            gradient,
        })
    }

    /// The gold answers to `items`.
    fn gold(&self, items: &[usize]) -> Result<Answers> {
        let of_item = |&item: &usize| {
            let tokens = self.policy.gold(item);
            tokens
                .map(gold)
                .ok_or_else(|| Error::invalid("no gold answers to learn from").setting("objective"))
        };
        Ok(Answers { answers: items.iter().map(of_item).collect::<Result<_>>()?, ..Answers::default() })
    }

    /// What the model computes with for `raw`, if it can.
    fn finite(&self, raw: &Multipliers, step: u64) -> Result<Multipliers> {
        let parameters = self.options.parametrisation.parameters(raw, self.weights);
        let what = if self.options.parametrisation.is_lora() { "the LoRA" } else { "m" };
        parameters.check_finite(what).map_err(|error| at_step(error, step))?;
        Ok(parameters)
    }

    /// Answers with `parameters`, several to each of `items` in turn.
    fn ask(&mut self, parameters: &Multipliers, items: &[usize], step: u64) -> Result<Answers> {
        let Options { seed, samples, temperature, .. } = *self.options;
        let wanted: Vec<_> = items
            .iter()
            .flat_map(|&item| (0..samples).map(move |sample| (item, sample)))
            .map(|(item, sample)| Wanted {
                candidate: 0,
                part: Part::Train,
                item,
                seed: draws::seed(seed, "answer", &[step, item as u64, sample as u64]) as u32,
                temperature,
            })
            .collect();
        self.policy.answer(&[parameters], &wanted, self.interrupt)
    }

    /// Moves the raw parameters, which stand for `parameters`, along the gradient that follows from `answers` to `items`.
    fn ascend(
        &mut self,
        state: &mut State,
        parameters: &Multipliers,
        items: &[usize],
        answers: &[Answer],
        rate: f64,
    ) -> Result<Ascent> {
        let options = self.options;
        let n_tokens = answers.iter().map(|answer| answer.tokens.len()).sum();
        let of_item = |(answers, &item): (&[Answer], &usize)| {
            let prompt = self.policy.prompt(item);
            match options.objective {
                Objective::Reward => options.baseline.group(prompt, answers),
                Objective::Likelihood => gold_group(prompt, &answers[0], items.len(), n_tokens),
            }
        };
        let mut groups: Vec<_> = answers.chunks(options.answers()).zip(items).map(of_item).collect();
        // Which of the items they are of.
        let mut kept: Vec<_> = (0..items.len()).collect();
        if options.kl == 0.0 {
            let matters = |group: &Group| group.rollouts.iter().any(|rollout| rollout.advantage != 0.0);
            kept.retain(|&place| matters(&groups[place]));
            groups.retain(matters);
        }
        if groups.is_empty() && self.estimator.uses_groups() {
            return Ok(Ascent::default());
        }
        let step = Step {
            parameters,
            groups: &groups,
            items,
            temperature: options.temperature,
            kl: options.kl,
            seed: draws::seed(options.seed, "estimate", &[state.step]),
            interrupt: self.interrupt,
        };
        let Estimate { gradient, log_probs, entropy, kl } = self.estimator.estimate(&step, self.policy)?;
        let mut gradient = options.parametrisation.chain(&state.raw, self.weights, &gradient);
        if self.estimator.uses_groups() {
            // The mean is over all rollouts, and those left out have a gradient of 0.
            let share = groups.len() as f64 / items.len() as f64;
            gradient.flat_mut().iter_mut().for_each(|g| *g = (f64::from(*g) * share) as f32);
        }
        gradient.check_finite("the gradient").map_err(|error| at_step(error, state.step))?;
        let norm = clip(gradient.flat_mut(), options.clip);
        // Without a gradient there is no step, not one from the momentum of earlier ones.
        let places = if log_probs.is_some() { kept } else { (0..items.len()).collect() };
        let answered = Answered {
            items,
            answers,
            n_answers: options.answers(),
            places,
            log_probs: log_probs.as_deref(),
        };
        let made = match norm > 0.0 {
            true => self.update(state, parameters, &gradient, rate, &answered)?,
            false => None,
        };
        let log_p = log_probs.map(|of| of.iter().sum::<f64>() / of.len().max(1) as f64);
        Ok(Ascent { norm, log_p, entropy, kl, made })
    }

    /// Moves the raw parameters, which stand for `parameters`, as the optimiser has it, but no farther than the limit on
    /// the change of the answers allows: a step at the highest rate is measured, and of what is allowed of it the share is made that the schedule has now.
    fn update(
        &mut self,
        state: &mut State,
        parameters: &Multipliers,
        gradient: &Multipliers,
        rate: f64,
        answered: &Answered,
    ) -> Result<Option<Fraction>> {
        let Options { objective, schedule, .. } = *self.options;
        let Some(limit) = self.options.step_kl else {
            state.adam.step(state.raw.flat_mut(), self.initial.flat(), gradient.flat(), rate);
            return Ok(None);
        };
        let before = state.raw.clone();
        state.adam.step(state.raw.flat_mut(), self.initial.flat(), gradient.flat(), schedule.peak);
        let proposed = std::mem::replace(&mut state.raw, before.clone());
        let Sample { answers, log_probs } = answered.sample();
        let read =
            |run: &mut Self, m: &Multipliers| run.estimator.log_probs(m, &answers, run.policy, run.interrupt);
        let now = match log_probs {
            Some(known) => known,
            None => read(self, parameters)?,
        };
        let allowed = trust_region::fraction(limit, |share| {
            let after = self.finite(&between(&before, &proposed, share), state.step)?;
            let then = read(self, &after)?;
            Ok(match objective {
                Objective::Reward => trust_region::divergence(&now, &then),
                Objective::Likelihood => trust_region::distance(&now, &then),
            })
        })?;
        let of_peak = rate / schedule.peak;
        state.raw = between(&before, &proposed, allowed.share * of_peak);
        Ok(Some(Fraction { share: allowed.share, kl: allowed.kl * of_peak * of_peak }))
    }
}

/// What lies at `share` of the way from `from` to `to`.
fn between(from: &Multipliers, to: &Multipliers, share: f64) -> Multipliers {
    let mut found = from.clone();
    for (at, &to) in found.flat_mut().iter_mut().zip(to.flat()) {
        // Exact at both ends.
        *at = if share == 1.0 { to } else { (f64::from(*at) + share * f64::from(to - *at)) as f32 };
    }
    found
}

fn at_step(error: Error, step: u64) -> Error {
    error.field(format!("step {}", step + 1)).hint("the state before it is kept; try a lower `schedule.peak`")
}
