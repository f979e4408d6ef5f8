//! The error of a hop that is one too many.

use core::fmt;

/// The time to live, or the hop limit, is used up: the packet must be dropped, and its sender may be
/// sent an ICMP error ([`icmp`](crate::icmp)).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Expired;

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("time to live exceeded")
    }
}

impl core::error::Error for Expired {}
