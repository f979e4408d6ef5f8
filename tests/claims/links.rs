//! Links between the documents, to files and to headings.

use std::path::Path;

use super::{Wrong, documents, root};

#[test]
fn every_link_and_anchor_exists() {
    let documents = documents();
    let mut wrong = Wrong::default();
    let mut seen = 0;
    for document in &documents {
        let directory = document.path.parent().unwrap_or(Path::new(""));
        for (line, target) in &document.links {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match path {
                "" => document.path.clone(),
                path => normalized(&directory.join(path)),
            };
            if !root().join(&path).exists() {
                wrong.add(document, *line, format_args!("no such file: {target}"));
            } else if !anchor.is_empty() {
                let linked = documents.iter().find(|other| other.path == path);
                if !linked.is_some_and(|linked| linked.anchors.iter().any(|a| a == anchor)) {
                    wrong.add(document, *line, format_args!("no such heading: {target}"));
                }
            }
        }
    }
    assert!(seen > 60, "only {seen} links");
    wrong.none();
}

/// The path without `..`.
fn normalized(path: &Path) -> std::path::PathBuf {
    let mut parts = Vec::new();
    for part in path.components() {
        match part.as_os_str().to_str() {
            Some("..") => drop(parts.pop()),
            _ => parts.push(part.as_os_str()),
        }
    }
    parts.iter().collect()
}
