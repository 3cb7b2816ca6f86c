//! The chat loop: lines from the terminal (or a pipe), replies to stdout, commands that begin with `/`.

use std::fmt::Write as _;
use std::io::IsTerminal;

use rustyline::error::ReadlineError;
use rustyline::DefaultEditor;

use super::adapt::{Adapter, Pass1};
use super::generate::{Generator, Reply, Stop};
use super::{ctrl_c, describe, open_expert, printer};
use crate::engine::ChatMessage;
use crate::error::{exit, Error, Result};
use crate::expert::Mixture;

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

/// Chats until the input ends; `strength` scales every mixture. With an `adapter` each message chooses its expert,
/// until one is chosen by hand.
pub fn main(generator: &mut Generator, adapter: Option<Adapter>, strength: f32) -> Result<u8> {
    if !generator.session.model().has_chat_template() {
        // The model's own words for it, with file, field and hint.
        generator.session.model().chat_prompt(&[])?;
    }
    let mut editor = DefaultEditor::new().map_err(cannot_read)?;
    let mut chat = Chat { generator, adapter, strength, messages: Vec::new() };
    printer::note(format_args!("mixture: {}. /help lists the commands.", chat.generator.mixture()));
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

struct Chat<'a> {
    generator: &'a mut Generator,
    adapter: Option<Adapter>,
    strength: f32,
    messages: Vec<ChatMessage>,
}

impl Chat<'_> {
    /// Answers one message. After an error the conversation is as before.
    fn say(&mut self, message: &str) -> Result<()> {
        self.messages.push(ChatMessage { role: "user", content: message.to_owned() });
        let (reply, pass1) = match self.answer(message) {
            Ok(reply) => reply,
            Err(error) => {
                self.messages.pop();
                return Err(error.hint("/clear begins a new conversation"));
            }
        };
        printer::print("\n")?;
        if let Some(pass1) = pass1 {
            printer::note(pass1.describe(reply.ms()));
        }
        printer::note(describe(&reply, self.generator.mixture()));
        if reply.stop == Stop::Interrupted && reply.text.is_empty() {
            self.messages.pop();
        } else {
            self.messages.push(ChatMessage { role: "assistant", content: reply.text });
        }
        Ok(())
    }

    /// Both passes for the conversation as it stands; `message` is its last.
    fn answer(&mut self, message: &str) -> Result<(Reply, Option<Pass1>)> {
        let model = self.generator.session.model().clone();
        let tokens = model.tokenize(&model.chat_prompt(&self.messages)?, true, true)?;
        let mut pass1 = None;
        if let Some(adapter) = &mut self.adapter {
            pass1 = Some(adapter.adapt(self.generator, message)?);
        }
        Ok((self.generator.reply(&tokens, printer::print)?, pass1))
    }

    fn command(&mut self, command: &str) -> Result<()> {
        let (name, argument) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let argument = argument.trim();
        match name {
            "help" => printer::note(HELP),
            "clear" => self.messages.clear(),
            "experts" => printer::note(self.list()?),
            "use" if argument.is_empty() => self.use_mixture(Mixture::base())?,
            "use" => self.use_mixture(Mixture::single(argument))?,
            "mix" => self.use_mixture(Mixture::parse(argument)?)?,
            "load" | "unload" if self.adapter.is_some() => {
                return Err(Error::invalid("the model chooses among the experts that it was started with")
                    .field(format!("/{name}"))
                    .hint("/use ends that"))
            }
            "load" => {
                let (expert, path) = open_expert(argument)?;
                let name = expert.name.clone();
                self.generator.session.experts_mut()?.insert(expert).map_err(|error| error.file(path))?;
                printer::note(format_args!("loaded {name}; /use {name} uses it"));
            }
            "unload" => {
                if self.generator.mixture().weights().any(|(name, _)| name == argument) {
                    return Err(Error::invalid("it is in use")
                        .field(format!("expert {argument}"))
                        .hint("/use changes to the base model"));
                }
                self.generator.session.experts_mut()?.remove(argument)?;
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
        self.generator.use_mixture(mixture.strength(self.strength)?)?;
        if self.adapter.take().is_some() {
            printer::note("note: from now on the mixture stays as you choose it");
        }
        printer::note(format_args!("mixture: {}", self.generator.mixture()));
        Ok(())
    }

    fn list(&self) -> Result<String> {
        let experts = self.generator.session.experts()?;
        let mixture = self.generator.mixture();
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
