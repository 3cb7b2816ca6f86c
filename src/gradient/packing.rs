//! Prompts and their answers as rows of batches, in which answers share their prompt.

use std::ops::Range;

use super::plan::Plan;
use super::{Group, Rollout};
use crate::engine::Token;
use crate::error::{Error, Result};

/// Rows that go through the layers together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Input token of each row.
    pub tokens: Vec<Token>,
    /// Its position in its sequence.
    pub positions: Vec<usize>,
    /// Its groups, whose rows follow upon each other.
    pub groups: Vec<GroupRows>,
    /// Rows whose logits matter, in ascending order.
    pub outputs: Vec<Output>,
    /// How many of the groups, from the first on, are compared with the base model.
    pub n_compared: usize,
}

/// A prompt and answers to it.
#[derive(Debug)]
pub(super) struct GroupRows {
    pub rows: Range<usize>,
    /// Who attends to whom, within these rows.
    pub pieces: Vec<Piece>,
}

/// Rows that attend to all `seen`, and each to those before it within its own range.
#[derive(Debug)]
pub(super) struct Piece {
    /// All its rows.
    pub queries: Range<usize>,
    /// What all of them see: a prompt, and what stands before the queries in the same sequence. May be empty.
    pub seen: [Range<usize>; 2],
    /// Parts of `queries`, one after the other.
    pub own: Vec<Range<usize>>,
}

/// A row and what followed it.
#[derive(Debug)]
pub(super) struct Output {
    pub row: usize,
    pub sampled: Vec<Sampled>,
}

/// A token of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sampled {
    pub token: Token,
    /// That of its answer.
    pub advantage: f32,
    /// Its number among the tokens of all answers, one answer and one group after the other.
    pub number: usize,
}

/// The first rows of a batch, as layers see them.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub positions: &'a [usize],
    pub groups: &'a [GroupRows],
    /// Rows that a thread takes at a time.
    pub block: usize,
}

/// A group, or what fits a batch of one.
struct Part<'a> {
    prompt: &'a [Token],
    /// Each with the number of its first token.
    rollouts: Vec<(usize, &'a Rollout)>,
    n_rows: usize,
    is_compared: bool,
}

impl Batch {
    pub(super) fn n_rows(&self) -> usize {
        self.tokens.len()
    }

    /// The rows of its first `n_groups` groups.
    pub(super) fn rows(&self, n_groups: usize, block: usize) -> Rows<'_> {
        let groups = &self.groups[..n_groups];
        let end = groups.last().map_or(0, |group| group.rows.end);
        Rows { positions: &self.positions[..end], groups, block }
    }

    fn push(&mut self, tokens: &[Token], first_position: usize) -> Range<usize> {
        let start = self.n_rows();
        self.tokens.extend(tokens);
        self.positions.extend(first_position..first_position + tokens.len());
        start..self.n_rows()
    }

    /// The last token of an answer is nobody's input, and the first is sampled at the end of the prompt.
    fn add(&mut self, part: &Part, n_queries: usize) {
        let prompt = self.push(part.prompt, 0);
        let answers = || part.rollouts.iter().filter(|(_, rollout)| !rollout.tokens.is_empty());
        let first = |&(number, rollout): &(usize, &Rollout)| Sampled {
            token: rollout.tokens[0],
            advantage: rollout.advantage,
            number,
        };
        self.outputs.push(Output { row: prompt.end - 1, sampled: answers().map(first).collect() });
        let mut pieces: Vec<_> = sequence(&prompt, &(prompt.start..prompt.start), n_queries).collect();
        let mut is_open = false;
        for &(first, Rollout { tokens, advantage }) in answers() {
            let rows = self.push(&tokens[..tokens.len() - 1], prompt.len());
            let output = |((row, &token), number)| {
                let sampled = Sampled { token, advantage: *advantage, number };
                Output { row, sampled: vec![sampled] }
            };
            self.outputs.extend(rows.clone().zip(&tokens[1..]).zip(first + 1..).map(output));
            if rows.is_empty() {
                continue;
            }
            // Short answers share a piece, so that they see the prompt in one product.
            let is_short = rows.len() <= n_queries;
            match pieces.last_mut() {
                Some(piece) if is_open && is_short && rows.end - piece.queries.start <= n_queries => {
                    piece.queries.end = rows.end;
                    piece.own.push(rows);
                }
                _ => pieces.extend(sequence(&rows, &prompt, n_queries)),
            }
            is_open = is_short;
        }
        self.groups.push(GroupRows { rows: prompt.start..self.n_rows(), pieces });
        self.n_compared += usize::from(part.is_compared);
    }
}

