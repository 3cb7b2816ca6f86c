//! What the README files point to is there: files, folders, headings, and the experts that were trained on real models.

use std::fs;
use std::path::{Path, PathBuf};

use llama_svf::expert::Expert;

/// README.md and those in the project's folders, each with its text.
fn documents() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                walk(&path, found);
            } else if name == "README.md" {
                found.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(env!("CARGO_MANIFEST_DIR")), &mut found);
    assert!(found.len() > 10, "{} documents", found.len());
    found
}

/// The lines that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// What the links of a text lead to.
fn links(text: &str) -> Vec<&str> {
    let of_line = |line| str::split(line, "](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    prose(text).flat_map(of_line).collect()
}

/// The names that GitHub gives the headings of a text.
fn anchors(text: &str) -> Vec<String> {
    let anchor = |title: &str| -> String {
        let kept = title.trim().chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
        kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    prose(text)
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut n_links = 0;
    for (path, text) in documents() {
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            n_links += 1;
            let (file, anchor) =
                link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            if let Some(anchor) = anchor {
                let there = anchors(&fs::read_to_string(&target).unwrap());
                assert!(
                    there.iter().any(|name| name == anchor),
                    "{}: {link} is none of {there:?}",
                    path.display()
                );
            }
        }
    }
    assert!(n_links > 50, "{n_links} links");
}

#[test]
fn experts_of_real_models_are_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/train/evidence");
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    let code = |line| str::split(line, '`').skip(1).step_by(2);
    let files: Vec<_> = readme.lines().filter(|line| line.starts_with("| `")).flat_map(code).collect();
    let experts: Vec<_> = files.iter().filter(|name| name.ends_with(".expert.gguf")).collect();
    assert!(!experts.is_empty(), "{files:?}");
    for name in experts {
        let expert = Expert::open(folder.join(name)).unwrap();
        assert!(expert.multipliers.values().flatten().any(|&m| m != 1.0), "{name} does nothing");
        assert!(expert.training.is_some(), "{name}");
        let report = name.replace(".expert.gguf", ".report.html");
        assert!(files.contains(&report.as_str()) && folder.join(&report).exists(), "{report}");
    }
}
