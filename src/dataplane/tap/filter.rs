//! The filter of a capture.

use std::net::Ipv4Addr;

use super::record::{CaptureVerdict, Direction};
use crate::dataplane::counters::DropReason;
use crate::packet::ipv4::Ipv4;
use crate::route::Cidr;

/// Selects the packets that meet all conditions; the empty filter selects every packet.
///
/// Addresses, ports and protocol are those of the inner packet. A packet that cannot be parsed has none
/// of them, and a packet to which no lease applies has no peer.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The underlay address of the other host.
    pub peer: Option<Ipv4Addr>,
    /// Prefixes, each of which must contain the source or the destination.
    pub hosts: Vec<Cidr>,
    /// Ports, one of which must be the source port or the destination port.
    pub ports: Vec<u16>,
    /// The protocol above IP.
    pub protocol: Option<u8>,
    /// Direction.
    pub direction: Option<Direction>,
    /// Only packets dropped for one of these reasons.
    pub drops: Option<Reasons>,
}

/// A set of drop reasons.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reasons(u64);

impl Reasons {
    /// Every reason.
    pub const ALL: Self = Self(u64::MAX);

    /// Whether `reason` is in the set.
    fn contains(self, reason: DropReason) -> bool {
        self.0 & 1 << reason as u8 != 0
    }
}

impl FromIterator<DropReason> for Reasons {
    fn from_iter<I: IntoIterator<Item = DropReason>>(reasons: I) -> Self {
        Self(reasons.into_iter().fold(0, |set, reason| set | 1 << reason as u8))
    }
}

const _: () = assert!(DropReason::ALL.len() <= 64);

impl Filter {
    /// Whether the filter selects a packet; `packet` begins with its headers.
    pub(super) fn selects(
        &self,
        direction: Direction,
        verdict: CaptureVerdict,
        peer: Option<Ipv4Addr>,
        packet: &[u8],
    ) -> bool {
        if self.direction.is_some_and(|wanted| wanted != direction)
            || self.peer.is_some_and(|wanted| Some(wanted) != peer)
        {
            return false;
        }
        match (self.drops, verdict) {
            (Some(reasons), CaptureVerdict::Dropped(reason)) if reasons.contains(reason) => {}
            (Some(_), _) => return false,
            (None, _) => {}
        }
        if self.hosts.is_empty() && self.ports.is_empty() && self.protocol.is_none() {
            return true;
        }
        // What is here of a packet may be its headers alone.
        let Ok(ip) = Ipv4::parse_truncated(packet) else { return false };
        let (source, destination) = (ip.source(), ip.destination());
        self.protocol.is_none_or(|wanted| wanted == ip.protocol())
            && self.hosts.iter().all(|host| host.contains(source) || host.contains(destination))
            && (self.ports.is_empty()
                || ip.ports().is_some_and(|(from, to)| {
                    self.ports.iter().any(|port| [from, to].contains(port))
                }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::protocol;
    use crate::samples;

    const PEER: Ipv4Addr = Ipv4Addr::new(10, 211, 55, 2);

    fn takes(filter: &Filter, packet: &[u8]) -> bool {
        filter.selects(Direction::Egress, CaptureVerdict::Carried, Some(PEER), packet)
    }

    #[test]
    fn every_part_must_be_met() {
        let packet = samples::udp_between((4000, 53), 1, b"payload");
        let ip = Ipv4::parse(&packet[..]).unwrap();
        let meets = Filter {
            peer: Some(PEER),
            hosts: vec![Cidr::new(ip.source(), 32), Cidr::new(ip.destination(), 24)],
            ports: vec![1, 53],
            protocol: Some(protocol::UDP),
            direction: Some(Direction::Egress),
            drops: None,
        };
        assert!(takes(&Filter::default(), &packet) && takes(&meets, &packet));
        // The headers alone do.
        assert!(takes(&meets, &packet[..28]));
        let other = Cidr::new(Ipv4Addr::new(192, 0, 2, 1), 32);
        for filter in [
            Filter { peer: Some(Ipv4Addr::LOCALHOST), ..meets.clone() },
            Filter { hosts: vec![meets.hosts[0], other], ..meets.clone() },
            Filter { ports: vec![1], ..meets.clone() },
            Filter { protocol: Some(protocol::TCP), ..meets.clone() },
            Filter { direction: Some(Direction::Ingress), ..meets.clone() },
            Filter { drops: Some(Reasons::ALL), ..meets.clone() },
        ] {
            assert!(!takes(&filter, &packet), "{filter:?}");
        }
    }

    #[test]
    fn drops_are_chosen_by_reason() {
        let dropped = |filter: &Filter, reason| {
            filter.selects(Direction::Ingress, CaptureVerdict::Dropped(reason), None, b"junk")
        };
        let all = Filter { drops: Some(Reasons::ALL), ..Filter::default() };
        let some =
            Filter { drops: Some([DropReason::NoRoute].into_iter().collect()), ..all.clone() };
        assert!(DropReason::ALL.iter().all(|&reason| dropped(&all, reason)));
        let taken: Vec<_> =
            DropReason::ALL.iter().filter(|&&reason| dropped(&some, reason)).collect();
        assert_eq!(taken, [&DropReason::NoRoute]);
        // Nothing is known of junk.
        let host = Filter { hosts: vec![Cidr::new(Ipv4Addr::UNSPECIFIED, 0)], ..all.clone() };
        let peer = Filter { peer: Some(PEER), ..all };
        assert!(!dropped(&host, DropReason::TooShort) && !dropped(&peer, DropReason::TooShort));
    }

    #[test]
    fn later_fragments_have_no_ports() {
        let mut packet = samples::udp_between((4000, 53), 1, b"payload");
        let filter = Filter { ports: vec![53], ..Filter::default() };
        assert!(takes(&filter, &packet));
        packet[7] = 1;
        assert!(!takes(&filter, &packet));
        assert!(takes(&Filter { protocol: Some(protocol::UDP), ..Filter::default() }, &packet));
    }
}
