//! `doctor`: checks what the overlay needs on this host, the lease store and the path to every
//! peer, and reports what is wrong and what to do about it.
//!
//! `doctor` changes nothing on the host or in the store, and needs no running daemon: a check that
//! only a daemon can answer is reported as not made. Each module holds one group of checks and
//! returns its `Finding`s; `facts` and `store` gather once what several checks read.

mod args;
mod clock;
mod daemon;
mod device;
mod docker;
mod facts;
mod finding;
mod firewall;
mod lease;
mod netfilter;
mod nic;
mod peers;
mod routing;
mod status;
mod store;
mod sysctl;
mod tun;

use std::time::{Duration, Instant};

pub use self::args::{DoctorArgs, PeerChoice};
use self::facts::HostFacts;
use self::finding::{DoctorReport, Finding, Level, Section};
use self::netfilter::Firewalls;
use crate::exit::{Code, Exit};
use crate::host::firewall::Toolbox;

/// Makes all checks and prints the findings.
///
/// # Errors
/// Exit code 1 if the worst finding is a fault, 2 if it is a warning. The findings have been
/// printed by then.
pub async fn run(args: &DoctorArgs) -> Result<(), Exit> {
    let begun = Instant::now();
    let report = examine(args, begun).await?;
    let text = if args.json {
        serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"
    } else {
        report.text(args.verbose)
    };
    print!("{text}");
    let code = match report.worst {
        Level::Ok | Level::Note => return Ok(()),
        Level::Warning => Code::Warned,
        Level::Fault => Code::CheckFailed,
    };
    Err(Exit::new(code, ""))
}

async fn examine(args: &DoctorArgs, begun: Instant) -> Result<DoctorReport, Exit> {
    let whole = Duration::from_secs(args.timeout);
    let end = begun + whole;
    // The daemon says which store it uses, and the peers to probe are read from the store, so these two come
    // first, the store within a third of the time.
    let status = args.socket.client().status_soon().await;
    let chosen = args.store.choose(status.as_deref().map_err(String::as_str));
    let store = store::gather(&chosen, whole / 3).await;
    let facts = HostFacts::gather(args, status, &store).await?;
    let mut groups = vec![
        Section { group: "TUN and kernel", findings: tun::check(facts.status.is_ok()) },
        Section { group: "Kernel settings", findings: sysctl::check(&facts) },
        Section { group: "Clock", findings: clock::check(store.clock_offset) },
        Section { group: "Lease store", findings: store.findings.clone() },
        Section {
            group: "This host's lease",
            findings: lease::check(&facts, &store, &chosen.options),
        },
        Section { group: "Daemon", findings: daemon::check(&facts) },
        Section { group: "Daemon status", findings: status::check(&facts) },
        Section { group: "Network card", findings: nic::check(&facts) },
        Section { group: "Docker", findings: docker::check(&facts) },
    ];
    let tools = Toolbox::from_environment();
    let firewalls = tokio::time::timeout_at(end.into(), Firewalls::read(&tools)).await;
    let firewall = match &firewalls {
        Ok(firewalls) => firewall::check(&facts, firewalls),
        Err(_) => vec![late("firewall")],
    };
    let (device, peers) = tokio::join!(
        bounded("device", end, device::check(&facts)),
        bounded("peers", end, peers::check(&facts, firewalls.as_ref().ok(), end)),
    );
    groups.insert(7, Section { group: "Overlay device and routes", findings: device });
    groups.insert(8, Section { group: "Firewall", findings: firewall });
    groups.push(Section { group: "Peers", findings: peers });
    Ok(DoctorReport::new(groups, begun.elapsed()))
}

/// Returns the findings of a group, or a note that the time limit was reached first.
async fn bounded(
    name: &'static str,
    end: Instant,
    checks: impl Future<Output = Vec<Finding>>,
) -> Vec<Finding> {
    match tokio::time::timeout_at(end.into(), checks).await {
        Ok(findings) => findings,
        Err(_) => vec![late(name)],
    }
}

fn late(name: &'static str) -> Finding {
    Finding::note(name, "not checked: the time limit was reached")
        .remedy("`flannel-udp doctor --timeout=60`")
}
