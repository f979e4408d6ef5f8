//! The terminal on standard output: its size, and lines that fit its width.

use std::io::{self, IsTerminal};

use rustix::termios::tcgetwinsize;

/// Columns and rows of the terminal; `None` if standard output is no terminal, or one that does not know its size.
pub(super) fn size() -> Option<(usize, usize)> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = tcgetwinsize(stdout).ok()?;
    let size = (usize::from(size.ws_col), usize::from(size.ws_row));
    (size.0 > 0 && size.1 > 0).then_some(size)
}

/// Wraps lines that are longer than `width` between words; what continues a line is indented by `indent`.
pub(super) fn wrapped(text: &str, width: usize, indent: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut rest = line;
        let mut room = width;
        while rest.chars().count() > room {
            // A blank just behind the room is a place to break as well.
            let end = rest.char_indices().nth(room + 1).map_or(rest.len(), |(at, _)| at);
            // Blanks at the beginning of a line align it: a line is not broken in them.
            let start = rest.len() - rest.trim_start().len();
            let Some(at) = rest[..end].rfind(' ').filter(|at| *at > start) else { break };
            out.push_str(rest[..at].trim_end());
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            rest = rest[at..].trim_start();
            room = width.saturating_sub(indent).max(1);
        }
        out.push_str(rest);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_between_words() {
        let text = "lease      10.0.7.0/24 of 10.0.0.0/16, expires in 23 h\nshort\n";
        let expected = "lease      10.0.7.0/24 of\n    10.0.0.0/16, expires\n    in 23 h\nshort\n";
        assert_eq!(wrapped(text, 25, 4), expected);
        assert_eq!(wrapped(text, 80, 4), text);
        let long = "           http://a.very.long.name.example:2379\n";
        assert_eq!(wrapped(long, 20, 4), long, "a word is not broken");
    }
}
