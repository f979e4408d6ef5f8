//! Verdicts on next hops, kept up to date.

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4};

use tokio::sync::watch;

use super::analysis::{Distinctions, Overlay, Routing, enters_overlay, suspect};
use super::{Dependency, OuterNetwork};
use crate::host::netlink::{NetlinkError, RouteQuestion};
use crate::packet::protocol;
use crate::route::{Cidr, HopQuestions, HopVerdicts};

/// The two channels between the lease side, which asks, and the host's side, which answers.
#[derive(Debug)]
pub struct Hops {
    /// The next hops to check.
    pub questions: watch::Receiver<HopQuestions>,
    /// The verdicts.
    pub verdicts: watch::Sender<HopVerdicts>,
}

/// Checks next hops and the overlay's route at every change of routes or addresses.
#[derive(Debug)]
pub struct NextHopCheck {
    outer: OuterNetwork,
    hops: Hops,
    overlay: Overlay,
    /// Where the daemon's datagrams come from.
    socket: SocketAddrV4,
    routing: Routing,
    distinctions: Distinctions,
    /// By the longest distinction: whether the kernel routes its addresses into the overlay.
    answers: HashMap<Option<Cidr>, bool>,
}

impl NextHopCheck {
    /// A check without facts; [`Self::check`] gathers them.
    pub fn new(outer: OuterNetwork, hops: Hops, overlay: Overlay, socket: SocketAddrV4) -> Self {
        Self {
            outer,
            hops,
            overlay,
            socket,
            routing: Routing::default(),
            distinctions: Distinctions::default(),
            answers: HashMap::new(),
        }
    }

    /// Waits until there are other next hops to check, which [`Self::decide`] does.
    pub async fn asked(&mut self) {
        if self.hops.questions.changed().await.is_err() {
            // The lease side has ended, as the daemon is about to.
            std::future::pending::<()>().await;
        }
    }

    /// Reads routes, rules and addresses again, checks all next hops by them, and returns what the
    /// overlay's route hides or would hide.
    ///
    /// # Errors
    /// The kernel refuses a request; the verdicts are unchanged then.
    pub async fn check(
        &mut self,
        overlay: Overlay,
        address: Ipv4Addr,
    ) -> Result<Vec<Dependency>, NetlinkError> {
        self.routing = self.outer.routing().await?;
        self.overlay = overlay;
        self.socket.set_ip(address);
        self.distinctions = Distinctions::new(&self.routing);
        self.answers.clear();
        self.decide().await;
        Ok(self.outer.collisions(&self.overlay, &self.routing).await)
    }

    /// Whether a route of the outer network has an MTU of its own, as of the last [`Self::check`].
    pub fn has_route_mtu(&self) -> bool {
        let mut routes = self.routing.routes.iter();
        routes.any(|(_, route)| route.mtu.is_some() && route.oif != self.overlay.device)
    }

    /// Decides about the next hops that the lease side asks about now, and publishes the verdicts.
    pub async fn decide(&mut self) {
        let asked: BTreeSet<Ipv4Addr> =
            self.hops.questions.borrow_and_update().clone().unwrap_or_default();
        let mut enters = HashMap::with_capacity(asked.len());
        for hop in asked {
            enters.insert(hop, self.enters(hop).await);
        }
        let verdicts = HopVerdicts {
            suspect: suspect(&self.overlay, &self.routing),
            enters_overlay: enters,
            own: self.routing.addresses.iter().map(|address| address.local).collect(),
        };
        self.hops.verdicts.send_if_modified(|known| {
            let changed = *known != verdicts;
            *known = verdicts;
            changed
        });
    }

    /// Asks the kernel once for all next hops that its routes and rules do not tell apart.
    async fn enters(&mut self, hop: Ipv4Addr) -> bool {
        let alike = self.distinctions.longest(hop);
        if let Some(answer) = self.answers.get(&alike) {
            return *answer;
        }
        let port = self.socket.port();
        let datagram = RouteQuestion {
            source: Some(*self.socket.ip()),
            protocol: Some(protocol::UDP),
            ports: Some([port, port]),
            ..RouteQuestion::to(hop)
        };
        let netlink = &self.outer.netlink;
        let chosen = match netlink.chosen_route(&datagram).await {
            // The interface has lost the address.
            Err(error) if error.errno() == Some(libc::EINVAL) => {
                netlink.chosen_route(&RouteQuestion::to(hop)).await
            }
            other => other,
        };
        let answer = enters_overlay(&self.overlay, &self.routing, hop, chosen.ok().as_ref());
        self.answers.insert(alike, answer);
        answer
    }
}
