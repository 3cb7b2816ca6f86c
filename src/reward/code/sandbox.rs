//! Runs python3 on untrusted text so that it ends in time, reaches nothing, and leaves nothing behind.
//!
//! The *launcher* is a program that calls [`main`] at its start, as `llama-svf` does; no other one is started. It runs
//! twice, with a hidden command. The *outer* process enters new namespaces, starts the *inner* one in them, reads what
//! comes out up to a limit, and kills the inner one in the end. The inner process limits itself and starts python3. On
//! Linux the walls are:
//!
//! | wall | keeps out |
//! |---|---|
//! | PID namespace | signals to others; processes that outlive the check, daemons too: they die with the inner one |
//! | network and IPC namespaces | connections, shared memory |
//! | mount namespace, a RAM disk of 16 MiB as the only folder | files left behind, full disks |
//! | Landlock | all files but python's own (read) and that folder; signals and TCP, where the kernel can |
//! | another user for each check, if we are root | files, signals, limits of other users |
//! | resource limits | time, memory, processes, open files, size of files, core dumps |
//!
//! The environment is empty. Without namespaces (containers often forbid them) a program cannot start
//! processes or threads at all, so killing it is enough. On macOS there are resource limits only: a program can
//! read your files and signal your processes there, and memory may be unlimited. [`Sandbox::notes`] says
//! what is missing.

use std::ffi::{OsStr, OsString};
use std::io::{PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use rlimit::Resource;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::temporary::Listed;

/// The hidden command.
const COMMAND: &str = "__sandbox";
const HARNESS: &str = include_str!("harness.py");
/// Exit codes of the outer process, unlike those with which a program ends that is no launcher.
const FAILED: u8 = 8;
const ENDED: u8 = 9;
const TIMED_OUT: u8 = 10;
const TOO_MUCH_OUTPUT: u8 = 11;
/// Whether the running program is a launcher.
static IS_LAUNCHER: AtomicBool = AtomicBool::new(false);

/// What one program may use.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Wall-clock time.
    pub seconds: u64,
    /// Address space of each process, in bytes.
    pub memory_bytes: u64,
    /// Size of each file, in bytes.
    pub file_bytes: u64,
    /// Processes and threads together; 1 where there are no namespaces.
    pub processes: u64,
    /// What it may print, in bytes.
    pub output_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            seconds: 10,
            memory_bytes: 512 << 20,
            file_bytes: 4 << 20,
            processes: 16,
            output_bytes: 1 << 20,
        }
    }
}

/// How a program came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// By itself, or killed by a limit on memory or processor time.
    Ended,
    /// Killed when its time was up.
    TimedOut,
    /// Killed when it had printed too much.
    TooMuchOutput,
}

/// What became of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Why it ended.
    pub end: End,
    /// What it printed, on both streams.
    pub output: Vec<u8>,
}

/// A sandbox that was tried and works.
#[derive(Debug)]
pub struct Sandbox {
    launcher: PathBuf,
    python: Python,
    limits: Limits,
    notes: Vec<String>,
}

/// An interpreter.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Python {
    program: PathBuf,
    /// The folder of its library.
    prefix: PathBuf,
}

/// What the outer process tells the inner one, and is told itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Plan {
    python: Python,
    limits: Limits,
    folder: PathBuf,
    /// The user to become, if we are root.
    user: Option<u32>,
    namespaces: bool,
}

impl Sandbox {
    /// Finds a python3 that runs in the sandbox; see [`super::Code::new`].
    ///
    /// # Errors
    /// No python3 runs in the sandbox; the error is that of the last one tried.
    pub fn new(launcher: Option<PathBuf>, limits: Limits) -> Result<Self> {
        let launcher = launcher.map_or_else(own_program, Ok)?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut refusal = Error::invalid("no python3 in the search path");
        for folder in std::env::split_paths(&path) {
            let Some(python) = Python::at(&folder.join("python3")) else { continue };
            let sandbox =
                Self { launcher: launcher.clone(), python, limits: limits.clone(), notes: Vec::new() };
            let (outcome, notes) = sandbox.run_with_notes(b"works: \0pass\0pass")?;
            if outcome.output == b"\nworks: passed" {
                return Ok(Self { notes, ..sandbox });
            }
            let found = String::from_utf8_lossy(&outcome.output).into_owned();
            let problem = format!("python3 does not run in the sandbox: {}", found.trim());
            refusal = Error::invalid(problem).file(&sandbox.python.program);
        }
        Err(refusal.hint("running code needs a python3 that every user can read, such as the system's own"))
    }

