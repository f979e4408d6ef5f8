//! This host's node of the overlay: data plane, TUN device, firewall rules, subnet file.

mod dataplane;
mod fragments;
mod overlay;
mod refused;
mod rules;
mod snapshot;
mod subnet_file_keeper;

use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};

pub(super) use self::dataplane::start_exit;
use self::refused::RefusedPeers;
pub(super) use self::subnet_file_keeper::SubnetFileKeeper;
use super::{Confined, overlap};
use crate::daemon::Options;
use crate::dataplane::{Dataplane, DropReason, Event, MismatchLog, PeerAccounting, Stats};
use crate::exit::{Code, Exit};
use crate::host::conflicts::Conflict;
use crate::host::firewall::RuleSpec;
use crate::host::interface::ExternalInterface;
use crate::host::link::{LinkError, OverlayDevice};
use crate::host::netlink::Netlink;
use crate::host::outer::{Hops, OuterNetwork};
use crate::host::subnet_file::{PreviousSubnetFile, SubnetFile};
use crate::host::sysctl;
use crate::host::watch::{LinkEvent, UnderlayState};
use crate::observe::capture::Captures;
use crate::observe::protocol::{Answer, capture};
use crate::observe::warnings::{Condition, WarningKind, Warnings};
use crate::route::{Cidr, RouteTable};
use crate::subnet::{NetworkConfig, SubnetFileOrigin, SubnetStatus};
use subnet_file_keeper::SubnetFiles;

/// An event that [`Node::event`] returns.
pub(super) enum NodeEvent {
    /// An event of the data plane.
    Plane(Event),
    /// A change of the TUN device or of the underlay interface.
    Link(LinkEvent),
}

/// This host as a node of the overlay.
pub(super) struct Node<'a> {
    options: &'a Options,
    network: Cidr,
    port: u16,
    interface: ExternalInterface,
    subnet: Cidr,
    peers: Arc<PeerAccounting>,
    /// Senders whose packets failed a check recently.
    mismatches: MismatchLog,
    refused: RefusedPeers,
    /// True while the route table may lack leases.
    routes_stale: bool,
    /// Whether a route of the outer network has an MTU of its own.
    has_route_mtu: bool,
    netlink: Netlink,
    /// The state in which the link watcher keeps the TUN device; `None` until the watcher runs.
    overlays: Option<watch::Sender<OverlayDevice>>,
    link_events: mpsc::UnboundedReceiver<LinkEvent>,
    /// `None` only while it is being replaced.
    plane: Option<Dataplane>,
    tun_name: String,
    /// Counters of previous data planes.
    past: Stats,
    /// Packets that the kernel dropped in the queues of previous TUN devices.
    past_queue_drops: u64,
    /// The firewall rules that the firewall task keeps in force.
    rules: watch::Sender<RuleSpec>,
    /// The identity of the lease store that the subnet comes from.
    store: String,
    /// The content that the keeper of the subnet file maintains; `None` until the keeper runs.
    files: Option<watch::Sender<SubnetFiles>>,
    captures: Captures,
    confined: Confined,
    warnings: Warnings,
    outer: OuterNetwork,
    /// The channels to the lease side, until the link watcher has them.
    hops: Option<Hops>,
}

/// The results of the steps of the daemon's start, which a node is made of.
pub(super) struct NodeParts<'a, 's> {
    pub(super) options: &'a Options,
    pub(super) config: &'s NetworkConfig,
    pub(super) interface: ExternalInterface,
    /// The subnet of this host.
    pub(super) subnet: Cidr,
    pub(super) routes: Arc<RouteTable>,
    /// What the last run has left.
    pub(super) previous: &'s PreviousSubnetFile,
    /// The identity of the lease store.
    pub(super) store: String,
    pub(super) confined: Confined,
    pub(super) warnings: Warnings,
    pub(super) keeper: SubnetFileKeeper,
    pub(super) outer: OuterNetwork,
    pub(super) hops: Hops,
}

