//! Watches flannel0 and the interface beneath it, puts flannel0 right and tells what else changed.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures::StreamExt;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::interface::{self, Interface};
use super::link::{Conflict, LinkError, Overlay, Repair, ensure, retire};
use super::netlink::{Netlink, NetlinkError, link_of};
use crate::route::Cidr;

/// Something that the watcher cannot put right by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// The TUN device with this interface index is gone; make a new one and send its [`Overlay`].
    Gone(u32),
    /// flannel0 was not as it should be and has been put right.
    Repaired(Vec<Repair>),
    /// The routes of others that take overlay traffic away have changed; these are left.
    Conflicts(Vec<Conflict>),
    /// The interface between hosts has changed.
    Underlay(UnderlayState),
}

/// The interface that carries the traffic between hosts, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnderlayState {
    /// Interface index; `None` while there is no interface of that name.
    pub index: Option<u32>,
    /// Its MTU, in bytes; the last known one while it is gone.
    pub mtu: u32,
    /// The address to bind to: the one in use while the interface has it, else its first one.
    pub address: Option<Ipv4Addr>,
}

/// Time for changes that come in a burst to settle, such as a DHCP client's.
const SETTLE_TIME: Duration = Duration::from_millis(100);

/// Longest wait before a repair when somebody else keeps undoing it.
const MAX_SETTLE_TIME: Duration = Duration::from_secs(5);

/// Repairs with no quiet look between them before the watcher slows down.
const REPAIRS_BEFORE_SLOWDOWN: u32 = 8;

/// A look without a cause, should the kernel have dropped messages.
const RECHECK_INTERVAL: Duration = Duration::from_secs(30);

/// Watches until the sender of `overlays` is dropped.
///
/// A new value in `overlays` is put in force at once: the address and routes of the old one are
/// removed, the new ones added.
pub async fn run(
    overlays: watch::Receiver<Overlay>,
    underlay: Interface,
    events: mpsc::UnboundedSender<LinkEvent>,
) -> Result<(), NetlinkError> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route];
    let (connection, _handle, mut messages) =
        rtnetlink::new_multicast_connection(&groups).map_err(NetlinkError::cannot_watch)?;
    let _driver = super::netlink::Driver::spawn(connection);
    let mut watcher = LinkWatcher::new(overlays, underlay, events)?;
    let mut due = Instant::now();
    loop {
        tokio::select! {
            // The receiver is never empty for good: the connection lives as long as this function.
            Some((message, _)) = messages.next() => {
                due = due.min(Instant::now() + watcher.urgency(&message));
            }
            changed = watcher.overlays.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                watcher.switch_overlay().await;
                due = Instant::now() + RECHECK_INTERVAL;
            }
            () = sleep_until(due) => {
                watcher.check().await;
                due = Instant::now() + RECHECK_INTERVAL;
            }
        }
    }
}

struct LinkWatcher {
    netlink: Netlink,
    overlays: watch::Receiver<Overlay>,
    overlay: Overlay,
    underlay_name: String,
    underlay: UnderlayState,
    events: mpsc::UnboundedSender<LinkEvent>,
    gone: Option<u32>,
    settle: Duration,
    repairs_in_a_row: u32,
    conflicts: HashSet<Conflict>,
    last_error: String,
}

impl LinkWatcher {
    fn new(
        mut overlays: watch::Receiver<Overlay>,
        underlay: Interface,
        events: mpsc::UnboundedSender<LinkEvent>,
    ) -> Result<Self, NetlinkError> {
        let overlay = overlays.borrow_and_update().clone();
        Ok(Self {
            netlink: Netlink::connect()?,
            overlays,
            overlay,
            underlay: UnderlayState {
                index: Some(underlay.index),
                mtu: underlay.mtu,
                address: Some(underlay.address),
            },
            underlay_name: underlay.name,
            events,
            gone: None,
            settle: SETTLE_TIME,
            repairs_in_a_row: 0,
            conflicts: HashSet::new(),
            last_error: String::new(),
        })
    }

    /// How soon a message of the kernel asks for a look.
    fn urgency(&self, message: &NetlinkMessage<RouteNetlinkMessage>) -> Duration {
        use RouteNetlinkMessage::{DelAddress, DelLink, DelRoute, NewAddress, NewLink, NewRoute};
        let watched = |index| index == self.overlay.index || Some(index) == self.underlay.index;
        let relevant = match &message.payload {
            NetlinkPayload::InnerMessage(DelLink(link))
                if link.header.index == self.overlay.index =>
            {
                return Duration::ZERO;
            }
            NetlinkPayload::InnerMessage(NewLink(link) | DelLink(link)) => {
                watched(link.header.index) || link_of(link).name == self.underlay_name
            }
            NetlinkPayload::InnerMessage(NewAddress(address) | DelAddress(address)) => {
                watched(address.header.index)
            }
            NetlinkPayload::InnerMessage(NewRoute(route) | DelRoute(route)) => {
                destination(route).is_some_and(|to| self.overlay.network.covers(to))
            }
            // Lost messages, errors: look.
            NetlinkPayload::Overrun(_) | NetlinkPayload::Error(_) => true,
            _ => false,
        };
        if relevant { self.settle } else { RECHECK_INTERVAL }
    }

