//! `batch`: several messages per system call.

use std::net::UdpSocket;

use super::{Description, Probe, refused};
use crate::sys::mmsg;

/// Never lost at run time.
pub(super) const BATCH: Description = Description {
    name: "batch",
    uses: "`sendmmsg`, `recvmmsg`",
    since: None,
    without: "one packet per system call of the socket",
    requires: &[],
    probe: Probe::Sockets(probe),
};

fn probe(sockets: &[UdpSocket]) -> Result<(), String> {
    let mut sockets = sockets.iter().take(1);
    sockets.try_for_each(mmsg::probe).map_err(|error| refused("sendmmsg, recvmmsg", &error))
}
