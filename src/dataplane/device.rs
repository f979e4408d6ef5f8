//! Opening the TUN device and the sockets, and probing each feature of the kernel.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::error::StartError;
use super::offload::{self, ActiveOffloads, Feature};
use crate::sys::steering::{self, Lanes};
use crate::sys::tun::{self, TunQueue};
use crate::sys::udp;

/// The TUN device, configured, but down.
pub(super) struct Device {
    pub(super) name: String,
    /// For each worker the queues that it reads. If there are two, the second holds TCP.
    pub(super) queues: Vec<Vec<Arc<TunQueue>>>,
    /// Why the kernel does not steer packets to queues as it should, and what that costs.
    pub(super) steering_lost: Option<String>,
}

/// Packets that the TUN device queues for its reader. The kernel's default of 500 is short for bursts
/// of small packets.
const TX_QUEUE_LEN: u16 = 1_000;

/// How long a send waits for room in the socket's buffer before its packets are dropped.
const SEND_TIMEOUT: Duration = Duration::from_millis(20);

/// Opens the device and gives it its address and MTU. Each worker has two queues if the kernel can be
/// made to keep TCP in one of them, else one.
pub(super) fn open(config: &Config, offloads: &ActiveOffloads) -> Result<Device, StartError> {
    let tun_error = |error| StartError::tun(&config.tun_name, error);
    let (first, name, steering) = attach_first(config, offloads).map_err(tun_error)?;
    let (lanes, steering_lost) = match steering {
        Ok(lanes) => (lanes, None),
        Err(lost) => (None, Some(lost)),
    };
    offload::probe_queue(&first, offloads);
    let mut queues = vec![Arc::new(first)];
    let per_worker = if lanes.is_some_and(Lanes::has_pairs) { 2 } else { 1 };
    for _ in 1..config.workers * per_worker {
        let (queue, _) =
            TunQueue::attach(&name, true, offloads.has(Feature::Vnet)).map_err(tun_error)?;
        queues.push(Arc::new(queue));
    }
    tun::configure(&queues[0], &name, config.address, config.mtu.get())
        .map_err(|error| StartError::Configure { name: name.clone(), error })?;
    if !config.offloads.profile().is_stock()
        && let Err(error) = tun::set_tx_queue_len(&name, TX_QUEUE_LEN)
    {
        tracing::debug!(%name, %error, "cannot set the queue length of the TUN device");
    }
    let queues = queues.chunks(per_worker).map(<[_]>::to_vec).collect();
    Ok(Device { name, queues, steering_lost })
}

/// Creates the device, or attaches to an existing one, by its first queue. Returns how the kernel
/// selects a queue: `None` if there is one only, or why the kernel refused the steering program.
fn attach_first(
    config: &Config,
    offloads: &ActiveOffloads,
) -> io::Result<(TunQueue, String, Result<Option<Lanes>, String>)> {
    let apart = !config.offloads.profile().is_stock() && offloads.has(Feature::Batch);
    let shared = config.workers > 1;
    let attach = |several| TunQueue::attach(&config.tun_name, several, offloads.has(Feature::Vnet));
    let is_invalid = |error: &io::Error| error.raw_os_error() == Some(libc::EINVAL);
    let mut several = shared || apart;
    let mut attached = attach(several);
    if several && !shared && attached.as_ref().is_err_and(is_invalid) {
        // The device was created with one queue, or this kernel has no multi-queue devices (before 3.8).
        several = false;
        attached = attach(several);
    }
    if offloads.has(Feature::Vnet) && attached.as_ref().is_err_and(is_invalid) {
        offloads.disable(Feature::Vnet, "TUNSETIFF: the kernel or the device has no virtio header");
        attached = attach(several);
    }
    let (queue, name) = attached?;
    if !several {
        return Ok((queue, name, Ok(None)));
    }
    let lanes = match (apart, shared) {
        (true, false) => Lanes::OnePair,
        (true, true) => Lanes::TcpApart,
        (false, _) => Lanes::Mixed,
    };
    let steering = steering::by_header(&queue, lanes).map(|()| Some(lanes)).map_err(|error| {
        let cost = if shared {
            "a flow may change queues once, at its first reply, and be reordered"
        } else {
            "other packets may queue behind bulk TCP"
        };
        format!("continuing without steering packets to queues ({error}): {cost}")
    });
    Ok((queue, name, steering))
}

/// A socket for each worker, all on one address and port.
pub(super) fn bind(
    config: &Config,
    offloads: &ActiveOffloads,
) -> Result<Vec<UdpSocket>, StartError> {
    let shared = config.workers > 1;
    // Sockets with SO_REUSEPORT would share the port with those of another daemon as well; a bind without
    // it fails then.
    let sockets = udp::bind(config.bind, false)
        .and_then(|single| {
            if !shared {
                return Ok(vec![single]);
            }
            drop(single);
            (0..config.workers).map(|_| udp::bind(config.bind, true)).collect()
        })
        .and_then(|sockets: Vec<_>| {
            sockets.iter().try_for_each(|socket| socket.set_write_timeout(Some(SEND_TIMEOUT)))?;
            for socket in &sockets {
                let set = udp::set_path_mtu_discovery(socket, false);
                if let Err(error) = set.and(udp::report_fragments(socket)) {
                    tracing::debug!(
                        %error, "the kernel may fragment datagrams to a path MTU that anyone can forge"
                    );
                }
            }
            let tos = config.outer_tos.of_socket();
            if tos != 0 {
                sockets.iter().try_for_each(|socket| udp::set_tos(socket, tos))?;
            }
            if !config.offloads.profile().is_stock() {
                sockets.iter().for_each(udp::grow_buffers);
            }
            Ok(sockets)
        })
        .map_err(|error| StartError::Bind { address: config.bind, error })?;
    offload::probe_sockets(&sockets, offloads);
    Ok(sockets)
}
