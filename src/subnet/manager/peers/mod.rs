//! The entries of the lease store, and the routes that follow from them.
//!
//! Entries are untrusted input. An entry that is not a usable lease is skipped, counted, and logged
//! once. A faulty entry never affects the routes of other entries.

mod hops;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use tracing::{debug, info, warn};

use super::status::Peer;
use crate::route::{Cidr, HopVerdicts, NextHop, RouteWriter, Withheld};
use crate::subnet::store::{StoreChange, StoreRecord};
use crate::subnet::{LeaseKey, LeaseValue, NetworkConfig};

/// All entries of the lease store, and the routes that follow from them.
pub(super) struct Peers {
    network: Cidr,
    port: u16,
    writer: RouteWriter,
    own_subnet: Cidr,
    own_ip: Ipv4Addr,
    entries: BTreeMap<String, EntryClass>,
    /// The names of the entries for each subnet: several names may stand for one subnet.
    claims: BTreeMap<Cidr, BTreeSet<String>>,
    /// Names of skipped entries that have been logged.
    warned: HashSet<String>,
    /// Number of skipped entries.
    skipped: u64,
    /// Which next hops may be used.
    verdicts: HopVerdicts,
    /// The leases that have no route because their next hop may not be used.
    withheld: BTreeMap<Cidr, (Ipv4Addr, Withheld)>,
    /// The last list of peers that was asked for.
    published: Arc<Vec<Peer>>,
    /// Whether routes have changed since then.
    is_stale: bool,
}

/// The class of an entry.
enum EntryClass {
    /// A lease of another host that runs the udp backend.
    Peer { subnet: Cidr, ip: Ipv4Addr, revision: i64, reservation: bool },
    /// A lease with this host's own address.
    Own,
    /// Not a usable lease.
    Skipped,
}

/// The effect of one round of changes on the routes.
#[derive(Default)]
struct ChangeSummary {
    added: u32,
    removed: u32,
    moved: u32,
    /// Subnet, next hop and sentence of each change, up to a limit.
    lines: Vec<(Cidr, Ipv4Addr, String)>,
}

impl Peers {
    pub(super) fn new(
        config: &NetworkConfig,
        writer: RouteWriter,
        own_subnet: Cidr,
        own_ip: Ipv4Addr,
    ) -> Self {
        Self {
            network: config.network,
            port: config.port,
            writer,
            own_subnet,
            own_ip,
            entries: BTreeMap::new(),
            claims: BTreeMap::new(),
            warned: HashSet::new(),
            skipped: 0,
            verdicts: HopVerdicts::default(),
            withheld: BTreeMap::new(),
            published: Arc::default(),
            is_stale: false,
        }
    }

    /// Brings the routes in line with a full list; entries that are not in it are removed.
    pub(super) fn reset(&mut self, records: &[StoreRecord]) {
        let mut summary = ChangeSummary::default();
        let names: HashSet<&str> = records.iter().map(|record| record.name.as_str()).collect();
        let gone: Vec<String> =
            self.entries.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
        // New entries are added before absent ones are removed, so that a subnet whose entry has a
        // new name keeps its route throughout.
        let mut warnings = Vec::new();
        for record in records {
            self.put(record, &mut summary, &mut warnings);
        }
        for name in gone {
            self.delete(&name, &mut summary);
        }
        self.report(summary, warnings);
    }

    /// Applies changes, in order.
    pub(super) fn apply(&mut self, changes: &[StoreChange]) {
        let mut summary = ChangeSummary::default();
        let mut warnings = Vec::new();
        for change in changes {
            match change {
                StoreChange::Put(record) => self.put(record, &mut summary, &mut warnings),
                StoreChange::Delete { name, .. } => self.delete(name, &mut summary),
            }
        }
        self.report(summary, warnings);
    }

