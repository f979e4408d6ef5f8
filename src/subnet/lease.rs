//! A lease in flannel's format: the name of its key, and its value.
//!
//! Values are written byte for byte as stock flanneld v0.21 writes them for `udp`. They are read as
//! tolerantly as flanneld reads them, because all hosts of a mixed cluster must agree on the holder
//! of each subnet.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::json::{Members, NotAnObject};
use crate::route::{Cidr, ipv4};

/// The last part of a lease's key, such as `10.0.20.0-24`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LeaseKey {
    /// The leased subnet.
    pub subnet: Cidr,
    /// The IPv6 half of a dual-stack key: address and prefix length.
    pub v6: Option<(Ipv6Addr, u8)>,
}

impl LeaseKey {
    /// The key of a plain IPv4 lease.
    pub fn new(subnet: Cidr) -> Self {
        Self { subnet, v6: None }
    }
}

impl fmt::Display for LeaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.subnet.network(), self.subnet.len())?;
        match self.v6 {
            Some((address, len)) => write!(f, "&{address}-{len}"),
            None => Ok(()),
        }
    }
}

/// Why an entry under `subnets/` is not a lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotALease {
    /// The name is not `<address>-<length>`.
    #[error("its name is not of the form 10.0.20.0-24")]
    Name,
    /// The prefix length leaves no room for a host, or is not a prefix length.
    #[error("/{0} is not a valid subnet length")]
    Length(String),
    /// The value is not a JSON object.
    #[error("its value is not a JSON object: {0}")]
    Json(String),
    /// The value has no usable public IP.
    #[error("its value has no usable PublicIP: {0}")]
    PublicIp(String),
}

impl FromStr for LeaseKey {
    type Err = NotALease;

    /// Reads a name as flannel's `ParseSubnetKey` does: host bits are cleared, text before the
    /// address is skipped, lengths of five bits only.
    fn from_str(name: &str) -> Result<Self, NotALease> {
        let parts = SUBNET_KEY.captures(name).ok_or(NotALease::Name)?;
        let address: Ipv4Addr = parts[1].parse().map_err(|_| NotALease::Name)?;
        let len = length(&parts[2], MAX_V4_LEN)?;
        let v6 = match (parts.get(3), parts.get(4)) {
            (Some(address), Some(len)) => Some((
                address.as_str().parse().map_err(|_| NotALease::Name)?,
                length(len.as_str(), MAX_V6_LEN)?,
            )),
            _ => None,
        };
        Ok(Self { subnet: Cidr::new(address, len), v6 })
    }
}

fn length(text: &str, max: u8) -> Result<u8, NotALease> {
    match text.parse() {
        Ok(len) if len <= max => Ok(len),
        _ => Err(NotALease::Length(text.to_owned())),
    }
}

/// The value of a lease.
#[derive(Clone, PartialEq, Debug)]
pub struct LeaseValue {
    /// The address to which packets for the host are sent.
    pub public_ip: Ipv4Addr,
    /// The host's IPv6 address, in a dual-stack network.
    pub public_ipv6: Option<Ipv6Addr>,
    /// The host's backend; flannel's udp backend writes none.
    pub backend_type: Option<String>,
    /// The backend's own data; flannel's udp backend writes none.
    pub backend_data: Option<Value>,
}

impl LeaseValue {
    /// The value of a host with the udp backend.
    pub fn new(public_ip: Ipv4Addr) -> Self {
        Self { public_ip, public_ipv6: None, backend_type: None, backend_data: None }
    }

    /// The bytes that stock flanneld writes for a host with the udp backend.
    pub fn encode(&self) -> Vec<u8> {
        let v6 = self.public_ipv6.map_or("null".to_owned(), |address| format!("\"{address}\""));
        format!(r#"{{"PublicIP":"{}","PublicIPv6":{v6}}}"#, self.public_ip).into_bytes()
    }

    /// Reads a value that any backend of any version of flannel wrote.
    ///
    /// # Errors
    /// Text that is not a JSON object, or an object without a unicast `PublicIP`.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotALease> {
        let members =
            Members::parse(&String::from_utf8_lossy(bytes)).map_err(|error| match error {
                NotAnObject::Syntax(error) => NotALease::Json(error.to_string()),
                NotAnObject::Other(value) => NotALease::Json(format!("it is {}", brief(&value))),
            })?;
        // flannel reads every occurrence, so each has to be an address.
        let mut public_ip = Err(NotALease::PublicIp("it is missing".to_owned()));
        for value in members.values("PublicIP") {
            let Value::String(text) = &value else {
                return Err(NotALease::PublicIp(format!("it is {}", brief(&value))));
            };
            public_ip = Ok(unicast(text).ok_or_else(|| NotALease::PublicIp(brief(&value)))?);
        }
        let public_ip = public_ip?;
        let public_ipv6 = members.values("PublicIPv6").last();
        let public_ipv6 = public_ipv6.and_then(|value| value.as_str()?.parse().ok());
        let backend_type = members.values("BackendType").filter_map(|value| match value {
            Value::String(kind) => Some(kind),
            _ => None,
        });
        let backend_type = backend_type.last().filter(|kind| !kind.is_empty());
        let backend_data = members.values("BackendData").last().filter(|data| !data.is_null());
        Ok(Self { public_ip, public_ipv6, backend_type, backend_data })
    }

    /// Whether the host runs the udp backend, which writes no type in flannel: no type means udp.
    pub fn is_udp(&self) -> bool {
        self.backend_type.as_deref().is_none_or(|kind| kind.eq_ignore_ascii_case("udp"))
    }
}

