//! `tcp-coalesce` and `udp-coalesce`: packets of a flow are written to the TUN device as one
//! super-packet.

use std::io;

use super::{Description, Feature, Probe};

/// Lost when the kernel refuses a joined write; the packets are then written one by one.
pub(super) const TCP: Description = Description {
    name: "tcp-coalesce",
    uses: "writing TCP super-packets to the TUN device",
    since: None,
    without: "segments are written one by one",
    requires: &[Feature::Vnet],
    probe: Probe::FirstUse,
};

/// Lost as [`TCP`] is, or when the kernel has no `uso`.
pub(super) const UDP: Description = Description {
    name: "udp-coalesce",
    uses: "writing UDP super-packets",
    since: Some("6.2"),
    without: "datagrams are written one by one",
    requires: &[Feature::Vnet],
    probe: Probe::FirstUse,
};

/// Whether a joined write that failed with `error` may succeed packet by packet: `tun_get_user` of
/// `drivers/net/tun.c` returns `EINVAL` for a `virtio_net_hdr` that it does not accept.
pub(in crate::dataplane) fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}
