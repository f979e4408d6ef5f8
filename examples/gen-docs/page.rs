//! A manual page: what clap knows of a command, and the sections that man-pages(7) asks for beside.

use std::io;

use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use flannel_udp::cli::{Code, examples};

use crate::tables::{DAEMON_VARIABLES, FILES, RELATED, SIGNALS};
use crate::tidy::tidied;

/// System administration commands.
pub(crate) const SECTION: &str = "8";

/// The page of one command.
pub(crate) struct Page<'a> {
    pub(crate) command: &'a clap::Command,
    /// From the program down to the command's parent.
    pub(crate) parents: &'a [&'a clap::Command],
}

impl Page<'_> {
    /// `flannel-udp-leases-list`.
    pub(crate) fn name(&self) -> String {
        let parents = self.parents.iter().map(|parent| parent.get_name());
        parents.chain([self.command.get_name()]).collect::<Vec<_>>().join("-")
    }

    /// The text of the page. Its date is that of the release, so that every build gives the same.
    pub(crate) fn render(&self) -> io::Result<String> {
        let name = self.name();
        let man = Man::new(self.command.clone())
            .title(name.to_uppercase())
            .section(SECTION)
            .date(release_date())
            .source(concat!("flannel-udp ", env!("CARGO_PKG_VERSION")))
            .manual("System Administration");
        let mut page = Vec::new();
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        page.extend(self.synopsis().render().bytes());
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        if self.command.has_subcommands() {
            man.render_subcommands_section(&mut page)?;
        }
        let rest = [
            self.notes(),
            self.exit_status(),
            self.environment(),
            self.signals(),
            self.files(),
            self.examples(),
            self.see_also(),
        ];
        for section in rest {
            page.extend(section.render().bytes());
        }
        Ok(tidied(&String::from_utf8(page).map_err(io::Error::other)?))
    }

    fn is_daemon(&self) -> bool {
        self.parents.is_empty()
    }

    /// The usage lines of `--help`.
    fn synopsis(&self) -> Roff {
        let mut roff = section("SYNOPSIS");
        let usage = self.command.clone().render_usage().to_string();
        let program = self.command.get_bin_name().unwrap_or_default();
        for (number, line) in usage.trim_start_matches("Usage:").lines().enumerate() {
            if number > 0 {
                roff.control("br", []);
            }
            let rest = line.trim().strip_prefix(program).unwrap_or_default();
            roff.text([bold(program), roman(rest)]);
        }
        roff
    }

    /// What `--help` says below the options. What it says there of the daemon has sections of its own.
    fn notes(&self) -> Roff {
        match self.command.get_after_help() {
            Some(text) if !self.is_daemon() => {
                let mut roff = section("NOTES");
                roff.text([roman(text.to_string())]);
                roff
            }
            _ => Roff::new(),
        }
    }

    fn exit_status(&self) -> Roff {
        let mut roff = section("EXIT STATUS");
        if self.is_daemon() {
            for code in Code::ALL {
                item(&mut roff, bold((code as u8).to_string()), code.meaning());
            }
        } else {
            roff.text([
                roman("0 on success. "),
                bold("flannel-udp"),
                roman("(8) lists the other codes."),
            ]);
        }
        roff
    }

    fn environment(&self) -> Roff {
        let mut roff = Roff::new();
        if self.is_daemon() {
            for (variable, meaning) in DAEMON_VARIABLES {
                item(&mut roff, bold(variable), meaning);
            }
        }
        for arg in self.command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            if let (Some(variable), Some(flag)) = (arg.get_env(), arg.get_long()) {
                let meaning = format!("Used unless --{flag} is given.");
                item(&mut roff, bold(variable.to_string_lossy()), &meaning);
            }
        }
        headed("ENVIRONMENT", roff)
    }

    fn signals(&self) -> Roff {
        let mut roff = Roff::new();
        if self.is_daemon() {
            for (signal, effect) in SIGNALS {
                item(&mut roff, bold(signal), effect);
            }
        }
        headed("SIGNALS", roff)
    }

    /// The daemon's files; for a command, the defaults of its flags that are paths.
    fn files(&self) -> Roff {
        let mut roff = Roff::new();
        if self.is_daemon() {
            for (path, meaning) in FILES {
                item(&mut roff, italic(path), meaning);
            }
        } else {
            for arg in self.command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let default = arg.get_default_values().first().and_then(|value| value.to_str());
                if let Some(path) = default.filter(|value| value.starts_with("/run/")) {
                    let meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
                    item(&mut roff, italic(path), &meaning);
                }
            }
        }
        headed("FILES", roff)
    }

    fn examples(&self) -> Roff {
        let words: Vec<_> = self.parents.iter().skip(1).map(|parent| parent.get_name()).collect();
        let own = (!self.is_daemon()).then(|| self.command.get_name());
        let words = words.into_iter().chain(own).collect::<Vec<_>>().join(" ");
        let mut roff = Roff::new();
        for (number, example) in examples(&words).enumerate() {
            if number > 0 {
                roff.control("PP", []);
            }
            roff.text([roman(format!("{}:", example.purpose))]);
            roff.control("PP", []);
            roff.control("RS", ["4"]);
            roff.control("EX", []);
            roff.text([roman(example.line)]);
            roff.control("EE", []);
            roff.control("RE", []);
        }
        headed("EXAMPLES", roff)
    }

    /// The parents and the other commands below the same parent, or all commands; then what is related.
    fn see_also(&self) -> Roff {
        let mut pages: Vec<_> = Vec::new();
        for end in 1..=self.parents.len() {
            let names: Vec<_> =
                self.parents[..end].iter().map(|parent| parent.get_name()).collect();
            pages.push((names.join("-"), SECTION));
        }
        let (family, prefix) = match self.parents {
            [] => (Some(self.command), self.name()),
            [_] => (self.command.has_subcommands().then_some(self.command), self.name()),
            [.., parent] => {
                (Some(*parent), pages.last().map(|page| page.0.clone()).unwrap_or_default())
            }
        };
        for tool in family.into_iter().flat_map(clap::Command::get_subcommands) {
            if !tool.is_hide_set() && tool.get_name() != self.command.get_name() {
                pages.push((format!("{prefix}-{}", tool.get_name()), SECTION));
            }
        }
        let related = RELATED.iter().filter(|(command, ..)| *command == self.name());
        pages.extend(related.map(|(_, page, section)| ((*page).to_owned(), *section)));

        let mut line = Vec::new();
        for (name, section) in &pages {
            let before = if line.is_empty() { "" } else { ", " };
            line.extend([roman(before), bold(name.as_str()), roman(format!("({section})"))]);
        }
        let mut roff = section("SEE ALSO");
        roff.text(line);
        if self.is_daemon() {
            roff.control("PP", []);
            roff.text([roman(concat!("Documentation: ", env!("CARGO_PKG_REPOSITORY")))]);
        }
        roff
    }
}

fn section(heading: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    roff
}

/// The text below a heading; nothing if there is no text.
fn headed(heading: &str, text: Roff) -> Roff {
    if text == Roff::new() {
        return text;
    }
    let mut roff = section(heading);
    roff.extend([text]);
    roff
}

fn item(roff: &mut Roff, term: Inline, text: &str) {
    roff.control("TP", []);
    roff.text([term]);
    roff.text([roman(text)]);
}

/// The date of the newest entry in the Debian changelog, as ISO 8601 has it.
fn release_date() -> String {
    const CHANGELOG: &str = include_str!("../../packaging/deb/changelog");
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let signature = CHANGELOG.lines().find(|line| line.starts_with(" -- ")).unwrap_or_default();
    // "Mon, 30 Nov 2026 12:00:00 +0000" stands at the end.
    let words: Vec<_> = signature.split_whitespace().rev().collect();
    let [_, _, year, month, day, ..] = words[..] else { return String::new() };
    let month = MONTHS.iter().position(|name| *name == month).map_or(0, |index| index + 1);
    format!("{year}-{month:02}-{day:0>2}")
}
