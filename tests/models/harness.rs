//! Gives a file to the program, in a process of its own, and judges how that ends.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::gguf_edit::Gguf;
use crate::program::command;

/// Far more than a run takes, on a machine that is busy with other things.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);
/// Address space of a run; a sound one takes a tenth.
pub const MEMORY_LIMIT: u64 = 4 << 30;

/// The model that all files are made from, or a line about its absence.
pub fn model() -> Option<Gguf> {
    let root = std::env::var_os("LLAMA_SVF_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")), PathBuf::from);
    let path = root.join("models/stories260K-f32.gguf");
    if !path.is_file() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    let bytes = std::fs::read(path).unwrap();
    let model = Gguf::parse(&bytes);
    assert_eq!(model.encode(), bytes, "taking the file apart and together again changed it");
    Some(model)
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

pub fn finish(mut child: Child) -> Ended {
    let deadline = Instant::now() + TIME_LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            return Ended { code: None, signal: None, stdout: String::new(), stderr: "it hangs".into() };
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let mut ended =
        Ended { code: status.code(), signal: status.signal(), stdout: String::new(), stderr: String::new() };
    child.stdout.take().unwrap().read_to_string(&mut ended.stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut ended.stderr).unwrap();
    ended
}

/// Runs `llama-svf` with these arguments in a folder of temporary files of its own.
pub fn run(arguments: &[&str], temporary: &Path) -> Ended {
    let mut command = command(arguments);
    command.env("TMPDIR", temporary).env("OMP_NUM_THREADS", "1");
    finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// What [`complaint`] says of an assertion that stopped the program in one line.
pub const ASSERTION: &str = "fails an assertion of ggml";

/// What is wrong with how a run on `file` ended, if anything; a refusal is one line.
pub fn complaint(ended: &Ended, file: &str) -> Option<&'static str> {
    let lines: Vec<_> = ended.stderr.lines().filter(|line| !line.starts_with("note: ")).collect();
    match ended.code {
        None if ended.signal.is_some() => Some("ended by a signal"),
        None => Some("hangs"),
        Some(0) if ended.stderr.contains("ggml_") || ended.stderr.contains("llama_") => {
            Some("says what ggml logs")
        }
        Some(0) => None,
        Some(2) if lines.len() != 1 => Some("says more or less than one line"),
        Some(2) if !lines[0].starts_with("error: ") => Some("says no error"),
        Some(2) if !lines[0].contains(file) => Some("does not name the file"),
        Some(2) if lines[0].contains("crashed") => Some("crashes"),
        Some(2) if lines[0].contains("gave up") => Some(ASSERTION),
        Some(2) => None,
        Some(_) => Some("ends with another code"),
    }
}

/// A file to try; made when its turn comes, as all of them together are too large.
pub struct Case<'a> {
    pub name: String,
    pub make: Box<dyn Fn() -> Vec<u8> + Send + Sync + 'a>,
}

impl<'a> Case<'a> {
    pub fn new(name: String, make: impl Fn() -> Vec<u8> + Send + Sync + 'a) -> Self {
        Self { name, make: Box::new(make) }
    }
}

/// What is to be expected of files.
pub struct Expect {
    /// The least share of them that is answered, and that is refused.
    pub answered: f64,
    pub refused: f64,
    /// Whether an assertion of ggml may stop the program, in one line and by exit code 2.
    pub assertions: bool,
}

/// Lets the program read and continue a text with each file, on all cores.
pub fn try_all(cases: &[Case], expect: &Expect) {
    rlimit::Resource::AS.set(MEMORY_LIMIT, rlimit::Resource::AS.get().unwrap().1).unwrap();
    let folder = TempDir::new().unwrap();
    let [answered, refused, asserted, next] = [0; 4].map(AtomicUsize::new);
    let wrong = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let own = folder.path().join(format!("worker{worker}"));
            std::fs::create_dir(&own).unwrap();
            let (answered, refused, asserted, next, wrong) = (&answered, &refused, &asserted, &next, &wrong);
            scope.spawn(move || loop {
                let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                let path = own.join("odd.gguf");
                std::fs::write(&path, (case.make)()).unwrap();
                let path = path.to_str().unwrap();
                let ended =
                    run(&["run", "-m", path, "-p", "Once é", "-n", "2", "--temp", "0", "-t", "1"], &own);
                let left = std::fs::read_dir(&own).unwrap().count();
                match complaint(&ended, path) {
                    Some(ASSERTION) if expect.assertions => drop(asserted.fetch_add(1, Ordering::Relaxed)),
                    Some(complaint) => wrong.lock().unwrap().push((&case.name, complaint, ended)),
                    None if left != 1 => wrong.lock().unwrap().push((&case.name, "leaves files", ended)),
                    None if ended.code == Some(0) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                    None => drop(refused.fetch_add(1, Ordering::Relaxed)),
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    for (name, complaint, ended) in &wrong {
        println!("{name}: {complaint}: {ended:?}");
    }
    let (answered, refused, asserted) = (answered.into_inner(), refused.into_inner(), asserted.into_inner());
    println!(
        "{} files: {answered} answered, {refused} refused, {asserted} stopped by an assertion, {} crashes, hangs or worse",
        cases.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{} of {} files", wrong.len(), cases.len());
    // A check that refuses all, or none, would pass otherwise.
    let least = |share: f64| (share * cases.len() as f64) as usize;
    assert!(answered > least(expect.answered) && refused > least(expect.refused));
}
