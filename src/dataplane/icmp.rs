//! ICMP errors about packets that cannot be carried, rate-limited.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::packet::icmp::{self, ErrorKind};
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

/// Errors in one burst.
const BURST: u32 = 50;
/// Time after which one further error is allowed: 100 per second, a tenth of the kernel's own
/// `icmp_msgs_per_sec`.
const INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_never_in_the_own_subnet() {
        let network: Cidr = "10.0.0.0/16".parse().unwrap();
        let source = |subnet: &str| local_source(network, subnet.parse().unwrap()).to_string();
        assert_eq!(source("10.0.7.0/24"), "10.0.0.0");
        assert_eq!(source("10.0.0.0/24"), "10.0.255.255");
        assert_eq!(source("10.0.255.0/24"), "10.0.0.0");
    }
}
