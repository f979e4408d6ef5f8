//! What a test must have before it may build a lab: privileges, programs, and the machine to itself.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use flannel_udp::lab;

/// Waits until no other test of this program builds a lab. Returns `None`, after a line on standard
/// error, if the machine lacks the privileges or programs; panics instead if
/// `FLANNEL_UDP_REQUIRE_ROOT` is set.
pub fn exclusive() -> Option<MutexGuard<'static, ()>> {
    with_programs(&[])
}

/// [`exclusive`] for a test that also runs `programs`.
pub fn with_programs(programs: &[&str]) -> Option<MutexGuard<'static, ()>> {
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let missing = programs.iter().find(|program| !lab::tool::exists(program));
    let missing = missing.map(|program| format!("missing: {program} (scripts/setup.sh)"));
    match MACHINE_LACKS.get_or_init(machine_lacks).clone().or(missing) {
        None => Some(guard),
        Some(lacking) => {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            let required = std::env::var_os("FLANNEL_UDP_REQUIRE_ROOT").is_some_and(|v| v != "0");
            assert!(!required, "{test} cannot run here: {lacking}");
            // The test harness captures what `eprintln!` prints.
            let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {lacking}");
            None
        }
    }
}

/// The privilege or the programs that every test needs and this machine lacks.
fn machine_lacks() -> Option<String> {
    if let Err(why) = lab::have_privilege() {
        return Some(why.replace('\n', "; "));
    }
    let missing: Vec<&str> =
        PROGRAMS.into_iter().filter(|program| !lab::tool::exists(program)).collect();
    (!missing.is_empty()).then(|| format!("missing: {} (scripts/setup.sh)", missing.join(", ")))
}

const PROGRAMS: [&str; 5] = ["ip", "etcd", "ethtool", "iptables", "traceroute"];

static MACHINE_LACKS: OnceLock<Option<String>> = OnceLock::new();

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
