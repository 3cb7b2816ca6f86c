//! Scores by a program of the user's own: it reads a line of JSON for every answer, and writes a line with the score.
//!
//! One process serves all answers, one after the other, so that whatever it loads is loaded once. It is trusted as the
//! user's other programs are: no sandbox, the user's rights, the user's environment. A fault of it is no fault of the
//! model, so that it is an error and not a score of 0; the next answer then meets a fresh process.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use super::Score;
use crate::error::{Error, Result};

/// More is no score.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// How long a program may take to end once its input has, before it is killed.
const FAREWELL: Duration = Duration::from_millis(500);

/// A program that scores. `Sync`: calls from several threads take turns.
#[derive(Debug)]
pub struct Program {
    /// As an error names it.
    name: PathBuf,
    words: Vec<String>,
    folder: PathBuf,
    limit: Duration,
    running: Mutex<Option<Running>>,
}

impl Program {
    /// Starts the program that `words` name, in `folder`. Where the first word has a slash it is relative to
    /// `folder`, otherwise it is looked up in the search path. Each answer may take `seconds`, the first one together
    /// with what the program does before it reads.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn new(words: &[String], folder: &Path, seconds: u64) -> Result<Self> {
        let [name, ..] = words else {
            return Err(Error::expected(
                "the words of a command, such as [\"python3\", \"score.py\"]",
                "none",
            ));
        };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let folder = std::path::absolute(folder).map_err(|error| Error::io("cannot find", folder, error))?;
        let name = if name.contains('/') { folder.join(name) } else { PathBuf::from(name) };
        let limit = Duration::from_secs(seconds);
        let program = Self { name, words: words.to_vec(), folder, limit, running: Mutex::new(None) };
        let running = program.start()?;
        Ok(Self { running: Mutex::new(Some(running)), ..program })
    }

    /// The score that the program gives for `question`, which becomes one line of JSON.
    ///
    /// # Errors
    /// The program ended, took too long, or wrote something else than a score.
    pub fn score(&self, question: &impl Serialize) -> Result<Score> {
        let mut line = serde_json::to_vec(question)
            .map_err(|error| Error::invalid(format!("cannot write JSON: {error}")))?;
        line.push(b'\n');
        let mut place = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever fails is not put back.
        let mut running = match place.take() {
            Some(running) => running,
            None => self.start()?,
        };
        match running.ask(line, self.limit).and_then(|answer| read_score(&answer)) {
            Ok(score) => {
                running.n_scored += 1;
                *place = Some(running);
                Ok(score)
            }
            Err(fault) => Err(self.blame(fault, running)),
        }
    }

    fn start(&self) -> Result<Running> {
        let mut command = Command::new(&self.name);
        command.args(&self.words[1..]).current_dir(&self.folder);
        // Python keeps what it prints to a pipe until there are some kilobytes; we would wait for them in vain.
        command.env("PYTHONUNBUFFERED", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // With a group of its own, what it starts can be ended with it, and Ctrl-C is for us alone.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
            .spawn()
            .map_err(|source| self.cannot_start(source))
            .and_then(|child| Running::new(child, self))
    }

    fn cannot_start(&self, source: std::io::Error) -> Error {
        use std::io::ErrorKind;
        let interpreter = "or name its interpreter, as in [\"python3\", \"score.py\"]";
        let hint = match source.kind() {
            ErrorKind::NotFound if self.name.exists() => {
                Some(String::from("the interpreter that its first line names is not there"))
            }
            ErrorKind::NotFound if self.name.components().count() == 1 => {
                Some(format!("a program beside the task file is written ./{}", self.name.display()))
            }
            ErrorKind::PermissionDenied => Some(format!("make it executable with chmod +x, {interpreter}")),
            // ENOEXEC.
            _ if source.raw_os_error() == Some(8) => {
                Some(format!("let its first line name an interpreter with #!, {interpreter}"))
            }
            _ => None,
        };
        let error = Error::io("cannot start the program that scores", &self.name, source);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// Ends the process, and says what it did wrong.
    fn blame(&self, fault: Fault, running: Running) -> Error {
        let seconds = self.limit.as_secs();
        let n_scored = running.n_scored;
        let (status, complaints) = running.end(matches!(fault, Fault::Ended));
        let after = format!("after {n_scored} scores");
        let (what, hint) = match fault {
            Fault::Ended => (
                format!("the program that scores ended {after} ({})", how(status)),
                "it has to go on until its input ends",
            ),
            Fault::TimedOut => (
                format!("the program that scores gave no score within {seconds} s, {after}"),
                "does it write a line for each answer, at once? reward.seconds gives it more time",
            ),
            Fault::Unasked(line) => (
                format!("the program that scores wrote a line too many, {after}: '{}'", shown(&line)),
                "it has to write one line for each line it reads; anything else goes to its stderr",
            ),
            Fault::NoScore(line) => (
                format!("the program that scores wrote '{}', {after}", shown(&line)),
                "a line is a number from 0 to 1 or {\"score\": 0.5, \"reason\": \"why\"}; anything else goes to its \
                 stderr",
            ),
        };
        let problem = match complaints.is_empty() {
            true => what,
            false => format!("{what}; it said: {}", complaints.join(" | ")),
        };
        Error::invalid(problem).file(&self.name).hint(hint)
    }
}

/// What a program did wrong.
enum Fault {
    Ended,
    TimedOut,
    /// A line before the question.
    Unasked(Vec<u8>),
    NoScore(Vec<u8>),
}

/// A process. Three threads look after its pipes, so that it may write whenever it likes and read as slowly.
#[derive(Debug)]
struct Running {
    child: Child,
    /// Whether its status was fetched already.
    is_gone: bool,
    /// Closing it ends the program's input.
    questions: Option<Sender<Vec<u8>>>,
    answers: Receiver<Vec<u8>>,
    complaints: Arc<Mutex<VecDeque<String>>>,
    /// Closes when stderr does.
    said_all: Receiver<()>,
    n_scored: usize,
}

impl Running {
    fn new(mut child: Child, program: &Program) -> Result<Self> {
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Error::engine("a process without pipes").file(&program.name));
        };
        let (questions, to_ask) = mpsc::channel::<Vec<u8>>();
        std::thread::spawn(move || {
            // A program that is gone closes the pipe; the thread that reads its answers tells.
            while to_ask.recv().is_ok_and(|line| stdin.write_all(&line).is_ok()) {}
        });
        // A program that writes on and on has to wait for us.
        let (answered, answers) = mpsc::sync_channel(4);
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            while let Some(line) = read_line(&mut stdout) {
                if answered.send(line).is_err() {
                    break;
                }
            }
        });
        let complaints = Arc::new(Mutex::new(VecDeque::new()));
        let (saying, said_all) = mpsc::channel();
        let kept = Arc::clone(&complaints);
        std::thread::spawn(move || {
            /// As many as an error shows.
            const MAX_LINES: usize = 5;
            let _saying: Sender<()> = saying;
            let mut stderr = BufReader::new(stderr);
            while let Some(line) = read_line(&mut stderr) {
                let line = shown(&line);
                if !line.is_empty() {
                    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.push_back(line);
                    if kept.len() > MAX_LINES {
                        kept.pop_front();
                    }
                }
            }
        });
        let questions = Some(questions);
        Ok(Self { child, is_gone: false, questions, answers, complaints, said_all, n_scored: 0 })
    }

    fn ask(&mut self, line: Vec<u8>, limit: Duration) -> std::result::Result<Vec<u8>, Fault> {
        match self.answers.try_recv() {
            Ok(unasked) => return Err(Fault::Unasked(unasked)),
            Err(TryRecvError::Disconnected) => return Err(Fault::Ended),
            Err(TryRecvError::Empty) => {}
        }
        let asked = self.questions.as_ref().is_some_and(|questions| questions.send(line).is_ok());
        match self.answers.recv_timeout(limit) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) if asked => Err(Fault::TimedOut),
            // It closed its input or its output.
            Err(_) => Err(Fault::Ended),
        }
    }

    /// Ends the process, after a moment if it is `ending` by itself; its status and the last lines it wrote to stderr.
    fn end(mut self, ending: bool) -> (Option<ExitStatus>, Vec<String>) {
        if ending {
            // Nothing is ever sent; this waits until stderr closes.
            let _ = self.said_all.recv_timeout(FAREWELL);
        }
        let status = self.kill();
        let _ = self.said_all.recv_timeout(FAREWELL);
        let complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        (status, complaints.iter().cloned().collect())
    }

    fn kill(&mut self) -> Option<ExitStatus> {
        if self.is_gone {
            return None;
        }
        self.is_gone = true;
        // Not yet waited for, it still owns its number. Whatever fails here fails because it has ended.
        #[cfg(unix)]
        if let Ok(group) = i32::try_from(self.child.id()) {
            use nix::sys::signal::{killpg, Signal};
            let _ = killpg(nix::unistd::Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        self.child.wait().ok()
    }
}

impl Drop for Running {
    /// Lets the program end by itself, and kills it if it does not.
    fn drop(&mut self) {
        self.questions = None;
        let deadline = Instant::now() + FAREWELL;
        while !self.is_gone && Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Ok(Some(_)) => self.is_gone = true,
                Err(_) => break,
            }
        }
        self.kill();
    }
}

