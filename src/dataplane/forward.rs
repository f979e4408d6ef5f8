//! The decision about one packet: carry it, and to whom, or drop it, for which reason and with
//! which ICMP error.
//!
//! This is the only place where that is decided. The workers do what these functions return,
//! `explain` prints it, a fuzzer feeds it and table tests list it. The functions know no clock, no
//! counter and no socket; of the packet they change the time to live alone.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::checks::{CheckRules, Checked, GraceReason, MismatchReason};
use super::config::Config;
use super::counters::DropReason;
use super::icmp;
use super::tap::Ttl;
use crate::packet::icmp::{self as icmp_error, ErrorKind};
use crate::packet::ipv4::Ipv4;
use crate::packet::segment::Segments;
use crate::packet::vnet::VnetHeader;
use crate::packet::{protocol, wire};
use crate::route::{NextHop, PeerIndex, Route, RouteTable};

/// What a decision depends on besides the packet and the route table. While a data plane runs, the MTU
/// alone changes.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Length in bytes of the longest inner packet: the underlay's MTU less [`wire::OVERHEAD`].
    pub mtu: usize,
    /// Address and port from which datagrams are sent to peers and at which theirs arrive.
    pub outer: SocketAddrV4,
    /// The checks of received packets.
    pub checks: CheckRules,
    /// Source of ICMP errors about packets that this host sends.
    pub egress_icmp_source: Ipv4Addr,
    /// Source of ICMP errors about packets that peers send.
    pub ingress_icmp_source: Ipv4Addr,
}

impl From<&Config> for Policy {
    fn from(config: &Config) -> Self {
        Self {
            mtu: config.mtu.get().into(),
            outer: config.bind,
            checks: CheckRules::from(config),
            egress_icmp_source: icmp::local_source(config.network, config.subnet),
            ingress_icmp_source: config.address,
        }
    }
}

/// A packet from the TUN device that is sent to a peer.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// The peer.
    pub route: Route,
    /// Length of the packet in bytes; bytes behind it are padding.
    pub len: usize,
    /// The packets that it is sent as: one, or the segments of a super-packet.
    pub segments: Segments,
}

/// A packet from a peer that is written to the TUN device.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The packet, its time to live decremented; bytes behind it are cut off.
    pub packet: Ipv4<&'a [u8]>,
    /// The peer that its traffic is attributed to.
    pub peer: PeerIndex,
    /// The ICMP error that its sender gets although the packet is delivered: it is longer than the MTU
    /// and came in fragments or over a link that this host's own packets cannot take.
    pub icmp: Option<ErrorKind>,
}

/// A packet that is dropped.
#[derive(Clone, Copy, Debug)]
pub struct Dropped {
    /// Why.
    pub reason: DropReason,
    /// The ICMP error that the packet's sender gets, where RFC 1812 allows one.
    pub icmp: Option<ErrorKind>,
    /// Length in bytes: the packet's, or that of all that was read if its header is malformed.
    pub len: usize,
    /// The next hop that the packet would have been sent to.
    pub next_hop: Option<NextHop>,
    /// Whether the time to live has been decremented.
    pub ttl: Ttl,
    /// The packets that it would have been sent as; `None` if it counts as one.
    pub segments: Option<Segments>,
}

/// Splits what was read from a TUN device with `prefix` bytes before each packet, 0 or
/// [`VnetHeader::LEN`], into the kernel's header and where the packet begins.
///
/// # Errors
/// [`DropReason::BadVnetHeader`], for all that was read.
#[inline]
pub fn vnet_header(read: &[u8], prefix: usize) -> Result<(VnetHeader, usize), Dropped> {
    if prefix == 0 {
        return Ok((VnetHeader::NONE, 0));
    }
    let header = read.first_chunk().and_then(|header| VnetHeader::decode(header).ok());
    match header {
        Some(vnet) => Ok((vnet, prefix)),
        None => Err(Dropped::whole(DropReason::BadVnetHeader, read.len())),
    }
}

