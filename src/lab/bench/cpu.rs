//! Processor time: of the whole machine, and of single threads.

use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;
use std::time::Instant;

/// Processor time up to one moment.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    at: Instant,
    busy: f64,
    own: f64,
    threads: BTreeMap<(u32, u32), (String, f64)>,
}

/// Processor time between two moments.
#[derive(Debug, Clone, Default)]
pub(super) struct Used {
    /// Length, in seconds.
    pub(super) elapsed: f64,
    /// Seconds of all processors: everything but idling, waiting for I/O and time that a
    /// hypervisor took away.
    pub(super) busy: f64,
    /// Seconds of the lab's processes and of the kernel's threads for network interrupts: unlike
    /// `busy`, next to nothing of what neighbours do.
    pub(super) own: f64,
    /// Seconds by thread name, threads of one name added up.
    pub(super) threads: BTreeMap<String, f64>,
}

impl Reading {
    /// Reads the clocks of the machine, of all threads of `carriers`, and of `others` of the lab.
    pub(super) fn take(carriers: &[u32], others: &[u32]) -> Self {
        let mut threads = BTreeMap::new();
        let mut own = 0.0;
        for process in carriers {
            for (thread, name, seconds) in threads_of(*process) {
                threads.insert((*process, thread), (name, seconds));
                own += seconds;
            }
        }
        for process in others.iter().chain(softirq_threads()) {
            own += threads_of(*process).iter().map(|(_, _, seconds)| seconds).sum::<f64>();
        }
        Self { at: Instant::now(), busy: machine(), own, threads }
    }

    /// What was used from `self` to `later`.
    pub(super) fn until(&self, later: &Self) -> Used {
        let mut threads = BTreeMap::new();
        for (id, (name, seconds)) in &later.threads {
            let before = self.threads.get(id).map_or(0.0, |(_, seconds)| *seconds);
            *threads.entry(name.clone()).or_insert(0.0) += seconds - before;
        }
        Used {
            elapsed: (later.at - self.at).as_secs_f64(),
            busy: later.busy - self.busy,
            own: later.own - self.own,
            threads,
        }
    }
}

/// Processors that are online.
pub(super) fn processors() -> usize {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let cpu = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|l| l.starts_with(|c: char| c.is_ascii_digit()))
    };
    text.lines().filter(cpu).count().max(1)
}

/// Seconds that all processors were busy since boot: `/proc/stat`, proc(5).
fn machine() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal …
    let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|i| fields.get(*i)).sum();
    busy / TICKS_PER_SECOND
}

/// The kernel's `ksoftirqd/N`, which take over when network interrupts pile up.
fn softirq_threads() -> &'static [u32] {
    static FOUND: OnceLock<Vec<u32>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let is_one = |pid: &u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.starts_with("ksoftirqd/")
        };
        pids.filter(is_one).collect()
    })
}

/// Number, name and seconds on a processor of each thread: `/proc/PID/task/TID/schedstat`, whose
/// first field is in nanoseconds (Documentation/scheduler/sched-stats.rst).
fn threads_of(process: u32) -> Vec<(u32, String, f64)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| {
            let thread = task.file_name().to_str()?.parse().ok()?;
            let name = fs::read_to_string(task.path().join("comm")).ok()?.trim().to_owned();
            let used = fs::read_to_string(task.path().join("schedstat")).ok()?;
            let ns: f64 = used.split_whitespace().next()?.parse().ok()?;
            Some((thread, name, ns / 1e9))
        })
        .collect()
}

/// USER_HZ: the unit of `/proc/stat`, 100 on every architecture Linux shows it to (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen() {
        let me = [std::process::id()];
        let before = Reading::take(&me, &[]);
        let mut x = 1u64;
        while before.at.elapsed().as_millis() < 60 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        let used = before.until(&Reading::take(&me, &[]));
        assert!(used.elapsed >= 0.06);
        assert!(used.own > 0.01);
        assert!(used.threads.values().sum::<f64>() > 0.01, "{used:?}");
        assert!(processors() >= 1);
    }
}
