//! Converts the arguments of `capture` into a filter of the data plane and limits.

use std::time::Duration;

use super::stream::Limits;
use crate::dataplane::DropReason;
use crate::dataplane::tap::{CaptureSpec, CaptureVerdict, Direction, Filter, Verdicts};
use crate::observe::protocol::capture::{CaptureRequest, DirectionFilter, DropFilter, Verdict};

impl CaptureRequest {
    /// The packets that the data plane is to record.
    ///
    /// # Errors
    /// A sentence for the client: which argument is invalid.
    pub(super) fn spec(&self) -> Result<CaptureSpec, String> {
        if self.inner_only && self.outer_only {
            return Err("neither the inner nor the outer interface is selected".into());
        }
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
                verdicts: self.verdict_filter()?,
            },
            snap_len,
            inner: !self.outer_only,
            outer: !self.inner_only,
        })
    }

    fn verdict_filter(&self) -> Result<Option<Verdicts>, String> {
        let wanted = self.verdicts.iter().map(|verdict| match verdict {
            Verdict::Carried => CaptureVerdict::Carried.into(),
            Verdict::Dropped => Verdicts::DROPPED,
            Verdict::IcmpError => CaptureVerdict::IcmpError.into(),
        });
        let wanted = (!self.verdicts.is_empty()).then(|| wanted.collect::<Verdicts>());
        let drops = match &self.drops {
            None => return Ok(wanted),
            Some(DropFilter(names)) if names.is_empty() => Verdicts::DROPPED,
            Some(DropFilter(names)) => names
                .iter()
                .map(|name| Ok(CaptureVerdict::Dropped(reason(name)?).into()))
                .collect::<Result<_, String>>()?,
        };
        match wanted {
            None => Ok(Some(drops)),
            Some(wanted) => wanted.both(drops).map(Some).ok_or_else(|| {
                "no packet matches both: drop reasons select only dropped packets".into()
            }),
        }
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
        assert!(all.inner && all.outer && all.filter.verdicts.is_none());
        assert_eq!(all.snap_len, MAX_SNAP_LEN);
        let some = wanted(
            r#"{"peer":"10.211.55.2","hosts":["10.0.7.0/24"],"ports":[53],"protocol":17,
                "direction":"in","drops":["no-route"],"inner_only":true,"snap_len":96}"#,
        )
        .unwrap();
        assert!(some.inner && !some.outer && some.filter.verdicts.is_some());
        let no_route = CaptureVerdict::Dropped(DropReason::NoRoute).into();
        assert_eq!(some.filter.verdicts, Some(no_route));
        let both = wanted(r#"{"verdicts":["carried","dropped"],"drops":["no-route"]}"#).unwrap();
        assert_eq!(both.filter.verdicts, Some(no_route));
        let either = wanted(r#"{"verdicts":["dropped","icmp-error"]}"#).unwrap();
        assert_eq!(
            either.filter.verdicts,
            Some([Verdicts::DROPPED, CaptureVerdict::IcmpError.into()].into_iter().collect())
        );
        assert_eq!(some.filter.direction, Some(Direction::Ingress));
    }

    #[test]
    fn errors_name_the_invalid_argument() {
        for (json, expected) in [
            (r#"{"inner_only":true,"outer_only":true}"#, "neither"),
            (r#"{"snap_len":0}"#, "snap length"),
            (r#"{"snap_len":65536}"#, "snap length"),
            (r#"{"drops":["nonsense"]}"#, "no-route"),
            (r#"{"verdicts":["carried"],"drops":[]}"#, "no packet matches both"),
            (r#"{"direction":"up"}"#, "unknown variant"),
        ] {
            let error = wanted(json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
