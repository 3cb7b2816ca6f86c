//! One sequence that reads one prompt after the other, and only what is new in each.
//!
//! The KV cache belongs to tokens *and* mixture: what was read with one slot is never used with another, which
//! [`Session`] enforces. Beginnings are shared within one slot only.

use crate::engine::{Session, Token};
use crate::error::{Error, Result};

/// A sequence, and the tokens that its KV cache holds. Nobody else may use the sequence.
#[derive(Debug)]
pub struct Reader {
    seq: u32,
    tokens: Vec<Token>,
}

impl Reader {
    /// A reader with sequence `seq`, which must be empty.
    pub fn new(seq: u32) -> Self {
        Self { seq, tokens: Vec::new() }
    }

    /// The sequence.
    pub fn seq(&self) -> u32 {
        self.seq
    }

    /// The tokens that were read.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// How many tokens of the beginning of `tokens` were read.
    pub fn count_known(&self, tokens: &[Token]) -> usize {
        common(&self.tokens, tokens)
    }

    /// Forgets everything.
    pub fn clear(&mut self, session: &mut Session) -> Result<()> {
        self.tokens.clear();
        session.clear(self.seq)
    }

    /// Brings the sequence to `tokens` of `slot`, and computes those after the longest beginning that was read
    /// with this slot before, at least the last one. [`Session::logits`] of output 0 are then those after the
    /// last. Returns how many tokens were computed.
    ///
    /// # Errors
    /// No tokens, or what [`Session::prompt`] refuses; the sequence is then empty.
    pub fn read(&mut self, session: &mut Session, slot: u32, tokens: &[Token]) -> Result<usize> {
        let kept = self.prepare(session, slot, tokens)?;
        let result = session.prompt(self.seq, &tokens[kept..]);
        if let Err(error) = result {
            self.clear(session)?;
            return Err(error);
        }
        self.tokens.truncate(kept);
        self.tokens.extend_from_slice(&tokens[kept..]);
        Ok(tokens.len() - kept)
    }

    /// Appends `token`, which the caller has decoded.
    pub fn push(&mut self, token: Token) {
        self.tokens.push(token);
    }

    /// Leaves what `tokens` begin with, and says how much that is.
    fn prepare(&mut self, session: &mut Session, slot: u32, tokens: &[Token]) -> Result<usize> {
        if tokens.is_empty() {
            return Err(Error::invalid("it is empty").field("prompt"));
        }
        let is_known = session.n_past(self.seq)? as usize == self.tokens.len();
        if session.slot(self.seq)? != slot || !is_known {
            self.clear(session)?;
            session.assign(self.seq, slot)?;
        }
        // At least one token must be decoded, for its logits.
        let n = common(&self.tokens, tokens).min(tokens.len() - 1);
        let kept = session.truncate(self.seq, n as u32)? as usize;
        self.tokens.truncate(kept);
        Ok(kept)
    }
}

fn common(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
