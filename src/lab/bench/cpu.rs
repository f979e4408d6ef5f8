//! CPU time of the whole machine and of single threads.

use std::collections::BTreeMap;
use std::fs;
use std::sync::OnceLock;
use std::time::Instant;

/// CPU time up to one moment.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    at: Instant,
    busy: f64,
    daemons: Clocks,
    others: Clocks,
}

/// Name and CPU seconds of each thread, by process and thread id.
type Clocks = BTreeMap<(u32, u32), (String, f64)>;

/// CPU time between two moments.
#[derive(Debug, Clone, Default)]
pub(super) struct Used {
    /// Length, in seconds.
    pub(super) elapsed: f64,
    /// CPU seconds of the whole machine, without idle, I/O wait and steal time.
    pub(super) busy: f64,
    /// CPU seconds of the lab's processes and the kernel's softirq threads. Unlike `busy` it contains almost
    /// nothing of other work on the machine.
    pub(super) own: f64,
    /// CPU seconds by thread name; threads with the same name are added.
    pub(super) threads: BTreeMap<String, f64>,
}

impl Reading {
    /// Reads the CPU time of the machine, of the threads of `daemons`, and of the lab's processes `others`.
    pub(super) fn take(daemons: &[u32], others: &[u32]) -> Self {
        Self {
            at: Instant::now(),
            busy: machine(),
            daemons: clocks(daemons),
            others: clocks(others.iter().chain(softirq_threads())),
        }
    }

    /// The CPU time from `self` to `later`.
    pub(super) fn until(&self, later: &Self) -> Used {
        let mut threads = BTreeMap::new();
        for (name, seconds) in used(&self.daemons, &later.daemons) {
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

/// The CPU time of each thread that still exists: the clock of a thread that has ended is gone.
fn used<'a>(before: &'a Clocks, later: &'a Clocks) -> impl Iterator<Item = (&'a str, f64)> {
    later.iter().map(|(id, (name, seconds))| {
        let before = before.get(id).map_or(0.0, |(_, seconds)| *seconds);
        (name.as_str(), seconds - before)
    })
}

/// CPUs that are online.
pub(super) fn processors() -> usize {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let cpu = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|l| l.starts_with(|c: char| c.is_ascii_digit()))
    };
    text.lines().filter(cpu).count().max(1)
}

/// CPU seconds of the machine since boot: `/proc/stat`, proc(5).
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
    fn cpu_time_is_attributed() {
        let me = [std::process::id()];
        // A thread that has used CPU time and ends within the window.
        let (started, has_started) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let gone = std::thread::spawn(move || {
            work(200);
            started.send(()).unwrap();
            let _ = ended.recv();
        });
        has_started.recv().unwrap();
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
        assert!(used.own >= threads, "the time of the ended thread is not subtracted: {used:?}");
        assert!(processors() >= 1);
    }

    /// Keeps a CPU busy.
    fn work(millis: u128) {
        let (began, mut x) = (Instant::now(), 1u64);
        while began.elapsed().as_millis() < millis {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
    }
}
