//! The program at work: started, asked, looked at, and ended.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::Value;

use crate::http::{Connection, Reply};

/// The experts of the embedded model that answer.
pub const EXPERTS: [&str; 3] = ["math", "code", "reasoning"];

/// A server on the embedded model.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// What it has written to stderr.
    said: Arc<Mutex<Vec<String>>>,
    _alone: Option<MutexGuard<'static, ()>>,
}

/// Tests that look at times and memory have the machine for themselves.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program with `arguments`, separated by spaces.
pub fn command(arguments: &str) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("llama-svf"));
    command.arg("serve").args(arguments.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.env_remove("LLAMA_API_KEY");
    command
}

impl Server {
    /// Starts it at a free port, and waits until it answers.
    pub fn start(arguments: &str) -> Self {
        let alone = alone();
        let mut server = Self::beside(&format!("--port 0 {arguments}"));
        server._alone = Some(alone);
        server
    }

    /// The same where another one of this test is at work, and with the port among `arguments`.
    pub fn beside(arguments: &str) -> Self {
        let mut child = command(arguments).spawn().unwrap();
        let (said, lines) = collect(&mut child);
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = lines.recv_timeout(left).unwrap_or_else(|_| panic!("not listening: {said:?}"));
            let Some((_, rest)) = line.split_once("listening at http://") else { continue };
            let address = rest.split([',', ' ']).next().unwrap().parse().unwrap();
            return Self { child, address, said, _alone: None };
        }
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.connect().request("GET", path, b"").unwrap()
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.connect().request("POST", path, body.to_string().as_bytes()).unwrap()
    }

    /// The JSON of an answer of status 200.
    #[track_caller]
    pub fn ask(&self, path: &str, body: &Value) -> Value {
        let reply = self.post(path, body);
        assert_eq!(reply.status(), 200, "{body}: {}", String::from_utf8_lossy(&reply.body));
        reply.json()
    }

    /// A stream of which the first chunk is here.
    #[track_caller]
    pub fn stream(&self, path: &str, body: &Value) -> Connection {
        let mut connection = self.connect();
        connection.send("POST", path, &[], body.to_string().as_bytes()).unwrap();
        let head = connection.head().unwrap();
        assert_eq!(head.status, 200, "{:?}", connection.body(&head).map(String::from_utf8));
        assert!(!connection.chunk().unwrap().is_empty());
        connection
    }

    /// One of the numbers of `/metrics`.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let reply = self.get("/metrics");
        let line = reply.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {}", reply.text())).parse().unwrap()
    }

    /// Slots at work.
    pub fn n_busy(&self) -> usize {
        let slots = self.get("/slots").json();
        slots.as_array().unwrap().iter().filter(|slot| slot["is_processing"] == true).count()
    }

    /// Waits until no slot works.
    #[track_caller]
    pub fn assert_idle_within(&self, time: Duration) {
        self.assert_soon(time, "idle slots", || self.n_busy() == 0);
    }

    #[track_caller]
    pub fn assert_soon(&self, time: Duration, what: &str, holds: impl Fn() -> bool) {
        let until = Instant::now() + time;
        while !holds() {
            assert!(Instant::now() < until, "no {what} after {time:?}: {}", self.get("/slots").text());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A number in KiB of its process: `VmRSS`, `VmHWM`.
    pub fn memory(&self, name: &str) -> Option<usize> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    }

    /// Its open files.
    pub fn n_files(&self) -> Option<usize> {
        Some(std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).ok()?.count())
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// How it ended, within `time`.
    #[track_caller]
    pub fn ended_within(mut self, time: Duration) -> ExitStatus {
        ended_within(&mut self.child, time).unwrap_or_else(|| panic!("still there after {time:?}"))
    }

    /// Ends it as the system does.
    #[track_caller]
    pub fn stop(self) {
        self.signal(Signal::SIGTERM);
        let said = Arc::clone(&self.said);
        let status = self.ended_within(Duration::from_secs(10));
        let said = said.lock().unwrap().join("\n");
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

/// How a child ended, if it did in time.
pub fn ended_within(child: &mut Child, time: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// The lines that it writes to stderr, as they come and all together.
fn collect(child: &mut Child) -> (Arc<Mutex<Vec<String>>>, Receiver<String>) {
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let said = Arc::new(Mutex::new(Vec::new()));
    let (sender, lines) = channel();
    let all = Arc::clone(&said);
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            all.lock().unwrap().push(line.clone());
            // Nobody waits for more once it listens.
            let _ = sender.send(line);
        }
    });
    (said, lines)
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the files of a test lie.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// The expert `from` of the embedded model as `path`, under the name `name`.
pub fn write_expert(from: &str, name: &str, path: &Path) {
    let files = llama_svf::embedded::Temporary::new().unwrap();
    let experts = files.experts().unwrap();
    let mut expert = experts.iter().find(|expert| expert.name == from).unwrap().clone();
    expert.name = name.to_owned();
    // Who chooses must not see that it is another one.
    if let Some(other) = experts.iter().find(|expert| expert.name == name) {
        expert.description.clone_from(&other.description);
    }
    expert.save(path).unwrap();
}

/// The seed of what is random.
pub fn seed(usual: u64) -> u64 {
    let given = std::env::var("LLAMA_SVF_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or(usual);
    println!("seed {seed}");
    seed
}
