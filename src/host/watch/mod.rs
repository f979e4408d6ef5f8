//! Watches the TUN device and the interface between hosts; repairs the TUN device and reports other
//! changes as events.

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

use super::conflicts::Conflict;
use super::interface::{ExternalInterface, InterfaceOptions};
use super::link::{LinkError, OverlayDevice, Repair, ensure, retire};
use super::netlink::{Netlink, NetlinkError};
use super::outer::{Dependency, NextHopCheck, Overlay};
use crate::route::Cidr;

mod underlay;

use underlay::Underlay;
pub use underlay::UnderlayState;

/// A change that the watcher reports to its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// The TUN device with this interface index is gone; the caller creates another and sends its
    /// [`OverlayDevice`].
    Gone(u32),
    /// The TUN device differed from its [`OverlayDevice`] and has been repaired.
    Repaired(Vec<Repair>),
    /// The set of routes that divert overlay traffic has changed to this one.
    Conflicts(Vec<Conflict>),
    /// What the overlay's route would hide has changed to this; while there is any, the route is
    /// left out.
    Hidden(Vec<Dependency>),
    /// Whether a route of the outer network has an MTU of its own has changed to this; at first none has.
    RouteMtu(bool),
    /// The interface between hosts, or its address, has changed.
    Underlay(UnderlayState),
}

/// Delay between a change and its check, so that a burst of changes, such as a DHCP client's, is
/// checked once.
const SETTLE_TIME: Duration = Duration::from_millis(100);

/// Longest delay before a repair while another program keeps undoing the repairs.
const MAX_SETTLE_TIME: Duration = Duration::from_secs(5);

/// Consecutive checks with repairs after which the watcher doubles its delay.
const REPAIRS_BEFORE_SLOWDOWN: u32 = 8;

/// Interval of checks without a message, in case the kernel dropped one.
const RECHECK_INTERVAL: Duration = Duration::from_secs(30);

/// Watches until the sender of `overlays` is dropped.
///
/// A new value in `overlays` is applied at once: the new address and routes are added, the old ones
/// removed. `underlay` is followed as `options` say.
pub async fn run(
    overlays: watch::Receiver<OverlayDevice>,
    underlay: ExternalInterface,
    options: InterfaceOptions,
    next_hops: NextHopCheck,
    events: mpsc::UnboundedSender<LinkEvent>,
) -> Result<(), NetlinkError> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv4Rule,
    ];
    let (connection, _handle, mut messages) =
        rtnetlink::new_multicast_connection(&groups).map_err(NetlinkError::cannot_watch)?;
    let _driver = super::netlink::Driver::spawn(connection);
    let underlay = Underlay::new(options, underlay);
    let mut watcher = LinkWatcher::new(overlays, underlay, next_hops, events)?;
    watcher.check().await;
    let mut due = watcher.next_check();
    loop {
        tokio::select! {
            // `next` returns `None` only after the connection has ended, and the connection lives
            // as long as this function.
            Some((message, _)) = messages.next() => {
                due = due.min(Instant::now() + watcher.urgency(&message));
            }
            changed = watcher.overlays.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                watcher.switch_overlay().await;
                due = watcher.next_check();
            }
            () = watcher.next_hops.asked() => watcher.next_hops.decide().await,
            () = sleep_until(due) => {
                watcher.check().await;
                due = watcher.next_check();
            }
        }
    }
}

struct LinkWatcher {
    netlink: Netlink,
    overlays: watch::Receiver<OverlayDevice>,
    overlay: OverlayDevice,
    underlay: Underlay,
    events: mpsc::UnboundedSender<LinkEvent>,
    gone: Option<u32>,
    settle: Duration,
    repairs_in_a_row: u32,
    conflicts: HashSet<Conflict>,
    next_hops: NextHopCheck,
    hidden: Vec<Dependency>,
    has_route_mtu: bool,
    last_error: String,
}

impl LinkWatcher {
    fn new(
        mut overlays: watch::Receiver<OverlayDevice>,
        underlay: Underlay,
        next_hops: NextHopCheck,
        events: mpsc::UnboundedSender<LinkEvent>,
    ) -> Result<Self, NetlinkError> {
        let overlay = overlays.borrow_and_update().clone();
        Ok(Self {
            netlink: Netlink::connect()?,
            overlays,
            overlay,
            underlay,
            events,
            gone: None,
            settle: SETTLE_TIME,
            repairs_in_a_row: 0,
            conflicts: HashSet::new(),
            next_hops,
            hidden: Vec::new(),
            has_route_mtu: false,
            last_error: String::new(),
        })
    }

    /// When the next check is due if the kernel sends no message.
    fn next_check(&self) -> Instant {
        let recheck = Instant::now() + RECHECK_INTERVAL;
        self.underlay.due().map_or(recheck, |due| due.min(recheck))
    }

