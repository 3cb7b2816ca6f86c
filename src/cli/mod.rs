//! The command line: flags in, an exit code out. One file per command; the only module that knows clap,
//! indicatif and the terminal.
//!
//! Results go to stdout, talk to stderr. A command returns the exit code of what it found, or an error; both
//! become the process's exit code in [`main`] and nowhere else.

mod adapt;
mod adapt_args;
mod bench;
mod ctrl_c;
mod decompose;
mod demo;
mod describe;
mod dispatched;
mod eval;
mod experts;
mod export;
mod flags;
mod inputs;
mod inspect;
mod lora_args;
mod printer;
mod report;
mod rpc_server;
mod run;
mod runtime_args;
mod sampler_args;
mod score;
mod search_args;
#[cfg(feature = "serve")]
mod serve;
mod task;
mod train;
mod transfer;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{exit, Error, Result};
use crate::ffi::fatal;
use crate::reward::code::sandbox;
use crate::temporary;

#[derive(Parser)]
#[command(
    name = "llama-svf",
    version,
    about = "Self-adaptive language models (Transformer²) on llama.cpp",
    long_about = "Self-adaptive language models (Transformer², arXiv 2501.06252) on llama.cpp.\n\n\
        A sidecar holds the singular value decomposition of some of a model's weights. An expert is a small \
        file that scales the singular values, and so changes what the model is good at. Experts switch in \
        microseconds, mix by weighted sums, and a batch can use a different one for every sequence.",
    after_help = "Examples:\n  \
        llama-svf decompose -m model.gguf --rank 64        make model.svf.gguf, once\n  \
        llama-svf inspect model.svf.gguf                   look at it\n  \
        llama-svf run -m model.gguf --svf model.svf.gguf --expert maths.expert.gguf --use maths -p 'Hello'\n  \
        llama-svf serve -m model.gguf --svf model.svf.gguf --experts-dir experts     as llama-server does\n  \
        llama-svf train -m model.gguf --svf model.svf.gguf --task gsm8k -o maths.expert.gguf\n  \
        llama-svf describe maths.expert.gguf -m model.gguf --svf model.svf.gguf --task gsm8k     so that it can be chosen\n  \
        llama-svf task my-task.toml -m model.gguf          whether a task is in order\n  \
        llama-svf eval -m model.gguf --task gsm8k          how well it answers\n  \
        llama-svf score --task gsm8k --answers FILE.jsonl  how good answers are that you have\n  \
        llama-svf report                                   tables and pictures of experts and strategies\n  \
        llama-svf export lora --svf model.svf.gguf --expert maths.expert.gguf --use maths -o maths.lora.gguf     for any llama.cpp\n  \
        llama-svf bench -m model.gguf --svf model.svf.gguf what it costs on this machine\n  \
        llama-svf rpc-server --host 10.0.0.2               let other machines keep layers here (their --rpc)\n\n\
        Exit codes: 0 done, 1 checked and not in order, 2 error, 130 interrupted."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Decompose(decompose::Args),
    Inspect(inspect::Args),
    Run(run::Args),
    #[cfg(feature = "serve")]
    Serve(serve::Args),
    Train(train::Args),
    Describe(describe::Args),
    Eval(eval::Args),
    Task(task::Args),
    Score(score::Args),
    Adapt(adapt::Args),
    Transfer(transfer::Args),
    Export(export::Args),
    Report(report::Args),
    Bench(bench::Args),
    RpcServer(rpc_server::Args),
    Demo(demo::Args),
}

/// Runs the command that the process's arguments name.
pub fn main() -> ExitCode {
    if let Some(code) = sandbox::main(std::env::args_os()) {
        return code;
    }
    fatal::end_in_one_line(fatal::LastWords { tell: last_words, code: exit::ERROR });
    let cli = Cli::parse_from(with_long_names(std::env::args_os()));
    let result = ctrl_c::listen().and_then(|()| match cli.command {
        Command::Decompose(args) => decompose::main(&args),
        Command::Inspect(args) => inspect::main(&args),
        Command::Run(args) => run::main(&args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::main(args),
        Command::Train(args) => train::main(&args),
        Command::Describe(args) => describe::main(&args),
        Command::Eval(args) => eval::main(&args),
        Command::Task(args) => task::main(&args),
        Command::Score(args) => score::main(&args),
        Command::Adapt(args) => adapt::main(&args),
        Command::Transfer(args) => transfer::main(&args),
        Command::Export(args) => export::main(&args),
        Command::Report(args) => report::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::RpcServer(args) => rpc_server::main(&args),
        Command::Demo(args) => demo::main(&args),
    });
    exit_code(result)
}

/// What is said where llama.cpp ends the process.
fn last_words(model: Option<PathBuf>, problem: &str) {
    let mut error = Error::engine(problem);
    if let Some(model) = model {
        error = error.file(model).hint("check that stock llama-cli runs this model");
    }
    printer::complain(&error);
    temporary::remove_all();
}

fn exit_code(result: Result<u8>) -> ExitCode {
    let code = match result {
        Ok(code) => code,
        Err(error) if error.is_broken_pipe() => exit::DONE,
        Err(error) => {
            printer::complain(&error);
            error.exit_code()
        }
    };
    ExitCode::from(code)
}

/// llama.cpp has short flags of several letters, which clap does not know.
fn with_long_names(args: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    args.map(|arg| match arg.to_str() {
        Some("-ngl") => "--n-gpu-layers".into(),
        Some("-ub") => "--ubatch-size".into(),
        Some("-np") => "--parallel".into(),
        _ => arg,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_flags_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
