//! The TUN device of a node: its address and its route, and the watcher that maintains both.

use std::net::SocketAddrV4;

use tokio::sync::{mpsc, watch};

use super::Node;
use crate::daemon::interface_options;
use crate::host;
use crate::host::link::{self, LinkError, OverlayDevice};
use crate::host::outer::{NextHopCheck, Overlay};

impl Node<'_> {
    /// Routes the overlay to the TUN device, and has the link watcher maintain that route.
    pub(super) async fn route_overlay(&mut self) -> Result<(), LinkError> {
        let overlay = self.overlay().await?;
        let outside = Overlay {
            network: overlay.network,
            subnet: Some(overlay.subnet),
            device: Some(overlay.index),
        };
        let routing = self.outer.routing().await?;
        let hidden = self.outer.collisions(&outside, &routing).await;
        // The watcher reports what is hidden and which routes conflict, at its first check.
        link::ensure(&self.netlink, &overlay, hidden.is_empty()).await?;
        match (&self.overlays, self.hops.take()) {
            (None, Some(hops)) => {
                let socket = SocketAddrV4::new(self.interface.address, self.port);
                let next_hops = NextHopCheck::new(self.outer.clone(), hops, outside, socket);
                self.watch(overlay, next_hops);
            }
            // The channel is closed if the watcher has stopped, which is logged when it happens.
            (Some(overlays), _) => drop(overlays.send(overlay)),
            (None, None) => {}
        }
        Ok(())
    }

    fn watch(&mut self, overlay: OverlayDevice, next_hops: NextHopCheck) {
        let (sender, receiver) = watch::channel(overlay);
        let (events, link_events) = mpsc::unbounded_channel();
        (self.overlays, self.link_events) = (Some(sender), link_events);
        let (interface, options) = (self.interface.clone(), interface_options(self.options));
        tokio::spawn(async move {
            if let Err(error) =
                host::watch::run(receiver, interface, options, next_hops, events).await
            {
                tracing::error!(
                    "the watcher of the TUN device's address and route has stopped: {error}"
                );
            }
        });
    }

    async fn overlay(&self) -> Result<OverlayDevice, LinkError> {
        let links = self.netlink.links().await?;
        let link = links
            .into_iter()
            .find(|link| link.name == self.tun_name)
            .ok_or_else(|| LinkError::Gone(self.tun_name.clone()))?;
        Ok(OverlayDevice {
            index: link.index,
            name: link.name,
            address: self.subnet.network(),
            subnet: self.subnet,
            network: self.network,
            mtu: self.mtu().into(),
            blackhole: self.options.ip_blackhole_route,
        })
    }
}
