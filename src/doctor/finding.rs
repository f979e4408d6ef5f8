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

    /// Formats the report as text: one line per check, its remedy below it.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut counts = [0usize; 4];
        for Section { group, findings } in &self.groups {
            let _ = writeln!(text, "{group}");
            for Finding { check, level, finding, remedy, .. } in findings {
                counts[*level as usize] += 1;
                let _ = writeln!(text, "  {:<8} {check}: {finding}", level.word());
                if let Some(remedy) = remedy {
                    let _ = writeln!(text, "           -> {remedy}");
                }
            }
        }
        let [ok, notes, warnings, faults] = counts;
        let seconds = self.took_ms as f64 / 1000.0;
        let _ = writeln!(
            text,
            "{faults} faults, {warnings} warnings, {notes} notes, {ok} ok; {seconds:.1} s"
        );
        text
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
        assert_eq!(
            report.text(),
            "A\n  ok       x: 1\n  warning  y: 2\n           -> do\n\
             0 faults, 1 warnings, 0 notes, 1 ok; 1.5 s\n"
        );
        assert_eq!(DoctorReport::new(vec![], std::time::Duration::ZERO).worst, Level::Ok);
    }
}
