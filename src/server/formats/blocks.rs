//! An answer as blocks, one after the other: for forms that tell where each begins and where it ends.

use crate::engine::{AnswerMessage, ChatDelta, ToolCall, ToolCallDelta};

/// Something of one kind in an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    Thinking(String),
    Text(String),
    Call(ToolCall),
}

impl Block {
    /// All blocks of a message.
    pub fn all(message: &AnswerMessage) -> Vec<Self> {
        let thinking = Some(&message.reasoning).filter(|text| !text.is_empty());
        let text = Some(&message.content).filter(|text| !text.is_empty());
        let calls = message.tool_calls.iter().cloned().map(Self::Call);
        let thinking = thinking.cloned().map(Self::Thinking);
        thinking.into_iter().chain(text.cloned().map(Self::Text)).chain(calls).collect()
    }

    /// The same before anything of it is said.
    fn empty(&self) -> Self {
        match self {
            Self::Thinking(_) => Self::Thinking(String::new()),
            Self::Text(_) => Self::Text(String::new()),
            Self::Call(call) => Self::Call(ToolCall { arguments: String::new(), ..call.clone() }),
        }
    }

    fn text_mut(&mut self) -> &mut String {
        match self {
            Self::Thinking(text) | Self::Text(text) => text,
            Self::Call(call) => &mut call.arguments,
        }
    }
}

/// What happens to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It begins: a block without text.
    Begin,
    /// It goes on: a block of what is new alone.
    More,
    /// It ends: the whole block.
    End,
}

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Which block, from 0.
    pub index: usize,
    pub phase: Phase,
    pub block: Block,
}

/// Makes blocks of what goes on in a message.
#[derive(Debug, Default)]
pub struct Blocks {
    open: Option<Open>,
    n_closed: usize,
}

#[derive(Debug)]
struct Open {
    block: Block,
    /// The number of the call, if it is one.
    call: Option<usize>,
    /// Whether its beginning was told. That of a call waits for its arguments, since its name may not be whole yet.
    is_told: bool,
}

impl Blocks {
    /// What `delta` makes happen.
    pub fn push(&mut self, delta: &ChatDelta) -> Vec<Step> {
        let mut steps = Vec::new();
        if !delta.reasoning.is_empty() {
            self.say(Block::Thinking(delta.reasoning.clone()), &mut steps);
        }
        if !delta.content.is_empty() {
            self.say(Block::Text(delta.content.clone()), &mut steps);
        }
        if let Some(call) = &delta.tool_call {
            self.call(call, &mut steps);
        }
        steps
    }

    /// What happens when nothing follows.
    pub fn end(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        self.close(&mut steps);
        steps
    }

    fn say(&mut self, new: Block, steps: &mut Vec<Step>) {
        if self.open.as_ref().is_none_or(|open| open.block.empty() != new.empty()) {
            self.close(steps);
            self.open = Some(Open { block: new.empty(), call: None, is_told: false });
        }
        self.more(new, steps);
    }

    fn call(&mut self, delta: &ToolCallDelta, steps: &mut Vec<Step>) {
        if self.open.as_ref().is_none_or(|open| open.call != Some(delta.index)) {
            self.close(steps);
            let block = Block::Call(ToolCall::default());
            self.open = Some(Open { block, call: Some(delta.index), is_told: false });
        }
        let Some(Open { block: Block::Call(call), .. }) = &mut self.open else { return };
        for (new, known) in [(&delta.id, &mut call.id), (&delta.name, &mut call.name)] {
            if !new.is_empty() {
                known.clone_from(new);
            }
        }
        if !delta.arguments.is_empty() {
            let new = ToolCall { arguments: delta.arguments.clone(), ..call.clone() };
            self.more(Block::Call(new), steps);
        }
    }

    /// The open block goes on with `new`.
    fn more(&mut self, mut new: Block, steps: &mut Vec<Step>) {
        self.begin(steps);
        if let Some(open) = &mut self.open {
            open.block.text_mut().push_str(new.text_mut());
            steps.push(Step { index: self.n_closed, phase: Phase::More, block: new });
        }
    }

    /// Tells that the open block begins, once.
    fn begin(&mut self, steps: &mut Vec<Step>) {
        if let Some(open) = self.open.as_mut().filter(|open| !open.is_told) {
            open.is_told = true;
            steps.push(Step { index: self.n_closed, phase: Phase::Begin, block: open.block.empty() });
        }
    }

    fn close(&mut self, steps: &mut Vec<Step>) {
        self.begin(steps);
        if let Some(open) = self.open.take() {
            steps.push(Step { index: self.n_closed, phase: Phase::End, block: open.block });
            self.n_closed += 1;
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn said(reasoning: &str, content: &str) -> ChatDelta {
        ChatDelta { reasoning: reasoning.into(), content: content.into(), tool_call: None }
    }

    pub fn called(index: usize, id: &str, name: &str, arguments: &str) -> ChatDelta {
        let call = ToolCallDelta { index, id: id.into(), name: name.into(), arguments: arguments.into() };
        ChatDelta { tool_call: Some(call), ..ChatDelta::default() }
    }

    fn call(id: &str, name: &str, arguments: &str) -> Block {
        Block::Call(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() })
    }

    #[test]
    fn each_block_ends_before_the_next_begins() {
        use Phase::{Begin, End, More};
        let (thinking, text) =
            (|text: &str| Block::Thinking(text.into()), |text: &str| Block::Text(text.into()));
        let mut blocks = Blocks::default();
        for (delta, expected) in [
            (said("a", ""), vec![(0, Begin, thinking("")), (0, More, thinking("a"))]),
            (
                said("b", "c"),
                vec![
                    (0, More, thinking("b")),
                    (0, End, thinking("ab")),
                    (1, Begin, text("")),
                    (1, More, text("c")),
                ],
            ),
            // The name is not whole.
            (called(0, "x", "f", ""), vec![(1, End, text("c"))]),
            (called(0, "x", "fg", ""), vec![]),
            (called(0, "", "", "{"), vec![(2, Begin, call("x", "fg", "")), (2, More, call("x", "fg", "{"))]),
            (called(0, "", "", "}"), vec![(2, More, call("x", "fg", "}"))]),
            (
                called(1, "y", "h", "{}"),
                vec![
                    (2, End, call("x", "fg", "{}")),
                    (3, Begin, call("y", "h", "")),
                    (3, More, call("y", "h", "{}")),
                ],
            ),
            (called(2, "z", "i", ""), vec![(3, End, call("y", "h", "{}"))]),
            (
                said("", "d"),
                vec![
                    (4, Begin, call("z", "i", "")),
                    (4, End, call("z", "i", "")),
                    (5, Begin, text("")),
                    (5, More, text("d")),
                ],
            ),
            (ChatDelta::default(), vec![]),
        ] {
            let steps =
                blocks.push(&delta).into_iter().map(|Step { index, phase, block }| (index, phase, block));
            assert_eq!(steps.collect::<Vec<_>>(), expected, "{delta:?}");
        }
        assert_eq!(blocks.end(), [Step { index: 5, phase: End, block: text("d") }]);
        assert_eq!(blocks.end(), []);
    }

    #[test]
    fn a_message_has_the_blocks_that_it_says_something_in() {
        let call = ToolCall { id: "x".into(), name: "f".into(), arguments: "{}".into() };
        let message =
            AnswerMessage { reasoning: "a".into(), content: String::new(), tool_calls: vec![call.clone()] };
        assert_eq!(Block::all(&message), [Block::Thinking("a".into()), Block::Call(call)]);
        assert_eq!(Block::all(&AnswerMessage::default()), []);
    }
}
