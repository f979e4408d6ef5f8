//! The registry's entries, reconciled with the route table.
//!
//! Entries come from strangers. What is no usable lease is skipped, counted and named once; what
//! is wrong with one entry never touches the routes of the others.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use tracing::{info, warn};

use super::status::Peer;
use crate::route::{Cidr, NextHop, RouteWriter};
use crate::subnet::store::{StoreChange, StoreRecord};
use crate::subnet::{LeaseKey, LeaseValue, NetworkConfig};

/// All entries, and the routes that follow from them.
pub(super) struct Peers {
    network: Cidr,
    port: u16,
    writer: RouteWriter,
    own_subnet: Cidr,
    own_ip: Ipv4Addr,
    entries: BTreeMap<String, Entry>,
    /// The entries that claim a subnet: more than one name may mean the same.
    claims: BTreeMap<Cidr, BTreeSet<String>>,
    warned: HashSet<String>,
    /// How many of the entries are skipped.
    skipped: u64,
    published: Arc<Vec<Peer>>,
    /// Whether routes changed since `published` was made.
    stale: bool,
}

/// What an entry is worth.
enum Entry {
    Peer {
        subnet: Cidr,
        ip: Ipv4Addr,
        revision: i64,
        reservation: bool,
    },
    /// This host's own.
    Own,
    Skipped,
}

