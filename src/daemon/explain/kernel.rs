//! What this host's kernel does with the packet, as steps of the answer.

use super::Explainer;
use crate::dataplane::Config;
use crate::host::netlink::{Link, Netlink};
use crate::host::routing::{Flow, Origin, Refusal, Routing};
use crate::host::sysctl;
use crate::observe::protocol::explain::{Outcome, PacketPath, Query};
use crate::packet::protocol;
use crate::route::NextHop;

/// The kernel's decision about the packet in one direction.
pub(super) struct KernelStep {
    pub(super) origin: Origin,
    pub(super) routing: Routing,
    flow: Flow,
}

impl KernelStep {
    /// Asks the kernel about `query`, which enters this host's routing at `origin`.
    pub(super) async fn ask(
        netlink: &Netlink,
        links: &[Link],
        query: &Query,
        origin: Origin,
    ) -> Self {
        let Query { source, destination, protocol, ports, .. } = *query;
        let flow = Flow { source, destination, protocol, ports };
        Self { routing: netlink.routing(links, &flow, &origin).await, flow, origin }
    }

    /// Asks about the datagram that carries the packet to `hop`.
    pub(super) async fn datagram(
        netlink: &Netlink,
        links: &[Link],
        config: &Config,
        hop: NextHop,
    ) -> Self {
        let flow = Flow {
            source: *config.bind.ip(),
            destination: hop.ip,
            protocol: protocol::UDP,
            ports: Some([config.bind.port(), hop.port]),
        };
        let origin = Origin::Host;
        Self { routing: netlink.routing(links, &flow, &origin).await, flow, origin }
    }

    /// Writes the steps that the kernel takes.
    pub(super) fn describe(&self, way: &mut PacketPath) {
        way.interface = match &self.routing {
            Routing::Local => Some("lo".into()),
            Routing::Through { interface, .. } => Some(interface.clone()),
            Routing::Refused(_) => None,
        };
        let Some(input) = self.origin.input() else { return };
        let name = &input.name;
        way.input = Some(name.clone());
        if self.routing != Routing::Local {
            way.forwarding = sysctl::of_interface(name, "forwarding").map(|on| match on {
                0 => format!("OFF for {name}"),
                _ => format!("on for {name}"),
            });
        }
        let mode = sysctl::reverse_path_filter(name);
        way.rp_filter = mode.map(|mode| match (mode, &self.routing) {
            (0, _) => format!("off for {name}"),
            (_, Routing::Refused(refusal @ Refusal::ReversePath { .. })) => {
                format!("FAILS: {}", refusal.sentence(&self.flow))
            }
            // The kernel decides about forwarding and the route first.
            (mode, Routing::Refused(_)) => format!("{} for {name}", mode_name(mode)),
            (mode, _) => format!("passes: {} for {name}", mode_name(mode)),
        });
    }

    /// Writes that the kernel drops the packet, if it does. `begin` is the start of the verdict.
    pub(super) fn refused(&self, way: &mut PacketPath, begin: &str) -> bool {
        let Routing::Refused(refusal) = &self.routing else { return false };
        way.outcome = Outcome::Dropped;
        way.verdict = format!("{begin}: {}", refusal.sentence(&self.flow));
        way.remedy = refusal.remedy();
        true
    }

    /// The command that asks the kernel the same.
    pub(super) fn command(&self) -> String {
        self.flow.command(&self.origin)
    }
}

impl Explainer<'_> {
    /// Writes where the datagram goes. Returns false if the kernel does not send it.
    pub(super) fn datagram(&self, way: &mut PacketPath) -> bool {
        let Some(datagram) = &self.datagram else { return true };
        let to = datagram.flow.destination;
        way.datagram = Some(match &datagram.routing {
            Routing::Local => format!("{to} is an address of this host itself"),
            Routing::Through { interface, .. } => format!("sent through {interface}"),
            Routing::Refused(refusal) => refusal.sentence(&datagram.flow),
        });
        !datagram.refused(way, &format!("the kernel does not send the datagram to {to}"))
    }
}

fn mode_name(mode: u64) -> &'static str {
    if mode == 1 { "strict" } else { "loose" }
}
