//! Control's record of mismatches: the senders that failed a check recently, and the lines in the log.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Check, DroppedBy, Mismatch};

/// A sender that failed a check recently.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RecentMismatch {
    /// Its latest mismatch.
    #[serde(flatten)]
    pub latest: Mismatch,
    /// How often workers reported it. Each worker reports an inner address once per epoch of about two
    /// seconds, so this is lower than the number of packets.
    pub reports: u64,
    /// Seconds since the latest report.
    pub last_ago: f64,
}

/// The senders that failed a check recently, and when the log named them.
#[derive(Default)]
pub struct MismatchLog {
    /// In the order of their latest report.
    entries: Vec<LoggedSender>,
    /// When the current log interval began.
    interval_start: Option<Instant>,
    /// Lines logged in it.
    lines: u32,
    /// Reports that had no line in it.
    suppressed: u64,
}

struct LoggedSender {
    latest: Mismatch,
    reports: u64,
    last_report: Instant,
    last_logged: Option<Instant>,
}

impl MismatchLog {
    /// Records mismatches that workers reported, and logs the senders that had no line within the last
    /// minute.
    pub fn record(&mut self, mismatches: Vec<Mismatch>) {
        for line in self.lines_for(mismatches, Instant::now()) {
            tracing::warn!("{line}");
        }
    }

    /// The senders of the latest mismatches, at most 32, the most recent first.
    pub fn recent(&self) -> Vec<RecentMismatch> {
        let recent = |entry: &LoggedSender| RecentMismatch {
            latest: entry.latest,
            reports: entry.reports,
            last_ago: entry.last_report.elapsed().as_secs_f64(),
        };
        self.entries.iter().rev().map(recent).collect()
    }

    /// Records mismatches and returns the lines to log.
    pub(super) fn lines_for(&mut self, mismatches: Vec<Mismatch>, now: Instant) -> Vec<String> {
        let mut lines = vec![];
        if self.interval_start.is_none_or(|start| now.duration_since(start) >= LOG_INTERVAL) {
            if self.suppressed > 0 {
                let packets = if self.suppressed == 1 { "packet" } else { "packets" };
                lines.push(format!(
                    "{} more {packets} of other senders failed a check in the last minute",
                    self.suppressed
                ));
            }
            (self.interval_start, self.lines, self.suppressed) = (Some(now), 0, 0);
        }
        for mismatch in mismatches {
            let last_logged = self.entry(mismatch, now).last_logged;
            if last_logged.is_some_and(|last| now.duration_since(last) < LOG_INTERVAL) {
                continue;
            }
            if self.lines == LINES_PER_INTERVAL {
                self.suppressed += 1;
                continue;
            }
            self.lines += 1;
            if let Some(entry) = self.entries.last_mut() {
                entry.last_logged = Some(now);
            }
            lines.push(mismatch.sentence());
        }
        lines
    }

    /// Updates the entry of `mismatch`'s sender and moves it to the end.
    fn entry(&mut self, mismatch: Mismatch, now: Instant) -> &LoggedSender {
        let key = |m: &Mismatch| (m.check, *m.sender.ip(), m.holder, m.dropped, m.by);
        let found = self.entries.iter().position(|entry| key(&entry.latest) == key(&mismatch));
        let mut entry = match found {
            Some(index) => self.entries.remove(index),
            None => {
                LoggedSender { latest: mismatch, reports: 0, last_report: now, last_logged: None }
            }
        };
        if self.entries.len() == MAX_SENDERS {
            self.entries.remove(0);
        }
        (entry.latest, entry.last_report) = (mismatch, now);
        entry.reports += 1;
        self.entries.push(entry);
        &self.entries[self.entries.len() - 1]
    }
}

impl Mismatch {
    /// The sentence that the log and `doctor` print, which names the flag that decides.
    pub fn sentence(&self) -> String {
        let Self { source, destination, sender, .. } = self;
        let (what, flag) = match self.check {
            Check::Source => ("source", "--source-check"),
            Check::Destination => ("destination", "--destination-check"),
        };
        let address = if self.check == Check::Source { source } else { destination };
        let holder = match self.holder {
            Some(holder) if holder == *sender.ip() => {
                format!("belongs to the lease of {holder}, whose daemon sends from another port")
            }
            Some(holder) => format!("belongs to the lease of {holder}"),
            None => "is in no lease".into(),
        };
        let why = match self.check {
            Check::Source => "that is not its sender's",
            Check::Destination => "that is not in this host's subnet",
        };
        let done = match self.by {
            Some(DroppedBy::Stranger) => {
                "dropped, because no host with a lease sends from that address and port \
                 (--source-check=peers; --source-check=log would forward it)"
                    .into()
            }
            Some(DroppedBy::Relay) => {
                "dropped, because a packet to a destination outside this host's subnet needs a source in \
                 another host's lease (--source-check=off would forward it)"
                    .into()
            }
            Some(DroppedBy::Budget) => {
                "dropped, because the leases are not known yet and too many packets come from unknown hosts \
                 (--source-check=peers; --source-check=log would forward it)"
                    .into()
            }
            Some(DroppedBy::Enforce) => format!("dropped ({flag}=enforce)"),
            // From a daemon of an earlier version, which does not report the rule.
            None if self.dropped => format!("dropped ({flag})"),
            None => format!("forwarded anyway ({flag}=enforce would drop it)"),
        };
        format!(
            "a packet from {sender} has an inner {what} {why}: {address} {holder}; {source} to \
             {destination}, {done}"
        )
    }
}

/// Senders remembered.
const MAX_SENDERS: usize = 32;
/// Each sender is logged at most once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Lines that all senders together may have in a [`LOG_INTERVAL`].
const LINES_PER_INTERVAL: u32 = 10;
