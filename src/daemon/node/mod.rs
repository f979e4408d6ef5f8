//! This host's end of the overlay: the data plane, the TUN device's place in the system, the files.

mod dataplane;
mod snapshot;

use std::future::pending;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::Confined;
use crate::daemon::Options;
use crate::dataplane::{Dataplane, Event, MismatchLog, PeerAccounting, Stats};
use crate::exit::{Code, Exit};
use crate::host;
use crate::host::firewall::{Firewall, Spec, Toolbox};
use crate::host::interface::Interface;
use crate::host::link::{self, LinkError, Overlay};
use crate::host::netlink::Netlink;
use crate::host::subnet_file::{self, PreviousSubnetFile, SubnetFile};
use crate::host::watch::{LinkEvent, UnderlayState};
use crate::observe::capture::Captures;
use crate::observe::protocol::{Answer, capture};
use crate::route::{Cidr, RouteTable};
use crate::subnet::{NetworkConfig, SubnetFileOrigin};

/// Something that [`Node::event`] tells.
pub(super) enum NodeEvent {
    /// Of the data plane.
    Plane(Event),
    /// Of the TUN device or the interface between hosts.
    Link(LinkEvent),
}

/// This host, carrying packets.
pub(super) struct Node<'a> {
    options: &'a Options,
    network: Cidr,
    port: u16,
    interface: Interface,
    subnet: Cidr,
    peers: Arc<PeerAccounting>,
    /// Senders whose packets failed a check recently.
    mismatches: MismatchLog,
    /// True while the route table may lack leases.
    routes_stale: bool,
    netlink: Netlink,
    /// What the watcher of the links keeps the TUN device at.
    overlays: Option<watch::Sender<Overlay>>,
    link_events: mpsc::UnboundedReceiver<LinkEvent>,
    /// `None` only while it is being replaced.
    plane: Option<Dataplane>,
    tun_name: String,
    /// Counters of data planes that have ended.
    past: Stats,
    /// What the kernel dropped in front of TUN devices that are gone.
    past_queue_drops: u64,
    /// The firewall rules that shall be in force.
    rules: watch::Sender<Spec>,
    /// Which lease store the subnet comes from.
    store: String,
    /// What the subnet file says.
    written: Option<SubnetFile>,
    captures: Captures,
    confined: Confined,
}

