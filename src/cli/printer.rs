//! Where text goes: results to stdout, talk to stderr, progress to a bar on a terminal and to plain lines
//! elsewhere.

use std::fmt;
use std::io::{self, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::flags;
use crate::error::{Error, Result};
use crate::progress::Progress;

/// Writes part of the result and makes it visible at once.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| Error::io("cannot write", "stdout", error))
}

/// Writes `value` as the result, as indented JSON.
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::engine(format!("cannot write JSON: {error}")))?;
    print(&(text + "\n"))
}

/// Tells the user something that is not part of the result.
pub fn note(line: impl fmt::Display) {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Tells the user what went wrong, in one line.
pub fn complain(error: &Error) {
    note(format_args!("error: {}", error.message(flags::word)));
}

/// Tells the user of an error that ends nothing, in one line.
pub fn note_error(error: &Error) {
    note(format_args!("note: {}", error.message(flags::word)));
}

/// A progress bar for one piece of work.
pub struct Bar {
    verb: &'static str,
    bar: ProgressBar,
    plain: Mutex<Option<Plain>>,
}

/// What lines about progress need to know, where stderr is no terminal.
struct Plain {
    total: u64,
    done: u64,
    /// Done in an earlier run, which says nothing about the speed of this one.
    before: u64,
    began: Instant,
    next_line: Instant,
    status: String,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Time between two plain lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

impl Bar {
    /// A bar for work that `verb` names, such as "decomposing".
    pub fn new(verb: &'static str) -> Self {
        Self { verb, bar: ProgressBar::hidden(), plain: Mutex::new(None) }
    }

    fn with_plain(&self, change: impl FnOnce(&mut Plain)) {
        let mut plain = self.plain.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(plain) = plain.as_mut() {
            change(plain);
        }
    }
}

impl Progress for Bar {
    fn start(&self, total: u64, done: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.reset_eta();
        self.bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        if self.bar.is_hidden() {
            let now = Instant::now();
            let plain = Plain {
                total,
                done,
                before: done,
                began: now,
                next_line: now + PLAIN_INTERVAL,
                status: String::new(),
            };
            *self.plain.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(plain);
            return;
        }
        self.bar.set_style(style("{prefix} {wide_bar} {percent:>3} %  {elapsed} < {eta}"));
        self.bar.set_prefix(self.verb);
        self.bar.enable_steady_tick(Duration::from_millis(500));
    }

    fn advance(&self, units: u64) {
        self.bar.inc(units);
        self.with_plain(|plain| {
            plain.done += units;
            let now = Instant::now();
            let worked = plain.done.saturating_sub(plain.before);
            if now < plain.next_line || worked == 0 {
                return;
            }
            plain.next_line = now + PLAIN_INTERVAL;
            let left = plain.total.saturating_sub(plain.done);
            let eta = now.duration_since(plain.began).as_secs_f64() * left as f64 / worked as f64;
            let percent = 100.0 * plain.done as f64 / plain.total.max(1) as f64;
            let comma = if plain.status.is_empty() { "" } else { ", " };
            note(format_args!("{}: {percent:.0} %, {eta:.0} s left{comma}{}", self.verb, plain.status));
        });
    }

    fn status(&self, words: &str) {
        self.bar.set_style(style("{prefix} {wide_bar} {percent:>3} %  {elapsed} < {eta}\n{msg}"));
        self.bar.set_message(words.to_owned());
        self.with_plain(|plain| words.clone_into(&mut plain.status));
    }

    fn note(&self, line: &str) {
        self.bar.suspend(|| note(format_args!("note: {line}")));
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
        self.plain.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    }
}
