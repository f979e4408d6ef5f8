//! Output that is printed again and again: in place on a terminal, one after the other elsewhere.

use std::io::{self, IsTerminal, Write};

use super::terminal;

/// Where repeated output goes.
pub(super) struct Display {
    in_place: bool,
    shown: u64,
    /// Whether an empty line separates one output from the next.
    separated: bool,
}

impl Display {
    /// Standard output. Text that is `for_people` is shown in place if that is a terminal.
    pub(super) fn of_stdout(for_people: bool) -> Self {
        let in_place = for_people && io::stdout().is_terminal();
        Self { in_place, shown: 0, separated: for_people }
    }

    /// Whether each output replaces the previous one.
    pub(super) fn is_in_place(&self) -> bool {
        self.in_place
    }

    /// Shows `text`; returns whether there is still a reader.
    pub(super) fn show(&mut self, text: &str) -> bool {
        let mut out = String::new();
        if self.in_place {
            let height = terminal::size().map_or(0, |(_, rows)| rows);
            out.push_str(if self.shown == 0 { CLEAR } else { HOME });
            out.push_str(&fitted(text, height));
            out.push_str(CLEAR_REST);
        } else {
            if self.separated && self.shown > 0 {
                out.push('\n');
            }
            out.push_str(text);
        }
        self.shown += 1;
        let mut stdout = io::stdout().lock();
        stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush()).is_ok()
    }
}

/// The lines that fit a screen of this height, each with the end of its line cleared; the last one says how many do
/// not fit. A height of 0 is unknown.
fn fitted(text: &str, height: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // The last line of the screen is the cursor's.
    let room = if height == 0 { lines.len() } else { height.saturating_sub(1).max(1) };
    let mut out = String::new();
    let shown = if lines.len() > room { room.saturating_sub(1) } else { lines.len() };
    for line in &lines[..shown] {
        out.push_str(line);
        out.push_str(END_LINE);
    }
    if shown < lines.len() {
        out.push_str(&format!("({} more lines){END_LINE}", lines.len() - shown));
    }
    out
}

/// Control sequences of ECMA-48, which every terminal knows: cursor to the upper left, and what to erase.
const HOME: &str = "\x1b[H";
const CLEAR: &str = "\x1b[H\x1b[2J";
const CLEAR_REST: &str = "\x1b[J";
const END_LINE: &str = "\x1b[K\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let plain = |text, height| fitted(text, height).replace(END_LINE, "|");
        assert_eq!(plain("a\nb\nc\n", 4), "a|b|c|");
        assert_eq!(plain("a\nb\nc\n", 3), "a|(2 more lines)|");
        assert_eq!(plain("a\nb\n", 1), "(2 more lines)|");
        assert_eq!(plain("a\nb\n", 0), "a|b|");
    }
}
