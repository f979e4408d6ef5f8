//! Explains what happens to a packet: the workers' own decision, applied to the current routes.

mod checks;
mod kernel;

use std::net::{Ipv4Addr, SocketAddrV4};

use self::kernel::KernelStep;
use super::node::Node;
use super::overlap;
use crate::dataplane::forward::{self, Policy};
use crate::dataplane::{Config, DropReason, GraceReason, MismatchReason};
use crate::host::firewall::{RuleSpec, masquerade_rule};
use crate::host::routing::{Origin, Routing};
use crate::observe::protocol::explain::{Explanation, Hop, Masquerade, Outcome, PacketPath, Query};
use crate::packet::icmp::ErrorKind;
use crate::packet::vnet::VnetHeader;
use crate::packet::{icmpv4, ipv4, protocol, udp};
use crate::route::RouteTable;
use crate::subnet::{Peer, SubnetStatus, WithheldLease};

/// Everything that the explanation of one packet needs.
struct Explainer<'a> {
    query: &'a Query,
    config: Config,
    routes: &'a RouteTable,
    peers: &'a [Peer],
    withheld: &'a [WithheldLease],
    rules: RuleSpec,
    device: &'a str,
    /// What the kernel does with the packet of a process or container of this host.
    outbound: KernelStep,
    /// What it does with the packet that the daemon writes to the TUN device.
    inbound: KernelStep,
    /// What it does with the datagram to the next hop, if there is one.
    datagram: Option<KernelStep>,
    /// The host that sends the datagram with the packet, if it is known.
    from: Option<Ipv4Addr>,
    /// The grace that the source check gives that host.
    grace: Result<GraceReason, MismatchReason>,
}

/// Explains `query` on this host.
pub(super) async fn explain(node: &Node<'_>, status: &SubnetStatus, query: Query) -> Explanation {
    let owner = node.routes().lookup(query.source).map(|hop| hop.ip);
    // Another host may send with its own address.
    let itself = || node.routes().leads_to(query.source).then_some(query.source);
    let from = query.from.or(owner).or_else(itself);
    let (netlink, config) = (node.netlink(), node.plane_config());
    // Without the list the kernel's answers have no names; the workers' decision is told all the same.
    let links = netlink.links().await.unwrap_or_default();
    let device = links.iter().find(|link| link.name == node.device());
    let origin = match netlink.origin(&links, query.source).await {
        // A packet from another host does not leave this one through the daemon, and a subnet without a
        // bridge has no packets: the kernel can only be asked about the destination.
        Origin::Behind(link) if Some(&link) == device => Origin::Unknown,
        origin => origin,
    };
    let arrival = device.map_or(Origin::Unknown, |device| Origin::Behind(device.clone()));
    let datagram = match node.routes().lookup(query.destination) {
        Some(hop) => Some(KernelStep::datagram(netlink, &links, &config, hop).await),
        None => None,
    };
    let explainer = Explainer {
        query: &query,
        config,
        routes: node.routes(),
        peers: &status.peers,
        withheld: &status.withheld,
        rules: node.rules(),
        device: node.device(),
        outbound: KernelStep::ask(netlink, &links, &query, origin).await,
        inbound: KernelStep::ask(netlink, &links, &query, arrival).await,
        datagram,
        from,
        grace: from.map_or(Ok(GraceReason::FirstPacket), |from| node.grace_of(from)),
    };
    let (sent, received) = (explainer.sent(), explainer.received());
    Explanation { packet: query, sent, received }
}