/// The pieces, of up to `n_queries` rows, of a sequence `rows` that goes on from `before`.
fn sequence<'a>(
    rows: &'a Range<usize>,
    before: &'a Range<usize>,
    n_queries: usize,
) -> impl Iterator<Item = Piece> + 'a {
    rows.clone().step_by(n_queries).map(move |start| {
        let queries = start..rows.end.min(start + n_queries);
        Piece { seen: [before.clone(), rows.start..start], own: vec![queries.clone()], queries }
    })
}

/// Packs groups, in order, into batches of at most `plan.rows` rows. A group that is longer is divided, and each part has
/// the prompt again; one answer is never divided. The first `n_compared` groups are compared with the base model.
///
/// # Errors
/// An empty prompt, or a token outside the vocabulary.
pub(super) fn pack(groups: &[Group], plan: &Plan, n_compared: usize, n_vocab: usize) -> Result<Vec<Batch>> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut n_tokens = 0;
    for (i, group) in groups.iter().enumerate() {
        check(group, n_vocab)?;
        for part in parts(group, n_tokens, plan.rows, i < n_compared) {
            match batches.last_mut() {
                Some(batch) if batch.n_rows() + part.n_rows <= plan.rows => batch.add(&part, plan.queries),
                _ => {
                    let mut batch = Batch::default();
                    batch.add(&part, plan.queries);
                    batches.push(batch);
                }
            }
        }
        n_tokens += group.rollouts.iter().map(|rollout| rollout.tokens.len()).sum::<usize>();
    }
    Ok(batches)
}

/// The parts, of up to `n_rows` rows where that is possible, of a group whose first token of an answer has the number `n_tokens`.
fn parts(group: &Group, mut n_tokens: usize, n_rows: usize, is_compared: bool) -> Vec<Part<'_>> {
    let prompt = &group.prompt[..];
    let empty = || Part { prompt, rollouts: Vec::new(), n_rows: prompt.len(), is_compared };
    let mut parts = vec![empty()];
    for rollout in &group.rollouts {
        let more = rows_of_answer(rollout);
        let numbered = (n_tokens, rollout);
        n_tokens += rollout.tokens.len();
        if let Some(part) = parts.last_mut() {
            if part.n_rows + more <= n_rows || part.rollouts.is_empty() {
                part.n_rows += more;
                part.rollouts.push(numbered);
                continue;
            }
        }
        parts.push(Part { rollouts: vec![numbered], n_rows: prompt.len() + more, ..empty() });
    }
    parts
}

fn check(group: &Group, n_vocab: usize) -> Result<()> {
    if group.prompt.is_empty() {
        return Err(Error::invalid("an answer needs a prompt of at least one token"));
    }
    let answers = group.rollouts.iter().flat_map(|rollout| &rollout.tokens);
    match group.prompt.iter().chain(answers).find(|&&token| token < 0 || token as usize >= n_vocab) {
        Some(token) => Err(Error::expected(format!("tokens from 0 to {}", n_vocab - 1), token)),
        None => Ok(()),
    }
}

fn rows_of_answer(rollout: &Rollout) -> usize {
    rollout.tokens.len().saturating_sub(1)
}

/// Rows of all groups, and of the longest sequence.
pub(super) fn count_rows(groups: &[Group]) -> (usize, usize) {
    let answers = |group: &Group| group.rollouts.iter().map(rows_of_answer).collect::<Vec<_>>();
    let all = groups.iter().map(|group| group.prompt.len() + answers(group).iter().sum::<usize>()).sum();
    let longest =
        groups.iter().map(|group| group.prompt.len() + answers(group).into_iter().max().unwrap_or(0)).max();
    (all, longest.unwrap_or(0))
}

