//! Explains what happens to a packet: the workers' own decision, applied to the current routes.

mod checks;

use std::net::{Ipv4Addr, SocketAddrV4};

use super::node::Node;
use crate::dataplane::forward::{self, Policy};
use crate::dataplane::{Config, DropReason, GraceReason, MismatchReason};
use crate::host::firewall::{RuleSpec, masquerade_rule};
use crate::observe::protocol::explain::{Explanation, Hop, Masquerade, Outcome, PacketPath, Query};
use crate::packet::icmp::ErrorKind;
use crate::packet::vnet::VnetHeader;
use crate::packet::{icmpv4, ipv4, protocol, udp};
use crate::route::RouteTable;
use crate::subnet::Peer;

/// Everything that the explanation of one packet needs.
struct Explainer<'a> {
    query: &'a Query,
    config: Config,
    routes: &'a RouteTable,
    peers: &'a [Peer],
    rules: RuleSpec,
    device: &'a str,
    host: Ipv4Addr,
    /// The interface through which the kernel sends packets to the destination; `None` without a route.
    interface: Option<String>,
    /// The host that sends the datagram with the packet, if it is known.
    from: Option<Ipv4Addr>,
    /// The grace that the source check gives that host.
    grace: Result<GraceReason, MismatchReason>,
}

/// Explains `query` on this host.
pub(super) async fn explain(node: &Node<'_>, peers: &[Peer], query: Query) -> Explanation {
    let owner = node.routes().lookup(query.source).map(|hop| hop.ip);
    let from = query.from.or(owner);
    let explainer = Explainer {
        query: &query,
        config: node.plane_config(),
        routes: node.routes(),
        peers,
        rules: node.rules(),
        device: node.device(),
        host: node.address(),
        interface: node.interface_to(query.destination).await,
        from,
        grace: from.map_or(Ok(GraceReason::FirstPacket), |from| node.grace_of(from)),
    };
    let (sent, received) = (explainer.sent(), explainer.received());
    Explanation { packet: query, sent, received }
}

