//! Converts the arguments of `capture` into a filter of the data plane and limits.

use std::time::Duration;

use super::stream::Limits;
use crate::dataplane::DropReason;
use crate::dataplane::tap::{CaptureSpec, Direction, Filter};
use crate::observe::protocol::capture::{CaptureRequest, DirectionFilter, DropFilter};

impl CaptureRequest {
    /// The packets that the data plane is to record.
    ///
    /// # Errors
    /// A sentence for the client: which argument is invalid.
    pub(super) fn spec(&self) -> Result<CaptureSpec, String> {
        if self.inner_only && self.outer_only {
            return Err("neither the inner nor the outer interface is selected".into());
        }
        let reasons = |drops: &DropFilter| {
            if drops.0.is_empty() {
                Ok(DropReason::ALL.iter().copied().collect())
            } else {
                drops.0.iter().map(|name| reason(name)).collect()
            }
        };
        let snap_len = self.snap_len.map_or(MAX_SNAP_LEN, |len| len as usize);
        if !(1..=MAX_SNAP_LEN).contains(&snap_len) {
            return Err(format!("the snap length must be 1 to {MAX_SNAP_LEN}, not {snap_len}"));
        }
        Ok(CaptureSpec {
            filter: Filter {
                peer: self.peer,
                hosts: self.hosts.clone(),
                ports: self.ports.clone(),
                protocol: self.protocol,
                direction: self.direction.map(|way| match way {
                    DirectionFilter::In => Direction::Ingress,
                    DirectionFilter::Out => Direction::Egress,
                }),
                drops: self.drops.as_ref().map(reasons).transpose()?,
            },
            snap_len,
            inner: !self.outer_only,
            outer: !self.inner_only,
        })
    }

    /// The limits that end the capture.
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
        format!("{name:?} is not a drop reason; the reasons are {}", names.join(", "))
    })
}

/// Length of the longest IPv4 packet (RFC 791), in bytes.
const MAX_SNAP_LEN: usize = 65_535;

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(json: &str) -> Result<CaptureSpec, String> {
        serde_json::from_str::<CaptureRequest>(json).map_err(|error| error.to_string())?.spec()
    }

    #[test]
    fn without_arguments_everything_is_captured() {
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
    fn errors_name_the_invalid_argument() {
        for (json, expected) in [
            (r#"{"inner_only":true,"outer_only":true}"#, "neither"),
            (r#"{"snap_len":0}"#, "snap length"),
            (r#"{"snap_len":65536}"#, "snap length"),
            (r#"{"drops":["nonsense"]}"#, "no-route"),
            (r#"{"direction":"up"}"#, "unknown variant"),
        ] {
            let error = wanted(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