    /// Changes over to the overlay that the caller wants now: first the new setting, then the old
    /// one goes, since a device that loses its last address loses its routes too.
    async fn switch_overlay(&mut self) {
        let new = self.overlays.borrow_and_update().clone();
        let old = std::mem::replace(&mut self.overlay, new);
        self.check().await;
        if let Err(error) = retire(&self.netlink, &old, &self.overlay).await {
            tracing::warn!("{}: cannot take the old setting away: {error}", old.name);
        }
    }

    async fn check(&mut self) {
        let overlay = self.check_overlay().await;
        let underlay = self.check_underlay().await;
        let last_error = match (overlay, underlay) {
            (Ok(()), Ok(())) => String::new(),
            (Err(error), _) => error.to_string(),
            (_, Err(error)) => error.to_string(),
        };
        // The same last_error is told once, and its end.
        if last_error != self.last_error {
            if last_error.is_empty() {
                tracing::info!("{}: can be looked after again", self.overlay.name);
            } else {
                tracing::error!("{}: {last_error}", self.overlay.name);
            }
            self.last_error = last_error;
        }
    }

    async fn check_overlay(&mut self) -> Result<(), NetlinkError> {
        if self.gone == Some(self.overlay.index) {
            return Ok(());
        }
        let checked = match ensure(&self.netlink, &self.overlay).await {
            Ok(checked) => checked,
            Err(LinkError::Gone(name)) => {
                tracing::debug!("{name} has been deleted");
                self.gone = Some(self.overlay.index);
                self.send(LinkEvent::Gone(self.overlay.index));
                return Ok(());
            }
            Err(LinkError::Netlink(error)) => return Err(error),
        };
        if checked.repairs.is_empty() {
            self.repairs_in_a_row = 0;
            self.settle = SETTLE_TIME;
        } else {
            self.repairs_in_a_row += 1;
            if self.repairs_in_a_row > REPAIRS_BEFORE_SLOWDOWN {
                self.settle = (self.settle * 2).min(MAX_SETTLE_TIME);
            }
            for repair in &checked.repairs {
                tracing::warn!("{}: restored {repair}", self.overlay.name);
            }
            self.send(LinkEvent::Repaired(checked.repairs));
        }
        let conflicts: HashSet<_> = checked.conflicts.iter().cloned().collect();
        if conflicts != self.conflicts {
            let Overlay { name, network, .. } = &self.overlay;
            for conflict in conflicts.difference(&self.conflicts) {
                tracing::error!(
                    "route {conflict} takes traffic of the overlay network {network} away from \
                     {name}: remove it (ip route del {conflict}), or choose another Network"
                );
            }
            for conflict in self.conflicts.difference(&conflicts) {
                tracing::info!("route {conflict} is no longer in the way of {name}");
            }
            self.conflicts = conflicts;
            self.send(LinkEvent::Conflicts(checked.conflicts));
        }
        Ok(())
    }

    async fn check_underlay(&mut self) -> Result<(), NetlinkError> {
        let links = self.netlink.links().await?;
        let by_index = links.iter().find(|link| Some(link.index) == self.underlay.index);
        // Renamed it is still the same; made anew it has another index.
        let link = by_index.or_else(|| links.iter().find(|link| link.name == self.underlay_name));
        let now = match link {
            None => UnderlayState { index: None, address: None, ..self.underlay },
            Some(link) => {
                let addresses = self.netlink.addresses().await?;
                let ranked = interface::ranked(link, &addresses);
                let kept = self.underlay.address.filter(|address| ranked.contains(address));
                UnderlayState {
                    index: Some(link.index),
                    mtu: link.mtu,
                    address: kept.or_else(|| ranked.first().copied()),
                }
            }
        };
        if now != self.underlay {
            tracing::debug!(
                interface = %self.underlay_name,
                "the interface between hosts has changed: {}",
                describe(&self.underlay, &now)
            );
            self.underlay = now;
            self.send(LinkEvent::Underlay(now));
        }
        Ok(())
    }

    fn send(&self, event: LinkEvent) {
        // A caller that has stopped listening is on its way out.
        let _ = self.events.send(event);
    }
}

fn describe(was: &UnderlayState, now: &UnderlayState) -> String {
    let mut words = Vec::new();
    match (was.index, now.index) {
        (Some(_), None) => words.push("it is gone".to_owned()),
        (None, Some(_)) => words.push("it is back".to_owned()),
        (Some(a), Some(b)) if a != b => words.push("it was made anew".to_owned()),
        _ => {}
    }
    if was.mtu != now.mtu {
        words.push(format!("MTU {} instead of {}", now.mtu, was.mtu));
    }
    if was.address != now.address {
        let text = |a: Option<Ipv4Addr>| a.map_or("no address".to_owned(), |a| a.to_string());
        words.push(format!("{} instead of {}", text(now.address), text(was.address)));
    }
    words.join(", ")
}

fn destination(route: &RouteMessage) -> Option<Cidr> {
    let len = route.header.destination_prefix_length;
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(to)) if len <= 32 => {
            Some(Cidr::new(*to, len))
        }
        _ => None,
    })
}
