//! The data plane of a node: its configuration, its start and its end.

use std::net::SocketAddrV4;
use std::thread::available_parallelism;

use super::Node;
use crate::daemon::Workers;
use crate::dataplane::{self, Dataplane, StartError, ThreadInit, Threads};
use crate::exit::{Code, Exit};
use crate::host::ports::{self, Transport};
use crate::observe::warnings::{Condition, WarningKind};
use crate::packet::wire;

impl Node<'_> {
    pub(super) fn stop_plane(&mut self) {
        self.sample();
        if let Some(plane) = self.plane.take() {
            tracing::debug!("stopping the packet threads");
            self.past += &plane.stop();
        }
    }

    /// Checks that no other process uses the TUN device: the kernel would add the queues of this one to it.
    pub(super) async fn check_device_is_free(&self) -> Result<(), Exit> {
        let links = self.netlink.links().await;
        let links = links.map_err(|error| Exit::new(Code::System, error.to_string()))?;
        if links.iter().any(|link| link.name == self.tun_name && link.carrier) {
            let name = &self.tun_name;
            return Err(Exit::new(
                Code::Tun,
                format!(
                    "the TUN device {name} is in use by another daemon on this host: give each its own name \
                     with --tun-name, or omit the flag"
                ),
            ));
        }
        Ok(())
    }

    pub(super) fn start_plane(&mut self) -> Result<(), Exit> {
        let config = self.plane_config();
        let plane = Dataplane::start(&config, &self.peers).map_err(start_exit)?;
        self.tun_name = plane.tun_name().to_owned();
        for feature in plane.features() {
            let used = if feature.on { "in use" } else { "not used" };
            let (feature, why) = (&*feature.name, feature.why.as_deref());
            tracing::debug!(kind = "offload", feature, why, "kernel feature {used}");
        }
        let lost: Vec<_> = plane.features().into_iter().filter(|feature| !feature.on).collect();
        tracing::info!(
            device = %self.tun_name,
            address = %config.address,
            mtu = config.mtu.get(),
            workers = config.workers,
            without = ?lost.iter().map(|feature| &feature.name).collect::<Vec<_>>(),
            "forwarding packets on UDP {}", config.bind
        );
        let steering = plane.steering_lost().map(|lost| Condition {
            text: lost.to_owned(),
            remedy: Some("start the daemon with CAP_BPF, on Linux 4.16 or later".into()),
        });
        let steered = if steering.is_some() { "not steered" } else { "steered" };
        tracing::debug!(
            kind = "offload",
            "packets are {steered} to the queues of {}",
            self.tun_name
        );
        self.warnings.set(WarningKind::Steering, steering.into_iter().collect());
        plane.set_routes_stale(self.routes_stale);
        plane.follow_route_mtu(self.has_route_mtu);
        self.plane = Some(plane);
        Ok(())
    }

    pub(in crate::daemon) fn plane_config(&self) -> dataplane::Config {
        let cores = available_parallelism().map_or(1, usize::from);
        dataplane::Config {
            // A device that is created again keeps its name.
            tun_name: self.tun_name.clone(),
            address: self.subnet.network(),
            network: self.network,
            subnet: self.subnet,
            mtu: self.mtu().into(),
            bind: SocketAddrV4::new(self.interface.address, self.port),
            outer_tos: self.options.outer_tos,
            workers: match self.options.workers {
                Workers::Auto => default_workers(cores),
                Workers::Count(count) => count.into(),
            },
            threads: match self.options.worker_threads {
                // Without offloads this is the loop of stock flannel, which has one thread.
                Threads::Auto if cores == 1 || self.options.offload.profile().is_stock() => {
                    Threads::One
                }
                threads => threads,
            },
            offloads: self.options.offload,
            spin: self.options.spin_time(),
            source_check: self.options.source_check,
            destination_check: self.options.destination_check,
            tap: self.captures.tap(),
            on_thread_start: {
                let worker = self.confined.worker.clone();
                ThreadInit::new(move || worker.enter())
            },
        }
    }

    /// The MTU of the TUN device in bytes: the longest inner packet that fits the underlay interface's MTU.
    pub(super) fn mtu(&self) -> u16 {
        wire::overlay_mtu(self.interface.mtu)
    }
}

/// One worker per two cores, because a worker is a pair of threads.
fn default_workers(cores: usize) -> usize {
    (cores / 2).clamp(1, MAX_DEFAULT_WORKERS)
}

/// The end of a daemon whose data plane cannot start.
pub(in crate::daemon) fn start_exit(error: StartError) -> Exit {
    let code = match &error {
        StartError::NoTunPermission { .. }
        | StartError::NoTunAccess(_)
        | StartError::TunForbidden(_) => Code::Permission,
        StartError::NoTunDevice(_) | StartError::NoTunNode(_) | StartError::Tun { .. } => Code::Tun,
        _ => Code::System,
    };
    let holder = match &error {
        StartError::Bind { address, error } => ports::holder(error, Transport::Udp, address.port()),
        _ => String::new(),
    };
    Exit::new(code, format!("{error}{holder}"))
}

/// Most workers by default: more of them need more flows than most hosts have.
const MAX_DEFAULT_WORKERS: usize = 8;
