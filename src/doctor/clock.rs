//! The clock: certificates have dates, and logs are compared between hosts.

use std::time::SystemTime;

use super::finding::Finding;
use crate::sys;

/// `offset` is this host's clock less the lease store's, in seconds, if the store told.
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
                    "it is {} s earlier than the date of this program's file",
                    behind.as_secs()
                ),
            )
            .remedy("timedatectl set-ntp true"),
        );
    }
    match offset {
        Some(offset) if offset.abs() > MAX_CLOCK_OFFSET => findings.push(
            Finding::warning(
                "clock",
                format!(
                    "it is {} s {} etcd's: certificates may seem invalid, logs cannot be compared",
                    offset.abs(),
                    if offset < 0 { "behind" } else { "ahead of" }
                ),
            )
            .remedy("timedatectl set-ntp true (on both)"),
        ),
        Some(offset) => findings.push(Finding::ok("clock", format!("{offset} s from etcd's"))),
        None => {}
    }
    findings.push(match sys::clock::is_synchronized() {
        Some(true) => Finding::ok("clock kept in step", "yes"),
        Some(false) => Finding::note(
            "clock kept in step",
            "the kernel knows of nothing that does (leases are timed by etcd, so they do not suffer)",
        )
        .remedy("timedatectl set-ntp true"),
        None => Finding::note("clock kept in step", "not checked: adjtimex is not allowed here"),
    });
    findings
}

/// Seconds that two clocks may differ before anybody suffers.
const MAX_CLOCK_OFFSET: i64 = 30;