    /// Sets this host's subnet and address. Entries that were classed by the former ones are not
    /// classed again, so a full list should follow.
    pub(super) fn set_own(&mut self, subnet: Cidr, ip: Ipv4Addr) {
        let before = std::mem::replace(&mut self.own_subnet, subnet);
        self.own_ip = ip;
        let mut summary = ChangeSummary::default();
        self.refresh(before, &mut summary);
        self.refresh(subnet, &mut summary);
        self.report(summary, Vec::new());
    }

    /// Whether the list of [`peers`](Self::peers) has changed since it was last asked for.
    pub(super) fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// The peers that have a route, by subnet; the same list until it changes.
    pub(super) fn peers(&mut self) -> Arc<Vec<Peer>> {
        if std::mem::take(&mut self.is_stale) {
            self.published = Arc::new(self.collect());
        }
        Arc::clone(&self.published)
    }

    /// Number of entries that are not usable leases.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    pub(super) fn routes(&self) -> usize {
        self.writer.routes().count()
    }

    fn put(
        &mut self,
        record: &StoreRecord,
        summary: &mut ChangeSummary,
        warnings: &mut Vec<String>,
    ) {
        let entry = self.classify(record).unwrap_or_else(|reason| {
            if self.warned.len() < MAX_WARNED && self.warned.insert(record.name.clone()) {
                warnings.push(format!("{}: {reason}", brief(&record.name)));
            }
            EntryClass::Skipped
        });
        let subnet = |entry: &EntryClass| match entry {
            EntryClass::Peer { subnet, .. } => Some(*subnet),
            _ => None,
        };
        let after = subnet(&entry);
        self.skipped += u64::from(matches!(entry, EntryClass::Skipped));
        let before = self.entries.insert(record.name.clone(), entry);
        self.skipped -= u64::from(matches!(before, Some(EntryClass::Skipped)));
        let before = before.as_ref().and_then(subnet);
        if let Some(after) = after {
            self.claims.entry(after).or_default().insert(record.name.clone());
            self.refresh(after, summary);
        }
        if let Some(before) = before.filter(|&before| Some(before) != after) {
            self.unclaim(before, &record.name, summary);
        }
    }

    fn delete(&mut self, name: &str, summary: &mut ChangeSummary) {
        match self.entries.remove(name) {
            Some(EntryClass::Peer { subnet, .. }) => self.unclaim(subnet, name, summary),
            Some(EntryClass::Skipped) => self.skipped -= 1,
            Some(EntryClass::Own) | None => {}
        }
    }

    fn unclaim(&mut self, subnet: Cidr, name: &str, summary: &mut ChangeSummary) {
        if let Some(names) = self.claims.get_mut(&subnet) {
            names.remove(name);
            if names.is_empty() {
                self.claims.remove(&subnet);
            }
        }
        self.refresh(subnet, summary);
    }

    /// The class of an entry, or the reason to skip the entry.
    fn classify(&self, record: &StoreRecord) -> Result<EntryClass, String> {
        let key: LeaseKey = record.name.parse().map_err(|error| format!("{error}"))?;
        let subnet = key.subnet;
        if !self.network.covers(subnet) {
            return Err(format!("{subnet} is not inside the network {}", self.network));
        }
        if let Some(fault) = &record.fault {
            return Err(fault.clone());
        }
        let value = LeaseValue::decode(&record.value).map_err(|error| error.to_string())?;
        if value.public_ip == self.own_ip {
            return Ok(EntryClass::Own);
        }
        if !value.is_udp() {
            let kind = value.backend_type.unwrap_or_default();
            return Err(format!("its host runs the backend {}, not udp", brief(&kind)));
        }
        let reservation = record.lease.is_none();
        Ok(EntryClass::Peer { subnet, ip: value.public_ip, revision: record.revision, reservation })
    }

    /// The entry that determines a subnet's route: the one under the canonical name, else the one
    /// written last. None for this host's own subnet.
    fn winner(&self, subnet: Cidr) -> Option<(&String, Ipv4Addr, bool)> {
        if subnet == self.own_subnet {
            return None;
        }
        let canonical = LeaseKey::new(subnet).to_string();
        let claims =
            self.claims.get(&subnet)?.iter().filter_map(|name| match self.entries.get(name)? {
                EntryClass::Peer { ip, revision, reservation, .. } => {
                    Some(((*name == canonical, *revision), (name, *ip, *reservation)))
                }
                _ => None,
            });
        claims.max_by_key(|(rank, _)| *rank).map(|(_, choice)| choice)
    }

    /// Brings one route in line with the entries.
    fn refresh(&mut self, subnet: Cidr, summary: &mut ChangeSummary) {
        let winner = self.winner(subnet).map(|(_, ip, _)| ip);
        let withheld = winner.and_then(|ip| Some((ip, self.verdicts.withheld(ip)?)));
        self.set_withheld(subnet, withheld);
        let usable = winner.filter(|_| withheld.is_none());
        let wanted = usable.map(|ip| NextHop { ip, port: self.port });
        let before = self.writer.get(subnet);
        match wanted {
            Some(hop) if before == Some(hop) => {}
            Some(hop) => match self.writer.insert(subnet, hop) {
                Ok(None) => {
                    summary.added += 1;
                    summary
                        .line(subnet, hop.ip, || format!("Subnet added: {subnet} via {}", hop.ip));
                }
                Ok(Some(was)) => {
                    summary.moved += 1;
                    summary.line(subnet, hop.ip, || {
                        format!("Subnet moved: {subnet} via {} (was {})", hop.ip, was.ip)
                    });
                }
                Err(error) => warn!(%subnet, %error, "the route table cannot hold the route"),
            },
            None => {
                if let Some(was) = self.writer.remove(subnet) {
                    summary.removed += 1;
                    let what = if withheld.is_some() { "withheld" } else { "removed" };
                    summary
                        .line(subnet, was.ip, || format!("Subnet {what}: {subnet} via {}", was.ip));
                }
            }
        }
    }

    fn report(&mut self, summary: ChangeSummary, warnings: Vec<String>) {
        if summary.total() > 0 {
            self.is_stale = true;
            if summary.total() as usize <= MAX_LINES {
                for (subnet, peer, line) in &summary.lines {
                    info!(kind = "route", %subnet, %peer, "{line}");
                }
            } else {
                for (subnet, peer, line) in &summary.lines {
                    debug!(kind = "route", %subnet, %peer, "{line}");
                }
                let ChangeSummary { added, removed, moved, .. } = summary;
                info!(added, removed, moved, routes = self.routes(), "many subnets changed");
            }
        }
        for warning in warnings.iter().take(MAX_LINES) {
            warn!("ignoring an entry that is not a usable lease: {warning}");
        }
        if warnings.len() > MAX_LINES {
            let more = warnings.len() - MAX_LINES;
            let entries = match more {
                1 => "entry that is not a usable lease",
                _ => "entries that are not usable leases",
            };
            warn!("ignoring {more} more {entries}");
        }
    }

    fn collect(&self) -> Vec<Peer> {
        let routes = self.writer.routes().filter_map(|(subnet, _)| {
            let (key, public_ip, reservation) = self.winner(subnet)?;
            Some(Peer { subnet, public_ip, key: key.clone(), reservation })
        });
        routes.collect()
    }
}

impl ChangeSummary {
    fn total(&self) -> u32 {
        self.added + self.removed + self.moved
    }

    fn line(&mut self, subnet: Cidr, peer: Ipv4Addr, text: impl FnOnce() -> String) {
        if self.lines.len() < MAX_LINES {
            self.lines.push((subnet, peer, text()));
        } else {
            debug!(kind = "route", %subnet, %peer, "{}", text());
        }
    }
}

/// Untrusted text, escaped and cut to fit into a log line.
fn brief(text: &str) -> String {
    let short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if short.len() < text.len() && text.chars().count() > 60 { short + "…" } else { short }
}

/// Upper limit of log lines per round of changes.
const MAX_LINES: usize = 20;
/// Upper limit of remembered names; further entries are skipped without a log line.
const MAX_WARNED: usize = 10_000;

#[cfg(test)]
mod tests;