/// The next line without its end; of one that is too long, the part that shows it. Nothing at the end, or when the
/// pipe fails, which comes to the same.
fn read_line(pipe: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let n_bytes = pipe.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line).ok()?;
    if n_bytes == 0 {
        return None;
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Some(line)
}

/// A line as an error shows it.
fn shown(line: &[u8]) -> String {
    const MAX_CHARS: usize = 200;
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    let cut = if text.chars().nth(MAX_CHARS).is_some() { "…" } else { "" };
    text.chars().take(MAX_CHARS).chain(cut.chars()).collect()
}

fn how(status: Option<ExitStatus>) -> String {
    #[cfg(unix)]
    if status.is_some_and(|status| std::os::unix::process::ExitStatusExt::signal(&status) == Some(9)) {
        return String::from("it closed its output, or was killed");
    }
    status.map_or(String::from("nobody knows how"), |status| status.to_string())
}

/// A number, or an object with a `score` and perhaps a `reason`.
fn read_score(line: &[u8]) -> std::result::Result<Score, Fault> {
    /// What rounding may add to a mean of scores.
    const ROUNDING: f64 = 1e-9;
    let no_score = || Fault::NoScore(line.to_vec());
    let answer: Value = serde_json::from_slice(line).map_err(|_| no_score())?;
    let (value, reason) = match &answer {
        Value::Object(fields) => (fields.get("score"), fields.get("reason")),
        number => (Some(number), None),
    };
    let value = value.and_then(Value::as_f64).filter(|value| (-ROUNDING..=1.0 + ROUNDING).contains(value));
    let value = value.ok_or_else(no_score)?.clamp(0.0, 1.0);
    let reason = match reason {
        Some(Value::String(reason)) if !reason.trim().is_empty() => super::one_line(reason.trim()),
        None | Some(Value::Null | Value::String(_)) => format!("the program gave {value}"),
        Some(_) => return Err(no_score()),
    };
    Ok(Score { value, reason })
}