impl<'a> Node<'a> {
    /// Starts the data plane, routes the overlay to it, installs the firewall rules and writes the subnet file.
    ///
    /// # Errors
    /// The step that failed; a subnet file that cannot be written is only logged.
    pub(super) async fn start(parts: NodeParts<'a, '_>) -> Result<Self, Exit> {
        let NodeParts { options, config, interface, subnet, routes, previous, store, .. } = parts;
        let NodeParts { confined, warnings, mut keeper, outer, hops, .. } = parts;
        let netlink =
            Netlink::connect().map_err(|error| Exit::new(Code::System, error.to_string()))?;
        let mut node = Self {
            options,
            network: config.network,
            port: config.port,
            interface,
            subnet,
            peers: Arc::new(PeerAccounting::new(routes)),
            mismatches: MismatchLog::default(),
            refused: RefusedPeers::default(),
            routes_stale: true,
            has_route_mtu: false,
            netlink,
            overlays: None,
            link_events: mpsc::unbounded_channel().1,
            plane: None,
            tun_name: options.tun_name.clone(),
            past: Stats::default(),
            past_queue_drops: 0,
            rules: watch::Sender::new(rules::initial(options, config, subnet)),
            store,
            files: None,
            captures: Captures::default(),
            confined,
            warnings,
            outer,
            hops: Some(hops),
        };
        node.check_device_is_free().await?;
        node.start_plane()?;
        node.route_overlay().await.map_err(link_exit)?;
        node.install_rules(previous).await?;
        let files = node.subnet_files();
        keeper.check(&files);
        let files = watch::Sender::new(files);
        tokio::spawn(keeper.run(files.subscribe()));
        node.files = Some(files);
        Ok(node)
    }

    /// Waits for the next event of the data plane or the links.
    pub(super) async fn event(&mut self) -> NodeEvent {
        let plane = async {
            match &mut self.plane {
                Some(plane) => plane.event().await,
                None => pending().await,
            }
        };
        let link = async {
            match self.link_events.recv().await {
                Some(event) => event,
                None => pending().await,
            }
        };
        tokio::select! {
            event = plane => NodeEvent::Plane(event),
            event = link => NodeEvent::Link(event),
        }
    }

    /// Replaces the data plane, and updates the subnet file.
    ///
    /// # Errors
    /// The new data plane cannot be started; then there is none, and the subnet file is unchanged.
    pub(super) async fn replace_plane(&mut self) -> Result<(), Exit> {
        self.past_queue_drops += self.queue_drops().await;
        self.stop_plane();
        self.start_plane()?;
        if let Err(error) = self.route_overlay().await {
            self.stop_plane();
            return Err(link_exit(error));
        }
        self.update_rules();
        self.update_subnet_files();
        Ok(())
    }

    /// Warns of leases that are withheld, and of an address of this host inside of the overlay.
    pub(super) fn warn_of_leases(&self, status: &SubnetStatus) {
        let ours = [self.interface.address, self.interface.public_ip];
        overlap::warn(&self.warnings, status, self.network, ours, &self.tun_name);
    }

    /// The subnet of this host.
    pub(super) fn subnet(&self) -> Cidr {
        self.subnet
    }

    /// Moves to another subnet after the old one was lost.
    ///
    /// # Errors
    /// Those of [`Self::replace_plane`].
    pub(super) async fn move_to(&mut self, subnet: Cidr) -> Result<(), Exit> {
        tracing::warn!(
            from = %self.subnet, to = %subnet,
            "the subnet of this host has changed: restart its containers with the new subnet file"
        );
        self.subnet = subnet;
        self.replace_plane().await
    }

    /// The address at which other hosts reach this one.
    pub(super) fn public_ip(&self) -> Ipv4Addr {
        self.interface.public_ip
    }

    /// Handles a change of the TUN device or of the underlay interface.
    ///
    /// # Errors
    /// Those of [`Self::replace_plane`].
    pub(super) async fn on_link(&mut self, event: LinkEvent) -> Result<(), Exit> {
        match event {
            // The watcher has logged it.
            LinkEvent::Repaired(_) => {}
            LinkEvent::Conflicts(conflicts) => {
                // A host whose own network is a part of the overlay's works, as long as the more
                // specific route of its own wins.
                let address = self.interface.address;
                let others = conflicts.iter().filter(|conflict| !conflict.is_network_of(address));
                let now = others.map(|conflict| self.diverted(conflict)).collect();
                self.warnings.set(WarningKind::RouteConflict, now);
            }
            LinkEvent::Hidden(hidden) => {
                let now = overlap::collision(self.network, &hidden);
                self.warnings.set(WarningKind::HiddenNetwork, now);
            }
            LinkEvent::RouteMtu(has) => {
                self.has_route_mtu = has;
                let (now, why) = if has { ("on", "a route has") } else { ("off", "no route has") };
                tracing::info!(
                    "path MTU discovery between hosts is {now}: {why} an MTU of its own"
                );
                if let Some(plane) = &self.plane {
                    plane.follow_route_mtu(has);
                }
            }
            // The workers report this too, and sooner.
            LinkEvent::Gone(_) => {}
            LinkEvent::Underlay(UnderlayState::Waiting(text)) => {
                let remedy = "restore this address, or restart the daemon to choose another one";
                self.warnings.set(
                    WarningKind::Underlay,
                    vec![Condition { text, remedy: Some(remedy.into()) }],
                );
            }
            LinkEvent::Underlay(UnderlayState::InUse(interface)) => {
                self.warnings.set(WarningKind::Underlay, Vec::new());
                return self.adopt_underlay(interface).await;
            }
        }
        Ok(())
    }

