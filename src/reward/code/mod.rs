//! Code: runs a completion and its tests with python3, walled off from everything else.
//!
//! What a completion prints proves nothing, nor does its exit status: it counts as passed only if the harness
//! prints a random token after the last test. The program and the token never lie in a file, and names that
//! the program may have replaced (`print`, `exec`, `exit`, …) are fetched before it runs. All the same it
//! shares one interpreter with its tests, so a program that is written to find the token in the
//! interpreter's frames, or that returns objects equal to everything, can cheat. [`sandbox`] says what holds
//! even then.

mod blocks;
mod program;
mod python;
pub mod sandbox;

use std::path::PathBuf;

use super::Score;
use crate::error::Result;
pub use program::{program, without_fences};
use sandbox::{End, Limits, Sandbox};

/// Runs completions. `Sync`: several may run at once.
#[derive(Debug)]
pub struct Code {
    sandbox: Sandbox,
}

impl Code {
    /// Finds python3 and tries the sandbox. `launcher` is the `llama-svf` program; `None` is the running one, if it called
    /// [`sandbox::main`] at its start.
    ///
    /// # Errors
    /// There is no launcher, or no python3 of the search path runs inside the sandbox.
    pub fn new(launcher: Option<PathBuf>, limits: Limits) -> Result<Self> {
        Ok(Self { sandbox: Sandbox::new(launcher, limits)? })
    }

    /// What protects less on this machine than it could, one line each.
    pub fn notes(&self) -> &[String] {
        self.sandbox.notes()
    }

    /// 1 if `program` runs and all of `tests` pass, within the limits.
    ///
    /// # Errors
    /// The sandbox itself failed; nothing that the program does is an error.
    pub fn score(&self, program: &str, tests: &str) -> Result<Score> {
        if program.contains('\0') || tests.contains('\0') {
            return Ok(Score::wrong("the program holds a zero byte"));
        }
        let token = format!("{:032x}", rand::random::<u128>());
        let outcome = self.sandbox.run(format!("{token}\0{program}\0{tests}").as_bytes())?;
        let limits = self.sandbox.limits();
        Ok(match outcome.end {
            End::TimedOut => Score::wrong(format!("still running after {} s", limits.seconds)),
            End::TooMuchOutput => Score::wrong(format!("printed more than {} bytes", limits.output_bytes)),
            End::Ended => {
                let output = String::from_utf8_lossy(&outcome.output);
                match output.rsplit_once(&format!("\n{token}")).map(|(_, verdict)| verdict) {
                    Some("passed") => Score::judge(true, "all tests passed"),
                    Some(failed) => Score::wrong(failed),
                    None => Score::wrong("ended before its tests did"),
                }
            }
        })
    }
}
