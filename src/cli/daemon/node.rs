//! This host's end of the overlay: the data plane, the TUN device's place in the system, the files.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::{mpsc, watch};

use super::Confined;
use super::stats::Report;
use crate::cli::values::Workers;
use crate::cli::{Code, Exit, Options};
use crate::dataplane::counters::ThreadCounters;
use crate::dataplane::{
    self, Dataplane, Entrance, Event, Mismatches, Offloads, Peers, StartError, Stats, Threads,
};
use crate::host;
use crate::host::firewall::{Firewall, Spec, Toolbox};
use crate::host::interface::{Interface, OVERHEAD};
use crate::host::link::{self, LinkError, Overlay};
use crate::host::netlink::Netlink;
use crate::host::subnet_file::{self, Previous, SubnetFile};
use crate::host::watch::{LinkEvent, Underlay};
use crate::observe::capture::{self, Captures};
use crate::observe::protocol::Answer;
use crate::observe::snapshot::{self, Snapshot};
use crate::route::{Cidr, RouteTable};
use crate::subnet::{NetworkConfig, Origin, SubnetStatus};

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
    peers: Arc<Peers>,
    /// Who failed a check lately.
    mismatches: Mismatches,
    /// The route table may lack leases.
    blind: bool,
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
        previous: &Previous,
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
            peers: Arc::new(Peers::new(routes)),
            mismatches: Mismatches::default(),
            blind: true,
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

    /// The data plane, while there is one.
    pub(super) fn plane(&self) -> Option<&Dataplane> {
        self.plane.as_ref()
    }

    /// The route table.
    pub(super) fn routes(&self) -> &RouteTable {
        self.peers.routes()
    }

    /// The firewall rules that shall be in force.
    pub(super) fn rules(&self) -> Spec {
        self.rules.borrow().clone()
    }

    /// The name of the TUN device.
    pub(super) fn device(&self) -> &str {
        &self.tun_name
    }

    /// This host's address between hosts.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.interface.address
    }

    /// The interface that the kernel sends packets to `destination` through, if it has a route.
    pub(super) async fn interface_to(&self, destination: Ipv4Addr) -> Option<String> {
        let route = self.netlink.route_to(destination).await.ok()?;
        let link = self.netlink.link(route.oif?).await.ok()?;
        link.map(|link| link.name)
    }

    /// Whether packets are being carried.
    pub(super) fn has_plane(&self) -> bool {
        self.plane.is_some()
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
            LinkEvent::Underlay(Underlay { address: None, .. }) => tracing::warn!(
                interface = %self.interface.name,
                "the interface between hosts has no address; waiting for one"
            ),
            LinkEvent::Underlay(Underlay { index, mtu, address: Some(address) }) => {
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

    /// Writes the statistics file, if there shall be one.
    pub(super) fn write_stats(&mut self) {
        self.look();
        if let Some(path) = &self.options.stats_json {
            let features = self.plane.as_ref().map(Dataplane::features).unwrap_or_default();
            self.report(features, &self.stats()).write(path);
        }
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

    /// All counters since the start of the process.
    pub(super) fn stats(&self) -> Stats {
        let mut stats = self.past.clone();
        if let Some(plane) = &self.plane {
            stats += &plane.stats();
        }
        stats
    }

    /// Traffic by peer since the start of the process, whether or not a data plane runs.
    pub(super) fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Who failed a check lately.
    pub(super) fn mismatches(&self) -> &Mismatches {
        &self.mismatches
    }

    /// Looks which peers are active and who failed a check; due every other second.
    pub(super) fn look(&mut self) {
        self.peers().look();
        if let Some(plane) = &self.plane {
            self.mismatches.take(plane.take_mismatches());
        }
    }

    /// The route table is in step with the registry, or may lack leases.
    pub(super) fn set_blind(&mut self, blind: bool) {
        self.blind = blind;
        if let Some(plane) = &self.plane {
            plane.set_blind(blind);
        }
    }

    fn report<'r>(
        &'r self,
        features: Vec<dataplane::FeatureState>,
        stats: &'r Stats,
    ) -> Report<'r> {
        Report {
            version: 1,
            tun: &self.tun_name,
            subnet: self.subnet.to_string(),
            routes: self.peers.routes().len(),
            features,
            confinement: &self.confined.confinement,
            peers: self.peers.traffic(),
            other_traffic: self.peers.others(),
            mismatches: self.mismatches().recent(),
            stats,
        }
    }

    /// This host's part of what an observer sees.
    pub(super) async fn describe(&self, snapshot: &mut Snapshot, status: &SubnetStatus) {
        let config = self.plane_config();
        snapshot.underlay = Some(snapshot::Underlay {
            interface: self.interface.name.clone(),
            index: self.interface.index,
            address: self.interface.address,
            public_ip: self.interface.public_ip,
            port: self.port,
            mtu: self.interface.mtu,
            reason: self.interface.reason.clone(),
        });
        snapshot.overlay = Some(snapshot::Overlay {
            device: self.tun_name.clone(),
            address: config.address,
            network: config.network,
            mtu: config.mtu,
            carrying: self.has_plane(),
            source_check: config.source_check.to_string(),
            destination_check: config.destination_check.to_string(),
            masquerade: self.options.ip_masq,
        });
        if let Some(plane) = &self.plane {
            snapshot.features = plane.features();
            snapshot.threads = plane.threads().map(thread).collect();
        }
        snapshot.stats = self.stats();
        snapshot.tun_queue_drops = self.past_queue_drops + self.queue_drops().await;
        let routes = self.peers.routes();
        snapshot.routes =
            snapshot::Routes { count: routes.len() as u64, revision: routes.revision() };
        let peers = status.peers.iter().map(|peer| snapshot::Peer {
            subnet: peer.subnet,
            public_ip: peer.public_ip,
            next_hop: routes.lookup(peer.subnet.network()).map(|hop| hop.to_string()),
            key: peer.key.clone(),
            reservation: peer.reservation,
        });
        snapshot.peers = peers.collect();
        snapshot.traffic = self.peers.traffic();
        snapshot.other_traffic = self.peers.others();
        snapshot.mismatches = self.mismatches.recent();
    }

    /// What the kernel dropped in front of the TUN device that there is now.
    async fn queue_drops(&self) -> u64 {
        match &self.plane {
            Some(_) => self.netlink.send_drops(&self.tun_name).await.unwrap_or_default(),
            None => 0,
        }
    }

    fn stop_plane(&mut self) {
        self.look();
        if let Some(plane) = self.plane.take() {
            self.past += &plane.stop();
        }
    }

    fn start_plane(&mut self) -> Result<(), Exit> {
        let config = self.plane_config();
        let plane = Dataplane::start(&config, &self.peers).map_err(start_exit)?;
        self.tun_name = plane.tun_name().to_owned();
        let lost: Vec<_> = plane.features().into_iter().filter(|feature| !feature.on).collect();
        tracing::info!(
            device = %self.tun_name,
            address = %config.address,
            mtu = config.mtu,
            workers = config.workers,
            without = ?lost.iter().map(|feature| &feature.name).collect::<Vec<_>>(),
            "carrying packets on UDP {}", config.bind
        );
        plane.set_blind(self.blind);
        self.plane = Some(plane);
        Ok(())
    }

    pub(super) fn plane_config(&self) -> dataplane::Config {
        let cores = available_parallelism().map_or(1, usize::from);
        dataplane::Config {
            // A device that comes back shall have the name it had.
            tun_name: self.tun_name.clone(),
            address: self.subnet.network(),
            network: self.network,
            subnet: self.subnet,
            mtu: self.mtu(),
            bind: SocketAddrV4::new(self.interface.address, self.port),
            workers: match self.options.workers {
                Workers::Auto => default_workers(cores),
                Workers::Count(count) => count.into(),
            },
            threads: match self.options.worker_threads {
                // Without offloads this is the loop of stock flannel, in one thread as there.
                Threads::Auto if cores == 1 || self.options.offload == Offloads::OFF => {
                    Threads::One
                }
                threads => threads,
            },
            offloads: self.options.offload,
            spin: self.options.spin_time(),
            source_check: self.options.source_check,
            destination_check: self.options.destination_check,
            tap: self.captures.tap(),
            entrance: {
                let worker = self.confined.worker.clone();
                Entrance::new(move || worker.enter())
            },
        }
    }

    /// Greatest inner packet.
    fn mtu(&self) -> u16 {
        u16::try_from(self.interface.mtu.saturating_sub(OVERHEAD)).unwrap_or(MAX_MTU).min(MAX_MTU)
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
        if let Err(error) = Origin::here(&self.store, self.subnet).save(&Origin::path(path)) {
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

fn thread((name, counters): (&str, &ThreadCounters)) -> snapshot::Thread {
    let (busy, lifetime) = counters.busy.read();
    snapshot::Thread {
        name: name.to_owned(),
        busy: busy.as_secs_f64(),
        lifetime: lifetime.as_secs_f64(),
        sleeps: counters.sleeps.get(),
        spins: counters.spins.get(),
        packets: counters.egress.packets.get() + counters.ingress.packets.get(),
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

/// A worker for every two cores: it is a pair of threads.
fn default_workers(cores: usize) -> usize {
    (cores / 2).clamp(1, MAX_DEFAULT_WORKERS)
}

fn link_exit(error: LinkError) -> Exit {
    Exit::new(Code::System, error.to_string())
}

fn start_exit(error: StartError) -> Exit {
    let code = match &error {
        StartError::NoTunPermission { .. } | StartError::NoTunAccess(_) => Code::Permission,
        StartError::NoTunDevice(_) | StartError::Tun { .. } => Code::Tun,
        _ => Code::System,
    };
    Exit::new(code, error.to_string())
}

/// Longest inner packet that fits a UDP datagram (`MAX_DATAGRAM`), for links such as loopback.
const MAX_MTU: u16 = 65_507;
/// More workers than this need more flows than most hosts have.
const MAX_DEFAULT_WORKERS: usize = 8;