impl Explainer<'_> {
    /// Whether a process or container of this host has the source.
    fn is_ours(&self) -> bool {
        self.outbound.origin == Origin::Host || self.config.subnet.contains(self.query.source)
    }

    /// Explains the packet as one that leaves this host.
    fn sent(&self) -> PacketPath {
        let Query { source, destination, ttl, .. } = *self.query;
        let mut way = self.way(&self.outbound);
        way.masquerade = self.masquerade(source, destination);
        way.lease = self.lease(destination);
        if !self.is_ours() && self.config.network.contains(source) {
            way.not_applicable = Some(format!("{source} is not in this host's subnet"));
        }
        if self.outbound.refused(&mut way, "dropped by this host's kernel") {
            if !self.config.network.contains(destination) {
                way.outcome = Outcome::NotHere;
            }
            return way;
        }
        if let Some(verdict) = self.past_the_daemon(&mut way) {
            way.verdict = verdict;
            return way;
        }
        // The kernel forwards a packet from a container, which costs one TTL, before the packet reaches the device.
        way.ttl.push(hop(format!("from {source}"), ttl));
        let local = self.outbound.origin == Origin::Host;
        let ttl = if local { ttl } else { ttl.saturating_sub(1) };
        if ttl == 0 {
            way.set_dropped(
                "its TTL expires in this host's kernel, before the daemon".into(),
                None,
            );
            return way;
        }
        if !local {
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
                way.peer = Some(peer.clone());
                if self.datagram(&mut way) {
                    way.outcome = Outcome::Carried;
                    way.verdict = format!("sent through {} to {peer}", self.device);
                    way.ttl.push(hop(format!("in the datagram to {peer}"), ttl));
                    self.at_the_other_end(&mut way, ttl);
                }
            }
        }
        way
    }

    /// Says where the kernel sends or delivers the packet if not to the daemon.
    fn past_the_daemon(&self, way: &mut PacketPath) -> Option<String> {
        let destination = self.query.destination;
        let (interface, by_rule) = match &self.outbound.routing {
            Routing::Through { interface, by_rule } if interface != self.device => {
                (interface, *by_rule)
            }
            Routing::Local => {
                return Some(format!("{destination} is an address of this host itself"));
            }
            Routing::Through { .. } | Routing::Refused(_) => return None,
        };
        let Config { network, subnet, .. } = self.config;
        if !network.contains(destination) {
            return Some(format!(
                "{destination} is outside the overlay network {network}: the kernel sends it through \
                 {interface}, not through the daemon"
            ));
        }
        if subnet.contains(destination) && !by_rule {
            return Some(format!(
                "{destination} is in this host's own subnet {subnet}: the kernel sends it to the containers \
                 through {interface}, not through the daemon"
            ));
        }
        let why = if by_rule {
            way.remedy = Some(FIND_RULE.into());
            "a policy routing rule decides".into()
        } else {
            format!("another route is more specific than the overlay's route to {network}")
        };
        Some(format!(
            "the kernel sends it through {interface}, not through {}: {why} (`{}`)",
            self.device,
            self.outbound.command()
        ))
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
        let mut way = self.way(&self.inbound);
        if self.query.from.is_none() {
            way.not_applicable = self.never_received();
        }
        way.lease = self.lease(source);
        way.masquerade = self.masquerade(source, destination);
        way.peer = self.from.map(|from| from.to_string());
        // The sender's kernel and daemon have each decremented the TTL, as on this side.
        let ttl = ttl.saturating_sub(2);
        way.ttl.push(hop("in the datagram".into(), ttl));
        let mut packet = self.packet(source, ttl);
        let sender =
            SocketAddrV4::new(self.from.unwrap_or(Ipv4Addr::UNSPECIFIED), self.config.bind.port());
        let policy = Policy::from(&self.config);
        let (checked, result) =
            forward::ingress(&policy, self.routes, sender, |_| self.grace, &mut packet);
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

    /// Why no host sends this packet here, as far as this host knows.
    fn never_received(&self) -> Option<String> {
        let Query { source, destination, .. } = *self.query;
        let Config { network, subnet, .. } = self.config;
        if self.is_ours() {
            return Some(format!(
                "{source} is in this host's own subnet, or is one of this host's addresses"
            ));
        }
        let here = self.inbound.routing == Routing::Local || subnet.contains(destination);
        (!network.contains(source) && !here)
            .then(|| format!("{destination} is not in this host's subnet {subnet}"))
    }

    /// Describes what the kernel does with the packet behind the TUN device.
    fn delivered(&self, way: &mut PacketPath, ttl: u8) {
        way.ttl.push(hop(format!("out of {}", self.device), ttl));
        if self.inbound.refused(way, &format!("delivered to {}; the kernel drops it", self.device))
        {
            return;
        }
        way.outcome = Outcome::Carried;
        let Routing::Through { interface, by_rule } = &self.inbound.routing else {
            way.verdict = format!("delivered through {} to this host itself", self.device);
            return;
        };
        if ttl <= 1 {
            way.outcome = Outcome::Dropped;
            way.verdict = format!("delivered to {}, where its TTL expires", self.device);
            return;
        }
        way.ttl.push(hop("forwarded by this host's kernel".into(), ttl - 1));
        let (device, own) = (self.device, self.config.subnet);
        let destination = self.query.destination;
        way.verdict = if interface != device {
            format!("delivered through {device}; the kernel forwards it through {interface}")
        } else if own.contains(destination) {
            format!(
                "delivered to {device}, but the kernel sends it back there: no interface has a route to \
                 this host's subnet {own}"
            )
        } else {
            format!(
                "delivered to {device}, but the kernel sends it back there: {destination} is not in this \
                 host's subnet {own}"
            )
        };
        if *by_rule {
            way.outcome = Outcome::NotHere;
            way.verdict +=
                &format!(", because a policy routing rule decides (`{}`)", self.inbound.command());
            way.remedy = Some(FIND_RULE.into());
        }
    }

    fn way(&self, kernel: &KernelStep) -> PacketPath {
        let mut way = PacketPath {
            outcome: Outcome::NotHere,
            verdict: String::new(),
            not_applicable: None,
            reason: None,
            interface: None,
            input: None,
            forwarding: None,
            rp_filter: None,
            datagram: None,
            remedy: None,
            lease: None,
            peer: None,
            mtu: self.config.mtu.get(),
            ttl: vec![],
            source_check: String::new(),
            destination_check: None,
            masquerade: None,
            icmp: None,
        };
        kernel.describe(&mut way);
        way
    }

    /// The most specific lease of another host that contains `address`.
    fn lease(&self, address: Ipv4Addr) -> Option<crate::route::Cidr> {
        let withheld = self.withheld.iter().map(|lease| lease.subnet);
        let leases = self.peers.iter().map(|peer| peer.subnet).chain(withheld);
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
            DropReason::NoRoute if self.config.subnet.contains(destination) => format!(
                "{destination} is in this host's own subnet, and no interface has a route to it: no \
                 container is running"
            ),
            DropReason::NoRoute => overlap::withheld(self.withheld, destination, self.device)
                .unwrap_or_else(|| format!("no lease contains {destination}")),
            DropReason::OwnDatagram => format!(
                "it is one of the daemon's own datagrams (UDP {}), which must not enter the overlay",
                self.config.bind
            ),
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
            ErrorKind::FragmentationNeeded { mtu } => {
                format!("fragmentation needed, MTU {mtu}, from {source}")
            }
        });
    }
}

fn hop(at: String, ttl: u8) -> Hop {
    Hop { at, ttl }
}

const FIND_RULE: &str = "find the rule with `ip rule`, and delete it";
