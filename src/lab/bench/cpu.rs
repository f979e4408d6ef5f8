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
    carriers: Clocks,
    others: Clocks,
}

/// Name and seconds of each thread, by the numbers of its process and its own.
type Clocks = BTreeMap<(u32, u32), (String, f64)>;

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
        Self {
            at: Instant::now(),
            busy: machine(),
            carriers: clocks(carriers),
            others: clocks(others.iter().chain(softirq_threads())),
        }
    }

    /// What was used from `self` to `later`.
    pub(super) fn until(&self, later: &Self) -> Used {
        let mut threads = BTreeMap::new();
        for (name, seconds) in used(&self.carriers, &later.carriers) {
            *threads.entry(name.to_owned()).or_insert(0.0) += seconds;
        }
        let others: f64 = used(&self.others, &later.others).map(|(_, seconds)| seconds).sum();
        Used {
            elapsed: (later.at - self.at).as_secs_f64(),
            busy: later.busy - self.busy,
            own: threads.values().sum::<f64>() + others,
            threads,
        }
    }
}

/// What each thread that is still there has used: one that has ended takes its clock with it.
fn used<'a>(before: &'a Clocks, later: &'a Clocks) -> impl Iterator<Item = (&'a str, f64)> {
    later.iter().map(|(id, (name, seconds))| {
        let before = before.get(id).map_or(0.0, |(_, seconds)| *seconds);
        (name.as_str(), seconds - before)
    })
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

/// The clocks of all threads of some processes: `/proc/PID/task/TID/schedstat`, whose first field is
/// in nanoseconds (Documentation/scheduler/sched-stats.rst).
fn clocks<'a>(processes: impl IntoIterator<Item = &'a u32>) -> Clocks {
    let clocks_of = |process: &u32| {
        let process = *process;
        let tasks = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        tasks.filter_map(move |task| {
            let thread = task.file_name().to_str()?.parse().ok()?;
            let name = fs::read_to_string(task.path().join("comm")).ok()?.trim().to_owned();
            let used = fs::read_to_string(task.path().join("schedstat")).ok()?;
            let ns: f64 = used.split_whitespace().next()?.parse().ok()?;
            Some(((process, thread), (name, ns / 1e9)))
        })
    };
    processes.into_iter().flat_map(clocks_of).collect()
}

/// USER_HZ: the unit of `/proc/stat`, 100 on every architecture Linux shows it to (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen() {
        let me = [std::process::id()];
        // A thread that has worked, and ends within the window.
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let gone = std::thread::spawn(move || {
            work(200);
            tell.send(()).unwrap();
            let _ = ended.recv();
        });
        told.recv().unwrap();
        let before = Reading::take(&me, &[]);
        drop(end);
        gone.join().unwrap();
        let used = loop {
            work(60);
            let used = before.until(&Reading::take(&me, &[]));
            if used.own > 0.01 || used.elapsed > 10.0 {
                break used;
            }
        };
        assert!(used.elapsed >= 0.06);
        let threads: f64 = used.threads.values().sum();
        assert!(used.own > 0.01 && threads > 0.01, "{used:?}");
        assert!(used.own >= threads, "what the ended thread had used is not taken off: {used:?}");
        assert!(processors() >= 1);
    }

    /// Keeps a processor busy, as far as others let it.
    fn work(millis: u128) {
        let (began, mut x) = (Instant::now(), 1u64);
        while began.elapsed().as_millis() < millis {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
    }
}
