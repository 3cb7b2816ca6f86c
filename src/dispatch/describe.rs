//! What a file is to tell of an expert's questions, found out with the base model.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::candidates::OTHER_QUESTIONS;
use super::stance;
use crate::engine::{ModelWithExperts, Request};
use crate::error::{Error, Result};
use crate::expert::profile::{Profile, Rows, States, MAX_QUESTIONS, MAX_QUESTION_CHARS};
use crate::progress::{Interrupt, Progress};
use crate::task::Item;

/// What can be put around a question to talk a model into another expert, with lines of [`ORDERS_PARTED`] between.
const ORDERS: &str = include_str!("words/orders.txt");
const ORDERS_PARTED: &str = "\n%\n";
/// What such orders may name, one on each line.
const TOPICS: &str = include_str!("words/topics.txt");

/// Questions of each kind that are read, if their hidden states are not too long for that.
const MAX_READ: usize = 32;
/// About so many bytes the hidden states of a file may take, at a byte for each number.
const MAX_BYTES: usize = 170_000;
/// How often a question is read with an order around it, each time another.
const N_ORDERED: usize = 3;
/// Task prompts longer than this are not read.
const MAX_PROMPT_CHARS: usize = 4000;
/// Examples are short.
const MAX_EXAMPLE_CHARS: usize = 300;
/// A task's prompt, which says how to answer, may be longer.
const MAX_EXAMPLE_PROMPT_CHARS: usize = 500;

/// How an expert is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// Questions that the file shows, typical ones; at most [`MAX_QUESTIONS`].
    pub examples: usize,
    /// Chooses among the questions.
    pub seed: u64,
    /// Questions read at once.
    pub batch: u32,
    /// Threads.
    pub n_threads: u32,
}

impl Default for Description {
    /// Eight examples, 32 questions at once in one thread.
    fn default() -> Self {
        Self { examples: 8, seed: 0, batch: 32, n_threads: 1 }
    }
}