/// How many batches of at most `n_rows` rows groups make, and of how many rows in all.
pub(super) fn count_batches(groups: &[Group], n_rows: usize) -> (usize, usize) {
    let (mut n_batches, mut last, mut all) = (0, usize::MAX, 0_usize);
    for part in groups.iter().flat_map(|group| parts(group, 0, n_rows, false)) {
        all += part.n_rows;
        match last.checked_add(part.n_rows) {
            Some(together) if together <= n_rows => last = together,
            _ => (n_batches, last) = (n_batches + 1, part.n_rows),
        }
    }
    (n_batches, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rows: usize, queries: usize) -> Plan {
        Plan { rows, queries, ..Plan::default() }
    }

    fn rollout(tokens: &[Token], advantage: f32) -> Rollout {
        Rollout { tokens: tokens.to_vec(), advantage }
    }

    type Shown = (Range<usize>, [Range<usize>; 2], Vec<(usize, usize)>);

    fn shown(group: &GroupRows) -> Vec<Shown> {
        let ends = |own: &[Range<usize>]| own.iter().map(|rows| (rows.start, rows.end)).collect::<Vec<_>>();
        group.pieces.iter().map(|p| (p.queries.clone(), p.seen.clone(), ends(&p.own))).collect()
    }

    #[test]
    fn answers_share_their_prompt() {
        let rollouts =
            vec![rollout(&[5, 6, 7], 0.5), rollout(&[8], -0.5), rollout(&[], 9.0), rollout(&[5, 9], 0.0)];
        let group = Group { prompt: vec![1, 2], rollouts };
        let batches = pack(&[group.clone(), group], &plan(5, 4), 1, 10).unwrap();
        assert_eq!(batches.len(), 2);
        let batch = &batches[1];
        assert_eq!(batch.tokens, [1, 2, 5, 6, 5]);
        assert_eq!(batch.positions, [0, 1, 2, 3, 2]);
        let expected = [(0..2, [0..0, 0..0], vec![(0, 2)]), (2..5, [0..2, 2..2], vec![(2, 4), (4, 5)])];
        assert_eq!(shown(&batch.groups[0]), expected);
        let outputs: Vec<_> = batch.outputs.iter().map(|o| (o.row, o.sampled.clone())).collect();
        let sampled = |token, advantage, number| Sampled { token, advantage, number };
        // The first group has the tokens 0 to 5.
        let expected = [
            (1, vec![sampled(5, 0.5, 6), sampled(8, -0.5, 9), sampled(5, 0.0, 10)]),
            (2, vec![sampled(6, 0.5, 7)]),
            (3, vec![sampled(7, 0.5, 8)]),
            (4, vec![sampled(9, 0.0, 11)]),
        ];
        assert_eq!(outputs, expected);
        assert_eq!(batches.iter().map(|batch| batch.n_compared).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn what_is_longer_than_a_batch_is_divided() {
        let rollouts = vec![rollout(&[5, 6, 7], 0.5), rollout(&[8, 9], -0.5), rollout(&[3; 8], 1.0)];
        let group = Group { prompt: vec![1, 2], rollouts };
        assert_eq!(count_rows(&[group.clone(), group.clone()]), (24, 9));
        assert_eq!(count_batches(&[group.clone(), group.clone()], 6), (4, 28));
        let batches = pack(&[group], &plan(6, 3), 1, 10).unwrap();
        let tokens: Vec<_> = batches.iter().map(|batch| batch.tokens.clone()).collect();
        assert_eq!(tokens, [vec![1, 2, 5, 6, 8], vec![1, 2, 3, 3, 3, 3, 3, 3, 3]]);
        let sampled = batches.iter().flat_map(|batch| &batch.outputs).flat_map(|output| &output.sampled);
        let mut numbers: Vec<_> = sampled.map(|sampled| sampled.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..13).collect::<Vec<_>>());
        assert_eq!(batches.iter().map(|batch| batch.n_compared).collect::<Vec<_>>(), [1, 1]);
        // A long answer sees its prompt, what it wrote before, and itself.
        let expected = [
            (0..2, [0..0, 0..0], vec![(0, 2)]),
            (2..5, [0..2, 2..2], vec![(2, 5)]),
            (5..8, [0..2, 2..5], vec![(5, 8)]),
            (8..9, [0..2, 2..8], vec![(8, 9)]),
        ];
        assert_eq!(shown(&batches[1].groups[0]), expected);
    }

    #[test]
    fn bad_tokens_are_refused() {
        let group = |prompt: &[Token]| Group { prompt: prompt.to_vec(), rollouts: Vec::new() };
        assert!(pack(&[group(&[])], &plan(4, 4), 0, 10).is_err());
        assert!(pack(&[group(&[10])], &plan(4, 4), 0, 10).unwrap_err().to_string().contains("0 to 9"));
        assert!(pack(&[group(&[-1])], &plan(4, 4), 0, 10).is_err());
    }
}
