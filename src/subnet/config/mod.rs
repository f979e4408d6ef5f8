//! The network config that operators keep under `<prefix>/config`.
//!
//! Rules, defaults and messages are those of flannel (`pkg/subnet/config.go`): an operator who
//! searches for a message finds the answers that exist. Where flannel panics, or fails later with
//! an unclear message, the check is here and says what to do.
//!
//! The document is read as Go's `encoding/json` reads it into flannel's struct: a key matches
//! without regard to case, the last of a repeated key counts, unknown keys are ignored, `null`
//! changes nothing, and bytes that are not UTF-8 become U+FFFD. Only the message for text that is not
//! JSON is this program's own: it gives the line and the column.

use std::net::Ipv4Addr;

use serde_json::Value;

use super::json::{Members, NotAnObject};
use crate::packet::wire;
use crate::route::{Cidr, ipv4};

/// The overlay network as the operator configured it, checked and with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The whole overlay network.
    pub network: Cidr,
    /// Prefix length of every host's subnet.
    pub subnet_len: u8,
    /// First subnet that hosts may lease.
    pub subnet_min: Ipv4Addr,
    /// Last subnet that hosts may lease.
    pub subnet_max: Ipv4Addr,
    /// UDP port of every host, `Backend.Port`.
    pub port: u16,
    /// Whether firewall rules are written to nftables, `EnableNFTables`.
    pub enable_nftables: bool,
    /// The keys of the config that ask for an IPv6 overlay, which this program does not support;
    /// none unless IPv6 is enabled.
    pub not_carried: Vec<&'static str>,
}

impl NetworkConfig {
    /// Reads and checks a config.
    ///
    /// # Errors
    /// The first mistake: text that is not JSON with its line and column, anything else in
    /// flannel's words where flannel has a message for it.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let fields =
            Members::parse(&String::from_utf8_lossy(text)).map_err(|error| match error {
                NotAnObject::Syntax(error) => {
                    ConfigError::wait(format!("it is not valid JSON: {error}"))
                }
                NotAnObject::Other(other) => type_error(&other, "Go value of type subnet.Config"),
            })?;
        let raw = RawConfig::read(&fields)?;
        let backend = RawBackend::read(&fields)?;
        raw.check(&backend)
    }

    /// The subnets that hosts may lease, in ascending order.
    pub fn subnets(&self) -> impl Iterator<Item = Cidr> + use<> {
        let (min, max) = (u64::from(self.subnet_min.to_bits()), self.subnet_max.to_bits().into());
        let len = self.subnet_len;
        let step = 1usize << (32 - len);
        (min..=max)
            .step_by(step)
            .map(move |address| Cidr::new(Ipv4Addr::from_bits(address as u32), len))
    }

    /// Whether hosts may lease `subnet`.
    pub fn may_lease(&self, subnet: Cidr) -> bool {
        subnet.len() == self.subnet_len
            && (self.subnet_min..=self.subnet_max).contains(&subnet.network())
    }
}

/// The first mistake in a config.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ConfigError {
    text: String,
    fatal: bool,
}

impl ConfigError {
    /// Whether the daemon ends instead of waiting for a corrected config: the cases in which
    /// flannel exits at once.
    pub fn is_fatal(&self) -> bool {
        self.fatal
    }

    fn wait(text: impl Into<String>) -> Self {
        Self { text: text.into(), fatal: false }
    }

    fn fatal(text: impl Into<String>) -> Self {
        Self { text: text.into(), fatal: true }
    }
}

/// The fields as written, with their types checked.
struct RawConfig {
    ipv4: bool,
    ipv6: bool,
    nftables: bool,
    network: Option<Cidr>,
    subnet_min: Option<Ipv4Addr>,
    subnet_max: Option<Ipv4Addr>,
    subnet_len: u64,
    has_ipv6_network: bool,
    ipv6_keys: Vec<&'static str>,
}

impl RawConfig {
    fn read(fields: &Members) -> Result<Self, ConfigError> {
        Ok(Self {
            ipv4: boolean(fields, "EnableIPv4")?.unwrap_or(true),
            ipv6: boolean(fields, "EnableIPv6")?.unwrap_or(false),
            nftables: boolean(fields, "EnableNFTables")?.unwrap_or(false),
            network: last(fields, "Network", network)?,
            subnet_min: last(fields, "SubnetMin", address)?,
            subnet_max: last(fields, "SubnetMax", address)?,
            subnet_len: unsigned(fields, "SubnetLen")?,
            ipv6_keys: IPV6_KEYS
                .into_iter()
                .filter(|key| fields.last_text(key).is_some())
                .collect(),
            has_ipv6_network: fields.values("IPv6Network").last().is_some_and(|v| !v.is_null()),
        })
    }

