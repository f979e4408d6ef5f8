//! The clock: a wrong one makes valid certificates fail and logs of two hosts incomparable.

use std::time::SystemTime;

use super::finding::Finding;
use crate::sys;

/// Checks the clock. `offset` is this host's clock minus etcd's, in seconds; `None` if etcd did not
/// report its own.
pub(super) fn check(offset: Option<i64>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let built = std::env::current_exe().and_then(|path| path.metadata()?.modified());
    if let Ok(built) = built
        && let Ok(behind) = built.duration_since(SystemTime::now())
        && behind.as_secs() > 60
    {
        findings.push(
            Finding::warning(
                "clock",
                format!(
                    "it is {} s behind the modification time of this program's file",
                    behind.as_secs()
                ),
            )
            .remedy("`timedatectl set-ntp true`"),
        );
    }
    match offset {
        Some(offset) if offset.abs() > MAX_CLOCK_OFFSET => findings.push(
            Finding::warning(
                "clock",
                format!(
                    "it is {} s {} etcd's clock: certificates may seem invalid, and logs cannot be \
                     compared",
                    offset.abs(),
                    if offset < 0 { "behind" } else { "ahead of" }
                ),
            )
            .remedy("`timedatectl set-ntp true`, on both hosts"),
        ),
        Some(offset) => {
            findings.push(Finding::ok("clock", format!("{offset} s from etcd's clock")))
        }
        None => {}
    }
    findings.push(match sys::clock::is_synchronized() {
        Some(true) => Finding::ok("clock synchronization", "synchronized"),
        Some(false) => Finding::note(
            "clock synchronization",
            "not synchronized, as far as the kernel knows (leases are not affected: etcd times them)",
        )
        .remedy("`timedatectl set-ntp true`"),
        None => Finding::note("clock synchronization", "not checked: adjtimex is not allowed here"),
    });
    findings
}

/// Largest accepted difference between two clocks, in seconds.
const MAX_CLOCK_OFFSET: i64 = 30;
