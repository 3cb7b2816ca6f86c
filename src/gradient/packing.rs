//! Prompts and their answers as rows of one batch, in which answers share their prompt.

use std::ops::Range;

use super::{Group, Rollout};
use crate::engine::Token;
use crate::error::{Error, Result};

/// Rows that are computed together.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Input token of each row.
    pub tokens: Vec<Token>,
    /// Its position in its sequence.
    pub positions: Vec<usize>,
    /// Who attends to whom.
    pub pieces: Vec<Piece>,
    /// Rows whose logits matter, in ascending order.
    pub outputs: Vec<Output>,
}

/// Rows that attend to a common prefix, and each to those before it within its own range.
#[derive(Debug)]
pub(super) struct Piece {
    /// All its rows.
    pub queries: Range<usize>,
    /// The rows all of them see; may be empty.
    pub prefix: Range<usize>,
    /// Parts of `queries`, one after the other.
    pub own: Vec<Range<usize>>,
}

/// A row and what followed it.
#[derive(Debug)]
pub(super) struct Output {
    pub row: usize,
    /// Tokens that were sampled here, each with the advantage of its answer.
    pub sampled: Vec<(Token, f32)>,
}

impl Chunk {
    pub(super) fn n_rows(&self) -> usize {
        self.tokens.len()
    }

    fn push(&mut self, tokens: &[Token], first_position: usize) -> Range<usize> {
        let start = self.n_rows();
        self.tokens.extend(tokens);
        self.positions.extend(first_position..first_position + tokens.len());
        start..self.n_rows()
    }

    /// The last token of an answer is nobody's input, and the first is sampled at the end of the prompt.
    fn add(&mut self, group: &Group) {
        let prompt = self.push(&group.prompt, 0);
        let answers = || group.rollouts.iter().filter(|rollout| !rollout.tokens.is_empty());
        let first = |rollout: &Rollout| (rollout.tokens[0], rollout.advantage);
        self.outputs.push(Output { row: prompt.end - 1, sampled: answers().map(first).collect() });
        let mut own = Vec::new();
        for Rollout { tokens, advantage } in answers() {
            let rows = self.push(&tokens[..tokens.len() - 1], prompt.len());
            let output = |(row, &token)| Output { row, sampled: vec![(token, *advantage)] };
            self.outputs.extend(rows.clone().zip(&tokens[1..]).map(output));
            own.push(rows);
        }
        let end = prompt.start..prompt.start;
        self.pieces.push(Piece { queries: prompt.clone(), prefix: end, own: vec![prompt.clone()] });
        own.retain(|rows| !rows.is_empty());
        if let (Some(first), Some(last)) = (own.first(), own.last()) {
            self.pieces.push(Piece { queries: first.start..last.end, prefix: prompt, own });
        }
    }
}

/// Packs groups, in order, into chunks of about `n_rows` rows; a group is never divided.
///
/// # Errors
/// An empty prompt, or a token outside the vocabulary.
pub(super) fn pack(groups: &[Group], n_rows: usize, n_vocab: usize) -> Result<Vec<Chunk>> {
    let mut chunks = vec![Chunk::default()];
    for group in groups {
        check(group, n_vocab)?;
        if chunks.last().is_some_and(|chunk| chunk.n_rows() >= n_rows) {
            chunks.push(Chunk::default());
        }
        if let Some(chunk) = chunks.last_mut() {
            chunk.add(group);
        }
    }
    chunks.retain(|chunk| chunk.n_rows() > 0);
    Ok(chunks)
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

/// Rows of a group.
pub(super) fn rows_of(group: &Group) -> usize {
    group.prompt.len() + group.rollouts.iter().map(|r| r.tokens.len().saturating_sub(1)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_share_their_prompt() {
        let rollout = |tokens: &[Token], advantage| Rollout { tokens: tokens.to_vec(), advantage };
        let rollouts =
            vec![rollout(&[5, 6, 7], 0.5), rollout(&[8], -0.5), rollout(&[], 9.0), rollout(&[5, 9], 0.0)];
        let group = Group { prompt: vec![1, 2], rollouts };
        let chunks = pack(&[group.clone(), group], 4, 10).unwrap();
        assert_eq!(chunks.len(), 2);
        let chunk = &chunks[1];
        assert_eq!(chunk.tokens, [1, 2, 5, 6, 5]);
        assert_eq!(chunk.positions, [0, 1, 2, 3, 2]);
        let ends = |own: &[Range<usize>]| own.iter().map(|rows| (rows.start, rows.end)).collect::<Vec<_>>();
        let piece = |p: &Piece| (p.queries.clone(), p.prefix.clone(), ends(&p.own));
        let pieces: Vec<_> = chunk.pieces.iter().map(piece).collect();
        assert_eq!(pieces, [(0..2, 0..0, vec![(0, 2)]), (2..5, 0..2, vec![(2, 4), (4, 5)])]);
        let outputs: Vec<_> = chunk.outputs.iter().map(|o| (o.row, o.sampled.clone())).collect();
        let expected = [
            (1, vec![(5, 0.5), (8, -0.5), (5, 0.0)]),
            (2, vec![(6, 0.5)]),
            (3, vec![(7, 0.5)]),
            (4, vec![(9, 0.0)]),
        ];
        assert_eq!(outputs, expected);
    }

    #[test]
    fn bad_tokens_are_refused() {
        let group = |prompt: &[Token]| Group { prompt: prompt.to_vec(), rollouts: Vec::new() };
        assert!(pack(&[group(&[])], 4, 10).is_err());
        assert!(pack(&[group(&[10])], 4, 10).unwrap_err().to_string().contains("0 to 9"));
        assert!(pack(&[group(&[-1])], 4, 10).is_err());
    }
}