/// What a round of changes did to the routes.
#[derive(Default)]
struct ChangeSummary {
    added: u32,
    removed: u32,
    moved: u32,
    lines: Vec<String>,
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
            published: Arc::default(),
            stale: false,
        }
    }

    /// Makes the table agree with a full list: what is not in it is gone.
    pub(super) fn reset(&mut self, records: &[StoreRecord]) {
        let mut summary = ChangeSummary::default();
        let names: HashSet<&str> = records.iter().map(|record| record.name.as_str()).collect();
        let gone: Vec<String> =
            self.entries.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
        // What is new goes in before what is gone goes out: a subnet that changed its name keeps
        // its route throughout.
        let mut warnings = Vec::new();
        for record in records {
            self.put(record, &mut summary, &mut warnings);
        }
        for name in gone {
            self.delete(&name, &mut summary);
        }
        self.report(summary, warnings);
    }

    /// Applies what changed, in order.
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

    /// This host's subnet or address is another one now. What was skipped for being ours has to
    /// be judged again, so a full list should follow.
    pub(super) fn set_own(&mut self, subnet: Cidr, ip: Ipv4Addr) {
        let before = std::mem::replace(&mut self.own_subnet, subnet);
        self.own_ip = ip;
        let mut summary = ChangeSummary::default();
        self.refresh(before, &mut summary);
        self.refresh(subnet, &mut summary);
        self.report(summary, Vec::new());
    }

    /// Whether [`peers`](Self::peers) would tell something new.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// The peers that have a route, by subnet; shared until they change.
    pub(super) fn peers(&mut self) -> Arc<Vec<Peer>> {
        if std::mem::take(&mut self.stale) {
            self.published = Arc::new(self.collect());
        }
        Arc::clone(&self.published)
    }

    /// How many entries are no usable leases.
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
            Entry::Skipped
        });
        let subnet = |entry: &Entry| match entry {
            Entry::Peer { subnet, .. } => Some(*subnet),
            _ => None,
        };
        let after = subnet(&entry);
        self.skipped += u64::from(matches!(entry, Entry::Skipped));
        let before = self.entries.insert(record.name.clone(), entry);
        self.skipped -= u64::from(matches!(before, Some(Entry::Skipped)));
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
            Some(Entry::Peer { subnet, .. }) => self.unclaim(subnet, name, summary),
            Some(Entry::Skipped) => self.skipped -= 1,
            Some(Entry::Own) | None => {}
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

    /// What an entry is; the error says why it is to be skipped.
    fn classify(&self, record: &StoreRecord) -> Result<Entry, String> {
        let key: LeaseKey = record.name.parse().map_err(|error| format!("{error}"))?;
        let subnet = key.subnet;
        if !self.network.covers(subnet) {
            return Err(format!("{subnet} is not inside the network {}", self.network));
        }
        let value = LeaseValue::decode(&record.value).map_err(|error| error.to_string())?;
        if value.public_ip == self.own_ip {
            return Ok(Entry::Own);
        }
        if !value.is_udp() {
            let kind = value.backend_type.unwrap_or_default();
            return Err(format!("its host runs the backend {}, not udp", brief(&kind)));
        }
        let reservation = record.lease.is_none();
        Ok(Entry::Peer { subnet, ip: value.public_ip, revision: record.revision, reservation })
    }

    /// The entry that a subnet's route follows: the one under the canonical name, else the one
    /// written last.
    fn chosen(&self, subnet: Cidr) -> Option<(&String, Ipv4Addr, bool)> {
        if subnet == self.own_subnet {
            return None;
        }
        let canonical = LeaseKey::new(subnet).to_string();
        let claims =
            self.claims.get(&subnet)?.iter().filter_map(|name| match self.entries.get(name)? {
                Entry::Peer { ip, revision, reservation, .. } => {
                    Some(((*name == canonical, *revision), (name, *ip, *reservation)))
                }
                _ => None,
            });
        claims.max_by_key(|(rank, _)| *rank).map(|(_, choice)| choice)
    }

    /// Brings one route in line with the entries.
    fn refresh(&mut self, subnet: Cidr, summary: &mut ChangeSummary) {
        let wanted = self.chosen(subnet).map(|(_, ip, _)| NextHop { ip, port: self.port });
        let before = self.writer.get(subnet);
        match wanted {
            Some(hop) if before == Some(hop) => {}
            Some(hop) => match self.writer.insert(subnet, hop) {
                Ok(None) => {
                    summary.added += 1;
                    summary.line(|| format!("Subnet added: {subnet} via {}", hop.ip));
                }
                Ok(Some(was)) => {
                    summary.moved += 1;
                    summary
                        .line(|| format!("Subnet moved: {subnet} via {} (was {})", hop.ip, was.ip));
                }
                Err(error) => warn!(%subnet, %error, "no room for a route"),
            },
            None => {
                if let Some(was) = self.writer.remove(subnet) {
                    summary.removed += 1;
                    summary.line(|| format!("Subnet removed: {subnet} via {}", was.ip));
                }
            }
        }
    }

    fn report(&mut self, summary: ChangeSummary, warnings: Vec<String>) {
        if summary.total() > 0 {
            self.stale = true;
            if summary.total() as usize <= MAX_LINES {
                summary.lines.iter().for_each(|line| info!("{line}"));
            } else {
                let ChangeSummary { added, removed, moved, .. } = summary;
                info!(added, removed, moved, routes = self.routes(), "many subnets changed");
            }
        }
        for warning in warnings.iter().take(MAX_LINES) {
            warn!("not a lease, ignored: {warning}");
        }
        if warnings.len() > MAX_LINES {
            warn!("and {} more entries are no leases, ignored", warnings.len() - MAX_LINES);
        }
    }

    fn collect(&self) -> Vec<Peer> {
        let routes = self.writer.routes().filter_map(|(subnet, _)| {
            let (key, public_ip, reservation) = self.chosen(subnet)?;
            Some(Peer { subnet, public_ip, key: key.clone(), reservation })
        });
        routes.collect()
    }
}

impl ChangeSummary {
    fn total(&self) -> u32 {
        self.added + self.removed + self.moved
    }

    fn line(&mut self, text: impl FnOnce() -> String) {
        if self.lines.len() <= MAX_LINES {
            self.lines.push(text());
        }
    }
}

/// A stranger's text, short enough for a log line.
fn brief(text: &str) -> String {
    let short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if short.len() < text.len() && text.chars().count() > 60 { short + "…" } else { short }
}

/// Lines that one round of changes may log.
const MAX_LINES: usize = 20;
/// Names remembered so as not to be named twice; what comes after is skipped without a word.
const MAX_WARNED: usize = 10_000;

#[cfg(test)]
mod tests;
