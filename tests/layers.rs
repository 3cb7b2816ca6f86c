//! The order of the modules: each may use itself and those below it, never those above.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;

/// The library's modules, from the bottom up.
const MODULES: [&str; 29] = [
    "error",
    "progress",
    "temporary",
    "atomic",
    "resume",
    "page",
    "svd",
    "cem",
    "optimiser",
    "skills",
    "ffi",
    "sidecar",
    "expert",
    "export",
    "reward",
    "task",
    "embedded",
    "engine",
    "gradient",
    "decompose",
    "dispatch",
    "eval",
    "few_shot",
    "train",
    "report",
    "bench",
    "server",
    "faults",
    "cli",
];

/// Crates that only some modules may know.
const KNOWN_ONLY_TO: [(&str, &[&str]); 12] = [
    ("clap", &["cli"]),
    ("indicatif", &["cli"]),
    ("rustyline", &["cli"]),
    ("ctrlc", &["cli"]),
    ("axum", &["server"]),
    ("hyper", &["server"]),
    ("prometheus", &["server"]),
    ("tokio", &["server"]),
    ("llama_cpp_sys_2", &["ffi"]),
    ("faer", &["svd", "gradient", "dispatch", "export"]),
    ("safetensors", &["export"]),
    ("pulp", &["gradient"]),
];

struct Source {
    path: PathBuf,
    /// First folder or file name below `src`, without `.rs`.
    module: String,
    /// The text without comments.
    code: String,
    /// What stands in its string literals, with the line that each begins in.
    strings: Vec<(String, String)>,
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let comment = Regex::new(r"(?m)//.*$").unwrap();
    // What else holds quotes is matched too, and so is skipped as a whole.
    let string =
        Regex::new(r##"(?s)//[^\n]*|'(?:\\.[^']*|[^\\'])'|r#"(.*?)"#|r"([^"]*)"|"((?:\\.|[^"\\])*)""##)
            .unwrap();
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    let source = |path: PathBuf| {
        let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
        let module = first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let code = comment.replace_all(&text, "").into_owned();
        let strings = string.captures_iter(&text).filter_map(|found| {
            let literal = found.iter().skip(1).flatten().next()?;
            let line = text[..literal.start()].matches('\n').count();
            Some((literal.as_str().to_owned(), text.lines().nth(line).unwrap().to_owned()))
        });
        let strings = strings.collect();
        Source { path, module, code, strings }
    };
    paths.into_iter().map(source).collect()
}

fn height(module: &str) -> Option<usize> {
    MODULES.iter().position(|other| *other == module)
}

#[test]
fn imports_go_downwards_only() {
    // `crate::name` and `crate::{name, name::…}`.
    let single = Regex::new(r"\bcrate::(\w+)").unwrap();
    let group = Regex::new(r"\bcrate::\{([^;]*)\}").unwrap();
    let first = Regex::new(r"(?:^|,)\s*(\w+)").unwrap();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for source in sources() {
        if ["lib", "main"].contains(&source.module.as_str()) {
            continue;
        }
        let own = height(&source.module).unwrap_or_else(|| {
            panic!("{}: give the module '{}' its place in MODULES", source.path.display(), source.module)
        });
        let grouped = group.captures_iter(&source.code).flat_map(|found| {
            let list = found.get(1).unwrap().as_str();
            first.captures_iter(list).map(|name| name[1].to_owned()).collect::<Vec<_>>()
        });
        for target in single.captures_iter(&source.code).map(|found| found[1].to_owned()).chain(grouped) {
            seen += 1;
            // Other names are items of the crate root.
            if height(&target).is_some_and(|target| target > own) {
                wrong.push(format!("{} uses {target}", source.path.display()));
            }
        }
    }
    assert!(seen > 50, "only {seen} imports were recognised");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stays_at_the_edge() {
    let word = Regex::new(r"\bunsafe\b|allow\(unsafe_code\)").unwrap();
    for source in sources() {
        assert!(source.module == "ffi" || !word.is_match(&source.code), "{}", source.path.display());
    }
}

#[test]
fn crates_stay_where_they_belong() {
    for source in sources() {
        for (name, modules) in KNOWN_ONLY_TO {
            let used = Regex::new(&format!(r"\b{name}::")).unwrap().is_match(&source.code);
            assert!(
                !used || modules.contains(&source.module.as_str()),
                "{} uses {name}",
                source.path.display()
            );
        }
    }
}

#[test]
fn the_library_alone_needs_no_crate_of_the_command_line_or_the_server() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--no-default-features", "--edges", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && tree.contains("llama-cpp-2 "), "{output:?}");
    for (name, modules) in KNOWN_ONLY_TO {
        let is_there = tree.lines().any(|line| line.starts_with(&format!("{} ", name.replace('_', "-"))));
        assert_eq!(is_there, modules != ["cli"] && modules != ["server"], "{name}");
    }
}

/// Whether what `source` says may reach a host that is no command line. The tests in `error` play one that is.
fn is_library(source: &Source) -> bool {
    !["cli", "main", "error"].contains(&source.module.as_str())
}

/// Programs whose flags the library may name.
const OTHER_PROGRAMS: [&str; 7] = ["llama-gguf-split", "python3", "jq", "iconv", "zstd", "xz", "bzip2"];

#[test]
fn the_library_names_no_flags_of_the_command_line() {
    let flag = Regex::new(r"(?:^|[\s(`'])(?:--[a-z][a-z-]*|-[a-z])(?:$|[\s).,:;`'=])").unwrap();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for source in
        sources().iter().filter(|source| !["cli", "main", "error"].contains(&source.module.as_str()))
    {
        for (text, line) in &source.strings {
            seen += 1;
            let is_other =
                OTHER_PROGRAMS.iter().any(|program| text.contains(program)) || line.contains(".args([");
            if flag.is_match(text) && !is_other {
                wrong.push(format!("{}: {text}", source.path.display()));
            }
        }
    }
    assert!(seen > 1000, "only {seen} strings were recognised");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Settings that no command has a flag for.
const WITHOUT_A_FLAG: [&str; 4] = ["n_seq", "n_slots", "settings", "std"];

#[test]
fn the_command_line_has_a_word_for_every_setting() {
    let sources = sources();
    let table = sources.iter().find(|source| source.path.ends_with("src/cli/flags.rs")).unwrap();
    let known: Vec<&str> = table.strings.iter().map(|(text, _)| text.as_str()).collect();
    let setting = Regex::new(r#"\.setting\(\s*"([^"]*)""#).unwrap();
    let quoted = Regex::new(r"`([A-Za-z][\w.:]*)`").unwrap();
    let mut names = Vec::new();
    for source in sources.iter().filter(|source| is_library(source)) {
        names.extend(setting.captures_iter(&source.code).map(|found| found[1].to_owned()));
        for (text, _) in &source.strings {
            names.extend(quoted.captures_iter(text).map(|found| found[1].to_owned()));
        }
    }
    assert!(names.len() > 50, "only {} names were recognised", names.len());
    names.retain(|name| !known.contains(&name.as_str()) && !WITHOUT_A_FLAG.contains(&name.as_str()));
    assert!(names.is_empty(), "{names:?} stand in errors, and src/cli/flags.rs has no word for them");
}