impl Explainer<'_> {
    /// Explains the packet as one that leaves this host.
    fn sent(&self) -> PacketPath {
        let Query { source, destination, ttl, .. } = *self.query;
        let mut way = self.way();
        way.masquerade = self.masquerade(source, destination);
        way.lease = self.lease(destination);
        let own = self.config.subnet;
        let in_overlay = self.config.network.contains(destination);
        if destination == self.config.address || destination == self.host {
            way.verdict = format!("{destination} is an address of this host itself");
            return way;
        }
        if !in_overlay || own.contains(destination) {
            let through = self.interface.as_deref().unwrap_or("nothing: the kernel has no route");
            way.verdict = if in_overlay {
                format!(
                    "{destination} is in this host's own subnet {own}: the kernel sends it to the \
                     containers through {through}, not through the daemon"
                )
            } else {
                format!(
                    "{destination} is outside the overlay network {}: the kernel sends it through \
                     {through}, not through the daemon",
                    self.config.network
                )
            };
            return way;
        }
        if let Some(other) = self.interface.as_ref().filter(|name| *name != self.device) {
            way.verdict = format!(
                "the kernel sends it through {other} and not through {}: another route is more \
                 specific than the overlay's {} (ip route get {destination})",
                self.device, self.config.network
            );
            return way;
        }
        // The kernel forwards a packet from a container, which costs one TTL, before the packet reaches the device.
        way.ttl.push(hop(format!("from {source}"), ttl));
        let ours = source == self.config.address || source == self.host;
        let ttl = if ours { ttl } else { ttl.saturating_sub(1) };
        if ttl == 0 {
            way.set_dropped(
                "its TTL expires in this host's kernel, before the daemon".into(),
                None,
            );
            return way;
        }
        if !ours {
            way.ttl.push(hop("forwarded by this host's kernel".into(), ttl));
        }
        let rewritten = way.masquerade.as_ref().is_some_and(|rule| rule.source.is_some());
        let source = if rewritten { self.config.address } else { source };
        way.source_check = self.peers_check(source);
        let mut packet = self.packet(source, ttl);
        let policy = Policy::from(&self.config);
        match forward::egress(&policy, self.routes, &VnetHeader::NONE, &mut packet) {
            Err(dropped) => {
                let icmp = dropped.icmp_error(policy.egress_icmp_source, &packet);
                way.set_dropped(self.why(dropped.reason), Some((dropped.reason, icmp)));
            }
            Ok(outgoing) => {
                let (peer, ttl) = (outgoing.route.hop.to_string(), ttl - 1);
                way.outcome = Outcome::Carried;
                way.verdict = format!("sent through {} to {peer}", self.device);
                way.ttl.push(hop(format!("in the datagram to {peer}"), ttl));
                way.peer = Some(peer);
                self.at_the_other_end(&mut way, ttl);
            }
        }
        way
    }

    /// Subtracts the TTL that the peer's daemon and kernel use up.
    fn at_the_other_end(&self, way: &mut PacketPath, ttl: u8) {
        let network = way.lease.map(|lease| lease.network());
        let mut left = ttl;
        for place in ["out of the peer's TUN device", "forwarded by the peer's kernel"] {
            left = left.saturating_sub(1);
            if left == 0 {
                way.outcome = Outcome::Dropped;
                way.verdict += ", where its TTL expires";
                return;
            }
            way.ttl.push(hop(place.into(), left));
            if network == Some(self.query.destination) {
                // The peer's own address on its TUN device.
                return;
            }
        }
    }

    /// Explains the packet as one that arrives from another host.
    fn received(&self) -> PacketPath {
        let Query { source, destination, ttl, .. } = *self.query;
        let mut way = self.way();
        way.lease = self.lease(source);
        way.masquerade = self.masquerade(source, destination);
        way.peer = self.from.map(|from| from.to_string());
        // The sender's kernel and daemon have each decremented the TTL, as on this side.
        let ttl = ttl.saturating_sub(2);
        way.ttl.push(hop("in the datagram".into(), ttl));
        let mut packet = self.packet(source, ttl);
        let sender = SocketAddrV4::new(self.from.unwrap_or(Ipv4Addr::UNSPECIFIED), 0);
        let policy = Policy::from(&self.config);
        let (checked, result) =
            forward::ingress(&policy, self.routes, sender, || self.grace, &mut packet);
        if let Some(checked) = checked {
            way.source_check = self.source_check(checked.source_check);
            way.destination_check = Some(self.destination_check(checked.destination_check));
        }
        match result.map(|incoming| incoming.packet.ttl()) {
            Err(dropped) => {
                let icmp = dropped.icmp_error(policy.ingress_icmp_source, &packet);
                way.set_dropped(self.why(dropped.reason), Some((dropped.reason, icmp)));
            }
            Ok(ttl) => self.delivered(&mut way, ttl),
        }
        way
    }

    /// Describes what the kernel does with the packet behind the TUN device.
    fn delivered(&self, way: &mut PacketPath, ttl: u8) {
        let destination = self.query.destination;
        way.outcome = Outcome::Carried;
        way.ttl.push(hop(format!("out of {}", self.device), ttl));
        if destination == self.config.address || destination == self.host {
            way.verdict = format!("delivered through {} to this host itself", self.device);
            return;
        }
        let Some(interface) = &self.interface else {
            way.outcome = Outcome::Dropped;
            way.verdict =
                format!("delivered to {}; the kernel has no route to {destination}", self.device);
            return;
        };
        if ttl <= 1 {
            way.outcome = Outcome::Dropped;
            way.verdict = format!("delivered to {}, where its TTL expires", self.device);
            return;
        }
        way.ttl.push(hop("forwarded by this host's kernel".into(), ttl - 1));
        way.verdict = if interface == self.device {
            format!(
                "delivered to {}, and the kernel sends it back there: {destination} is not in this \
                 host's subnet {}",
                self.device, self.config.subnet
            )
        } else {
            format!("delivered through {}; the kernel forwards it through {interface}", self.device)
        };
    }

    fn way(&self) -> PacketPath {
        PacketPath {
            outcome: Outcome::NotHere,
            verdict: String::new(),
            reason: None,
            interface: self.interface.clone(),
            lease: None,
            peer: None,
            mtu: self.config.mtu,
            ttl: vec![],
            source_check: String::new(),
            destination_check: None,
            masquerade: None,
            icmp: None,
        }
    }

    /// The most specific lease of another host that contains `address`.
    fn lease(&self, address: Ipv4Addr) -> Option<crate::route::Cidr> {
        let leases = self.peers.iter().map(|peer| peer.subnet);
        leases.filter(|lease| lease.contains(address)).max_by_key(|lease| lease.len())
    }

    fn masquerade(&self, source: Ipv4Addr, destination: Ipv4Addr) -> Option<Masquerade> {
        let (rule, rewrites) = masquerade_rule(&self.rules, source, destination)?;
        let to = if self.config.network.contains(destination) {
            format!("{}, the address of {}", self.config.address, self.device)
        } else {
            "the address of the outgoing interface".to_owned()
        };
        Some(Masquerade { rule, source: rewrites.then_some(to) })
    }

    fn why(&self, reason: DropReason) -> String {
        let Query { source, destination, .. } = *self.query;
        match reason {
            DropReason::NoRoute => format!("no lease contains {destination}"),
            DropReason::TtlExpired => "its TTL expires in this daemon".into(),
            DropReason::SourceMismatch => {
                format!("{source} is not in the lease of the host that sent it")
            }
            DropReason::DestinationMismatch => {
                format!("{destination} is not in this host's subnet {}", self.config.subnet)
            }
            other => format!("the packet is invalid or cannot be sent: {}", other.name()),
        }
    }

    /// The packet as the data plane reads it: the IPv4 header and the first eight bytes of the payload.
    fn packet(&self, source: Ipv4Addr, ttl: u8) -> [u8; 28] {
        let Query { destination, protocol, .. } = *self.query;
        let ip = ipv4::Header { ttl, ..ipv4::Header::new(protocol, source, destination, 8) };
        let [from, to] = self.query.ports.unwrap_or_default();
        let upper = if protocol == protocol::ICMP {
            icmpv4::Header::echo_request(0, 0).to_bytes()
        } else {
            // The ports of TCP are at the same offset as those of UDP.
            udp::Header::new(from, to, 0).to_bytes()
        };
        let mut packet = [0; 28];
        packet[..ipv4::Header::LEN].copy_from_slice(&ip.to_bytes());
        packet[ipv4::Header::LEN..].copy_from_slice(&upper);
        packet
    }
}

impl PacketPath {
    fn set_dropped(
        &mut self,
        why: String,
        by: Option<(DropReason, Option<(ErrorKind, Ipv4Addr)>)>,
    ) {
        self.outcome = Outcome::Dropped;
        self.verdict = format!("dropped: {why}");
        let Some((reason, icmp)) = by else { return };
        self.reason = Some(reason.name().to_owned());
        self.icmp = icmp.map(|(kind, source)| match kind {
            ErrorKind::NetUnreachable => format!("net unreachable, from {source}"),
            ErrorKind::TimeExceeded => format!("time exceeded, from {source}"),
        });
    }
}

fn hop(at: String, ttl: u8) -> Hop {
    Hop { at, ttl }
}
