//! Compiles C++ with clang, AddressSanitizer and UndefinedBehaviorSanitizer, and runs it.
//!
//! clang because GPU kernels need its half type, vector types and address spaces. Where it is missing (or came
//! without the sanitizers' libraries), tests print a line and check nothing: `scripts/test.sh` installs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const SANITIZERS: [&str; 3] = [
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    // Fibers have stacks of their own, which this check knows nothing about.
    "-fsanitize-address-use-after-return=never",
];

/// A clang that compiles, links and runs what the tests need.
pub struct Clang(PathBuf);

/// `None`, with a printed line, where there is none.
pub fn clang(test: &str) -> Option<&'static Clang> {
    static FOUND: OnceLock<Option<Clang>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let names = (16..=22).map(|version| format!("clang++-{version}")).chain(["clang++".into()]);
        names.map(|name| Clang(name.into())).find(Clang::works)
    });
    if found.is_none() {
        println!(
            "{test}: skipped, no clang 16 or later with sanitizers (Debian: clang-16, libclang-rt-16-dev)"
        );
    }
    found.as_ref()
}

impl Clang {
    fn works(&self) -> bool {
        let folder = folder("probe");
        let source = folder.join("probe.cpp");
        std::fs::write(&source, "int main() { return (int) (_Float16) 0; }\n").expect("a writable folder");
        self.compile(&source, &[]).is_ok_and(|program| program.run(&[]).status.success())
    }

    /// The program made of `source`; the compiler's words if it refuses.
    pub fn compile(&self, source: &Path, flags: &[&str]) -> Result<Program, String> {
        let program = source.with_extension("");
        let mut command = self.command(source, flags);
        command.args(SANITIZERS).arg("-o").arg(&program);
        words(command.output()).map(|()| Program(program))
    }

    /// Only looks whether `source` is correct.
    pub fn check(&self, source: &Path, flags: &[&str]) -> Result<(), String> {
        words(self.command(source, flags).arg("-fsyntax-only").output())
    }

    fn command(&self, source: &Path, flags: &[&str]) -> Command {
        let mut command = Command::new(&self.0);
        command.args(["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror"]);
        command.arg("-I").arg(here()).args(flags).arg(source);
        command
    }
}

fn words(output: std::io::Result<Output>) -> Result<(), String> {
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A compiled program.
pub struct Program(PathBuf);

impl Program {
    /// Runs it to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(&self.0)
            .args(arguments)
            .env("ASAN_OPTIONS", "detect_leaks=0:symbolize=0")
            .output()
            .expect("a program that was just compiled")
    }
}

/// The folder of these tests' sources.
pub fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulated")
}

/// An empty folder for one test's files.
pub fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulated").join(test);
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).expect("a writable folder");
    folder
}

/// `text` with the one occurrence of `old` replaced: how a kernel is broken on purpose.
pub fn edited(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old:?} must stand in the kernel once");
    text.replace(old, new)
}

/// Declarations of group-shared arrays (`QUALIFIER TYPE NAME[N];`) as memory that the harness hands out.
pub fn with_shared_arrays(text: &str, qualifier: &str) -> String {
    let declaration = regex::Regex::new(&format!(r"\b{qualifier}\s+(\w+)\s+(\w+)((?:\[[^\]]+\])+);"))
        .expect("a valid expression");
    declaration.replace_all(text, "auto & $2 = ::emulated::shared<$1$3>();").into_owned()
}
