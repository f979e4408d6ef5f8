//! What the end-to-end tests share.

pub mod books;
pub mod bulk;

pub mod flow;
pub mod gate;
pub mod ledger;
pub mod marks;
pub mod net;
pub mod pattern;
pub mod peer;
pub mod preload;
pub mod raw;
pub mod tcp;
pub mod world;

use std::time::{Duration, Instant};

/// Whether the long form of a test is asked for.
pub fn long() -> bool {
    std::env::var_os("FLANNEL_UDP_LONG").is_some_and(|value| value != "0")
}

/// Looks until `done` says yes; panics with `what` when `limit` is over. Returns how long it took.
#[track_caller]
pub fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    start.elapsed()
}