impl<'a> Node<'a> {
    /// Starts the data plane, routes the overlay to it and writes the subnet file.
    #[expect(
        clippy::too_many_arguments,
        reason = "what has been found out before the first packet"
    )]
    pub(super) async fn start(
        options: &'a Options,
        config: &NetworkConfig,
        interface: Interface,
        subnet: Cidr,
        routes: Arc<RouteTable>,
        previous: &PreviousSubnetFile,
        store: String,
        confined: Confined,
    ) -> Result<Self, Exit> {
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
            routes_stale: true,
            netlink,
            overlays: None,
            link_events: mpsc::unbounded_channel().1,
            plane: None,
            tun_name: options.tun_name.clone(),
            past: Stats::default(),
            past_queue_drops: 0,
            rules: watch::Sender::new(rules(options, config, subnet)),
            store,
            written: None,
            captures: Captures::default(),
            confined,
        };
        node.start_plane()?;
        node.route_overlay().await.map_err(link_exit)?;
        let rules = node.rules.borrow().clone();
        let firewall = Firewall::install(rules, previous, Toolbox::from_environment())
            .await
            .map_err(|error| Exit::new(Code::Unavailable, error.to_string()))?;
        tokio::spawn(firewall.run(options.resync_period(), node.rules.subscribe()));
        node.write_subnet_file();
        Ok(node)
    }

    /// The next thing that happens on the data plane or to the links.
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

    /// Puts a new data plane in the place of the old one; the subnet file follows it. After a
    /// failure there is none, and nothing is told that does not hold.
    pub(super) async fn replace_plane(&mut self) -> Result<(), Exit> {
        self.past_queue_drops += self.queue_drops().await;
        self.stop_plane();
        self.start_plane()?;
        if let Err(error) = self.route_overlay().await {
            self.stop_plane();
            return Err(link_exit(error));
        }
        self.write_subnet_file();
        Ok(())
    }

    /// This host's address between hosts.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.interface.address
    }

    /// The subnet of this host.
    pub(super) fn subnet(&self) -> Cidr {
        self.subnet
    }

    /// Takes another subnet, because the old one was lost.
    pub(super) async fn move_to(&mut self, subnet: Cidr) -> Result<(), Exit> {
        tracing::warn!(
            from = %self.subnet, to = %subnet,
            "this host has another subnet: containers must be restarted with the new subnet file"
        );
        self.subnet = subnet;
        self.rules.send_modify(|rules| rules.subnet = subnet);
        self.replace_plane().await
    }

    /// Where other hosts reach this one.
    pub(super) fn public_ip(&self) -> Ipv4Addr {
        self.interface.public_ip
    }

    /// Acts on a change of the TUN device or of the interface below it.
    pub(super) async fn on_link(&mut self, event: LinkEvent) -> Result<(), Exit> {
        match event {
            // The watcher has told of both.
            LinkEvent::Repaired(_) | LinkEvent::Conflicts(_) => {}
            // The workers notice as well, and sooner.
            LinkEvent::Gone(_) => {}
            LinkEvent::Underlay(UnderlayState { address: None, .. }) => tracing::warn!(
                interface = %self.interface.name,
                "the interface between hosts has no address; waiting for one"
            ),
            LinkEvent::Underlay(UnderlayState { index, mtu, address: Some(address) }) => {
                return self.follow(index, mtu, address).await;
            }
        }
        Ok(())
    }

    /// Follows the interface between hosts to another MTU or address.
    async fn follow(
        &mut self,
        index: Option<u32>,
        mtu: u32,
        address: Ipv4Addr,
    ) -> Result<(), Exit> {
        let before = self.interface.clone();
        self.interface.index = index.unwrap_or(before.index);
        (self.interface.mtu, self.interface.address) = (mtu, address);
        if self.options.public_ip.is_none() {
            self.interface.public_ip = address;
        }
        if self.interface == before {
            return Ok(());
        }
        tracing::warn!(
            interface = %before.name, %address, mtu,
            "the interface between hosts has changed (it had {}, MTU {}); following it",
            before.address, before.mtu
        );
        match (before.mtu, before.address) == (mtu, address) {
            true => Ok(()),
            false => self.replace_plane().await,
        }
    }

    /// Routes the overlay to the TUN device and has the watcher keep it so.
    async fn route_overlay(&mut self) -> Result<(), LinkError> {
        let overlay = self.overlay().await?;
        // What is in the way the watcher tells, at its first look.
        link::ensure(&self.netlink, &overlay).await?;
        match &self.overlays {
            // Nobody watching is a trouble that the watcher's own end has told.
            Some(overlays) => drop(overlays.send(overlay)),
            None => self.watch(overlay),
        }
        Ok(())
    }

    fn watch(&mut self, overlay: Overlay) {
        let (sender, receiver) = watch::channel(overlay);
        let (events, link_events) = mpsc::unbounded_channel();
        (self.overlays, self.link_events) = (Some(sender), link_events);
        let interface = self.interface.clone();
        tokio::spawn(async move {
            if let Err(error) = host::watch::run(receiver, interface, events).await {
                tracing::error!("nobody looks after the TUN device's address and route: {error}");
            }
        });
    }

    /// Begins a capture.
    pub(super) fn capture(&self, request: &capture::Request) -> Answer {
        self.captures.begin(request, &self.interface.name)
    }

    /// Ends the capture that runs, with its last words.
    pub(super) async fn end_captures(&self) {
        self.captures.end().await;
    }

    /// Stops the data plane; the TUN device goes with it. Writes the statistics file.
    pub(super) fn stop(mut self) {
        let features = self.plane.as_ref().map(Dataplane::features).unwrap_or_default();
        self.stop_plane();
        if let Some(path) = &self.options.stats_json {
            self.report(features, &self.past).write(path);
        }
    }

    /// Looks which peers are active and who failed a check; due every other second.
    pub(super) fn look(&mut self) {
        self.peers().sample();
        if let Some(plane) = &self.plane {
            self.mismatches.record(plane.take_mismatches());
        }
    }

    /// Sets whether the route table is out of step with the lease store and so may lack leases.
    pub(super) fn set_routes_stale(&mut self, stale: bool) {
        self.routes_stale = stale;
        if let Some(plane) = &self.plane {
            plane.set_routes_stale(stale);
        }
    }

    async fn overlay(&self) -> Result<Overlay, LinkError> {
        let links = self.netlink.links().await?;
        let link = links
            .into_iter()
            .find(|link| link.name == self.tun_name)
            .ok_or_else(|| LinkError::Gone(self.tun_name.clone()))?;
        Ok(Overlay {
            index: link.index,
            name: link.name,
            address: self.subnet.network(),
            subnet: self.subnet,
            network: self.network,
            mtu: self.mtu().into(),
            blackhole: self.options.ip_blackhole_route,
        })
    }

    /// Writes the subnet file, unless it says already what holds.
    fn write_subnet_file(&mut self) {
        let file = SubnetFile {
            network: self.network,
            subnet: self.subnet,
            mtu: self.mtu().into(),
            ip_masq: self.options.ip_masq,
        };
        if self.written.as_ref() == Some(&file) {
            return;
        }
        let path = &self.options.subnet_file;
        // The note first: without its file it says nothing, a file without it is believed anywhere.
        if let Err(error) =
            SubnetFileOrigin::here(&self.store, self.subnet).save(&SubnetFileOrigin::path(path))
        {
            tracing::debug!(%error, "cannot note where the subnet file comes from");
        }
        match subnet_file::write(path, &file) {
            Ok(()) => {
                tracing::info!(file = %path.display(), subnet = %self.subnet, "wrote the subnet file");
                self.written = Some(file);
            }
            // As flannel: the overlay works without it.
            Err(error) => tracing::warn!("{error}; going on without it"),
        }
    }
}

fn rules(options: &Options, config: &NetworkConfig, subnet: Cidr) -> Spec {
    Spec {
        network: config.network,
        subnet,
        masquerade: options.ip_masq,
        forward: options.iptables_forward_rules,
        fully_random: !options.ip_masq_fully_random_disable,
        nftables: config.enable_nftables,
    }
}

fn link_exit(error: LinkError) -> Exit {
    Exit::new(Code::System, error.to_string())
}
