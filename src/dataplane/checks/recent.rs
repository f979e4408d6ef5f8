//! Control's side of the checks: who failed lately, and the lines in the log.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Check, Mismatch};

/// One sender that failed a check lately.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RecentMismatch {
    /// Its latest packet.
    #[serde(flatten)]
    pub latest: Mismatch,
    /// How often it was told of: at most once in two seconds for each inner address and thread, so
    /// fewer than its packets.
    pub reports: u64,
    /// Seconds since the last time.
    pub last_ago: f64,
}

/// The senders that failed a check lately, the latest last.
#[derive(Default)]
pub struct Mismatches {
    entries: Vec<Entry>,
    /// When the present minute of the log began, and how many lines it has had.
    minute: Option<Instant>,
    lines: u32,
    unsaid: u64,
}

struct Entry {
    latest: Mismatch,
    reports: u64,
    last: Instant,
    said: Option<Instant>,
}

impl Mismatches {
    /// Takes note of what workers told, and names in the log who was not named in the last minute.
    pub fn take(&mut self, mismatches: Vec<Mismatch>) {
        for line in self.note(mismatches, Instant::now()) {
            tracing::warn!("{line}");
        }
    }

    /// The latest, at most 32, the last one first.
    pub fn recent(&self) -> Vec<RecentMismatch> {
        let view = |entry: &Entry| RecentMismatch {
            latest: entry.latest,
            reports: entry.reports,
            last_ago: entry.last.elapsed().as_secs_f64(),
        };
        self.entries.iter().rev().map(view).collect()
    }

    pub(super) fn note(&mut self, mismatches: Vec<Mismatch>, now: Instant) -> Vec<String> {
        let mut lines = vec![];
        if self.minute.is_none_or(|began| now.duration_since(began) >= SAY_EVERY) {
            if self.unsaid > 0 {
                lines.push(format!(
                    "{} more packets of other senders failed a check in the last minute",
                    self.unsaid
                ));
            }
            (self.minute, self.lines, self.unsaid) = (Some(now), 0, 0);
        }
        for mismatch in mismatches {
            let entry = self.entry(mismatch, now);
            if entry.said.is_some_and(|said| now.duration_since(said) < SAY_EVERY) {
                continue;
            }
            if self.lines == LINES {
                self.unsaid += 1;
                continue;
            }
            self.lines += 1;
            if let Some(entry) = self.entries.last_mut() {
                entry.said = Some(now);
            }
            lines.push(mismatch.sentence());
        }
        lines
    }

    /// The entry that `mismatch` belongs to, now the last one.
    fn entry(&mut self, mismatch: Mismatch, now: Instant) -> &Entry {
        let key = |m: &Mismatch| (m.check, *m.sender.ip(), m.holder, m.dropped);
        let place = self.entries.iter().position(|entry| key(&entry.latest) == key(&mismatch));
        let mut entry = match place {
            Some(place) => self.entries.remove(place),
            None => Entry { latest: mismatch, reports: 0, last: now, said: None },
        };
        if self.entries.len() == RECENT {
            self.entries.remove(0);
        }
        (entry.latest, entry.last) = (mismatch, now);
        entry.reports += 1;
        self.entries.push(entry);
        &self.entries[self.entries.len() - 1]
    }
}

impl Mismatch {
    /// In words, as in the log, with what may be done.
    pub fn sentence(&self) -> String {
        let Self { source, destination, sender, .. } = self;
        let (what, flag) = match self.check {
            Check::Source => ("source", "--source-check"),
            Check::Destination => ("destination", "--destination-check"),
        };
        let address = if self.check == Check::Source { source } else { destination };
        let holder = match self.holder {
            Some(holder) => format!("belongs to the lease of {holder}"),
            None => "is in no lease".into(),
        };
        let why = match self.check {
            Check::Source => "not of its sender",
            Check::Destination => "not in this host's subnet",
        };
        let done = match self.dropped {
            true => format!("dropped ({flag}=enforce)"),
            false => format!("carried all the same ({flag}=log)"),
        };
        format!(
            "a packet from {sender} has an inner {what} {why}: {address} {holder}; {source} to \
             {destination}, {done}"
        )
    }
}

/// Senders remembered.
const RECENT: usize = 32;
/// A sender is named once in this time.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// Lines that such a time may have in all.
const LINES: u32 = 10;