/// Decides about a packet that was read from the TUN device with the header `vnet`.
///
/// # Errors
/// [`Dropped`] if the packet is not sent.
#[inline]
pub fn egress(
    policy: &Policy,
    routes: &RouteTable,
    vnet: &VnetHeader,
    packet: &mut [u8],
) -> Result<Outgoing, Dropped> {
    let mut ip = match Ipv4::parse(&mut *packet) {
        Ok(ip) => ip,
        Err(malformed) => return Err(Dropped::whole(malformed.into(), packet.len())),
    };
    let len = ip.total_len();
    if policy.is_own_datagram(&ip, routes) {
        return Err(Dropped {
            segments: Segments::new(vnet, &packet[..len]).ok(),
            ..Dropped::whole(DropReason::OwnDatagram, len)
        });
    }
    let Some(route) = routes.route(ip.destination()) else {
        return Err(Dropped {
            icmp: Some(ErrorKind::NetUnreachable),
            segments: Segments::new(vnet, &packet[..len]).ok(),
            ..Dropped::whole(DropReason::NoRoute, len)
        });
    };
    if ip.decrement_ttl().is_err() {
        return Err(Dropped {
            icmp: Some(ErrorKind::TimeExceeded),
            next_hop: Some(route.hop),
            segments: Segments::new(vnet, &packet[..len]).ok(),
            ..Dropped::whole(DropReason::TtlExpired, len)
        });
    }
    let Ok(segments) = Segments::new(vnet, &packet[..len]) else {
        return Err(Dropped::whole(DropReason::BadVnetHeader, len));
    };
    if segments.full_len() > policy.mtu && !may_be_fragmented(&segments, packet) {
        return Err(Dropped {
            icmp: Some(policy.fragmentation_needed()),
            next_hop: Some(route.hop),
            ttl: Ttl::Decremented,
            segments: Some(segments),
            ..Dropped::whole(DropReason::OverMtu, len)
        });
    }
    Ok(Outgoing { route, len, segments })
}

/// Whether a packet that is longer than the MTU is sent all the same, for the kernel to fragment its
/// datagram.
#[cold]
fn may_be_fragmented(segments: &Segments, packet: &[u8]) -> bool {
    let forbids = Ipv4::parse(packet).is_ok_and(|ip| ip.dont_fragment());
    !forbids && segments.full_len() <= wire::MAX_PACKET
}

/// Decides about a datagram that came from `sender`.
///
/// `grace_of` is called at most once, and returns whether a packet of this sender is tolerated although its inner
/// source is in no lease; its argument says whether the sender is the daemon of a host that has one. The outcome of
/// the checks is `None` for a packet that is dropped before them.
#[inline]
pub fn ingress<'a>(
    policy: &Policy,
    routes: &RouteTable,
    sender: SocketAddrV4,
    grace_of: impl FnOnce(bool) -> Result<GraceReason, MismatchReason>,
    datagram: &'a mut [u8],
) -> (Option<Checked>, Result<Incoming<'a>, Dropped>) {
    let received = datagram.len();
    let mut ip = match wire::parse(datagram) {
        Ok(ip) => ip,
        Err(malformed) => return (None, Err(Dropped::whole(malformed.into(), received))),
    };
    let len = ip.total_len();
    if policy.is_for_own_socket(&ip) {
        return (None, Err(Dropped::whole(DropReason::OwnDatagram, len)));
    }
    let holder =
        routes.route(ip.source()).filter(|holder| policy.checks.is_from(holder.hop, sender));
    let (source, destination) = (ip.source(), ip.destination());
    let checked = Checked {
        source,
        destination,
        source_check: policy.checks.source(
            [source, destination],
            sender,
            holder.is_some(),
            routes,
            grace_of,
        ),
        destination_check: policy.checks.destination(destination, routes),
    };
    let result = if checked.source_check.drops() {
        Err(Dropped::whole(DropReason::SourceMismatch, len))
    } else if checked.destination_check.drops() {
        Err(Dropped::whole(DropReason::DestinationMismatch, len))
    } else if ip.decrement_ttl().is_err() {
        let icmp = Some(ErrorKind::TimeExceeded);
        Err(Dropped { icmp, ..Dropped::whole(DropReason::TtlExpired, len) })
    } else {
        let peer = holder.map_or(PeerIndex::UNATTRIBUTED, |holder| holder.peer);
        let icmp = (len > policy.mtu && ip.dont_fragment()).then(|| policy.fragmentation_needed());
        Ok(Incoming { packet: ip.into_shared(), peer, icmp })
    };
    (Some(checked), result)
}

