//! Values of flags that several commands take and flannel does not have.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::go_values::go_int_in;
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

/// Parses an IP address of either family.
///
/// # Errors
/// A sentence for the user.
pub fn ip_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "must be an IP address such as 127.0.0.1 or 0.0.0.0".into())
}

/// Parses an address and a port.
///
/// # Errors
/// A sentence for the user. A port alone is refused, because it does not say who may connect.
pub fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let port: u16 = text.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(9285);
        format!(
            "must be an address and a port, such as 127.0.0.1:{port} for this host only, or \
             0.0.0.0:{port}"
        )
    })
}

/// Parses a time in seconds, whole or not, of at least a millisecond.
///
/// # Errors
/// A sentence for the user.
pub fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.001..=1e9).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("must be a time in seconds, such as 10 or 0.5".into()),
    }
}

/// Parses a time of up to a second in microseconds: an integer, or a number with the unit us, ms or s.
///
/// # Errors
/// A sentence for the user.
pub fn spin_microseconds(text: &str) -> Result<i64, String> {
    const SECOND: i64 = 1_000_000;
    let units = [("us", 1.0), ("\u{b5}s", 1.0), ("\u{3bc}s", 1.0), ("ms", 1e3), ("s", 1e6)];
    let with_unit = units.iter().find_map(|(unit, scale)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some((number * scale).round())
    });
    match with_unit {
        Some(time) if (0.0..=SECOND as f64).contains(&time) => Ok(time as i64),
        Some(_) => Err("out of range: must be 0 to 1s".into()),
        None => go_int_in::<0, SECOND>(text).map_err(|error| {
            format!("{error}: microseconds, or a time with a unit such as 50us or 1ms")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_microseconds_or_have_a_unit() {
        for (text, time) in
            [("0", 0), ("100", 100), ("50us", 50), ("1ms", 1000), ("0.5ms", 500), ("1s", 1_000_000)]
        {
            assert_eq!(spin_microseconds(text), Ok(time), "{text}");
        }
        for text in ["", "ms", "1m", "-1ms", "2s", "1000001", "nans", "infs", "1e300s"] {
            assert!(spin_microseconds(text).is_err(), "{text}");
        }
        assert!(spin_microseconds("fast").unwrap_err().contains("such as 50us or 1ms"));
    }

    #[test]
    fn an_address_without_its_other_half_is_refused_with_an_example() {
        for (text, example) in [
            ("9285", "127.0.0.1:9285 "),
            (":9100", "127.0.0.1:9100 "),
            ("localhost:80", "127.0.0.1:80 "),
            ("127.0.0.1", "127.0.0.1:9285 "),
            ("99999", "127.0.0.1:9285 "),
        ] {
            let error = socket_address(text).unwrap_err();
            assert!(error.contains(example), "{text}: {error}");
        }
        assert!(socket_address("[::1]:9285").is_ok());
    }
}
