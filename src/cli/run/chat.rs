//! The chat loop: lines from the terminal (or a pipe), replies to stdout, commands that begin with `/`.

use std::fmt::Write as _;
use std::io::IsTerminal;

use rustyline::error::ReadlineError;
use rustyline::DefaultEditor;

use super::replies::{Prompt, Replies, Reply};
use super::{ctrl_c, describe, open_expert, printer};
use crate::engine::scheduler::Ended;
use crate::engine::{ChatMessage, ChatPrompt};
use crate::error::{exit, Error, Result};
use crate::expert::Mixture;
use crate::reward::thinking::{self, Parts};

const HELP: &str = "\
/use [NAME]         use one expert; without a name, the base model
/mix A=0.7,B=0.3    use a weighted sum of experts
/experts            list the loaded experts
/load [NAME=]FILE   load an expert
/unload NAME        forget an expert
/clear              begin a new conversation
/help               show this
/exit               leave (also Ctrl-D)
Ctrl-C stops a reply. Another mixture reads the conversation again.";

/// Chats until the input ends; every conversation begins with `system`, and `strength` scales every mixture that is chosen
/// by hand.
pub fn main(replies: Replies, strength: f32, system: Vec<ChatMessage>) -> Result<u8> {
    let mut editor = DefaultEditor::new().map_err(cannot_read)?;
    let mut chat = Chat { replies, strength, messages: system.clone(), system };
    printer::note(format_args!("mixture: {}. /help lists the commands.", chat.replies.mixture()));
    // On terminals that it cannot steer, rustyline would print a prompt even for a pipe, in the midst of the replies.
    let prompt = if std::io::stdin().is_terminal() { "> " } else { "" };
    loop {
        let line = match editor.readline(prompt) {
            Ok(line) => line,
            Err(ReadlineError::Eof) => return Ok(exit::DONE),
            Err(ReadlineError::Interrupted) => return Ok(exit::INTERRUPTED),
            Err(error) => return Err(cannot_read(error)),
        };
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        // A history that cannot grow is no reason to stop.
        let _ = editor.add_history_entry(line);
        ctrl_c::forget();
        let result = match line.strip_prefix('/') {
            Some("exit" | "quit") => return Ok(exit::DONE),
            Some(command) => chat.command(command),
            None => chat.say(line),
        };
        match result {
            Err(error) if error.is_broken_pipe() => return Err(error),
            Err(error) => printer::complain(&error),
            Ok(()) => {}
        }
    }
}

fn cannot_read(error: ReadlineError) -> Error {
    Error::invalid(format!("cannot read the next line: {error}")).field("standard input")
}

struct Chat {
    replies: Replies,
    strength: f32,
    messages: Vec<ChatMessage>,
    /// What every conversation begins with.
    system: Vec<ChatMessage>,
}

impl Chat {
    /// Answers one message. After an error the conversation is as before.
    fn say(&mut self, message: &str) -> Result<()> {
        self.messages.push(ChatMessage::user(message));
        let reply = match self.answer(message) {
            Ok(reply) => reply,
            Err(error) => {
                self.messages.pop();
                return Err(error.hint("/clear begins a new conversation"));
            }
        };
        printer::print("\n")?;
        if let Some(pass1) = &reply.pass1 {
            printer::note(pass1.describe(reply.ms()));
        }
        printer::note(describe(&reply, self.replies.mixture()));
        if reply.ended == Ended::Cancelled && reply.n_generated == 0 {
            self.messages.pop();
        } else {
            let Parts { thinking, answer } = thinking::split(&reply.text);
            let reasoning = Some(thinking).filter(|text| !text.trim().is_empty());
            self.messages
                .push(ChatMessage { reasoning, ..ChatMessage::assistant(answer.unwrap_or_default()) });
        }
        Ok(())
    }

    /// Both passes for the conversation as it stands; `message` is its last.
    fn answer(&mut self, message: &str) -> Result<Reply> {
        let ChatPrompt { tokens, thinking, .. } =
            self.replies.scheduler().model().chat_prompt(&self.messages)?;
        self.replies.reply(Prompt { question: message, tokens, thinking }, printer::print)
    }

    fn command(&mut self, command: &str) -> Result<()> {
        let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let argument = argument.trim();
        match name {
            "help" => printer::note(HELP),
            "clear" => self.messages.clone_from(&self.system),
            "experts" => printer::note(self.list()?),
            "use" if argument.is_empty() => self.use_mixture(Mixture::base())?,
            "use" => self.use_mixture(Mixture::single(argument))?,
            "mix" => self.use_mixture(Mixture::parse(argument)?)?,
            "load" | "unload" if self.replies.is_adaptive() => {
                return Err(Error::invalid("the model chooses among the experts that it was started with")
                    .field(format!("/{name}"))
                    .hint("/use ends that"))
            }
            "load" => {
                let (expert, path) = open_expert(argument)?;
                let name = expert.name.clone();
                let load = self.replies.scheduler().change_experts(|experts| experts.insert(expert));
                load.map_err(|error| error.file(path))?;
                printer::note(format_args!("loaded {name}; /use {name} uses it"));
            }
            "unload" => {
                if self.replies.mixture().weights().any(|(name, _)| name == argument) {
                    return Err(Error::invalid("it is in use")
                        .field(format!("expert {argument}"))
                        .hint("/use changes to the base model"));
                }
                self.replies.scheduler().change_experts(|experts| experts.remove(argument).map(drop))?;
            }
            _ => {
                return Err(
                    Error::invalid(format!("unknown command /{name}")).hint("/help lists the commands")
                )
            }
        }
        Ok(())
    }

    fn use_mixture(&mut self, mixture: Mixture) -> Result<()> {
        let was_adaptive = self.replies.is_adaptive();
        self.replies.use_mixture(mixture.strength(self.strength)?)?;
        if was_adaptive {
            printer::note("note: from now on the mixture stays as you choose it");
        }
        printer::note(format_args!("mixture: {}", self.replies.mixture()));
        Ok(())
    }

    fn list(&self) -> Result<String> {
        let experts = self.replies.scheduler().experts()?;
        let mixture = self.replies.mixture();
        let mut text = String::new();
        for expert in experts.iter() {
            let alpha = mixture.weights().find(|(name, _)| *name == expert.name);
            let alpha = alpha.map_or(String::new(), |(_, alpha)| format!(" (in use: {alpha})"));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}{alpha}: {}", expert.name, expert.description);
        }
        if text.is_empty() {
            text += "no expert is loaded; /load FILE loads one\n";
        }
        Ok(text.trim_end().to_owned())
    }
}
