//! What the running daemon tells about itself through its status socket.

use std::path::Path;
use std::time::Duration;

use tokio::sync::oneshot;

use super::finding::Finding;
use super::view::View;
use crate::observe::client::Client;
use crate::observe::snapshot::Snapshot;

/// Asks for everything, and does not wait long.
pub(super) async fn ask(socket: &Path) -> Result<Box<Snapshot>, String> {
    let (answer, answered) = oneshot::channel();
    let client = Client::new(socket);
    // A thread of its own: the client blocks, and a daemon that hangs must not hold us at the end.
    std::thread::spawn(move || answer.send(client.status().map(Box::new)));
    match tokio::time::timeout(PATIENCE, answered).await {
        Ok(Ok(outcome)) => outcome.map_err(|error| first_line(&error.to_string())),
        _ => Err(format!("the daemon at {} does not answer", socket.display())),
    }
}

/// Looks at what it says.
pub(super) fn check(view: &View<'_>) -> Vec<Finding> {
    let now = match &view.status {
        Ok(now) => now,
        Err(why) => {
            let text = format!("not checked, this needs a running flannel-udp: {why}");
            return vec![Finding::note("status socket", text)];
        }
    };
    let mut findings = vec![match (now.health.ready, now.health.late.is_empty()) {
        (true, true) => Finding::ok("health", "ready"),
        (false, _) => {
            let missing = now.health.missing.as_deref().unwrap_or("it does not say why");
            Finding::warning("health", format!("not ready: {missing}"))
                .remedy("flannel-udp status; journalctl -u flannel-udp")
        }
        (true, false) => {
            let late = now.health.late.join(", ");
            Finding::fault("health", format!("no sign of life from {late}"))
                .remedy("systemctl restart flannel-udp, and report it with the log")
        }
    }];
    if let Some(registry) = now.registry.as_ref().filter(|registry| !registry.connected) {
        let why = registry.last_error.as_deref().unwrap_or("no answer yet");
        let text = format!("the daemon has lost it, routes stay as they are: {why}");
        findings.push(Finding::warning("lease store", text).remedy("see the lease store above"));
    }
    for feature in now.features.iter().filter(|feature| !feature.on) {
        let name = format!("feature {}", feature.name);
        let why = feature.why.as_deref().unwrap_or("no reason known");
        findings.push(match why {
            "switched off" => Finding::note(name, "switched off by --offload: more CPU a packet"),
            _ => Finding::warning(name, format!("the daemon goes on without it: {why}"))
                .remedy("restart the daemon when the cause is gone; flannel-udp status"),
        });
    }
    for (way, direction) in [("out", &now.stats.egress), ("in", &now.stats.ingress)] {
        let drops = direction.drops.iter().filter(|(_, count)| **count > 0);
        let drops: Vec<_> = drops.map(|(reason, count)| format!("{reason} {count}")).collect();
        if !drops.is_empty() {
            let text = format!("since its start the daemon dropped: {}", drops.join(", "));
            let finding = Finding::note(format!("dropped, {way}"), text);
            findings.push(
                finding.remedy("flannel-udp status shows whether it goes on; explain SRC DST"),
            );
        }
    }
    findings
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// A daemon that is well answers within milliseconds.
const PATIENCE: Duration = Duration::from_millis(1500);
