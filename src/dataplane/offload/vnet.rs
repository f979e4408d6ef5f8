//! `vnet`: a `virtio_net_hdr` before each packet of the TUN device.

use super::{Description, Probe};
use crate::sys::tun::{Offload, TunQueue};

/// Never lost at run time: the device has the header for as long as it exists.
pub(super) const VNET: Description = Description {
    name: "vnet",
    uses: "`IFF_VNET_HDR`, `TUNSETOFFLOAD`",
    since: None,
    without: "one packet per system call on the TUN device, no coalescing: TCP is several times slower, as \
              with stock flannel",
    requires: &[],
    probe: Probe::Attach(allow_super_packets),
};

/// Allows the kernel to hand over TCP super-packets and partial checksums.
fn allow_super_packets(queue: &TunQueue) {
    let offload = Offload { csum: true, tso: true, uso: false };
    if let Err(error) = queue.set_offload(offload) {
        // The header stays: packets come whole and with complete checksums.
        tracing::warn!(%error, "the TUN device delivers no super-packets");
    }
}
