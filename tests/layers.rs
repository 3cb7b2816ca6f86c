//! The order of the modules: each may use itself and those below it, never those above.

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// The library's modules, from the bottom up.
const MODULES: [&str; 25] = [
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
    "reward",
    "task",
    "embedded",
    "engine",
    "gradient",
    "decompose",
    "eval",
    "train",
    "dispatch",
    "report",
    "bench",
    "cli",
];

/// Crates that only some modules may know.
const KNOWN_ONLY_TO: [(&str, &[&str]); 7] = [
    ("clap", &["cli"]),
    ("indicatif", &["cli"]),
    ("rustyline", &["cli"]),
    ("ctrlc", &["cli"]),
    ("llama_cpp_sys_2", &["ffi"]),
    ("faer", &["svd", "gradient"]),
    ("pulp", &["gradient"]),
];

struct Source {
    path: PathBuf,
    /// First folder or file name below `src`, without `.rs`.
    module: String,
    /// The text without comments.
    code: String,
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
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    let source = |path: PathBuf| {
        let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
        let module = first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned();
        let code = comment.replace_all(&fs::read_to_string(&path).unwrap(), "").into_owned();
        Source { path, module, code }
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
