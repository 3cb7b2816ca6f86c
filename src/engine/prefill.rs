//! The logits after many prompts, or after their last tokens: one decode for as many of them as fit, with no token
//! written.

use std::sync::Mutex;

use crate::engine::{Input, Session, Token};
use crate::error::{Error, Result};
use crate::progress::Interrupt;

/// A prompt whose next token is asked about.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// What is read; at least one token.
    pub tokens: Vec<Token>,
    /// The slot whose mixture reads it; 0 is the base model.
    pub slot: u32,
    /// After how many of its last tokens the logits are wanted, at least one.
    pub n_outputs: usize,
}

/// Reads all `prompts` with the sequences of all `sessions`, which must be alike, each in a thread of its own.
/// `done` gets the number of each prompt and the logits `[n_vocab]` after its last token, or after each of its last
/// tokens in turn. All sequences are empty afterwards, also after an error.
///
/// # Errors
/// A prompt that is empty, longer than a sequence's context, without outputs or with more than it has tokens, or of a
/// slot that there is not (then nothing runs); an error of `done`, or an interrupt.
pub fn prefill(
    sessions: &mut [Session],
    prompts: &[Prompt],
    interrupt: &Interrupt,
    done: impl FnMut(usize, &[f32]) -> Result<()> + Send,
) -> Result<()> {
    for session in &*sessions {
        for (i, prompt) in prompts.iter().enumerate() {
            check(session, prompt).map_err(|error| error.field(format!("prompt {i}")))?;
        }
    }
    let done = Mutex::new(done);
    let n_sessions = sessions.len();
    let run = |first: usize, session: &mut Session| {
        let mut own: Vec<_> = (first..prompts.len()).step_by(n_sessions).collect();
        // llama.cpp computes together what is equally long, and the rests of longer prompts in graphs of their own.
        own.sort_by_key(|&index| prompts[index].tokens.len());
        let result = read_all(session, prompts, &own, interrupt, &done);
        (0..session.n_seq()).try_for_each(|seq| session.clear(seq))?;
        result
    };
    let mut result = Ok(());
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = sessions
            .iter_mut()
            .enumerate()
            .map(|(first, session)| scope.spawn(move || run(first, session)))
            .collect();
        for thread in threads {
            let joined = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            if result.is_ok() {
                result = joined;
            }
        }
    });
    result
}

fn check(session: &Session, prompt: &Prompt) -> Result<()> {
    session.check_slot(prompt.slot)?;
    let n_ctx = session.n_ctx_seq() as usize;
    match prompt.tokens.len() {
        0 => Err(Error::invalid("it is empty")),
        n if n > n_ctx => Err(Error::too_large(format!(
            "expected at most {n_ctx} tokens, the context of a sequence, found {n}"
        ))
        .hint("use a larger `n_ctx` or a shorter question")),
        n if prompt.n_outputs == 0 || prompt.n_outputs > n => {
            Err(Error::expected(format!("1 to {n} outputs, as it has tokens"), prompt.n_outputs))
        }
        _ => Ok(()),
    }
}

fn read_all(
    session: &mut Session,
    prompts: &[Prompt],
    own: &[usize],
    interrupt: &Interrupt,
    done: &Mutex<impl FnMut(usize, &[f32]) -> Result<()>>,
) -> Result<()> {
    let mut rest = own;
    while !rest.is_empty() {
        interrupt.check()?;
        let n = n_together(session, prompts, rest);
        let (now, later) = rest.split_at(n);
        rest = later;
        for seq in 0..session.n_seq() {
            session.clear(seq)?;
        }
        let mut inputs = Vec::new();
        let mut outputs = Vec::new();
        for (seq, &index) in (0..).zip(now) {
            let Prompt { tokens, slot, n_outputs } = &prompts[index];
            session.assign(seq, *slot)?;
            let first = tokens.len() - n_outputs;
            let input = |(i, &token)| Input { seq, token, output: i >= first };
            inputs.extend(tokens.iter().enumerate().map(input));
            outputs.extend(std::iter::repeat_n(index, *n_outputs));
        }
        let mut next = outputs.into_iter();
        for chunk in inputs.chunks(session.n_batch() as usize) {
            session.decode(chunk)?;
            let n_outputs = chunk.iter().filter(|input| input.output).count();
            for (i, index) in next.by_ref().take(n_outputs).enumerate() {
                let logits = session.logits(i);
                if logits.iter().any(|logit| logit.is_nan()) {
                    return Err(Error::engine("the model computed NaN")
                        .hint("check the sidecar with `Sidecar::verify`, or lower `strength`"));
                }
                let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                done(index, logits)?;
            }
        }
    }
    Ok(())
}

/// How many of the prompts `rest` are read together: as many as there are sequences and room in one decode, at
/// least one, and no more than the KV cache holds.
fn n_together(session: &Session, prompts: &[Prompt], rest: &[usize]) -> usize {
    let room = session.n_batch().min(session.n_ctx()) as usize;
    let mut n_tokens = 0;
    let fits = |&&index: &&usize| {
        n_tokens += prompts[index].tokens.len();
        n_tokens <= room
    };
    rest.iter().take(session.n_seq() as usize).take_while(fits).count().max(1)
}