    /// Checks the fields in flannel's order, and fills in flannel's defaults.
    fn check(self, backend: &RawBackend) -> Result<NetworkConfig, ConfigError> {
        if !self.ipv4 {
            return Err(match (self.ipv6, self.has_ipv6_network) {
                (false, _) => ConfigError::fatal("none defined stack"),
                (true, false) => ConfigError::wait(NO_IPV6_NETWORK),
                (true, true) => ConfigError::fatal(
                    "EnableIPv4 is false: the udp backend carries IPv4 only; \
                     set EnableIPv4 and an IPv4 Network",
                ),
            });
        }
        let network = self
            .network
            .filter(|&network| network != Cidr::new(Ipv4Addr::UNSPECIFIED, 0))
            .ok_or_else(|| {
                ConfigError::wait("please define a correct Network parameter in the flannel config")
            })?;
        if let Some((reserved, what)) = RESERVED.iter().find(|(r, _)| r.overlaps(network)) {
            return Err(ConfigError::wait(format!(
                "Network {network} cannot be used: {reserved} is reserved for {what}"
            )));
        }
        let subnet_len = subnet_len(network, self.subnet_len)?;
        let size = 1u32 << (32 - subnet_len);
        let check = |name: &str, value: Option<Ipv4Addr>, default: u32| {
            let value = match value {
                None | Some(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::from_bits(default),
                Some(value) if network.contains(value) => value,
                Some(_) => {
                    return Err(ConfigError::wait(format!(
                        "{name} is not in the range of the Network"
                    )));
                }
            };
            if value.to_bits() % size != 0 {
                return Err(ConfigError::wait(format!(
                    "{name} is not on a SubnetLen boundary: {value}"
                )));
            }
            Ok(value)
        };
        // The first subnet is not leased, because its first address is the network's own address.
        let first = network.network().to_bits() + size;
        let last = network.last().to_bits() - (size - 1);
        let subnet_min = check("SubnetMin", self.subnet_min, first)?;
        let subnet_max = check("SubnetMax", self.subnet_max, last)?;
        if self.ipv6 && !self.has_ipv6_network {
            return Err(ConfigError::wait(NO_IPV6_NETWORK));
        }
        Ok(NetworkConfig {
            network,
            subnet_len,
            subnet_min,
            subnet_max,
            port: backend.port()?,
            enable_nftables: self.nftables,
            not_carried: if self.ipv6 { self.ipv6_keys } else { Vec::new() },
        })
    }
}

/// The prefix length of subnets, by flannel's rules; `given` is 0 if the config has none.
fn subnet_len(network: Cidr, given: u64) -> Result<u8, ConfigError> {
    let text = match given {
        0 if network.len() > 28 => "network is too small. Minimum useful network prefix is /28",
        0 if network.len() <= 22 => return Ok(24),
        0 => return Ok(network.len() + 2),
        31.. => "SubnetLen must be less than /31",
        len if len < u64::from(network.len()) + 2 => {
            "network must be able to accommodate at least four subnets"
        }
        len => return Ok(len as u8),
    };
    Err(ConfigError::wait(text))
}

/// The `Backend` property: the type is checked, the port is not yet.
struct RawBackend {
    ports: Vec<Value>,
}

impl RawBackend {
    fn read(fields: &Members) -> Result<Self, ConfigError> {
        // An absent Backend means udp; a Backend without a type is an error in flannel.
        let Some(backend) = fields.last_text("Backend") else { return Ok(Self { ports: vec![] }) };
        let context = |error| {
            ConfigError::wait(format!("error decoding Backend property of config: {error}"))
        };
        let fields = Members::parse(backend).map_err(|error| match error {
            NotAnObject::Syntax(error) => context(error.to_string()),
            NotAnObject::Other(other) => {
                context(type_error(&other, "Go value of type struct { Type string }").text)
            }
        })?;
        let kind = last_given(&fields, "Type", |value| match value {
            Value::String(kind) => Ok(kind.to_lowercase()),
            other => Err(context(type_error(other, "Go struct field .Type of type string").text)),
        });
        let kind = kind?.unwrap_or_default();
        if kind != "udp" {
            return Err(ConfigError::fatal(format!("unknown backend type: {kind}")));
        }
        Ok(Self { ports: fields.values("Port").filter(|port| !port.is_null()).collect() })
    }