    /// What protects less on this machine than it could, one line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What a program may use.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Runs the harness on `input`.
    ///
    /// # Errors
    /// The sandbox could not be set up.
    pub fn run(&self, input: &[u8]) -> Result<Outcome> {
        Ok(self.run_with_notes(input)?.0)
    }

    fn run_with_notes(&self, input: &[u8]) -> Result<(Outcome, Vec<String>)> {
        let folder = tempfile::Builder::new().prefix("llama-svf-").tempdir();
        let folder =
            folder.map_err(|error| Error::io("cannot make a folder", std::env::temp_dir(), error))?;
        let _listed = Listed::new(folder.path());
        let plan = Plan {
            python: self.python.clone(),
            limits: self.limits.clone(),
            folder: folder.path().to_owned(),
            user: None,
            namespaces: false,
        };
        let failed = |source| Error::io("cannot run the sandbox", &self.launcher, source);
        let mut outer = plan.command("outer", &self.launcher)?;
        outer.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = outer.spawn().map_err(failed)?;
        let stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            // A program that ends early closes the pipe; that is its own affair.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
            child.wait_with_output()
        });
        let output = output.map_err(failed)?;
        // A program without a RAM disk may have locked its folders.
        #[cfg(unix)]
        unlock(folder.path());
        folder.close().map_err(|error| Error::io("cannot clean up", std::env::temp_dir(), error))?;
        let talk = String::from_utf8_lossy(&output.stderr);
        let end = match output.status.code().and_then(|code| u8::try_from(code).ok()) {
            Some(ENDED) => End::Ended,
            Some(TIMED_OUT) => End::TimedOut,
            Some(TOO_MUCH_OUTPUT) => End::TooMuchOutput,
            Some(FAILED) => return Err(Error::invalid(format!("the sandbox failed: {}", talk.trim()))),
            None => return Err(Error::invalid(format!("the sandbox was killed ({})", output.status))),
            Some(_) => {
                let problem = format!("this program did not start the sandbox ({})", output.status);
                return Err(Error::invalid(problem).file(&self.launcher).hint("name the llama-svf program"));
            }
        };
        Ok((Outcome { end, output: output.stdout }, talk.lines().map(str::to_owned).collect()))
    }
}

/// The running program, if it is a launcher.
fn own_program() -> Result<PathBuf> {
    if !IS_LAUNCHER.load(Ordering::Relaxed) {
        return Err(Error::invalid("no program was named that starts the sandbox")
            .hint("set LoadOptions::sandbox to the llama-svf program, or call reward::code::sandbox::main first in main"));
    }
    std::env::current_exe().map_err(|error| Error::io("cannot find this program", "llama-svf", error))
}

/// Makes all folders below `folder` ours to remove; what is wrong shows when they are removed.
#[cfg(unix)]
fn unlock(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        // Of the entry itself: a link may lead anywhere.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let _ = std::fs::set_permissions(entry.path(), std::fs::Permissions::from_mode(0o700));
            unlock(&entry.path());
        }
    }
}

impl Python {
    /// Asks an interpreter of the user's where it really is: the one found may be a link or a script.
    fn at(program: &Path) -> Option<Self> {
        if !program.is_file() {
            return None;
        }
        let question = "import sys; print(sys.executable); print(sys.base_prefix)";
        let answer =
            Command::new(program).args(["-I", "-S", "-c", question]).stdin(Stdio::null()).output().ok()?;
        let answer = String::from_utf8(answer.stdout).ok()?;
        let mut lines = answer.lines();
        let program = std::fs::canonicalize(lines.next()?).ok()?;
        Some(Self { program, prefix: PathBuf::from(lines.next()?) })
    }
}

impl Plan {
    fn command(&self, stage: &str, launcher: &Path) -> Result<Command> {
        let plan = serde_json::to_string(self).map_err(|error| Error::invalid(error.to_string()))?;
        let mut command = Command::new(launcher);
        command.args([COMMAND, stage, &plan]).env_clear();
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Ok(command)
    }
}

