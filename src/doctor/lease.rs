//! This host's lease, and the subnet file that passes it to the container runtime.

use std::time::Duration;

use super::facts::HostFacts;
use super::finding::Finding;
use super::store::StoreFacts;
use crate::subnet::admin::HoldingTerm;
use crate::subnet::{StoreOptions, SubnetFileOrigin};

/// Compares the subnet file, the lease and the host's interface with one another.
pub(super) fn check(
    facts: &HostFacts<'_>,
    store: &StoreFacts,
    options: &StoreOptions,
) -> Vec<Finding> {
    let mut findings = file(facts, store);
    findings.extend(lease(facts, store, options));
    findings
}

fn file(facts: &HostFacts<'_>, store: &StoreFacts) -> Vec<Finding> {
    let path = facts.args.subnet_file.path.display().to_string();
    let Some(subnet) = facts.file.subnet else {
        let held = facts.status.as_ref().ok().and_then(|now| Some(now.lease.as_ref()?.subnet));
        let text = match (facts.file.problems.first(), held) {
            (Some(problem), _) => problem.clone(),
            (None, Some(held)) => {
                format!("it is missing or holds no subnet, and the daemon's lease is {held}")
            }
            (None, None) => {
                "it is missing or holds no subnet: no daemon has held a lease here".into()
            }
        };
        let remedy = match held {
            Some(_) => {
                "the daemon writes it within seconds, or warns why it cannot: `flannel-udp status`; \
                 or the daemon uses another --subnet-file"
            }
            None => "start the daemon, which writes the file: `systemctl start flannel-udp`",
        };
        return vec![Finding::warning(path, text).remedy(remedy)];
    };
    let stale =
        "`systemctl restart flannel-udp`, which rewrites the file, then `systemctl restart docker`";
    let mut findings = Vec::new();
    if let (Some(in_file), Some(config)) = (facts.file.network, facts.config)
        && in_file != config.network
    {
        let text = format!("it says network {in_file}, the config says {}", config.network);
        findings.push(Finding::fault(&path, text).remedy(stale));
    }
    let identity = store.identity.as_deref();
    let note = SubnetFileOrigin::load(&SubnetFileOrigin::path(&facts.args.subnet_file.path));
    if let (Some(identity), Some(note)) = (identity, note)
        && let Some(mismatch) = note.mismatch(&SubnetFileOrigin::here(identity, subnet))
    {
        findings.push(Finding::fault(&path, format!("it is stale: {mismatch}")).remedy(stale));
    }
    let mtu = facts.variable("FLANNEL_MTU").and_then(|mtu| mtu.parse::<u32>().ok());
    if let (Some(in_file), Some(real)) = (mtu, facts.mtu())
        && in_file != real
    {
        let text =
            format!("it says MTU {in_file}, the interface between hosts carries at most {real}");
        let finding = if in_file > real {
            Finding::fault(&path, text)
        } else {
            Finding::warning(&path, text)
        };
        findings.push(finding.remedy(stale));
    }
    if findings.is_empty() {
        let mtu = mtu.map_or("no MTU".into(), |mtu| format!("MTU {mtu}"));
        findings.push(Finding::ok(path, format!("{subnet}, {mtu}")));
    }
    findings
}

fn lease(facts: &HostFacts<'_>, store: &StoreFacts, options: &StoreOptions) -> Option<Finding> {
    store.rows.as_ref()?;
    let own_ip = facts.interface.as_ref().ok().map(|interface| interface.public_ip);
    let Some(subnet) = facts.subnet else {
        return Some(
            Finding::warning("lease", "this host holds no lease")
                .remedy("`systemctl start flannel-udp`; `journalctl -u flannel-udp`"),
        );
    };
    let Some(lease) = store.leases().find(|lease| lease.subnet == subnet) else {
        let text = format!(
            "{subnet} of this host is not in the store: the other hosts have no route to it"
        );
        let remedy = "`systemctl restart flannel-udp`; `journalctl -u flannel-udp` shows why it does not renew";
        return Some(Finding::fault("lease", text).remedy(remedy));
    };
    if let Some(own_ip) = own_ip
        && lease.public_ip != own_ip
    {
        let text = format!(
            "{subnet} is leased to {}, and this host is {own_ip}: packets for this host's containers \
             go to that host",
            lease.public_ip
        );
        let remedy = format!(
            "if that host is dead: `{}`; otherwise restart the daemon here to get another subnet; a host \
             behind NAT needs --public-ip={}",
            options.command(&format!("leases release --force {subnet}")),
            lease.public_ip
        );
        return Some(Finding::fault("lease", text).remedy(remedy));
    }
    Some(match lease.term {
        HoldingTerm::Reserved => {
            Finding::ok("lease", format!("{subnet} is reserved for this host"))
        }
        HoldingTerm::Unknown => {
            Finding::note("lease", format!("{subnet}; the store did not report when it expires"))
        }
        HoldingTerm::Left(left) if left < EXPIRES_SOON => Finding::warning(
            "lease",
            format!("{subnet} expires in {} min and has not been renewed", left.as_secs() / 60),
        )
        .remedy("is the daemon running? `journalctl -u flannel-udp` shows why it does not renew"),
        HoldingTerm::Left(left) => Finding::ok(
            "lease",
            format!("{subnet}, expires in {:.1} h", left.as_secs_f64() / 3600.0),
        ),
    })
}

/// Remaining time below which a lease is overdue for renewal: by default the daemon renews an hour
/// before the end.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * 60);
