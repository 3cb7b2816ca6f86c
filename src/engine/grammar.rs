//! What a model may write, as llama.cpp's grammars say it, from the first letter on or from where something sets them off.

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::token::LlamaToken;

use crate::engine::{Model, Token};
use crate::error::{Error, Result};

/// llama.cpp follows groups and rules by recursion.
const MAX_NESTING: usize = 200;
/// The same, of rules; 10000 that each need the next fit into the 2 MiB of a thread, 20000 do not.
const MAX_RULES: usize = 4000;

/// What may be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grammar {
    /// In GBNF, beginning with the rule `root`.
    pub text: String,
    /// The end of the prompt, with which the grammar begins.
    pub begun: Vec<Token>,
    /// What sets it off; `None` if it holds from the beginning.
    pub lazy: Option<Lazy>,
}

/// What sets a grammar off; before, anything may be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lazy {
    /// Regular expressions for what was written; the grammar begins with their first group.
    pub patterns: Vec<String>,
    /// Tokens, with which the grammar begins.
    pub tokens: Vec<Token>,
    /// What begins thinking, in which nothing sets it off; empty if the model does not think.
    pub thinking_start: Vec<Token>,
    /// What ends it, one or the other.
    pub thinking_ends: Vec<Vec<Token>>,
}

impl From<String> for Grammar {
    fn from(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

impl From<&str> for Grammar {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// A grammar at work.
pub(super) struct GrammarSampler {
    sampler: LlamaSampler,
    thinking: Option<ThinkingWatch>,
}

impl GrammarSampler {
    /// The grammar, after what is begun already.
    ///
    /// # Errors
    /// It does not parse, is nested too deeply, or does not begin as it should.
    pub fn new(grammar: &Grammar, model: &Model) -> Result<Self> {
        let wrong = |problem: String| {
            Error::invalid(problem)
                .setting("grammar")
                .hint("it is written in GBNF, and begins with a rule `root ::= …`")
        };
        if nesting(&grammar.text) > MAX_NESTING {
            return Err(wrong(format!("expected at most {MAX_NESTING} nested groups, found more")));
        }
        if grammar.text.matches("::=").count() > MAX_RULES {
            return Err(wrong(format!("expected at most {MAX_RULES} rules, found more")));
        }
        let llama = model.handle.llama();
        let sampler = match &grammar.lazy {
            None => LlamaSampler::grammar(llama, &grammar.text, "root"),
            Some(lazy) => {
                let tokens: Vec<_> = lazy.tokens.iter().copied().map(LlamaToken).collect();
                LlamaSampler::grammar_lazy_patterns(llama, &grammar.text, "root", &lazy.patterns, &tokens)
            }
        };
        let sampler = sampler.map_err(|error| wrong(format!("llama.cpp cannot parse it: {error}")))?;
        let mut thinking = grammar.lazy.as_ref().and_then(ThinkingWatch::new);
        for &token in &grammar.begun {
            _ = thinking.as_mut().map(|thinking| thinking.see(token));
        }
        let mut sampler = Self { sampler, thinking };
        if grammar.lazy.is_none() {
            for &token in &grammar.begun {
                sampler.take(LlamaToken(token))?;
            }
        }
        Ok(sampler)
    }

    fn is_off(&self) -> bool {
        self.thinking.as_ref().is_some_and(|thinking| thinking.is_open)
    }

    /// Whether `token` may come next.
    pub fn allows(&mut self, token: LlamaToken) -> bool {
        let mut one = LlamaTokenDataArray::new(vec![LlamaTokenData::new(token, 0.0, 0.0)], false);
        self.restrict(&mut one);
        !one.data.is_empty()
    }

    /// Leaves what may come next.
    pub fn restrict(&mut self, candidates: &mut LlamaTokenDataArray) {
        if !self.is_off() {
            candidates.apply_sampler(&mut self.sampler);
            candidates.data.retain(|candidate| candidate.logit() > f32::NEG_INFINITY);
        }
    }

    /// Goes on with `token`.
    ///
    /// # Errors
    /// llama.cpp cannot.
    pub fn accept(&mut self, token: LlamaToken) -> Result<()> {
        let was_off = self.is_off();
        let end = self.thinking.as_mut().and_then(|thinking| thinking.see(token.0));
        match end {
            // What ends the thinking may set the grammar off.
            Some(end) if was_off => end.into_iter().try_for_each(|token| self.take(LlamaToken(token))),
            _ if was_off => Ok(()),
            _ => self.take(token),
        }
    }

    fn take(&mut self, token: LlamaToken) -> Result<()> {
        self.sampler
            .try_accept(token)
            .map_err(|error| Error::engine(format!("llama.cpp's grammar cannot go on: {error}")))
    }
}

/// Looks for thinking in tokens.
struct ThinkingWatch {
    start: Vec<Token>,
    ends: Vec<Vec<Token>>,
    /// The last tokens since something was found.
    recent: Vec<Token>,
    is_open: bool,
}

impl ThinkingWatch {
    fn new(lazy: &Lazy) -> Option<Self> {
        let ends: Vec<_> = lazy.thinking_ends.iter().filter(|end| !end.is_empty()).cloned().collect();
        let start = lazy.thinking_start.clone();
        let is_known = !start.is_empty() && !ends.is_empty();
        is_known.then_some(Self { start, ends, recent: Vec::new(), is_open: false })
    }

    /// Goes on with `token`; the end of the thinking, if this was its last token.
    fn see(&mut self, token: Token) -> Option<Vec<Token>> {
        self.recent.push(token);
        if !self.is_open {
            if self.recent.ends_with(&self.start) {
                self.is_open = true;
                self.recent.clear();
            }
        } else if let Some(end) = self.ends.iter().find(|end| self.recent.ends_with(end)).cloned() {
            self.is_open = false;
            self.recent.clear();
            return Some(end);
        }
        let longest = self.ends.iter().map(Vec::len).max().unwrap_or(0).max(self.start.len());
        let n_old = self.recent.len().saturating_sub(longest);
        self.recent.drain(..n_old);
        None
    }
}

/// How deeply groups are nested in a grammar.
fn nesting(grammar: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    // What ends the text, class or comment that it is in.
    let mut until = None;
    let mut bytes = grammar.bytes();
    while let Some(byte) = bytes.next() {
        match (byte, until) {
            (b'\\', Some(b'"' | b']')) => _ = bytes.next(),
            (_, Some(end)) if byte == end => until = None,
            (_, Some(_)) => {}
            (b'"', None) => until = Some(b'"'),
            (b'[', None) => until = Some(b']'),
            (b'#', None) => until = Some(b'\n'),
            (b'(', None) => depth += 1,
            (b')', None) => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::nesting;

    #[test]
    fn only_groups_are_nested() {
        for (grammar, depth) in
            [("root ::= ((a))", 2), ("root ::= \"((\" [((\\]\"] # ((\n(a)", 1), ("root ::= (", 1)]
        {
            assert_eq!(nesting(grammar), depth, "{grammar}");
        }
    }
}