/// Runs the hidden command if the process's arguments ask for it. Otherwise makes the running program a launcher: from now
/// on the library may start it again with that command. To be called first of all, while the process has one thread.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let args: Vec<_> = args.into_iter().skip(1).collect();
    if args.first().map(OsString::as_os_str) != Some(OsStr::new(COMMAND)) {
        IS_LAUNCHER.store(true, Ordering::Relaxed);
        return None;
    }
    let plan = |plan: &OsString| serde_json::from_str::<Plan>(plan.to_str()?).ok();
    let result = match args.as_slice() {
        [_, stage, text] => plan(text).map(|plan| if stage == "outer" { outer(plan) } else { inner(&plan) }),
        _ => None,
    };
    let result = result.unwrap_or_else(|| Err(Error::expected("a plan of the sandbox", "something else")));
    Some(ExitCode::from(result.unwrap_or_else(|error| {
        eprintln!("{error}");
        FAILED
    })))
}

/// Enters namespaces, starts the inner process, waits for its end or brings it about.
fn outer(mut plan: Plan) -> Result<u8> {
    platform::die_with_parent();
    platform::enter(&mut plan)?;
    let failed = |source| Error::io("cannot start", "sandbox", source);
    let launcher = std::env::current_exe().map_err(failed)?;
    let (mut reader, writer) = std::io::pipe().map_err(failed)?;
    let mut inner = plan.command("inner", &launcher)?;
    inner.current_dir(&plan.folder).stdout(writer.try_clone().map_err(failed)?).stderr(writer);
    let mut child = inner.spawn().map_err(failed)?;
    // It holds copies of the pipe's writing end, and while it lives there is no end of file.
    drop(inner);

    let received = receive(&mut reader, &plan.limits).map_err(failed);
    // Whoever is left of a PID namespace dies with its first process, and only then does the wait return.
    child.kill().and_then(|()| child.wait()).map_err(failed)?;
    let (end, output) = received?;
    std::io::stdout().write_all(&output).map_err(failed)?;
    Ok(match end {
        End::Ended => ENDED,
        End::TimedOut => TIMED_OUT,
        End::TooMuchOutput => TOO_MUCH_OUTPUT,
    })
}

/// Reads until the end, or until a limit is reached. With a new PID namespace there can be no new thread, so
/// the time is kept by `poll`.
fn receive(reader: &mut PipeReader, limits: &Limits) -> std::io::Result<(End, Vec<u8>)> {
    let deadline = Instant::now() + Duration::from_secs(limits.seconds);
    let mut output = Vec::new();
    let mut chunk = [0; 1 << 16];
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if left == 0 || poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            return Ok((End::TimedOut, Vec::new()));
        }
        let n_bytes = reader.read(&mut chunk)?;
        if n_bytes == 0 {
            return Ok((End::Ended, output));
        }
        output.extend_from_slice(&chunk[..n_bytes]);
        if output.len() > limits.output_bytes {
            return Ok((End::TooMuchOutput, Vec::new()));
        }
    }
}

/// Gives up all rights, then runs python3 on what stdin holds.
fn inner(plan: &Plan) -> Result<u8> {
    platform::die_with_parent();
    let failed = |source| Error::io("cannot start", &plan.python.program, source);
    let limits = &plan.limits;
    for (resource, limit) in [
        (Resource::CPU, limits.seconds + 1),
        (Resource::AS, limits.memory_bytes),
        (Resource::FSIZE, limits.file_bytes),
        (Resource::NPROC, if plan.namespaces { limits.processes } else { 1 }),
        (Resource::NOFILE, 64),
        (Resource::CORE, 0),
    ] {
        if resource.is_supported() {
            resource.set(limit, limit).map_err(failed)?;
        }
    }
    platform::restrict(plan)?;
    let mut python = Command::new(&plan.python.program);
    python.args(["-I", "-S", "-B", "-X", "utf8", "-c", HARNESS]).env_clear();
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        if let Some(user) = plan.user {
            python.uid(user).gid(user);
        }
        if !plan.namespaces {
            return Err(failed(python.exec()));
        }
    }
    // As the first process of its namespace we cannot be killed from within, and take everything along.
    python.status().map_err(failed)?;
    Ok(ENDED)
}

#[cfg(target_os = "linux")]
mod platform {
    //! Namespaces, Landlock, and the signal at the parent's death.

    use std::os::unix::fs::chown;

    use landlock::{
        path_beneath_rules, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreatedAttr,
        RulesetStatus, Scope, ABI,
    };
    use nix::mount::{mount, MsFlags};
    use nix::sched::{unshare, CloneFlags};
    use nix::sys::prctl;
    use nix::sys::signal::Signal;
    use nix::unistd::{getegid, geteuid};