impl Policy {
    /// Whether a packet from the TUN device is a datagram that this host has sent to a peer. The
    /// kernel then routes the way to that peer into the device, and the packet would circle for ever,
    /// in one datagram more each time.
    ///
    /// Of a datagram that the kernel has fragmented, only the first part is known by its ports. The
    /// others end by themselves: each round adds headers, and of the two parts that make up the result
    /// the first is dropped.
    #[inline]
    fn is_own_datagram<T: AsRef<[u8]>>(&self, ip: &Ipv4<T>, routes: &RouteTable) -> bool {
        let source = ip.source();
        (source == *self.outer.ip() || source == self.ingress_icmp_source)
            && self.has_own_ports(ip, routes)
    }

    #[cold]
    fn has_own_ports<T: AsRef<[u8]>>(&self, ip: &Ipv4<T>, routes: &RouteTable) -> bool {
        let Some((from, to)) = udp_ports(ip) else { return false };
        if ip.source() == *self.outer.ip() {
            return from == self.outer.port();
        }
        // A rule that masquerades what enters the overlay gives the datagram the address of the TUN
        // device and any port. It comes back if its next hop is in the overlay as well.
        let next_hop = routes.lookup(ip.destination());
        to == self.outer.port() && next_hop.is_some_and(|hop| routes.lookup(hop.ip).is_some())
    }

    /// The ICMP error about a packet that is longer than the MTU.
    #[cold]
    fn fragmentation_needed(&self) -> ErrorKind {
        ErrorKind::FragmentationNeeded { mtu: self.mtu.try_into().unwrap_or(u16::MAX) }
    }

    /// Whether the kernel would deliver a packet that a peer has sent to the socket of this data
    /// plane: a datagram inside a datagram, of which one packet from a peer could carry dozens.
    #[inline]
    fn is_for_own_socket<T: AsRef<[u8]>>(&self, ip: &Ipv4<T>) -> bool {
        ip.destination() == *self.outer.ip()
            && udp_ports(ip).is_some_and(|(_, to)| to == self.outer.port())
    }
}

/// The ports of a UDP datagram, or of its first fragment.
#[cold]
fn udp_ports<T: AsRef<[u8]>>(ip: &Ipv4<T>) -> Option<(u16, u16)> {
    (ip.protocol() == protocol::UDP).then(|| ip.ports())?
}

impl Dropped {
    /// A packet of `len` bytes of which nothing else is known.
    pub(super) fn whole(reason: DropReason, len: usize) -> Self {
        Self { reason, icmp: None, len, next_hop: None, ttl: Ttl::AsRead, segments: None }
    }

    /// The number of inner packets, and the bytes of all of them, that are dropped.
    pub fn size(&self) -> (usize, usize) {
        self.segments.map_or((1, self.len), |cut| (cut.count(), cut.total_len()))
    }

    /// The ICMP error that `source` sends about this packet, of which `offender` holds the bytes, and
    /// `source`; `None` where none is due or RFC 1812 forbids one.
    pub fn icmp_error(&self, source: Ipv4Addr, offender: &[u8]) -> Option<(ErrorKind, Ipv4Addr)> {
        let kind = self.icmp?;
        let mut error = [0; icmp_error::MAX_LEN];
        icmp_error::error(kind, offender, source, &mut error).map(|_| (kind, source))
    }
}