/// A unicast address.
fn unicast(text: &str) -> Option<Ipv4Addr> {
    let address = ipv4(text)?;
    let unusable = address.is_unspecified() || address.is_multicast() || address.is_broadcast();
    (!unusable).then_some(address)
}

/// Untrusted text, cut to fit into a log line.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// flannel's own expression (`pkg/subnet/subnet.go`), unescaped dots included.
static SUBNET_KEY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"([0-9]+\.[0-9]+.[0-9]+.[0-9]+)-([0-9]+)(?:&([a-f0-9:]+)-([0-9]+))?$")
        .expect("a constant expression")
});
/// flannel parses the length with `strconv.ParseUint(…, 10, 5)`, so a /32 is not a lease.
const MAX_V4_LEN: u8 = 31;
/// flannel parses the length with `strconv.ParseUint(…, 10, 7)`.
const MAX_V6_LEN: u8 = 127;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        for (name, subnet) in [
            ("10.0.20.0-24", "10.0.20.0/24"),
            ("10.0.5.7-24", "10.0.5.0/24"),
            ("10.0.128.0-17", "10.0.128.0/17"),
            ("10.0.5.0-24&fc00::-64", "10.0.5.0/24"),
            ("172.16.0.0-24", "172.16.0.0/24"),
            ("x10.0.5.0-24", "10.0.5.0/24"),
            ("10.0.5.0-31", "10.0.5.0/31"),
            ("10.0.5.0-024", "10.0.5.0/24"),
        ] {
            assert_eq!(name.parse::<LeaseKey>().unwrap().subnet.to_string(), subnet, "{name}");
        }
        for name in [
            "",
            "bogus",
            "10.0.5.0",
            "10.0.5.0-",
            "10.0.5.0-32",
            "10.0.5.0-99",
            "10.0.5.0-+24",
            "10.0.5.0-24 ",
            "10.0.5.0-24x",
            "10.0.5-24",
            "10.0.5.256-24",
            "10.0x5.0-24",
            "lock/x",
            "10.0.5.0-24&fc00::-128",
            "10.0.5.0-24&zz-64",
            "10.0.5.0-24\n",
            "999999999999999999999.0.0.0-24",
            "10.0.5.0-99999999999999999999",
        ] {
            assert!(name.parse::<LeaseKey>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn value_is_byte_for_byte_flannels() {
        let bytes = LeaseValue::new(Ipv4Addr::new(192, 168, 77, 11)).encode();
        assert_eq!(bytes, br#"{"PublicIP":"192.168.77.11","PublicIPv6":null}"#);
        assert_eq!(bytes.len(), 46);
        let dual = br#"{"PublicIP":"192.168.77.11","PublicIPv6":"fd00::1"}"#;
        assert_eq!(LeaseValue::decode(dual).unwrap().encode(), dual);
    }

    #[test]
    fn values() {
        let read = |text: &str| LeaseValue::decode(text.as_bytes());
        let plain = read(r#"{"PublicIP":"192.168.77.11","PublicIPv6":null}"#).unwrap();
        assert_eq!(plain, LeaseValue::new(Ipv4Addr::new(192, 168, 77, 11)));
        let rich = read(
            r#"{"publicip":"::ffff:1.2.3.4","BackendType":"vxlan","BackendData":{"VtepMAC":"x"},"z":0}"#,
        )
        .unwrap();
        assert_eq!(rich.public_ip, Ipv4Addr::new(1, 2, 3, 4));
        assert!(!rich.is_udp() && rich.backend_data.is_some());
        assert!(read(r#"{"PublicIP":"1.2.3.4","BackendType":"UDP"}"#).unwrap().is_udp());
        let twice = r#"{"PublicIP":"1.2.3.4","BackendType":"vxlan","publicIP":"5.6.7.8","backendType":"udp"}"#;
        let twice = read(twice).unwrap();
        assert!(twice.public_ip == Ipv4Addr::new(5, 6, 7, 8) && twice.is_udp(), "the last counts");
        assert!(read(r#"{"PublicIP":"1.2.3.4","BackendType":""}"#).unwrap().is_udp());
        for bad in [
            "",
            "garbage",
            "[]",
            "{}",
            "null",
            r#"{"PublicIP":"1.2.3.4","publicip":"x"}"#,
            r#"{"PublicIP":null}"#,
            r#"{"PublicIP":"x"}"#,
            r#"{"PublicIP":"0.0.0.0"}"#,
            r#"{"PublicIP":"224.0.0.1"}"#,
            r#"{"PublicIP":7}"#,
            r#"{"PublicIP":"fc00::1"}"#,
            r#"{"PublicIP":"255.255.255.255"}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let long = format!(r#"{{"PublicIP":"{}"}}"#, "é".repeat(500));
        assert!(read(&long).unwrap_err().to_string().len() < 200);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(address: u32, len in 0u8..=31, public in 1u32..0xe000_0000) {
            let key = LeaseKey::new(Cidr::new(Ipv4Addr::from_bits(address), len));
            prop_assert_eq!(key.to_string().parse::<LeaseKey>().unwrap(), key);
            let value = LeaseValue::new(Ipv4Addr::from_bits(public));
            prop_assert_eq!(LeaseValue::decode(&value.encode()).unwrap(), value);
        }

        #[test]
        fn anything_gets_an_answer(name: String, value: Vec<u8>) {
            let _ = name.parse::<LeaseKey>();
            let _ = LeaseValue::decode(&value);
        }
    }
}