    use super::Plan;
    use crate::error::{Error, Result};

    /// The range in which systemd makes up users, too.
    const FIRST_USER: u32 = 61184;
    const N_USERS: u32 = 4336;

    pub fn die_with_parent() {
        // Cannot fail with a valid signal.
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    }

    /// Enters new namespaces and mounts the RAM disk, as far as the system lets us; says what it does not.
    pub fn enter(plan: &mut Plan) -> Result<()> {
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        let is_root = user == 0;
        plan.user = is_root.then(|| FIRST_USER + std::process::id() % N_USERS);
        let owner = plan.user.unwrap_or(user);
        let entered = if is_root { as_root() } else { as_user(user, group) };
        match entered {
            Ok(()) => plan.namespaces = true,
            Err(problem) => eprintln!("code runs without namespaces of its own ({problem})"),
        }
        if plan.namespaces {
            let options =
                format!("size=16m,nr_inodes=1024,mode=0700,uid={owner},gid={}", plan.user.unwrap_or(group));
            let private =
                mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>);
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            let mounted = private.and_then(|()| {
                mount(Some("tmpfs"), &plan.folder, Some("tmpfs"), flags, Some(options.as_str()))
            });
            match mounted {
                Ok(()) => return Ok(()),
                Err(problem) => eprintln!("code runs in a folder on disk ({problem})"),
            }
        }
        if let Some(user) = plan.user {
            chown(&plan.folder, Some(user), Some(user))
                .map_err(|error| Error::io("cannot hand over", &plan.folder, error))?;
        }
        Ok(())
    }

    const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWPID
        .union(CloneFlags::CLONE_NEWNS)
        .union(CloneFlags::CLONE_NEWNET)
        .union(CloneFlags::CLONE_NEWIPC);

    fn as_root() -> std::result::Result<(), String> {
        // In a user namespace the limit on processes would count all of its root's, and stop us.
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        if !map.split_whitespace().eq(["0", "0", "4294967295"]) {
            return Err(String::from("root of a container"));
        }
        unshare(NAMESPACES).map_err(|error| error.to_string())
    }

    fn as_user(user: u32, group: u32) -> std::result::Result<(), String> {
        unshare(NAMESPACES | CloneFlags::CLONE_NEWUSER).map_err(|error| error.to_string())?;
        let write = |file: &str, text: String| {
            std::fs::write(format!("/proc/self/{file}"), text).map_err(|error| format!("{file}: {error}"))
        };
        write("setgroups", String::from("deny"))?;
        write("uid_map", format!("{user} {user} 1"))?;
        write("gid_map", format!("{group} {group} 1"))
    }

    /// Landlock: python's files may be read, the folder used, and that is all.
    pub fn restrict(plan: &Plan) -> Result<()> {
        let abi = ABI::V6;
        let all = AccessFs::from_all(abi);
        let read = AccessFs::from_read(abi);
        let readable =
            ["/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/dev/urandom"];
        let readable = readable.iter().map(std::path::Path::new);
        let readable = readable.chain([plan.python.prefix.as_path(), plan.python.program.as_path()]);
        let device = AccessFs::ReadFile | AccessFs::WriteFile;
        let restricted = || {
            Ruleset::default()
                .handle_access(all)?
                .handle_access(AccessNet::from_all(abi))?
                .scope(Scope::from_all(abi))?
                .create()?
                .add_rules(path_beneath_rules(readable, read))?
                .add_rules(path_beneath_rules(["/dev/null"], device))?
                .add_rules(path_beneath_rules([&plan.folder], all))?
                .restrict_self()
        };
        let status = restricted().map_err(|error| Error::invalid(format!("Landlock: {error}")))?;
        // Another user's files are safe without it; one's own are not.
        if status.ruleset == RulesetStatus::NotEnforced && plan.user.is_none() {
            return Err(Error::invalid(
                "this kernel has no Landlock, so a program could write to your files",
            )
            .hint("use Linux 5.13 or newer with Landlock enabled, or run as root in a container"));
        }
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    //! Nothing but resource limits.

    use super::Plan;
    use crate::error::Result;

    pub fn die_with_parent() {}

    pub fn enter(_plan: &mut Plan) -> Result<()> {
        eprintln!("code runs with resource limits only: it can read your files and signal your processes");
        Ok(())
    }

    pub fn restrict(_plan: &Plan) -> Result<()> {
        Ok(())
    }
}
