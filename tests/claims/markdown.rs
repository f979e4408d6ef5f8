//! The parts of a Markdown document that make claims: fenced blocks, code spans, links, headings and tables.

use std::path::PathBuf;

use super::root;

/// A document, taken apart.
pub(crate) struct Document {
    /// Its path in the repository.
    pub(crate) path: PathBuf,
    /// Its text.
    pub(crate) text: String,
    /// Fenced blocks.
    pub(crate) blocks: Vec<Block>,
    /// Code between single backquotes outside of blocks, with its line.
    pub(crate) spans: Vec<(usize, String)>,
    /// Targets of links and images, with the line.
    pub(crate) links: Vec<(usize, String)>,
    /// Anchors of the headings.
    pub(crate) anchors: Vec<String>,
}

/// A fenced block.
pub(crate) struct Block {
    /// The word behind the opening fence.
    pub(crate) language: String,
    /// The number of its first line.
    pub(crate) line: usize,
    /// Its lines.
    pub(crate) lines: Vec<String>,
}

impl Document {
    /// Reads the document at `path` in the repository.
    pub(crate) fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(root().join(&path)).expect("a document");
        let mut document = Self {
            path,
            text: text.clone(),
            blocks: Vec::new(),
            spans: Vec::new(),
            links: Vec::new(),
            anchors: Vec::new(),
        };
        let mut block: Option<Block> = None;
        // A paragraph is read as a whole: a span or a link may go over the end of a line.
        let mut paragraph: Vec<(usize, &str)> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            match (&mut block, line.trim_start().strip_prefix("```")) {
                (None, Some(language)) => {
                    document.take(&std::mem::take(&mut paragraph));
                    let (language, line) = (language.trim().to_owned(), number + 1);
                    block = Some(Block { language, line, lines: Vec::new() });
                }
                (Some(_), Some(_)) => document.blocks.extend(block.take()),
                (Some(block), None) => block.lines.push(line.trim_start().to_owned()),
                (None, None) => {
                    if line.trim().is_empty() || line.starts_with(['#', '|']) {
                        document.take(&std::mem::take(&mut paragraph));
                    }
                    paragraph.push((number, line));
                    if let Some(heading) = line.strip_prefix('#') {
                        document.anchors.push(anchor(heading.trim_start_matches('#').trim()));
                    }
                }
            }
        }
        document.take(&paragraph);
        assert!(block.is_none(), "{}: a block does not end", document.path.display());
        document
    }

    /// Takes spans and links out of a paragraph.
    fn take(&mut self, paragraph: &[(usize, &str)]) {
        let text: Vec<&str> = paragraph.iter().map(|(_, line)| *line).collect();
        let text = text.join("\n");
        let line_of = |at: usize| {
            let first = paragraph.first().map_or(0, |(number, _)| *number);
            first + text[..at].matches('\n').count()
        };
        let mut outside = String::new();
        let mut at = 0;
        for (number, part) in text.split('`').enumerate() {
            if number % 2 == 1 {
                let span = part.split_whitespace().collect::<Vec<_>>().join(" ");
                self.spans.push((line_of(at), span));
                // Keeps the offsets, for links around a span.
                outside.extend(part.chars().map(|c| if c == '\n' { '\n' } else { '\u{7f}' }));
            } else {
                outside += part;
            }
            outside.push('`');
            at += part.len() + 1;
        }
        for (at, _) in outside.match_indices("](") {
            let target = outside[at + 2..].split(')').next().unwrap_or_default();
            self.links.push((line_of(at.min(text.len())), target.to_owned()));
        }
    }

    /// The cells of the tables, row by row, with the line of each row; heads and rulers included.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (usize, Vec<String>)> {
        (1..).zip(self.text.lines()).filter_map(|(number, line)| {
            let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?.replace("\\|", "\u{1}");
            let cells = inner.split('|').map(|cell| cell.trim().replace('\u{1}', "|"));
            Some((number, cells.collect()))
        })
    }
}

/// The anchor that a heading gets, as GitHub makes it.
pub(crate) fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn anchors_are_those_of_github() {
    assert_eq!(anchor("`flannel-udp peers` and loss"), "flannel-udp-peers-and-loss");
    assert_eq!(anchor("Egress, step by step"), "egress-step-by-step");
}
