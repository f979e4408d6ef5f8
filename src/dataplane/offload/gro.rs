//! `gro`: the kernel joins datagrams of one size that arrive from one sender.

use std::net::UdpSocket;

use super::{Description, Probe, refused};
use crate::sys::udp;

/// Never lost at run time.
pub(super) const GRO: Description = Description {
    name: "gro",
    uses: "`UDP_GRO`",
    since: Some("5.0"),
    without: "one datagram per message: more CPU per packet received",
    requires: &[],
    probe: Probe::Sockets(probe),
};

fn probe(sockets: &[UdpSocket]) -> Result<(), String> {
    sockets
        .iter()
        .try_for_each(|socket| udp::set_gro(socket, true))
        .map_err(|error| refused("UDP_GRO", &error))
}
