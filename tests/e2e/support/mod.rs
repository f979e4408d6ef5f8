//! What the end-to-end tests share.

pub mod accounting;
pub mod bulk;
pub mod conservation;
pub mod exclusive;
pub mod flow;
pub mod net;
pub mod pattern;
pub mod peer;
pub mod preload;
pub mod raw;
pub mod tcp;
pub mod test_lab;
pub mod tos;

pub use exclusive::exclusive;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The program under test: the one that was built with the tests, or the one that `FLANNEL_UDP_PROGRAM` names.
pub fn program() -> PathBuf {
    std::env::var_os("FLANNEL_UDP_PROGRAM")
        .map_or_else(|| env!("CARGO_BIN_EXE_flannel-udp").into(), PathBuf::from)
}

/// Whether `FLANNEL_UDP_LONG` asks for the long form of a test.
pub fn long() -> bool {
    std::env::var_os("FLANNEL_UDP_LONG").is_some_and(|value| value != "0")
}

/// Polls `done` until it returns true; panics with `what` after `limit`. Returns the time it took.
#[track_caller]
pub fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    start.elapsed()
}
