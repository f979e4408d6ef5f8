//! What the workers would do with a packet: the same steps by the same functions, without carrying it.

use std::net::Ipv4Addr;

use super::checks::{CheckOutcome, CheckRules, GraceReason, MismatchReason};
use super::config::Config;
use super::counters::DropReason;
use super::icmp;
use crate::packet::forward;
use crate::packet::icmp::{self as errors, ErrorKind};
use crate::packet::ipv4::Ipv4;
use crate::route::{NextHop, RouteTable};

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It goes on, to a peer or to the TUN device, with this time to live.
    Carried {
        /// The peer, on the way out.
        hop: Option<NextHop>,
        /// What is left of its time to live.
        ttl: u8,
    },
    /// It is dropped.
    Dropped {
        /// Why.
        reason: DropReason,
        /// The error that its sender gets, and from which address; `None` where none is due or
        /// RFC 1812 forbids one.
        icmp: Option<(ErrorKind, Ipv4Addr)>,
    },
}

/// What the checks of a packet that comes in say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Checks {
    /// Of the inner source.
    pub source: CheckOutcome,
    /// Of the inner destination.
    pub destination: CheckOutcome,
}

/// A packet read from the TUN device.
pub fn egress(config: &Config, routes: &RouteTable, packet: &mut [u8]) -> Fate {
    let (destination, len) = match Ipv4::parse(&*packet) {
        Ok(ip) => (ip.destination(), ip.total_len()),
        Err(malformed) => return dropped(malformed.into()),
    };
    let source = icmp::local_source(config.network, config.subnet);
    let Some(hop) = routes.lookup(destination) else {
        let icmp = told(ErrorKind::NetUnreachable, packet, source);
        return Fate::Dropped { reason: DropReason::NoRoute, icmp };
    };
    match forward::decrement_ttl(packet) {
        Err(_) => {
            let icmp = told(ErrorKind::TimeExceeded, packet, source);
            Fate::Dropped { reason: DropReason::TtlExpired, icmp }
        }
        Ok(_) if len > config.mtu.into() => dropped(DropReason::OverMtu),
        Ok(ttl) => Fate::Carried { hop: Some(hop), ttl },
    }
}

/// A datagram from the host `from`, which has this grace if no lease has the inner source
/// ([`Dataplane::grace_of`](super::Dataplane::grace_of)). A malformed packet is not checked.
pub fn ingress(
    config: &Config,
    routes: &RouteTable,
    from: Ipv4Addr,
    grace: Result<GraceReason, MismatchReason>,
    packet: &mut [u8],
) -> (Option<Checks>, Fate) {
    let ip = match Ipv4::parse(&*packet) {
        Ok(ip) => ip,
        Err(malformed) => return (None, dropped(malformed.into())),
    };
    let (rules, source) = (CheckRules::from(config), ip.source());
    let is_senders = routes.lookup(source).is_some_and(|hop| hop.ip == from);
    let checks = Checks {
        source: rules.source(source, is_senders, routes, || grace),
        destination: rules.destination(ip.destination(), routes),
    };
    let fate = if ip.total_len() > config.mtu.into() {
        dropped(DropReason::OverMtu)
    } else if checks.source.drops() {
        dropped(DropReason::SourceMismatch)
    } else if checks.destination.drops() {
        dropped(DropReason::DestinationMismatch)
    } else {
        match forward::decrement_ttl(packet) {
            Ok(ttl) => Fate::Carried { hop: None, ttl },
            Err(_) => Fate::Dropped {
                reason: DropReason::TtlExpired,
                icmp: told(ErrorKind::TimeExceeded, packet, config.subnet.network()),
            },
        }
    };
    (Some(checks), fate)
}

fn dropped(reason: DropReason) -> Fate {
    Fate::Dropped { reason, icmp: None }
}

fn told(kind: ErrorKind, packet: &[u8], source: Ipv4Addr) -> Option<(ErrorKind, Ipv4Addr)> {
    let mut error = [0; errors::MAX_LEN];
    errors::error(kind, packet, source, &mut error).map(|_| (kind, source))
}
