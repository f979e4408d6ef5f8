//! Follows the interface between hosts and its address.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::Instant;

use crate::host::interface::{self, ExternalInterface, Followed, InterfaceOptions};
use crate::host::netlink::{Netlink, NetlinkError};
use crate::route::Cidr;

/// The current state of the interface between hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnderlayState {
    /// This interface and address are in use; the address may be another one than before.
    InUse(ExternalInterface),
    /// The address in use is gone, for the reason that this sentence gives.
    Waiting(String),
}

/// How long another address has to be the choice before it takes the place of the one in use, which
/// `ifdown` and `ifup`, or a DHCP client that starts again, take away for a few seconds.
const ADDRESS_SETTLE_TIME: Duration = Duration::from_secs(5);

/// The interface between hosts as it was at the last check.
pub(super) struct Underlay {
    options: InterfaceOptions,
    current: ExternalInterface,
    state: UnderlayState,
    /// The choice while the address in use is gone, and since when it has been that.
    candidate: Option<(ExternalInterface, Instant)>,
}

impl Underlay {
    pub(super) fn new(options: InterfaceOptions, current: ExternalInterface) -> Self {
        let state = UnderlayState::InUse(current.clone());
        Self { options, current, state, candidate: None }
    }

    /// The address that is or was last in use.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.current.address
    }

    /// When the next check is due without a message of the kernel.
    pub(super) fn due(&self) -> Option<Instant> {
        self.candidate.as_ref().map(|(_, since)| *since + ADDRESS_SETTLE_TIME)
    }

    /// Returns the state if it has changed since the last check.
    pub(super) async fn check(
        &mut self,
        netlink: &Netlink,
        own_subnet: Cidr,
    ) -> Result<Option<UnderlayState>, NetlinkError> {
        let followed = interface::follow(netlink, &self.options, &self.current, own_subnet).await?;
        Ok(self.update(followed, Instant::now()))
    }

    fn update(&mut self, followed: Followed, now: Instant) -> Option<UnderlayState> {
        let lost =
            format!("{} has lost the underlay address {}", self.current.name, self.current.address);
        let before = self.candidate.take();
        let state = match followed {
            Followed::There(interface) => UnderlayState::InUse(interface),
            Followed::Nowhere(why) => UnderlayState::Waiting(format!("{lost} ({why})")),
            Followed::Elsewhere(other) => {
                let same = before.filter(|(before, _)| before.address == other.address);
                let since = same.map_or(now, |(_, since)| since);
                if now.duration_since(since) >= ADDRESS_SETTLE_TIME {
                    UnderlayState::InUse(other)
                } else {
                    let text = format!(
                        "{lost} (unless it returns within {} s, {} of {} takes its place)",
                        ADDRESS_SETTLE_TIME.as_secs(),
                        other.address,
                        other.name
                    );
                    self.candidate = Some((other, since));
                    UnderlayState::Waiting(text)
                }
            }
        };
        if let UnderlayState::InUse(interface) = &state {
            self.current = interface.clone();
        }
        (state != self.state).then(|| {
            self.state = state.clone();
            state
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(index: u32, name: &str, address: &str) -> ExternalInterface {
        let address = address.parse().unwrap();
        ExternalInterface {
            index,
            name: name.into(),
            address,
            mtu: 1500,
            way_out: Some(index),
            public_ip: address,
            reason: String::new(),
            named_by: None,
        }
    }

    /// What `updates` lead to, one per second.
    fn states(updates: &[Followed]) -> Vec<Option<UnderlayState>> {
        let mut underlay = Underlay::new(InterfaceOptions::default(), on(2, "eth0", "10.1.0.1"));
        let begin = Instant::now();
        let updates = updates.iter().cloned().zip(0..);
        updates
            .map(|(update, second)| underlay.update(update, begin + Duration::from_secs(second)))
            .collect()
    }

    #[test]
    fn another_address_is_used_after_it_has_been_the_choice_for_a_while() {
        let other = || Followed::Elsewhere(on(3, "eth1", "10.2.0.1"));
        let third = || Followed::Elsewhere(on(4, "eth2", "10.3.0.1"));
        let there = || Followed::There(on(2, "eth0", "10.1.0.1"));
        let in_use = |interface| Some(UnderlayState::InUse(interface));
        let is_waiting = |state: &Option<UnderlayState>| {
            matches!(state, Some(UnderlayState::Waiting(text))
                if text.contains("eth0 has lost the underlay address 10.1.0.1"))
        };

        let seen = states(&[there(), other(), other(), there(), there()]);
        assert!(is_waiting(&seen[1]), "{seen:?}");
        assert_eq!((&seen[0], &seen[2], &seen[4]), (&None, &None, &None), "each change once");
        assert_eq!(seen[3], in_use(on(2, "eth0", "10.1.0.1")), "back within the time");

        let seen = states(&[other(), other(), other(), other(), other(), other(), there()]);
        assert!(is_waiting(&seen[0]) && seen[1..5].iter().all(Option::is_none), "{seen:?}");
        assert_eq!(seen[5], in_use(on(3, "eth1", "10.2.0.1")));

        // A choice that changes begins again, and so does one that was not there for a moment.
        let seen = states(&[other(), other(), other(), third(), third(), third(), third()]);
        assert!(is_waiting(&seen[3]) && seen[4..].iter().all(Option::is_none), "{seen:?}");
        let nowhere = || Followed::Nowhere("no route".into());
        let seen = states(&[other(), other(), nowhere(), other(), other(), other(), other()]);
        assert!(seen.iter().flatten().all(|s| matches!(s, UnderlayState::Waiting(_))), "{seen:?}");
        let Some(UnderlayState::Waiting(text)) = &seen[2] else { panic!("{seen:?}") };
        assert_eq!(text, "eth0 has lost the underlay address 10.1.0.1 (no route)");
    }

    #[test]
    fn the_same_address_on_another_interface_is_used_at_once() {
        let bridge = on(7, "br0", "10.1.0.1");
        let seen = states(&[Followed::Nowhere("moving".into()), Followed::There(bridge.clone())]);
        assert_eq!(seen[1], Some(UnderlayState::InUse(bridge)));
    }
}