    fn diverted(&self, conflict: &Conflict) -> Condition {
        let text = format!(
            "route {conflict} diverts traffic of the overlay network {} from {}",
            self.network, self.tun_name
        );
        Condition { text, remedy: Some(conflict.advice(self.interface.index)) }
    }

    /// Adopts another interface, MTU or address.
    async fn adopt_underlay(&mut self, now: ExternalInterface) -> Result<(), Exit> {
        let before = std::mem::replace(&mut self.interface, now);
        let now = &self.interface;
        if *now == before {
            return Ok(());
        }
        tracing::warn!(
            interface = %now.name, address = %now.address, mtu = now.mtu,
            "the underlay interface has changed (before: {} {}, MTU {}); adopting the change",
            before.name, before.address, before.mtu
        );
        self.update_rules();
        if before.address != now.address {
            return self.replace_plane().await;
        }
        if before.mtu != now.mtu {
            return self.adopt_mtu().await;
        }
        Ok(())
    }

    /// Gives the MTU of the underlay interface to the TUN device and to the data plane, which goes on: a
    /// sender whose packets are now too long learns it from the answers to those that still arrive.
    async fn adopt_mtu(&mut self) -> Result<(), Exit> {
        let Some(plane) = &self.plane else { return self.replace_plane().await };
        plane.set_mtu(self.mtu());
        self.route_overlay().await.map_err(link_exit)?;
        self.update_subnet_files();
        Ok(())
    }

    /// Starts a capture.
    pub(super) fn capture(&self, request: &capture::CaptureRequest) -> Answer {
        self.captures.begin(request, &self.interface.name)
    }

    /// Ends the running capture; its client still gets the final statistics.
    pub(super) async fn end_captures(&self) {
        self.captures.end().await;
    }

    /// Stops the data plane, which removes the TUN device, and writes the statistics file.
    pub(super) fn stop(mut self) {
        let features = self.plane.as_ref().map(Dataplane::features).unwrap_or_default();
        self.stop_plane();
        if let Some(path) = &self.options.stats_json {
            self.report(features, &self.past).write(path);
        }
    }

    /// Samples which peers are active, collects failed checks from the workers, and looks at settings of the
    /// kernel; due every two seconds.
    pub(super) fn sample(&mut self) {
        self.peers().sample();
        let off = (sysctl::number("ipv4/ip_forward") == Some(0)).then(|| Condition {
            text: "this host does not forward packets between its containers and the overlay"
                .into(),
            remedy: Some("`sysctl -w net.ipv4.ip_forward=1`".into()),
        });
        self.warnings.set(WarningKind::IpForward, off.into_iter().collect());
        if let Some(plane) = &self.plane {
            self.mismatches.record(plane.take_mismatches());
        }
        let drops = self.stats().egress.drops;
        let refused = drops.get(DropReason::SendRefused.name()).copied().unwrap_or_default();
        let traffic = self.peers.traffic();
        self.warnings.set(WarningKind::Fragments, fragments::conditions(&traffic));
        let refused = self.refused.sample(refused, &traffic, Instant::now());
        self.warnings.set(WarningKind::SendRefused, refused);
    }

    /// Sets whether the route table is out of step with the lease store and so may lack leases.
    pub(super) fn set_routes_stale(&mut self, stale: bool) {
        self.routes_stale = stale;
        if let Some(plane) = &self.plane {
            plane.set_routes_stale(stale);
        }
    }

    fn update_subnet_files(&self) {
        if let Some(files) = &self.files {
            files.send_replace(self.subnet_files());
        }
    }

    fn subnet_files(&self) -> SubnetFiles {
        SubnetFiles {
            file: SubnetFile {
                network: self.network,
                subnet: self.subnet,
                mtu: self.mtu().into(),
                ip_masq: self.options.ip_masq,
            },
            origin: SubnetFileOrigin::here(&self.store, self.subnet),
        }
    }
}

fn link_exit(error: LinkError) -> Exit {
    Exit::new(Code::System, error.to_string())
}
