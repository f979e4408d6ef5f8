//! `gso`: the kernel cuts a long send into datagrams.

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::{ActiveOffloads, Description, Feature, Probe};
use crate::route::NextHop;
use crate::sys::udp;

/// Lost when the kernel refuses a train whose datagrams it sends one by one, unless the path's MTU
/// is the reason: then one next hop gets single datagrams for a while.
pub(super) const GSO: Description = Description {
    name: "gso",
    uses: "`UDP_SEGMENT`",
    since: Some("4.18"),
    without: "one datagram per message instead of up to 64: more CPU per packet sent",
    requires: &[],
    probe: Probe::Sockets(probe),
};

fn probe(sockets: &[UdpSocket]) -> Result<(), String> {
    if sockets.iter().take(1).all(udp::has_segment) {
        Ok(())
    } else {
        Err("the kernel has no UDP_SEGMENT".to_owned())
    }
}

/// Whether the datagrams of a train that was refused with `error` may pass one by one.
pub(in crate::dataplane) fn may_pass_singly(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        // The path's MTU is below the segment, where a plain datagram is fragmented:
        // `udp_send_skb` of `net/ipv4/udp.c`, which returned `EINVAL` in older kernels.
        Some(
            libc::EMSGSIZE | libc::EINVAL
            // The device of the underlay cannot complete checksums.
            | libc::EIO | libc::EOPNOTSUPP
        )
    )
}

/// Next hops whose path takes less than a segment, so that the kernel refuses to cut trains to them.
#[derive(Default)]
pub(in crate::dataplane) struct GsoBlocklist {
    hops: Vec<(NextHop, Instant)>,
    /// The next hops that the log has named.
    logged: Vec<NextHop>,
}

impl GsoBlocklist {
    /// Whether `hop` gets single datagrams at present.
    #[inline]
    pub(in crate::dataplane) fn contains(&mut self, hop: NextHop) -> bool {
        if self.hops.is_empty() {
            return false;
        }
        self.hops.retain(|(_, until)| Instant::now() < *until);
        self.hops.iter().any(|(blocked, _)| *blocked == hop)
    }

    /// Records that a train of `count` datagrams of `size` bytes to `hop` was refused with `error`
    /// while its datagrams passed one by one.
    pub(in crate::dataplane) fn record_refusal(
        &mut self,
        error: &io::Error,
        hop: NextHop,
        (count, size): (u32, u32),
        active: &ActiveOffloads,
    ) {
        match error.raw_os_error() {
            Some(libc::EMSGSIZE | libc::EINVAL) => self.block(hop, size, error),
            _ => {
                active.disable(Feature::Gso, format!("sending {count} segments: {error}"));
            }
        }
    }

    fn block(&mut self, hop: NextHop, size: u32, error: &io::Error) {
        if self.hops.len() < MAX_BLOCKED {
            self.hops.push((hop, Instant::now() + BLOCKED_FOR));
        }
        if self.logged.len() < MAX_BLOCKED && !self.logged.contains(&hop) {
            self.logged.push(hop);
            tracing::warn!(
                to = %hop.ip, size,
                "the kernel does not segment packets to another host ({error}): the path's MTU is \
                 smaller than the interface's; sending them one by one"
            );
        }
    }
}

/// How long a next hop gets single datagrams after it refused a train: the kernel itself remembers
/// a path MTU for ten minutes (`net.ipv4.route.mtu_expires`); a change back is found sooner.
const BLOCKED_FOR: Duration = Duration::from_secs(10);
/// Next hops remembered at a time; beyond them each train is tried and refused anew.
const MAX_BLOCKED: usize = 1_024;
