//! What README and the other documents claim, as far as a machine can check it without root or a network:
//! commands, flags, defaults, exit codes, names of metrics, files and make targets, links, and figures.
//!
//! Each check collects everything that it finds wrong and fails once, with the file and the line of each.

mod commands;
mod figures;
mod files;
mod flags;
mod links;
mod markdown;
mod reference;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use markdown::Document;

/// Every document of the repository, in a fixed order.
fn documents() -> Vec<Document> {
    let mut paths: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(PathBuf::from).to_vec();
    for directory in ["docs", "crates/packet", "crates/etcd-protos"] {
        let inside = std::fs::read_dir(root().join(directory)).expect("a directory");
        let mut pages: Vec<PathBuf> = inside
            .map(|entry| Path::new(directory).join(entry.expect("an entry").file_name()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
            .collect();
        pages.sort();
        paths.append(&mut pages);
    }
    assert!(paths.len() > 12, "{paths:?}");
    paths.into_iter().map(Document::read).collect()
}

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the repository.
fn text_of(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What is wrong, each with its place.
#[derive(Default)]
struct Wrong(String);

impl Wrong {
    fn add(&mut self, document: &Document, line: usize, what: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{}:{line}: {what}", document.path.display());
    }

    #[track_caller]
    fn none(&self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}
