//! Which label, with a probability for each, from the model's probabilities of the next tokens after a prompt, constrained
//! to the labels.
//!
//! The tokens of all labels form a tree. Where it branches, the probabilities of the branches are those of the
//! model's next token, scaled to a sum of 1. Where a label ends and a longer one goes on, the longer one gets what the
//! model gives its next token, and the one that ends all the rest: so a label that is the beginning of another one is
//! no special case. Only where the tree branches is the model asked: once, right after the prompt, unless labels
//! share their first tokens.

use crate::engine::Token;
use crate::error::{Error, Result};

/// The labels after one prompt.
#[derive(Clone, Debug)]
pub struct LabelTree {
    /// What all labels have in common.
    prompt: Vec<Token>,
    nodes: Vec<Node>,
    n_labels: usize,
}

/// A place after the prompt where labels part.
#[derive(Clone, Debug)]
struct Node {
    /// Tokens between the prompt and this place.
    path: Vec<Token>,
    /// The label that ends here.
    ends: Option<usize>,
    /// The next tokens, each with the labels that go on with it.
    branches: Vec<(Token, Vec<usize>)>,
}

impl LabelTree {
    /// The tree of labels, given as the tokens of prompt and label together, so that tokens which reach over the
    /// border are no problem.
    ///
    /// # Errors
    /// Fewer than two labels, no common beginning, or two labels of the same tokens, which are named by
    /// their numbers.
    pub fn new(texts: &[Vec<Token>]) -> Result<Self> {
        let [first, rest @ ..] = texts else { return Err(Error::expected("2 labels or more", 0)) };
        if rest.is_empty() {
            return Err(Error::expected("2 labels or more", 1));
        }
        let n_common = |text: &Vec<Token>| first.iter().zip(text).take_while(|(a, b)| a == b).count();
        let n_prompt = rest.iter().map(n_common).min().unwrap_or(0);
        if n_prompt == 0 {
            return Err(Error::expected("a prompt before the labels", "none").setting("adapt_prompt"));
        }
        let mut tree = Self { prompt: first[..n_prompt].to_vec(), nodes: Vec::new(), n_labels: texts.len() };
        let labels: Vec<_> = texts.iter().map(|text| &text[n_prompt..]).collect();
        tree.add(&labels, (0..labels.len()).collect(), 0)?;
        Ok(tree)
    }

    /// Adds the nodes of `members`, labels whose first `depth` tokens agree.
    fn add(&mut self, labels: &[&[Token]], members: Vec<usize>, depth: usize) -> Result<()> {
        if members.len() < 2 {
            return Ok(());
        }
        let path = labels[members[0]][..depth].to_vec();
        let mut node = Node { path, ends: None, branches: Vec::new() };
        for member in members {
            match labels[member].get(depth) {
                None => {
                    if let Some(other) = node.ends.replace(member) {
                        let problem =
                            format!("the model has the same tokens for labels {other} and {member}");
                        return Err(Error::invalid(problem).hint("give one of the experts another name"));
                    }
                }
                Some(&token) => match node.branches.iter_mut().find(|(other, _)| *other == token) {
                    Some((_, group)) => group.push(member),
                    None => node.branches.push((token, vec![member])),
                },
            }
        }
        let branches = node.branches.clone();
        // Where all go on alike there is nothing to decide.
        if branches.len() > 1 || node.ends.is_some() {
            self.nodes.push(node);
        }
        branches.into_iter().try_for_each(|(_, group)| self.add(labels, group, depth + 1))
    }

    /// What is read before any label.
    pub fn prompt(&self) -> &[Token] {
        &self.prompt
    }

