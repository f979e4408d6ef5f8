//! `status --all`: one line for each host, from its metrics or its status socket.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use super::warnings::beside_readiness;
use crate::cli::table::{self, Layout};
use crate::exit::{Code, Exit};
use crate::humanize;
use crate::observe::client::Client;
use crate::observe::http_client;
use crate::observe::protocol::snapshot::Snapshot;

/// Where a host is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Address and port of its metrics.
    Metrics(String),
    /// Its status socket.
    Socket(PathBuf),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Ok(Self::Socket(text.into()));
        }
        let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        match port.and_then(|(_, port)| port.parse::<u16>().ok()) {
            Some(port) if port > 0 => Ok(Self::Metrics(text.to_owned())),
            _ => Err("must be host and port of a daemon's --metrics-addr, such as 10.0.0.2:9285, or the path \
                      of a status socket, such as /run/flannel/flannel-udp.sock"
                .into()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metrics(authority) => f.write_str(authority),
            Self::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What a daemon says about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
struct HostState {
    ready: bool,
    warnings: u64,
    peers: u64,
    /// What is missing or wrong, in a few words.
    note: String,
}

/// Asks all hosts at the same time, and prints a line for each.
///
/// # Errors
/// [`Code::CheckFailed`] if a host is not ready or does not answer; the table has been printed by then.
pub(super) async fn run(targets: &[Target], as_json: bool) -> Result<(), Exit> {
    let states = join_all(targets.iter().map(ask)).await;
    let hosts: Vec<_> = targets.iter().zip(states).collect();
    if as_json {
        let hosts: Vec<_> = hosts.iter().map(|(target, state)| in_json(target, state)).collect();
        println!("{:#}", json!({ "version": 1, "hosts": hosts }));
    } else {
        print!("{}", in_words(&hosts));
    }
    let all_ready = hosts.iter().all(|(_, state)| state.as_ref().is_ok_and(|state| state.ready));
    if all_ready { Ok(()) } else { Err(Exit::new(Code::CheckFailed, "")) }
}

async fn ask(target: &Target) -> Result<HostState, String> {
    match target {
        Target::Socket(path) => {
            Client::new(path).status_soon().await.map(|now| from_snapshot(&now))
        }
        Target::Metrics(authority) => {
            let page = http_client::get(authority, "/metrics", ANSWER_TIMEOUT, MAX_METRICS).await;
            let page = page.map_err(|error| error.to_string())?;
            from_metrics(&page.body).ok_or_else(|| {
                format!("no flannel-udp metrics there (HTTP status {})", page.status)
            })
        }
    }
}

fn from_snapshot(now: &Snapshot) -> HostState {
    let warnings = beside_readiness(now);
    let first = warnings.first().and_then(|warning| warning.lines().next());
    let missing = now.health.missing.as_deref().filter(|_| !now.health.ready);
    HostState {
        ready: now.health.ready,
        warnings: warnings.len() as u64,
        peers: now.peers.len() as u64,
        note: missing.or(first).unwrap_or_default().to_owned(),
    }
}

/// The state from a page of metrics; `None` if it is not this program's.
fn from_metrics(page: &str) -> Option<HostState> {
    let value = |name: &str| -> Option<u64> {
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.trim().parse::<f64>().ok().map(|value| value as u64)
    };
    let ready = value("flannel_udp_ready")? == 1;
    let mut kinds = Vec::new();
    let mut warnings = 0;
    for line in page.lines() {
        let Some(rest) = line.strip_prefix("flannel_udp_warnings{kind=\"") else { continue };
        let (kind, count) = rest.split_once("\"} ")?;
        let count = count.trim().parse::<f64>().ok()? as u64;
        kinds.extend((count > 0).then(|| kind.to_owned()));
        warnings += count;
    }
    Some(HostState { ready, warnings, peers: value("flannel_udp_peers")?, note: kinds.join(", ") })
}

fn in_json(target: &Target, state: &Result<HostState, String>) -> Value {
    let target = target.to_string();
    match state {
        Ok(HostState { ready, warnings, peers, note }) => json!({
            "host": target, "ready": ready, "warnings": warnings, "peers": peers, "note": note, "error": null,
        }),
        Err(error) => json!({
            "host": target, "ready": false, "warnings": null, "peers": null, "note": "", "error": error,
        }),
    }
}

fn in_words(hosts: &[(&Target, Result<HostState, String>)]) -> String {
    let mut table = table::new([
        ("HOST", Layout::Key),
        ("READY", Layout::Key),
        ("WARNINGS", Layout::Number),
        ("PEERS", Layout::Number),
        ("", Layout::Text),
    ]);
    let (mut ready, mut unreachable) = (0, 0);
    for (target, state) in hosts {
        match state {
            Ok(state) => {
                ready += u64::from(state.ready);
                table.add_row([
                    target.to_string(),
                    if state.ready { "yes" } else { "NO" }.to_owned(),
                    humanize::count(state.warnings),
                    humanize::count(state.peers),
                    state.note.clone(),
                ]);
            }
            Err(error) => {
                unreachable += 1;
                let cells = [target.to_string(), "UNREACHABLE".into(), "-".into(), "-".into()];
                table.add_row(cells.into_iter().chain([error.clone()]));
            }
        }
    }
    table::one_line_per_row(&mut table);
    let all = hosts.len() as u64;
    let rest = all - ready - unreachable;
    format!(
        "{}{}: {ready} ready, {rest} not ready, {unreachable} unreachable\n",
        table::text(&table),
        humanize::counted(all, "host")
    )
}

/// How long a host may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Largest page of metrics that is read, in bytes: enough for ten thousand peers.
const MAX_METRICS: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_ports_or_sockets() {
        for good in ["10.0.0.2:9285", "node-1:9285", "[::1]:9285"] {
            assert_eq!(good.parse(), Ok(Target::Metrics(good.into())));
        }
        assert_eq!("/run/x.sock".parse(), Ok(Target::Socket("/run/x.sock".into())));
        for bad in ["", "10.0.0.2", "9285", ":9285", "a:0", "a:http"] {
            assert!(bad.parse::<Target>().unwrap_err().contains("such as 10.0.0.2:9285"), "{bad}");
        }
    }

    #[test]
    fn metrics_say_how_a_host_is() {
        let page = "# HELP flannel_udp_ready x\nflannel_udp_ready 1\nflannel_udp_peers 12\n\
                    flannel_udp_warnings{kind=\"steering\"} 1\nflannel_udp_warnings{kind=\"firewall\"} 0\n";
        let state = from_metrics(page).unwrap();
        let note = "steering".into();
        assert_eq!(state, HostState { ready: true, warnings: 1, peers: 12, note });
        assert_eq!(from_metrics("go_threads 7\n"), None);
    }

    #[test]
    fn each_host_has_a_line_and_is_counted() {
        let target = |text: &str| text.parse::<Target>().unwrap();
        let (one, two) = (target("10.0.0.2:9285"), target("/run/b.sock"));
        let state = HostState { ready: false, warnings: 0, peers: 3, note: "starting".into() };
        let text = in_words(&[(&one, Ok(state)), (&two, Err("refused".into()))]);
        let expected = "\
HOST           READY        WARNINGS  PEERS
10.0.0.2:9285  NO                  0      3  starting
/run/b.sock    UNREACHABLE         -      -  refused
2 hosts: 0 ready, 1 not ready, 1 unreachable
";
        assert_eq!(text, expected);
    }
}