    fn port(&self) -> Result<u16, ConfigError> {
        let mut number = None;
        for port in &self.ports {
            let Value::Number(port) = port else {
                let error = type_error(port, "Go struct field .Port of type int");
                return Err(ConfigError::fatal(format!(
                    "error decoding UDP backend config: {error}"
                )));
            };
            number = Some(port);
        }
        let Some(number) = number else { return Ok(wire::DEFAULT_PORT) };
        match number.as_u64() {
            Some(port @ 1..=65_535) => Ok(port as u16),
            _ => Err(ConfigError::fatal(format!(
                "Backend.Port {number} is not a UDP port; use a number from 1 to 65535"
            ))),
        }
    }
}

/// The last value of a key, if every value can be read.
fn last<T>(
    fields: &Members,
    name: &str,
    read: impl Fn(&Value) -> Result<T, ConfigError>,
) -> Result<Option<T>, ConfigError> {
    fields.values(name).try_fold(None, |_, value| read(&value).map(Some))
}

/// As [`last`]; `null` leaves an earlier value as it is.
fn last_given<T>(
    fields: &Members,
    name: &str,
    read: impl Fn(&Value) -> Result<T, ConfigError>,
) -> Result<Option<T>, ConfigError> {
    let mut given = fields.values(name).filter(|value| !value.is_null());
    given.try_fold(None, |_, value| read(&value).map(Some))
}

fn boolean(fields: &Members, name: &str) -> Result<Option<bool>, ConfigError> {
    last_given(fields, name, |value| {
        let target = || format!("Go struct field Config.{name} of type bool");
        value.as_bool().ok_or_else(|| type_error(value, &target()))
    })
}

fn unsigned(fields: &Members, name: &str) -> Result<u64, ConfigError> {
    let number = last_given(fields, name, |value| {
        let target = || format!("Go struct field Config.{name} of type uint");
        value.as_u64().ok_or_else(|| type_error(value, &target()))
    })?;
    Ok(number.unwrap_or(0))
}

/// The text that flannel's own unmarshallers receive: the JSON without its quotes
/// (`pkg/ip/ipnet.go`).
fn bare(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn network(value: &Value) -> Result<Cidr, ConfigError> {
    let text = bare(value);
    if let Ok(cidr) = text.parse() {
        return Ok(cidr);
    }
    let is_v6 = text.split_once('/').is_some_and(|(address, len)| {
        address.parse::<std::net::Ipv6Addr>().is_ok() && len.parse::<u8>().is_ok_and(|l| l <= 128)
    });
    Err(ConfigError::wait(if is_v6 {
        format!("Network {text} is IPv6: the udp backend carries IPv4 only; use an IPv4 network")
    } else {
        format!("invalid CIDR address: {text}")
    }))
}

fn address(value: &Value) -> Result<Ipv4Addr, ConfigError> {
    ipv4(&bare(value)).ok_or_else(|| ConfigError::wait("Invalid IP address format"))
}

fn type_error(value: &Value, target: &str) -> ConfigError {
    let what = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        // Go names the number where it does not fit a numeric type.
        Value::Number(number) if target.ends_with("int") => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    ConfigError::wait(format!("json: cannot unmarshal {what} into {target}"))
}

/// The keys of a dual-stack config (`pkg/subnet/config.go`).
const IPV6_KEYS: [&str; 5] =
    ["EnableIPv6", "IPv6Network", "IPv6SubnetLen", "IPv6SubnetMin", "IPv6SubnetMax"];
/// Prefixes that are no networks of hosts: RFC 1122 section 3.2.1.3, RFC 3927, RFC 5771.
const RESERVED: [(Cidr, &str); 3] = [
    (Cidr::new(Ipv4Addr::new(127, 0, 0, 0), 8), "loopback"),
    (Cidr::new(Ipv4Addr::new(169, 254, 0, 0), 16), "link-local addresses"),
    (Cidr::new(Ipv4Addr::new(224, 0, 0, 0), 4), "multicast"),
];

const NO_IPV6_NETWORK: &str = "please define a correct IPv6Network parameter in the flannel config";

#[cfg(test)]
mod tests;