    /// What has to be read for each place where labels part, the shortest first.
    pub fn reads(&self) -> impl Iterator<Item = Vec<Token>> + '_ {
        self.nodes.iter().map(|node| [&self.prompt[..], &node.path].concat())
    }

    /// The next tokens that are asked about at place number `node`.
    pub fn asked(&self, node: usize) -> Vec<Token> {
        self.nodes[node].branches.iter().map(|&(token, _)| token).collect()
    }

    /// The probabilities of the branches of place number `node` from ln p of [`Self::asked`]' tokens there; the label that
    /// ends there, if one does, comes last.
    pub fn branch(&self, node: usize, log_probs: &[f32]) -> Vec<f64> {
        let p: Vec<_> = log_probs.iter().map(|&log_prob| f64::from(log_prob).exp()).collect();
        if self.nodes[node].ends.is_some() {
            let rest = (1.0 - p.iter().sum::<f64>()).max(0.0);
            return p.into_iter().chain([rest]).collect();
        }
        let max = log_probs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if max == f32::NEG_INFINITY {
            // That all are impossible says nothing about the labels.
            return vec![1.0 / p.len() as f64; p.len()];
        }
        let weights: Vec<_> = log_probs.iter().map(|&log_prob| f64::from(log_prob - max).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }

    /// The probability of each label, from those of all branches.
    pub fn probabilities(&self, branches: &[Vec<f64>]) -> Vec<f64> {
        let mut probabilities = vec![1.0; self.n_labels];
        for (node, shares) in self.nodes.iter().zip(branches) {
            let groups = node.branches.iter().map(|(_, group)| group.as_slice());
            let ends = node.ends.as_ref().map(std::slice::from_ref);
            for (group, share) in groups.chain(ends).zip(shares) {
                group.iter().for_each(|&label| probabilities[label] *= share);
            }
        }
        probabilities
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ln p of the tokens that `tree` asks about at `node`, where the model gives the tokens of `p` these probabilities.
    fn log_probs(tree: &LabelTree, node: usize, p: &[(Token, f64)]) -> Vec<f32> {
        let of = |token: Token| p.iter().find(|(other, _)| *other == token).map_or(0.0, |(_, p)| *p);
        tree.asked(node).into_iter().map(|token| of(token).ln() as f32).collect()
    }

    fn assert_near(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() < 1e-6, "{found:?}, expected {expected:?}");
        }
    }

    #[test]
    fn labels_that_part_at_once_need_one_read() {
        let tree = LabelTree::new(&[vec![1, 2, 3, 4], vec![1, 2, 5], vec![1, 2, 6, 6]]).unwrap();
        assert_eq!(tree.reads().collect::<Vec<_>>(), [vec![1, 2]]);
        let branch = tree.branch(0, &log_probs(&tree, 0, &[(3, 0.2), (5, 0.1), (6, 0.1), (9, 0.6)]));
        assert_near(&tree.probabilities(&[branch]), &[0.5, 0.25, 0.25]);
    }

    #[test]
    fn a_label_that_begins_another_gets_what_the_other_does_not() {
        // "math", "math-hard", "other".
        let tree = LabelTree::new(&[vec![1, 2], vec![1, 2, 3, 4], vec![1, 7]]).unwrap();
        assert_eq!(tree.reads().collect::<Vec<_>>(), [vec![1], vec![1, 2]]);
        let root = tree.branch(0, &log_probs(&tree, 0, &[(2, 0.3), (7, 0.1), (9, 0.6)]));
        let after = tree.branch(1, &log_probs(&tree, 1, &[(3, 0.2), (0, 0.5), (9, 0.3)]));
        assert_near(&tree.probabilities(&[root, after]), &[0.75 * 0.8, 0.75 * 0.2, 0.25]);
        // Whichever is named first.
        let turned = LabelTree::new(&[vec![1, 2, 3, 4], vec![1, 2], vec![1, 7]]).unwrap();
        assert_eq!(turned.reads().count(), 2);
    }

    #[test]
    fn tokens_that_all_share_are_part_of_the_prompt_and_those_that_some_share_are_not_asked_for() {
        let tree = LabelTree::new(&[vec![1, 5, 5, 2], vec![1, 5, 5, 3], vec![1, 4]]).unwrap();
        assert_eq!(
            (tree.prompt(), tree.reads().collect::<Vec<_>>()),
            (&[1][..], vec![vec![1], vec![1, 5, 5]])
        );
        let root = tree.branch(0, &log_probs(&tree, 0, &[(5, 0.5), (4, 0.5)]));
        let after = tree.branch(1, &log_probs(&tree, 1, &[(2, 0.9), (3, 0.1)]));
        assert_near(&tree.probabilities(&[root, after]), &[0.45, 0.05, 0.5]);
    }

    #[test]
    fn what_makes_all_labels_impossible_decides_nothing_and_what_is_no_choice_is_refused() {
        let tree = LabelTree::new(&[vec![1, 2], vec![1, 3]]).unwrap();
        assert_near(&tree.branch(0, &log_probs(&tree, 0, &[(9, 1.0)])), &[0.5, 0.5]);
        for (texts, fragment) in [
            (vec![], "2 labels or more, found 0"),
            (vec![vec![1, 2]], "2 labels or more, found 1"),
            (vec![vec![1, 2], vec![3]], "a prompt before the labels"),
            (vec![vec![1, 2], vec![1, 3], vec![1, 2]], "labels 0 and 2"),
        ] {
            let error = LabelTree::new(&texts).unwrap_err().to_string();
            assert!(error.contains(fragment), "{error}");
        }
    }
}
