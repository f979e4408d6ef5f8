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
    /// What must have happened to the packet.
    pub verdicts: Option<Verdicts>,
}

/// A set of verdicts, in which each drop reason is one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdicts(u64);

impl Verdicts {
    /// Every packet that was dropped, for whatever reason.
    pub const DROPPED: Self = Self((1 << DropReason::ALL.len()) - 1);

    /// Whether `verdict` is in the set.
    fn contains(self, verdict: CaptureVerdict) -> bool {
        self.0 & Self::from(verdict).0 != 0
    }

    /// The verdicts that are in both sets; `None` if there are none.
    pub fn both(self, other: Self) -> Option<Self> {
        let both = self.0 & other.0;
        (both != 0).then_some(Self(both))
    }
}

impl From<CaptureVerdict> for Verdicts {
    fn from(verdict: CaptureVerdict) -> Self {
        Self(match verdict {
            CaptureVerdict::Dropped(reason) => 1 << reason as u8,
            CaptureVerdict::Carried => 1 << 62,
            CaptureVerdict::IcmpError => 1 << 63,
        })
    }
}

impl FromIterator<Self> for Verdicts {
    fn from_iter<I: IntoIterator<Item = Self>>(sets: I) -> Self {
        Self(sets.into_iter().fold(0, |all, set| all | set.0))
    }
}

const _: () = assert!(DropReason::ALL.len() <= 62);

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
        if self.verdicts.is_some_and(|wanted| !wanted.contains(verdict)) {
            return false;
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
            verdicts: None,
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
            Filter { verdicts: Some(Verdicts::DROPPED), ..meets.clone() },
        ] {
            assert!(!takes(&filter, &packet), "{filter:?}");
        }
    }

    #[test]
    fn drops_are_chosen_by_reason() {
        let dropped = |filter: &Filter, reason| {
            filter.selects(Direction::Ingress, CaptureVerdict::Dropped(reason), None, b"junk")
        };
        let only = |verdicts| Filter { verdicts: Some(verdicts), ..Filter::default() };
        let all = only(Verdicts::DROPPED);
        let some = only(CaptureVerdict::Dropped(DropReason::NoRoute).into());
        assert!(DropReason::ALL.iter().all(|&reason| dropped(&all, reason)));
        let taken: Vec<_> =
            DropReason::ALL.iter().filter(|&&reason| dropped(&some, reason)).collect();
        assert_eq!(taken, [&DropReason::NoRoute]);
        let carried = only(CaptureVerdict::Carried.into());
        assert!(takes(&carried, b"junk") && !takes(&all, b"junk"));
        assert!(!DropReason::ALL.iter().any(|&reason| dropped(&carried, reason)));
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
