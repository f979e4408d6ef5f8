//! `gso`: the kernel cuts a long send into datagrams.

use std::io;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::{ActiveOffloads, Description, Feature, Probe};
use crate::route::{NextHop, PeerIndex, Route};
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
///
/// A place per peer number: what one packet costs does not depend on how many there are. The clock is
/// read once per batch.
#[derive(Default)]
pub(in crate::dataplane) struct GsoBlocklist {
    /// By [`PeerIndex`]; empty until the first refusal.
    places: Box<[Option<Blocked>]>,
    /// When the batch began; `None` while no next hop is blocked.
    now: Option<Instant>,
    /// When the last of the next hops is free again.
    last: Option<Instant>,
    /// Lines that the log has got.
    logged: usize,
}

#[derive(Clone, Copy)]
struct Blocked {
    /// Peers beyond those with a number of their own share a place: it is the latest one's.
    hop: NextHop,
    until: Instant,
}

impl GsoBlocklist {
    /// Begins a batch: next hops whose time is over before it are tried again.
    #[inline]
    pub(in crate::dataplane) fn begin_batch(&mut self) {
        if let Some(last) = self.last {
            let now = Instant::now();
            self.now = (now < last).then_some(now);
            self.last = self.now.and(self.last);
        }
    }

    /// Whether the next hop of `route` gets single datagrams in this batch.
    #[inline]
    pub(in crate::dataplane) fn contains(&self, route: &Route) -> bool {
        let Some(now) = self.now else { return false };
        self.place(route).is_some_and(|blocked| blocked.hop == route.hop && now < blocked.until)
    }

    fn place(&self, route: &Route) -> Option<Blocked> {
        self.places.get(route.peer.get()).copied().flatten()
    }

    /// Forgets which next hops are blocked, but not that the log has named them.
    pub(in crate::dataplane) fn clear(&mut self) {
        (self.now, self.last) = (None, None);
    }

    /// Records that a train of `count` datagrams of `size` bytes to `route` was refused with `error`
    /// while its datagrams passed one by one.
    pub(in crate::dataplane) fn record_refusal(
        &mut self,
        error: &io::Error,
        route: Route,
        (count, size): (u32, u32),
        active: &ActiveOffloads,
    ) {
        match error.raw_os_error() {
            Some(libc::EMSGSIZE | libc::EINVAL) => self.block(route, size, error, Instant::now()),
            _ => {
                active.disable(Feature::Gso, format!("sending {count} segments: {error}"));
            }
        }
    }

    fn block(&mut self, route: Route, size: u32, error: &io::Error, now: Instant) {
        if self.places.is_empty() {
            self.places = vec![None; PeerIndex::COUNT].into();
        }
        let hop = route.hop;
        let is_known = self.place(&route).is_some_and(|blocked| blocked.hop == hop);
        let until = now + BLOCKED_FOR;
        if let Some(place) = self.places.get_mut(route.peer.get()) {
            *place = Some(Blocked { hop, until });
        }
        (self.now, self.last) = (Some(now), Some(until));
        if !is_known && self.logged < MAX_LOGGED {
            self.logged += 1;
            tracing::warn!(
                to = %hop.ip, size,
                "the kernel does not segment packets to another host ({error}) because the path's MTU is \
                 smaller than the interface's; sending them one by one"
            );
        }
    }
}

/// How long a next hop gets single datagrams after it refused a train: the kernel itself remembers
/// a path MTU for ten minutes (`net.ipv4.route.mtu_expires`); a change back is found sooner.
const BLOCKED_FOR: Duration = Duration::from_secs(10);
/// Lines in the log, of each worker.
const MAX_LOGGED: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{Cidr, RouteTable};

    fn routes(hosts: u32) -> std::sync::Arc<RouteTable> {
        let (mut writer, table) = crate::route::table("10.0.0.0/16".parse().unwrap(), 24);
        for n in 0..hosts {
            let subnet = Cidr::new((0x0a00_0000 + (n << 8)).into(), 24);
            writer.insert(subnet, NextHop { ip: (0xc0a8_0001 + n).into(), port: 8285 }).unwrap();
        }
        table
    }

    #[test]
    fn each_next_hop_is_blocked_by_itself_and_for_a_while() {
        let table = routes(3);
        let route = |n: u8| table.route([10, 0, n, 1].into()).unwrap();
        let (error, start) = (io::Error::from_raw_os_error(libc::EMSGSIZE), Instant::now());
        let mut list = GsoBlocklist::default();
        assert!(!list.contains(&route(0)));
        list.block(route(0), 1_472, &error, start);
        list.block(route(2), 1_472, &error, start + Duration::from_secs(4));
        list.begin_batch();
        assert_eq!([0, 1, 2].map(|n| list.contains(&route(n))), [true, false, true]);
        // Another host that got the number.
        let reused = Route { hop: NextHop { port: 1, ..route(0).hop }, ..route(0) };
        assert!(!list.contains(&reused));
        list.now = Some(start + BLOCKED_FOR);
        assert_eq!([0, 2].map(|n| list.contains(&route(n))), [false, true]);
        list.last = Some(start);
        list.begin_batch();
        assert!(list.now.is_none() && list.last.is_none() && !list.contains(&route(2)));
        list.block(route(2), 1_472, &error, start);
        assert_eq!(list.logged, 2, "a host is named once");
        list.clear();
        assert!(!list.contains(&route(2)));
    }
}