/// The profile of an expert for questions like those of `items`. The base model of `joined` reads some of them: as users ask
/// them, as the task's prompt puts them, and with orders to answer something else around them, so that what instructions and
/// orders do to hidden states says nothing about the expert. It reads questions of nobody's, too.
///
/// # Errors
/// No questions, or too many examples; a model that shows no hidden states; those of [`ModelWithExperts::scheduler`] and of
/// [`crate::engine::Scheduler::complete`], or an interrupt.
pub fn describe(
    joined: &ModelWithExperts,
    items: &[Item],
    how: &Description,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Profile> {
    if how.examples > MAX_QUESTIONS {
        return Err(Error::expected(format!("at most {MAX_QUESTIONS}"), how.examples).setting("examples"));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(how.seed);
    let model = joined.model();
    let layer = stance::layer(model)
        .ok_or_else(|| Error::invalid("the model has too few blocks to show hidden states"))?;
    let n_ending = stance::ending(model)?.len();
    let width = stance::width(model);
    // Rows of hidden states for each own question, and for each of nobody's.
    let n_rows = (2 + N_ORDERED) + (1 + N_ORDERED);
    let n_read = (MAX_BYTES / n_rows / width.max(1)).clamp(1, MAX_READ);

    // Whatever is too long for the context, or for a file, is typical of nothing.
    let fits = |item: &&Item| {
        let n = item.question.chars().count();
        !item.question.trim().is_empty() && n <= MAX_QUESTION_CHARS && !item.question.contains('\0')
    };
    let mut own: Vec<&Item> = items.iter().filter(fits).collect();
    own.sort_unstable_by_key(|item| &item.question);
    own.dedup_by_key(|item| &item.question);
    own.shuffle(&mut rng);
    own.truncate(n_read);
    if own.is_empty() {
        return Err(Error::expected(
            format!("1 question or more, of at most {MAX_QUESTION_CHARS} characters"),
            "none",
        ));
    }
    let mut other: Vec<&str> = OTHER_QUESTIONS.lines().collect();
    other.shuffle(&mut rng);
    other.truncate(n_read);

    let questions: Vec<&str> = own.iter().map(|item| item.question.trim()).collect();
    let mut texts: Vec<String> = questions.iter().map(|question| (*question).to_owned()).collect();
    let is_read =
        |item: &&&Item| item.prompt != item.question && item.prompt.chars().count() <= MAX_PROMPT_CHARS;
    texts.extend(own.iter().filter(is_read).map(|item| item.prompt.clone()));
    for _ in 0..N_ORDERED {
        texts.extend(questions.iter().map(|question| ordered(question, &mut rng)));
    }
    let n_own = texts.len();
    texts.extend(other.iter().map(|question| (*question).to_owned()));
    for _ in 0..N_ORDERED {
        texts.extend(other.iter().map(|question| ordered(question, &mut rng)));
    }
    let request = |text: &String| -> Result<Request> {
        Ok(stance::request(stance::prompt(model, text)?, layer, n_ending))
    };
    let requests = texts.iter().map(request).collect::<Result<Vec<_>>>()?;
    let longest = requests.iter().map(|request| request.prompt.len()).max().unwrap_or(1);
    let n_ctx = u32::try_from(longest + 1).unwrap_or(u32::MAX);
    let scheduler = joined.scheduler(how.batch, n_ctx, how.n_threads)?;
    let mut states: Vec<Vec<f32>> = vec![Vec::new(); texts.len()];
    progress.start(requests.len() as u64, 0);
    let result = scheduler.complete(requests, interrupt, |index, outcome| {
        states[index] = stance::compared(&outcome.pooled()?.mean);
        progress.advance(1);
        Ok(())
    });
    progress.finish();
    result.map_err(|error| error.field("describing"))?;
    let others = states.split_off(n_own);
    let examples = typical(&questions, &states[..questions.len()], how.examples).into_iter();
    // Bare ones and task prompts in turn, because both may be asked.
    let as_asked = |(place, at): (usize, usize)| {
        let n = own[at].prompt.chars().count();
        match place % 2 == 1 && n <= MAX_EXAMPLE_PROMPT_CHARS && !own[at].prompt.contains('\0') {
            true => own[at].prompt.clone(),
            false => questions[at].to_owned(),
        }
    };
    Ok(Profile {
        questions: examples.enumerate().map(as_asked).collect(),
        states: Some(States { layer, own: Rows::new(width, &states)?, other: Rows::new(width, &others)? }),
    })
}

/// `question` with an order around it.
fn ordered(question: &str, rng: &mut ChaCha8Rng) -> String {
    let orders: Vec<_> = ORDERS.trim_end().split(ORDERS_PARTED).collect();
    let topics: Vec<_> = TOPICS.lines().collect();
    let order = orders.choose(rng).copied().unwrap_or("{question}");
    let topic = topics.choose(rng).copied().unwrap_or_default();
    order.replace("{topic}", topic).replace("{question}", question)
}

/// The places of the `n` questions, of those that are short enough for examples, whose `states` are nearest to the mean of
/// all; of the shortest ones where all are long.
fn typical(questions: &[&str], states: &[Vec<f32>], n: usize) -> Vec<usize> {
    let width = states.first().map_or(0, Vec::len);
    let mean = |k: usize| states.iter().map(|state| f64::from(state[k])).sum::<f64>();
    let mean: Vec<_> = (0..width).map(mean).collect();
    let likeness =
        |state: &Vec<f32>| state.iter().zip(&mean).map(|(&x, mean)| f64::from(x) * mean).sum::<f64>();
    let n_chars = |question: &str| question.chars().count();
    let mut ranked: Vec<_> = questions
        .iter()
        .zip(states)
        .enumerate()
        .map(|(at, (question, state))| {
            let excess = n_chars(question).saturating_sub(MAX_EXAMPLE_CHARS);
            (excess, likeness(state), at)
        })
        .collect();
    ranked.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    ranked.into_iter().take(n).map(|(.., at)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_hold_question_and_topic_and_the_lists_have_no_gaps() {
        for order in ORDERS.trim_end().split(ORDERS_PARTED) {
            assert!(order.contains("{question}") && order.contains("{topic}"), "{order:?}");
        }
        for list in [OTHER_QUESTIONS, TOPICS] {
            assert!(list.lines().all(|line| !line.trim().is_empty()));
        }
        assert!(OTHER_QUESTIONS.lines().count() >= MAX_READ);
    }

    #[test]
    fn the_most_typical_short_questions_are_shown() {
        let long = "x".repeat(MAX_EXAMPLE_CHARS + 1);
        let questions = [long.as_str(), "far", "near"];
        let states = [vec![1.0, 0.0], vec![0.0, 1.0], vec![1.0, 0.1]];
        assert_eq!(typical(&questions, &states, 2), [2, 1]);
        assert_eq!(typical(&questions, &states, 9).len(), 3);
    }
}
