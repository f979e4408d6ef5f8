//! The result of a check: its level, what was seen, what to do about it.

use std::fmt::Write as _;

use serde::Serialize;

use crate::humanize;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing is broken. Also a check that could not be made, and why.
    Note,
    /// Works, but not as well or as reliably as it could.
    Warning,
    /// Packets are lost, or will be.
    Fault,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Fault => "FAULT",
        }
    }
}

/// The result of one check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Finding {
    /// Name of the check, a word or two.
    pub(super) check: String,
    /// How bad it is.
    pub(super) level: Level,
    /// What was seen, with the value.
    pub(super) finding: String,
    /// What to do about it, with its commands in backquotes.
    pub(super) remedy: Option<String>,
    /// The commands of the remedy. Each runs as it is printed.
    pub(super) commands: Vec<String>,
}

impl Finding {
    /// A finding of level [`Level::Ok`].
    pub(super) fn ok(check: impl Into<String>, finding: impl Into<String>) -> Self {
        Self::new(Level::Ok, check, finding)
    }

    /// A finding of level [`Level::Note`].
    pub(super) fn note(check: impl Into<String>, finding: impl Into<String>) -> Self {
        Self::new(Level::Note, check, finding)
    }

    /// A finding of level [`Level::Warning`].
    pub(super) fn warning(check: impl Into<String>, finding: impl Into<String>) -> Self {
        Self::new(Level::Warning, check, finding)
    }

    /// A finding of level [`Level::Fault`].
    pub(super) fn fault(check: impl Into<String>, finding: impl Into<String>) -> Self {
        Self::new(Level::Fault, check, finding)
    }

    fn new(level: Level, check: impl Into<String>, finding: impl Into<String>) -> Self {
        Self { check: check.into(), level, finding: finding.into(), remedy: None, commands: vec![] }
    }

    /// Adds what to do about it.
    #[must_use]
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        let remedy = remedy.into();
        self.commands = humanize::commands(&remedy).map(str::to_owned).collect();
        self.remedy = Some(remedy);
        self
    }
}

/// The findings of one group of checks.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Section {
    /// What the checks are about.
    pub(super) group: &'static str,
    /// Their findings, in order.
    pub(super) findings: Vec<Finding>,
}

/// All findings of a run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct DoctorReport {
    /// Version of the JSON format.
    pub(super) version: u32,
    /// The worst finding.
    pub(super) worst: Level,
    /// How long the checks took, in milliseconds.
    pub(super) took_ms: u64,
    /// The groups, in order.
    pub(super) groups: Vec<Section>,
}

impl DoctorReport {
    /// Makes a report of these groups, without the empty ones.
    pub(super) fn new(mut groups: Vec<Section>, took: std::time::Duration) -> Self {
        groups.retain(|group| !group.findings.is_empty());
        let levels = groups.iter().flat_map(|group| &group.findings).map(|finding| finding.level);
        let worst = levels.max().unwrap_or(Level::Ok);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Self { version: 1, worst, took_ms, groups }
    }

    /// Formats the report as text, the worst findings first, each with its remedy below it. With `verbose` it ends
    /// with the checks that found no problem, by group.
    pub(super) fn text(&self, verbose: bool) -> String {
        let mut text = String::new();
        for level in [Level::Fault, Level::Warning, Level::Note] {
            for (group, Finding { check, finding, remedy, .. }) in self.of(level) {
                let _ = writeln!(text, "{:<8} {group}: {check}: {finding}", level.word());
                if let Some(remedy) = remedy {
                    let _ = writeln!(text, "         -> {remedy}");
                }
            }
        }
        let mut heading = "";
        for (group, Finding { check, finding, .. }) in self.of(Level::Ok).filter(|_| verbose) {
            if group != heading {
                let _ = writeln!(text, "{group}");
                heading = group;
            }
            let _ = writeln!(text, "  {:<8} {check}: {finding}", Level::Ok.word());
        }
        let count = |level| self.of(level).count() as u64;
        let _ = writeln!(
            text,
            "{}, {}, {}, {} ok{}; {:.1} s",
            humanize::counted(count(Level::Fault), "fault"),
            humanize::counted(count(Level::Warning), "warning"),
            humanize::counted(count(Level::Note), "note"),
            count(Level::Ok),
            if verbose { "" } else { " (--verbose lists them)" },
            self.took_ms as f64 / 1000.0
        );
        text
    }

    /// The findings of one level, each with its group.
    fn of(&self, level: Level) -> impl Iterator<Item = (&'static str, &Finding)> {
        let all = self.groups.iter().flat_map(|section| {
            section.findings.iter().map(move |finding| (section.group, finding))
        });
        all.filter(move |(_, finding)| finding.level == level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_counts() {
        let section = |group, findings| Section { group, findings };
        let report = DoctorReport::new(
            vec![
                section("A", vec![Finding::ok("x", "1"), Finding::warning("y", "2").remedy("do")]),
                section("B", vec![]),
            ],
            std::time::Duration::from_millis(1500),
        );
        assert_eq!((report.worst, report.groups.len()), (Level::Warning, 1));
        let problems = "warning  A: y: 2\n         -> do\n";
        let counts = "0 faults, 1 warning, 0 notes, 1 ok";
        assert_eq!(
            report.text(false),
            format!("{problems}{counts} (--verbose lists them); 1.5 s\n")
        );
        assert_eq!(report.text(true), format!("{problems}A\n  ok       x: 1\n{counts}; 1.5 s\n"));
        assert_eq!(DoctorReport::new(vec![], std::time::Duration::ZERO).worst, Level::Ok);
    }
}
