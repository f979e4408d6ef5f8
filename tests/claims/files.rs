//! Paths of the repository that the documents name.

use super::{Wrong, documents, root};

#[test]
fn every_path_of_the_repository_exists() {
    let mut wrong = Wrong::default();
    let mut seen = 0;
    for document in documents() {
        let blocks = document
            .blocks
            .iter()
            .flat_map(|block| (block.line..).zip(block.lines.iter().cloned()));
        let code: Vec<(usize, String)> = document.spans.iter().cloned().chain(blocks).collect();
        for (line, text) in &code {
            for word in text.split([' ', ',', '"', '\'', '=', '(', ')']) {
                let path = word.trim_end_matches(['.', ':', ';', '/']);
                let is_path = path.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c));
                if !is_path || !path.contains('/') {
                    continue;
                }
                let first = path.split('/').next().unwrap_or_default();
                let beside = document.path.parent().map(|parent| root().join(parent).join(path));
                let exists = if TOP.contains(&first) {
                    [Some(root().join(path)), beside]
                        .into_iter()
                        .flatten()
                        .any(|path| path.exists() || path.with_extension("rs").exists())
                } else if MODULES.contains(&first) {
                    let module = root().join("src").join(path);
                    module.exists() || module.with_extension("rs").exists()
                } else {
                    continue;
                };
                seen += 1;
                if !exists {
                    wrong.add(&document, *line, format_args!("no such file: {path}"));
                }
            }
        }
    }
    assert!(seen > 100, "only {seen} paths");
    wrong.none();
}

/// Directories of the repository, without what a build makes.
const TOP: &[&str] = &[
    ".ci",
    "benches",
    "crates",
    "docs",
    "examples",
    "fuzz",
    "packaging",
    "scripts",
    "src",
    "tests",
];

/// Directories of `src`, which the documents write without it.
const MODULES: &[&str] = &[
    "args",
    "cli",
    "confine",
    "daemon",
    "dataplane",
    "doctor",
    "host",
    "lab",
    "observe",
    "route",
    "subnet",
    "sys",
];
