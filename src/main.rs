//! The `llama-svf` program; everything it does lives in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    llama_svf::cli::main()
}
