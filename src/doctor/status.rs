//! What the running daemon reports about itself through its status socket.

use super::facts::HostFacts;
use super::finding::Finding;
use crate::dataplane::{Check, FeatureState};
use crate::humanize;
use crate::observe::protocol::snapshot::Snapshot;

/// Checks health, lease store, features, mismatches and drops as the daemon reports them.
pub(super) fn check(facts: &HostFacts<'_>) -> Vec<Finding> {
    let now = match &facts.status {
        Ok(now) => now,
        Err(why) => {
            let text = format!("not checked, because this needs a running flannel-udp: {why}");
            return vec![Finding::note("status socket", text)];
        }
    };
    let mut findings = vec![match (now.health.ready, now.health.late.is_empty()) {
        (true, true) => Finding::ok("health", "ready"),
        (false, _) => {
            let missing = now.health.missing.as_deref().unwrap_or("no reason given");
            Finding::warning("health", format!("not ready: {missing}"))
                .remedy("`flannel-udp status`; `journalctl -u flannel-udp`")
        }
        (true, false) => {
            let late = now.health.late.join(", ");
            Finding::fault("health", format!("no heartbeat from {late}"))
                .remedy("`systemctl restart flannel-udp`, and report it with the log")
        }
    }];
    if let Some(registry) = now.registry.as_ref().filter(|registry| !registry.connected) {
        let why = registry.last_error.as_deref().unwrap_or("no answer yet");
        let why = humanize::on_one_line(why);
        let text = format!("the daemon cannot read it, routes stay unchanged: {why}");
        findings.push(Finding::warning("lease store", text).remedy("see the lease store above"));
    }
    for feature in now.features.iter().filter(|feature| !feature.on) {
        let name = format!("feature {}", feature.name);
        let why = feature.why.as_deref().unwrap_or("no reason known");
        findings.push(match why {
            "switched off" => Finding::note(name, "disabled by --offload: more CPU per packet"),
            _ => Finding::warning(
                name,
                format!("the daemon continues without it{}: {why}", since(feature)),
            )
            .remedy("remove the cause, then restart the daemon; `flannel-udp status`"),
        });
    }
    let others = now.warnings.iter().filter(|warning| !CHECKED_HERE.contains(&&*warning.kind));
    findings.extend(others.map(|warning| {
        let new = if warning.not_ready { Finding::fault } else { Finding::warning };
        let finding = new(warning.kind.clone(), warning.text.clone());
        match &warning.remedy {
            Some(remedy) => finding.remedy(remedy),
            None => finding,
        }
    }));
    findings.extend(mismatches(now));
    for (name, direction) in [("out", &now.stats.egress), ("in", &now.stats.ingress)] {
        let drops = direction.drops.iter().filter(|(_, count)| **count > 0);
        let drops: Vec<_> = drops.map(|(reason, count)| format!("{reason} {count}")).collect();
        if !drops.is_empty() {
            let text = format!("dropped by the daemon since it started: {}", drops.join(", "));
            let finding = Finding::note(format!("dropped, {name}"), text);
            findings.push(finding.remedy(
                "`flannel-udp status` shows whether it continues; `flannel-udp explain --help` shows how to trace \
                 one packet",
            ));
        }
    }
    findings
}

fn since(feature: &FeatureState) -> String {
    feature.lost.map_or_else(String::new, |lost| {
        format!(" since {}", humantime::format_rfc3339_seconds(lost))
    })
}

/// Reports senders of recent packets that failed the source or destination check, each sender once.
fn mismatches(now: &Snapshot) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for mismatch in now.recent_mismatches() {
        let (check, remedy) = match mismatch.latest.check {
            Check::Source => ("forged senders", FORGED),
            Check::Destination => ("foreign destinations", FOREIGN),
        };
        if findings.len() == MAX_NAMED {
            let more = now.recent_mismatches().count() - MAX_NAMED;
            let text = format!("{more} more in the last ten minutes");
            let finding = Finding::warning("forged senders", text);
            findings.push(finding.remedy("`flannel-udp status --json` lists up to 32"));
            break;
        }
        let ago = humanize::seconds(mismatch.last_ago.floor());
        let text = format!("{} ({ago} ago)", mismatch.latest.sentence());
        findings.push(Finding::warning(check, text).remedy(remedy));
    }
    findings
}

/// Kinds of the daemon's warnings that `doctor` finds by checks of its own, which say more.
const CHECKED_HERE: [&str; 2] = ["ip-forward", "route-conflict"];
/// Largest number of senders that are named.
const MAX_NAMED: usize = 5;
const FORGED: &str = "run `flannel-udp doctor` on the sending host: two hosts may share a subnet, or its \
                      --public-ip is not the address it sends from. NAT between the hosts has the same effect and \
                      needs --source-check=log here. Otherwise the packets are forged: --source-check=enforce \
                      here, and make the UDP port reachable from the cluster's hosts only";
const FOREIGN: &str = "the sender has a wrong route for the address: `flannel-udp routes` on that host; or \
                       it uses this host as a relay: --destination-check=enforce here";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::{Mismatch, RecentMismatch};
    use crate::doctor::finding::Level;
    use std::net::{Ipv4Addr, SocketAddrV4};

    fn sender(n: u8, check: Check, last_ago: f64) -> RecentMismatch {
        let latest = Mismatch {
            check,
            source: Ipv4Addr::new(10, 0, 9, 2),
            destination: Ipv4Addr::new(10, 0, 1, 2),
            sender: SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, n), 8285),
            holder: Some(Ipv4Addr::new(192, 168, 0, 9)),
            dropped: false,
            by: None,
        };
        RecentMismatch { latest, reports: 1, last_ago }
    }

    #[test]
    fn senders_of_the_last_ten_minutes_are_named_and_the_rest_counted() {
        let mut now = Snapshot::default();
        assert_eq!(mismatches(&now), []);
        now.mismatches = vec![
            sender(1, Check::Source, 3.0),
            sender(2, Check::Destination, 4.0),
            sender(3, Check::Source, 601.0),
        ];
        let findings = mismatches(&now);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings.iter().all(|finding| finding.level == Level::Warning));
        assert!(findings[0].finding.contains("192.168.0.1:8285 has an inner source that is not"));
        assert!(findings[0].remedy.as_ref().unwrap().contains("--source-check=enforce"));
        assert_eq!(findings[1].check, "foreign destinations");
        now.mismatches = (0..9).map(|n| sender(n, Check::Source, 1.0)).collect();
        let findings = mismatches(&now);
        assert_eq!(findings.len(), MAX_NAMED + 1);
        assert!(findings[MAX_NAMED].finding.starts_with("4 more"), "{findings:?}");
    }
}