    /// Delay until the check that a kernel message calls for.
    fn urgency(&self, message: &NetlinkMessage<RouteNetlinkMessage>) -> Duration {
        use RouteNetlinkMessage::{
            DelAddress, DelLink, DelRoute, DelRule, NewAddress, NewLink, NewRoute, NewRule,
        };
        let relevant = match &message.payload {
            NetlinkPayload::InnerMessage(DelLink(link))
                if link.header.index == self.overlay.index =>
            {
                return Duration::ZERO;
            }
            // The kernel removes the routes of a link that goes down without a message for each.
            NetlinkPayload::InnerMessage(
                NewLink(_) | DelLink(_) | NewAddress(_) | DelAddress(_) | NewRule(_) | DelRule(_),
            ) => true,
            NetlinkPayload::InnerMessage(NewRoute(route) | DelRoute(route)) => {
                let oif = RouteAttribute::Oif(self.overlay.index);
                self.overlay.network.overlaps(destination(route))
                    || route.attributes.contains(&oif)
                    || route.attributes.iter().any(|a| matches!(a, RouteAttribute::Metrics(_)))
            }
            // After lost messages or an error anything may have changed.
            NetlinkPayload::Overrun(_) | NetlinkPayload::Error(_) => true,
            _ => false,
        };
        if relevant { self.settle } else { RECHECK_INTERVAL }
    }

    /// Switches to the overlay that the caller wants now. The new settings are added before the old
    /// ones are removed, since a device that loses its last address loses its routes too.
    async fn switch_overlay(&mut self) {
        let new = self.overlays.borrow_and_update().clone();
        let old = std::mem::replace(&mut self.overlay, new);
        self.check().await;
        if let Err(error) = retire(&self.netlink, &old, &self.overlay).await {
            tracing::warn!("{}: cannot remove the previous address and routes: {error}", old.name);
        }
    }

    async fn check(&mut self) {
        tracing::trace!("checking links, addresses and routes");
        let outer = self.check_outer().await;
        let overlay = self.check_overlay().await;
        let underlay = match self.underlay.check(&self.netlink, self.overlay.subnet).await {
            Ok(changed) => {
                changed.into_iter().for_each(|now| self.send(LinkEvent::Underlay(now)));
                Ok(())
            }
            Err(error) => Err(error),
        };
        let error = outer.and(overlay).and(underlay).err();
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        // An error that persists is logged once, and so is its end.
        if error != self.last_error {
            if error.is_empty() {
                tracing::info!("{}: can be checked again", self.overlay.name);
            } else {
                tracing::error!("{}: {error}", self.overlay.name);
            }
            self.last_error = error;
        }
    }

    /// Checks next hops and the overlay's route, before the route is touched.
    async fn check_outer(&mut self) -> Result<(), NetlinkError> {
        let OverlayDevice { network, subnet, index, .. } = self.overlay;
        let overlay = Overlay { network, subnet: Some(subnet), device: Some(index) };
        let hidden = self.next_hops.check(overlay, self.underlay.address()).await?;
        if hidden != self.hidden {
            tracing::debug!(
                kind = "route",
                ?hidden,
                "what the overlay's route would hide has changed"
            );
            self.hidden.clone_from(&hidden);
            self.send(LinkEvent::Hidden(hidden));
        }
        let has_route_mtu = self.next_hops.has_route_mtu();
        if std::mem::replace(&mut self.has_route_mtu, has_route_mtu) != has_route_mtu {
            self.send(LinkEvent::RouteMtu(has_route_mtu));
        }
        Ok(())
    }

    async fn check_overlay(&mut self) -> Result<(), NetlinkError> {
        if self.gone == Some(self.overlay.index) {
            return Ok(());
        }
        let checked = match ensure(&self.netlink, &self.overlay, self.hidden.is_empty()).await {
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
            let (repairs, next) = (self.repairs_in_a_row, self.settle);
            tracing::debug!(
                kind = "repair",
                repairs,
                ?next,
                "repaired {}; delaying the next repair",
                self.overlay.name
            );
            for repair in &checked.repairs {
                tracing::warn!(kind = "repair", "{}: restored {repair}", self.overlay.name);
            }
            self.send(LinkEvent::Repaired(checked.repairs));
        }
        let conflicts: HashSet<_> = checked.conflicts.iter().cloned().collect();
        if conflicts != self.conflicts {
            tracing::debug!(
                kind = "route",
                ?conflicts,
                "the routes that divert overlay traffic have changed"
            );
            self.conflicts = conflicts;
            self.send(LinkEvent::Conflicts(checked.conflicts));
        }
        Ok(())
    }

    fn send(&self, event: LinkEvent) {
        // The receiver is dropped only when the daemon stops, which ends this task too.
        let _ = self.events.send(event);
    }
}

/// The destination of a route; that of a default route is not in its message.
fn destination(route: &RouteMessage) -> Cidr {
    let len = route.header.destination_prefix_length.min(32);
    let found = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(to)) => Some(Cidr::new(*to, len)),
        _ => None,
    });
    found.unwrap_or(Cidr::new(Ipv4Addr::UNSPECIFIED, 0))
}
