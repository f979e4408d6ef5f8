//! `uso`: UDP super-packets from the TUN device.

use super::{ActiveOffloads, Description, Feature, Probe, refused};
use crate::sys::tun::{Offload, TunQueue};

/// Never lost at run time.
pub(super) const USO: Description = Description {
    name: "uso",
    uses: "`TUN_F_USO4` and `TUN_F_USO6`",
    since: Some("6.2"),
    without: "UDP passes the TUN device in single packets",
    requires: &[Feature::Vnet],
    probe: Probe::Queue(probe),
};

fn probe(queue: &TunQueue, active: &ActiveOffloads) {
    let offload = Offload { csum: true, tso: true, uso: true };
    if let Err(error) = queue.set_offload(offload) {
        active.disable(Feature::Uso, refused("TUNSETOFFLOAD", &error));
        // One kernel release brought both directions of UDP segmentation to TUN.
        active.disable(Feature::UdpCoalesce, "needs a kernel with uso");
    }
}
