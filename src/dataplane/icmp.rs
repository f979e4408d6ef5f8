//! ICMP errors about packets that cannot be carried, rate-limited.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::packet::icmp::{self, ErrorKind};
use crate::packet::wire;
use crate::route::Cidr;

/// Makes the errors of one direction in one thread.
pub(super) struct IcmpErrors {
    source: Ipv4Addr,
    tokens: u32,
    refilled: Instant,
    packet: [u8; icmp::MAX_LEN],
}

/// The answer to a packet whose sender is to get an error.
pub(super) enum Reply<'a> {
    /// Send this.
    Error(&'a [u8]),
    /// RFC 1812 forbids one.
    Forbidden,
    /// The rate limit holds it back.
    Limited,
}

impl IcmpErrors {
    pub(super) fn new(source: Ipv4Addr) -> Self {
        Self { source, tokens: BURST, refilled: Instant::now(), packet: [0; icmp::MAX_LEN] }
    }

    pub(super) fn reply(&mut self, kind: ErrorKind, offender: &[u8]) -> Reply<'_> {
        if self.tokens == 0 {
            let refill = self.refilled.elapsed().as_micros() / INTERVAL.as_micros();
            if refill == 0 {
                return Reply::Limited;
            }
            self.tokens = u32::try_from(refill).unwrap_or(BURST).min(BURST);
            self.refilled = Instant::now();
        }
        match icmp::error(kind, offender, self.source, &mut self.packet) {
            Some(len) => {
                self.tokens -= 1;
                Reply::Error(&self.packet[..len])
            }
            None => Reply::Forbidden,
        }
    }
}

/// The source of errors that this host's own kernel must accept.
///
/// The kernel discards a packet whose source is one of its own addresses (`fib_validate_source`), as
/// that of stock flannel's errors is, and one whose source it does not reach through the device. The
/// network address of the overlay belongs to no host and is routed to the device, unless it is in this
/// host's subnet, which the container bridge has: then it is the overlay's last address.
pub(super) fn local_source(network: Cidr, subnet: Cidr) -> Ipv4Addr {
    if subnet.contains(network.network()) { network.last() } else { network.network() }
}

/// An MTU for a path that did not take a packet of `len` bytes: the next smaller one of the plateaus of
/// RFC 1191 §7.1, less the outer headers.
pub(super) fn mtu_below(len: usize) -> u16 {
    let fits = |plateau: &u16| usize::from(*plateau) < len + wire::OVERHEAD;
    PLATEAUS.into_iter().find(fits).unwrap_or(LEAST) - wire::OVERHEAD as u16
}

/// The MTUs of common links, in bytes.
const PLATEAUS: [u16; 10] = [65_535, 32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296];
/// What every link carries, RFC 791, and the outer headers.
const LEAST: u16 = 68 + wire::OVERHEAD as u16;
/// Errors in one burst.
const BURST: u32 = 50;
/// Time after which one further error is allowed: 100 per second, a tenth of the kernel's own
/// `icmp_msgs_per_sec`.
const INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_takes_no_packet_of_a_length_takes_a_shorter_one() {
        let tried = [65_507, 8_972, 1_472, 1_464, 978, 268, 96].map(mtu_below);
        assert_eq!(tried, [31_972, 8_138, 1_464, 978, 480, 68, 68]);
    }

    #[test]
    fn the_source_is_never_in_the_own_subnet() {
        let network: Cidr = "10.0.0.0/16".parse().unwrap();
        let source = |subnet: &str| local_source(network, subnet.parse().unwrap()).to_string();
        assert_eq!(source("10.0.7.0/24"), "10.0.0.0");
        assert_eq!(source("10.0.0.0/24"), "10.0.255.255");
        assert_eq!(source("10.0.255.0/24"), "10.0.0.0");
    }
}
