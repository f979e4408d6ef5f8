//! What a capture is asked for.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::carry::Limits;
use crate::dataplane::DropReason;
use crate::dataplane::tap::{Direction, Filter, Wanted};
use crate::route::Cidr;

/// The arguments of the command `capture`. All may be missing: then every packet is captured, whole,
/// until the reader goes away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// Only packets to or from the host with this underlay address.
    pub peer: Option<Ipv4Addr>,
    /// Only inner packets to or from an address in each of these prefixes.
    pub hosts: Vec<Cidr>,
    /// Only inner packets to or from one of these ports.
    pub ports: Vec<u16>,
    /// Only inner packets of this protocol.
    pub protocol: Option<u8>,
    /// Only one direction.
    pub direction: Option<Way>,
    /// Only packets that were dropped.
    pub drops: Option<Drops>,
    /// Not as datagrams.
    pub inner_only: bool,
    /// Not at the TUN device.
    pub outer_only: bool,
    /// Bytes of each packet at most.
    pub snap_len: Option<u32>,
    /// End after so many packets.
    pub count: Option<u64>,
    /// End after so many milliseconds.
    pub milliseconds: Option<u64>,
    /// End once the capture has so many bytes.
    pub bytes: Option<u64>,
}

/// A direction, as seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// From the other hosts.
    In,
    /// To the other hosts.
    Out,
}

/// Which dropped packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Drops(
    /// Names of reasons; empty: all.
    pub Vec<String>,
);

impl Request {
    /// What the data plane is to show; the error is a sentence.
    pub(super) fn wanted(&self) -> Result<Wanted, String> {
        if self.inner_only && self.outer_only {
            return Err("neither the inner nor the outer interface is wanted".into());
        }
        let reasons = |drops: &Drops| match drops.0.is_empty() {
            true => Ok(DropReason::ALL.iter().copied().collect()),
            false => drops.0.iter().map(|name| reason(name)).collect(),
        };
        let snap_len = self.snap_len.map_or(MAX_SNAP_LEN, |len| len as usize);
        if !(1..=MAX_SNAP_LEN).contains(&snap_len) {
            return Err(format!("a snap length is 1 to {MAX_SNAP_LEN}, not {snap_len}"));
        }
        Ok(Wanted {
            filter: Filter {
                peer: self.peer,
                hosts: self.hosts.clone(),
                ports: self.ports.clone(),
                protocol: self.protocol,
                direction: self.direction.map(|way| match way {
                    Way::In => Direction::Ingress,
                    Way::Out => Direction::Egress,
                }),
                drops: self.drops.as_ref().map(reasons).transpose()?,
            },
            snap_len,
            inner: !self.outer_only,
            outer: !self.inner_only,
        })
    }

    /// When it ends.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            packets: self.count.unwrap_or(u64::MAX),
            bytes: self.bytes.unwrap_or(u64::MAX),
            time: self.milliseconds.map(Duration::from_millis),
        }
    }
}

fn reason(name: &str) -> Result<DropReason, String> {
    DropReason::ALL.iter().copied().find(|reason| reason.name() == name).ok_or_else(|| {
        let names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        format!("{name:?} is no drop reason; there are {}", names.join(", "))
    })
}

/// The longest packet.
const MAX_SNAP_LEN: usize = 65_535;

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(json: &str) -> Result<Wanted, String> {
        serde_json::from_str::<Request>(json).map_err(|error| error.to_string())?.wanted()
    }

    #[test]
    fn everything_is_wanted_unless_said_otherwise() {
        let all = wanted("{}").unwrap();
        assert!(all.inner && all.outer && all.filter.drops.is_none());
        assert_eq!(all.snap_len, MAX_SNAP_LEN);
        let some = wanted(
            r#"{"peer":"10.211.55.2","hosts":["10.0.7.0/24"],"ports":[53],"protocol":17,
                "direction":"in","drops":["no-route"],"inner_only":true,"snap_len":96}"#,
        )
        .unwrap();
        assert!(some.inner && !some.outer && some.filter.drops.is_some());
        assert_eq!(some.filter.direction, Some(Direction::Ingress));
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (json, said) in [
            (r#"{"inner_only":true,"outer_only":true}"#, "neither"),
            (r#"{"snap_len":0}"#, "snap length"),
            (r#"{"snap_len":65536}"#, "snap length"),
            (r#"{"drops":["nonsense"]}"#, "no-route"),
            (r#"{"direction":"up"}"#, "unknown variant"),
        ] {
            let error = wanted(json).unwrap_err();
            assert!(error.contains(said), "{json}: {error}");
        }
    }
}
