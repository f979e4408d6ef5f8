//! Next hops that may not be used: a lease with such a next hop is withheld, it gets no route.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::{ChangeSummary, EntryClass, Peers};
use crate::route::{Cidr, HopVerdicts, Withheld};
use crate::subnet::manager::WithheldLease;

impl Peers {
    /// Applies other verdicts on next hops.
    pub(in crate::subnet::manager) fn apply_verdicts(&mut self, verdicts: HopVerdicts) {
        let before = std::mem::replace(&mut self.verdicts, verdicts);
        let usable = self.writer.routes().map(|(subnet, hop)| (subnet, hop.ip));
        let withheld = self.withheld.iter().map(|(subnet, (ip, _))| (*subnet, *ip));
        let changed = |ip| before.withheld(ip) != self.verdicts.withheld(ip);
        let subnets: Vec<Cidr> = usable
            .chain(withheld)
            .filter(|(_, ip)| changed(*ip))
            .map(|(subnet, _)| subnet)
            .collect();
        let mut summary = ChangeSummary::default();
        for subnet in subnets {
            self.refresh(subnet, &mut summary);
        }
        self.report(summary, Vec::new());
    }

    /// The next hops that need a verdict of their own.
    pub(in crate::subnet::manager) fn questions(&self) -> BTreeSet<Ipv4Addr> {
        let hops = self.entries.values().filter_map(|entry| match entry {
            EntryClass::Peer { ip, .. } => Some(*ip),
            _ => None,
        });
        hops.filter(|ip| self.verdicts.is_suspect(*ip)).collect()
    }

    /// Whether a lease waits for a verdict.
    pub(in crate::subnet::manager) fn awaits_verdict(&self) -> bool {
        self.withheld.values().any(|(_, why)| *why == Withheld::Undecided)
    }

    /// The leases that have no route because of a verdict, by subnet.
    pub(in crate::subnet::manager) fn withheld(&self) -> Vec<WithheldLease> {
        let decided = self.withheld.iter().filter(|(_, (_, why))| *why != Withheld::Undecided);
        decided
            .map(|(&subnet, &(public_ip, why))| WithheldLease { subnet, public_ip, why })
            .collect()
    }

    pub(super) fn set_withheld(&mut self, subnet: Cidr, now: Option<(Ipv4Addr, Withheld)>) {
        let before = match now {
            Some(now) => self.withheld.insert(subnet, now),
            None => self.withheld.remove(&subnet),
        };
        self.is_stale |= before != now;
    }
}
