//! What `ping` prints.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::causes::fragments_of;
use super::target::Target;
use super::{Path, PathAnswers, PingArgs};
use crate::humanize::commands;
use crate::observe::protocol::snapshot::Snapshot;
use crate::packet::icmpv4::kind;
use crate::probe::echo::{EchoOutcome, IcmpError};
use crate::probe::silence::Cause;

/// The first line.
pub(super) fn heading(target: &Target) -> String {
    let Target { host, subnet, .. } = target;
    format!("PING {host} ({subnet}), through the overlay and on the underlay")
}

/// The line of the last round.
pub(super) fn round(number: u32, paths: &[PathAnswers]) -> String {
    let mut line = format!("seq {number:<4}");
    for answers in paths {
        let text = match answers.outcomes.last() {
            Some(Ok(EchoOutcome::Reply(reply))) => milliseconds(reply.time),
            Some(Ok(EchoOutcome::Error(error))) => describe(error),
            Some(Ok(EchoOutcome::Silence)) | None => "no answer".into(),
            Some(Err(error)) => error.to_string(),
        };
        let _ = write!(line, "  {} {text:<12}", answers.path.name());
    }
    line.trim_end().to_owned()
}

/// The summary: a line per path, the path MTUs, and the likely cause.
pub(super) fn text(paths: &[PathAnswers], cause: Option<&Cause>) -> String {
    let mut out = String::from("\n");
    for answers in paths {
        let (sent, received) = (answers.outcomes.len(), answers.times().count());
        let _ = write!(
            out,
            "{:<9} {:<15} {sent} sent, {received} answered, {:.0} % lost",
            answers.path.name(),
            answers.address,
            100.0 * answers.loss()
        );
        if let Some([min, avg, max]) = round_trip(answers) {
            let _ = write!(out, ", round trip min/avg/max {min:.2}/{avg:.2}/{max:.2} ms");
        }
        out.push('\n');
    }
    for answers in paths {
        if let Some(mtu) = &answers.mtu {
            let _ = writeln!(out, "{:<9} path MTU: {mtu}", answers.path.name());
        }
    }
    if let Some(Cause { text, remedy }) = cause {
        let _ = writeln!(out, "likely cause: {text}\nremedy: {remedy}");
    }
    out
}

/// The whole report.
pub(super) fn json(
    args: &PingArgs,
    now: &Snapshot,
    target: &Target,
    paths: &[PathAnswers],
    cause: Option<&Cause>,
) -> Value {
    let paths = paths.iter().map(|answers| {
        let round_trip = round_trip(answers)
            .map(|[min, avg, max]| json!({ "min": min, "avg": avg, "max": max }));
        json!({
            "path": answers.path.name(),
            "address": answers.address,
            "sent": answers.outcomes.len(),
            "answered": answers.times().count(),
            "loss": answers.loss(),
            "round_trip_ms": round_trip,
            "mtu": answers.mtu.as_ref().map(super::PathMtu::json),
        })
    });
    json!({
        "version": 1,
        "target": args.target,
        "peer": { "public_ip": target.host, "subnet": target.subnet },
        "paths": paths.collect::<Vec<_>>(),
        "datagram_fragments": fragments_of(now, target),
        "cause": cause.map(|cause| &cause.text),
        "remedy": cause.map(|cause| &cause.remedy),
        "commands": cause.map_or_else(Vec::new, |cause| commands(&cause.remedy).collect()),
    })
}

impl Path {
    fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Container => "container",
            Self::Underlay => "underlay",
        }
    }
}

/// Shortest, mean and longest round trip in milliseconds; `None` if nothing was answered.
fn round_trip(answers: &PathAnswers) -> Option<[f64; 3]> {
    let times: Vec<f64> = answers.times().map(|time| time.as_secs_f64() * 1000.0).collect();
    let min = times.iter().copied().reduce(f64::min)?;
    let max = times.iter().copied().reduce(f64::max)?;
    Some([min, times.iter().sum::<f64>() / times.len() as f64, max])
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

fn describe(error: &IcmpError) -> String {
    let IcmpError { by, kind, code, .. } = error;
    match (*kind, *code) {
        (kind::TIME_EXCEEDED, _) => format!("TTL expired at {by}"),
        (_, 9 | 10 | 13) => format!("prohibited by {by}"),
        _ => format!("unreachable, reported by {by}"),
    }
}
