//! Opening the TUN device and the sockets, and asking the kernel for each feature.

use std::net::UdpSocket;
use std::time::Duration;

use super::agreement::{Agreement, Feature};
use super::config::{Config, Offloads};
use super::plane::StartError;
use crate::sys::tun::{self, Offload, TunQueue};
use crate::sys::{mmsg, steering, udp};

/// The TUN device, configured and up.
pub(super) struct Device {
    pub(super) name: String,
    pub(super) queues: Vec<TunQueue>,
}

/// Packets that the TUN device holds for a worker that is late. The kernel's default of 500 is
/// short for bursts of small packets.
const TX_QUEUE_LEN: u16 = 1_000;

/// How long a send waits for room in the socket's buffer before its packets are dropped.
const SEND_TIMEOUT: Duration = Duration::from_millis(20);

/// Opens the device with one queue a worker, gives it its address and MTU, and brings it up.
pub(super) fn open(config: &Config, agreement: &Agreement) -> Result<Device, StartError> {
    let multi_queue = config.workers > 1;
    let attach = |name: &str| TunQueue::attach(name, multi_queue, agreement.has(Feature::Vnet));
    let (first, name) = match attach(&config.tun_name) {
        // Kernels before 3.8 know no queues, others may know no virtio header.
        Err(error)
            if error.raw_os_error() == Some(libc::EINVAL) && agreement.has(Feature::Vnet) =>
        {
            agreement.lose(Feature::Vnet, format!("TUNSETIFF: {error}"));
            attach(&config.tun_name)
        }
        other => other,
    }
    .map_err(|error| StartError::tun(&config.tun_name, error))?;
    negotiate(&first, agreement);
    if multi_queue && let Err(error) = steering::by_header(&first) {
        tracing::info!(
            "the kernel chooses the queue of each packet by itself ({error}): a flow may change its \
             queue, and its order, once when its first answer comes"
        );
    }
    let mut queues = vec![first];
    for _ in 1..config.workers {
        queues.push(attach(&name).map_err(|error| StartError::tun(&name, error))?.0);
    }
    tun::configure(&queues[0], &name, config.address, config.mtu)
        .map_err(|error| StartError::Configure { name: name.clone(), error })?;
    if config.offloads != Offloads::OFF
        && let Err(error) = tun::set_tx_queue_len(&name, TX_QUEUE_LEN)
    {
        tracing::debug!(%name, %error, "the queue length of the TUN device stays as it is");
    }
    Ok(Device { name, queues })
}

/// A socket for each worker, all on one address and port.
pub(super) fn bind(config: &Config, agreement: &Agreement) -> Result<Vec<UdpSocket>, StartError> {
    let shared = config.workers > 1;
    // Sockets that share would share with another daemon's too, which one that does not finds out.
    let sockets = udp::bind(config.bind, false)
        .and_then(|alone| match shared {
            false => Ok(vec![alone]),
            true => {
                drop(alone);
                (0..config.workers).map(|_| udp::bind(config.bind, true)).collect()
            }
        })
        .and_then(|sockets: Vec<_>| {
            sockets.iter().try_for_each(|socket| socket.set_write_timeout(Some(SEND_TIMEOUT)))?;
            // Without offloads this is the loop of stock flannel, whose buffers are the kernel's own.
            if config.offloads != Offloads::OFF {
                sockets.iter().for_each(udp::grow_buffers);
            }
            Ok(sockets)
        })
        .map_err(|error| StartError::Bind { address: config.bind, error })?;
    if agreement.has(Feature::Batch)
        && let Err(error) = mmsg::probe(&sockets[0])
    {
        agreement.lose(Feature::Batch, format!("sendmmsg, recvmmsg: {error}"));
    }
    if agreement.has(Feature::Gso) && !udp::has_segment(&sockets[0]) {
        agreement.lose(Feature::Gso, "the kernel has no UDP_SEGMENT");
    }
    if agreement.has(Feature::Gro)
        && let Err(error) = sockets.iter().try_for_each(|socket| udp::set_gro(socket, true))
    {
        agreement.lose(Feature::Gro, format!("UDP_GRO: {error}"));
    }
    Ok(sockets)
}

/// Asks for as much of `TUNSETOFFLOAD` as the kernel knows.
fn negotiate(queue: &TunQueue, agreement: &Agreement) {
    if !agreement.has(Feature::Vnet) {
        for feature in [Feature::Uso, Feature::TcpCoalesce, Feature::UdpCoalesce] {
            agreement.lose(feature, "needs vnet");
        }
        return;
    }
    let mut offload = Offload { csum: true, tso: true, uso: agreement.has(Feature::Uso) };
    if offload.uso
        && let Err(error) = queue.set_offload(offload)
    {
        agreement.lose(Feature::Uso, format!("TUNSETOFFLOAD: {error}"));
        // One kernel release brought both directions of UDP segmentation to TUN.
        agreement.lose(Feature::UdpCoalesce, "needs a kernel with uso");
        offload.uso = false;
    }
    if !offload.uso
        && let Err(error) = queue.set_offload(offload)
    {
        // The header stays: packets come whole and with complete checksums.
        tracing::warn!(%error, "the TUN device hands over no super-packets");
    }
}
