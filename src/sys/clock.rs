//! The clock's own idea of itself: `adjtimex(2)`.

use std::mem;

/// Whether something keeps the system clock in step (the state is not `TIME_ERROR`, which stands for
/// `STA_UNSYNC`); `None` where the call is not allowed.
pub fn is_synchronized() -> Option<bool> {
    // SAFETY: `timex` is a C struct of integers: all zeros is a value, and with `modes` 0 the call
    // changes nothing.
    let mut state: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: adjtimex writes one `timex`, which `state` is, alive for the call.
    match unsafe { libc::adjtimex(&raw mut state) } {
        -1 => None,
        libc::TIME_ERROR => Some(false),
        _ => Some(true),
    }
}
