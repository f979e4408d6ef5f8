//! Sentences about the checks of inner addresses.

use std::net::Ipv4Addr;

use super::Explainer;
use crate::dataplane::{CheckMode, CheckOutcome, GRACE, GraceReason, MismatchReason};
use crate::humanize;

impl Explainer<'_> {
    /// Describes the workers' source check at this moment.
    pub(super) fn source_check(&self, verdict: CheckOutcome) -> String {
        let source = self.query.source;
        let sender = self.from.map_or("its sender".to_owned(), |from| from.to_string());
        let (reason, dropped) = match verdict {
            CheckOutcome::Off => return "off: not checked".into(),
            CheckOutcome::Passes => return format!("passes: {source} is in the lease of {sender}"),
            CheckOutcome::Grace(reason) => {
                let for_how_long = match reason {
                    GraceReason::RoutesStale => {
                        "as long as the lease store is unreachable or has not been read yet".into()
                    }
                    GraceReason::FirstPacket => {
                        format!("{} s from its first such packet", GRACE.as_secs())
                    }
                    GraceReason::Running(left) => {
                        format!("another {}", humanize::seconds(left.as_secs_f64()))
                    }
                };
                let then = effect(match self.config.source_check {
                    CheckMode::Enforce => true,
                    CheckMode::Peers => !self.from.is_some_and(|from| self.routes.leads_to(from)),
                    CheckMode::Log | CheckMode::Off => false,
                });
                return format!(
                    "passes for now: no lease contains {source} yet; packets from {sender} are tolerated for \
                     {for_how_long}, then {then}"
                );
            }
            CheckOutcome::Fails { reason, dropped } => (reason, dropped.is_some()),
        };
        let why = match reason {
            MismatchReason::HeldBy(holder) if self.config.subnet.contains(source) => {
                format!("{source} is in the lease of {holder}, which is this host itself")
            }
            MismatchReason::HeldBy(holder) => {
                format!("{source} is in the lease of {holder}, not of {sender}")
            }
            MismatchReason::Unleased => format!(
                "{source} is outside the overlay network {}, so no lease can contain it",
                self.config.network
            ),
            MismatchReason::GraceOver => {
                let grace = GRACE.as_secs();
                format!(
                    "no lease contains {source}, and {sender}'s grace period of {grace} s is over"
                )
            }
            MismatchReason::NoGrace => {
                let when = match self.config.source_check {
                    CheckMode::Enforce => ", and only while the lease store is unreachable",
                    CheckMode::Peers | CheckMode::Log | CheckMode::Off => {
                        " while the lease store is reachable"
                    }
                };
                format!(
                    "no lease contains {source}; only a host that has a lease has a grace period{when}"
                )
            }
            MismatchReason::BeyondSubnet => format!(
                "no lease contains {source}, and {} is not in this host's subnet",
                self.query.destination
            ),
            MismatchReason::BudgetSpent => format!(
                "no lease contains {source}, and too many packets come from hosts whose leases are unknown"
            ),
            MismatchReason::OtherPort(_) => format!(
                "{source} is in the lease of {sender}, whose daemon sends from port {}",
                self.config.bind.port()
            ),
            MismatchReason::GraceTableFull => format!(
                "no lease contains {source}, and too many other senders are in their grace period"
            ),
        };
        format!("fails, {}: {why}", effect(dropped))
    }

    /// Describes the workers' destination check.
    pub(super) fn destination_check(&self, verdict: CheckOutcome) -> String {
        let (destination, subnet) = (self.query.destination, self.config.subnet);
        match verdict {
            CheckOutcome::Off => "off: not checked".into(),
            CheckOutcome::Passes | CheckOutcome::Grace(_) => {
                format!("passes: {destination} is in {subnet}")
            }
            CheckOutcome::Fails { dropped, .. } => {
                format!("fails, {}: {destination} is not in {subnet}", effect(dropped.is_some()))
            }
        }
    }

    /// Describes the source check of a peer that gets the packet from this host.
    pub(super) fn peers_check(&self, source: Ipv4Addr) -> String {
        let own = self.config.subnet;
        if own.contains(source) {
            format!("passes at the peer: {source} is in this host's lease {own}")
        } else {
            format!(
                "fails at a peer that runs flannel-udp (--source-check=enforce drops it there): \
                 {source} is not in this host's lease {own}"
            )
        }
    }
}

fn effect(dropped: bool) -> &'static str {
    if dropped { "dropped" } else { "counted and forwarded" }
}
