//! Values of flags that several commands take and flannel does not have.

use std::net::Ipv4Addr;

use crate::packet::protocol;
use crate::route::Cidr;

/// Parses the number of an IP protocol, or one of the names `tcp`, `udp` and `icmp`.
///
/// # Errors
/// A sentence for the user.
pub fn ip_protocol(text: &str) -> Result<u8, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(protocol::TCP),
        "udp" => Ok(protocol::UDP),
        "icmp" => Ok(protocol::ICMP),
        number => number.parse().map_err(|_| "must be tcp, udp, icmp or a number up to 255".into()),
    }
}

/// Parses an IPv4 prefix; a plain address is the prefix of 32 bits.
///
/// # Errors
/// A sentence for the user.
pub fn address_or_prefix(text: &str) -> Result<Cidr, String> {
    match text.parse::<Ipv4Addr>() {
        Ok(address) => Ok(Cidr::new(address, 32)),
        Err(_) => text
            .parse()
            .map_err(|_| "must be an IPv4 address or a prefix such as 10.0.7.0/24".into()),
    }
}
