//! What status requests see of a node: counters, peers, features, and its part of the snapshot.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::Node;
use crate::daemon::stats_file::StatsReport;
use crate::dataplane::counters::ThreadCounters;
use crate::dataplane::{
    self, Dataplane, GraceReason, MismatchLog, MismatchReason, PeerAccounting, Stats,
};
use crate::host::firewall::RuleSpec;
use crate::host::netlink::Netlink;
use crate::observe::protocol::snapshot::{self, Snapshot};
use crate::route::RouteTable;
use crate::subnet::SubnetStatus;

impl Node<'_> {
    /// The data plane, while there is one.
    pub(in crate::daemon) fn plane(&self) -> Option<&Dataplane> {
        self.plane.as_ref()
    }

    /// The route table.
    pub(in crate::daemon) fn routes(&self) -> &RouteTable {
        self.peers.routes()
    }

    /// The firewall rules that the firewall task keeps in force.
    pub(in crate::daemon) fn rules(&self) -> RuleSpec {
        self.rules.borrow().clone()
    }

    /// The name of the TUN device.
    pub(in crate::daemon) fn device(&self) -> &str {
        &self.tun_name
    }

    /// The routing socket.
    pub(in crate::daemon) fn netlink(&self) -> &Netlink {
        &self.netlink
    }

    /// Whether the source check would tolerate a packet from `sender` now whose source is an address of the
    /// overlay in no lease, and why.
    pub(in crate::daemon) fn grace_of(
        &self,
        sender: Ipv4Addr,
    ) -> Result<GraceReason, MismatchReason> {
        match &self.plane {
            Some(plane) => plane.grace_of(sender),
            None if self.routes_stale => Ok(GraceReason::RoutesStale),
            None => Ok(GraceReason::FirstPacket),
        }
    }

    /// Whether the data plane runs.
    pub(in crate::daemon) fn has_plane(&self) -> bool {
        self.plane.is_some()
    }

    /// Writes the statistics file, if `--stats-json` names one.
    pub(in crate::daemon) fn write_stats(&mut self) {
        self.sample();
        if let Some(path) = &self.options.stats_json {
            let features = self.plane.as_ref().map(Dataplane::features).unwrap_or_default();
            self.report(features, &self.stats()).write(path);
        }
    }

    /// All counters since the start of the process.
    pub(in crate::daemon) fn stats(&self) -> Stats {
        let mut stats = self.past.clone();
        if let Some(plane) = &self.plane {
            stats += &plane.stats();
        }
        stats
    }

    /// Traffic by peer since the start of the process; it outlives a data plane.
    pub(in crate::daemon) fn peers(&self) -> &PeerAccounting {
        &self.peers
    }

    /// Recent senders of packets that failed a check.
    pub(in crate::daemon) fn mismatches(&self) -> &MismatchLog {
        &self.mismatches
    }

    pub(super) fn report<'r>(
        &'r self,
        features: Vec<dataplane::FeatureState>,
        stats: &'r Stats,
    ) -> StatsReport<'r> {
        StatsReport {
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

    /// Fills in this host's part of the snapshot.
    pub(in crate::daemon) async fn describe(&self, snapshot: &mut Snapshot, status: &SubnetStatus) {
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
            mtu: config.mtu.get(),
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

    /// Packets that the kernel dropped because the queue of the current TUN device was full.
    pub(super) async fn queue_drops(&self) -> u64 {
        match &self.plane {
            Some(_) => self.netlink.send_drops(&self.tun_name).await.unwrap_or_default(),
            None => 0,
        }
    }
}

fn thread((name, counters): (&str, &ThreadCounters)) -> snapshot::Thread {
    // Read before the busy time, which includes it, so that it is never the larger one.
    let spinning = Duration::from_nanos(counters.spinning_nanos.get());
    let (busy, lifetime) = counters.busy.read();
    snapshot::Thread {
        name: name.to_owned(),
        busy: busy.as_secs_f64(),
        spinning: spinning.as_secs_f64(),
        lifetime: lifetime.as_secs_f64(),
        counters: counters.into(),
        packets: counters.egress.packets.get() + counters.ingress.packets.get(),
    }
}
