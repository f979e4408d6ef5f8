//! Who may run: root, one test at a time.

use std::io::Write;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use flannel_udp::lab;

/// Waits for this test's turn. `None`, after a loud word, where the machine lacks the rights or the
/// programs.
pub fn turn() -> Option<MutexGuard<'static, ()>> {
    turn_with(&[])
}

/// The same for a test that needs more programs.
pub fn turn_with(programs: &[&str]) -> Option<MutexGuard<'static, ()>> {
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let missing = programs.iter().find(|program| !lab::tool::exists(program));
    let missing = missing.map(|program| format!("missing: {program} (scripts/setup.sh)"));
    match LACKING.get_or_init(lacking).clone().or(missing) {
        None => Some(turn),
        Some(lacking) => {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            let required = std::env::var_os("FLANNEL_UDP_REQUIRE_ROOT").is_some_and(|v| v != "0");
            assert!(!required, "{test} cannot run here: {lacking}");
            // Not eprintln: the test harness would swallow it.
            let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {lacking}");
            None
        }
    }
}

fn lacking() -> Option<String> {
    if let Err(why) = lab::have_privilege() {
        return Some(why.replace('\n', "; "));
    }
    let missing: Vec<&str> =
        PROGRAMS.into_iter().filter(|program| !lab::tool::exists(program)).collect();
    (!missing.is_empty()).then(|| format!("missing: {} (scripts/setup.sh)", missing.join(", ")))
}

const PROGRAMS: [&str; 5] = ["ip", "etcd", "ethtool", "iptables", "traceroute"];

static LACKING: OnceLock<Option<String>> = OnceLock::new();

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
