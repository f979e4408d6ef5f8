//! Settings of the kernel under `/proc/sys/net`.

use std::path::Path;

/// The number that the setting has now, such as `ipv4/ip_forward`; `None` if it cannot be read.
pub fn number(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc/sys/net").join(key)).ok()?;
    text.trim().parse().ok()
}
